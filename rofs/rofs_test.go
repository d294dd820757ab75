package rofs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/rofs"
	"github.com/firstlight-boot/firstlight/tree"
)

// memory is an image in memory.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

var mtime = time.Unix(1700000000, 123456789)

func dir(name string) tree.Entry {
	return tree.Entry{Path: name, Mode: fs.ModeDir | 0o755, ModTime: mtime}
}

func file(name string, data []byte) tree.Entry {
	return tree.Entry{Path: name, Mode: 0o644, ModTime: mtime, Size: int64(len(data)), Source: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

func newTree(t testing.TB, entries ...tree.Entry) *tree.Tree {
	t.Helper()
	tr, err := tree.New(append(entries, dir("."))...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func write(t testing.TB, tr *tree.Tree, o rofs.Options) []byte {
	t.Helper()
	m := &memory{}
	s, err := rofs.Write(t.Context(), m, tr, o)
	if err != nil {
		t.Fatal(err)
	}
	if s.ImageBytes != int64(len(m.b)) {
		t.Errorf("Stats.ImageBytes is %d, the image has %d", s.ImageBytes, len(m.b))
	}
	return m.b
}

func open(t testing.TB, image []byte) *rofs.FS {
	t.Helper()
	f, err := rofs.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func check(t testing.TB, image []byte) (problems []rofs.Problem) {
	t.Helper()
	err := rofs.Check(t.Context(), bytes.NewReader(image), int64(len(image)), func(p rofs.Problem) { problems = append(problems, p) })
	if err != nil {
		t.Fatal(err)
	}
	return problems
}

// mixed returns n bytes that compress like a program: runs, repeats and noise.
func mixed(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, n+300)
	for len(b) < n {
		switch k := r.IntN(4); {
		case k == 0:
			b = append(b, bytes.Repeat([]byte{byte(r.IntN(256))}, 1+r.IntN(40))...)
		case k == 1 && len(b) > 300:
			at := len(b) - 1 - r.IntN(299)
			b = append(b, b[at:min(len(b), at+4+r.IntN(60))]...)
		default:
			for range 1 + r.IntN(12) {
				b = append(b, byte(r.IntN(256)))
			}
		}
	}
	return b[:n]
}

func noise(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// corpus returns the awkward trees, by name.
func corpus(t testing.TB) map[string]*tree.Tree {
	t.Helper()
	c := map[string]*tree.Tree{"empty": newTree(t)}

	sizes := []tree.Entry{}
	for _, k := range []int{4096, 16384, 65536, 1 << 20} {
		for _, d := range []int{-1, 0, 1} {
			for m := range 2 {
				n := k*(m+1) + d
				sizes = append(sizes, file(fmt.Sprintf("mixed%d", n), mixed(n, uint64(n))))
			}
		}
	}
	for n := range 70 {
		sizes = append(sizes, file(fmt.Sprintf("tiny%d", n), mixed(n, uint64(n))))
	}
	sizes = append(sizes,
		file("zeros", make([]byte, 300000)),
		file("noise", noise(200001, 7)),
		file("holes", slices.Concat(make([]byte, 200000), mixed(100000, 3), make([]byte, 400000), []byte{1})),
		file("tail", slices.Concat(mixed(100000, 3), make([]byte, 400000))))
	program := file("program", slices.Concat([]byte("\x7fELF"), mixed(123456, 9)))
	program.Mode = 0o755
	c["sizes"] = newTree(t, append(sizes, program)...)

	deep := []tree.Entry{}
	for i, p := 0, ""; i < 200; i++ {
		p = filepath.Join(p, fmt.Sprintf("d%d", i%3))
		deep = append(deep, dir(p))
	}
	deep = append(deep, file(deep[199].Path+"/bottom", []byte("here")))
	c["deep"] = newTree(t, deep...)

	wide := []tree.Entry{}
	for i := range 3000 {
		wide = append(wide, file(fmt.Sprintf("file-with-a-long-name-%06d", i), nil))
	}
	c["wide"] = newTree(t, wide...)

	odd := []tree.Entry{file("\xff\xfe not UTF-8 \x01\n", []byte("1")), file(strings.Repeat("n", 255), []byte("2")),
		file("-", nil), file("...", []byte("3")), file(" ", []byte("4")), file("a.b", nil), dir("a"), file("a/b", []byte("5")), dir("a/empty")}
	for i := range 40 { // names that make blocks of strings end in every way
		odd = append(odd, file(strings.Repeat(string(rune('A'+i%26)), 255-i), nil))
	}
	setuid := file("setuid", []byte("x"))
	setuid.Mode |= fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	setuid.UID, setuid.GID = 4294967294, 4294967293
	setuid.ModTime = time.Unix(-5, 999999999)
	setuid.Xattrs = []tree.Xattr{{Name: "security.capability", Value: noise(20, 1)}, {Name: "user.big", Value: noise(60000, 2)}, {Name: "user.empty", Value: []byte{}}}
	again := setuid
	again.Path, again.HardLink, again.Size, again.Source = "zz-second-name", "setuid", setuid.Size, nil
	odd = append(odd, setuid, again,
		tree.Entry{Path: "link", Mode: fs.ModeSymlink | 0o777, Link: "a/b", ModTime: mtime},
		tree.Entry{Path: "longlink", Mode: fs.ModeSymlink | 0o777, Link: strings.Repeat("x/", 2047) + "y", ModTime: mtime},
		tree.Entry{Path: "dangling", Mode: fs.ModeSymlink | 0o777, Link: "\xff", ModTime: mtime},
		tree.Entry{Path: "fifo", Mode: fs.ModeNamedPipe | 0o600, ModTime: mtime},
		tree.Entry{Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3, ModTime: mtime},
		tree.Entry{Path: "disk", Mode: fs.ModeDevice | 0o660, Major: 4095, Minor: 1048575, ModTime: mtime})
	c["odd"] = newTree(t, odd...)
	return c
}

var optionSets = map[string]rofs.Options{
	"default":    {},
	"none":       {Codec: rofs.None},
	"lz4 4K":     {ClusterSize: 4096},
	"lz4 1M":     {ClusterSize: 1 << 20, ExecClusterSize: 1 << 20},
	"lz4hc":      {Codec: rofs.LZ4HC, ClusterSize: 128 << 10},
	"lz4hc 1":    {Codec: rofs.LZ4HC, Level: 1},
	"raw":        {Raw: func(p string) bool { return p == "program" || p == "holes" || p == "tiny5" }},
	"one worker": {Workers: 1},
}

// same reports where two trees differ.
func same(t *testing.T, want, got *tree.Tree) {
	t.Helper()
	if len(got.Entries) != len(want.Entries) {
		t.Fatalf("%d entries, want %d", len(got.Entries), len(want.Entries))
	}
	for i := range want.Entries {
		w, g := want.Entries[i], got.Entries[i]
		wantData, gotData := content(t, w), content(t, g)
		if !bytes.Equal(wantData, gotData) {
			t.Errorf("%q: content of %d bytes is not what was written: %d bytes", w.Path, len(gotData), len(wantData))
		}
		w.Source, g.Source = nil, nil
		if w.HardLink != "" {
			w.Size, g.Size = 0, 0
		}
		if d := cmp.Diff(w, g); d != "" {
			t.Errorf("%q: want(-) got(+):\n%s", w.Path, d)
		}
	}
}

func content(t *testing.T, e tree.Entry) []byte {
	t.Helper()
	if e.Source == nil {
		return nil
	}
	r, err := e.Source()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%q: %v", e.Path, err)
	}
	return b
}

func TestCorpus(t *testing.T) {
	for name, tr := range corpus(t) {
		for options, o := range optionSets {
			t.Run(name+"/"+options, func(t *testing.T) {
				t.Parallel()
				image := write(t, tr, o)
				got, err := open(t, image).Tree()
				if err != nil {
					t.Fatal(err)
				}
				same(t, tr, got)
				for _, p := range check(t, image) {
					t.Error(p)
				}
			})
		}
	}
}

var _ = context.Background
var _ = os.Getenv
