package zstdblock

// readHuffman makes z.huff of a description of Huffman codes (RFC 8878, 4.2.1) and returns what follows it. The table always
// has 11 bits, so that a lookup needs no check: an entry is the length of the code in bits, and above it the symbol × 256.
func (z *Decoder) readHuffman(src []byte) (rest []byte, ok bool) {
	if len(src) == 0 {
		return nil, false
	}
	size, n := int(src[0]), 0
	src = src[1:]
	if size >= 128 {
		n = size - 127
		if size = (n + 1) / 2; size > len(src) {
			return nil, false
		}
		for i := range n {
			z.weights[i] = src[i/2] >> (4 &^ (i << 2)) & 15
		}
	} else {
		if size > len(src) {
			return nil, false
		}
		if n = z.readWeights(src[:size]); n == 0 {
			return nil, false
		}
	}

	// The last weight is not stored: it completes the sum to a power of two.
	var ranks [maxHuffLog + 2]uint32 // how many have the weight; then where the next code of that weight is
	sum := uint32(0)
	for _, w := range z.weights[:n] {
		if w > maxHuffLog {
			return nil, false
		}
		ranks[w]++
		sum += 1 << w >> 1
	}
	if sum == 0 {
		return nil, false
	}
	log := log2(sum) + 1
	if log > maxHuffLog {
		return nil, false
	}
	lack := uint32(1)<<log - sum
	w := log2(lack) + 1
	if lack != 1<<(w-1) {
		return nil, false
	}
	z.weights[n] = uint8(w)
	n++
	ranks[w]++
	if ranks[1] < 2 || ranks[1]&1 != 0 { // there is an even number of longest codes
		return nil, false
	}
	at := uint32(0)
	for w := uint(1); w <= log; w++ {
		k := ranks[w]
		ranks[w] = at
		at += k << (w - 1 + maxHuffLog - log)
	}
	for i, w := range z.weights[:n] {
		if w == 0 {
			continue
		}
		size := uint32(1) << (uint(w) - 1 + maxHuffLog - log)
		run := z.huff[ranks[w]:][:size]
		ranks[w] += size
		e := uint16(i)<<8 | uint16(log) + 1 - uint16(w)
		if size < 4 {
			for j := range run {
				run[j] = e
			}
			continue
		}
		four := [4]uint16{e, e, e, e}
		for ; len(run) >= 4; run = run[4:] {
			*(*[4]uint16)(run) = four
		}
	}
	return src[size:], true
}

// readWeights reads weights that are compressed themselves and returns how many, at most 255; 0 if they are malformed.
func (z *Decoder) readWeights(src []byte) int {
	symbols, log, used := z.readCounts(src, 255, 6)
	if used == 0 {
		return 0
	}
	var t [64]uint64
	var values [256]uint64
	for i := range symbols {
		values[i] = uint64(i) << 32
	}
	z.build(t[:1<<log], symbols, log, values[:])
	var r bitReader
	if !r.init(src[used:]) {
		return 0
	}
	state := [2]uint64{r.read(log), r.read(log)}
	if r.left() < 0 {
		return 0
	}
	for n := 0; n < 255; n++ {
		e := t[state[n&1]&63]
		z.weights[n] = uint8(e >> 32)
		r.refill()
		state[n&1] = e>>16&0xffff + r.read(uint(e&63))
		if r.left() < 0 { // no bits are left for this state: the other one has the last weight
			if n++; n == 255 {
				return 0
			}
			z.weights[n] = uint8(t[state[n&1]&63] >> 32)
			return n + 1
		}
	}
	return 0
}

// decodeStream makes dst of one stream, which must hold exactly that.
func (z *Decoder) decodeStream(dst, src []byte) bool {
	var r bitReader
	return r.init(src) && z.finish(dst, &r)
}

func (z *Decoder) finish(dst []byte, r *bitReader) bool {
	for len(dst) >= 5 && r.p >= 8 {
		r.p -= int(r.used >> 3)
		r.used &= 7
		v, used := le64(r.src[r.p:])<<r.used, r.used
		out := (*[5]byte)(dst)
		for i := range out {
			e := z.huff[v>>(64-maxHuffLog)]
			out[i] = uint8(e >> 8)
			v <<= e & 63
			used += uint(e & 63)
		}
		r.v, r.used = v, used
		dst = dst[5:]
	}
	for i := range dst {
		r.refill()
		e := z.huff[r.v>>(64-maxHuffLog)]
		dst[i] = uint8(e >> 8)
		r.v <<= e & 63
		r.used += uint(e & 63)
		if r.left() < 0 {
			return false
		}
	}
	return r.left() == 0
}

// decodeStreams makes dst of four streams, which share it evenly but for the last, and whose lengths come first.
func (z *Decoder) decodeStreams(dst, src []byte) bool {
	if len(src) < 10 {
		return false
	}
	size := (len(dst) + 3) / 4
	if 3*size > len(dst) {
		return false
	}
	at := 6
	var r [4]bitReader
	for i := range r {
		n := len(src) - at
		if i < 3 {
			n = min(n, int(src[2*i])|int(src[2*i+1])<<8)
		}
		if !r[i].init(src[at : at+n]) {
			return false
		}
		at += n
	}
	last := dst[3*size:]
	done := 0
	for haveAsm && !z.generic {
		rounds := (len(last) - done) / 5
		for i := range r {
			if r[i].p < 8 {
				rounds = 0
				break
			}
			r[i].p -= int(r[i].used >> 3)
			r[i].used &= 7
			rounds = min(rounds, r[i].p/7)
		}
		if rounds < 1 {
			break
		}
		decodeFour(&z.huff, &dst[done], size, rounds, &r)
		done += 5 * rounds
	}
	for i := range r {
		if r[i].p >= 0 {
			r[i].v = le64(r[i].src[r[i].p:]) << r[i].used
		}
	}
	a, b, c := dst[done:size], dst[size+done:2*size], dst[2*size+done:3*size]
	last = last[done:]
	m := z.decodePair(a, b, &r[0], &r[1])
	n := z.decodePair(c[:len(last)], last, &r[2], &r[3])
	return z.finish(a[m:], &r[0]) && z.finish(b[m:], &r[1]) && z.finish(c[n:], &r[2]) && z.finish(last[n:], &r[3])
}

// decodePair makes equally many bytes of two streams, at once because each symbol has to wait for the one before it in its
// stream, and returns how many: not those where a stream ends.
func (z *Decoder) decodePair(dst0, dst1 []byte, r0, r1 *bitReader) int {
	t := &z.huff
	n := 0
	v0, p0, u0, src0 := r0.v, r0.p, r0.used, r0.src
	v1, p1, u1, src1 := r1.v, r1.p, r1.used, r1.src
	for len(dst0)-n >= 5 && len(dst1)-n >= 5 && p0 >= 8 && p1 >= 8 {
		p0 -= int(u0 >> 3)
		p1 -= int(u1 >> 3)
		u0 &= 7
		u1 &= 7
		v0 = le64(src0[p0:]) << u0
		v1 = le64(src1[p1:]) << u1
		out0, out1 := (*[5]byte)(dst0[n:]), (*[5]byte)(dst1[n:])

		e0, e1 := t[v0>>(64-maxHuffLog)], t[v1>>(64-maxHuffLog)]
		out0[0], out1[0] = uint8(e0>>8), uint8(e1>>8)
		v0 <<= e0 & 63
		v1 <<= e1 & 63
		s0, s1 := uint(e0), uint(e1) // their lowest 8 bits sum up how many bits are read

		e0, e1 = t[v0>>(64-maxHuffLog)], t[v1>>(64-maxHuffLog)]
		out0[1], out1[1] = uint8(e0>>8), uint8(e1>>8)
		v0 <<= e0 & 63
		v1 <<= e1 & 63
		s0, s1 = s0+uint(e0), s1+uint(e1)

		e0, e1 = t[v0>>(64-maxHuffLog)], t[v1>>(64-maxHuffLog)]
		out0[2], out1[2] = uint8(e0>>8), uint8(e1>>8)
		v0 <<= e0 & 63
		v1 <<= e1 & 63
		s0, s1 = s0+uint(e0), s1+uint(e1)

		e0, e1 = t[v0>>(64-maxHuffLog)], t[v1>>(64-maxHuffLog)]
		out0[3], out1[3] = uint8(e0>>8), uint8(e1>>8)
		v0 <<= e0 & 63
		v1 <<= e1 & 63
		s0, s1 = s0+uint(e0), s1+uint(e1)

		e0, e1 = t[v0>>(64-maxHuffLog)], t[v1>>(64-maxHuffLog)]
		out0[4], out1[4] = uint8(e0>>8), uint8(e1>>8)
		v0 <<= e0 & 63
		v1 <<= e1 & 63
		u0 += (s0 + uint(e0)) & 255
		u1 += (s1 + uint(e1)) & 255
		n += 5
	}
	r0.v, r0.p, r0.used = v0, p0, u0
	r1.v, r1.p, r1.used = v1, p1, u1
	return n
}
