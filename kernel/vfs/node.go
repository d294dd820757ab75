package vfs

import "github.com/firstlight-boot/firstlight/kernel/mem"

// File types and permission bits of Attr.Mode (include/uapi/linux/stat.h).
const (
	TypeMask  = 0o170000
	TypeFIFO  = 0o010000
	TypeChar  = 0o020000
	TypeDir   = 0o040000
	TypeBlock = 0o060000
	TypeReg   = 0o100000
	TypeLink  = 0o120000
	TypeSock  = 0o140000
	PermMask  = 0o007777
)

// Attr are the attributes of a node. Times are nanoseconds since 1970.
type Attr struct {
	Ino                 uint64
	Mode                uint32
	Nlink               uint32
	UID, GID            uint32
	Rdev                uint64 // device number as stat reports it
	Size                uint64
	Blocks              uint64 // of 512 bytes
	Atime, Mtime, Ctime int64
}

// Entry is a directory entry as ReadDir reports it; Type is the type bits of a mode.
type Entry struct {
	Name string
	Ino  uint64
	Type uint32
}

// Events of Node.Poll (include/uapi/asm-generic/poll.h; EPOLL* has the same values).
const (
	PollIn    = 0x1
	PollPri   = 0x2
	PollOut   = 0x4
	PollErr   = 0x8
	PollHup   = 0x10
	PollNval  = 0x20
	PollRdHup = 0x2000
)

// Node is a file of any kind: what a file system, a device, a pipe or an event counter has to offer. Two Nodes are the same
// file if and only if they compare equal. Every implementation embeds Base or ReadOnly and so has only the methods that
// mean something for it.
//
// A call never blocks except for the disk: one that would have to wait returns EAGAIN.
type Node interface {
	Attr(a *Attr)

	// Directories. ReadDir returns the entry at position pos and the position after it; ok is false at the end. It reports
	// neither "." nor "..".
	Lookup(name string) (Node, Errno)
	ReadDir(pos uint64) (e Entry, next uint64, ok bool, err Errno)

	// Links. Follow returns where a link of /proc leads regardless of its text, nil for any other.
	Readlink() (string, Errno)
	Follow() *Loc

	// Contents. A short count without error is the end of the file.
	ReadAt(p []byte, off uint64) (int, Errno)
	WriteAt(p []byte, off uint64) (int, Errno)
	Truncate(size uint64) Errno
	Poll() uint32

	// Pages of a file that can be mapped. Page brings page n (counted from 0) into memory; the frame stays valid at least
	// until the next call that may allocate memory, and as long as it is mapped. Cached returns it if it is there, else 0.
	// Mapped counts the mappings of a page that is there, up or down. Around does that for several at once: of the pages from
	// first on whose bits are set in want, it counts a mapping of those that are there and sets their frames; others stay 0.
	Page(n uint64) (mem.Frame, Errno)
	Cached(n uint64) mem.Frame
	Mapped(n uint64, delta int)
	Around(first uint64, want uint32, frames *[mem.Group]mem.Frame)

	// Changes to directories and attributes. Create makes a regular file or a directory by the type bits of mode. Rename
	// replaces newName when that is allowed.
	Create(name string, mode uint32) (Node, Errno)
	Symlink(name, target string) Errno
	Link(name string, to Node) Errno
	Remove(name string, dir bool) Errno
	Rename(name string, newDir Node, newName string, noReplace bool) Errno
	SetAttr(a *Attr, which int) Errno

	// Open files hold a node: what has no name any more goes with the last Release.
	Retain()
	Release()
}

// Xattrs is what a Node has besides, if its file system has extended attributes. flags are those of setxattr(2).
type Xattrs interface {
	Xattr(name string) (value []byte, ok bool)
	XattrNames() []string
	SetXattr(name string, value []byte, flags int) Errno
	RemoveXattr(name string) Errno
}

// Sparse is what a regular file has besides, if it knows its holes: the first offset from off on that is data, or a hole,
// which the end of the file is one of. Punch makes zeros of size bytes; the pages that are wholly among them go and must not be mapped.
// Allocate makes sure that size bytes can be written, which may be behind the end of the file: that then is behind them.
type Sparse interface {
	NextData(off uint64) (uint64, bool)
	NextHole(off uint64) (uint64, bool)
	Punch(off, size uint64) Errno
	Allocate(off, size uint64) Errno
}

// Parts of Attr for SetAttr.
const (
	SetMode  = 1
	SetOwner = 2
	SetTimes = 4
)

// Base refuses everything in the way of a file that is not a directory, on a file system that can be written.
type Base struct{}

// Lookup, and the rest, refuse.
func (Base) Lookup(string) (Node, Errno)                            { return nil, ENOTDIR }
func (Base) ReadDir(uint64) (e Entry, n uint64, ok bool, err Errno) { return e, 0, false, ENOTDIR }
func (Base) Readlink() (string, Errno)                              { return "", EINVAL }
func (Base) Follow() *Loc                                           { return nil }
func (Base) ReadAt([]byte, uint64) (int, Errno)                     { return 0, EINVAL }
func (Base) WriteAt([]byte, uint64) (int, Errno)                    { return 0, EINVAL }
func (Base) Truncate(uint64) Errno                                  { return EINVAL }
func (Base) Poll() uint32                                           { return PollIn | PollOut }
func (Base) Page(uint64) (mem.Frame, Errno)                         { return 0, ENODEV }
func (Base) Cached(uint64) mem.Frame                                { return 0 }
func (Base) Mapped(uint64, int)                                     {}
func (Base) Around(uint64, uint32, *[mem.Group]mem.Frame)           {}
func (Base) Create(string, uint32) (Node, Errno)                    { return nil, ENOTDIR }
func (Base) Symlink(string, string) Errno                           { return ENOTDIR }
func (Base) Link(string, Node) Errno                                { return ENOTDIR }
func (Base) Remove(string, bool) Errno                              { return ENOTDIR }
func (Base) Rename(string, Node, string, bool) Errno                { return ENOTDIR }
func (Base) SetAttr(*Attr, int) Errno                               { return EPERM }
func (Base) Retain()                                                {}
func (Base) Release()                                               {}

// ReadOnly is Base for a file system that nobody can write: changes end with EROFS.
type ReadOnly struct{ Base }

// WriteAt, and the rest, refuse.
func (ReadOnly) WriteAt([]byte, uint64) (int, Errno)     { return 0, EROFS }
func (ReadOnly) Truncate(uint64) Errno                   { return EROFS }
func (ReadOnly) Create(string, uint32) (Node, Errno)     { return nil, EROFS }
func (ReadOnly) Symlink(string, string) Errno            { return EROFS }
func (ReadOnly) Link(string, Node) Errno                 { return EROFS }
func (ReadOnly) Remove(string, bool) Errno               { return EROFS }
func (ReadOnly) Rename(string, Node, string, bool) Errno { return EROFS }
func (ReadOnly) SetAttr(*Attr, int) Errno                { return EROFS }
