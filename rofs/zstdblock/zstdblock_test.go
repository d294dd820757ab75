package zstdblock

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/firstlight-boot/firstlight/internal/codectest"
	"github.com/firstlight-boot/firstlight/internal/needs"
)

// guarded returns n bytes within a larger buffer, and a function that tells whether what lies around them is untouched.
func guarded(n int) ([]byte, func() bool) {
	const edge = 64
	all := bytes.Repeat([]byte{0xa5}, n+2*edge)
	return all[edge : edge+n : edge+n], func() bool {
		return bytes.Equal(all[:edge], all[n+edge:]) && bytes.Equal(all[:edge], bytes.Repeat([]byte{0xa5}, edge))
	}
}

func decode(t testing.TB, z *Decoder, size int, src []byte) ([]byte, bool) {
	t.Helper()
	src = append(make([]byte, 0, len(src)), src...) // so that what is read beyond faults
	before := append([]byte(nil), src...)
	dst, intact := guarded(size)
	n := z.Decode(dst, src)
	if haveAsm && !z.generic {
		other, _ := guarded(size)
		z.generic = true
		if m := z.Decode(other, src); m != n || n >= 0 && !bytes.Equal(other[:n], dst[:n]) {
			t.Fatalf("without assembly %d bytes, with it %d, of\n%x", m, n, src)
		}
		z.generic = false
	}
	if !intact() {
		t.Fatal("wrote outside dst")
	}
	if !bytes.Equal(src, before) {
		t.Fatal("wrote to src")
	}
	if n < 0 {
		return nil, false
	}
	return dst[:n], true
}

var levels = []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression, zstd.SpeedBestCompression}

func encoders(t testing.TB) (all []*zstd.Encoder) {
	t.Helper()
	for i, level := range levels {
		for _, single := range []bool{false, true} {
			e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithSingleSegment(single),
				zstd.WithEncoderCRC(i%2 == 0), zstd.WithLowerEncoderMem(true))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
	}
	return all
}

// odd are sizes around those where a frame's form changes.
var odd = []int{0, 1, 2, 3, 5, 6, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 255, 256, 257, 511, 1023, 1024, 1025, 4095, 4096, 16383, 16384,
	65535, 65536, 65537, 65791, 65792, 131071, 131072, 131073, 262144, 1 << 20, 1<<20 + 1}

func TestKlauspost(t *testing.T) {
	z := new(Decoder)
	for _, e := range encoders(t) {
		for i, size := range odd {
			data := codectest.Sample(uint64(i), size)
			packed := e.EncodeAll(data, nil)
			if len(packed) == 0 { // of nothing it makes nothing
				continue
			}
			check(t, z, data, packed)
		}
	}
}

// check wants data of the frame, whatever room there is, nothing of a shorter one, and no room too little.
func check(t *testing.T, z *Decoder, data, packed []byte) {
	t.Helper()
	for _, room := range []int{0, 1, 17, 100} {
		if got, ok := decode(t, z, len(data)+room, packed); !ok || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes with room for %d more: ok %v, %d bytes", len(data), room, ok, len(got))
		}
	}
	if len(data) > 0 {
		if _, ok := decode(t, z, len(data)-1, packed); ok {
			t.Fatal("decodes to less room than it takes")
		}
	}
	for _, cut := range []int{len(packed) - 1, len(packed) / 2, 0} {
		if _, ok := decode(t, z, len(data), packed[:cut]); ok {
			t.Fatalf("%d of %d bytes of a frame decode", cut, len(packed))
		}
	}
	if _, ok := decode(t, z, len(data), append(packed[:len(packed):len(packed)], 0)); ok {
		t.Fatal("decodes with a byte too many")
	}
}

// TestTool has frames of the zstd tool.
func TestTool(t *testing.T) {
	tool := needs.Tool(t, "zstd", "zstd")
	var names []string
	var datas [][]byte
	dir := t.TempDir()
	for i, size := range []int{0, 1, 7, 100, 257, 1000, 4096, 12345, 65535, 65536, 131073, 300001, 1 << 20} {
		names = append(names, filepath.Join(dir, strconv.Itoa(size)))
		datas = append(datas, codectest.Sample(uint64(100+i), size))
		if err := os.WriteFile(names[i], datas[i], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	options := [][]string{{"--fast=5"}, {"--ultra", "-22"}, {"--ultra", "-20", "--no-check"}, {"-3", "--no-content-size"}, {"-19", "--long=20"}}
	for level := 1; level <= 19; level++ {
		options = append(options, []string{"-" + strconv.Itoa(level)})
	}
	z := new(Decoder)
	for _, o := range options {
		if out, err := exec.Command(tool, append(append(o, "-q", "-f", "-k"), names...)...).CombinedOutput(); err != nil {
			t.Fatalf("zstd %v: %v\n%s", o, err, out)
		}
		for i, name := range names {
			packed, err := os.ReadFile(name + ".zst")
			if err != nil {
				t.Fatal(err)
			}
			check(t, z, datas[i], packed)
		}
	}
}
