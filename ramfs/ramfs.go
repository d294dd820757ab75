// Package ramfs is a file system in memory with the behaviour of POSIX, for hosts and for the kernel. Its subpackage iofs shows
// it as an fs.FS.
//
// Data lives in pages of a Memory: a Pool of big blocks, or the frames of the kernel's page allocator. A file's pages are
// found through leaves of 512 that are there only where data is, so holes cost nothing. Directories keep their entries
// in the order in which they were made, each with a number that is never given again: that is the position of ReadDir, which
// stays right whatever comes and goes.
//
// Snapshot takes a copy of the whole tree at once; a node pays with a copy of its tables when it is changed the next time,
// and a page with a copy of itself. A node that is saved keeps its former state in a chain, newest first, and the oldest
// state that has a leaf or a page owns it; the newer ones know that theirs is kept for another.
//
// Nothing here locks: readers may run beside each other, a writer must be alone. Times are nanoseconds since 1970; reading
// sets none.
package ramfs

// File types and permission bits of Attr.Mode (include/uapi/linux/stat.h).
const (
	TypeMask = 0o170000
	TypeFIFO = 0o010000
	TypeChar = 0o020000
	TypeDir  = 0o040000
	TypeBlk  = 0o060000
	TypeReg  = 0o100000
	TypeLink = 0o120000
	TypeSock = 0o140000
	PermMask = 0o007777
)

// Limits: a name's and a link target's bytes as Linux has them, an extended attribute's value, a file's size.
const (
	NameMax  = 255
	LinkMax  = 4095
	XattrMax = 1 << 16
	FileMax  = 1<<63 - 1
)

// What a node and a name in a directory count for against the limit, beside the bytes of names, targets and attributes.
const (
	nodeBytes = 320
	nameBytes = 48
)

// Attr are the attributes of a node.
type Attr struct {
	Ino                 uint64
	Mode                uint32
	Nlink               uint32
	UID, GID            uint32
	Rdev                uint64 // device number, for devices
	Size                uint64
	Blocks              uint64 // of 512 bytes
	Atime, Mtime, Ctime int64
}

// Options of New.
type Options struct {
	Memory Memory       // nil: a new Pool on Go's heap
	Limit  uint64       // bytes of data, names and attributes in all, snapshots' data included; 0: what Memory has
	Now    func() int64 // clock; nil: always 0
	Mode   uint32       // permission bits of the root, 0 stands for 0755
	Max    uint64       // largest size of a file; 0: FileMax
}

// FS is a file system.
type FS struct {
	mem     Memory
	now     func() int64
	limit   uint64
	max     uint64 // size of a file
	lastIno uint64
	pages   uint64 // taken from mem
	meta    uint64 // bytes of names and the like
	nodes   uint64
	gen     uint64 // changes belong to this generation; each snapshot ends one
	snaps   []*Snapshot
	root    *Node
}

// New returns an empty file system.
func New(o Options) *FS {
	f := &FS{mem: o.Memory, now: o.Now, limit: o.Limit, max: o.Max, gen: 1}
	if f.mem == nil {
		f.mem = NewPool(nil)
	}
	if f.now == nil {
		f.now = func() int64 { return 0 }
	}
	if f.limit == 0 {
		f.limit = 1 << 63
	}
	if f.max == 0 || f.max > FileMax {
		f.max = FileMax
	}
	if o.Mode == 0 {
		o.Mode = 0o755
	}
	f.root = f.node(TypeDir | o.Mode&PermMask)
	f.root.attr.Nlink = 2
	return f
}

// Root returns the root directory.
func (f *FS) Root() *Node { return f.root }

// Stats tells what a file system holds.
type Stats struct {
	LimitBytes uint64
	UsedBytes  uint64 // of the limit
	DataBytes  uint64 // of these, in pages
	Nodes      uint64
}

// Stats returns what the file system holds.
func (f *FS) Stats() Stats {
	return Stats{f.limit, f.pages*PageSize + f.meta, f.pages * PageSize, f.nodes}
}

// room says whether the file system may take so many bytes more, of which heap are for names and tables.
func (f *FS) room(pages, heap uint64) Errno {
	used := f.pages*PageSize + f.meta
	if heap > f.limit || pages > (f.limit-heap)/PageSize || used > f.limit-heap-pages*PageSize || !f.mem.Room(int(heap)) {
		return ENOSPC
	}
	return 0
}

// Node is a file of any kind. Two are the same file if and only if the pointers are equal.
type Node struct {
	state
	fs    *FS
	gen   uint64 // generation of the last change
	born  uint64
	old   *version
	opens int
	// base is memory with the start of the file's data, which it need not have in pages of its own (SetBase).
	base    []byte
	backing Backing
}

// state is what a snapshot keeps of a node.
type state struct {
	attr    Attr
	target  string // of a link
	xattrs  []xattr
	leaves  []leafAt // in order
	held    uint64   // pages in them
	baseLen uint64   // how much of base is still data
	dir
}

func (f *FS) node(mode uint32) *Node {
	f.lastIno++
	f.nodes++
	f.meta += nodeBytes
	t := f.now()
	n := &Node{fs: f, gen: f.gen, born: f.gen}
	n.attr = Attr{Ino: f.lastIno, Mode: mode, Nlink: 1, Atime: t, Mtime: t, Ctime: t}
	return n
}

// FS returns the node's file system.
func (n *Node) FS() *FS { return n.fs }

// Attr returns the attributes.
func (n *Node) Attr() Attr { return n.state.attributes(n) }

func (s *state) attributes(n *Node) Attr {
	a := s.attr
	a.Blocks = s.held * (PageSize / 512)
	if n.base != nil {
		a.Blocks = (s.attr.Size + 511) / 512
	}
	return a
}

func (s *state) is(kind uint32) bool { return s.attr.Mode&TypeMask == kind }

// Type returns the type bits of the node's mode, which never change.
func (n *Node) Type() uint32 { return n.attr.Mode & TypeMask }

// SetMode sets the permission bits.
func (n *Node) SetMode(perm uint32) {
	n.touch()
	n.attr.Mode = n.attr.Mode&^PermMask | perm&PermMask
	n.attr.Ctime = n.fs.now()
}

// SetOwner sets the owner.
func (n *Node) SetOwner(uid, gid uint32) {
	n.touch()
	n.attr.UID, n.attr.GID = uid, gid
	n.attr.Ctime = n.fs.now()
}

// SetTimes sets the times of the last access and the last change of contents.
func (n *Node) SetTimes(atime, mtime int64) {
	n.touch()
	n.attr.Atime, n.attr.Mtime = atime, mtime
	n.attr.Ctime = n.fs.now()
}

// changed sets the times after a change of contents.
func (n *Node) changed() {
	n.attr.Mtime = n.fs.now()
	n.attr.Ctime = n.attr.Mtime
}

// Readlink returns a link's target.
func (n *Node) Readlink() (string, Errno) { return n.state.readlink() }

func (s *state) readlink() (string, Errno) {
	if !s.is(TypeLink) {
		return "", EINVAL
	}
	return s.target, 0
}

// Open keeps the node's contents when it loses its last name, until Close.
func (n *Node) Open() { n.opens++ }

// Close ends an Open.
func (n *Node) Close() {
	n.opens--
	n.reap()
}

// reap frees what has neither name nor user.
func (n *Node) reap() {
	if n.attr.Nlink != 0 || n.opens != 0 {
		return
	}
	n.touch()
	n.cut(0)
	n.attr.Size = 0
	n.fs.meta -= nodeBytes + uint64(len(n.target)) + n.state.xattrBytes()
	n.xattrs = nil
	n.fs.nodes--
	n.opens = -1 << 30 // once
}
