package lz4pack

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

const fastBits = 14

// Fast compresses fast. The zero value is ready.
type Fast struct {
	// Min is the length that matches must have, if it is more than the format's 4. Fewer matches take longer to write and less long
	// to read.
	Min int

	// table has the last position of each hash, modulo 65536: what it yields is never too far away for a match, and the table leaves
	// room for the data in a cache of 48 KiB.
	table [1 << fastBits]uint16
}

func hash5(v uint64) uint64 { return v << 24 * 889523592379 >> (64 - fastBits) }

// Compress compresses src to dst and returns the length of that, 0 where it would be more than dst has. src has at most 1 GiB.
func (f *Fast) Compress(dst, src []byte) int {
	clear(f.table[:])
	table, p := &f.table, unsafe.Pointer(unsafe.SliceData(src))
	d, anchor := 0, 0
	end := len(src) - lastBytes
	limit := len(src) - lastStart - 1 // matches are looked for at i < limit and at i + 1
	for i := 1; i < limit; {
		// Two positions a step; steps grow where nothing is found. What the table has is a guess, be it of another hash or 65536
		// away from what was put there: the bytes decide. Before position 65536 an empty place says 0, so no guess is before that.
		var at int // distance
		for step := 2 << 6; ; step++ {
			v := get64(p, i)
			e := &table[hash5(v)]
			at = int(uint16(i) - *e)
			*e = uint16(i)
			e = &table[hash5(v>>8)]
			next := int(uint16(i+1) - *e)
			*e = uint16(i + 1)
			if get32(p, i-at) == uint32(v) && at != 0 {
				break
			}
			if get32(p, i+1-next) == uint32(v>>8) && next != 0 {
				i, at = i+1, next
				break
			}
			i += step >> 6
			if i >= limit {
				return max(emit(dst, d, src[anchor:], 0, 0), 0)
			}
		}
		// How far it goes on, and how far back it began: 8 bytes at once, since that is as a rule all.
		pos, n := i-at, minMatch
		if i+minMatch+8 > end {
			n += common(src, pos+minMatch, i+minMatch, end)
		} else if x := get64(p, pos+minMatch) ^ get64(p, i+minMatch); x != 0 {
			n += bits.TrailingZeros64(x) >> 3
		} else {
			n += 8 + common(src, pos+minMatch+8, i+minMatch+8, end)
		}
		if pos >= 8 {
			back := min(bits.LeadingZeros64(get64(p, i-8)^get64(p, pos-8))>>3, i-anchor)
			i, n = i-back, n+back
		}
		if n < f.Min {
			i += n
			continue
		}
		if l := i - anchor; l < 15 && n < minMatch+15 && d+20 <= len(dst) && anchor+16 <= len(src) {
			out := (*[20]byte)(dst[d:])
			out[0] = byte(l<<4 | (n - minMatch))
			*(*[16]byte)(out[1:]) = *(*[16]byte)(unsafe.Add(p, anchor))
			binary.LittleEndian.PutUint16(out[(1+l)&15:], uint16(at))
			d += 3 + l
		} else if d = emit(dst, d, src[anchor:i], at, n); d < 0 {
			return 0
		}
		i += n
		anchor = i
		if i < limit {
			table[hash5(get64(p, i-2))] = uint16(i - 2)
		}
	}
	return max(emit(dst, d, src[anchor:], 0, 0), 0)
}
