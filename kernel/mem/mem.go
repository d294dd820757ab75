// Package mem manages physical pages and address spaces. Nothing in it allocates Go memory, holds Go pointers or blocks.
//
// The pool of frames belongs to kernel context (see package ring0): page faults of the Go runtime take frames from it at any
// instruction of ordinary Go, this package's included. Ordinary Go therefore has a cache of frames of its own and enters
// kernel context by a system call to fill and empty it. Functions named Kernel… are for kernel context, all others for
// ordinary Go.
package mem

import (
	"unsafe"

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

// isZero is a tag on frames in the cache: the contents are known to be zero.
const isZero = 1

var pool struct {
	next, end uint64    // frames never used, whose contents are zero: [next, end)
	spare     [2]uint64 // more of them, when those are used up
	free      Frame     // list of returned frames, linked through their first word
	numFree   uint64    // length of that list
	total     uint64
}

const (
	cacheSize  = 64
	cacheBatch = 16
)

var cache struct {
	frames [cacheSize]Frame
	n      int
}

// System calls that ordinary Go makes to reach kernel context; package ring0 dispatches them to KernelCall.
const (
	SysFill   = 0x1010 // fill the cache
	SysEmpty  = 0x1011 // return half of the cache to the pool
	SysContig = 0x1012 // take frames in a row
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
			KernelFree(cache.frames[cache.n&(cacheSize-1)] &^ isZero)
		}
	case SysContig:
		if arg > (pool.end-pool.next)/PageSize && arg <= (pool.spare[1]-pool.spare[0])/PageSize {
			kernelSwap()
		}
		if arg <= (pool.end-pool.next)/PageSize {
			f := pool.next
			pool.next += arg * PageSize
			return f
		}
	}
	return 0
}

// KernelInit gives the pool the frames in [start, end), which must be zero. Once.
func KernelInit(start, end uint64) {
	pool.next = (start + PageSize - 1) &^ (PageSize - 1)
	pool.end = end &^ (PageSize - 1)
	pool.total = (pool.end - pool.next) / PageSize
}

// kernelSwap has frames come from the other piece of RAM.
func kernelSwap() {
	next, end := pool.next, pool.end
	pool.next, pool.end = pool.spare[0], pool.spare[1]
	pool.spare[0], pool.spare[1] = next, end
}

// kernelTake takes a frame, tagged isZero when it is.
func kernelTake() Frame {
	if f := pool.free; f != 0 {
		pool.free = Frame(f.words()[0])
		pool.numFree--
		return f
	}
	if pool.next >= pool.end {
		kernelSwap()
		if pool.next >= pool.end {
			return 0
		}
	}
	f := Frame(pool.next)
	pool.next += PageSize
	return f | isZero
}

// KernelAlloc takes a frame whose contents are zero; 0 means that there is none.
func KernelAlloc() Frame {
	f := kernelTake()
	if f&isZero == 0 && f != 0 {
		*f.words() = [512]uint64{}
	}
	return f &^ isZero
}

// KernelFree returns a frame.
func KernelFree(f Frame) {
	f.words()[0] = uint64(pool.free)
	pool.free = f
	pool.numFree++
}

// AllocDirty takes a frame with undefined contents; 0 means that there is none.
func AllocDirty() Frame { return take() &^ isZero }

// Alloc takes a frame whose contents are zero; 0 means that there is none.
func Alloc() Frame {
	f := take()
	if f&isZero == 0 && f != 0 {
		*f.words() = [512]uint64{}
	}
	return f &^ isZero
}

func take() Frame {
	if cache.n == 0 {
		if call(SysFill, 0); cache.n == 0 {
			return 0
		}
	}
	cache.n--
	return cache.frames[cache.n]
}

// AllocContig takes n frames in a row with undefined contents; 0 means that there is no such run. Each is freed on its own.
func AllocContig(n int) Frame {
	if n <= 0 {
		return 0
	}
	return Frame(call(SysContig, uint64(n)))
}

// Free returns a frame to the pool.
func Free(f Frame) {
	if cache.n == cacheSize {
		call(SysEmpty, 0)
	}
	cache.frames[cache.n] = f
	cache.n++
}

// Stats returns the number of frames under this package's management and how many of them are free.
func Stats() (total, free uint64) {
	return pool.total, (pool.end-pool.next+pool.spare[1]-pool.spare[0])/PageSize + pool.numFree + uint64(cache.n)
}

// KernelGrow gives the pool the zero frames up to end, which follow those of KernelInit.
func KernelGrow(end uint64) {
	end &^= PageSize - 1
	pool.total += (end - pool.end) / PageSize
	pool.end = end
}

// KernelSpare gives the pool a second piece of RAM, the zero frames in [start, end), and counts frames that others have, and
// that may come here by Free, as under its management. After KernelGrow; once.
func KernelSpare(start, end, frames uint64) {
	start = (start + PageSize - 1) &^ (PageSize - 1)
	end &^= PageSize - 1
	pool.total += frames
	if start < end {
		pool.spare[0], pool.spare[1] = start, end
		pool.total += (end - start) / PageSize
	}
}
