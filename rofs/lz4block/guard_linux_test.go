package lz4block

import (
	"math/rand/v2"
	"testing"

	"github.com/pierrec/lz4/v4"

	"github.com/firstlight-boot/firstlight/internal/guardpage"
)

// TestFences decodes whole, cut and damaged blocks that begin or end where memory does.
func TestFences(t *testing.T) {
	src, dst := guardpage.Alloc(t, 1<<17), guardpage.Alloc(t, 1<<17)
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		data := sample(seed, 200+r.IntN(20000))
		packed := make([]byte, lz4.CompressBlockBound(len(data)))
		n, err := lz4.CompressBlock(data, packed, nil)
		if err != nil {
			t.Fatal(err)
		}
		packed = packed[:n]
		for k := range 30 {
			cut := packed
			if k > 0 {
				cut = packed[:r.IntN(n)+1]
				if k > 10 { // damage adds up
					at := r.IntN(len(cut))
					cut[at] ^= 1 << r.IntN(8)
				}
			}
			size := max(0, len(data)-k/2)
			s, d := src[:copy(src, cut)], dst[:size]
			if k%2 == 0 {
				s, d = src[len(src)-len(cut):], dst[len(dst)-size:]
				copy(s, cut)
			}
			Decode(d, s)
			decodeGeneric(d, s)
		}
	}
}
