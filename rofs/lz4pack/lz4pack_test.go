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

	"github.com/firstlight-boot/firstlight/rofs/lz4block"
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
	clear(got)
	if m := lz4block.Decode(got, dst[:n]); m != len(src) || !bytes.Equal(got, src) {
		t.Fatalf("%d bytes come back as %d from our decoder", len(src), m)
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
	for _, c := range []codec{new(Fast), &Fast{Min: 8}, &Optimal{Depth: 16}, &Optimal{}} {
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

// words returns n bytes of text of few words.
func words(n int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = fmt.Appendf(b, "%x ", 0x9e3779b97f4a7c15*uint64(r.IntN(300))>>(4*r.IntN(14)))
	}
	return b[:n]
}

// TestBounds has sizes around those at which a segment, the offsets and a cluster end.
func TestBounds(t *testing.T) {
	o := &Optimal{Depth: 4}
	src := words(1<<20 + 40)
	for _, at := range []int{segment, 2 * segment, 1 << 16, 1<<16 + segment, 1 << 17, 1 << 20} {
		for n := at - 20; n <= at+20; n++ {
			if n > 1<<16+20 && n%10 != 0 {
				continue
			}
			check(t, o, src[:n])
			// The same, and then what the start has once more.
			check(t, o, append(src[:n-20:n-20], src[:20]...))
		}
	}
}

// possible returns the length of the shortest block there is.
func possible(src []byte) int {
	// least is by position behind a match and the literals before the next one: the bytes up to there.
	n := len(src)
	length := make([]int, n) // of the longest match
	for i := range max(n-lastStart, 0) {
		for p := range i {
			length[i] = max(length[i], common(src, p, i, n-lastBytes))
		}
	}
	least := make([]int, n+1) // by position: of what ends there with a match
	for i := range least {
		least[i] = 1 << 30
	}
	least[0] = 0
	all := 1 << 30
	for from := range n + 1 {
		for i := from; i <= n; i++ {
			literals := i - from
			c := least[from] + 1 + literals
			if literals >= 15 {
				c += (literals-15)/255 + 1
			}
			if i == n {
				all = min(all, c)
				break
			}
			for l := minMatch; l <= length[i]; l++ {
				c := c + 2
				if l >= minMatch+15 {
					c += (l-minMatch-15)/255 + 1
				}
				least[i+l] = min(least[i+l], c)
			}
		}
	}
	return all
}

func TestShortest(t *testing.T) {
	got, want := 0, 0
	o := &Optimal{Depth: 1000}
	dst := make([]byte, 2000)
	for n := 20; n < 600; n += 13 {
		for _, src := range [][]byte{words(n), words(3 * n)[2*n:], words(500000)[400000:][:n]} {
			got += o.Compress(dst, src)
			want += possible(src)
		}
	}
	if got > want*1004/1000 {
		t.Errorf("%d bytes where %d are possible", got, want)
	}
}

// TestAfterOthers has compressors make of some input what new ones make of it, whatever they had before.
func TestAfterOthers(t *testing.T) {
	used := &Optimal{Depth: 4}
	used.Compress(make([]byte, 1000), words(300000)) // which does not fit
	for _, src := range append(inputs(), words(100), words(5000), words(200000)) {
		want, got := make([]byte, len(src)+1000), make([]byte, len(src)+1000)
		want = want[:(&Optimal{Depth: 4}).Compress(want, src)]
		if got = got[:used.Compress(got, src)]; !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d that are not the %d of a new one", len(src), len(got), len(want))
		}
	}
}

func FuzzCompress(f *testing.F) {
	f.Add([]byte("abcabcabcabcabcabcabcabcabcabc"))
	f.Add(bytes.Repeat([]byte("abcdefghijk-abcdefghi+abcdefghijklm"), 2000))
	f.Fuzz(func(t *testing.T, src []byte) {
		check(t, new(Fast), src)
		check(t, &Fast{Min: 9}, src)
		check(t, &Optimal{}, src)
		check(t, &Optimal{Depth: 4}, src)
	})
}
