package vfs

// Flags of open(2) that an open file keeps or that opening it needs (include/uapi/asm-generic/fcntl.h).
const (
	AccessMode = 3
	ReadOnlyF  = 0
	WriteOnlyF = 1
	ReadWriteF = 2
	OCreat     = 0o100
	OExcl      = 0o200
	OTrunc     = 0o1000
	OAppend    = 0o2000
	ONonblock  = 0o4000
	ODirectory = 0o200000
	ONofollow  = 0o400000
	OCloexec   = 0o2000000
	OPath      = 0o10000000
)

// File is an open file: what several descriptors may share, its offset above all.
type File struct {
	Loc   *Loc
	Node  Node
	Flags uint32
	Kind  uint32 // type bits of the node's mode; 0 for what has no type, such as an event counter
	Pos   uint64
	Lock  uint8 // that flock(2) took, by its operation; 0: none
	refs  int
}

// NewFile returns an open file with one reference. It retains the node.
func NewFile(l *Loc, flags uint32) *File {
	l.Node.Retain()
	return &File{Loc: l, Node: l.Node, Flags: flags, Kind: mode(l.Node), refs: 1}
}

// Retain adds a reference.
func (f *File) Retain() { f.refs++ }

// Release drops a reference; with the last one the node is released.
func (f *File) Release() {
	if f.refs--; f.refs == 0 {
		f.Node.Release()
	}
}

// CanRead reports whether f was opened for reading.
func (f *File) CanRead() bool { return f.Flags&AccessMode != WriteOnlyF && f.Flags&OPath == 0 }

// CanWrite reports whether f was opened for writing.
func (f *File) CanWrite() bool { return f.Flags&AccessMode != ReadOnlyF && f.Flags&OPath == 0 }

// Seekable reports whether f has an offset.
func (f *File) Seekable() bool {
	return f.Kind == TypeReg || f.Kind == TypeDir || f.Kind == TypeChar
}
