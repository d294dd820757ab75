package rofs_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pierrec/lz4/v4"

	"github.com/firstlight-boot/firstlight/rofs"
	"github.com/firstlight-boot/firstlight/rofs/lz4block"
	"github.com/firstlight-boot/firstlight/tree"
)

// program returns bytes of a real program: this test.
func program(tb testing.TB) []byte {
	tb.Helper()
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// BenchmarkDecode compares our decoder with pierrec's on the clusters of a program.
func BenchmarkDecode(b *testing.B) {
	data := program(b)
	for _, size := range []int{16 << 10, 64 << 10} {
		for _, hc := range []bool{false, true} {
			var packed [][]byte
			for at := 0; at+size <= len(data); at += size {
				dst := make([]byte, lz4.CompressBlockBound(size))
				var n int
				var err error
				if hc {
					n, err = lz4.CompressBlockHC(data[at:at+size], dst, lz4.Level9, nil, nil)
				} else {
					n, err = lz4.CompressBlock(data[at:at+size], dst, nil)
				}
				if err != nil {
					b.Fatal(err)
				}
				packed = append(packed, dst[:n:n])
			}
			out := make([]byte, size)
			name := fmt.Sprintf("%dK/hc=%v/", size>>10, hc)
			b.Run(name+"ours", func(b *testing.B) {
				b.SetBytes(int64(len(packed) * size))
				for b.Loop() {
					for _, p := range packed {
						if lz4block.Decode(out, p) != size {
							b.Fatal("wrong length")
						}
					}
				}
			})
			b.Run(name+"pierrec", func(b *testing.B) {
				b.SetBytes(int64(len(packed) * size))
				for b.Loop() {
					for _, p := range packed {
						if n, err := lz4.UncompressBlock(p, out); n != size || err != nil {
							b.Fatal(n, err)
						}
					}
				}
			})
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	t := newTree(b, file("program", program(b)))
	for _, codec := range []rofs.Codec{rofs.None, rofs.LZ4, rofs.LZ4HC} {
		b.Run(string(codec), func(b *testing.B) {
			b.SetBytes(t.Entries[1].Size)
			for b.Loop() {
				if _, err := rofs.Write(b.Context(), discard{}, t, rofs.Options{Codec: codec}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	data := program(b)
	f := open(b, write(b, newTree(b, tree.Entry(file("program", data))), rofs.Options{}))
	b.SetBytes(int64(len(data)))
	buf := make([]byte, 256<<10)
	for b.Loop() {
		r, err := f.Open("program")
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, buf); n != int64(len(data)) || err != nil {
			b.Fatal(n, err)
		}
	}
}

type discard struct{}

func (discard) WriteAt(p []byte, off int64) (int, error) { return len(p), nil }

// BenchmarkTree writes the Go toolchain's own folder.
func BenchmarkTree(b *testing.B) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Skip(err)
	}
	t, err := tree.FromDir(b.Context(), strings.TrimSpace(string(out)), tree.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for name, o := range map[string]rofs.Options{
		"lz4":        {},
		"lz4/128K":   {ClusterSize: 128 << 10},
		"lz4hc/64K":  {Codec: rofs.LZ4HC, ClusterSize: 64 << 10},
		"lz4hc/128K": {Codec: rofs.LZ4HC, ClusterSize: 128 << 10},
		"zstd/128K":  {Codec: rofs.Zstd, ClusterSize: 128 << 10},
		"zstd:19/1M": {Codec: rofs.Zstd, Level: 19, ClusterSize: 1 << 20},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s, err := rofs.Write(b.Context(), discard{}, t, o)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(s.FileBytes)
				b.ReportMetric(float64(s.ImageBytes)/1e6, "MB-image")
			}
		})
	}
}
