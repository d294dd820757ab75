package format

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

var codecs = []int{CompressLZ4, CompressLZJB, CompressZLE, CompressGzip1, CompressGzip9}

// blocks are contents of blocks that codecs find easy and hard.
func blocks() (list [][]byte) {
	noise := make([]byte, 128<<10)
	rand.NewChaCha8([32]byte{}).Read(noise)
	mixed := bytes.Repeat(append([]byte("text text, and zeros"), make([]byte, 44)...), 2048)
	copy(mixed[50000:], noise[:9000])
	return [][]byte{make([]byte, 512), make([]byte, 128<<10), mixed, mixed[:1024], bytes.Repeat(noise[:5000], 20)[:64<<10], noise}
}

func TestCodecs(t *testing.T) {
	var p Packer
	for _, codec := range codecs {
		packed := 0
		for i, b := range blocks() {
			s := p.Pack(codec, make([]byte, len(b)), b)
			if s == nil {
				continue
			}
			packed++
			got := bytes.Repeat([]byte{0xaa}, len(b))
			if len(s)%512 != 0 || !Unpack(codec, got, s) || !bytes.Equal(got, b) {
				t.Errorf("codec %d, block %d of %d bytes does not come back from %d", codec, i, len(b), len(s))
			}
			if Unpack(codec, make([]byte, len(b)+512), s[:len(s)/2]) {
				t.Errorf("codec %d, block %d: half of it decodes to more", codec, i)
			}
		}
		if packed < 2 {
			t.Errorf("codec %d packs %d blocks", codec, packed)
		}
	}
}

// TestChecksums compares sums with those that are written out, word by word.
func TestChecksums(t *testing.T) {
	for _, b := range blocks() {
		var want4, want2 Sum
		for i := 0; i < len(b); i += 4 {
			want4[0] += uint64(binary.LittleEndian.Uint32(b[i:]))
			want4[1] += want4[0]
			want4[2] += want4[1]
			want4[3] += want4[2]
		}
		for i := 0; i < len(b); i += 16 {
			want2[0] += binary.LittleEndian.Uint64(b[i:])
			want2[1] += binary.LittleEndian.Uint64(b[i+8:])
			want2[2] += want2[0]
			want2[3] += want2[1]
		}
		if Fletcher4(b) != want4 || Fletcher2(b) != want2 {
			t.Errorf("%d bytes of crc %x", len(b), crc32.ChecksumIEEE(b))
		}
	}
	// The first example of FIPS 180-2, "abc".
	if s := SHA256([]byte("abc")); s != (Sum{0xba7816bf8f01cfea, 0x414140de5dae2223, 0xb00361a396177a9c, 0xb410ff61f20015ad}) {
		t.Errorf("%x", s)
	}
}

// FuzzUnpack decodes what may be no block, by each codec: into dst alone, with no panic, and the same each time.
func FuzzUnpack(f *testing.F) {
	var p Packer
	for _, b := range blocks()[2:4] {
		for i, codec := range codecs {
			if s := p.Pack(codec, make([]byte, len(b)), b); s != nil {
				f.Add(byte(i), uint16(len(b)/512), s)
			}
		}
	}
	f.Fuzz(func(t *testing.T, i byte, sectors uint16, src []byte) {
		codec := codecs[int(i)%len(codecs)]
		n := int(sectors%1024) * 512
		run := func(fill byte) ([]byte, bool) {
			b := bytes.Repeat([]byte{fill}, n+64)
			ok := Unpack(codec, b[:n:n], src)
			if !bytes.Equal(b[n:], bytes.Repeat([]byte{fill}, 64)) {
				t.Errorf("codec %d writes behind the block", codec)
			}
			return b[:n], ok
		}
		a, ok := run(0x55)
		b, again := run(0xaa)
		if ok != again || ok && !bytes.Equal(a, b) {
			t.Errorf("codec %d leaves bytes as they were, or says %v and %v", codec, ok, again)
		}
	})
}
