package zstdpack

import (
	"math/bits"
	"slices"
)

const maxHuffman = 11 // bits of the longest code (RFC 8878, 4.2.1)

// huffman is a prefix code.
type huffman struct {
	code    [256]uint16
	length  [256]uint8 // 0: the symbol has none
	longest uint8
	head    [132]byte // its description
	size    int       // of that
}

// lengths finds the code that costs least, none longer than maxHuffman, for counts, two or more of which are not 0: by packages and
// merges (Larmore and Hirschberg, 1990).
func (h *huffman) lengths(counts *[256]uint32) {
	var leaves [256]uint64 // count and symbol, by count
	n := 0
	for i, c := range counts {
		if c > 0 {
			leaves[n] = uint64(c)<<8 | uint64(i)
			n++
		}
	}
	slices.Sort(leaves[:n])
	var list, next [512]uint64     // the items of a level by weight: leaves, and pairs of the level below
	var pair [maxHuffman][8]uint64 // which of them are pairs
	size := 0
	for level := range pair {
		i, k, m := 0, 0, 0
		for ; i < n || k+1 < size; m++ {
			if k+1 < size && (i == n || list[k]+list[k+1] < leaves[i]>>8) {
				next[m] = list[k] + list[k+1]
				k += 2
				pair[level][m>>6] |= 1 << (m & 63)
			} else {
				next[m] = leaves[i] >> 8
				i++
			}
		}
		list, size = next, m
	}
	clear(h.length[:])
	take := 2*n - 2
	for level := maxHuffman - 1; level >= 0 && take > 0; level-- {
		pairs := 0
		for i := range take {
			pairs += int(pair[level][i>>6] >> (i & 63) & 1)
		}
		for _, leaf := range leaves[:take-pairs] {
			h.length[leaf&255]++
		}
		take = 2 * pairs
	}
	h.longest = slices.Max(h.length[:])
}

// build makes the code for counts and its description. It returns false where that cannot be described.
func (h *huffman) build(counts *[256]uint32) bool {
	h.lengths(counts)
	// The codes of a length follow each other, from the longest codes on.
	at := uint16(0)
	for l := h.longest; l > 0; l-- {
		for i, k := range h.length {
			if k == l {
				h.code[i] = at
				at++
			}
		}
		at >>= 1
	}
	last := 255 // its weight completes the sum
	for h.length[last] == 0 {
		last--
	}
	var weights [256]uint8
	for i, l := range h.length[:last] {
		if l > 0 {
			weights[i] = h.longest + 1 - l
		}
	}
	h.size = packWeights(&h.head, weights[:last])
	if plain := 1 + (last+1)/2; last <= 128 && (h.size == 0 || plain <= h.size) {
		h.size = plain
		h.head[0] = byte(127 + last)
		weights[last] = 0
		for i := 0; i < last; i += 2 {
			h.head[1+i/2] = weights[i]<<4 | weights[i+1]
		}
	}
	return h.size > 0
}

// packWeights compresses weights (RFC 8878, 4.2.1.2) and returns the length of that with the byte that tells it, 0 if it cannot.
func packWeights(dst *[132]byte, weights []byte) int {
	if len(weights) < 2 {
		return 0
	}
	var counts [maxHuffman + 1]uint32
	for _, w := range weights {
		counts[w]++
	}
	n := len(counts)
	for counts[n-1] == 0 {
		n--
	}
	if int(counts[n-1]) == len(weights) { // one symbol has no table
		return 0
	}
	var p norm
	p.fit(counts[:n], uint32(len(weights)), uint(min(6, max(5, bits.Len(uint(len(weights)))-2))))
	var t fseTable
	t.build(&p)
	var room [256]byte
	w := bitWriter{buf: room[:]}
	w.pos = len(p.write(room[:0]))
	var state [2]uint32
	for i := len(weights) - 1; i >= 0; i-- {
		s := &state[i&1]
		if i >= len(weights)-2 {
			*s = t.first(weights[i])
			continue
		}
		*s = t.encode(&w, *s, weights[i])
		w.flush()
	}
	t.finish(&w, state[1])
	t.finish(&w, state[0])
	size := w.end()
	if size > 127 {
		return 0
	}
	dst[0] = byte(size)
	return 1 + copy(dst[1:], room[:size])
}

// cost returns how many bits symbols that often take, -1 if one has no code.
func (h *huffman) cost(counts *[256]uint32) int {
	sum := 0
	for i, c := range counts {
		if l := int(h.length[i]); l > 0 {
			sum += int(c) * l
		} else if c > 0 {
			return -1
		}
	}
	return sum
}

// stream writes src as one stream at buf[pos] and returns where it ends.
func (h *huffman) stream(buf []byte, pos int, src []byte) int {
	w := bitWriter{buf: buf, pos: pos}
	for len(src) >= 4 {
		s := src[len(src)-4:]
		src = src[:len(src)-4]
		a, b, c, d := s[3], s[2], s[1], s[0]
		w.add(uint64(h.code[a]), uint(h.length[a]))
		w.add(uint64(h.code[b]), uint(h.length[b]))
		w.add(uint64(h.code[c]), uint(h.length[c]))
		w.add(uint64(h.code[d]), uint(h.length[d]))
		w.flush()
	}
	for i := len(src) - 1; i >= 0; i-- {
		w.add(uint64(h.code[src[i]]), uint(h.length[src[i]]))
	}
	return w.end()
}
