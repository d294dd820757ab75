package zstdpack

import (
	"encoding/binary"
	"math/bits"
)

// A bitWriter writes a stream that is read from its end to its start (RFC 8878, 4.1): what is written last is read first.
type bitWriter struct {
	buf  []byte
	pos  int
	acc  uint64
	fill uint // bits of acc that are in use
}

// slack is how much room behind its data a bitWriter may need.
const slack = 16

// add appends the lowest n bits of v, which has no others.
func (w *bitWriter) add(v uint64, n uint) {
	w.acc |= v << (w.fill & 63)
	w.fill += n
}

// flush stores whole bytes, so that at least 56 bits can be added.
func (w *bitWriter) flush() {
	binary.LittleEndian.PutUint64(w.buf[w.pos:], w.acc)
	w.pos += int(w.fill >> 3)
	w.acc >>= w.fill &^ 7 & 63
	w.fill &= 7
}

// end completes the stream with the bit that marks its end, and returns where it ends.
func (w *bitWriter) end() int {
	w.flush()
	w.add(1, 1)
	w.flush()
	if w.fill > 0 {
		w.pos++
	}
	return w.pos
}

// one is a bit in the unit that costs are counted in.
const one = 256

// logs has the binary logarithm of 1 + i/256, in units.
var logs = func() (t [256]uint8) {
	for i := range t {
		x := uint64(256+i) << 22 // 1 is 1<<30
		for bit := 7; bit >= -1; bit-- {
			if x = x * x >> 30; x < 2<<30 {
				continue
			}
			x >>= 1
			if bit >= 0 {
				t[i] += 1 << bit
			} else if t[i] < 255 {
				t[i]++ // rounded
			}
		}
	}
	return t
}()

// log2 returns the binary logarithm of x > 0, in units.
func log2(x uint32) int {
	n := bits.Len32(x) - 1
	return n<<8 + int(logs[uint64(x)<<8>>n&255])
}

func load32(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i:]) }
func load64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }

// common returns how many bytes at a and b > a are equal, up to end, which has slack bytes behind it.
func common(src []byte, a, b, end int) int {
	from := b
	for b < end {
		if x := load64(src, a) ^ load64(src, b); x != 0 {
			return min(b-from+bits.TrailingZeros64(x)>>3, end-from)
		}
		a, b = a+8, b+8
	}
	return end - from
}
