package zstdblock

// A seqTable is the decoding table of literal lengths, offsets or match lengths. An entry of it:
//
//	bits
//	 0… 7  how many bits the next state takes
//	 8…15  how many bits are added to the value
//	16…31  the next state, to which the bits are added
//	32…63  the value, to which the bits are added
type seqTable [1 << maxSeqLog]uint64

// The three, in their order in the format.
const (
	litLengths = iota
	offsets
	matchLengths
)

// RFC 8878, 3.1.1.3.2.1 and 3.1.1.3.2.2: the largest symbol and table, and the default counts with their table's size.
var (
	maxSymbol  = [3]int{35, 31, 52}
	maxLog     = [3]uint{9, 8, 9}
	defaultLog = [3]uint{6, 5, 6}
)

var (
	defaultLit   = [36]int8{4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1}
	defaultOff   = [29]int8{1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1}
	defaultMatch = [53]int8{1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
		1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1}
	litBits   = [36]uint8{16: 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	matchBits = [53]uint8{32: 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
)

// values makes of a table's symbols the upper 32 and the second 8 bits of entries.
func values(kind int, v *[64]uint64) {
	switch kind {
	case litLengths:
		base := uint64(0)
		for i, n := range litBits {
			v[i] = base<<32 | uint64(n)<<8
			base += 1 << n
		}
	case offsets:
		for i := range 32 {
			v[i] = 1<<(32+i) | uint64(i)<<8
		}
	default:
		base := uint64(3)
		for i, n := range matchBits {
			v[i] = base<<32 | uint64(n)<<8
			base += 1 << n
		}
	}
}

// readTables reads the three tables, each in its mode, and returns what follows them.
func (z *Decoder) readTables(src []byte) ([]byte, bool) {
	if len(src) == 0 || src[0]&3 != 0 {
		return nil, false
	}
	modes := src[0]
	src = src[1:]
	var v [64]uint64
	for kind := range z.seq {
		t := &z.coded[kind]
		switch modes >> (6 - 2*kind) & 3 {
		case 0:
			if !z.ready {
				z.makeDefaults(&v)
			}
			t, z.log[kind] = &z.predef[kind], defaultLog[kind]
		case 1:
			if len(src) == 0 || int(src[0]) > maxSymbol[kind] {
				return nil, false
			}
			values(kind, &v)
			t[0], z.log[kind] = v[src[0]&63], 0
			src = src[1:]
		case 2:
			n, log, used := z.readCounts(src, maxSymbol[kind], maxLog[kind])
			if used == 0 {
				return nil, false
			}
			src = src[used:]
			values(kind, &v)
			z.build(t[:1<<log], n, log, v[:])
			z.log[kind] = log
		default:
			if t = z.seq[kind]; t == nil {
				return nil, false
			}
		}
		z.seq[kind] = t
	}
	return src, true
}

func (z *Decoder) makeDefaults(v *[64]uint64) {
	for kind := range z.predef {
		counts := defaultLit[:]
		switch kind {
		case offsets:
			counts = defaultOff[:]
		case matchLengths:
			counts = defaultMatch[:]
		}
		for i, c := range counts {
			z.norm[i] = int16(c)
		}
		values(kind, v)
		log := defaultLog[kind]
		z.build(z.predef[kind][:1<<log], len(counts), log, v[:])
	}
	z.ready = true
}

// readCounts reads the counts of up to last + 1 symbols into z.norm (RFC 8878, 4.1.1). It returns how many symbols there are,
// the log of the sum of their counts, and the bytes that took: none if they are malformed.
func (z *Decoder) readCounts(src []byte, last int, maxLog uint) (n int, log uint, used int) {
	if len(src) == 0 {
		return 0, 0, 0
	}
	log = uint(src[0]&15) + 5
	if log > maxLog {
		return 0, 0, 0
	}
	pos := uint(4) // bits that are read
	bits := func() uint32 {
		var v uint32
		for i, at := uint(0), int(pos>>3); i < 4 && at < len(src); i, at = i+1, at+1 {
			v |= uint32(src[at]) << (8 * i)
		}
		return v >> (pos & 7)
	}
	for left := int32(1) << log; left > 0; {
		if n > last {
			return 0, 0, 0
		}
		// A count from -1 to left, plus 1, in as few bits as hold it; the lowest values save one.
		width := log2(uint32(left)+1) + 1
		low := int32(1)<<width - 1 - (left + 1)
		v := int32(bits()) & (1<<width - 1)
		pos += width
		if half := v & (1<<(width-1) - 1); half < low {
			v = half
			pos--
		} else if v >= 1<<(width-1) {
			v -= low
		}
		v--
		z.norm[n] = int16(v)
		n++
		switch {
		case v < 0:
			left--
		case v > 0:
			left -= v
		default:
			for {
				zeros := int(bits() & 3)
				pos += 2
				if n+zeros > last+1 {
					return 0, 0, 0
				}
				clear(z.norm[n : n+zeros])
				n += zeros
				if zeros < 3 {
					break
				}
			}
		}
		if left < 0 {
			return 0, 0, 0
		}
	}
	if used = int(pos+7) >> 3; used > len(src) {
		return 0, 0, 0
	}
	return n, log, used
}

// build makes the table of the n counts in z.norm, whose sum is len(t) (RFC 8878, 4.1.1). values has what a symbol's entries
// have in their upper 48 bits but for the state.
func (z *Decoder) build(t []uint64, n int, log uint, values []uint64) {
	high := len(t) - 1
	for i, c := range z.norm[:n] {
		z.next[i] = uint16(c)
		if c == -1 { // less than one state: at the end
			z.next[i] = 1
			t[high] = uint64(i)
			high--
		}
	}
	pos, step, mask := 0, len(t)>>1+len(t)>>3+3, len(t)-1
	for i, c := range z.norm[:n] {
		for ; c > 0; c-- {
			t[pos] = uint64(i)
			for pos = (pos + step) & mask; pos > high; pos = (pos + step) & mask {
			}
		}
	}
	// A symbol that counts c has the states c to 2c - 1; their next ones take a bit less from the first power of two on.
	for i, c := range z.norm[:n] {
		z.width[i] = uint8(log - log2(uint32(max(c, 1))))
	}
	size := 1 << log
	for i, s := range t {
		next, bits := z.next[s&255], z.width[s&255]
		z.next[s&255]++
		if int(next)<<(bits&15) >= 2*size {
			bits--
		}
		t[i] = values[s] | uint64(bits) | uint64(int(next)<<(bits&15)-size)<<16
	}
}
