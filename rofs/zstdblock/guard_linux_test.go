package zstdblock

import (
	"math/rand/v2"
	"syscall"
	"testing"
)

// fenced returns memory that is followed and preceded by pages that cannot be accessed.
func fenced(t *testing.T, size int) []byte {
	t.Helper()
	page := syscall.Getpagesize()
	size = (size + page - 1) / page * page
	all, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(all); err != nil {
			t.Error(err)
		}
	})
	b := all[page : page+size]
	if err := syscall.Mprotect(b, syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFences decodes whole, cut and damaged frames that begin or end where memory does.
func TestFences(t *testing.T) {
	src, dst := fenced(t, 1<<17), fenced(t, 1<<17)
	z := new(Decoder)
	for i, e := range encoders(t) {
		for seed := range uint64(60) {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			data := sample(seed, 200+r.IntN(40000))
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
