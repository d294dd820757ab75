package format

import (
	"crypto/sha256"
	"encoding/binary"
)

// Checksums (enum zio_checksum, zio_checksum.h).
const (
	ChecksumInherit    = 0
	ChecksumOn         = 1
	ChecksumOff        = 2
	ChecksumLabel      = 3
	ChecksumGangHeader = 4
	ChecksumZilog      = 5
	ChecksumFletcher2  = 6
	ChecksumFletcher4  = 7
	ChecksumSHA256     = 8
	ChecksumZilog2     = 9
)

// Sum is a checksum of any kind (zio_cksum_t).
type Sum [4]uint64

func (s *Sum) get(p []byte) {
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(p[8*i:])
	}
}

func (s *Sum) put(p []byte) {
	for i, w := range s {
		binary.LittleEndian.PutUint64(p[8*i:], w)
	}
}

// Fletcher4 sums p, whose length is a multiple of 4 (fletcher_4_native).
func Fletcher4(p []byte) Sum {
	var a, b, c, d uint64
	for len(p) >= 16 {
		w0, w1 := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
		a += w0 & 0xffffffff
		b += a
		c += b
		d += c
		a += w0 >> 32
		b += a
		c += b
		d += c
		a += w1 & 0xffffffff
		b += a
		c += b
		d += c
		a += w1 >> 32
		b += a
		c += b
		d += c
		p = p[16:]
	}
	for ; len(p) >= 4; p = p[4:] {
		a += uint64(binary.LittleEndian.Uint32(p))
		b += a
		c += b
		d += c
	}
	return Sum{a, b, c, d}
}

// Fletcher2 sums p, whose length is a multiple of 16 (fletcher_2_native).
func Fletcher2(p []byte) Sum {
	var a0, a1, b0, b1 uint64
	for ; len(p) >= 16; p = p[16:] {
		a0 += binary.LittleEndian.Uint64(p)
		a1 += binary.LittleEndian.Uint64(p[8:])
		b0 += a0
		b1 += a1
	}
	return Sum{a0, a1, b0, b1}
}

// SHA256 hashes p; the words are those of the digest, the most significant byte first.
func SHA256(p []byte) (s Sum) {
	h := sha256.Sum256(p)
	for i := range s {
		s[i] = binary.BigEndian.Uint64(h[8*i:])
	}
	return s
}

// Checksum computes the checksum kind of p; false means that the kind is not one of a block's, or not known.
func Checksum(kind int, p []byte) (Sum, bool) {
	switch kind {
	case ChecksumOn, ChecksumFletcher4:
		return Fletcher4(p), true
	case ChecksumFletcher2:
		return Fletcher2(p), true
	case ChecksumSHA256:
		return SHA256(p), true
	case ChecksumOff:
		return Sum{}, true
	}
	return Sum{}, false
}

// Seal writes the check code at the end of a part of a label (zio_checksum_label_verifier): it covers p and the place of p in
// the vdev, in bytes.
func Seal(p []byte, at int64) {
	s := seal(p, at)
	s.put(p[len(p)-32:])
}

// Sealed tells whether p has the check code that Seal writes.
func Sealed(p []byte, at int64) bool {
	var got Sum
	got.get(p[len(p)-32:])
	if binary.LittleEndian.Uint64(p[len(p)-EmbeddedSize:]) != EmbeddedMagic {
		return false
	}
	q := append([]byte(nil), p...)
	return seal(q, at) == got
}

func seal(p []byte, at int64) Sum {
	tail := p[len(p)-EmbeddedSize:]
	binary.LittleEndian.PutUint64(tail, EmbeddedMagic)
	v := Sum{uint64(at)}
	v.put(tail[8:])
	return SHA256(p)
}
