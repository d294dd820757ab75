package lz4pack

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/firstlight-boot/firstlight/internal/guardpage"
	"github.com/firstlight-boot/firstlight/rofs/lz4block"
)

// mixed returns n bytes, some of which repeat what was before, near and far, for short and for long.
func mixed(r *rand.Rand, n int) []byte {
	b := make([]byte, 0, n)
	for len(b) < n {
		if k := 1 + r.IntN(1<<r.IntN(9)); len(b) == 0 || r.IntN(2) == 0 {
			for range k {
				b = append(b, byte(r.Uint32()))
			}
		} else {
			from := len(b) - 1 - r.IntN(min(len(b), 1<<r.IntN(18)))
			for i := range k {
				b = append(b, b[from+i])
			}
		}
	}
	return b[:n]
}

// TestFences packs what begins or ends where memory does, into room that does, for what it takes or less than that.
func TestFences(t *testing.T) {
	const most = 1<<17 + 1<<10
	in, out := guardpage.Alloc(t, most), guardpage.Alloc(t, most+most/255+16)
	codecs := []codec{new(Fast), &Fast{Min: 8}, &Optimal{Depth: 2}}
	try := func(r *rand.Rand, data []byte) {
		n := len(data)
		for k, c := range codecs {
			src := in[:n]
			if r.IntN(3) > 0 {
				src = in[len(in)-n:]
			}
			copy(src, data)
			packed := bytes.Clone(out[:c.Compress(out, src)])
			got := make([]byte, n)
			if m := lz4block.Decode(got, packed); m != n || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes come back as %d from codec %d", n, m, k)
			}
			for _, less := range []int{0, 1, 2 + r.IntN(40), r.IntN(len(packed) + 1)} {
				room := max(len(packed)-less, 0)
				dst := out[len(out)-room:]
				want := 0
				if room == len(packed) {
					want = len(packed)
				}
				if m := c.Compress(dst, src); m != want || want > 0 && !bytes.Equal(dst, packed) {
					t.Fatalf("%d bytes in %d of %d: %d", n, room, len(packed), m)
				}
			}
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	for n := range 200 {
		try(r, mixed(r, n))
	}
	for _, at := range []int{segment, 1<<16 - 1, 1 << 16, 1 << 17} {
		for range 12 {
			try(r, mixed(r, at-16+r.IntN(33)))
		}
	}
	for range 30 {
		try(r, mixed(r, r.IntN(70000)))
	}
}
