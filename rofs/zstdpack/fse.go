package zstdpack

import "math/bits"

const (
	maxLog     = 9  // of the tables of sequences (RFC 8878, 3.1.1.3.2.1): 8 for offsets
	maxSymbols = 53 // codes of match lengths, the most
)

// norm are the probabilities of symbols: how many states of 1<<log each has, -1 for less than one.
type norm struct {
	count [maxSymbols]int16
	n     int // symbols
	log   uint
}

// fit makes probabilities of counts, of which there are total in the n symbols, in 1<<log states: those that cost least.
func (p *norm) fit(counts []uint32, total uint32, log uint) {
	p.n, p.log = len(counts), log
	size := 1 << log
	left := size
	for i, c := range counts {
		k := 0
		if c > 0 {
			k = max(1, int(uint64(c)<<log/uint64(total)))
		}
		p.count[i] = int16(k)
		left -= k
	}
	// What one state more or less is worth: c × log2((k+1) / k).
	for left != 0 {
		best, at := -1, 0
		for i, c := range counts {
			k := int(p.count[i])
			if k == 0 || left < 0 && k == 1 {
				continue
			}
			if left > 0 {
				if v := int(c) * (log2(uint32(k+1)<<12) - log2(uint32(k)<<12)); v > best {
					best, at = v, i
				}
			} else if v := int(c) * (log2(uint32(k)<<12) - log2(uint32(k-1)<<12)); best < 0 || v < best {
				best, at = v, i
			}
		}
		if left > 0 {
			p.count[at]++
			left--
		} else {
			p.count[at]--
			left++
		}
	}
}

// cost returns what symbols that often cost with the probabilities, in units, -1 if one has none.
func (p *norm) cost(counts []uint32) int {
	sum := 0
	for i, c := range counts {
		if c == 0 {
			continue
		}
		if i >= p.n || p.count[i] == 0 {
			return -1
		}
		sum += int(c) * (int(p.log)*one - log2(uint32(max(p.count[i], 1))))
	}
	return sum
}

// write appends the description of the probabilities (RFC 8878, 4.1.1), none of which is -1.
func (p *norm) write(dst []byte) []byte {
	acc, fill := uint64(p.log-5), uint(4)
	left := int32(1)<<p.log + 1 // what is left, and one
	flush := func() {
		for ; fill >= 8; fill -= 8 {
			dst = append(dst, byte(acc))
			acc >>= 8
		}
	}
	for i := 0; i < p.n && left > 1; i++ {
		c := int32(p.count[i])
		width := uint(bits.Len32(uint32(left)))
		low := int32(1)<<width - 1 - left // values below that take a bit less
		v := c + 1
		n := width
		if v < low {
			n--
		} else if v >= 1<<(width-1) {
			v += low
		}
		acc |= uint64(v) << fill
		fill += n
		flush()
		left -= c
		if c != 0 {
			continue
		}
		zeros := 0
		for i+1 < p.n && p.count[i+1] == 0 {
			zeros++
			i++
		}
		for ; zeros >= 3; zeros -= 3 {
			acc |= 3 << fill
			fill += 2
			flush()
		}
		acc |= uint64(zeros) << fill
		fill += 2
		flush()
	}
	if fill > 0 {
		dst = append(dst, byte(acc))
	}
	return dst
}

// fseTable encodes symbols by their probabilities.
type fseTable struct {
	next  [1 << maxLog]uint16
	bits  [maxSymbols]uint32 // with a state added, the upper 16 bits are how many bits it gives off
	start [maxSymbols]int32  // in next, of a symbol's states, less its least state
	log   uint
}

func (t *fseTable) build(p *norm) {
	t.log = p.log
	size := 1 << p.log
	var symbols [1 << maxLog]uint8
	var at [maxSymbols + 1]uint16
	high := size - 1
	total := uint16(0)
	for i, c := range p.count[:p.n] {
		at[i] = total
		if c == -1 {
			symbols[high] = uint8(i)
			high--
			c = 1
		}
		total += uint16(c)
	}
	pos, step, mask := 0, size>>1+size>>3+3, size-1
	for i, c := range p.count[:p.n] {
		for ; c > 0; c-- {
			symbols[pos] = uint8(i)
			for pos = (pos + step) & mask; pos > high; pos = (pos + step) & mask {
			}
		}
	}
	for i, c := range p.count[:p.n] {
		c := int32(max(c, -c))
		if c == 0 {
			continue
		}
		width := p.log
		if c > 1 {
			width -= uint(bits.Len32(uint32(c-1))) - 1
		}
		t.bits[i] = uint32(width)<<16 - uint32(c)<<width
		t.start[i] = int32(at[i]) - c
	}
	for i, s := range symbols[:size] {
		t.next[at[s]] = uint16(size + i)
		at[s]++
	}
}

// first returns the state for the symbol that is read last.
func (t *fseTable) first(symbol uint8) uint32 {
	b := t.bits[symbol]
	n := (b + 1<<15) >> 16
	return uint32(t.next[int32((n<<16-b)>>n)+t.start[symbol]])
}

// encode writes what leads from the state of symbol to state, and returns that of symbol.
func (t *fseTable) encode(w *bitWriter, state uint32, symbol uint8) uint32 {
	n := (state + t.bits[symbol]) >> 16
	w.add(uint64(state&(1<<n-1)), uint(n))
	return uint32(t.next[int32(state>>n)+t.start[symbol]])
}

// finish writes the state of the symbol that is read first.
func (t *fseTable) finish(w *bitWriter, state uint32) {
	w.add(uint64(state&(1<<t.log-1)), t.log)
}
