package fsbench

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pierrec/lz4/v4"

	"github.com/firstlight-boot/firstlight/rofs"
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/tree"
)

var dir = flag.String("tree", "", "folder to measure with, instead of the test's own program")

// image makes one of the folder.
func image(tb testing.TB, dir string, o rofs.Options) string {
	tb.Helper()
	t, err := tree.FromDir(tb.Context(), dir, tree.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := rofs.Write(tb.Context(), f, t, o); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	return path
}

// program returns a folder with this test's program.
func program(tb testing.TB) string {
	tb.Helper()
	if *dir != "" {
		return *dir
	}
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		tb.Fatal(err)
	}
	d := tb.TempDir()
	if err := os.WriteFile(filepath.Join(d, "program"), b, 0o644); err != nil {
		tb.Fatal(err)
	}
	return d
}

// TestRead only sees that everything is measured: conclusions are for quiet machines and the benchmark.
func TestRead(t *testing.T) {
	f, err := ReadPath(image(t, program(t), rofs.Options{Codec: rofs.LZ4}), 1)
	if err != nil {
		t.Fatal(err)
	}
	if f.Codec <= 0 || f.Files <= 0 || f.Parts <= 0 || f.Warm <= 0 || f.Cold <= 0 || f.Decode <= 0 {
		t.Fatalf("%+v", f)
	}
	t.Log(f)
}

// BenchmarkRead prints the ratios: go test -bench Read ./internal/fsbench -args -tree $(go env GOROOT).
func BenchmarkRead(b *testing.B) {
	path := image(b, program(b), rofs.Options{Codec: rofs.LZ4})
	for b.Loop() {
		f, err := ReadPath(path, 5)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(f.FilesRatio, "files/codec")
		b.ReportMetric(f.PartsRatio, "parts/codec")
		b.ReportMetric(f.WarmRatio, "warm/decode")
		b.ReportMetric(f.ColdRatio, "cold/decode")
		b.Log("\n" + f.String())
	}
}

// BenchmarkDecoders compares the leaf reader's LZ4 decoder with pierrec's assembly on the clusters of the image, in turn.
func BenchmarkDecoders(b *testing.B) {
	for _, size := range []int{64 << 10, 128 << 10} {
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			image, err := os.ReadFile(image(b, program(b), rofs.Options{Codec: rofs.LZ4, ClusterSize: size}))
			if err != nil {
				b.Fatal(err)
			}
			list, _, err := clusters(bytes.NewReader(image), int64(len(image)))
			if err != nil {
				b.Fatal(err)
			}
			list = slices.DeleteFunc(list, func(c cluster) bool { return c.Codec() != format.CodecLZ4 })
			var d decoder
			theirs := func() error {
				for i := range list {
					c := &list[i]
					if n, err := lz4.UncompressBlock(image[c.Off():][:c.Len()], d.buf[:c.Size()]); err != nil || n != int(c.Size()) {
						return fmt.Errorf("%s: %d bytes, %w", c.path, n, err)
					}
				}
				return nil
			}
			var ratios []float64
			for b.Loop() {
				for range 15 {
					own, err := timed(func() error { return d.all(image, list) })
					if err != nil {
						b.Fatal(err)
					}
					other, err := timed(theirs)
					if err != nil {
						b.Fatal(err)
					}
					ratios = append(ratios, float64(other)/float64(own))
				}
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ours/pierrec")
		})
	}
}
