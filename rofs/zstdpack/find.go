package zstdpack

import "math/bits"

const (
	nearBits  = 16 // of 4 bytes
	shortBits = 15 // of 3 bytes

	// shortReach is how far away a match of 3 bytes is worth while.
	shortReach = 1 << 14

	farBytes = 6 // have the hash by which positions are sorted
)

// A match is at some position: the longest of those that are no farther away.
type match struct{ length, off uint32 }

// A finder finds matches. All positions are sorted by hash beforehand, so that those to compare with lie side by side in memory,
// with the bytes that tell most of them apart: nothing is as slow as to go from one to the other through a table that no cache holds.
type finder struct {
	depth int // how many places are compared with each position
	nice  int // a length from which on nothing better is looked for

	starts []uint32 // by hash: where in places its positions start
	places []uint64 // by hash, ascending: the 5 bytes behind those that are hashed, and in the lowest 24 bits the position
	ranks  []uint32 // by position: its index in places × 256, and how many before it have the same hash, at most 255

	near    [1 << nearBits]int32  // by hash: the last position + 1
	short   [1 << shortBits]int32 // the same
	matches []match               // of a block, by position and ever longer
	ends    []uint32              // by position in the block: where in matches its own end
}

func hash3(v uint32) uint32 { return v << 8 * 506832829 >> (32 - shortBits) }
func hash4(v uint32) uint32 { return v * 2654435761 >> (32 - nearBits) }

// index prepares for the first size bytes of src, which has slack behind them.
func (f *finder) index(src []byte, size int) {
	clear(f.short[:])
	clear(f.near[:])
	log := max(8, bits.Len(uint(size))-1)
	if len(f.ranks) < size {
		f.places, f.ranks = make([]uint64, size), make([]uint32, size)
	}
	if len(f.starts) <= 1<<log {
		f.starts = make([]uint32, 1<<log+1)
	}
	starts := f.starts[:1<<log+1]
	clear(starts)
	hash := func(v uint64) uint64 { return v << (64 - 8*farBytes) * 227718039650203 >> (64 - log) }
	for i := range size {
		starts[hash(load64(src, i))+1]++
	}
	sum := uint32(0)
	for i, k := range starts {
		sum += k
		starts[i] = sum
	}
	ranks, places := f.ranks[:size], f.places[:size]
	for i := range ranks {
		at := &starts[hash(load64(src, i))]
		places[*at] = load64(src, i+farBytes)<<24 | uint64(i)
		ranks[i] = *at << 8
		*at++
	}
	// By now each start has moved to its end.
	for i := range ranks {
		r := ranks[i] >> 8
		start := uint32(0)
		if h := hash(load64(src, i)); h > 0 {
			start = starts[h-1]
		}
		ranks[i] |= min(r-start, 255)
	}
}

// find fills in matches for src[lo:hi]; none goes beyond that.
func (f *finder) find(src []byte, lo, hi int) {
	f.matches = f.matches[:0]
	if len(f.ends) < hi-lo {
		f.ends = make([]uint32, hi-lo)
	}
	ends := f.ends[:hi-lo]
	skip := lo // no matches are wanted of positions before that
	for i := lo; i < hi; i++ {
		if hi-i >= 4 {
			v := load32(src, i)
			short, near := &f.short[hash3(v)], &f.near[hash4(v)]
			p, q := int(*short)-1, int(*near)-1
			*short, *near = int32(i+1), int32(i+1)
			if i >= skip {
				best := minMatch - 1
				if p >= 0 && i-p < shortReach && load32(src, p)<<8 == v<<8 {
					best = common(src, p, i, hi)
					f.matches = append(f.matches, match{uint32(best), uint32(i - p)})
				}
				if q >= 0 && load32(src, q) == v {
					if n := common(src, q, i, hi); n > best {
						best = n
						f.matches = append(f.matches, match{uint32(best), uint32(i - q)})
					}
				}
				if best = f.far(src, i, hi, best); best >= f.nice {
					skip = i + best
				}
			}
		}
		ends[i-lo] = uint32(len(f.matches))
	}
}

// far appends matches of i that are longer than best, up to hi, and returns the longest length.
func (f *finder) far(src []byte, i, hi, best int) int {
	rank := f.ranks[i]
	n := min(int(rank&255), f.depth)
	places := f.places[int(rank>>8)-n:][:n]
	v := load64(src, i+farBytes) << 24
	tell := telling(best)
	for k := len(places) - 1; k >= 0; k-- {
		e := places[k]
		if (e^v)&tell != 0 {
			continue
		}
		p := int(e & (1<<24 - 1))
		if src[p+best] != src[i+best] {
			continue
		}
		if n := common(src, p, i, hi); n > best {
			best = n
			f.matches = append(f.matches, match{uint32(n), uint32(i - p)})
			if n >= f.nice || i+n >= hi {
				break
			}
			tell = telling(best)
		}
	}
	return best
}

// telling returns the bits of a place that it has in common with another where a match is longer than best.
func telling(best int) uint64 { return (1<<(8*min(max(best+1-farBytes, 0), 5)) - 1) << 24 }
