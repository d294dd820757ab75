package newc

import (
	"bytes"
	"compress/gzip"
	"math/rand/v2"
	"testing"
)

// TestGunzip decodes what Go's package compresses, at every level, whole and damaged.
func TestGunzip(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 60 {
		data := make([]byte, r.IntN(1<<uint(r.IntN(19))))
		alphabet := 1 + r.IntN(256)
		for k := range data {
			data[k] = byte(r.IntN(alphabet))
			if d := 1 + r.IntN(40); k > d && r.IntN(3) > 0 {
				data[k] = data[k-d]
			}
		}
		for level := gzip.HuffmanOnly; level <= gzip.BestCompression; level++ {
			var b bytes.Buffer
			w, err := gzip.NewWriterLevel(&b, level)
			if err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				w.Name, w.Comment, w.Extra = "name", "comment", []byte("extra")
			}
			w.Write(data)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			src := b.Bytes()
			in, out, text := Measure(src)
			if in != len(src) || out != len(data) || text != "" {
				t.Fatalf("Measure: %d, %d, %q; want %d, %d", in, out, text, len(src), len(data))
			}
			dst := make([]byte, out)
			if n := Unpack(dst, src); n != out || !bytes.Equal(dst, data) {
				t.Fatalf("level %d, %d bytes: %d came out, or others", level, len(data), n)
			}
			src[r.IntN(len(src))] ^= 1 << r.IntN(8)
			if n := Unpack(dst, src); n >= 0 && !bytes.Equal(dst[:n], data) {
				t.Fatal("wrong data")
			}
		}
	}
}
