package rofs

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/firstlight-boot/firstlight/blockcache"
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/rofs/read"
)

// cacheBytes bounds the decoded clusters that an open image keeps: 512 of the default size.
const cacheBytes = 32 << 20

// The cache's key of a cluster is the number of its record in the cluster table, so that files that share it share memory.
type cache = blockcache.Cache

func newCache(f *FS) *cache {
	return blockcache.New((*store)(f), blockcache.Options{Limit: cacheBytes, Shards: 16, Peeks: 64})
}

// metaBlocks bounds the metadata blocks that an open image keeps.
const metaBlocks = 2048

// meta keeps metadata blocks: each has one place, by its number, and the last one that came has it. Memory that a reader
// still sees is the garbage collector's.
type meta []atomic.Pointer[metaBlock]

type metaBlock struct {
	number uint64
	block  *read.Block
}

func newMeta(size uint64) meta {
	n := 1
	for n < metaBlocks && uint64(n)<<format.BlockLog < size {
		n *= 2
	}
	return make(meta, n)
}

// Get implements read.Meta.
func (m meta) Get(number uint64) *read.Block {
	if b := m[number&uint64(len(m)-1)].Load(); b != nil && b.number == number {
		return b.block
	}
	return nil
}

// Put implements read.Meta.
func (m meta) Put(number uint64, b *read.Block) {
	m[number&uint64(len(m)-1)].Store(&metaBlock{number, b})
}

// store is the FS as its cache sees it.
type store FS

// buffers are what blocks gave back, for all images: by log2 of their length.
var buffers [format.MaxClusterLog + 1]sync.Pool

// Alloc implements blockcache.Store. What is too odd for another block to use is made by the byte.
func (s *store) Alloc(size int) (blockcache.Memory, bool) {
	if log := bits.TrailingZeros(uint(size)); 1<<log == size && log < len(buffers) {
		if p, ok := buffers[log].Get().(*byte); ok {
			return blockcache.Memory{Bytes: unsafe.Slice(p, size)}, true
		}
	}
	return blockcache.Memory{Bytes: make([]byte, size)}, true
}

// Free implements blockcache.Store.
func (s *store) Free(m blockcache.Memory, size int) {
	if log := bits.TrailingZeros(uint(size)); 1<<log == size && log < len(buffers) {
		buffers[log].Put(unsafe.SliceData(m.Bytes))
	}
}

// Load implements blockcache.Store.
func (s *store) Load(k blockcache.Key, m blockcache.Memory, size int) error {
	f := (*FS)(s)
	return f.with(func(rd *read.FS) error {
		var c format.Cluster
		if err := rd.Record(k.ID, &c); err != nil {
			return err
		}
		return rd.Decode(&c, m.Bytes)
	})
}

// once tells clusters that are wanted for the first time from those that were wanted before, so that who reads a tree from end
// to end takes no memory for what is never wanted again, and pushes nothing out that is. With more clusters than bits, one that
// shares another's is kept one time too early.
type once struct {
	bits  [1 << 9]atomic.Uint64
	bytes atomic.Int64 // of clusters since all were forgotten
}

// onceBytes is after how many bytes of clusters it forgets all: what comes again later would not have stayed in the cache until
// then.
const onceBytes = 2 * cacheBytes

// first reports whether the cluster, of size bytes, is new, and notes that it is not from then on.
func (o *once) first(record uint64, size int) bool {
	bit := uint64(1) << (record & 63)
	if o.bits[record>>6%uint64(len(o.bits))].Or(bit)&bit != 0 {
		return false
	}
	if o.bytes.Add(int64(size)) >= onceBytes {
		o.bytes.Store(0)
		for i := range o.bits {
			o.bits[i].Store(0)
		}
	}
	return true
}

// readAt reads from byte off of the regular file n into p and returns how many bytes it read: fewer than len(p) only at the
// end of the file, without an error, or with the error that stopped it.
//
// Whole clusters that are not in memory are decoded to where they are wanted, and of others the rest is kept for who comes next:
// by the cache, once it is wanted again. Until then a file that is read in its order has it from the reader, which keeps the last
// one, and of one that is read here and there it is not even decoded, unless little is left, or its start
// was wanted, as by who goes on to read it in pieces. That costs a working set that fits
// into the cache half a decoding of each cluster once, and saves as much on each read where none fits.
func (f *FS) readAt(n *format.Inode, p []byte, off int64, inOrder bool) (done int, err error) {
	if off < 0 || uint64(off) >= n.Size() {
		return 0, nil
	}
	p = p[:min(uint64(len(p)), n.Size()-uint64(off))]
	log := n.ClusterLog()
	for done < len(p) && err == nil {
		at := uint64(off) + uint64(done)
		index, skip := at>>log, int(at&(1<<log-1))
		want := int(min(n.Size()-index<<log, 1<<log))
		rest := p[done:]
		rest = rest[:min(len(rest), want-skip)]
		record, from, ok := read.Place(n, index)
		if ok {
			ok = false // until it was found in the cache
			if b, slot := f.cache.Peek(blockcache.Key{ID: record}); b != nil {
				ok = part(rest, b.Mem.Bytes, n, from, skip, want)
				f.cache.Done(slot)
			}
		}
		if !ok {
			err = f.miss(n, rest, int64(at), want, inOrder)
		}
		if err == nil {
			done += len(rest)
		}
	}
	return done, err
}

// part copies to p from byte skip on of the cluster of the file n that is the want bytes from byte from of b. A b that does
// not fit to the file is another's whose record is the same, in an image that is damaged or odd.
func part(p, b []byte, n *format.Inode, from, skip, want int) bool {
	if from+want > len(b) || n.Layout() == format.LayoutClusters && want < len(b) {
		return false
	}
	copy(p, b[from+skip:])
	return true
}

// miss reads what the cache does not have: part of one cluster, of want bytes of the file, or all of it.
func (f *FS) miss(n *format.Inode, p []byte, off int64, want int, inOrder bool) error {
	index, skip := uint64(off)>>n.ClusterLog(), int(off&(1<<n.ClusterLog()-1))
	record, from, ok := read.Place(n, index)
	tail := index == uint64(n.Count())
	size := 0 // of what goes through the cache
	err := f.with(func(rd *read.FS) error {
		if ok && (tail || len(p) < want) && !(inOrder && rd.Holds(record)) {
			if first := f.once.first(record, 1<<n.ClusterLog()); !first || !inOrder {
				var c format.Cluster
				if err := rd.Record(record, &c); err != nil {
					return err
				}
				size = int(c.Size())
				if c.Codec() == format.CodecHole || size > 1<<format.MaxClusterLog || from+want > size || !tail && size != want {
					size = 0 // ReadAt does it, or says what is wrong
				} else if end := from + skip + len(p); first && skip > 0 && end <= size-size/4 {
					if b := rd.Start(&c, end); b != nil {
						size = 0
						copy(p, b[from+skip:])
						return nil
					}
				}
			}
		}
		if size > 0 {
			return nil
		}
		_, err := rd.ReadAt(n, p, off)
		return err
	})
	if size == 0 || err != nil {
		return err
	}
	b, err := f.cache.Get(blockcache.Key{ID: record}, size)
	if err == nil {
		ok = part(p, b.Mem.Bytes, n, from, skip, want)
		f.cache.Drop(b)
	}
	if err == blockcache.ErrFull || err == nil && !ok {
		return f.with(func(rd *read.FS) error {
			_, err := rd.ReadAt(n, p, off)
			return err
		})
	}
	return err
}
