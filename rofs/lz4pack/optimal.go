package lz4pack

const (
	optBits = 15
	// nice is a match so long that it is taken without a look at what else there is.
	nice = 64
)

// Optimal compresses so that the block is the shortest that can be made of the matches it finds. Since every distance costs the
// same, the longest match at each position, and what is shorter at the same distance, is all there is to choose from.
//
// The zero value is ready, with Depth set.
type Optimal struct {
	Depth int // how many earlier places with the same start are looked at for each position

	head  [1 << optBits]int32   // by hash of 6 bytes: last position + 1
	near  [1 << nearBits]int32  // by hash of 4 bytes: last position + 1
	prev  [maxOffset + 1]uint16 // by position, modulo: distance of the one before with the same hash of 6 bytes, 0 if it is far
	match [segment + 1]match    // by position in the segment: the longest
	cost  [segment + 1]int32    // by position: bytes of the block from there to the end of the segment
	run   [segment + 1]int32    // by position: literals there before the next match

	best, from int // the match at hand, which each step shortens
}

type match struct{ length, offset int32 }

// segment is how much is chosen from at a time. What is best hardly depends on what is farther away, and this fits into a cache.
const segment = 8 << 10

const nearBits = 16

// Compress compresses src to dst and returns the length of that, 0 where it would be more than dst has. src has at most 1 GiB.
func (o *Optimal) Compress(dst, src []byte) int {
	clear(o.head[:])
	clear(o.near[:])
	o.best = 0
	d, anchor, i := 0, 0, 0
	for lo := 0; lo < len(src); lo += segment {
		hi := min(lo+segment, len(src))
		o.find(src, lo, hi)
		if i >= hi {
			continue
		}
		o.choose(i-lo, hi-lo)
		for i < hi {
			m := o.match[i-lo]
			if m.length == 0 {
				i++
				continue
			}
			if d = emit(dst, d, src[anchor:i], int(m.offset), int(m.length)); d < 0 {
				return 0
			}
			i += int(m.length)
			anchor = i
		}
	}
	return max(emit(dst, d, src[anchor:], 0, 0), 0)
}

// find fills in match for the segment from lo to hi.
func (o *Optimal) find(src []byte, lo, hi int) {
	match := o.match[:hi-lo]
	clear(match)
	end := len(src) - lastBytes
	best, from := o.best, o.from
	for i := lo; i < min(hi, len(src)-lastStart); i++ {
		v := load64(src, i)
		head := &o.head[v<<16*227718039650203>>(64-optBits)]
		p := int(*head) - 1
		*head = int32(i + 1)
		step := uint16(0)
		if p >= 0 && i-p <= maxOffset {
			step = uint16(i - p)
		}
		o.prev[i&maxOffset] = step
		near := &o.near[uint32(v)*2654435761>>(32-nearBits)]
		q := int(*near) - 1
		*near = int32(i + 1)
		if best--; best < minMatch {
			best, from = minMatch-1, 0
		}
		if best < nice {
			if q >= 0 && i-q <= maxOffset && load32(src, q) == uint32(v) {
				if l := minMatch + common(src, q+minMatch, i+minMatch, end); l > best {
					best, from = l, i-q
				}
			}
			// Only what goes on longer than the best is of use: that is where to look first.
			for k, p := o.Depth, i-int(step); step != 0 && k > 0 && i+best < end; k-- {
				if i-p > maxOffset {
					break
				}
				if p != q && load32(src, p+best-3) == load32(src, i+best-3) && load32(src, p) == uint32(v) {
					if l := minMatch + common(src, p+minMatch, i+minMatch, end); l > best {
						if best, from = l, i-p; l >= nice {
							break
						}
					}
				}
				step = o.prev[p&maxOffset]
				p -= int(step)
			}
		}
		if best >= minMatch {
			match[i-lo].length, match[i-lo].offset = int32(best), int32(from)
		}
	}
	o.best, o.from = best, from
}

// choose shortens and drops matches of a segment from position lo to hi so that it becomes shortest.
func (o *Optimal) choose(lo, hi int) {
	cost, run, match := o.cost[:hi+1], o.run[:hi+1], o.match[:hi+1]
	cost[hi], run[hi] = 0, 0
	for i := hi - 1; i >= lo; i-- {
		r := run[i+1] + 1
		least := cost[i+1] + 1
		if r >= 15 && (r-15)%255 == 0 {
			least++ // the length needs one more byte
		}
		m := &match[i]
		length := int32(0)
		if top := m.length; top > 0 {
			c := cost[min(i+int(top), hi)] + 3
			if top >= minMatch+15 {
				c += (top-minMatch-15)/255 + 1
			}
			if c <= least {
				least, length = c, top
			}
			// Of a very long one, whether a little less would do better does not matter, nor in a short one much less.
			if top < nice {
				for l := top - 1; l >= max(minMatch, top-shorter); l-- {
					c := cost[min(i+int(l), hi)] + 3
					if l >= minMatch+15 {
						c++
					}
					if c < least {
						least, length = c, l
					}
				}
			}
		}
		cost[i], m.length = least, length
		if run[i] = 0; length == 0 {
			run[i] = r
		}
	}
}

const shorter = 8
