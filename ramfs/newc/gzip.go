package newc

// gunzip decompresses one gzip member (RFC 1952) and checks its check code.
func gunzip(dst, src []byte) int {
	const text, headerCRC, extra, name, comment = 1, 2, 4, 8, 16
	if len(src) < 18 || src[2] != 8 {
		return -1
	}
	flags := src[3]
	pos := 10
	if flags&extra != 0 {
		pos += 2 + int(src[10]) | int(src[11])<<8
	}
	for _, f := range [...]byte{name, comment} {
		if flags&f == 0 {
			continue
		}
		for pos < len(src) && src[pos] != 0 {
			pos++
		}
		pos++
	}
	if flags&headerCRC != 0 {
		pos += 2
	}
	if flags&^(text|headerCRC|extra|name|comment) != 0 || pos > len(src)-8 {
		return -1
	}
	z := inflater{dst: dst, src: src[pos : len(src)-8]}
	n := z.run()
	if n < 0 || z.pos != len(z.src) || n != le32(src[len(src)-4:]) || int(crc32(dst[:n])) != le32(src[len(src)-8:]) {
		return -1
	}
	return n
}

// crc32 is the CRC of gzip, eight bytes at a time. Its tables are made on use; the standard library's would be made in every
// boot.
func crc32(b []byte) uint32 {
	var table [8][256]uint32
	for i := range 256 {
		c := uint32(i)
		for range 8 {
			c = c>>1 ^ 0xedb88320&-(c&1)
		}
		table[0][i] = c
	}
	for i := range 256 {
		c := table[0][i]
		for k := 1; k < 8; k++ {
			c = c>>8 ^ table[0][byte(c)]
			table[k][i] = c
		}
	}
	c := ^uint32(0)
	for ; len(b) >= 8; b = b[8:] {
		v := le64(b) ^ uint64(c)
		c = table[7][byte(v)] ^ table[6][byte(v>>8)] ^ table[5][byte(v>>16)] ^ table[4][byte(v>>24)] ^
			table[3][byte(v>>32)] ^ table[2][byte(v>>40)] ^ table[1][byte(v>>48)] ^ table[0][v>>56]
	}
	for _, x := range b {
		c = c>>8 ^ table[0][byte(c)^x]
	}
	return ^c
}

// le64 and put64 are one instruction each.
func le64(b []byte) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

func put64(b []byte, v uint64) {
	_ = b[7]
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	b[4], b[5], b[6], b[7] = byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56)
}

// inflater decodes DEFLATE (RFC 1951).
type inflater struct {
	dst, src            []byte
	n, pos              int    // bytes made and read
	bits                uint64 // those above have are what comes next, or zero
	have                uint   // bits in bits
	failed              bool
	literals, distances huffman
}

// fill makes have at least 48, but for the end of src.
func (z *inflater) fill() {
	if len(z.src)-z.pos >= 8 {
		z.bits |= le64(z.src[z.pos:]) << z.have
		z.pos += int(63-z.have) / 8
		z.have |= 56
		return
	}
	for z.have < 56 && z.pos < len(z.src) {
		z.bits |= uint64(z.src[z.pos]) << z.have
		z.pos++
		z.have += 8
	}
}

// take returns the next count bits, at most 16.
func (z *inflater) take(count uint) int {
	if z.have < count {
		if z.fill(); z.have < count {
			z.failed = true
			return 0
		}
	}
	v := z.bits & (1<<count - 1)
	z.bits >>= count
	z.have -= count
	return int(v)
}

// huffman decodes codes by their lengths: how many there are of each, and the symbols in the order of their codes. fast
// finds those of up to fastBits bits: symbol, and length in the low four bits.
type huffman struct {
	count  [16]uint16
	symbol [288]uint16
	fast   [1 << fastBits]uint16
}

const fastBits = 10

// set makes h the code with these lengths. An incomplete code is taken only if it has at most one symbol.
func (h *huffman) set(lengths []byte) bool {
	h.count = [16]uint16{}
	for _, n := range lengths {
		h.count[n]++
	}
	used := len(lengths) - int(h.count[0])
	h.count[0] = 0
	left := 1
	var next, code [16]uint16
	for n := 1; n < 16; n++ {
		if left = left<<1 - int(h.count[n]); left < 0 {
			return false
		}
		if n < 15 {
			next[n+1] = next[n] + h.count[n]
			code[n+1] = (code[n] + h.count[n]) << 1
		}
	}
	h.fast = [1 << fastBits]uint16{}
	for s, n := range lengths {
		if n == 0 {
			continue
		}
		h.symbol[next[n]] = uint16(s)
		next[n]++
		if n <= fastBits {
			reversed := 0
			for i := range n {
				reversed |= int(code[n]>>i&1) << (n - 1 - i)
			}
			for i := reversed; i < 1<<fastBits; i += 1 << n {
				h.fast[i] = uint16(s)<<4 | uint16(n)
			}
		}
		code[n]++
	}
	return left == 0 || used <= 1
}

// find returns the symbol whose code bits begin with, and the code's length, 0 when there is none.
func (h *huffman) find(bits uint64) (symbol int, length uint) {
	if e := h.fast[bits&(1<<fastBits-1)]; e != 0 {
		return int(e >> 4), uint(e & 15)
	}
	code, first, index := 0, 0, 0
	for n := uint(1); n < 16; n++ {
		code |= int(bits & 1)
		bits >>= 1
		count := int(h.count[n])
		if code-first < count {
			return int(h.symbol[index+code-first]), n
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, 0
}

// decode returns the next symbol.
func (z *inflater) decode(h *huffman) int {
	if z.have < 15 {
		z.fill()
	}
	s, n := h.find(z.bits)
	if n == 0 || n > z.have {
		z.failed = true
		return 0
	}
	z.bits >>= n
	z.have -= n
	return s
}

// run decodes all blocks and returns how many bytes that made, or -1.
func (z *inflater) run() int {
	for last := false; !last; {
		last = z.take(1) != 0
		switch kind := z.take(2); {
		case z.failed:
			return -1
		case kind == 0:
			z.stored()
		case kind == 1:
			var lengths [288]byte
			for i := range lengths {
				switch {
				case i < 144:
					lengths[i] = 8
				case i < 256:
					lengths[i] = 9
				case i < 280:
					lengths[i] = 7
				default:
					lengths[i] = 8
				}
			}
			z.literals.set(lengths[:])
			for i := range 30 {
				lengths[i] = 5
			}
			lengths[30], lengths[31] = 5, 5 // complete the code; nothing may use them
			z.distances.set(lengths[:32])
			z.block()
		case kind == 2 && z.tables():
			z.block()
		default:
			return -1
		}
		if z.failed {
			return -1
		}
	}
	z.align()
	return z.n
}

// align drops the rest of a byte and gives back those that were read ahead.
func (z *inflater) align() {
	z.pos -= int(z.have / 8)
	z.bits, z.have = 0, 0
}

// stored copies a block that is not compressed.
func (z *inflater) stored() {
	z.align()
	if len(z.src)-z.pos < 4 {
		z.failed = true
		return
	}
	h := le32(z.src[z.pos:])
	n := h & 0xffff
	z.pos += 4
	if n != ^h>>16&0xffff || n > len(z.src)-z.pos || n > len(z.dst)-z.n {
		z.failed = true
		return
	}
	z.n += copy(z.dst[z.n:], z.src[z.pos:z.pos+n])
	z.pos += n
}

// tables reads the two codes of a block.
func (z *inflater) tables() bool {
	order := [19]byte{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	numLiterals, numDistances, numLengths := z.take(5)+257, z.take(5)+1, z.take(4)+4
	var lengths [286 + 30]byte
	if numLiterals > 286 || numDistances > 30 {
		return false
	}
	for _, i := range order[:numLengths] {
		lengths[i] = byte(z.take(3))
	}
	if !z.literals.set(lengths[:19]) {
		return false
	}
	clear(lengths[:19])
	for i := 0; i < numLiterals+numDistances; {
		s := z.decode(&z.literals)
		repeat, value := 1, byte(s)
		switch s {
		case 16:
			if i == 0 {
				return false
			}
			repeat, value = 3+z.take(2), lengths[i-1]
		case 17:
			repeat, value = 3+z.take(3), 0
		case 18:
			repeat, value = 11+z.take(7), 0
		}
		if z.failed || repeat > numLiterals+numDistances-i {
			return false
		}
		for ; repeat > 0; repeat-- {
			lengths[i] = value
			i++
		}
	}
	return lengths[256] != 0 && z.literals.set(lengths[:numLiterals]) && z.distances.set(lengths[numLiterals:numLiterals+numDistances])
}

// Lengths and distances: what each symbol begins with, and how many bits come behind it (RFC 1951, 3.2.5).
var (
	lengthBase   = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthBits   = [29]byte{8: 1, 9: 1, 10: 1, 11: 1, 12: 2, 13: 2, 14: 2, 15: 2, 16: 3, 17: 3, 18: 3, 19: 3, 20: 4, 21: 4, 22: 4, 23: 4, 24: 5, 25: 5, 26: 5, 27: 5}
	distanceBase = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
)

// block decodes literals and matches up to the block's end. It does by itself what fill, find and take do, on variables that
// stay in registers.
func (z *inflater) block() {
	const (
		endOfBlock = 256
		most       = 48 // bits of a match
	)
	dst, n := z.dst, z.n
	bits, have := z.bits, z.have
	literals, distances := &z.literals.fast, &z.distances.fast
	z.failed = true
	for {
		if have < most {
			if src := z.src[z.pos:]; len(src) >= 8 {
				bits |= le64(src) << (have & 63)
				z.pos += int(63-have) / 8
				have |= 56
			} else {
				z.bits, z.have = bits, have
				z.fill()
				bits, have = z.bits, z.have
			}
		}
		e := uint(literals[bits&(1<<fastBits-1)])
		if e != 0 && e>>4 < endOfBlock { // up to four literals of short codes fit
			for range 4 {
				if e&15 > have || n >= len(dst) {
					return
				}
				dst[n] = byte(e >> 4)
				n++
				bits >>= e & 15
				have -= e & 15
				if e = uint(literals[bits&(1<<fastBits-1)]); e == 0 || e>>4 >= endOfBlock {
					break
				}
			}
			continue
		}
		s, length := int(e>>4), e&15
		if e == 0 {
			s, length = z.literals.find(bits)
		}
		if length == 0 || length > have {
			return
		}
		bits >>= length & 63
		have -= length
		if s < endOfBlock {
			if n >= len(dst) {
				return
			}
			dst[n] = byte(s)
			n++
			continue
		}
		if s == endOfBlock {
			z.n, z.bits, z.have, z.failed = n, bits, have, false
			return
		}
		if s -= endOfBlock + 1; s >= len(lengthBase) {
			return
		}
		extra := uint(lengthBits[s])
		count := int(lengthBase[s]) + int(bits&(1<<(extra&15)-1))
		bits >>= extra & 63
		if extra > have {
			return
		}
		have -= extra
		e = uint(distances[bits&(1<<fastBits-1)])
		d := int(e >> 4)
		if length = e & 15; e == 0 {
			d, length = z.distances.find(bits)
		}
		if length == 0 || length > have || d >= len(distanceBase) {
			return
		}
		bits >>= length & 63
		have -= length
		extra = uint(max(d/2-1, 0))
		distance := int(distanceBase[d]) + int(bits&(1<<(extra&15)-1))
		bits >>= extra & 63
		if extra > have || distance > n || count > len(dst)-n {
			return
		}
		have -= extra
		from, end := n-distance, n+count
		if distance >= 8 && len(dst)-end >= 8 {
			for n < end {
				put64(dst[n:], le64(dst[from:]))
				n += 8
				from += 8
			}
			n = end
			continue
		}
		for n < end {
			dst[n] = dst[from]
			n++
			from++
		}
	}
}
