package ramfs

// PageSize is what data is kept in, in bytes.
const PageSize = 4096

// Page stands for a page of memory; 0 is none.
type Page uint64

// Memory is where pages come from: a Pool, or the page allocator of a kernel.
type Memory interface {
	// Alloc takes a page whose contents are zero, or undefined if dirty is set; 0 means that memory is full.
	Alloc(dirty bool) Page
	Free(Page)
	// Bytes returns the PageSize bytes of a page that is taken.
	Bytes(Page) []byte
	// Room reports whether the heap, from which names and tables come, has room for so many bytes.
	Room(size int) bool
}

// Allocator is where a Pool gets its blocks: BlockSize bytes of zeros each, nil when there is none. What it is given back
// it may hand to the system.
type Allocator interface {
	Alloc() []byte
	Free([]byte)
}

// BlockSize is the size of a block of a Pool, in bytes.
const (
	BlockSize  = 1 << 20
	blockPages = BlockSize / PageSize
)

// Heap is the Allocator of Go's heap: a block that is freed is garbage.
type Heap struct{}

// Alloc and Free implement Allocator.
func (Heap) Alloc() []byte { return make([]byte, BlockSize) }
func (Heap) Free([]byte)   {}

// block is a big block. used and dirty have a bit for each of its pages: taken, and no longer zero.
type block struct {
	mem         []byte
	used, dirty [blockPages / 64]uint64
}

// entry of the block map: a block, or nil, and how many of its bytes are free. Which files its bytes belong to nobody needs
// to know: a block all of whose bytes are free goes back whole. (After the freemap of HAMMER, sys/vfs/hammer/hammer_disk.h,
// struct hammer_blockmap_layer2.)
type entry struct {
	*block
	free uint32
}

// Pool hands out the pages of big blocks. A block that becomes all free returns to the Allocator at once; only the first,
// while others are in use, stays, so that one page that comes and goes does not cost a block each time.
type Pool struct {
	from    Allocator
	entries []entry
	low     int   // no entry before it has a free page
	gaps    []int // entries without a block
	spare   int   // entry of the one block that is all free, or -1
	blocks  int
	pages   int
}

// NewPool returns a pool of blocks from a; nil stands for Heap.
func NewPool(a Allocator) *Pool {
	if a == nil {
		a = Heap{}
	}
	return &Pool{from: a, spare: -1}
}

// PoolStats tells what a Pool holds.
type PoolStats struct {
	Blocks    int   // blocks of BlockSize bytes that the Allocator gave
	UsedBytes int64 // in pages that are taken
	FreeBytes int64 // in the blocks
}

// Stats returns what the pool holds.
func (p *Pool) Stats() PoolStats {
	used := int64(p.pages) * PageSize
	return PoolStats{p.blocks, used, int64(p.blocks)*BlockSize - used}
}

// Room is always true.
func (p *Pool) Room(int) bool { return true }

// Bytes returns the bytes of a page. A page's number counts from 1, through the blocks.
func (p *Pool) Bytes(n Page) []byte {
	n--
	at := n % blockPages * PageSize
	return p.entries[n/blockPages].mem[at : at+PageSize : at+PageSize]
}

// Alloc takes a page from the first block that has one, so that the later ones empty.
func (p *Pool) Alloc(dirty bool) Page {
	for p.low < len(p.entries) && p.entries[p.low].free == 0 {
		p.low++
	}
	if p.low == len(p.entries) {
		b := p.from.Alloc()
		if b == nil {
			return 0
		}
		if n := len(p.gaps); n > 0 {
			p.low, p.gaps = p.gaps[n-1], p.gaps[:n-1]
		} else {
			p.entries = append(p.entries, entry{})
		}
		p.entries[p.low] = entry{&block{mem: b}, BlockSize}
		p.blocks++
	}
	at := p.low
	e := &p.entries[at]
	if at == p.spare {
		p.spare = -1
	}
	e.free -= PageSize
	p.pages++
	n := 0
	for e.used[n/64] == ^uint64(0) {
		n += 64
	}
	for e.used[n/64]>>(n%64)&1 != 0 {
		n++
	}
	bit := uint64(1) << (n % 64)
	e.used[n/64] |= bit
	page := Page(at*blockPages + n + 1)
	if e.dirty[n/64]&bit != 0 && !dirty {
		clear(p.Bytes(page))
	}
	e.dirty[n/64] |= bit
	return page
}

// Free returns a page.
func (p *Pool) Free(n Page) {
	n--
	at := int(n / blockPages)
	e := &p.entries[at]
	e.used[n%blockPages/64] &^= 1 << (n % 64)
	e.free += PageSize
	p.pages--
	p.low = min(p.low, at)
	if e.free < BlockSize {
		return
	}
	if p.spare < 0 && p.pages > 0 {
		p.spare = at
		return
	}
	p.release(at)
	if p.pages == 0 && p.spare >= 0 {
		p.release(p.spare)
		p.spare = -1
	}
}

func (p *Pool) release(at int) {
	p.from.Free(p.entries[at].mem)
	p.entries[at] = entry{}
	p.blocks--
	p.gaps = append(p.gaps, at)
}
