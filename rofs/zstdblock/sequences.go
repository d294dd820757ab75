package zstdblock

// seqArgs is what runSequences works on; its offsets are those of sequences_amd64.s.
type seqArgs struct {
	src              *byte
	p                int
	used             uint
	ll, of, ml       uint64 // entries of the next sequence
	llt, oft, mlt    *seqTable
	rep0, rep1, rep2 int
	dst              *byte
	d                int
	end              int // 16 before the end of dst
	lits             *byte
	l                int
	litEnd           int // of those that may be used, with 16 that may be read after it
	reach            int
	count            int // sequences before the last
	lit, match, off  int
}

// sequences decodes and carries out count sequences, whose streams are src, with the first n of lits. It makes dst from d on
// and returns where that ends, or -1. What it reads before dst[d] is at most window bytes away.
func (z *Decoder) sequences(dst []byte, d int, lits []byte, n int, src []byte, count int, window uint64) int {
	var r bitReader
	if !r.init(src) {
		return -1
	}
	ll, of, ml := z.seq[litLengths], z.seq[offsets], z.seq[matchLengths]
	llState, ofState, mlState := r.read(z.log[litLengths]), r.read(z.log[offsets]), r.read(z.log[matchLengths])
	rep0, rep1, rep2 := int(z.rep[0]), int(z.rep[1]), int(z.rep[2])
	v, p, used := r.v, r.p, r.used
	src = r.src
	l := 0 // literals that are used
	reach := int(min(window, 1<<62))
	le, oe, me := ll[llState&511], of[ofState&511], ml[mlState&511]
	var a seqArgs
	fast := haveAsm && !z.generic && len(lits) >= 16 && len(dst) > 0
	if fast {
		a = seqArgs{src: &src[0], llt: ll, oft: of, mlt: ml, dst: &dst[0], end: len(dst) - 16, lits: &lits[0], litEnd: min(n, len(lits)-16), reach: reach}
	}
	for ; ; count-- {
		var lit, match, off int
		decoded := false
		if fast && count > 1 && p >= 8 {
			a.p, a.used, a.ll, a.of, a.ml = p-int(used>>3), used&7, le, oe, me
			a.rep0, a.rep1, a.rep2, a.d, a.l, a.count = rep0, rep1, rep2, d, l, count-1
			decoded = runSequences(&a)
			p, used, le, oe, me = a.p, a.used, a.ll, a.of, a.ml
			rep0, rep1, rep2, d, l, count = a.rep0, a.rep1, a.rep2, a.d, a.l, a.count+1
			lit, match, off = a.lit, a.match, a.off
			v = le64(src[p:]) << used
			if off == 0 && decoded {
				return -1
			}
		}
		if !decoded {
			if p >= 8 {
				p -= int(used >> 3)
				used &= 7
				v = le64(src[p:]) << used
			} else {
				if n := min(int(used>>3), p); n > 0 {
					p -= n
					used -= uint(8 * n)
					v = le64(src[p:]) << used
				}
				if 8*p+64-int(used) < 0 {
					return -1
				}
			}
			lit, match = int(le>>32), int(me>>32)
			ob, lb, mb := uint(oe>>8)&63, uint(le>>8)&63, uint(me>>8)&63
			off = int(oe>>32) + int(v>>1>>(^ob&63))
			v <<= ob
			used += ob
			if lb|mb != 0 {
				if lb+mb+ob > 30 { // what is ready may not be enough for all
					r.p, r.used, r.v = p, used, v
					r.refill()
					match += int(r.read(mb))
					lit += int(r.read(lb))
					r.refill()
					p, used, v = r.p, r.used, r.v
				} else {
					match += int(v >> 1 >> (^mb & 63))
					v <<= mb
					lit += int(v >> 1 >> (^lb & 63))
					v <<= lb
					used += lb + mb
				}
			}
			if ob > 1 {
				off -= 3
				rep2, rep1, rep0 = rep1, rep0, off
			} else {
				if lit == 0 {
					off++
				}
				switch off {
				case 1:
					off = rep0
				case 2:
					off = rep1
					rep1, rep0 = rep0, off
				default:
					if off == 3 {
						off = rep2
					} else if off = rep0 - 1; off == 0 {
						return -1
					}
					rep2, rep1, rep0 = rep1, rep0, off
				}
			}
		}

		if lit <= 16 && len(lits)-l >= 16 && match <= 32 && off >= 16 && len(dst)-d >= 48 {
			*(*[16]byte)(dst[d:]) = *(*[16]byte)(lits[l:])
			l += lit
			d += lit
			if l > n || off > d || off > reach {
				return -1
			}
			to, from := dst[d:], dst[d-off:]
			*(*[16]byte)(to) = *(*[16]byte)(from)
			if match > 16 {
				*(*[16]byte)(to[16:]) = *(*[16]byte)(from[16:])
			}
			d += match
		} else {
			if lit > n-l || lit > len(dst)-d {
				return -1
			}
			copy(dst[d:], lits[l:l+lit])
			l += lit
			d += lit
			if off > d || off > reach || match > len(dst)-d {
				return -1
			}
			from, end := d-off, d+match
			for d < end { // what lies between from and d repeats, and doubles with each copy
				d += copy(dst[d:end], dst[from:d])
			}
		}
		if count == 1 {
			break
		}

		// The states' bits are at most 26.
		nb := uint(le & 63)
		le = ll[(le>>16&0xffff+v>>1>>(^nb&63))&511]
		v <<= nb & 63
		used += nb
		nb = uint(me & 63)
		me = ml[(me>>16&0xffff+v>>1>>(^nb&63))&511]
		v <<= nb & 63
		used += nb
		nb = uint(oe & 63)
		oe = of[(oe>>16&0xffff+v>>1>>(^nb&63))&511]
		v <<= nb & 63
		used += nb
	}
	if 8*p+64-int(used) != 0 {
		return -1
	}
	z.rep = [3]uint32{uint32(rep0), uint32(rep1), uint32(rep2)}
	rest := n - l
	if rest > len(dst)-d {
		return -1
	}
	copy(dst[d:], lits[l:n])
	return d + rest
}
