package vfs

import "github.com/firstlight-boot/firstlight/kernel/mem"

// PageCache holds pages of files that can be read again.
type PageCache interface {
	// Reclaim frees pages that are not mapped, the least recently used first, until want bytes are free or none is left, and
	// returns how many bytes that was.
	Reclaim(want int64) int64
	// Bytes returns how much is held.
	Bytes() int64
}

var pages PageCache

// SetPageCache says where there are pages to drop when memory gets short.
func SetPageCache(c PageCache) { pages = c }

// CachedPages returns how many pages of files are in memory that could be read again.
func CachedPages() uint64 {
	if pages == nil {
		return 0
	}
	return uint64(pages.Bytes()) / mem.PageSize
}

// Reclaim frees pages that are not mapped until want are free or none is left, and returns how many it freed.
func Reclaim(want int) int {
	if pages == nil {
		return 0
	}
	return int(pages.Reclaim(int64(want)*mem.PageSize) / mem.PageSize)
}

// The program cannot have the last pages of memory: a 64th of it, 96 to 256 pages, is left for the kernel's own heap, so
// that the program runs out of memory before the kernel does. With 48 pages the kernel died when caches filled all else: between two
// looks at what is free the garbage collector may begin, whose first cycle takes bitmaps and buffers of 32 and 64 KiB.
const (
	reserveShare = 64
	minReserve   = 96
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

// AllocRun returns count contiguous frames for owner with undefined contents, 0 when there is no such run.
func AllocRun(count, owner int) mem.Frame {
	if !Room(count) {
		return 0
	}
	return mem.AllocContig(count, owner)
}

// AllocPage returns a zeroed frame for owner, one of abi's; 0 when memory is full.
func AllocPage(owner int) mem.Frame {
	if !Room(1) {
		return 0
	}
	return mem.Alloc(owner)
}

// AllocDirty is AllocPage for a frame that the caller overwrites all of.
func AllocDirty(owner int) mem.Frame {
	if !Room(1) {
		return 0
	}
	return mem.AllocDirty(owner)
}
