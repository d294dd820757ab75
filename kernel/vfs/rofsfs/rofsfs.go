// Package rofsfs is the read-only root: a ROFS image behind the interface of package vfs, with a page cache in front, which is
// the block cache that the host has too, on page frames.
package rofsfs

import (
	"github.com/firstlight-boot/firstlight/blockcache"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/rofs/read"
)

// Magic is what statfs reports for the file system: "ROFS", little-endian.
const Magic = 0x53464f52

// FS is a mounted image.
type FS struct {
	img       *read.FS
	nodes     []*node // hash table by inode number, chained through next; its length is a power of two
	count     int
	cache     *blockcache.Cache
	loading   *node         // whose page is being loaded
	scattered [][]mem.Frame // nil: not in use
	bounce    []byte        // for a cluster for which there are no frames in a row; nil until then
	reported  int
}

// New returns the root directory of img, which the file system owns from then on.
func New(img *read.FS) (vfs.Node, vfs.Errno) {
	fs := &FS{img: img, nodes: make([]*node, 64)}
	fs.cache = blockcache.New(fs, blockcache.Options{Limit: 1 << 62}) // as much as there are frames
	vfs.SetPageCache(fs)
	return fs.node(format.RootIno)
}

// node returns the one node of an inode.
func (fs *FS) node(ino uint32) (vfs.Node, vfs.Errno) {
	for n := fs.nodes[int(ino)&(len(fs.nodes)-1)]; n != nil; n = n.next {
		if n.ino == ino {
			return n, 0
		}
	}
	n := &node{fs: fs, ino: ino}
	if err := fs.img.Inode(ino, &n.rec); err != nil {
		return nil, fs.fail(err)
	}
	if n.isType(format.TypeFile) {
		n.layOut()
	}
	if fs.count++; fs.count > 2*len(fs.nodes) {
		old := fs.nodes
		fs.nodes = make([]*node, 4*len(old))
		for _, c := range old {
			for c != nil {
				next := c.next
				fs.insert(c)
				c = next
			}
		}
	}
	fs.insert(n)
	return n, 0
}

func (fs *FS) insert(n *node) {
	at := &fs.nodes[int(n.ino)&(len(fs.nodes)-1)]
	n.next, *at = *at, n
}

// maxReports bounds the lines about a damaged image on the console.
const maxReports = 10

// fail says on the console what is wrong with the image, which the program will only know as EIO.
func (fs *FS) fail(err error) vfs.Errno {
	if fs.reported++; fs.reported <= maxReports {
		ring0.ConsoleWrite([]byte("firstlight: " + err.Error() + "\n"))
	}
	return vfs.EIO
}

type node struct {
	vfs.ReadOnly
	fs   *FS
	next *node
	ino  uint32
	rec  format.Inode
	// Of a file. Pages from whole on, as far as there are any, have blocks of their own.
	pages, whole, own uint64
	log               uint    // of a cluster's pages
	blocks            []known // by number; grown to the highest that was ever there
}

func (n *node) isType(t uint16) bool { return n.rec.Type() == t }

func (n *node) Attr(a *vfs.Attr) {
	r := &n.rec
	t := r.MtimeSec()*1e9 + int64(r.MtimeNsec())
	*a = vfs.Attr{Ino: uint64(n.ino), Mode: uint32(r.Mode()), Nlink: r.Nlink(), UID: r.UID(), GID: r.GID(),
		Rdev: uint64(r.Rdev()), Size: r.Size(), Blocks: (r.Size() + 511) / 512, Atime: t, Mtime: t, Ctime: t}
}

func (n *node) Lookup(name string) (vfs.Node, vfs.Errno) {
	if !n.isType(format.TypeDir) {
		return nil, vfs.ENOTDIR
	}
	ino, err := n.fs.img.Lookup(&n.rec, name)
	if err != nil {
		return nil, n.fs.fail(err)
	}
	if ino == 0 {
		return nil, vfs.ENOENT
	}
	return n.fs.node(ino)
}

func (n *node) ReadDir(pos uint64) (e vfs.Entry, next uint64, ok bool, err vfs.Errno) {
	if !n.isType(format.TypeDir) {
		return e, pos, false, vfs.ENOTDIR
	}
	if pos >= uint64(n.rec.Count()) {
		return e, pos, false, 0
	}
	var d read.Dirent
	if err := n.fs.img.ReadDir(&n.rec, uint32(pos), &d); err != nil {
		return e, pos, false, n.fs.fail(err)
	}
	return vfs.Entry{Name: string(d.Name()), Ino: uint64(d.Ino), Type: uint32(d.Type) << 12}, pos + 1, true, 0
}

func (n *node) Readlink() (string, vfs.Errno) {
	if !n.isType(format.TypeLink) {
		return "", vfs.EINVAL
	}
	b := make([]byte, n.rec.Size()) // at most format.MaxLink, as reading the inode checked
	if _, err := n.fs.img.Readlink(&n.rec, b); err != nil {
		return "", n.fs.fail(err)
	}
	return string(b), 0
}

func (n *node) ReadAt(p []byte, off uint64) (int, vfs.Errno) {
	if n.isType(format.TypeDir) {
		return 0, vfs.EISDIR
	}
	if !n.isType(format.TypeFile) {
		return 0, vfs.ENXIO // a device of the image: there is no driver behind it
	}
	size := n.rec.Size()
	if off >= size {
		return 0, 0
	}
	if left := size - off; uint64(len(p)) > left {
		p = p[:left]
	}
	done := 0
	for done < len(p) {
		f, err := n.Page(off / mem.PageSize)
		if err != 0 {
			if done > 0 {
				err = 0
			}
			return done, err
		}
		c := copy(p[done:], f.Bytes(mem.PageSize)[off%mem.PageSize:])
		done += c
		off += uint64(c)
	}
	return done, 0
}
