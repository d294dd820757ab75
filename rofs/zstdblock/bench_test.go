package zstdblock

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// BenchmarkDecode decodes clusters of Go's own source, and of the test's program.
func BenchmarkDecode(b *testing.B) {
	var text []byte
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(root)), "src", "*", "*.go"))
	if err != nil || len(names) == 0 {
		b.Skipf("no Go source: %v", err)
	}
	for _, name := range names {
		if text = append(text, read(b, name)...); len(text) > 4<<20 {
			break
		}
	}
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	theirs := reference(b)
	for _, in := range []struct {
		name string
		data []byte
	}{{"source", text}, {"program", read(b, exe)}} {
		for _, size := range []int{64 << 10, 1 << 20} {
			for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedBestCompression} {
				e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false))
				if err != nil {
					b.Fatal(err)
				}
				var packed [][]byte
				for at := 0; at+size <= min(len(in.data), 4<<20); at += size {
					packed = append(packed, e.EncodeAll(in.data[at:at+size], nil))
				}
				run := func(who string, decode func(dst, src []byte) []byte) {
					b.Run(fmt.Sprintf("%s/%dk/%v/%s", in.name, size>>10, level, who), func(b *testing.B) {
						b.SetBytes(int64(size * len(packed)))
						dst := make([]byte, size)
						for b.Loop() {
							for i, p := range packed {
								if !bytes.Equal(decode(dst, p)[:64], in.data[i*size:][:64]) {
									b.Fatal("wrong")
								}
							}
						}
					})
				}
				z := new(Decoder)
				run("own", func(dst, src []byte) []byte { return dst[:max(0, z.Decode(dst, src))] })
				run("klauspost", func(dst, src []byte) []byte {
					out, err := theirs.DecodeAll(src, dst[:0])
					if err != nil {
						b.Fatal(err)
					}
					return out
				})
			}
		}
	}
}

func read(b *testing.B, name string) []byte {
	data, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	return data
}
