package zstdpack

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/firstlight-boot/firstlight/internal/codectest"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/rofs/zstdblock"
)

// judges are decoders that are not ours, and the one that the kernel has.
type judges struct {
	ours   zstdblock.Decoder
	theirs *zstd.Decoder
}

func newJudges(tb testing.TB) *judges {
	tb.Helper()
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(d.Close)
	return &judges{theirs: d}
}

// check compresses src and wants it back from each. It returns the frame.
func (j *judges) check(tb testing.TB, e *Encoder, src []byte) []byte {
	tb.Helper()
	dst := make([]byte, len(src)+64)
	n := e.Compress(dst, src)
	if n == 0 {
		tb.Fatalf("%d bytes do not fit into %d", len(src), len(dst))
	}
	frame := dst[:n:n]
	got := make([]byte, len(src))
	if m := j.ours.Decode(got, frame); m != len(src) || !bytes.Equal(got, src) {
		tb.Fatalf("%d bytes come back as %d from our decoder", len(src), m)
	}
	if got, err := j.theirs.DecodeAll(frame, nil); err != nil || !bytes.Equal(got, src) {
		tb.Fatalf("%d bytes come back as %d from klauspost's decoder, %v", len(src), len(got), err)
	}
	return frame
}

// sizes are those around which a frame's form changes.
var sizes = []int{0, 1, 2, 3, 5, 6, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 255, 256, 257, 511, 1023, 1024, 1025, 4095, 4096, 16383, 16384,
	65535, 65536, 65791, 65792, 131071, 131072, 131073, 262144, 1 << 20}

// inputs are of each size: noise, few letters, one letter, a short text again and again, and a mixture with repetitions far and near.
func inputs() (list [][]byte) {
	for _, n := range sizes {
		r := rand.New(rand.NewPCG(uint64(n), 1))
		noise, few := make([]byte, n), make([]byte, n)
		for i := range noise {
			noise[i] = byte(r.Uint32())
			few[i] = byte(r.Uint32() & 3)
		}
		far := bytes.Clone(noise) // the last part again
		copy(far[n-n/4:], far[:n/4])
		list = append(list, noise, few, make([]byte, n), bytes.Repeat([]byte("the quick brown fox "), n/20+1)[:n], codectest.Sample(uint64(n), n), far)
	}
	return list
}

func TestJudges(t *testing.T) {
	j := newJudges(t)
	for _, level := range []int{MinLevel, 19, MaxLevel} {
		e := New(level)
		for _, src := range inputs() {
			if len(src) > 1<<17+1 && level == MaxLevel {
				continue // slow
			}
			j.check(t, e, src)
		}
	}
}

// TestTool has the zstd tool decode.
func TestTool(t *testing.T) {
	tool := needs.Tool(t, "zstd", "zstd")
	dir := t.TempDir()
	e, j := New(MinLevel), newJudges(t)
	args := []string{"-d", "-q"}
	list := inputs()
	for i, src := range list {
		name := filepath.Join(dir, strconv.Itoa(i)+".zst")
		if err := os.WriteFile(name, j.check(t, e, src), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
		t.Fatalf("zstd: %v\n%s", err, out)
	}
	for i, src := range list {
		if got, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i))); err != nil || !bytes.Equal(got, src) {
			t.Fatalf("%d bytes come back as %d from zstd, %v", len(src), len(got), err)
		}
	}
}

// forms are the ways of a frame's parts, by name, that a frame has.
func forms(frame []byte) map[string]bool {
	has := map[string]bool{}
	at := 6
	if frame[4]>>6 == 1 {
		at = 7
	} else if frame[4]>>6 == 2 {
		at = 9
	}
	for last := false; !last; {
		v := int(frame[at]) | int(frame[at+1])<<8 | int(frame[at+2])<<16
		last = v&1 != 0
		size := v >> 3
		block := frame[at+3:]
		at += 3
		switch v >> 1 & 3 {
		case blockRaw:
			has["raw block"] = true
		case blockRLE:
			has["RLE block"] = true
			size = 1
		default:
			kind, format := block[0]&3, block[0]>>2&3
			name := [...]string{"raw literals", "RLE literals", "compressed literals", "treeless literals"}[kind]
			var head, length int
			if kind < litsCompressed {
				head, length = [...]int{1, 2, 1, 3}[format], 1
				if kind == litsRaw {
					n := int(block[0]) >> 3
					if format&1 != 0 {
						if n = int(block[0])>>4 | int(block[1])<<4; format == 3 {
							n |= int(block[2]) << 12
						}
					}
					length = n
				}
			} else {
				n := uint64(0)
				for i := range 5 {
					n |= uint64(block[i]) << (8 * i)
				}
				head = [...]int{3, 3, 4, 5}[format]
				width := [...]int{10, 10, 14, 18}[format]
				length = int(n >> (4 + width) & (1<<width - 1))
				name += map[bool]string{true: " in one stream", false: " in four streams"}[format == 0]
			}
			has[name] = true
			seqs := block[head+length:]
			k := 1
			switch {
			case seqs[0] == 0:
				has["no sequences"] = true
			case seqs[0] == 255:
				has["many sequences"] = true
				k = 3
			case seqs[0] >= 128:
				k = 2
			}
			if seqs[0] != 0 {
				for i, part := range []string{"literal lengths", "offsets", "match lengths"} {
					has[[...]string{"default ", "RLE ", "new ", "repeated "}[seqs[k]>>(6-2*i)&3]+part] = true
				}
			}
		}
		at += size
	}
	return has
}

// TestForms wants every form that the format has of a block and its parts.
func TestForms(t *testing.T) {
	j, e := newJudges(t), New(20)
	has := map[string]bool{}
	add := func(src []byte) {
		for name := range forms(j.check(t, e, src)) {
			has[name] = true
		}
	}
	for _, src := range inputs() {
		add(src)
	}
	r := rand.New(rand.NewPCG(1, 1))
	random := func(n, letters int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.IntN(letters))
		}
		return b
	}
	// Matches of one length and distance, between literals whose number is always the same.
	var regular []byte
	for len(regular) < maxBlock+1600 {
		regular = append(append(regular, random(3, 256)...), "as regular as"...)
	}
	add(regular)
	// Many matches of three bytes.
	words := random(3000, 256)
	var many []byte
	for len(many) < maxBlock {
		at := 3 * r.IntN(1000)
		many = append(many, words[at:at+3]...)
	}
	add(many)
	// Literals of one value, between repetitions of another block.
	ones := random(maxBlock, 256)
	for range 300 {
		at := r.IntN(maxBlock - 12)
		ones = append(append(ones, 'x'), ones[at:at+12]...)
	}
	add(ones)
	add(random(200, 16))          // hardly any repetition
	add(random(maxBlock+700, 64)) // a second block like the first
	for seed := range uint64(8) {
		add(codectest.Sample(seed, maxBlock+6000))
	}
	for _, kind := range []string{"literal lengths", "offsets", "match lengths"} {
		for _, mode := range []string{"default ", "RLE ", "new ", "repeated "} {
			if !has[mode+kind] {
				t.Errorf("no %s%s", mode, kind)
			}
		}
	}
	for _, name := range []string{"raw block", "RLE block", "raw literals", "RLE literals", "compressed literals in one stream",
		"compressed literals in four streams", "treeless literals in one stream", "treeless literals in four streams", "no sequences", "many sequences"} {
		if !has[name] {
			t.Errorf("no %s", name)
		}
	}
}

// TestSame wants the same bytes of the same input, whatever came before, exactly into the room they take, and nothing in less.
func TestSame(t *testing.T) {
	e := New(19)
	for _, src := range inputs() {
		if len(src) > 1<<17+1 {
			continue
		}
		want := make([]byte, len(src)+64)
		want = want[:New(19).Compress(want, src)]
		exact := make([]byte, len(want))
		if n := e.Compress(exact, src); n != len(want) || !bytes.Equal(exact, want) {
			t.Errorf("%d bytes: %d by an encoder that was used, not %d", len(src), n, len(want))
		}
		if n := e.Compress(exact[:len(want)-1], src); n != 0 {
			t.Errorf("%d bytes: %d in %d bytes of room", len(src), n, len(want)-1)
		}
	}
	if n := e.Compress(make([]byte, 2<<20), make([]byte, MaxLen+1)); n != 0 {
		t.Errorf("%d of more bytes than can be", n)
	}
}

func TestAllocs(t *testing.T) {
	e, src := New(19), codectest.Sample(7, 1<<17)
	dst := make([]byte, len(src))
	if n := testing.AllocsPerRun(3, func() { e.Compress(dst, src) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func FuzzCompress(f *testing.F) {
	f.Add([]byte("abcabcabcabcabcabcabcabcabcabc"))
	f.Add(codectest.Sample(1, 3000))
	f.Add([]byte("\xe5\xe5\xe5\xe5////\x88\x88\x88\x88\xe5\xe5\xe5\xe5\xe5")) // a description of a table close to the end
	j := newJudges(f)
	low, high := New(MinLevel), New(MaxLevel)
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > MaxLen {
			return
		}
		j.check(t, low, src)
		j.check(t, high, src)
	})
}

// BenchmarkCompress has the Go toolchain's own folder in clusters.
func BenchmarkCompress(b *testing.B) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Skip(err)
	}
	names, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(root)), "*", "*", "*.go"))
	if err != nil {
		b.Fatal(err)
	}
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		program = append(program, text...)
	}
	for _, size := range []int{128 << 10, 1 << 20} {
		for _, level := range []int{MinLevel, 9, 12, 15, 19} {
			b.Run(fmt.Sprintf("%d/%dK", level, size>>10), func(b *testing.B) {
				e, dst := New(level), make([]byte, size+64)
				total, in := 0, 0
				for b.Loop() {
					total, in = 0, 0
					for at := 0; at+size <= len(program); at += size {
						total += e.Compress(dst, program[at:at+size])
						in += size
					}
				}
				b.SetBytes(int64(in))
				b.ReportMetric(float64(total)/float64(in)*100, "%")
			})
		}
	}
}
