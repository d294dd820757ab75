package zstdpack

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/firstlight-boot/firstlight/rofs/zstdblock"
)

// judges are decoders that are not ours, and the one that the kernel has.
type judges struct {
	ours   zstdblock.Decoder
	theirs *zstd.Decoder
}

func newJudges(tb testing.TB) *judges {
	tb.Helper()
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(d.Close)
	return &judges{theirs: d}
}

// check compresses src and wants it back from each. It returns the frame.
func (j *judges) check(tb testing.TB, e *Encoder, src []byte) []byte {
	tb.Helper()
	dst := make([]byte, len(src)+64)
	n := e.Compress(dst, src)
	if n == 0 {
		tb.Fatalf("%d bytes do not fit into %d", len(src), len(dst))
	}
	frame := dst[:n:n]
	got := make([]byte, len(src))
	if m := j.ours.Decode(got, frame); m != len(src) || !bytes.Equal(got, src) {
		tb.Fatalf("%d bytes come back as %d from our decoder", len(src), m)
	}
	if got, err := j.theirs.DecodeAll(frame, nil); err != nil || !bytes.Equal(got, src) {
		tb.Fatalf("%d bytes come back as %d from klauspost's decoder, %v", len(src), len(got), err)
	}
	return frame
}

// sample is data with every kind of repetition.
func sample(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, 0, n+70000)
	text := "func (z *Decoder) return nil, false if err != nil { package zstdblock for i := range len(src) }"
	for len(b) < n {
		switch r.IntN(5) {
		case 0:
			b = append(b, bytes.Repeat([]byte{byte(r.IntN(4))}, 1+r.IntN(1+r.IntN(2000)))...)
		case 1:
			if len(b) > 0 {
				off := 1 + r.IntN(min(len(b), 1+r.IntN(1+r.IntN(100000))))
				for range 3 + r.IntN(1+r.IntN(600)) {
					b = append(b, b[len(b)-off])
				}
			}
		case 2:
			for range 1 + r.IntN(1+r.IntN(300)) {
				b = append(b, byte(r.IntN(256)))
			}
		default:
			for range 1 + r.IntN(40) {
				at := r.IntN(len(text))
				b = append(b, text[at:min(len(text), at+1+r.IntN(8))]...)
			}
		}
	}
	return b[:n]
}

// sizes are those around which a frame's form changes.
var sizes = []int{0, 1, 2, 3, 5, 6, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 255, 256, 257, 511, 1023, 1024, 1025, 4095, 4096, 16383, 16384,
	65535, 65536, 65791, 65792, 131071, 131072, 131073, 262144, 1 << 20}

func TestJudges(t *testing.T) {
	j := newJudges(t)
	e := New(19)
	for _, n := range sizes {
		noise := make([]byte, n)
		r := rand.New(rand.NewPCG(uint64(n), 1))
		for i := range noise {
			noise[i] = byte(r.Uint32())
		}
		few := make([]byte, n)
		for i := range few {
			few[i] = byte(r.Uint32() & 3)
		}
		for name, src := range map[string][]byte{
			"noise": noise, "few": few, "zeros": make([]byte, n), "sample": sample(uint64(n), n),
			"text": bytes.Repeat([]byte("the quick brown fox "), n/20+1)[:n],
		} {
			t.Run(fmt.Sprintf("%d/%s", n, name), func(t *testing.T) { j.check(t, e, src) })
		}
	}
}
