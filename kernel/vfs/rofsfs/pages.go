package rofsfs

import (
	"github.com/firstlight-boot/firstlight/blockcache"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/rofs/read"
)

// A block is a cluster, decoded to frames that are mapped as they are: files that share a cluster share them, and each mapping
// of one of its pages is a hold. What is not page-aligned within its decoded cluster, a packed tail or a file within the
// metadata, has blocks of its own, each a page of the file; so has a hole behind the table.
type block = blockcache.Block

// page returns a page of a block. Its Frames are the first where they are in a row, else an odd number, twice their index in
// FS.scattered and 1.
func (fs *FS) page(b *block, i uint64) mem.Frame {
	if m := b.Mem.Frames; m&1 == 0 {
		return mem.Frame(m + i*mem.PageSize)
	}
	return fs.scattered[b.Mem.Frames>>1][i]
}

// ownPage is in the Sub of the key of a block that is a page of an inode, ID. The key of a cluster is the number of its record
// + 1, and its length.
const ownPage = 1 << 63

// known is the block that a node had last at some place. It is there as long as its key is that.
type known struct {
	b *block
	k blockcache.Key
}

// layOut notes where the pages of a file are, which the kernel asks for often.
func (n *node) layOut() {
	n.pages = (n.rec.Size() + mem.PageSize - 1) / mem.PageSize
	n.log = uint(n.rec.ClusterLog()) - 12
	n.whole = min(uint64(n.rec.Count())<<n.log, n.pages)
	n.own = uint64(n.rec.Count()) - n.whole
}

// number returns where n.blocks has the block of page i, and which of the block's pages that is: clusters come first, then
// pages of their own.
func (n *node) number(i uint64) (number, at uint64) {
	if i < n.whole {
		return i >> (n.log & 63), i & (1<<(n.log&63) - 1)
	}
	return n.own + i, 0
}

// find returns the block of page i, nil if it is not in memory, and which of its pages that is.
func (n *node) find(i uint64) (*block, uint64) {
	if i < n.pages {
		if number, at := n.number(i); number < uint64(len(n.blocks)) {
			if p := &n.blocks[number]; p.b != nil && p.b.Key == p.k {
				return p.b, at
			}
		}
	}
	return nil, 0
}

// key returns the key and the size in bytes of the block of page i.
func (n *node) key(i uint64) (k blockcache.Key, size uint64) {
	if i < n.whole {
		cluster := i >> n.log
		record, _, _ := read.Place(&n.rec, cluster)
		size = min(n.rec.Size()-cluster<<(n.log+12), mem.PageSize<<n.log)
		return blockcache.Key{ID: record + 1, Sub: size}, size
	}
	return blockcache.Key{ID: uint64(n.ino), Sub: ownPage | i}, min(n.rec.Size()-i*mem.PageSize, mem.PageSize)
}

// Cached implements vfs.Node.
func (n *node) Cached(i uint64) mem.Frame {
	if b, at := n.find(i); b != nil {
		return n.fs.page(b, at)
	}
	return 0
}

// Page implements vfs.Node: it brings the whole cluster of page i into memory.
func (n *node) Page(i uint64) (mem.Frame, vfs.Errno) {
	if !n.isType(format.TypeFile) {
		return 0, vfs.ENODEV
	}
	if i >= n.pages {
		return 0, vfs.EINVAL
	}
	if f := n.Cached(i); f != 0 {
		return f, 0
	}
	number, at := n.number(i)
	if number >= uint64(len(n.blocks)) {
		grown := make([]known, min(max(number+1, 2*uint64(len(n.blocks)), 8), n.own+n.pages))
		copy(grown, n.blocks)
		n.blocks = grown
	}
	k, size := n.key(i)
	n.fs.loading = n
	b, err := n.fs.cache.Get(k, int(size))
	if err == blockcache.ErrFull {
		return 0, vfs.ENOMEM
	}
	if err != nil {
		return 0, n.fs.fail(err)
	}
	n.fs.cache.Drop(b)
	n.blocks[number] = known{b, k}
	return n.fs.page(b, at), 0
}

// Mapped implements vfs.Node.
func (n *node) Mapped(i uint64, delta int) {
	if b, _ := n.find(i); b == nil {
	} else if delta > 0 {
		n.fs.cache.Hold(b)
	} else {
		n.fs.cache.Drop(b)
	}
}

// Around implements vfs.Node. Neighbours are mostly of one block, which is looked up and held once.
func (n *node) Around(first uint64, want uint32, frames *[mem.Group]mem.Frame) {
	var b *block
	last, held := ^uint64(0), 0
	for i := range frames {
		p := first + uint64(i)
		if want>>i&1 == 0 || p >= n.pages {
			continue
		}
		number, at := n.number(p)
		if number != last {
			n.fs.cache.HoldN(b, held)
			b, _ = n.find(p)
			last, held = number, 0
		}
		if b != nil {
			frames[i] = n.fs.page(b, at)
			held++
		}
	}
	n.fs.cache.HoldN(b, held)
}

// Reclaim implements vfs.PageCache.
func (fs *FS) Reclaim(want int64) int64 { return fs.cache.Reclaim(want) }

// Bytes implements vfs.PageCache.
func (fs *FS) Bytes() int64 { return fs.cache.Stats().Bytes }

func pagesOf(size int) int { return (size + mem.PageSize - 1) / mem.PageSize }

// Alloc implements blockcache.Store.
func (fs *FS) Alloc(size int) (m blockcache.Memory, ok bool) {
	count := pagesOf(size)
	if f := vfs.AllocRun(count, abi.OwnCache); f != 0 {
		return blockcache.Memory{Frames: uint64(f)}, true
	}
	list := make([]mem.Frame, 0, count)
	for range count {
		f := vfs.AllocDirty(abi.OwnCache)
		if f == 0 {
			for _, f := range list {
				mem.Free(f, abi.OwnCache)
			}
			return m, false
		}
		list = append(list, f)
	}
	i := 0
	for i < len(fs.scattered) && fs.scattered[i] != nil {
		i++
	}
	if i == len(fs.scattered) {
		fs.scattered = append(fs.scattered, nil)
	}
	fs.scattered[i] = list
	return blockcache.Memory{Frames: uint64(2*i + 1)}, true
}

// Free implements blockcache.Store.
func (fs *FS) Free(m blockcache.Memory, size int) {
	if m.Frames&1 == 0 {
		for i := range pagesOf(size) {
			mem.Free(mem.Frame(m.Frames+uint64(i*mem.PageSize)), abi.OwnCache)
		}
		return
	}
	list := &fs.scattered[m.Frames>>1]
	for _, f := range *list {
		mem.Free(f, abi.OwnCache)
	}
	*list = nil
}

// Load implements blockcache.Store.
func (fs *FS) Load(k blockcache.Key, m blockcache.Memory, size int) error {
	count := pagesOf(size)
	dst := fs.bounce
	if m.Frames&1 == 0 {
		dst = mem.Frame(m.Frames).Bytes(count * mem.PageSize)
	} else if len(dst) < count*mem.PageSize {
		dst = make([]byte, 1<<fs.img.Super.MaxClusterLog())
		fs.bounce = dst
	}
	clear(dst[size : count*mem.PageSize])
	if err := fs.read(k, dst[:size]); err != nil {
		return err
	}
	if m.Frames&1 != 0 {
		for i, f := range fs.scattered[m.Frames>>1] {
			copy(f.Bytes(mem.PageSize), dst[i*mem.PageSize:])
		}
	}
	return nil
}

func (fs *FS) read(k blockcache.Key, dst []byte) error {
	if k.Sub&ownPage != 0 {
		n, err := fs.img.ReadAt(&fs.loading.rec, dst, int64(k.Sub&^ownPage*mem.PageSize))
		clear(dst[n:])
		return err
	}
	var c format.Cluster
	if err := fs.img.Record(k.ID-1, &c); err != nil {
		return err
	}
	return fs.img.Decode(&c, dst)
}
