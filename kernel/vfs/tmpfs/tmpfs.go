// Package tmpfs is a file system in memory for /tmp and /dev/shm: small and plain.
package tmpfs

import (
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// Magic is what statfs reports for the file system (include/uapi/linux/magic.h).
const Magic = 0x01021994

// maxPages bounds the size of one file to 64 GiB, and so what a file of one byte at the end of a hole costs.
const maxPages = 1 << 24

// chunkPages is how many pages a chunk of a file's table of frames is for: one takes a page itself.
const chunkPages = mem.PageSize / 8

type chunk [chunkPages]mem.Frame

type fs struct {
	lastIno uint64
	pages   uint64 // in use by all files
	limit   uint64
}

// New returns an empty file system whose root has the permission bits perm. It takes at most half of RAM.
func New(perm uint32) vfs.Node {
	total, _ := mem.Stats()
	f := &fs{limit: total / 2}
	d := &dir{}
	f.init(&d.inode, vfs.TypeDir|perm)
	d.attr.Nlink = 2
	return d
}

func now() int64 { return int64(ring0.Walltime()) }

func (f *fs) init(n *inode, mode uint32) {
	f.lastIno++
	t := now()
	n.fs = f
	n.attr = vfs.Attr{Ino: f.lastIno, Mode: mode, Nlink: 1, Atime: t, Mtime: t, Ctime: t}
}

// inode is what every kind of file here has.
type inode struct {
	vfs.Base
	fs   *fs
	attr vfs.Attr
	refs int
}

func (n *inode) Attr(a *vfs.Attr) { *a = n.attr }

func (n *inode) SetAttr(a *vfs.Attr, which int) vfs.Errno {
	if which&vfs.SetMode != 0 {
		n.attr.Mode = n.attr.Mode&vfs.TypeMask | a.Mode&vfs.PermMask
	}
	if which&vfs.SetOwner != 0 {
		n.attr.UID, n.attr.GID = a.UID, a.GID
	}
	if which&vfs.SetTimes != 0 {
		n.attr.Atime, n.attr.Mtime = a.Atime, a.Mtime
	}
	n.attr.Ctime = now()
	return 0
}

func (n *inode) Retain() { n.refs++ }

// base gives the shared part of any node of this package.
type node interface {
	vfs.Node
	base() *inode
	unlinked()
}

func (n *inode) base() *inode { return n }
func (n *inode) unlinked()    {}

type link struct {
	inode
	target string
}

func (l *link) Readlink() (string, vfs.Errno) { return l.target, 0 }

// file holds its contents in frames. What has none, or no chunk, is a hole.
type file struct {
	inode
	chunks []*chunk
	held   uint64 // frames
}

func (f *file) Attr(a *vfs.Attr) {
	*a = f.attr
	a.Blocks = f.held * (mem.PageSize / 512)
}

func (f *file) Page(n uint64) (mem.Frame, vfs.Errno) {
	if n >= (f.attr.Size+mem.PageSize-1)/mem.PageSize {
		return 0, vfs.EINVAL
	}
	if c := f.Cached(n); c != 0 {
		return c, 0
	}
	at := n / chunkPages
	if f.fs.pages >= f.fs.limit || !vfs.Room(2+int(at*8/mem.PageSize)) {
		return 0, vfs.ENOSPC
	}
	if at >= uint64(len(f.chunks)) {
		grown := make([]*chunk, max(at+1, min(2*uint64(len(f.chunks)), maxPages/chunkPages)))
		copy(grown, f.chunks)
		f.chunks = grown
	}
	if f.chunks[at] == nil {
		f.chunks[at] = new(chunk)
	}
	p := vfs.AllocPage()
	if p == 0 {
		return 0, vfs.ENOSPC
	}
	f.chunks[at][n%chunkPages] = p
	f.held++
	f.fs.pages++
	return p, 0
}

func (f *file) Cached(n uint64) mem.Frame {
	if at := n / chunkPages; at < uint64(len(f.chunks)) && f.chunks[at] != nil {
		return f.chunks[at][n%chunkPages]
	}
	return 0
}

// drop frees the pages from page keep on.
func (f *file) drop(keep uint64) {
	for at := keep / chunkPages; at < uint64(len(f.chunks)); at++ {
		c := f.chunks[at]
		if c == nil {
			continue
		}
		first := at * chunkPages
		for i := range c {
			if c[i] != 0 && first+uint64(i) >= keep {
				mem.Free(c[i])
				c[i] = 0
				f.held--
				f.fs.pages--
			}
		}
		if first >= keep {
			f.chunks[at] = nil
		}
	}
	if keep == 0 {
		f.chunks = nil
	}
}

func (f *file) ReadAt(p []byte, off uint64) (int, vfs.Errno) {
	if off >= f.attr.Size {
		return 0, 0
	}
	if left := f.attr.Size - off; uint64(len(p)) > left {
		p = p[:left]
	}
	done := 0
	for done < len(p) {
		at := int(off % mem.PageSize)
		n := min(mem.PageSize-at, len(p)-done)
		if c := f.Cached(off / mem.PageSize); c != 0 {
			copy(p[done:done+n], c.Bytes(mem.PageSize)[at:])
		} else {
			clear(p[done : done+n])
		}
		done += n
		off += uint64(n)
	}
	return done, 0
}

func (f *file) WriteAt(p []byte, off uint64) (int, vfs.Errno) {
	if off+uint64(len(p)) < off || off+uint64(len(p)) > maxPages*mem.PageSize {
		return 0, vfs.EFBIG
	}
	size := f.attr.Size
	done := 0
	for done < len(p) {
		at := int(off % mem.PageSize)
		n := min(mem.PageSize-at, len(p)-done)
		if end := off + uint64(n); end > f.attr.Size {
			f.attr.Size = end
		}
		c, err := f.Page(off / mem.PageSize)
		if err != 0 {
			f.attr.Size = max(size, off)
			if done > 0 {
				err = 0
			}
			return done, err
		}
		copy(c.Bytes(mem.PageSize)[at:], p[done:done+n])
		done += n
		off += uint64(n)
		size = f.attr.Size
	}
	f.attr.Mtime = now()
	f.attr.Ctime = f.attr.Mtime
	return done, 0
}

// Truncate sets the size. The pages that it cuts off must not be mapped any more.
func (f *file) Truncate(size uint64) vfs.Errno {
	if size > maxPages*mem.PageSize {
		return vfs.EFBIG
	}
	if size < f.attr.Size {
		f.drop((size + mem.PageSize - 1) / mem.PageSize)
		if at := size % mem.PageSize; at != 0 {
			if c := f.Cached(size / mem.PageSize); c != 0 {
				clear(c.Bytes(mem.PageSize)[at:])
			}
		}
	}
	f.attr.Size = size
	f.attr.Mtime = now()
	f.attr.Ctime = f.attr.Mtime
	return 0
}

func (f *file) unlinked() {
	if f.attr.Nlink == 0 && f.refs == 0 {
		f.Truncate(0)
	}
}

func (f *file) Release() {
	f.refs--
	f.unlinked()
}

// dir keeps its entries in the order of their making, so that a position (the number of the last entry seen) stays right
// whatever is added or removed meanwhile.
type dir struct {
	inode
	entries []entry
	lastNum uint64
	gone    bool
}

type entry struct {
	num  uint64
	name string
	node node
}

func (d *dir) find(name string) int {
	for i := range d.entries {
		if d.entries[i].name == name {
			return i
		}
	}
	return -1
}

func (d *dir) Lookup(name string) (vfs.Node, vfs.Errno) {
	if i := d.find(name); i >= 0 {
		return d.entries[i].node, 0
	}
	return nil, vfs.ENOENT
}

func (d *dir) ReadDir(pos uint64) (e vfs.Entry, next uint64, ok bool, err vfs.Errno) {
	for i := range d.entries {
		if e := &d.entries[i]; e.num > pos {
			a := &e.node.base().attr
			return vfs.Entry{Name: e.name, Ino: a.Ino, Type: a.Mode & vfs.TypeMask}, e.num, true, 0
		}
	}
	return e, pos, false, 0
}

func (d *dir) add(name string, n node) {
	d.lastNum++
	d.entries = append(d.entries, entry{d.lastNum, name, n})
	d.touch()
}

func (d *dir) drop(i int) {
	copy(d.entries[i:], d.entries[i+1:])
	d.entries[len(d.entries)-1] = entry{}
	d.entries = d.entries[:len(d.entries)-1]
	d.touch()
}

func (d *dir) touch() {
	d.attr.Mtime = now()
	d.attr.Ctime = d.attr.Mtime
}

// room says why name cannot be made in d.
func (d *dir) room(name string) vfs.Errno {
	if d.gone {
		return vfs.ENOENT
	}
	if !vfs.Room(1) {
		return vfs.ENOSPC
	}
	if d.find(name) >= 0 {
		return vfs.EEXIST
	}
	return 0
}

func (d *dir) Create(name string, mode uint32) (vfs.Node, vfs.Errno) {
	if err := d.room(name); err != 0 {
		return nil, err
	}
	var n node
	switch mode & vfs.TypeMask {
	case vfs.TypeReg:
		n = &file{}
	case vfs.TypeDir:
		n = &dir{}
	default:
		return nil, vfs.EPERM
	}
	d.fs.init(n.base(), mode)
	if mode&vfs.TypeMask == vfs.TypeDir {
		n.base().attr.Nlink = 2
		d.attr.Nlink++
	}
	d.add(name, n)
	return n, 0
}

func (d *dir) Symlink(name, target string) vfs.Errno {
	if err := d.room(name); err != 0 {
		return err
	}
	l := &link{target: target}
	d.fs.init(&l.inode, vfs.TypeLink|0o777)
	l.attr.Size = uint64(len(target))
	d.add(name, l)
	return 0
}

func (d *dir) Link(name string, to vfs.Node) vfs.Errno {
	n, ok := to.(node)
	if !ok || n.base().fs != d.fs {
		return vfs.EXDEV
	}
	a := &n.base().attr
	if a.Mode&vfs.TypeMask == vfs.TypeDir {
		return vfs.EPERM
	}
	if err := d.room(name); err != 0 {
		return err
	}
	a.Nlink++
	a.Ctime = now()
	d.add(name, n)
	return 0
}

func (d *dir) Remove(name string, isDir bool) vfs.Errno {
	i := d.find(name)
	if i < 0 {
		return vfs.ENOENT
	}
	n := d.entries[i].node
	sub, ok := n.(*dir)
	switch {
	case ok && !isDir:
		return vfs.EISDIR
	case !ok && isDir:
		return vfs.ENOTDIR
	case ok && len(sub.entries) > 0:
		return vfs.ENOTEMPTY
	}
	d.drop(i)
	d.forget(n)
	return 0
}

// forget takes one link from n, which has just lost a name in d.
func (d *dir) forget(n node) {
	a := &n.base().attr
	if sub, ok := n.(*dir); ok {
		sub.gone = true
		a.Nlink = 0
		d.attr.Nlink--
		return
	}
	a.Nlink--
	a.Ctime = now()
	n.unlinked()
}

func (d *dir) Rename(name string, newDir vfs.Node, newName string, noReplace bool) vfs.Errno {
	to, ok := newDir.(*dir)
	if !ok || to.fs != d.fs {
		return vfs.EXDEV
	}
	i := d.find(name)
	if i < 0 || to.gone {
		return vfs.ENOENT
	}
	n := d.entries[i].node
	sub, isDir := n.(*dir)
	if isDir && sub.holds(to) {
		return vfs.EINVAL
	}
	if j := to.find(newName); j >= 0 {
		old := to.entries[j].node
		oldDir, oldIsDir := old.(*dir)
		switch {
		case noReplace:
			return vfs.EEXIST
		case old == n:
			return 0
		case isDir && !oldIsDir:
			return vfs.ENOTDIR
		case !isDir && oldIsDir:
			return vfs.EISDIR
		case oldIsDir && len(oldDir.entries) > 0:
			return vfs.ENOTEMPTY
		}
		to.drop(j)
		to.forget(old)
		i = d.find(name)
	}
	d.drop(i)
	to.add(newName, n)
	if isDir && d != to {
		d.attr.Nlink--
		to.attr.Nlink++
	}
	n.base().attr.Ctime = now()
	return 0
}

// holds reports whether to is d or lies below it.
func (d *dir) holds(to *dir) bool {
	if d == to {
		return true
	}
	for i := range d.entries {
		if sub, ok := d.entries[i].node.(*dir); ok && sub.holds(to) {
			return true
		}
	}
	return false
}
