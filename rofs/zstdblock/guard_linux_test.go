package zstdblock

import (
	"math/rand/v2"
	"testing"

	"github.com/firstlight-boot/firstlight/internal/codectest"
	"github.com/firstlight-boot/firstlight/internal/guardpage"
)

// TestFences decodes whole, cut and damaged frames that begin or end where memory does.
func TestFences(t *testing.T) {
	src, dst := guardpage.Alloc(t, 1<<17), guardpage.Alloc(t, 1<<17)
	z := new(Decoder)
	for i, e := range encoders(t) {
		for seed := range uint64(60) {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			data := codectest.Sample(seed, 200+r.IntN(40000))
			packed := e.EncodeAll(data, nil)
			for k := range 30 {
				cut := packed
				if k > 0 {
					cut = packed[:r.IntN(len(packed))+1]
					if k > 5 { // damage adds up
						cut = packed
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
				z.Decode(d, s)
			}
		}
	}
}
