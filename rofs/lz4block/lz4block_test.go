package lz4block

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/pierrec/lz4/v4"
)

// guarded returns n bytes within a larger buffer, and a function that tells whether what lies around them was touched.
func guarded(n int) ([]byte, func() bool) {
	const edge = 64
	all := bytes.Repeat([]byte{0xa5}, n+2*edge)
	return all[edge : edge+n : edge+n], func() bool {
		return bytes.Equal(all[:edge], all[n+edge:]) && bytes.Equal(all[:edge], bytes.Repeat([]byte{0xa5}, edge))
	}
}

// both runs both decoders, which must agree, and checks that they stay within dst and leave src alone.
func both(t testing.TB, size int, src []byte) (n int, dst []byte) {
	t.Helper()
	src = append(make([]byte, 0, len(src)), src...) // so that the race detector or a fault sees what is read beyond
	want, intact := guarded(size)
	n = decodeGeneric(want, src)
	if !intact() {
		t.Fatal("decodeGeneric wrote outside dst")
	}
	if !haveAsm || size < 128 || len(src) < 32 {
		return n, want
	}
	got, intact := guarded(size)
	if m := decodeAsm(got, src); m != n {
		t.Fatalf("decodeAsm returns %d, decodeGeneric %d, for %d bytes of %x", m, n, size, src)
	}
	if !intact() {
		t.Fatal("decodeAsm wrote outside dst")
	}
	if made := max(n, ^n); !bytes.Equal(got[:made], want[:made]) {
		t.Fatalf("decodeAsm and decodeGeneric differ for %x", src)
	}
	return n, want
}

// judge compares with pierrec's decoder, which accepts offset 0 in no version, and a block that ends with a match in some.
func judge(t testing.TB, size int, src []byte) {
	t.Helper()
	n, dst := both(t, size, src)
	theirs := make([]byte, size)
	m, err := lz4.UncompressBlock(src, theirs)
	if n < 0 {
		return
	}
	if err != nil || m != n || !bytes.Equal(theirs[:m], dst[:n]) {
		t.Fatalf("decoded %d bytes, pierrec's decoder %d (%v), of %x", n, m, err, src)
	}
}

func sample(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, 0, n+70000)
	for len(b) < n {
		switch r.IntN(4) {
		case 0:
			b = append(b, bytes.Repeat([]byte{byte(r.IntN(4))}, 1+r.IntN(1+r.IntN(2000)))...)
		case 1:
			if len(b) > 0 {
				off := 1 + r.IntN(min(len(b), 1+r.IntN(40)))
				for range 4 + r.IntN(1+r.IntN(600)) {
					b = append(b, b[len(b)-off])
				}
			}
		default:
			for range 1 + r.IntN(1+r.IntN(300)) {
				b = append(b, byte(r.IntN(256)))
			}
		}
	}
	return b[:n]
}

func TestDecode(t *testing.T) {
	for seed := range uint64(600) {
		r := rand.New(rand.NewPCG(seed, 1))
		data := sample(seed, 1+r.IntN(1+r.IntN(70000)))
		packed := make([]byte, lz4.CompressBlockBound(len(data)))
		var n int
		var err error
		if seed%2 == 0 {
			n, err = lz4.CompressBlock(data, packed, nil)
		} else {
			n, err = lz4.CompressBlockHC(data, packed, lz4.Level9, nil, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		packed = packed[:n]
		for _, slack := range []int{0, 1, 15, 16, 47, 48, 79, 80, 200} {
			got, out := both(t, len(data)+slack, packed)
			if got != len(data) || !bytes.Equal(out[:got], data) {
				t.Fatalf("seed %d, %d bytes and room for %d more: decoded %d", seed, len(data), slack, got)
			}
		}
		for _, room := range []int{len(data) - 1, r.IntN(len(data)), min(len(data)-1, r.IntN(300))} {
			got, out := both(t, room, packed)
			if got >= 0 || ^got > room || !bytes.Equal(out[:^got], data[:^got]) {
				t.Fatalf("seed %d: decoded %d bytes into %d", seed, got, room)
			}
		}
		for range 10 {
			out, intact := guarded(len(data))
			n := r.IntN(len(data) + 1)
			if !DecodeStart(out, packed, n) || !bytes.Equal(out[:n], data[:n]) || !intact() {
				t.Fatalf("seed %d: the first %d of %d bytes are not decoded", seed, n, len(data))
			}
			n = 1 + n*3/4
			if cut := packed[:r.IntN(len(packed))]; DecodeStart(out, cut, n) && !bytes.Equal(out[:n], data[:n]) {
				t.Fatalf("seed %d: the first %d of %d bytes are wrong where the block is cut to %d bytes", seed, n, len(data), len(cut))
			}
		}
		for range 40 { // what is cut or damaged
			if got, _ := both(t, len(data), packed[:r.IntN(n)]); got == len(data) {
				t.Fatalf("seed %d: a block that was cut decodes", seed)
			}
			at := r.IntN(n)
			old := packed[at]
			packed[at] ^= byte(1 + r.IntN(255))
			judge(t, len(data), packed)
			packed[at] = old
		}
	}
}

// TestVectors has blocks made by hand from the format's description.
func TestVectors(t *testing.T) {
	for _, v := range []struct {
		name, block string
		want        string
		ok          bool
	}{
		{"nothing", "", "", false},
		{"empty", "00", "", true},
		{"literals", "50" + "68656c6c6f", "hello", true},
		{"fifteen literals", "f000" + "616263646566676869" + "6a6b6c6d6e6f", "abcdefghijklmno", true},
		{"run", "13" + "61" + "0100" + "50" + "6262626262", "aaaaaaaabbbbb", true},
		{"period 3", "32" + "616263" + "0300" + "10" + "21", "abcabcabc!", true},
		{"offset 0", "13" + "61" + "0000" + "50" + "6262626262", "", false},
		{"offset before the start", "13" + "61" + "0200" + "50" + "6262626262", "", false},
		{"ends with a match", "13" + "61" + "0100", "", false},
		{"half an offset", "13" + "61" + "01", "", false},
		{"literals missing", "50" + "6868", "", false},
		{"length missing", "f0ff", "", false},
	} {
		src, err := hex.DecodeString(v.block)
		if err != nil {
			t.Fatal(err)
		}
		n, out := both(t, 64, src)
		if ok := n >= 0; ok != v.ok || ok && string(out[:n]) != v.want {
			t.Errorf("%s: decoded %d bytes: %q, want %q, %v", v.name, n, out[:max(n, 0)], v.want, v.ok)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for seed := range uint64(4) {
		data := sample(seed, 3000)
		packed := make([]byte, lz4.CompressBlockBound(len(data)))
		n, err := lz4.CompressBlock(data, packed, nil)
		if err != nil || n == 0 || Decode(make([]byte, len(data)), packed[:n]) != len(data) {
			f.Fatalf("seed %d does not reach the decoder's end: %v", seed, err)
		}
		f.Add(packed[:n], 3000)
	}
	f.Fuzz(func(t *testing.T, src []byte, size int) {
		if size >= 0 && size <= 1<<20 {
			judge(t, size, src)
		}
	})
}
