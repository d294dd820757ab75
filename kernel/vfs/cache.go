package vfs

import (
	_ "unsafe" // for linkname

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/mem"
)

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
		if _, free = mem.Stats(); free < need && trim() {
			_, free = mem.Stats()
		}
	}
	return free >= need
}

// trimStep is by how many pages the kernel's heap must have grown since it was trimmed last for that to be worth its while: what a
// collection costs is spread over the garbage that made so much of it.
const trimStep = 32

// trimmed is the size of the kernel's heap, in pages, when trim left it.
var trimmed uint64

// trim has the Go runtime collect its garbage and give back what it keeps of free spans, up to 1.3 MiB after much garbage.
func trim() bool {
	if mem.Owners()[abi.OwnHeap] < trimmed+trimStep {
		return false
	}
	freeOSMemory()
	trimmed = mem.Owners()[abi.OwnHeap]
	return true
}

// freeOSMemory is runtime/debug's; that package itself would bring in package os.
//
//go:linkname freeOSMemory runtime/debug.freeOSMemory
func freeOSMemory()

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
