package ramfs

// dir is a directory's part of a state.
type dir struct {
	slots   []slot            // in the order of their numbers
	names   int               // slots that are in use
	index   map[string]uint64 // number by name; nil while there are few
	lastNum uint64
	parent  *Node // nil for the root
	gone    bool  // removed
}

// slot is an entry of a directory; without node, a removed one.
type slot struct {
	num  uint64
	name string
	node *Node
}

// indexFrom is how many names have an index: fewer are found faster without.
const indexFrom = 16

// at returns the first slot whose number is at least num.
func (d *dir) at(num uint64) int {
	low, high := 0, len(d.slots)
	for low < high {
		if mid := (low + high) / 2; d.slots[mid].num < num {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// find returns the slot of name, or -1.
func (d *dir) find(name string) int {
	if d.index != nil {
		if num, ok := d.index[name]; ok {
			return d.at(num)
		}
		return -1
	}
	for i := range d.slots {
		if d.slots[i].name == name && d.slots[i].node != nil {
			return i
		}
	}
	return -1
}

func (d *dir) reindex() {
	d.index = nil
	if d.names < indexFrom {
		return
	}
	d.index = make(map[string]uint64, d.names)
	for i := range d.slots {
		if s := &d.slots[i]; s.node != nil {
			d.index[s.name] = s.num
		}
	}
}

func (n *Node) add(name string, to *Node) {
	d := &n.dir
	d.lastNum++
	d.slots = append(d.slots, slot{d.lastNum, name, to})
	d.names++
	if d.index != nil {
		d.index[name] = d.lastNum
	} else if d.names >= indexFrom {
		d.reindex()
	}
	n.fs.meta += nameBytes + uint64(len(name))
	if to.Type() == TypeDir {
		to.parent = n
		n.attr.Nlink++
	}
	n.changed()
}

func (n *Node) drop(i int) {
	d := &n.dir
	s := &d.slots[i]
	if s.node.Type() == TypeDir {
		n.attr.Nlink--
	}
	n.fs.meta -= nameBytes + uint64(len(s.name))
	if d.index != nil {
		delete(d.index, s.name)
	}
	*s = slot{num: s.num}
	d.names--
	if len(d.slots) > 2*d.names+8 {
		kept := d.slots[:0]
		for _, s := range d.slots {
			if s.node != nil {
				kept = append(kept, s)
			}
		}
		clear(d.slots[len(kept):])
		d.slots = kept
		if cap(kept) > 4*len(kept)+64 {
			d.slots = append(make([]slot, 0, 2*len(kept)), kept...)
		}
		if d.index != nil && d.names < indexFrom/2 {
			d.index = nil
		}
	}
	n.changed()
}

// Lookup returns the node that has a name in a directory.
func (n *Node) Lookup(name string) (*Node, Errno) { return n.state.lookup(name) }

func (s *state) lookup(name string) (*Node, Errno) {
	if !s.is(TypeDir) {
		return nil, ENOTDIR
	}
	if i := s.find(name); i >= 0 {
		return s.slots[i].node, 0
	}
	return nil, ENOENT
}

// ReadDir returns the entry after position pos and its own position; ok is false at the end. The first position is 0. An
// entry that is there throughout is returned once, one that comes or goes meanwhile once or not at all. There is neither "."
// nor "..".
func (n *Node) ReadDir(pos uint64) (name string, to *Node, next uint64, ok bool) {
	return n.state.readDir(pos)
}

func (s *state) readDir(pos uint64) (name string, to *Node, next uint64, ok bool) {
	if pos == ^uint64(0) {
		return "", nil, pos, false
	}
	for i := s.dir.at(pos + 1); i < len(s.slots); i++ {
		if e := &s.slots[i]; e.node != nil {
			return e.name, e.node, e.num, true
		}
	}
	return "", nil, pos, false
}

// free says why name cannot be made in n.
func (n *Node) free(name string) Errno {
	if n.Type() != TypeDir {
		return ENOTDIR
	}
	if n.gone {
		return ENOENT
	}
	if err := checkName(name); err != 0 {
		return err
	}
	if n.find(name) >= 0 {
		return EEXIST
	}
	return 0
}

func checkName(name string) Errno {
	switch {
	case name == "":
		return ENOENT
	case len(name) > NameMax:
		return ENAMETOOLONG
	case name == "." || name == "..":
		return EEXIST
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return EINVAL
		}
	}
	return 0
}

// Create makes a file of any type but a link; rdev is the number of a device.
func (n *Node) Create(name string, mode uint32, rdev uint64) (*Node, Errno) {
	if err := n.free(name); err != 0 {
		return nil, err
	}
	switch mode & TypeMask {
	case TypeReg, TypeDir, TypeChar, TypeBlk, TypeFIFO, TypeSock:
	default:
		return nil, EINVAL
	}
	if err := n.fs.room(0, nodeBytes+nameBytes+uint64(len(name))); err != 0 {
		return nil, err
	}
	c := n.fs.node(mode & (TypeMask | PermMask))
	c.attr.Rdev = rdev
	if c.Type() == TypeDir {
		c.attr.Nlink = 2
	}
	n.touch()
	n.add(name, c)
	return c, 0
}

// Symlink makes a symbolic link.
func (n *Node) Symlink(name, target string) (*Node, Errno) {
	if err := n.free(name); err != 0 {
		return nil, err
	}
	if target == "" {
		return nil, ENOENT
	}
	if len(target) > LinkMax {
		return nil, ENAMETOOLONG
	}
	if err := n.fs.room(0, nodeBytes+nameBytes+uint64(len(name)+len(target))); err != 0 {
		return nil, err
	}
	c := n.fs.node(TypeLink | 0o777)
	c.target = target
	c.attr.Size = uint64(len(target))
	n.fs.meta += c.attr.Size
	n.touch()
	n.add(name, c)
	return c, 0
}

// Link gives the node to, which is no directory, one more name.
func (n *Node) Link(name string, to *Node) Errno {
	if err := n.free(name); err != 0 {
		return err
	}
	switch {
	case to.fs != n.fs:
		return EXDEV
	case to.Type() == TypeDir:
		return EPERM
	case to.attr.Nlink == 0:
		return ENOENT
	case to.attr.Nlink == ^uint32(0):
		return EMLINK
	}
	if err := n.fs.room(0, nameBytes+uint64(len(name))); err != 0 {
		return err
	}
	to.touch()
	to.attr.Nlink++
	to.attr.Ctime = n.fs.now()
	n.touch()
	n.add(name, to)
	return 0
}

// Remove removes a name: of an empty directory if isDir is set, else of anything but a directory.
func (n *Node) Remove(name string, isDir bool) Errno {
	c, err := n.Lookup(name)
	if err != 0 {
		return err
	}
	switch {
	case c.Type() == TypeDir && !isDir:
		return EISDIR
	case c.Type() != TypeDir && isDir:
		return ENOTDIR
	case c.names > 0:
		return ENOTEMPTY
	}
	n.touch()
	n.drop(n.find(name))
	c.lostName()
	return 0
}

// lostName takes one link from n.
func (n *Node) lostName() {
	n.touch()
	if n.Type() == TypeDir {
		n.gone = true
		n.attr.Nlink = 0
	} else {
		n.attr.Nlink--
	}
	n.attr.Ctime = n.fs.now()
	n.reap()
}

// Rename moves a name to newName in the directory to, in place of what has that name, if anything: a directory only in
// place of an empty directory, anything else only in place of what is none. With noReplace that is EEXIST.
func (n *Node) Rename(name string, to *Node, newName string, noReplace bool) Errno {
	if to.fs != n.fs {
		return EXDEV
	}
	c, err := n.Lookup(name)
	if err != 0 {
		return err
	}
	if err = to.free(newName); err != 0 && err != EEXIST {
		return err
	}
	old, _ := to.Lookup(newName)
	isDir := c.Type() == TypeDir
	// In the order in which Linux finds out (fs/namei.c, do_renameat2 and vfs_rename).
	switch {
	case err == EEXIST && noReplace:
		return EEXIST
	case err == EEXIST && old == nil: // "." or ".."
		return EINVAL
	case isDir && c.above(to):
		return EINVAL
	case old != nil && old.above(n):
		return ENOTEMPTY
	case old == c:
		return 0
	case old == nil:
		if err := n.fs.room(0, uint64(max(len(newName)-len(name), 0))); err != 0 {
			return err
		}
	case isDir && old.Type() != TypeDir:
		return ENOTDIR
	case !isDir && old.Type() == TypeDir:
		return EISDIR
	case old.names > 0:
		return ENOTEMPTY
	}
	n.touch()
	to.touch()
	c.touch()
	if old != nil {
		to.drop(to.find(newName))
		old.lostName()
	}
	n.drop(n.find(name))
	to.add(newName, c)
	c.attr.Ctime = n.fs.now()
	return 0
}

// above reports whether d is n or one of the directories that n is in.
func (n *Node) above(d *Node) bool {
	for ; d != nil; d = d.parent {
		if d == n {
			return true
		}
	}
	return false
}
