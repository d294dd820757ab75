// Package tmpfs is a file system in memory behind the interface of package vfs: package ramfs on the frames of package mem.
// It is what /tmp and /dev/shm are, and the root that an archive fills.
package tmpfs

import (
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
	"github.com/firstlight-boot/firstlight/ramfs"
)

// Magic is what statfs reports for the file system, RootMagic where it is the root (include/uapi/linux/magic.h).
const (
	Magic     = 0x01021994
	RootMagic = 0x858458f6
)

// maxFile is the largest size of a file, in bytes.
const maxFile = 64 << 30

// New returns an empty file system whose root has the permission bits perm. It takes at most half of RAM.
func New(perm uint32) vfs.Node { return Root(NewFS(perm)) }

// NewFS is New for who has to fill the file system.
func NewFS(perm uint32) *ramfs.FS {
	total, _ := mem.Stats()
	return ramfs.New(ramfs.Options{Memory: frames{}, Limit: total / 2 * mem.PageSize, Now: now, Mode: perm, Max: maxFile})
}

// Root returns the root directory of a file system of NewFS.
func Root(f *ramfs.FS) vfs.Node { return node{f.Root()} }

func now() int64 { return int64(ring0.Walltime()) }

// frames is the memory of the file systems: the page allocator, to which a frame goes back as soon as it is free, so that
// there are no larger blocks.
type frames struct{}

func (frames) Alloc(dirty bool) ramfs.Page {
	if dirty {
		return ramfs.Page(vfs.AllocDirty(abi.OwnFiles))
	}
	return ramfs.Page(vfs.AllocPage(abi.OwnFiles))
}

func (frames) Free(p ramfs.Page)         { mem.Free(mem.Frame(p), abi.OwnFiles) }
func (frames) Bytes(p ramfs.Page) []byte { return mem.Frame(p).Bytes(mem.PageSize) }
func (frames) Room(size int) bool        { return vfs.Room((size + mem.PageSize - 1) / mem.PageSize) }

// node is a node of a ramfs. Being one pointer, it becomes a vfs.Node without an allocation, and two are equal if the pointers
// are.
type node struct{ n *ramfs.Node }

func (n node) Attr(a *vfs.Attr) { *a = vfs.Attr(n.n.Attr()) }

func (n node) SetAttr(a *vfs.Attr, which int) vfs.Errno {
	if which&vfs.SetMode != 0 {
		n.n.SetMode(a.Mode)
	}
	if which&vfs.SetOwner != 0 {
		n.n.SetOwner(a.UID, a.GID)
	}
	if which&vfs.SetTimes != 0 {
		n.n.SetTimes(a.Atime, a.Mtime)
	}
	return 0
}

func (n node) Lookup(name string) (vfs.Node, vfs.Errno) {
	c, err := n.n.Lookup(name)
	if err != 0 {
		return nil, vfs.Errno(err)
	}
	return node{c}, 0
}

func (n node) ReadDir(pos uint64) (e vfs.Entry, next uint64, ok bool, err vfs.Errno) {
	if n.n.Type() != vfs.TypeDir {
		return e, pos, false, vfs.ENOTDIR
	}
	name, c, next, ok := n.n.ReadDir(pos)
	if ok {
		e = vfs.Entry{Name: name, Ino: c.Attr().Ino, Type: c.Type()}
	}
	return e, next, ok, 0
}

func (n node) Readlink() (string, vfs.Errno) {
	s, err := n.n.Readlink()
	return s, vfs.Errno(err)
}

func (n node) Follow() *vfs.Loc { return nil }

func (n node) ReadAt(p []byte, off uint64) (int, vfs.Errno) {
	if t := n.n.Type(); t != vfs.TypeReg && t != vfs.TypeDir {
		return 0, vfs.ENXIO // a device of an archive: there is no driver behind it
	}
	c, err := n.n.ReadAt(p, off)
	return c, vfs.Errno(err)
}

func (n node) WriteAt(p []byte, off uint64) (int, vfs.Errno) {
	c, err := n.n.WriteAt(p, off)
	return c, vfs.Errno(err)
}

// Truncate sets the size. The pages that it cuts off must not be mapped any more.
func (n node) Truncate(size uint64) vfs.Errno { return vfs.Errno(n.n.Truncate(size)) }

func (n node) Poll() uint32 { return vfs.PollIn | vfs.PollOut }

func (n node) Page(i uint64) (mem.Frame, vfs.Errno) {
	if n.n.Type() != vfs.TypeReg {
		return 0, vfs.ENODEV
	}
	p, err := n.n.Own(i)
	return mem.Frame(p), vfs.Errno(err)
}

func (n node) Cached(i uint64) mem.Frame { return mem.Frame(n.n.Owned(i)) }
func (n node) Mapped(uint64, int)        {}

func (n node) Around(first uint64, want uint32, frames *[mem.Group]mem.Frame) {
	for i := range frames {
		if want>>i&1 != 0 {
			frames[i] = n.Cached(first + uint64(i))
		}
	}
}

func (n node) Create(name string, mode uint32) (vfs.Node, vfs.Errno) {
	if t := mode & vfs.TypeMask; t != vfs.TypeReg && t != vfs.TypeDir {
		return nil, vfs.EPERM
	}
	c, err := n.n.Create(name, mode, 0)
	if err != 0 {
		return nil, vfs.Errno(err)
	}
	return node{c}, 0
}

func (n node) Symlink(name, target string) vfs.Errno {
	_, err := n.n.Symlink(name, target)
	return vfs.Errno(err)
}

func (n node) Link(name string, to vfs.Node) vfs.Errno {
	if to, ok := to.(node); ok {
		return vfs.Errno(n.n.Link(name, to.n))
	}
	return vfs.EXDEV
}

func (n node) Remove(name string, dir bool) vfs.Errno { return vfs.Errno(n.n.Remove(name, dir)) }

func (n node) Rename(name string, newDir vfs.Node, newName string, noReplace bool) vfs.Errno {
	if to, ok := newDir.(node); ok {
		return vfs.Errno(n.n.Rename(name, to.n, newName, noReplace))
	}
	return vfs.EXDEV
}

func (n node) Retain()  { n.n.Open() }
func (n node) Release() { n.n.Close() }

// Xattr, and the others, implement vfs.Xattrs.
func (n node) Xattr(name string) ([]byte, bool) {
	v := n.n.Xattr(name)
	return v, v != nil
}

func (n node) XattrNames() []string { return n.n.Xattrs() }

func (n node) SetXattr(name string, value []byte, flags int) vfs.Errno {
	return vfs.Errno(n.n.SetXattr(name, value, flags))
}

func (n node) RemoveXattr(name string) vfs.Errno { return vfs.Errno(n.n.RemoveXattr(name)) }

// NextData, and the others, implement vfs.Sparse.
func (n node) NextData(off uint64) (uint64, bool) { return n.n.NextData(off) }
func (n node) NextHole(off uint64) (uint64, bool) { return n.n.NextHole(off) }
func (n node) Punch(off, size uint64) vfs.Errno   { return vfs.Errno(n.n.Punch(off, size)) }
func (n node) Allocate(off, size uint64) vfs.Errno {
	return vfs.Errno(n.n.Allocate(off, size))
}
