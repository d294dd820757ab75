// Package zstdpack makes Zstandard frames (RFC 8878) that are short rather than quickly made: of the matches it finds, it chooses
// those that make the shortest frame, as far as prices can tell. It makes the same bytes of the same input, whatever came before.
//
// A frame has its content's length, a window of just that, and neither dictionary nor check code.
package zstdpack

import (
	"encoding/binary"
)

const (
	magic    = 0xfd2fb528
	minMatch = 3
	maxBlock = 128 << 10 // what a block makes at most (RFC 8878, 3.1.1.2.4)

	// MaxLen is how much can be compressed at once.
	MaxLen = 1 << 20
)

// An Encoder compresses one piece after the other. It serves one call at a time, and keeps 17 bytes for each byte of the largest
// piece that it has compressed, and a few MB.
type Encoder struct {
	finder
	parser

	in     []byte // the content, with slack
	seqs   []seq  // of the block at hand
	codes  coded
	cuts   []int  // where they are divided
	last   recent // offsets before it
	lits   []byte
	out    []byte // the block as it is written
	tables seqTables
	huff   [2]huffman // the one that can be repeated, and room for a new one
	treed  bool       // there is one to repeat
}

// The levels that there are: the numbers are those of zstd, whose lower levels make longer frames much faster.
const (
	MinLevel = 6
	MaxLevel = 22
)

// efforts are what levels take, each up to the next: how many places are compared with each, the length of a match that is taken
// without looking for more, and how often a block is gone through.
var efforts = [...]struct{ level, depth, nice, passes int }{
	{6, 2, 32, 1}, {12, 3, 48, 1}, {19, 4, 64, 1}, {20, 8, 96, 1}, {21, 16, 256, 1}, {22, 255, 1024, 2},
}

// New returns an Encoder of a level, from MinLevel to MaxLevel.
func New(level int) *Encoder {
	e := &Encoder{out: make([]byte, maxBlock+1024)}
	for _, f := range efforts {
		if f.level <= max(level, MinLevel) {
			e.depth, e.nice, e.passes = f.depth, f.nice, f.passes
		}
	}
	return e
}

// Compress compresses src, of at most MaxLen bytes, to dst and returns the length of that, 0 where it would be more than dst has.
func (e *Encoder) Compress(dst, src []byte) int {
	if len(src) > MaxLen {
		return 0
	}
	var head [9]byte
	binary.LittleEndian.PutUint32(head[:], magic)
	n := 0
	switch { // single segment, and how the length is told
	case len(src) < 256:
		head[4], head[5] = 1<<5, byte(len(src))
		n = 6
	case len(src) < 256+1<<16:
		head[4] = 1<<5 | 1<<6
		binary.LittleEndian.PutUint16(head[5:], uint16(len(src)-256))
		n = 7
	default:
		head[4] = 1<<5 | 2<<6
		binary.LittleEndian.PutUint32(head[5:], uint32(len(src)))
		n = 9
	}
	if n+3 > len(dst) {
		return 0
	}
	w := writer{dst: dst, at: copy(dst, head[:n])}
	e.last = recent{1, 4, 8}
	e.treed, e.tables.valid = false, [3]bool{}
	size := len(src)
	e.in = append(append(e.in[:0], src...), make([]byte, slack)...)
	src = e.in
	e.finder.index(src, size)
	for lo := 0; lo < size || lo == 0; lo += maxBlock {
		hi := min(lo+maxBlock, size)
		e.parse(src, lo, hi)
		if !e.blocks(&w, src, lo, hi) {
			return 0
		}
	}
	w.dst[w.head] |= 1 // the last block
	return w.at
}

// writer writes blocks to dst.
type writer struct {
	dst      []byte
	at, head int // the end, and where the last block starts
}

// How a block is told (RFC 8878, 3.1.1.2.2).
const (
	blockRaw = iota
	blockRLE
	blockCompressed
)

func (w *writer) block(kind, size int, content []byte) bool {
	if w.at+3+len(content) > len(w.dst) {
		return false
	}
	w.head = w.at
	v := kind<<1 | size<<3
	w.dst[w.at], w.dst[w.at+1], w.dst[w.at+2] = byte(v), byte(v>>8), byte(v>>16)
	w.at += 3 + copy(w.dst[w.at+3:], content)
	return true
}

// block writes one block, src[lo:hi], of which e.seqs[from:to] are the sequences. It returns false where it has no room.
func (e *Encoder) block(w *writer, src []byte, lo, hi, from, to int) bool {
	in := src[lo:hi]
	if len(in) > 1 && in[0] == in[len(in)-1] && string(in[1:]) == string(in[:len(in)-1]) {
		return w.block(blockRLE, len(in), in[:1])
	}
	n := e.compressed(src, lo, hi, from, to)
	if n <= 0 || n >= len(in) {
		return w.block(blockRaw, len(in), in)
	}
	if to > from {
		e.tables.keep()
		e.last = e.codes.last
	}
	if kind := e.out[0] & 3; kind == litsCompressed {
		e.huff[0], e.treed = e.huff[1], true
	}
	return w.block(blockCompressed, n, e.out[:n])
}

// compressed makes a compressed block in e.out and returns its length, or 0 if it would not be shorter than the content.
func (e *Encoder) compressed(src []byte, lo, hi, from, to int) int {
	limit := hi - lo
	e.lits = e.lits[:0]
	at := lo
	for _, s := range e.seqs[from:to] {
		e.lits = append(e.lits, src[at:at+int(s.lit)]...)
		at += int(s.lit + s.match)
	}
	e.lits = append(e.lits, src[at:hi]...)
	out := e.literals(e.out[:0], limit)
	n := to - from
	if len(out)+4 > limit {
		return 0
	}
	switch {
	case n < 128:
		out = append(out, byte(n))
	case n < 0x7f00:
		out = append(out, byte(n>>8+128), byte(n))
	default:
		out = append(out, 255, byte(n-0x7f00), byte((n-0x7f00)>>8))
	}
	if n == 0 {
		return len(out)
	}
	count := e.encode(from, to, e.last)
	out, last, use := e.tables.choose(out, &count, n)
	if len(out) > limit {
		return 0
	}
	end := e.codes.write(e.out[:cap(e.out)], len(out), limit, e.seqs, from, to, &use)
	// zstd up to 1.3.4 and klauspost's decoder refuse a description with less than 4 bytes to the block's end, valid as it is.
	// zstd's own encoder keeps to that, too.
	if last >= 0 && end-last < 4 {
		return 0
	}
	return end
}

// How literals are told (RFC 8878, 3.1.1.3.1.1).
const (
	litsRaw = iota
	litsRLE
	litsCompressed
	litsTreeless
)

// literals appends the section of e.lits to out, which has room for limit bytes and a bit more.
func (e *Encoder) literals(out []byte, limit int) []byte {
	lits := e.lits
	n := len(lits)
	plain := func(kind int, content []byte) []byte {
		switch {
		case n < 32:
			out = append(out, byte(kind|n<<3))
		case n < 4096:
			out = append(out, byte(kind|1<<2|n<<4), byte(n>>4))
		default:
			out = append(out, byte(kind|3<<2|n<<4), byte(n>>4), byte(n>>12))
		}
		return append(out, content...)
	}
	if n < 2 {
		return plain(litsRaw, lits)
	}
	var counts [256]uint32
	distinct := 0
	for _, c := range lits {
		counts[c]++
	}
	for _, k := range counts {
		if k > 0 {
			distinct++
		}
	}
	if distinct == 1 {
		return plain(litsRLE, lits[:1])
	}
	kind, best := litsRaw, n
	head := 3
	streams := 1
	if n >= 1024 {
		streams = 4
		if head = 4; n >= 1<<14 {
			head = 5
		}
	}
	extra := head + 6*(streams/4) + streams // each ends in a byte of its own
	h := &e.huff[1]
	if e.treed {
		if v := e.huff[0].cost(&counts); v >= 0 && v/8+extra < best {
			kind, best = litsTreeless, v/8+extra
		}
	}
	if h.build(&counts) {
		if v := h.cost(&counts)/8 + extra + h.size; v < best {
			kind, best = litsCompressed, v
		}
	}
	if kind == litsRaw || best+slack > limit {
		return plain(litsRaw, lits)
	}
	if kind == litsTreeless {
		h = &e.huff[0]
	}
	at := len(out)
	pos := at + head
	buf := out[:cap(out)]
	if kind == litsCompressed {
		pos += copy(buf[pos:], h.head[:h.size])
	}
	if streams == 1 {
		pos = h.stream(buf, pos, lits)
	} else {
		table := buf[pos:]
		pos += 6
		part := (n + 3) / 4
		for i := range 4 {
			end := h.stream(buf, pos, lits[i*part:min(n, (i+1)*part)])
			if i < 3 {
				binary.LittleEndian.PutUint16(table[2*i:], uint16(end-pos))
			}
			pos = end
		}
	}
	// The lengths before and after.
	size := uint64(pos - at - head)
	v := uint64(kind) | uint64(n)<<4
	switch head {
	case 3:
		v |= size << 14
	case 4:
		v |= 2<<2 | size<<18
	case 5:
		v |= 3<<2 | size<<22
	}
	for i := range head {
		buf[at+i] = byte(v >> (8 * i))
	}
	return buf[:pos]
}
