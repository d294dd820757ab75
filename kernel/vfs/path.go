// Package vfs is the kernel's view of files: nodes behind one interface, mounts, path resolution, open files.
//
// The whole kernel above ring0 runs on one goroutine, so nothing here locks.
package vfs

// Limits of Linux (include/uapi/linux/limits.h, include/linux/namei.h).
const (
	NameMax  = 255
	PathMax  = 4096 // with the final NUL
	maxLinks = 40   // symbolic links followed in one resolution
)

// Loc is a place in the tree: a node, and the way on which it was found. That way is what ".." and getcwd go by.
type Loc struct {
	Node   Node
	Parent *Loc // nil: the root, or a file that has no place in the tree, such as a pipe
	Name   string
	Mount  *Mount
}

// Mount is a file system in the tree. The directory that it covers need not exist: the root is read-only and often has no
// /dev or /proc of its own.
type Mount struct {
	Type     string // as /proc/mounts shows it: "rofs", "tmpfs", …
	Magic    uint64 // as statfs reports it
	ReadOnly bool
	Root     Node
	Dev      uint64 // number of the device, as stat reports it
	under    Node   // directory in which name leads to this mount; nil for the root of all
	name     string
	at       *Loc
}

// Namespace is the tree that the program sees.
type Namespace struct {
	Root   *Loc
	mounts []*Mount
}

// NewNamespace returns a tree that consists of root alone.
func NewNamespace(root *Mount) *Namespace {
	ns := &Namespace{Root: &Loc{Node: root.Root, Mount: root}}
	root.at, root.Dev = ns.Root, 2
	ns.mounts = append(ns.mounts, root)
	return ns
}

// Mount adds m as name in the directory dir.
func (ns *Namespace) Mount(dir *Loc, name string, m *Mount) *Loc {
	m.under, m.name = dir.Node, name
	m.Dev = uint64(len(ns.mounts)) + 2
	m.at = &Loc{Node: m.Root, Parent: dir, Name: name, Mount: m}
	ns.mounts = append(ns.mounts, m)
	return m.at
}

// Mounts calls yield for each mount, the root first, with the path where it is mounted.
func (ns *Namespace) Mounts(yield func(path string, m *Mount)) {
	for _, m := range ns.mounts {
		yield(m.at.Path(), m)
	}
}

// Below returns the mount that m is mounted in, nil for the root of all.
func (m *Mount) Below() *Mount {
	if m.at.Parent == nil {
		return nil
	}
	return m.at.Parent.Mount
}

// Path returns the absolute path of l, or its name alone when it has no place in the tree.
func (l *Loc) Path() string {
	if l.Parent == nil {
		if l.Name == "" {
			return "/"
		}
		return l.Name
	}
	n := 0
	for c := l; c.Parent != nil; c = c.Parent {
		n += 1 + len(c.Name)
	}
	b := make([]byte, n)
	for c := l; c.Parent != nil; c = c.Parent {
		n -= len(c.Name)
		copy(b[n:], c.Name)
		n--
		b[n] = '/'
	}
	return string(b)
}

// Moved corrects the way to l after the directory node was renamed to name in dir. Locs are not shared between owners, so
// the caller asks each that it holds.
func (l *Loc) Moved(node Node, dir *Loc, name string) {
	for c := l; c != nil; c = c.Parent {
		if c.Node == node && c.Parent != nil {
			c.Parent, c.Name = dir, name
			return
		}
	}
}

// step looks name up in the directory dir.
func (ns *Namespace) step(dir *Loc, name string) (*Loc, Errno) {
	for _, m := range ns.mounts {
		if m.under == dir.Node && m.name == name {
			return &Loc{Node: m.Root, Parent: dir, Name: name, Mount: m}, 0
		}
	}
	n, err := dir.Node.Lookup(name)
	if err != 0 {
		return nil, err
	}
	return &Loc{Node: n, Parent: dir, Name: name, Mount: dir.Mount}, 0
}

// Found is the result of a resolution.
type Found struct {
	Loc   *Loc   // nil: the last component does not exist
	Dir   *Loc   // directory of the last component; nil when that was "/", "." or ".." or came through a link of /proc
	Name  string // the last component as looked up in Dir; "/", "." or ".." if it was that
	Dots  bool   // the last component was "/", "." or ".."
	Slash bool   // the path ended with a slash: it must be a directory
}

// Resolve follows path from the directory from, or from the root if path begins with a slash. A symbolic link as the last
// component is followed if follow is set or a slash comes after it. That the last component does not exist is not an error
// here: Loc is nil then. An empty path is ENOENT.
func (ns *Namespace) Resolve(from *Loc, path string, follow bool) (Found, Errno) {
	return ns.resolve(from, path, follow, false)
}

// Entry is Resolve for who changes the directory: a last component that is a symbolic link is the link even if a slash comes after
// it, and what the slash asks for is the caller's to check.
func (ns *Namespace) Entry(from *Loc, path string) (Found, Errno) {
	return ns.resolve(from, path, false, true)
}

func (ns *Namespace) resolve(from *Loc, path string, follow, entry bool) (Found, Errno) {
	if path == "" {
		return Found{}, ENOENT
	}
	links := 0
	cur := from
	var f Found
	for {
		// cur is a directory, or the last component so far; path is what is still to follow.
		if path != "" && path[0] == '/' && f.Loc == nil {
			cur = ns.Root
		}
		for path != "" && path[0] == '/' {
			path = path[1:]
		}
		if path == "" { // the path was "/", or a link's target was
			return Found{Loc: cur, Name: "/", Slash: true, Dots: true}, 0
		}
		for {
			end := 0
			for end < len(path) && path[end] != '/' {
				end++
			}
			name := path[:end]
			rest := path[end:]
			if len(name) > NameMax {
				return f, ENAMETOOLONG
			}
			next := rest
			for next != "" && next[0] == '/' {
				next = next[1:]
			}
			last := next == ""
			f = Found{Slash: last && rest != ""}

			if !isDir(cur.Node) {
				return f, ENOTDIR
			}
			if name == "." || name == ".." {
				if name == ".." && cur.Parent != nil {
					cur = cur.Parent
				}
				if last {
					f.Loc, f.Name, f.Dots = cur, name, true
					return f, 0
				}
				path = next
				continue
			}
			l, err := ns.step(cur, name)
			if last && err == ENOENT {
				f.Dir, f.Name = cur, name
				return f, 0
			}
			if err != 0 {
				return f, err
			}
			if isLink(l.Node) && (!last || follow || f.Slash && !entry) {
				if links++; links > maxLinks {
					return f, ELOOP
				}
				if to := l.Node.Follow(); to != nil {
					if last {
						if f.Slash && !isDir(to.Node) {
							return f, ENOTDIR
						}
						f.Loc = to
						return f, 0
					}
					cur, path = to, next
					continue
				}
				target, err := l.Node.Readlink()
				if err != 0 {
					return f, err
				}
				if target == "" {
					return f, ENOENT
				}
				if len(target)+len(rest) >= PathMax {
					return f, ENAMETOOLONG
				}
				path = target + rest
				if target[0] == '/' {
					f.Loc = nil
					break // from the root
				}
				continue
			}
			if last {
				if f.Slash && !entry && !isDir(l.Node) {
					return f, ENOTDIR
				}
				f.Loc, f.Dir, f.Name = l, cur, name
				return f, 0
			}
			cur, path = l, next
		}
	}
}

func mode(n Node) uint32 {
	var a Attr
	n.Attr(&a)
	return a.Mode & TypeMask
}

func isDir(n Node) bool  { return mode(n) == TypeDir }
func isLink(n Node) bool { return mode(n) == TypeLink }

// Positions of directory entries as the program sees them: 0 is ".", 1 is "..", then come the file system's own entries,
// and from mountPos on the mounts whose directory the file system lacks.
const mountPos = 1 << 62

// ReadDir returns the entry of the directory dir at pos and the position after it; ok is false at the end.
func (ns *Namespace) ReadDir(dir *Loc, pos uint64) (e Entry, next uint64, ok bool, err Errno) {
	switch {
	case pos == 0:
		return Entry{".", ino(dir.Node), TypeDir}, 1, true, 0
	case pos == 1:
		up := dir
		if dir.Parent != nil {
			up = dir.Parent
		}
		return Entry{"..", ino(up.Node), TypeDir}, 2, true, 0
	case pos < mountPos:
		e, next, ok, err = dir.Node.ReadDir(pos - 2)
		if ok || err != 0 {
			return e, next + 2, ok, err
		}
		pos = mountPos
	}
	for i := pos - mountPos; i < uint64(len(ns.mounts)); i++ {
		m := ns.mounts[i]
		if m.under != dir.Node {
			continue
		}
		if _, err := dir.Node.Lookup(m.name); err == 0 {
			continue
		}
		return Entry{m.name, ino(m.Root), TypeDir}, mountPos + i + 1, true, 0
	}
	return Entry{}, pos, false, 0
}

func ino(n Node) uint64 {
	var a Attr
	n.Attr(&a)
	return a.Ino
}
