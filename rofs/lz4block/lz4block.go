// Package lz4block decodes LZ4 blocks (lz4_Block_format.md of the LZ4 project, version 1.6). Kernel and host share it, so it
// imports nothing. Whatever the input, it reads only within src and writes only within dst.
package lz4block

// decodeGeneric is Decode in Go. Its two common copies have a fixed length, 16 and 18 bytes, which may run past what the
// sequence holds: the next one overwrites that.
func decodeGeneric(dst, src []byte) int {
	s, d := 0, 0
	for s < len(src) {
		token := src[s]
		s++
		lit, match := int(token>>4), int(token&15)
		if lit < 15 && len(src)-s >= 18 && len(dst)-d >= 32 {
			*(*[16]byte)(dst[d:]) = *(*[16]byte)(src[s:])
			s += lit
			d += lit
			off := int(src[s]) | int(src[s+1])<<8
			if match < 15 && off >= 8 && off <= d && len(dst)-d >= 18 {
				s += 2
				m := dst[d-off:]
				*(*[8]byte)(dst[d:]) = *(*[8]byte)(m)
				*(*[8]byte)(dst[d+8:]) = *(*[8]byte)(m[8:])
				*(*[2]byte)(dst[d+16:]) = *(*[2]byte)(m[16:])
				d += match + 4
				continue
			}
		} else {
			if lit == 15 {
				var ok bool
				if lit, s, ok = extend(src, s, lit); !ok {
					return ^d
				}
			}
			if lit > len(src)-s || lit > len(dst)-d {
				return ^d
			}
			copy(dst[d:], src[s:s+lit])
			s += lit
			d += lit
			if s == len(src) { // a block ends with literals, whose token has no match
				if match != 0 {
					return ^d
				}
				return d
			}
			if len(src)-s < 2 {
				return ^d
			}
		}
		off := int(src[s]) | int(src[s+1])<<8
		s += 2
		if match == 15 {
			var ok bool
			if match, s, ok = extend(src, s, match); !ok {
				return ^d
			}
		}
		match += 4
		if off == 0 || off > d || match > len(dst)-d {
			return ^d
		}
		from, end := d-off, d+match
		for d < end { // what lies between from and d repeats, and doubles with each copy
			d += copy(dst[d:end], dst[from:d])
		}
	}
	return ^d
}

// extend adds the bytes that prolong a length of 15 and returns where they end.
func extend(src []byte, s, n int) (int, int, bool) {
	for s < len(src) {
		b := src[s]
		s++
		n += int(b)
		if b != 255 {
			return n, s, true
		}
	}
	return 0, 0, false
}
