package bootfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/firstlight-boot/firstlight/internal/osvtest"
	"github.com/firstlight-boot/firstlight/tree"
)

func open(t testing.TB, b []byte) *FS {
	t.Helper()
	if !Probe(b, int64(len(b))) {
		t.Error("Probe does not know the archive")
	}
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t testing.TB, tr *tree.Tree, o Options) []byte {
	t.Helper()
	var w osvtest.Buffer
	st, err := Write(t.Context(), &w, tr, o)
	if err != nil {
		t.Fatal(err)
	}
	if st.ImageBytes != int64(len(w.B)) {
		t.Fatalf("%d bytes written, told %d", len(w.B), st.ImageBytes)
	}
	if err := Check(t.Context(), bytes.NewReader(w.B), int64(len(w.B)), func(p Problem) { t.Errorf("%+v", p) }); err != nil {
		t.Error(err)
	}
	return w.B
}

// What OSv's own tool wrote reads back, and the same tree in the same order is the same file.
func TestGolden(t *testing.T) {
	f := open(t, osvtest.BootFS)
	osvtest.Same(t, f.Tree, osvtest.Tree(t))
	if err := fstest.TestFS(f, "hello", "etc/empty", "usr/lib/zero", "usr/lib/deep/deeper/leaf.txt"); err != nil {
		t.Error(err)
	}
	if err := Check(t.Context(), bytes.NewReader(osvtest.BootFS), int64(len(osvtest.BootFS)), func(p Problem) { t.Errorf("%+v", p) }); err != nil {
		t.Error(err)
	}
	if got := write(t, osvtest.Tree(t), Options{Order: osvtest.Order()}); !bytes.Equal(got, osvtest.BootFS) {
		t.Error("the archive that is written is not OSv's")
	}
	a, b := write(t, osvtest.Tree(t), Options{}), write(t, f.Tree, Options{})
	if !bytes.Equal(a, b) || len(a) != len(osvtest.BootFS) {
		t.Error("the same tree gives different archives")
	}
	if got := write(t, newTree(t), Options{}); !bytes.Equal(got, make([]byte, 128)) || len(open(t, got).Entries) != 1 {
		t.Errorf("an empty archive: % x", got)
	}
}

func newTree(t testing.TB, list ...tree.Entry) *tree.Tree {
	t.Helper()
	tr, err := tree.New(append(list, tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755})...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func file(name, content string) tree.Entry {
	return tree.Entry{Path: name, Mode: 0o644, Size: int64(len(content)), Source: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

func TestNames(t *testing.T) {
	longest := strings.Repeat("n", 109) // with the slash before it 110
	hard := file("again", "x")
	hard.HardLink, hard.Source = longest, nil
	hard.Path = "zzz"
	tr := newTree(t, file(longest, "x"), hard, tree.Entry{Path: strings.Repeat("d", 108), Mode: fs.ModeDir | 0o755}, file("日本", ""))
	osvtest.Same(t, open(t, write(t, tr, Options{})).Tree, tr)
	for _, bad := range []tree.Entry{
		file(longest+"n", "x"), file(strings.Repeat("ä", 55), ""), {Path: strings.Repeat("d", 109), Mode: fs.ModeDir | 0o755},
		{Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice}, {Path: "pipe", Mode: fs.ModeNamedPipe},
	} {
		var w osvtest.Buffer
		if _, err := Write(t.Context(), &w, newTree(t, bad), Options{}); !errors.Is(err, ErrUnsupported) || len(w.B) > 0 {
			t.Errorf("%.20q: %v", bad.Path, err)
		}
	}
}

func TestWriteFails(t *testing.T) {
	for _, wrong := range []string{"short", "much too long"} {
		e := file("f", "content!")
		e.Source = file("f", wrong).Source
		if _, err := Write(t.Context(), new(osvtest.Buffer), newTree(t, e), Options{}); !errors.Is(err, errSize) {
			t.Errorf("a source of %q: %v", wrong, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, new(osvtest.Buffer), osvtest.Tree(t), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	for most := 1; most < len(osvtest.BootFS); most += 10_000 {
		if _, err := Write(t.Context(), &osvtest.Buffer{Most: most}, osvtest.Tree(t), Options{}); !errors.Is(err, osvtest.ErrFull) {
			t.Errorf("a disk of %d bytes: %v", most, err)
		}
	}
}

// archive is made of records and what follows the last one.
func archive(data string, records ...*record) []byte {
	var b []byte
	for _, r := range append(records, new(record)) {
		b = append(b, r[:]...)
	}
	return append(b, data...)
}

func TestDamaged(t *testing.T) {
	good := newRecord(4, 256, typeFile, "/a")
	endless := *good
	for i := nameAt; i < recordSize; i++ {
		endless[i] = 'x'
	}
	odd := *good
	odd[16] = 2
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"nothing", nil, ErrTruncated},
		{"no last record", good[:], ErrTruncated},
		{"content behind the end", archive("dat", good), ErrTruncated},
		{"content overflows", archive("data", newRecord(-1, 256, 0, "/a")), ErrTruncated},
		{"offset overflows", archive("data", newRecord(4, -4, 0, "/a")), ErrTruncated},
		{"content in the records", archive("data", newRecord(4, 255, 0, "/a")), ErrFormat},
		{"endless name", archive("data", &endless), ErrFormat},
		{"a type that is none", archive("data", &odd), ErrFormat},
		{"dot dot", archive("data", newRecord(4, 256, 0, "/../a")), ErrFormat},
		{"an empty name within", archive("data", newRecord(4, 256, 0, "/b//a")), ErrFormat},
		{"twice", archive("data", newRecord(4, 384, 0, "/a"), newRecord(4, 384, 0, "/a")), ErrFormat},
		{"a file as directory", archive("data", newRecord(4, 384, 0, "/a"), newRecord(4, 384, 0, "/a/b")), ErrFormat},
		{"a directory with content", archive("data", newRecord(4, 256, 0, "/a/")), ErrFormat},
		{"a link without end", archive("data", newRecord(4, 256, typeLink, "/a")), ErrFormat},
		{"an empty link", archive("\x00", newRecord(1, 256, typeLink, "/a")), ErrFormat},
		{"an endless link", archive(strings.Repeat("x", 1<<20), newRecord(1<<20, 256, typeLink, "/a")), ErrFormat},
	} {
		_, err := Open(bytes.NewReader(tt.b), int64(len(tt.b)))
		if fe := (*FormatError)(nil); !errors.As(err, &fe) || !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, err := Open(bytes.NewReader(osvtest.BootFS[:1000]), int64(len(osvtest.BootFS))); !errors.Is(err, ErrTruncated) {
		t.Errorf("short device: %v", err)
	}
	// Records that OSv's kernel takes.
	dirt := *newRecord(4, 640, 0, "/x/b")
	dirt[127] = 1
	b := archive("data\x00!", newRecord(0, 640, 0, "/x/"), newRecord(0, 640, 0, "/"), newRecord(4, 640, 0, "c"), &dirt)
	f := open(t, b)
	if len(f.Entries) != 4 || f.Lookup("c").Size != 4 || f.Lookup("x/b").Size != 4 {
		t.Errorf("%+v", f.Entries)
	}
	var got []Problem
	if err := Check(t.Context(), bytes.NewReader(b), int64(len(b)), func(p Problem) { got = append(got, p) }); err != nil || len(got) != 2 || got[1].Offset != int64(len(b)-1) {
		t.Errorf("problems %+v, %v", got, err)
	}
}

func TestProbe(t *testing.T) {
	for name, b := range map[string][]byte{
		"zeros": make([]byte, 4096), "text": bytes.Repeat([]byte("/a"), 200), "nothing": nil, "ROFS": osvtest.ROFS,
		"offset": slices.Concat(make([]byte, 8), binary.LittleEndian.AppendUint64(nil, 1<<40), []byte("\x00/a"), make([]byte, 300)),
	} {
		if Probe(b, int64(len(b))) {
			t.Errorf("Probe takes %s", name)
		}
	}
}

// Whatever the bytes are, there is an error or a sound tree, all of whose content can be read.
func FuzzOpen(f *testing.F) {
	seed := archive("data/to\x00", newRecord(4, 512, 0, "/a"), newRecord(4, 516, typeLink, "/b/l"), newRecord(0, 520, 0, "/d/"))
	f.Add(seed)
	if _, err := Open(bytes.NewReader(seed), int64(len(seed))); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if fe := (*FormatError)(nil); !errors.As(err, &fe) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if err := fsys.Validate(); err != nil {
			t.Fatal(err)
		}
		for _, e := range fsys.Entries[:min(len(fsys.Entries), 100)] {
			if e.Mode.IsRegular() {
				if got, err := fs.ReadFile(fsys, e.Path); err != nil || int64(len(got)) != e.Size {
					t.Fatalf("%q: %d bytes of %d, %v", e.Path, len(got), e.Size, err)
				}
			}
		}
	})
}
