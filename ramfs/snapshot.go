package ramfs

// Snapshot is the whole tree as it was.
type Snapshot struct {
	fs    *FS
	gen   uint64
	saved []*Node // nodes with a version that ends with gen
}

// version is a former state of a node.
type version struct {
	state
	upto  uint64 // the newest snapshot that it is for; it is for the older ones down to that of older
	older *version
}

// Snapshot keeps the tree as it is. That costs nothing now; a node is copied, without its pages, when it is changed next.
func (f *FS) Snapshot() *Snapshot {
	s := &Snapshot{fs: f, gen: f.gen}
	f.snaps = append(f.snaps, s)
	f.gen++
	return s
}

// touch comes before each change of n.
func (n *Node) touch() {
	if n.gen != n.fs.gen {
		n.save()
	}
}

func (n *Node) save() {
	f := n.fs
	if last := len(f.snaps) - 1; last >= 0 && f.snaps[last].gen >= n.gen {
		s := f.snaps[last]
		n.old = &version{n.state, s.gen, n.old}
		s.saved = append(s.saved, n)
		n.leaves = append([]leafAt(nil), n.leaves...)
		for i := range n.leaves {
			n.leaves[i].kept = true
		}
		n.slots = append([]slot(nil), n.slots...)
		n.reindex()
	}
	n.gen = f.gen
}

// Release gives back what only the snapshot holds. Nothing may use it any more.
func (s *Snapshot) Release() {
	f := s.fs
	var prev *Snapshot
	for i, t := range f.snaps {
		if t == s {
			f.snaps = append(f.snaps[:i], f.snaps[i+1:]...)
			break
		}
		prev = t
	}
	for _, n := range s.saved {
		newer, link := &n.state, &n.old
		for (*link).upto != s.gen {
			newer, link = &(*link).state, &(*link).older
		}
		v := *link
		if prev != nil && n.born <= prev.gen && (v.older == nil || v.older.upto < prev.gen) {
			v.upto = prev.gen
			prev.saved = append(prev.saved, n)
			continue
		}
		*link = v.older
		f.inherit(newer, &v.state)
		n.dropBase()
	}
	s.saved = nil
}

// inherit gives what s owns to the next newer state, as far as that has it, and frees the rest.
func (f *FS) inherit(newer, s *state) {
	for i := range s.leaves {
		e := &s.leaves[i]
		if e.kept {
			continue
		}
		var heir *leaf
		if j, ok := newer.findLeaf(e.at); ok {
			heir = newer.leaves[j].leaf
			if heir == e.leaf {
				newer.leaves[j].kept = false
				continue
			}
		}
		for k, p := range e.pages {
			switch {
			case p == 0 || e.isKept(k):
			case heir != nil && k < len(heir.pages) && heir.pages[k] == p:
				heir.kept[k/64] &^= 1 << (k % 64)
			default:
				f.mem.Free(p)
				f.pages--
			}
		}
	}
}

// View is a node as a snapshot has it, or as it is at any time. It is only for reading.
type View struct {
	n   *Node
	gen uint64
}

// Root returns the snapshot's root directory.
func (s *Snapshot) Root() View { return View{s.fs.root, s.gen} }

// View returns the live node.
func (n *Node) View() View { return View{n, ^uint64(0)} }

// state returns the node's state at the generation of the view.
func (v View) state() *state {
	if v.n.gen <= v.gen {
		return &v.n.state
	}
	old := v.n.old
	for old.older != nil && old.older.upto >= v.gen {
		old = old.older
	}
	return &old.state
}

// Attr and the others are as for Node.
func (v View) Attr() Attr                { return v.state().attributes(v.n) }
func (v View) Readlink() (string, Errno) { return v.state().readlink() }
func (v View) Xattr(name string) []byte  { return v.state().xattr(name) }
func (v View) Xattrs() []string          { return v.state().xattrNames() }
func (v View) Lookup(name string) (View, Errno) {
	n, err := v.state().lookup(name)
	return View{n, v.gen}, err
}
func (v View) ReadDir(pos uint64) (name string, to View, next uint64, ok bool) {
	name, n, next, ok := v.state().readDir(pos)
	return name, View{n, v.gen}, next, ok
}
func (v View) ReadAt(p []byte, off uint64) (int, Errno) { return v.state().readAt(v.n, p, off) }
