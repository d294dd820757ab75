package zstdpack

const (
	hashBits  = 17 // of 4 bytes
	shortBits = 15 // of 3 bytes

	// shortReach is how far away a match of 3 bytes is worth while.
	shortReach = 1 << 14
)

// A match is at some position: the longest of those that are no farther away.
type match struct{ length, off uint32 }

// A finder finds matches. It keeps the positions of each hash in a binary tree by what follows there, whose root is the latest.
type finder struct {
	depth int // how many places are compared with each position
	nice  int // a length from which on nothing better is looked for

	root    [1 << hashBits]int32  // by hash: the last position + 1
	short   [1 << shortBits]int32 // the same
	tree    [][2]int32            // by position: below, and above, position + 1
	next    int                   // the first position that is not in the trees
	matches []match               // of a block, by position and ever longer
	ends    []uint32              // by position in the block: where in matches its own end
}

func (f *finder) reset(src []byte) {
	clear(f.root[:])
	clear(f.short[:])
	if len(f.tree) < len(src) {
		f.tree = make([][2]int32, len(src))
	}
	f.next = 0
}

func hash4(v uint32) uint32 { return v * 2654435761 >> (32 - hashBits) }
func hash3(v uint32) uint32 { return v << 8 * 506832829 >> (32 - shortBits) }

// find fills in matches for src[lo:hi]; none goes beyond that.
func (f *finder) find(src []byte, lo, hi int) {
	f.matches = f.matches[:0]
	if len(f.ends) < hi-lo {
		f.ends = make([]uint32, hi-lo)
	}
	ends := f.ends[:hi-lo]
	skip := lo // no matches are wanted of positions before that
	for i := lo; i < hi; i++ {
		if i >= skip && hi-i >= 4 {
			for f.next < i {
				f.insert(src, f.next, 0)
			}
			before := len(f.matches)
			f.insert(src, i, hi)
			if n := len(f.matches); n > before && int(f.matches[n-1].length) >= f.nice {
				skip = i + int(f.matches[n-1].length)
			}
		}
		ends[i-lo] = uint32(len(f.matches))
	}
}

// insert puts position i into its tree, and appends its matches up to hi if that is beyond.
func (f *finder) insert(src []byte, i, hi int) {
	want, end := hi > i, len(src)
	v := load32(src, i)
	root := &f.root[hash4(v)]
	p := int(*root) - 1
	*root = int32(i + 1)
	best := minMatch
	if want {
		s := &f.short[hash3(v)]
		q := int(*s) - 1
		*s = int32(i + 1)
		if q >= 0 && i-q < shortReach && load32(src, q)<<8 == v<<8 {
			best = common(src, q, i, hi)
			f.matches = append(f.matches, match{uint32(best), uint32(i - q)})
		}
	}
	tree := f.tree
	below, above := &tree[i][0], &tree[i][1] // where the next position goes that is less, or more, than i
	lessLen, moreLen := 0, 0                 // what all positions that may follow have in common with i
	reach := i + 9                           // up to where i only repeats what a match repeats
	for k := f.depth; k > 0 && p >= 0; k-- {
		n := min(lessLen, moreLen)
		n += common(src, p+n, i+n, end)
		if n > best {
			best = n
			if n > reach-p {
				reach = p + n
			}
			if want {
				f.matches = append(f.matches, match{uint32(min(n, hi-i)), uint32(i - p)})
			}
		}
		if i+n >= end || n >= maxFind {
			break // which is more cannot be told: i takes no part of what is below
		}
		node := &tree[p]
		if src[p+n] < src[i+n] {
			*below = int32(p + 1)
			below, lessLen = &node[1], n
			p = int(node[1]) - 1
		} else {
			*above = int32(p + 1)
			above, moreLen = &node[0], n
			p = int(node[0]) - 1
		}
	}
	*below, *above = 0, 0
	f.next = max(i+1, reach-8)
}

// maxFind is a length from which on it does not matter what is longer.
const maxFind = 1 << 12
