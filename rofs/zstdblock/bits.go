package zstdblock

// A bitReader reads a stream of bits from its end to its start, the highest first (RFC 8878, 4.1). The last byte's highest set
// bit is not data: it marks the end.
type bitReader struct {
	src  []byte
	v    uint64 // the next bits, from the highest down; zeros after them
	p    int    // v was loaded from src[p:]; below 0 where the stream is shorter than v
	used uint   // how many of the bits that were loaded are read
}

func (r *bitReader) init(src []byte) bool {
	n := len(src)
	if n == 0 || src[n-1] == 0 {
		return false
	}
	r.src, r.p, r.used = src, n-8, 8-log2(uint32(src[n-1]))
	if r.p >= 0 {
		r.v = le64(src[r.p:]) << r.used
	} else {
		r.v = field(src) << (uint(8*-r.p) + r.used)
	}
	return true
}

// refill makes at least 57 bits ready, or all that are left.
func (r *bitReader) refill() {
	if n := min(int(r.used>>3), r.p); n > 0 {
		r.p -= n
		r.used -= uint(8 * n)
		r.v = le64(r.src[r.p:]) << r.used
	}
}

// left returns how many bits are not read, below 0 if too many were.
func (r *bitReader) left() int { return 8*r.p + 64 - int(r.used) }

// read returns the next n bits, less than 64, which must be ready.
func (r *bitReader) read(n uint) uint64 {
	v := r.v >> 1 >> (^n & 63)
	r.v <<= n & 63
	r.used += n
	return v
}
