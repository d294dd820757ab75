package vfs

import "github.com/firstlight-boot/firstlight/kernel/mem"

// Cache holds the pages of one read-only file that are in memory. A file system embeds one in each of its files and fills
// it a cluster at a time, decoding straight into the frames: what is read, and what is mapped, is the cached frame itself.
type Cache struct {
	pages []cached // grown to the highest page that was ever there
	next  *Cache   // ring of all caches that ever held a page; nil: not in it
}

// cached is a frame with, in the bits that a page address leaves free, the number of times it is mapped. A count that
// reaches its limit stays there, and the page stays in memory.
type cached uint64

const (
	mapMask  = mem.PageSize - 1
	maxStuck = mapMask
)

func (c cached) frame() mem.Frame { return mem.Frame(c &^ mapMask) }

var (
	hand       *Cache // where the search for pages to drop goes on
	pagesInUse uint64
)

// CachedPages returns how many pages all caches hold.
func CachedPages() uint64 { return pagesInUse }

// Cached returns page n if it is in memory, else 0.
func (c *Cache) Cached(n uint64) mem.Frame {
	if n < uint64(len(c.pages)) {
		return c.pages[n].frame()
	}
	return 0
}

// Mapped adds delta, 1 or -1, to the number of mappings of page n, if it is in memory.
func (c *Cache) Mapped(n uint64, delta int) {
	if n >= uint64(len(c.pages)) || c.pages[n] == 0 {
		return
	}
	if p := &c.pages[n]; *p&mapMask != maxStuck {
		*p = cached(int64(*p) + int64(delta))
	}
}

// Put makes count frames from f on the pages from n on. Frames of pages that are there already are freed instead.
func (c *Cache) Put(n uint64, f mem.Frame, count int) {
	if need := n + uint64(count); need > uint64(len(c.pages)) {
		if need > uint64(cap(c.pages)) {
			grown := make([]cached, need, max(need, 2*uint64(len(c.pages))))
			copy(grown, c.pages)
			c.pages = grown
		}
		c.pages = c.pages[:need]
	}
	if c.next == nil {
		if hand == nil {
			hand = c
			c.next = c
		} else {
			c.next, hand.next = hand.next, c
		}
	}
	for i := range uint64(count) {
		p := f + mem.Frame(i*mem.PageSize)
		if c.pages[n+i] != 0 {
			mem.Free(p)
			continue
		}
		c.pages[n+i] = cached(p)
		pagesInUse++
	}
}

// Reclaim frees pages that are not mapped until want are free or none is left, and returns how many it freed. Every page
// here can be read again.
func Reclaim(want int) int {
	freed := 0
	for c, first := hand, hand; c != nil && freed < want; {
		for i, p := range c.pages {
			if p != 0 && p&mapMask == 0 {
				mem.Free(p.frame())
				c.pages[i] = 0
				freed++
			}
		}
		hand = c.next
		if c = c.next; c == first {
			break
		}
	}
	pagesInUse -= uint64(freed)
	return freed
}

// The program cannot have the last pages of memory: a 64th of it, 32 to 256 pages, is left for the kernel's own heap, so
// that the program runs out of memory before the kernel does.
const (
	reserveShare = 64
	minReserve   = 32
	maxReserve   = 256
)

// Room reports whether count pages can be taken, dropping pages from the caches if that is what it needs. Who is about to
// allocate much from the kernel's heap on behalf of the program asks first.
func Room(count int) bool {
	total, free := mem.Stats()
	need := reserve(total) + uint64(count)
	if free < need {
		Reclaim(max(int(need-free), reclaimBatch))
		_, free = mem.Stats()
	}
	return free >= need
}

func reserve(total uint64) uint64 { return min(max(total/reserveShare, minReserve), maxReserve) }

// Exhausted reports whether the kernel's own heap has used up half of the reserve. The program has to go then, before the
// kernel does: what the kernel holds, it holds for the program.
func Exhausted() bool {
	total, free := mem.Stats()
	return free < reserve(total)/2 && !Room(0)
}

// reclaimBatch is how many pages are dropped at once, so that a program that fills memory does not ask for each anew.
const reclaimBatch = 64

// AllocRun returns count contiguous frames with undefined contents, 0 when there is no such run.
func AllocRun(count int) mem.Frame {
	if !Room(count) {
		return 0
	}
	return mem.AllocContig(count)
}

// AllocPage returns a zeroed frame, 0 when memory is full.
func AllocPage() mem.Frame {
	if !Room(1) {
		return 0
	}
	return mem.Alloc()
}

// AllocDirty is AllocPage for a frame that the caller overwrites all of.
func AllocDirty() mem.Frame {
	if !Room(1) {
		return 0
	}
	return mem.AllocDirty()
}
