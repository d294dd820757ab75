package lz4pack

import "encoding/binary"

const fastBits = 14

// Fast compresses fast. The zero value is ready.
type Fast struct {
	// Min is the length that matches must have, if it is more than the format's 4. Fewer matches take longer to write and less long
	// to read.
	Min int

	base  uint32                // of this block's positions in table; so much above older ones that those are out of reach
	table [1 << fastBits]uint32 // by hash: base + position
}

func hash5(v uint64) uint32 { return uint32(v << 24 * 889523592379 >> (64 - fastBits)) }

// Compress compresses src to dst and returns the length of that, 0 where it would be more than dst has. src has at most 1 GiB.
func (f *Fast) Compress(dst, src []byte) int {
	if f.base == 0 || f.base > 1<<30 {
		f.base = maxOffset + 1
		clear(f.table[:])
	}
	base := f.base
	f.base += uint32(len(src)) + maxOffset + 1
	table := &f.table
	d, anchor := 0, 0
	end := len(src) - lastBytes
	limit := len(src) - lastStart
	for i := 0; i < limit; {
		// Steps grow where nothing is found.
		at, step := uint32(0), 1<<6
		for {
			v := load64(src, i)
			e := &table[hash5(v)]
			at = base + uint32(i) - *e // distance
			*e = base + uint32(i)
			if at <= maxOffset && at != 0 && load32(src, i-int(at)) == uint32(v) {
				break
			}
			i += step >> 6
			step++
			if i >= limit {
				return max(emit(dst, d, src[anchor:], 0, 0), 0)
			}
		}
		pos := i - int(at)
		n := minMatch + common(src, pos+minMatch, i+minMatch, end)
		// A longer match that begins a byte later is worth a literal; looking for one costs more than it saves after longer ones.
		if n < 6 && i+1 < limit {
			v := load64(src, i+1)
			e := &table[hash5(v)]
			p := i + 1 - int(base+uint32(i+1)-*e)
			if uint(i-p) < maxOffset && load32(src, max(p, 0)) == uint32(v) && p >= 0 {
				*e = base + uint32(i+1)
				if m := minMatch + common(src, p+minMatch, i+1+minMatch, end); m > n {
					i, pos, n = i+1, p, m
				}
			}
		}
		for i > anchor && pos > 0 && src[i-1] == src[pos-1] {
			i, pos, n = i-1, pos-1, n+1
		}
		if n < f.Min {
			i += n
			continue
		}
		if l := i - anchor; l < 15 && n < minMatch+15 && d+20 <= len(dst) && anchor+16 <= len(src) {
			out := dst[d : d+20]
			out[0] = byte(l<<4 | (n - minMatch))
			binary.LittleEndian.PutUint64(out[1:], load64(src, anchor))
			if l > 8 {
				binary.LittleEndian.PutUint64(out[9:], load64(src, anchor+8))
			}
			binary.LittleEndian.PutUint16(out[1+l:], uint16(i-pos))
			d += 3 + l
		} else if d = emit(dst, d, src[anchor:i], i-pos, n); d < 0 {
			return 0
		}
		i += n
		anchor = i
		if i < limit {
			table[hash5(load64(src, i-2))] = base + uint32(i-2)
		}
	}
	return max(emit(dst, d, src[anchor:], 0, 0), 0)
}
