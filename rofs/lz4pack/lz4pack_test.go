package lz4pack

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pierrec/lz4/v4"
)

type codec interface{ Compress(dst, src []byte) int }

// corpus reads files of the Go toolchain, in clusters.
func corpus(tb testing.TB, size int) (list [][]byte) {
	tb.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		tb.Fatal(err)
	}
	var buf []byte
	err = filepath.WalkDir(strings.TrimSpace(string(root)), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		if len(b) > 2<<20 {
			b = b[:2<<20]
		}
		buf = append(buf, b...)
		if len(buf) > 100<<20 {
			return fs.SkipAll
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	for len(buf) >= size {
		list = append(list, buf[:size])
		buf = buf[size:]
	}
	return list
}

func bench(b *testing.B, size int, compress func(dst, src []byte) int) {
	list := corpus(b, size)
	dst := make([]byte, size)
	total := 0
	for b.Loop() {
		total = 0
		for _, src := range list {
			n := compress(dst, src)
			if n == 0 {
				n = size
			}
			total += n
		}
	}
	b.SetBytes(int64(len(list) * size))
	b.ReportMetric(float64(total)/float64(len(list)*size)*100, "%")
}

func BenchmarkCompress(b *testing.B) {
	for _, size := range []int{64 << 10, 128 << 10} {
		name := map[int]string{64 << 10: "/64K", 128 << 10: "/128K"}[size]
		b.Run("fast"+name, func(b *testing.B) { bench(b, size, new(Fast).Compress) })
		for _, depth := range []int{4, 8, 16, 64} {
			b.Run(fmt.Sprintf("optimal%d%s", depth, name), func(b *testing.B) { bench(b, size, (&Optimal{Depth: depth}).Compress) })
		}
		b.Run("pierrec"+name, func(b *testing.B) {
			var c lz4.Compressor
			bench(b, size, func(dst, src []byte) int { n, _ := c.CompressBlock(src, dst); return n })
		})
	}
}

func inputs() [][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	var list [][]byte
	for n := range 80 {
		list = append(list, bytes.Repeat([]byte{1}, n), bytes.Repeat([]byte("abcde"), n))
	}
	for _, n := range []int{100, 1000, 65535, 65536, 70000, 200000, 1 << 20} {
		noise := make([]byte, n)
		for i := range noise {
			noise[i] = byte(r.Uint32())
		}
		small := make([]byte, n)
		for i := range small {
			small[i] = byte(r.Uint32() & 3)
		}
		list = append(list, noise, small, bytes.Repeat(noise[:min(n, 300)], n/300+1)[:n], append(append(bytes.Clone(noise), noise...), small...), make([]byte, n))
	}
	return list
}

func check(t *testing.T, c codec, src []byte) {
	t.Helper()
	dst := make([]byte, lz4.CompressBlockBound(len(src))+1)
	n := c.Compress(dst, src)
	if n == 0 {
		t.Fatalf("%d bytes do not fit into %d", len(src), len(dst))
	}
	got := make([]byte, len(src))
	if m, err := lz4.UncompressBlock(dst[:n], got); err != nil || m != len(src) || !bytes.Equal(got, src) {
		t.Fatalf("%d bytes come back as %d, %v", len(src), m, err)
	}
	exact := make([]byte, n)
	if m := c.Compress(exact, src); m != n || !bytes.Equal(exact, dst[:n]) {
		t.Errorf("%d bytes: %d the second time, into just enough room, not %d", len(src), m, n)
	}
	if m := c.Compress(exact[:n-1], src); m != 0 {
		t.Errorf("%d bytes: %d in %d bytes of room", len(src), m, n-1)
	}
}

func TestPierrecReads(t *testing.T) {
	for _, c := range []codec{new(Fast), &Fast{Min: 8}, &Optimal{Depth: 16}, &Optimal{Depth: 1}} {
		for _, src := range inputs() {
			check(t, c, src)
		}
	}
}

// shortest returns the length of the shortest match of a block.
func shortest(block []byte) int {
	least := 1 << 30
	count := func(i, n int) (int, int) {
		if n == 15 {
			for more := byte(255); more == 255; i++ {
				more = block[i]
				n += int(more)
			}
		}
		return i, n
	}
	for i := 0; i < len(block); {
		token := block[i]
		var literals, match int
		i, literals = count(i+1, int(token>>4))
		if i += literals; i == len(block) {
			break
		}
		i, match = count(i+2, int(token&15))
		least = min(least, match+minMatch)
	}
	return least
}

func TestMin(t *testing.T) {
	short, src := 0, corpus(t, 64<<10)[:16]
	for _, src := range src {
		dst := make([]byte, len(src))
		short = max(short, shortest(dst[:(&Fast{}).Compress(dst, src)]))
		if n := shortest(dst[:(&Fast{Min: 9}).Compress(dst, src)]); n < 9 {
			t.Errorf("a match of %d bytes", n)
		}
	}
	if short > 8 {
		t.Errorf("without a least length the shortest match is of %d bytes", short)
	}
}

func FuzzCompress(f *testing.F) {
	f.Add([]byte("abcabcabcabcabcabcabcabcabcabc"))
	f.Fuzz(func(t *testing.T, src []byte) {
		check(t, new(Fast), src)
		check(t, &Fast{Min: 9}, src)
		check(t, &Optimal{Depth: 4}, src)
	})
}
