// Package mem manages physical pages and address spaces. It is used from ordinary Go and from kernel context alike, so
// nothing in it allocates, holds Go pointers or blocks (see package ring0 for the rules of kernel context).
package mem

import "unsafe"

// PageSize is the size of a page and of a Frame, in bytes.
const PageSize = 4096

// Frame is the physical address of one page; 0 is no frame.
type Frame uint64

// DirectMap is the virtual address at which all of RAM, and the device windows below 4 GiB, are mapped: physical address p
// is at DirectMap + p, writable and never executable.
const DirectMap = 0xffff800000000000

// Bytes returns n bytes of physical memory from f on, through the direct map.
func (f Frame) Bytes(n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(uintptr(DirectMap+uint64(f)))), n)
}
