package zstdblock

import (
	"bytes"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/firstlight-boot/firstlight/internal/codectest"
)

// oneFrame reports whether src begins with a frame whose blocks and check code are all of it, and whose window is of a size
// that klauspost's decoder was told to accept: it goes on to further frames, and skips what is not data.
func oneFrame(src []byte) bool {
	var h zstd.Header
	if h.Decode(src) != nil || h.Skippable || h.DictionaryID != 0 || h.WindowSize > maxWindow {
		return false
	}
	s := h.HeaderSize
	for last := false; !last; {
		if len(src)-s < 3 {
			return false
		}
		head := int(src[s]) | int(src[s+1])<<8 | int(src[s+2])<<16
		last = head&1 != 0
		if s += 3; head>>1&3 == 1 {
			s++
		} else {
			s += head >> 3
		}
	}
	if h.HasCheckSum {
		s += 4
	}
	return s == len(src)
}

// judge compares with klauspost's decoder, and with the zstd tool where that one alone refuses: it wants more than the format
// of how compressed Huffman weights end.
func judge(t testing.TB, z *Decoder, theirs *zstd.Decoder, size int, src []byte) {
	t.Helper()
	got, ok := decode(t, z, size, src)
	want, err := theirs.DecodeAll(src, make([]byte, 0, size))
	if !oneFrame(src) {
		return
	}
	if ok && err != nil {
		tool, missing := exec.LookPath("zstd")
		if missing != nil {
			return
		}
		cmd := exec.Command(tool, "-d", "-c", "--no-check", "--memory=2048MB")
		cmd.Stdin = bytes.NewReader(src)
		want, err = cmd.Output()
	}
	if ok != (err == nil) {
		t.Fatalf("ok %v, klauspost's decoder: %v, of %d bytes for %d:\n%x", ok, err, len(src), size, src)
	}
	if ok && !bytes.Equal(got, want) {
		t.Fatalf("decoded %d bytes, klauspost's decoder %d others, of\n%x", len(got), len(want), src)
	}
}

const maxWindow = 1 << 31

func reference(t testing.TB) *zstd.Decoder {
	t.Helper()
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.IgnoreChecksum(true), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(1<<40), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// TestDamage has frames with bytes changed.
func TestDamage(t *testing.T) {
	z, theirs := new(Decoder), reference(t)
	for i, e := range encoders(t) {
		for seed := range uint64(40) {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			data := codectest.Sample(seed, 1+r.IntN(1+r.IntN(5000)))
			packed := e.EncodeAll(data, nil)
			for range 60 {
				at := r.IntN(len(packed))
				if r.IntN(2) == 0 {
					at = r.IntN(min(len(packed), 40))
				}
				old := packed[at]
				packed[at] ^= byte(1 + r.IntN(255))
				judge(t, z, theirs, len(data), packed)
				packed[at] = old
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	z, theirs := new(Decoder), reference(f)
	for i, e := range encoders(f) {
		data := codectest.Sample(uint64(i), 3000)
		packed := e.EncodeAll(data, nil)
		if got, ok := decode(f, z, len(data), packed); !ok || !bytes.Equal(got, data) {
			f.Fatalf("seed %d does not reach the decoder's end", i)
		}
		f.Add(packed, len(data))
	}
	f.Fuzz(func(t *testing.T, src []byte, size int) {
		if size >= 0 && size <= 1<<20 {
			judge(t, z, theirs, size, src)
		}
	})
}

// TestAllocs: a Decoder allocates nothing once it is there.
func TestAllocs(t *testing.T) {
	z, data := new(Decoder), codectest.Sample(1, 1<<17)
	packed := encoders(t)[0].EncodeAll(data, nil)
	dst := make([]byte, len(data))
	if n := testing.AllocsPerRun(10, func() { z.Decode(dst, packed) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}
