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
	// Depth is at how many earlier places with the same start is looked where a longer match may be. It looks at two in any case.
	Depth int

	near  [1 << nearBits]uint16 // by hash of 4 bytes: the last position, modulo
	head  [1 << headBits]uint16 // by hash of seed bytes: the last position, modulo
	prev  [maxOffset + 1]uint16 // by position, modulo: distance of the one before in head
	first [segment]uint32       // by position in the segment: length << 16 | distance of the longer of the two first candidates
	// By position in the segment, what is best from there to its end: bytes of the block << 16 | literals before the next match << 1 |
	// 1 if that is cut short.
	plan [segment + 1]uint32

	reach  [segment + 1]reach // of the segment, by start and by end
	nreach int
}

// reach is a match that is the longest at each position from start on, up to the start of the next one, or as far as it has the
// length of a match.
type reach struct{ start, end, from int32 }

const (
	nearBits = 16
	headBits = 17
	seed     = 6  // bytes that the places have in common which are looked at one after the other
	back     = 32 // so much farther to the front a match is followed that was found where the one before it ends
	// segment is how much is chosen from at a time. What is best hardly depends on what is farther away, and this fits into a cache.
	segment = 8 << 10
)

// Compress compresses src to dst and returns the length of that, 0 where it would be more than dst has. src has at most 1 GiB.
func (o *Optimal) Compress(dst, src []byte) int {
	src = src[:len(src):len(src)]
	clear(o.near[:])
	clear(o.head[:])
	o.nreach = 0
	d, anchor, i := 0, 0, 0
	for lo := 0; lo < len(src); lo += segment {
		hi := min(lo+segment, len(src)-lastStart)
		if hi <= lo {
			break
		}
		o.insert(src, lo, hi)
		o.find(src, lo, hi)
		if i = max(i, lo); i >= hi {
			continue
		}
		o.choose(i, lo, hi)
		for k := 0; ; {
			i += int(uint16(o.plan[i-lo]) >> 1)
			if i >= hi {
				break
			}
			for k+1 < o.nreach && int(o.reach[k+1].start) <= i {
				k++
			}
			m := &o.reach[k]
			l, n := i-anchor, int(m.end)-i
			if o.plan[i-lo]&1 != 0 {
				n = shortened(n)
			}
			if l < 15 && n < minMatch+15 && d+20 <= len(dst) && anchor+16 <= len(src) {
				out := dst[d : d+20]
				out[0] = byte(l<<4 | (n - minMatch))
				binary.LittleEndian.PutUint64(out[1:], load64(src, anchor))
				if l > 8 {
					binary.LittleEndian.PutUint64(out[9:], load64(src, anchor+8))
				}
				binary.LittleEndian.PutUint16(out[1+l:], uint16(m.from))
				d += 3 + l
			} else if d = emit(dst, d, src[anchor:i], int(m.from), n); d < 0 {
				return 0
			}
			i += n
			anchor = i
			if i >= hi {
				break
			}
		}
	}
	return max(emit(dst, d, src[anchor:], 0, 0), 0)
}

// insert fills in prev for the positions from lo to hi, and first with the longer of what begins at the last place with the same 4
// bytes and at the one with the same seed, as far as 7 bytes of it go. There are no branches that depend on the data.
func (o *Optimal) insert(src []byte, lo, hi int) {
	m := o.first[:hi-lo]
	i := uint32(lo)
	for k := range m {
		v := at64(src, i)
		near := &o.near[uint32(v)*2654435761>>(32-nearBits)]
		q := uint32(uint16(i) - *near)
		*near = uint16(i)
		head := &o.head[v<<(64-8*seed)*227718039650203>>(64-headBits)]
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

// at32 and at64 read at positions whose type makes one check of the bounds do.
func at32(b []byte, i uint32) uint32 { return binary.LittleEndian.Uint32(b[uint64(i) : uint64(i)+4]) }
func at64(b []byte, i uint32) uint64 { return binary.LittleEndian.Uint64(b[uint64(i) : uint64(i)+8]) }

// find fills in reach for the segment from lo to hi, from first and from what is farther away.
func (o *Optimal) find(src []byte, lo, hi int) {
	first := o.first[:hi-lo]
	stop := len(src) - lastBytes
	end, n := 0, 0
	if o.nreach > 0 {
		o.reach[0] = o.reach[o.nreach-1]
		o.reach[0].start = int32(lo)
		end, n = int(o.reach[0].end), 1
	}
	for i := lo; i < hi; i++ {
		// Where a match starts that goes on behind the end of the one at hand, it has the seed before that end, or starts later. So
		// the places with that seed are all that need to be looked at, and its start is found from there to the front.
		if end-i > seed {
			if i = end - (seed - 1); i >= hi {
				break
			}
		}
		best := max(end-i, minMatch-1)
		l, from := int(first[i-lo]>>16), int(first[i-lo]&maxOffset)
		if l <= best && l < seed || from == 0 {
			continue
		}
		if l == 7 {
			l += common(src, i-from+7, i+7, stop)
		}
		if l >= seed && i+max(best, l) < stop {
			far, at := o.longer(src, uint32(i), uint32(max(best, l)), stop)
			if at > 0 {
				l, from = int(far), int(at)
			}
		}
		if l <= best {
			continue
		}
		end = i + l
		start := i
		for start > max(lo, i-back, from) && src[start-1] == src[start-1-from] {
			start--
		}
		for n > 0 && int(o.reach[n-1].start) >= start {
			n--
		}
		o.reach[n] = reach{int32(start), int32(end), int32(from)}
		n++
	}
	o.nreach = n
}

// longer returns the longest match at i that is longer than best, and its distance, 0 if it finds none.
func (o *Optimal) longer(src []byte, i, best uint32, stop int) (length, from uint32) {
	limit := min(i, maxOffset)
	dist := uint32(0)
	start, last := at32(src, i), at32(src, i+best-3)
	for k := o.Depth; k > 0; k-- {
		step := uint32(o.prev[uint16(i-dist)])
		dist += step
		if step == 0 || dist > limit {
			break
		}
		p := i - dist
		// Only what goes on longer than the best is of use: that is where to look first.
		if at32(src, p+best-3) == last && at32(src, p) == start {
			if l := minMatch + uint32(common(src, int(p)+minMatch, int(i)+minMatch, stop)); l > best {
				best, from = l, dist
				if int(i+best) >= stop {
					break
				}
				last = at32(src, i+best-3)
			}
		}
	}
	return best, from
}

// shortened is the length that needs one byte less than n.
func shortened(n int) int { return minMatch + 14 + (n-minMatch-15)/255*255 }

// choose finds out, from position hi back to position i of the segment that begins at lo, what is matches and what is literals in
// the shortest block.
func (o *Optimal) choose(i, lo, hi int) {
	size := hi - lo
	plan := o.plan[:size+1]
	plan[size] = 0
	literals, least := 0, 0
	at := size // all from there on is done
	for k := o.nreach - 1; at > i-lo; k-- {
		var m reach
		start, top := i-lo, i-lo
		if k >= 0 {
			m = o.reach[k]
			start, top = max(start, int(m.start)-lo), int(m.end)-lo-minMatch+1
		}
		for at > max(start, top) {
			at--
			literals++
			least++
			if literals >= 15 && (literals-15)%255 == 0 {
				least++ // the length needs one more byte
			}
			plan[at] = uint32(least<<16 | literals<<1)
		}
		if at <= start {
			continue
		}
		end := int(m.end) - lo
		then := int(plan[min(end, size)]>>16) + 3
		// Close to where a longer match starts that one may be better. Where this one is, it is from there to the front.
		for at > start {
			at--
			literals++
			least++
			if literals >= 15 && (literals-15)%255 == 0 {
				least++
			}
			c := then
			if n := end - at; n >= minMatch+15 {
				c += (n-minMatch-15)/255 + 1
			}
			if c <= least {
				at++
				break
			}
			plan[at] = uint32(least<<16 | literals<<1)
		}
		if at <= start {
			continue
		}
		for at > start {
			low, c := end-(minMatch+14), then // up to low the length takes the same number of bytes
			if n := end - at + 1; n >= minMatch+15 {
				x := (n - minMatch - 15) / 255
				low -= 255 * (x + 1)
				for short := shortened(n); at > max(low, start); at-- {
					c := int(plan[min(at-1+short, size)]>>16) + 3
					if c > then {
						break
					}
					plan[at-1] = uint32((c+x)<<16 | 1)
				}
				c += x + 1
			}
			for low = max(low, start); at > low; at-- {
				plan[at-1] = uint32(c << 16)
			}
		}
		literals, least = 0, int(plan[at]>>16)
	}
}
