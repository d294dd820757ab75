// Package zstdblock decodes Zstandard frames (RFC 8878) that need no dictionary into memory of known size. Kernel and host
// share it, so it imports nothing. Whatever the input, it reads only within src and writes only within dst.
package zstdblock

const (
	magic      = 0xfd2fb528
	minWindow  = 1 << 10   // RFC 8878, 3.1.1.1.2
	maxBlock   = 128 << 10 // what a block makes at most, 3.1.1.2.4
	slack      = 16        // what may be read beyond the literals, and is never used
	maxHuffLog = 11        // 4.2.1
	maxSeqLog  = 9         // 3.1.1.3.2.1
)

// A Decoder holds the tables and the literals of a block, about 160 KiB. The zero value is ready; it serves one call at a time.
type Decoder struct {
	rep      [3]uint32    // last offsets, newest first
	seq      [3]*seqTable // tables in use, nil where a block cannot repeat one
	log      [3]uint      // of their sizes
	coded    [3]seqTable  // those that the frame defines
	predef   [3]seqTable  // those that the format defines
	ready    bool         // predef is filled
	generic  bool         // no assembly, for tests
	huffOK   bool         // huff is that of an earlier block
	huff     [1 << maxHuffLog]uint16
	weights  [256]uint8
	norm     [256]int16  // counts of the table that is being built
	next     [256]uint16 // for each symbol of it, what its next state counts
	width    [256]uint8  // and the most bits that takes
	literals [maxBlock + slack]byte
}

// Decode decodes the frame src to the start of dst and returns how many bytes that made, or -1 where src is not one whole
// well-formed frame, needs a dictionary or does not fit into dst. It may write anything to the rest of dst. The two must not
// overlap. The frame's own check code is not looked at: whoever stores frames has one over the stored bytes.
func (z *Decoder) Decode(dst, src []byte) int {
	if len(src) < 6 || le32(src) != magic {
		return -1
	}
	desc := src[4]
	s := 5
	if desc&8 != 0 { // reserved
		return -1
	}
	single := desc&32 != 0
	window := uint64(0)
	if !single {
		base := uint64(1) << (10 + src[s]>>3)
		window = base + base/8*uint64(src[s]&7)
		s++
	}
	dictLen := 1 << (desc & 3) >> 1
	sizeLen := 1 << (desc >> 6)
	if sizeLen == 1 && !single {
		sizeLen = 0
	}
	if len(src)-s < dictLen+sizeLen {
		return -1
	}
	if field(src[s:s+dictLen]) != 0 {
		return -1
	}
	s += dictLen
	size := field(src[s : s+sizeLen])
	s += sizeLen
	if sizeLen == 2 {
		size += 256
	}
	if single {
		window = max(size, minWindow)
	}
	if sizeLen != 0 && size > uint64(len(dst)) {
		return -1
	}
	blockMax := int(min(window, maxBlock))

	z.rep = [3]uint32{1, 4, 8}
	z.seq = [3]*seqTable{}
	z.huffOK = false
	d := 0
	for last := false; !last; {
		if len(src)-s < 3 {
			return -1
		}
		head := int(src[s]) | int(src[s+1])<<8 | int(src[s+2])<<16
		s += 3
		last = head&1 != 0
		n := head >> 3
		if n > blockMax {
			return -1
		}
		switch head >> 1 & 3 {
		case 0: // raw
			if n > len(src)-s || n > len(dst)-d {
				return -1
			}
			copy(dst[d:], src[s:s+n])
			s += n
			d += n
		case 1: // one byte that repeats
			if len(src)-s < 1 || n > len(dst)-d {
				return -1
			}
			fill(dst[d:d+n], src[s])
			s++
			d += n
		case 2:
			if n > len(src)-s {
				return -1
			}
			if d = z.block(dst[:min(len(dst), d+blockMax)], d, src[s:s+n], window); d < 0 {
				return -1
			}
			s += n
		default:
			return -1
		}
	}
	if desc&4 != 0 { // check code
		s += 4
	}
	if s != len(src) || sizeLen != 0 && size != uint64(d) {
		return -1
	}
	return d
}

// block decodes a compressed block, which makes dst from d on, and returns where that ends, or -1.
func (z *Decoder) block(dst []byte, d int, src []byte, window uint64) int {
	lits, n, src, ok := z.readLiterals(src, min(window, maxBlock))
	if !ok || len(src) == 0 {
		return -1
	}
	count := int(src[0])
	switch {
	case count < 128:
		src = src[1:]
	case count < 255:
		if len(src) < 2 {
			return -1
		}
		count = (count-128)<<8 | int(src[1])
		src = src[2:]
	default:
		if len(src) < 3 {
			return -1
		}
		count = 0x7f00 + int(src[1]) + int(src[2])<<8
		src = src[3:]
	}
	if count == 0 {
		if len(src) != 0 || n > len(dst)-d {
			return -1
		}
		return d + copy(dst[d:], lits[:n])
	}
	if src, ok = z.readTables(src); !ok {
		return -1
	}
	return z.sequences(dst, d, lits, n, src, count, window)
}

// readLiterals returns the literals, of which n count and any others are room to read from, and what follows their section.
func (z *Decoder) readLiterals(src []byte, limit uint64) (lits []byte, n int, rest []byte, ok bool) {
	if len(src) < 2 {
		return nil, 0, nil, false
	}
	kind, format := src[0]&3, src[0]>>2&3
	if kind < 2 { // raw or repeated
		var head int
		switch format {
		case 0, 2:
			n, head = int(src[0]>>3), 1
		case 1:
			n, head = int(src[0]>>4)|int(src[1])<<4, 2
		default:
			if len(src) < 3 {
				return nil, 0, nil, false
			}
			n, head = int(src[0]>>4)|int(src[1])<<4|int(src[2])<<12, 3
		}
		src = src[head:]
		if uint64(n) > limit {
			return nil, 0, nil, false
		}
		if kind == 0 {
			if n > len(src) {
				return nil, 0, nil, false
			}
			return src, n, src[n:], true
		}
		if len(src) == 0 {
			return nil, 0, nil, false
		}
		fill(z.literals[:n], src[0])
		return z.literals[:], n, src[1:], true
	}

	head, bits := 3, 10
	switch format {
	case 2:
		head, bits = 4, 14
	case 3:
		head, bits = 5, 18
	}
	if len(src) < head {
		return nil, 0, nil, false
	}
	v := field(src[:head]) >> 4
	n = int(v & (1<<bits - 1))
	packed := int(v >> bits)
	src = src[head:]
	if uint64(n) > limit || packed > len(src) {
		return nil, 0, nil, false
	}
	in, rest := src[:packed], src[packed:]
	if kind == 2 {
		if in, z.huffOK = z.readHuffman(in); !z.huffOK {
			return nil, 0, nil, false
		}
	} else if !z.huffOK {
		return nil, 0, nil, false
	}
	if format == 0 {
		ok = z.decodeStream(z.literals[:n], in)
	} else {
		ok = z.decodeStreams(z.literals[:n], in)
	}
	return z.literals[:], n, rest, ok
}

// field reads a little-endian number of up to 8 bytes.
func field(b []byte) (v uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v
}

func fill(b []byte, v byte) {
	if len(b) > 0 {
		b[0] = v
		for n := 1; n < len(b); { // what is there doubles with each copy
			n += copy(b[n:], b[:n])
		}
	}
}

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func le64(b []byte) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// logs has the position of the highest bit of 0 to 15.
const logs = "\x00\x00\x01\x01\x02\x02\x02\x02\x03\x03\x03\x03\x03\x03\x03\x03"

// log2 returns the position of the highest bit of v, which is not 0.
func log2(v uint32) (n uint) {
	for v >= 16 {
		v >>= 4
		n += 4
	}
	return n + uint(logs[v&15])
}
