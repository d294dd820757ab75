// Package mem manages physical pages and address spaces. Nothing in it allocates Go memory, holds Go pointers or blocks.
//
// The pool of frames belongs to kernel context (see package ring0): page faults of the Go runtime take frames from it at any
// instruction of ordinary Go, this package's included. Ordinary Go therefore has a cache of frames of its own and enters
// kernel context by a system call to fill and empty it. Functions named Kernel… are for kernel context, all others for
// ordinary Go.
package mem

import (
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
)

// PageSize is the size of a page and of a Frame, in bytes.
const PageSize = 4096

// Frame is the physical address of one page; 0 is no frame.
type Frame uint64

// Pointer returns the pointer for a virtual address of the kernel outside the Go heap.
func Pointer(va uint64) unsafe.Pointer {
	return unsafe.Add(nil, va) // not a conversion, whose rules are about addresses of Go objects
}

// Bytes returns n bytes of physical memory from f on, through the direct map.
func (f Frame) Bytes(n int) []byte {
	return unsafe.Slice((*byte)(Pointer(layout.DirectMap+uint64(f))), n)
}

// words returns the frame as a page table or a link of the free list.
func (f Frame) words() *[512]uint64 {
	return (*[512]uint64)(Pointer(layout.DirectMap + uint64(f)))
}

// clear makes the contents zero.
func (f Frame) clear() { *f.words() = [512]uint64{} }

// isZero is a tag on frames in the cache: the contents are known to be zero.
const isZero = 1

// maxPieces bounds the pieces of RAM; what of a machine's map needs more of them is left to its loader.
const maxPieces = 32

// piece is RAM whose frames were never given out: [next, end).
type piece struct {
	next, end uint64
	dirty     bool // the firmware used it: its contents are not zero
}

var pool struct {
	pieces  [maxPieces]piece
	n       int
	at      int    // the piece that frames come from
	list    Frame  // returned frames, linked through their first word
	free    uint64 // frames in that list and in the pieces
	managed uint64 // frames that are, or may become, free
}

// owned counts the frames of each owner, abi.OwnFree excepted. An owner is kernel context's or ordinary Go's, never both's.
var owned [abi.MaxOwners]uint64

const (
	cacheSize  = 64
	cacheBatch = 16
)

var cache struct {
	frames [cacheSize]Frame
	n      int
}

// shared says that several CPUs run programs. stale says that a mapping was taken away, or lost a right, that another of them may
// still use: until Settle, frames that are freed are not given out again but kept aside.
var (
	shared, stale bool
	aside         [cacheSize]Frame
	numAside      int
)

// Share says that other CPUs run programs from now on.
func Share() { shared = true }

// Settle makes other CPUs forget what mappings were taken away since the last time, before the program can rely on it.
func Settle() {
	if stale {
		settle()
	}
}

func settle() {
	call(SysFlush, 0)
	stale = false
	for numAside > 0 {
		numAside--
		put(aside[numAside])
	}
}

// System calls that ordinary Go makes to reach kernel context; package ring0 dispatches them to KernelCall.
const (
	SysFill   = 0x1010 // fill the cache
	SysEmpty  = 0x1011 // return half of the cache to the pool
	SysContig = 0x1012 // take frames in a row
	SysCount  = 0x1013 // count the frames that are free
	SysAdd    = 0x1014 // add a dirty frame
	SysFlush  = 0x1015 // package ring0 serves it: other CPUs forget mappings
)

func call(nr, arg uint64) uint64

// KernelCall serves the system calls of this package.
func KernelCall(nr, arg uint64) uint64 {
	switch nr {
	case SysFill:
		for cache.n < cacheBatch {
			f := kernelTake()
			if f == 0 {
				break
			}
			cache.frames[cache.n&(cacheSize-1)] = f
			cache.n++
		}
	case SysEmpty:
		for cache.n > cacheSize/2 {
			cache.n--
			kernelPut(cache.frames[cache.n&(cacheSize-1)] &^ isZero)
		}
	case SysContig:
		p := &pool.pieces[pool.at&(maxPieces-1)]
		if arg > (p.end-p.next)/PageSize {
			p = kernelLargest()
		}
		if arg <= (p.end-p.next)/PageSize {
			f := p.next
			p.next += arg * PageSize
			pool.free -= arg
			return f
		}
	case SysAdd:
		if !KernelAdd(arg, arg+PageSize, true) {
			owned[abi.OwnLoader]++
		}
	case SysCount:
		n := uint64(cache.n + numAside)
		for i := range pool.pieces {
			n += (pool.pieces[i].end - pool.pieces[i].next) / PageSize
		}
		for f := pool.list; f != 0 && n < 1<<40; f = Frame(f.words()[0]) {
			n++
		}
		return n
	}
	return 0
}

// KernelAdd gives the pool the frames in [start, end), whose bounds are pages'. Unless they are dirty, their contents are zero.
// Allocation begins with the largest piece. False means that there are too many pieces.
func KernelAdd(start, end uint64, dirty bool) bool {
	if pool.n == maxPieces {
		return false
	}
	pool.pieces[pool.n&(maxPieces-1)] = piece{start, end, dirty}
	pool.n++
	pool.free += (end - start) / PageSize
	pool.managed += (end - start) / PageSize
	return true
}

// KernelOwn counts frames of an owner which did not take them from the pool.
func KernelOwn(owner int, frames uint64) {
	owned[owner&(len(owned)-1)] += frames
	if owner != abi.OwnLoader && owner != abi.OwnImage {
		pool.managed += frames
	}
}

// kernelLargest returns the piece with most frames; those that have to be cleared come last.
func kernelLargest() *piece {
	best := &pool.pieces[0]
	for i := range pool.pieces {
		p := &pool.pieces[i]
		if p.next < p.end && (best.next >= best.end || best.dirty && !p.dirty || best.dirty == p.dirty && p.end-p.next > best.end-best.next) {
			best = p
		}
	}
	return best
}

// KernelChoose has frames come from the largest piece.
func KernelChoose() {
	best := kernelLargest()
	for i := range pool.pieces {
		if best == &pool.pieces[i] {
			pool.at = i
		}
	}
}

// kernelTake takes a frame, tagged isZero when it is.
func kernelTake() Frame {
	if f := pool.list; f != 0 {
		pool.list = Frame(f.words()[0])
		pool.free--
		return f
	}
	p := &pool.pieces[pool.at&(maxPieces-1)]
	if p.next >= p.end {
		KernelChoose()
		if p = &pool.pieces[pool.at&(maxPieces-1)]; p.next >= p.end {
			return 0
		}
	}
	f := Frame(p.next)
	p.next += PageSize
	pool.free--
	if p.dirty {
		return f
	}
	return f | isZero
}

// kernelPut returns a frame that nobody owns any more.
func kernelPut(f Frame) {
	f.words()[0] = uint64(pool.list)
	pool.list = f
	pool.free++
}

// KernelAlloc takes a frame whose contents are zero; 0 means that there is none.
func KernelAlloc(owner int) Frame {
	f := kernelTake()
	if f == 0 {
		return 0
	}
	owned[owner&(len(owned)-1)]++
	if f&isZero == 0 {
		f.clear()
	}
	return f &^ isZero
}

// KernelFree returns a frame of owner's.
func KernelFree(f Frame, owner int) {
	owned[owner&(len(owned)-1)]--
	kernelPut(f)
}

// AllocDirty takes a frame with undefined contents; 0 means that there is none.
func AllocDirty(owner int) Frame { return take(owner) &^ isZero }

// Alloc takes a frame whose contents are zero; 0 means that there is none.
func Alloc(owner int) Frame {
	f := take(owner)
	if f&isZero == 0 && f != 0 {
		f.clear()
	}
	return f &^ isZero
}

func take(owner int) Frame {
	if cache.n == 0 {
		if call(SysFill, 0); cache.n == 0 {
			if Settle(); cache.n == 0 {
				return 0
			}
		}
	}
	owned[owner&(len(owned)-1)]++
	cache.n--
	return cache.frames[cache.n]
}

// AllocContig takes n frames in a row with undefined contents; 0 means that there is no such run. Each is freed on its own.
func AllocContig(n, owner int) Frame {
	if n <= 0 {
		return 0
	}
	f := Frame(call(SysContig, uint64(n)))
	if f != 0 {
		owned[owner&(len(owned)-1)] += uint64(n)
	}
	return f
}

// Free returns a frame of owner's to the pool.
func Free(f Frame, owner int) {
	owned[owner&(len(owned)-1)]--
	if !stale {
		put(f)
		return
	}
	if numAside == len(aside) {
		settle()
		stale = true // more is being taken away
	}
	aside[numAside] = f
	numAside++
}

// put returns a frame that nobody owns any more, and no CPU uses, to the cache.
func put(f Frame) {
	if cache.n == cacheSize {
		call(SysEmpty, 0)
	}
	cache.frames[cache.n] = f
	cache.n++
}

// HandBack gives the pool a frame that the loader used. It is taken when all others are.
func HandBack(f Frame) {
	owned[abi.OwnLoader]--
	call(SysAdd, uint64(f))
}

// Give makes n frames of one owner another's.
func Give(n uint64, from, to int) {
	owned[from&(len(owned)-1)] -= n
	owned[to&(len(owned)-1)] += n
}

// Available returns the number of free frames.
func Available() uint64 { return pool.free + uint64(cache.n+numAside) }

// Stats returns the number of frames that are, or may become, free, and how many are. The loader's and the kernel's image are not
// among them.
func Stats() (total, free uint64) { return pool.managed, Available() }

// Owners returns how many frames each owner of RAM has.
func Owners() (n [abi.MaxOwners]uint64) {
	n = owned
	n[abi.OwnFree] = Available()
	return n
}

// Fresh calls f for each piece of RAM that was never given out, with its physical bounds.
func Fresh(f func(start, end Frame)) {
	for _, p := range pool.pieces {
		if p.next < p.end {
			f(Frame(p.next), Frame(p.end))
		}
	}
}

// CountFree counts the free frames one by one.
func CountFree() uint64 { return call(SysCount, 0) }
