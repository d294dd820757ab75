package symbols

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
)

// Seen is code that was executed: 1 to 16 bytes at a run-time address.
type Seen struct {
	Addr uint64
	Code []byte
}

const (
	biasMinMatched = 4       // of fewer than these any may be an accident
	biasProbes     = 512     // at least, of pieces of code that are looked for everywhere; all are compared at the places that they suggest
	biasWork       = 1 << 22 // comparisons that more of them may take
	biasMaxPlaces  = 1 << 16
	biasBest       = 16 // biases that are compared with all that was seen
)

// Bias finds at which bias (run-time minus link-time address, a multiple of align, which is a power of two) an object was mapped
// from code that was seen executed, and how many of seen agree. It is ok only if an overwhelming majority of what was seen where the
// object would then be does, three of four, and no other bias comes near: at most a quarter as many agree with any other. Code that
// differs only by relocations for that bias agrees, and so does what a Linux kernel makes of its calls of ftrace and of its returns.
func Bias(o *Object, seen []Seen, align uint64) (bias uint64, matched int, ok bool) {
	align = max(align, 1)
	code := loadCode(o)
	votes := map[uint64]int{}
	places := uint64(1)
	for _, t := range code {
		places += uint64(len(t.code)) / align
	}
	if places > biasMaxPlaces {
		return 0, 0, false
	}
	for _, p := range longest(seen, max(biasProbes, int(biasWork/places))) {
		for _, t := range code {
			for off := (p.Addr - t.start) % align; off < uint64(len(t.code)); off += align {
				if bytes.HasPrefix(t.code[off:], p.Code) {
					votes[p.Addr-t.start-off]++
				}
			}
		}
	}
	// Compare all that was seen at the few biases that got the most votes.
	biases := slices.SortedFunc(maps.Keys(votes), func(a, b uint64) int {
		if c := cmp.Compare(votes[b], votes[a]); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	second, there := 0, 0
	for _, b := range biases[:min(len(biases), biasBest)] {
		n, all := code.matches(seen, b)
		if n > matched {
			bias, matched, second, there = b, n, matched, all
		} else {
			second = max(second, n)
		}
	}
	return bias, matched, matched >= biasMinMatched && matched*4 >= there*3 && matched >= 4*second
}

// Matches counts what of seen lies within an object at a bias, and how much of that agrees with it, as of Bias.
func Matches(o *Object, seen []Seen, bias uint64) (matched, there int) {
	return loadCode(o).matches(seen, bias)
}

func (c codes) matches(seen []Seen, bias uint64) (matched, there int) {
	for _, s := range seen {
		if c.holds(s.Addr - bias) {
			there++
			if c.agrees(s, bias) {
				matched++
			}
		}
	}
	return matched, there
}

// longest returns the n longest pieces of code, which say most.
func longest(seen []Seen, n int) []Seen {
	s := slices.DeleteFunc(slices.Clone(seen), func(s Seen) bool { return len(s.Code) == 0 })
	slices.SortStableFunc(s, func(a, b Seen) int { return len(b.Code) - len(a.Code) })
	return s[:min(n, len(s))]
}

// codes are an object's executable segments.
type codes []struct {
	start uint64
	code  []byte
}

func loadCode(o *Object) codes {
	text := o.Text()
	c := make(codes, 0, len(text))
	for _, r := range text {
		if b := o.elf.bytesAt(r.Start, min(r.Limit-r.Start, maxKernel)); b != nil {
			c = append(c, struct {
				start uint64
				code  []byte
			}{r.Start, b})
		}
	}
	return c
}

// holds tells whether an address is in one of the segments.
func (c codes) holds(addr uint64) bool {
	for _, t := range c {
		if addr-t.start < uint64(len(t.code)) {
			return true
		}
	}
	return false
}

// agrees tells whether code that was seen is the object's at a bias. A 32-bit or 64-bit word that holds an address is relocated
// by the bias; Linux has words that are relocated by its negative, of per-CPU variables.
func (c codes) agrees(s Seen, bias uint64) bool {
	for _, t := range c {
		off := s.Addr - bias - t.start
		if off >= uint64(len(t.code)) {
			continue
		}
		// What lies behind the segment is not the object's.
		s.Code = s.Code[:min(uint64(len(s.Code)), uint64(len(t.code))-off)]
		for i := 0; i < len(s.Code); {
			if t.code[off+uint64(i)] == s.Code[i] {
				i++
				continue
			}
			next := i + patched(t.code[off+uint64(i):], s.Code[i:])
			for _, size := range []int{4, 8} {
				// A bias is a multiple of a page at least, so the word starts one byte or more before its first byte that differs.
				for start := max(0, i-size+1); start <= i && next <= i; start++ {
					if at := off + uint64(start); at+8 <= uint64(len(t.code)) && relocated(t.code[at:at+8], s.Code[start:], bias, size) {
						next = start + size
					}
				}
			}
			if next <= i {
				return false
			}
			i = next
		}
		return len(s.Code) > 0
	}
	return false
}

// patched returns the length of an instruction that a Linux kernel replaced when it started: calls of __fentry__, by a no-op, and
// jumps to __x86_return_thunk, by a return.
func patched(code, seen []byte) int {
	const size = 5
	for _, p := range []struct {
		opcode byte
		by     string
	}{{0xe8, "\x0f\x1f\x44\x00\x00"}, {0xe9, "\xc3\xcc\xcc\xcc\xcc"}} {
		if n := min(size, len(seen)); code[0] == p.opcode && string(seen[:n]) == p.by[:n] {
			return size
		}
	}
	return 0
}

// relocated tells whether a word of size bytes is what was seen of it, at least as many bytes as there are, after a relocation.
func relocated(word, seen []byte, bias uint64, size int) bool {
	v := binary.LittleEndian.Uint64(word)
	for _, add := range []uint64{bias, -bias} {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], v+add)
		n := min(size, len(seen))
		if bytes.Equal(b[:n], seen[:n]) {
			return true
		}
	}
	return false
}
