package newc

import (
	"github.com/firstlight-boot/firstlight/rofs/lz4block"
	"github.com/firstlight-boot/firstlight/rofs/zstdblock"
)

// Magic numbers, little-endian.
const (
	lz4Magic  = 0x184c2102 // of a legacy frame (lz4_Frame_format.md)
	lz4Block  = 8 << 20    // bytes that each block of it makes, the last excepted
	zstdMagic = 0xfd2fb528 // RFC 8878, 3.1.1
	zstdBlock = 128 << 10  // bytes that a block makes at most
	gzipMagic = 0x8b1f     // RFC 1952, 2.3.1
)

func le32(b []byte) int {
	return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 | int(b[3])<<24
}

// Measure tells how many bytes the compressed archive has that b begins with, and how many it makes at most. text says what
// is wrong if it cannot tell.
func Measure(b []byte) (in, out int, text string) {
	switch {
	case len(b) >= 4 && le32(b) == lz4Magic:
		return measureLZ4(b)
	case len(b) >= 4 && le32(b) == zstdMagic:
		return measureZstd(b)
	case len(b) >= 18 && le32(b)&0xffff == gzipMagic:
		// The last word is its size, where nothing comes behind; a byte makes at most 1032.
		if out = le32(b[len(b)-4:]); out > 1032*len(b) {
			return 0, 0, cutShort
		}
		return len(b), out, ""
	}
	return 0, 0, "neither a cpio archive in format newc nor one that is compressed by lz4 (legacy frame), zstd or gzip"
}

// Unpack decompresses the compressed archive src, as Measure found it, to the start of dst and returns how many bytes that
// made, or -1 when it is damaged.
func Unpack(dst, src []byte) int {
	switch {
	case len(src) >= 4 && le32(src) == lz4Magic:
		return unpackLZ4(dst, src)
	case len(src) >= 4 && le32(src) == zstdMagic:
		return new(zstdblock.Decoder).Decode(dst, src)
	}
	return gunzip(dst, src)
}

const cutShort = "the compressed archive is cut short or damaged"

// lz4Blocks calls f for each block until that returns false, and returns the length of the frames. Zeros, or the end, are the
// end.
func lz4Blocks(b []byte, f func(block []byte, last bool) bool) (n int, ok bool) {
	for pos := 4; ; {
		if len(b)-pos < 4 || le32(b[pos:]) == 0 {
			return pos, true
		}
		size := le32(b[pos:])
		pos += 4
		if size == lz4Magic {
			continue
		}
		if size > len(b)-pos {
			return pos, false
		}
		block := b[pos : pos+size]
		pos += size
		last := len(b)-pos < 4 || le32(b[pos:]) == 0 || le32(b[pos:]) == lz4Magic
		if !f(block, last) {
			return pos, false
		}
	}
}

func measureLZ4(b []byte) (in, out int, text string) {
	in, ok := lz4Blocks(b, func(block []byte, last bool) bool {
		n := lz4Block
		if last {
			n = lz4Size(block)
		}
		out += n
		return n <= lz4Block && n >= 0
	})
	if !ok {
		return 0, 0, cutShort
	}
	return in, out, ""
}

// lz4Size returns how many bytes a block makes, -1 when it is not well-formed (lz4_Block_format.md).
func lz4Size(b []byte) (n int) {
	for pos := 0; pos < len(b) && n <= lz4Block; {
		token := b[pos]
		pos++
		literals := int(token >> 4)
		if literals == 15 {
			literals, pos = lz4Length(b, pos)
		}
		n += literals
		if pos += literals; pos >= len(b) {
			if pos == len(b) {
				return n
			}
			break
		}
		pos += 2
		match := int(token & 15)
		if match == 15 {
			match, pos = lz4Length(b, pos)
		}
		n += match + 4
	}
	return -1
}

// lz4Length returns a length of 15 with the bytes from pos on that continue it, and where they end: beyond b if they do not.
func lz4Length(b []byte, pos int) (n, end int) {
	for n = 15; pos < len(b); {
		c := b[pos]
		pos++
		if n += int(c); c != 255 {
			return n, pos
		}
	}
	return n, len(b) + 1
}

func unpackLZ4(dst, src []byte) (n int) {
	_, ok := lz4Blocks(src, func(block []byte, last bool) bool {
		room := min(lz4Block, len(dst)-n)
		made := lz4block.Decode(dst[n:n+room], block)
		if made < 0 || !last && made != lz4Block {
			return false
		}
		n += made
		return true
	})
	if !ok {
		return -1
	}
	return n
}

// measureZstd walks over the blocks of a frame (RFC 8878, 3.1.1).
func measureZstd(b []byte) (in, out int, text string) {
	if len(b) < 6 {
		return 0, 0, cutShort
	}
	descriptor := b[4]
	single := descriptor>>5&1 != 0
	pos := 5
	if !single {
		pos++
	}
	pos += [4]int{0, 1, 2, 4}[descriptor&3]
	pos += [4]int{0, 2, 4, 8}[descriptor>>6]
	if descriptor>>6 == 0 && single {
		pos++
	}
	for {
		if len(b)-pos < 3 {
			return 0, 0, cutShort
		}
		h := int(b[pos]) | int(b[pos+1])<<8 | int(b[pos+2])<<16
		pos += 3
		size := h >> 3
		if size > zstdBlock {
			return 0, 0, cutShort
		}
		switch h >> 1 & 3 {
		case 0: // raw
			out += size
		case 1: // one byte, repeated
			out += size
			size = 1
		case 2:
			out += zstdBlock
		default:
			return 0, 0, cutShort
		}
		if pos += size; pos > len(b) {
			return 0, 0, cutShort
		}
		if h&1 != 0 {
			break
		}
	}
	if descriptor>>2&1 != 0 {
		pos += 4 // check code
	}
	if pos > len(b) {
		return 0, 0, cutShort
	}
	return pos, out, ""
}
