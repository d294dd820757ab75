package zstdpack

import (
	"math/bits"
	"slices"
)

// A seq is a sequence: literals, and a match behind them.
type seq struct {
	lit, match uint32
	off        uint32 // distance of the match
}

// The three values of a sequence, in their order in the format.
const (
	litLengths = iota
	offsets
	matchLengths
)

// RFC 8878, 3.1.1.3.2.1 and 3.1.1.3.2.2: the largest tables, the default probabilities and their tables, and how many bits are added
// to the value of a code.
var (
	largestLog = [3]uint{9, 8, 9}
	defaults   = [3]norm{
		{n: 36, log: 6, count: [maxSymbols]int16{4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1,
			-1, -1, -1, -1}},
		{n: 29, log: 5, count: [maxSymbols]int16{1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1}},
		{n: 53, log: 6, count: [maxSymbols]int16{1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
			1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1}},
	}
	litBits   = [36]uint8{16: 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	matchBits = [maxSymbols]uint8{32: 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

	litCodes   = codes[[64]uint8](litBits[:])
	matchCodes = codes[[128]uint8](matchBits[:])

	defaultTables = func() (t [3]fseTable) {
		for i := range t {
			t[i].build(&defaults[i])
		}
		return t
	}()
)

// codes lists the codes of the lowest values.
func codes[T [64]uint8 | [128]uint8](extra []uint8) (t T) {
	at := 0
	for code, n := range extra {
		for range 1 << n {
			if at == len(t) {
				return t
			}
			t[at] = uint8(code)
			at++
		}
	}
	return t
}

func litCode(n uint32) uint8 {
	if n < 64 {
		return litCodes[n]
	}
	return uint8(bits.Len32(n) + 18)
}

func matchCode(n uint32) uint8 {
	if n -= minMatch; n < 128 {
		return matchCodes[n]
	}
	return uint8(bits.Len32(n) + 35)
}

// recent are the last three offsets, newest first.
type recent [3]uint32

// value returns the value that stands for an offset after so many literals (RFC 8878, 3.1.1.5), and takes note of the offset.
func (r *recent) value(off, lit uint32) uint32 {
	switch {
	case off == r[0] && lit > 0:
		return 1
	case off == r[1]:
		r[0], r[1] = off, r[0]
		if lit == 0 {
			return 1
		}
		return 2
	case off == r[2]:
		r[0], r[1], r[2] = off, r[0], r[1]
		if lit == 0 {
			return 2
		}
		return 3
	case lit == 0 && off == r[0]-1:
		r[0], r[1], r[2] = off, r[0], r[1]
		return 3
	}
	r[0], r[1], r[2] = off, r[0], r[1]
	return off + 3
}

// coded are sequences as the format has them.
type coded struct {
	code   [3][]uint8
	offset []uint32 // its value
	last   recent   // offsets behind those that were encoded last
}

// encode makes codes of the sequences from and to, with the offsets before them, and counts them.
func (e *Encoder) encode(from, to int, last recent) (count counts) {
	if need := to - len(e.codes.offset); need > 0 {
		e.codes.offset = slices.Grow(e.codes.offset, need)[:to]
		for k := range e.codes.code {
			e.codes.code[k] = slices.Grow(e.codes.code[k], need)[:to]
		}
	}
	for i := from; i < to; i++ {
		s := &e.seqs[i]
		value := last.value(s.off, s.lit)
		ll, of, ml := litCode(s.lit), offsetCode(value), matchCode(s.match)
		e.codes.offset[i] = value
		e.codes.code[litLengths][i], e.codes.code[offsets][i], e.codes.code[matchLengths][i] = ll, of, ml
		count[litLengths][ll]++
		count[offsets][of]++
		count[matchLengths][ml]++
	}
	e.codes.last = last
	return count
}

// counts are how often each code occurs.
type counts [3][maxSymbols]uint32

// How a table is told (RFC 8878, 3.1.1.3.2.1).
const (
	modeDefault = iota
	modeRLE
	modeNew
	modeRepeat
)

// seqTables are the tables of a block, and of the one before.
type seqTables struct {
	table, next [3]fseTable
	norm, fresh [3]norm
	modes       [3]int  // of the block at hand
	valid       [3]bool // table and norm can be repeated
}

// choose finds the cheapest way to tell each table for the counts of n sequences. It appends what tells them to dst; the last
// description of a table starts at out[last], if last is not negative.
func (t *seqTables) choose(dst []byte, count *counts, n int) (out []byte, last int, use [3]*fseTable) {
	modes := &t.modes
	last = -1
	at := len(dst)
	dst = append(dst, 0)
	for k := range count {
		c := count[k][:]
		for len(c) > 1 && c[len(c)-1] == 0 {
			c = c[:len(c)-1]
		}
		most := len(c) - 1 // the largest code
		best := -1
		if v := defaults[k].cost(c); v >= 0 {
			best, modes[k], use[k] = v, modeDefault, &defaultTables[k]
		}
		if int(c[most]) == n {
			if best < 0 || best > 8*one {
				modes[k], use[k] = modeRLE, nil
				dst = append(dst, byte(most))
			}
			continue
		}
		if t.valid[k] {
			if v := t.norm[k].cost(c); v >= 0 && (best < 0 || v < best) {
				best, modes[k], use[k] = v, modeRepeat, &t.table[k]
			}
		}
		// A smaller table is told in less, a larger one fits better.
		low := uint(max(5, bits.Len(uint(most))))
		high := min(largestLog[k], max(low, uint(bits.Len(uint(n)))))
		var room [128]byte
		var told []byte
		for log := high; log >= low && log+2 >= high; log-- {
			var p norm
			p.fit(c, uint32(n), log)
			var try [128]byte
			out := p.write(try[:0])
			if v := p.cost(c) + 8*one*len(out); best < 0 || v < best {
				best, modes[k], use[k] = v, modeNew, &t.next[k]
				t.fresh[k] = p
				told = append(room[:0], out...)
			}
		}
		if modes[k] == modeNew {
			last = len(dst)
			dst = append(dst, told...)
			t.next[k].build(&t.fresh[k])
		}
	}
	dst[at] = byte(modes[litLengths]<<6 | modes[offsets]<<4 | modes[matchLengths]<<2)
	return dst, last, use
}

// keep takes note of what a block that was written told.
func (t *seqTables) keep() {
	for k, mode := range t.modes {
		if mode == modeNew {
			t.table[k], t.norm[k] = t.next[k], t.fresh[k]
		}
		t.valid[k] = mode == modeNew || mode == modeRepeat
	}
}

// write writes the sequences from and to of list at buf[pos], in front of limit, and returns where they end, or -1.
func (c *coded) write(buf []byte, pos, limit int, list []seq, from, to int, use *[3]*fseTable) int {
	w := bitWriter{buf: buf, pos: pos}
	var state [3]uint32
	for i := to - 1; i >= from; i-- {
		ll, of, ml := c.code[litLengths][i], c.code[offsets][i], c.code[matchLengths][i]
		if i == to-1 {
			for k, code := range [3]uint8{ll, of, ml} {
				if use[k] != nil {
					state[k] = use[k].first(code)
				}
			}
		} else {
			if use[offsets] != nil {
				state[offsets] = use[offsets].encode(&w, state[offsets], of)
			}
			if use[matchLengths] != nil {
				state[matchLengths] = use[matchLengths].encode(&w, state[matchLengths], ml)
			}
			if use[litLengths] != nil {
				state[litLengths] = use[litLengths].encode(&w, state[litLengths], ll)
			}
		}
		s := &list[i]
		w.add(uint64(s.lit-litBase[ll]), uint(litBits[ll]))
		w.flush()
		w.add(uint64(s.match-matchBase[ml]), uint(matchBits[ml]))
		w.add(uint64(c.offset[i]&(1<<of-1)), uint(of))
		w.flush()
		if w.pos > limit {
			return -1
		}
	}
	for _, k := range [3]int{matchLengths, offsets, litLengths} {
		if use[k] != nil {
			use[k].finish(&w, state[k])
		}
	}
	return w.end()
}

var (
	litBase = func() (t [36]uint32) {
		for i := 1; i < len(t); i++ {
			t[i] = t[i-1] + 1<<litBits[i-1]
		}
		return t
	}()
	matchBase = func() (t [maxSymbols]uint32) {
		t[0] = minMatch
		for i := 1; i < len(t); i++ {
			t[i] = t[i-1] + 1<<matchBits[i-1]
		}
		return t
	}()
)

// offsetCode returns the code of an offset's value.
func offsetCode(value uint32) uint8 { return uint8(bits.Len32(value) - 1) }
