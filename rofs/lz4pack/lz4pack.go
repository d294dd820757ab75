// Package lz4pack makes LZ4 blocks. Fast looks for matches in one pass; Optimal finds, of the matches that it sees, those that make
// the shortest block. Both make the same bytes of the same input, whatever came before, and neither allocates more than once.
//
// The format is https://github.com/lz4/lz4/blob/v1.10.0/doc/lz4_Block_format.md.
package lz4pack

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

const (
	minMatch  = 4
	lastBytes = 5  // that are literals in any case
	lastStart = 12 // no match begins later than so many bytes before the end
	maxOffset = 1<<16 - 1
)

func load64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }

// get64 and get32 load from p + i without a check of bounds, which would take a third of the time of Fast.
func get64(p unsafe.Pointer, i int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(p, i))[:])
}

func get32(p unsafe.Pointer, i int) uint32 {
	return binary.LittleEndian.Uint32((*[4]byte)(unsafe.Add(p, i))[:])
}

// common returns how many bytes at a and b > a are equal, up to end, before which both lie.
func common(src []byte, a, b, end int) int {
	from, p := b, unsafe.Pointer(unsafe.SliceData(src[:end]))
	for b+8 <= end {
		if x := get64(p, a) ^ get64(p, b); x != 0 {
			return b - from + bits.TrailingZeros64(x)>>3
		}
		a, b = a+8, b+8
	}
	for b < end && src[a] == src[b] {
		a, b = a+1, b+1
	}
	return b - from
}

// emit appends a sequence: literals, and a match unless that has no length. It returns -1 where dst has no room.
func emit(dst []byte, d int, literals []byte, offset, length int) int {
	n := len(literals)
	if d+1+n+n/255+1+2+length/255+1 > len(dst) && !fits(len(dst)-d, n, length) {
		return -1
	}
	token := &dst[d]
	d++
	if n < 15 {
		*token = byte(n) << 4
	} else {
		*token = 15 << 4
		d = extend(dst, d, n-15)
	}
	d += copy(dst[d:], literals)
	if length == 0 {
		return d
	}
	dst[d], dst[d+1] = byte(offset), byte(offset>>8)
	d += 2
	if length -= minMatch; length < 15 {
		*token |= byte(length)
		return d
	}
	*token |= 15
	return extend(dst, d, length-15)
}

// fits says whether room is enough for a sequence.
func fits(room, literals, length int) bool {
	n := 1 + literals
	if literals >= 15 {
		n += (literals-15)/255 + 1
	}
	if length > 0 {
		n += 2
		if length -= minMatch; length >= 15 {
			n += (length-15)/255 + 1
		}
	}
	return n <= room
}

func extend(dst []byte, d, n int) int {
	for ; n >= 255; n -= 255 {
		dst[d] = 255
		d++
	}
	dst[d] = byte(n)
	return d + 1
}
