// Package codectest makes data for the tests of compressors and decompressors.
package codectest

import (
	"bytes"
	"math/rand/v2"
)

// Sample is n bytes of data with every kind of repetition.
func Sample(seed uint64, n int) []byte {
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
