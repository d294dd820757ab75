package format

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"

	"github.com/firstlight-boot/firstlight/rofs/lz4block"
	"github.com/firstlight-boot/firstlight/rofs/lz4pack"
)

// Codecs (enum zio_compress, zio_compress.h).
const (
	CompressInherit = 0
	CompressOn      = 1
	CompressOff     = 2
	CompressLZJB    = 3
	CompressEmpty   = 4
	CompressGzip1   = 5
	CompressGzip9   = 13
	CompressZLE     = 14
	CompressLZ4     = 15
	CompressZstd    = 16
)

// Packer compresses blocks. It keeps its working memory; the zero value is ready.
type Packer struct {
	lz4    lz4pack.Fast
	lempel [1024]uint16
	zlib   *zlib.Writer
	level  int
	buf    bytes.Buffer
}

// Pack compresses src into dst, which is as long, if that saves an eighth at least and a sector, and returns what is to be
// stored: of whole sectors, the last filled up by zeros. Otherwise it returns nil, as for CompressOff (zio_compress_data).
func (p *Packer) Pack(codec int, dst, src []byte) []byte {
	room := len(src) - len(src)/8
	n := 0
	switch {
	case codec == CompressLZ4:
		if room <= 4 {
			return nil
		}
		if n = p.lz4.Compress(dst[4:room], src); n > 0 {
			binary.BigEndian.PutUint32(dst, uint32(n))
			n += 4
		}
	case codec == CompressLZJB:
		n = p.lzjb(dst[:room], src)
	case codec == CompressZLE:
		n = zle(dst[:room], src)
	case codec >= CompressGzip1 && codec <= CompressGzip9:
		n = p.gzip(dst[:room], src, codec-CompressGzip1+1)
	}
	if n == 0 || n > room {
		return nil
	}
	whole := (n + 1<<SectorShift - 1) &^ (1<<SectorShift - 1)
	if whole >= len(src) {
		return nil
	}
	clear(dst[n:whole])
	return dst[:whole]
}

func (p *Packer) gzip(dst, src []byte, level int) int {
	if p.zlib == nil || p.level != level {
		p.zlib, _ = zlib.NewWriterLevel(nil, level) // 1 to 9 are levels
		p.level = level
	}
	p.buf.Reset()
	p.zlib.Reset(&p.buf)
	p.zlib.Write(src) // into memory
	p.zlib.Close()
	if p.buf.Len() > len(dst) {
		return 0
	}
	return copy(dst, p.buf.Bytes())
}

// lzjb is lzjb_compress of module/zfs/lzjb.c: a bit each, eight in a byte, for what follows: a byte, or a match of 3 to 66 bytes
// at most 1023 back.
func (p *Packer) lzjb(dst, src []byte) int {
	clear(p.lempel[:])
	s, d, bits, mask := 0, 0, 0, 128
	for s < len(src) {
		if mask <<= 1; mask == 256 {
			if d >= len(dst)-17 {
				return 0
			}
			mask, bits = 1, d
			dst[d] = 0
			d++
		}
		if s > len(src)-66 {
			dst[d] = src[s]
			d++
			s++
			continue
		}
		h := uint32(src[s])<<16 + uint32(src[s+1])<<8 + uint32(src[s+2])
		h += h >> 9
		h += h >> 5
		slot := &p.lempel[h&1023]
		back := (s - int(*slot)) & 1023
		*slot = uint16(s)
		if c := s - back; back != 0 && c >= 0 && src[c] == src[s] && src[c+1] == src[s+1] && src[c+2] == src[s+2] {
			dst[bits] |= byte(mask)
			n := 3
			for n < 66 && src[s+n] == src[c+n] {
				n++
			}
			dst[d] = byte((n-3)<<2 | back>>8)
			dst[d+1] = byte(back)
			d += 2
			s += n
		} else {
			dst[d] = src[s]
			d++
			s++
		}
	}
	return d
}

func unlzjb(dst, src []byte) bool {
	s, d, bits, mask := 0, 0, byte(0), 128
	for d < len(dst) {
		if mask <<= 1; mask == 256 {
			if s >= len(src) {
				return false
			}
			mask, bits = 1, src[s]
			s++
		}
		if bits&byte(mask) == 0 {
			if s >= len(src) {
				return false
			}
			dst[d] = src[s]
			d++
			s++
			continue
		}
		if s+1 >= len(src) {
			return false
		}
		n, back := int(src[s]>>2)+3, int(src[s]&3)<<8|int(src[s+1])
		s += 2
		if back == 0 || back > d {
			return false
		}
		for ; n > 0 && d < len(dst); n-- {
			dst[d] = dst[d-back]
			d++
		}
	}
	return true
}

// zleRun is the level that ZFS uses: codes below it count bytes, others zeros (module/zfs/zle.c).
const zleRun = 64

func zle(dst, src []byte) int {
	s, d := 0, 0
	for s < len(src) && d < len(dst)-1 {
		first, code := s, d
		d++
		if src[s] == 0 {
			for end := min(s+256-zleRun, len(src)); s < end && src[s] == 0; {
				s++
			}
			dst[code] = byte(s - first - 1 + zleRun)
			continue
		}
		if len(dst)-d < zleRun {
			break
		}
		for end := min(s+zleRun, len(src)); s < end-1 && src[s]|src[s+1] != 0; {
			dst[d] = src[s]
			d++
			s++
		}
		if src[s] != 0 {
			dst[d] = src[s]
			d++
			s++
		}
		dst[code] = byte(s - first - 1)
	}
	if s < len(src) {
		return 0
	}
	return d
}

func unzle(dst, src []byte) bool {
	d := 0
	for len(src) > 0 && d < len(dst) {
		n := int(src[0]) + 1
		src = src[1:]
		if n <= zleRun {
			if n > len(src) || n > len(dst)-d {
				return false
			}
			d += copy(dst[d:], src[:n])
			src = src[n:]
			continue
		}
		if n -= zleRun; n > len(dst)-d {
			return false
		}
		clear(dst[d : d+n])
		d += n
	}
	return d == len(dst)
}

// Unpack decompresses src, which may go on behind the compressed bytes, and fills dst. False means that src is no such block, or
// the codec not known.
func Unpack(codec int, dst, src []byte) bool {
	switch {
	case codec == CompressOff:
		return len(src) >= len(dst) && copy(dst, src) == len(dst)
	case codec == CompressLZ4:
		if len(src) < 4 {
			return false
		}
		n := binary.BigEndian.Uint32(src)
		return uint64(n) <= uint64(len(src)-4) && lz4block.Decode(dst, src[4:4+n]) == len(dst)
	case codec == CompressLZJB:
		return unlzjb(dst, src)
	case codec == CompressZLE:
		return unzle(dst, src)
	case codec >= CompressGzip1 && codec <= CompressGzip9:
		r, err := zlib.NewReader(bytes.NewReader(src))
		if err != nil {
			return false
		}
		_, err = io.ReadFull(r, dst)
		return err == nil
	}
	return false
}
