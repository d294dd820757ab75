package lz4pack

import (
	"encoding/binary"
	"math/bits"
)

// Optimal compresses so that the block is the shortest that can be made of the matches it finds. Since every distance costs the
// same, the longest match at each position, and what is shorter at the same distance, is all there is to choose from.
//
// The zero value is ready.
type Optimal struct {
	Depth int // how many earlier places with the same start are looked at, besides the last two, where a longer match may be

	near  [1 << hashBits]uint16 // by hash of 4 bytes: the last position, modulo
	head  [1 << hashBits]uint16 // by hash of seed bytes: the last position, modulo
	prev  [maxOffset + 1]uint16 // by position, modulo: distance of the one before in head
	match [segment]uint32       // by position in the segment: the longest match's length << 16 | distance
	cost  [segment + 1]uint16   // by position: bytes of the block from there to the end of the segment
	run   [segment + 1]uint16   // by position: literals there before the next match

	end, from int // the match at hand: where it ends, its distance
}

const (
	hashBits = 16
	seed     = 6         // bytes that the places have in common which are looked at one after the other
	back     = 32        // so much farther to the front a match is followed that was found where the one before it ends
	longest  = 1<<16 - 1 // match that is noted; what is longer becomes several
	none     = 1 << 16   // no match: of length 1, which is never worth while
	// segment is how much is chosen from at a time. What is best hardly depends on what is farther away, and this fits into a cache.
	segment = 8 << 10
)

// Compress compresses src to dst and returns the length of that, 0 where it would be more than dst has. src has at most 1 GiB.
func (o *Optimal) Compress(dst, src []byte) int {
	src = src[:len(src):len(src)]
	clear(o.near[:])
	clear(o.head[:])
	o.end = 0
	d, anchor, i := 0, 0, 0
	for lo := 0; lo < len(src); lo += segment {
		hi := min(lo+segment, len(src))
		last := max(min(hi, len(src)-lastStart), lo)
		o.insert(src, lo, last)
		o.find(src, lo, last)
		if i = max(i, lo); i >= last {
			continue
		}
		o.choose(i-lo, last-lo)
		for {
			i += int(o.run[i-lo])
			if i >= last {
				break
			}
			m := o.match[i-lo]
			l, n, off := i-anchor, int(m>>16), m&maxOffset
			if l < 15 && n < minMatch+15 && d+20 <= len(dst) && anchor+16 <= len(src) {
				out := dst[d : d+20]
				out[0] = byte(l<<4 | (n - minMatch))
				binary.LittleEndian.PutUint64(out[1:], load64(src, anchor))
				if l > 8 {
					binary.LittleEndian.PutUint64(out[9:], load64(src, anchor+8))
				}
				binary.LittleEndian.PutUint16(out[1+l:], uint16(off))
				d += 3 + l
			} else if d = emit(dst, d, src[anchor:i], int(off), n); d < 0 {
				return 0
			}
			i += n
			anchor = i
			if i >= last {
				break
			}
		}
	}
	return max(emit(dst, d, src[anchor:], 0, 0), 0)
}

// insert fills in prev for the positions from lo to hi, and match with the longer of what begins at the last place with the same 4
// bytes and at the one with the same seed, as far as 7 bytes of it go. There are no branches that depend on the data.
func (o *Optimal) insert(src []byte, lo, hi int) {
	m := o.match[:hi-lo]
	i := uint32(lo)
	for k := range m {
		v := at64(src, i)
		near := &o.near[uint32(v)*2654435761>>(32-hashBits)]
		q := uint32(uint16(i) - *near)
		*near = uint16(i)
		head := &o.head[v<<(64-8*seed)*227718039650203>>(64-hashBits)]
		p := uint32(uint16(i) - *head)
		*head = uint16(i)
		o.prev[uint16(i)] = uint16(p)
		a := uint32(bits.TrailingZeros64(at64(src, i-q)^v|1<<63)) >> 3
		b := uint32(bits.TrailingZeros64(at64(src, i-p)^v|1<<63)) >> 3
		if b > a {
			q = p
		}
		if b > a {
			a = b
		}
		m[k] = a<<16 | q
		i++
	}
}

// at64 is load64 where what i is allows for a single check.
func at64(b []byte, i uint32) uint64 { return binary.LittleEndian.Uint64(b[uint64(i) : uint64(i)+8]) }

// find makes of what insert left in match the longest match at each position of the segment from lo to hi.
func (o *Optimal) find(src []byte, lo, hi int) {
	match := o.match[:hi-lo]
	stop := len(src) - lastBytes
	end, from := o.end, o.from
	for i := lo; i < hi; i++ {
		// Where a match starts that goes on behind the end of the one at hand, it has the seed before that end, or starts later. So
		// the places with that seed are all that need to be looked at, and its start is found from there to the front.
		first := i
		if end-i > seed {
			s := min(end-(seed-1), hi)
			for ; i < s; i++ {
				match[i-lo] = uint32(min(end-i, longest)<<16 | from)
			}
			if i >= hi {
				break
			}
		}
		m := &match[i-lo]
		n, q := int(*m>>16), int(*m&maxOffset)
		best := end - i
		if n < minMatch || q == 0 {
			if best >= minMatch {
				*m = uint32(best<<16 | from)
			} else {
				*m = none
			}
			continue
		}
		best = max(best, minMatch-1)
		old := best
		if n == 7 {
			n += common(src, i-q+7, i+7, stop)
		}
		if n > best {
			best, from = n, q
		}
		if n >= seed {
			far := min(i, maxOffset)
			dist := 0
			for k := o.Depth; k > 0; k-- {
				step := int(o.prev[(i-dist)&maxOffset])
				dist += step
				if step == 0 || dist > far || i+best >= stop {
					break
				}
				p := i - dist
				if load32(src, p+best-3) == load32(src, i+best-3) && load32(src, p) == load32(src, i) {
					if l := minMatch + common(src, p+minMatch, i+minMatch, stop); l > best {
						best, from = l, dist
					}
				}
			}
		}
		end = i + best
		if best >= minMatch {
			*m = uint32(min(best, longest)<<16 | from)
			if best > old {
				for k := i - 1; k >= max(first, i-back, from) && src[k] == src[k-from]; k-- {
					match[k-lo] = uint32(min(end-k, longest)<<16 | from)
				}
			}
		} else {
			*m = none
		}
	}
	o.end, o.from = end, from
}

// choose shortens and drops matches of a segment from position lo to hi so that it becomes shortest.
func (o *Optimal) choose(lo, hi int) {
	cost, run, match := o.cost[:hi+1], o.run[:hi+1], o.match[:hi]
	cost[hi], run[hi] = 0, 0
	r, least := 0, 0
	for i := hi - 1; i >= lo; i-- {
		m := match[i]
		r++
		least++
		if r >= 15 && (r-15)%255 == 0 {
			least++ // the length needs one more byte
		}
		top := int(m >> 16)
		c := int(cost[min(i+top, hi)]) + 3
		if top >= minMatch+15 {
			x := (top - minMatch - 15) / 255
			c += x + 1
			l := minMatch + 14 + x*255
			if d := int(cost[min(i+l, hi)]) + 3 + x; d < c {
				c = d
				match[i] = uint32(l)<<16 | m&maxOffset
			}
		}
		if c <= least {
			r = 0
		}
		if c <= least {
			least = c
		}
		cost[i] = uint16(least)
		run[i] = uint16(r)
	}
}
