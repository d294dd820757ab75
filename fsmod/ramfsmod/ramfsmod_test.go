package ramfsmod_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/fsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/ramfsmod"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/tree"
)

func module(t testing.TB) fsmod.Module {
	m, err := fsmod.Lookup("ramfs")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// memory is an empty file.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if n := int(off) + len(p); n > len(m.b) {
		m.b = append(m.b, make([]byte, n-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

func text(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

// awkward is a tree with one of everything.
func awkward(t testing.TB) *tree.Tree {
	at := time.Unix(1_700_000_000, 0).UTC()
	var list []tree.Entry
	add := func(e tree.Entry) {
		e.ModTime = at
		list = append(list, e)
	}
	file := func(name, content string, mode fs.FileMode) {
		e := tree.Entry{Path: name, Mode: mode, Size: int64(len(content))}
		if content != "" {
			e.Source = text(content)
		}
		add(e)
	}
	add(tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755})
	add(tree.Entry{Path: "a", Mode: fs.ModeDir | 0o750 | fs.ModeSticky, UID: 1000, GID: 100})
	add(tree.Entry{Path: "empty", Mode: fs.ModeDir | 0o700})
	for n := range 9 {
		file(fmt.Sprintf("a/size%d", n), strings.Repeat("x", n), 0o644)
	}
	file("a/new\nline \xff\xfe é", "odd", 0o600)
	file("a/"+strings.Repeat("n", tree.MaxName), "long", 0o755|fs.ModeSetuid)
	file("a/large", strings.Repeat("0123456789abcdef", 1<<20+7), 0o444) // two blocks of lz4
	add(tree.Entry{Path: "link", Mode: fs.ModeSymlink | 0o777, Link: "a/size3"})
	add(tree.Entry{Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3})
	add(tree.Entry{Path: "disk", Mode: fs.ModeDevice | 0o660, Major: 254, Minor: 70000})
	add(tree.Entry{Path: "pipe", Mode: fs.ModeNamedPipe | 0o600})
	file("b", "shared", 0o644)
	add(tree.Entry{Path: "c", Mode: 0o644, Size: 6, HardLink: "b"})
	add(tree.Entry{Path: "empty/d", Mode: 0o644, Size: 6, HardLink: "b"})
	tr, err := tree.New(list...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func write(t testing.TB, tr *tree.Tree, codec string) []byte {
	t.Helper()
	var m memory
	res, err := module(t).Write(t.Context(), &m, tr, fsmod.Options{Codec: codec})
	if err != nil {
		t.Fatal(err)
	}
	if res.Bytes != int64(len(m.b)) || res.Entries != len(tr.Entries) {
		t.Errorf("result %+v of %d bytes", res, len(m.b))
	}
	return m.b
}

var codecs = []string{"", "gzip", "zstd", "lz4"}

func content(t *testing.T, e *tree.Entry) string {
	t.Helper()
	if e.Source == nil {
		return ""
	}
	r, err := e.Source()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReadBack(t *testing.T) {
	want := awkward(t)
	for _, codec := range codecs {
		b := write(t, want, codec)
		if !bytes.Equal(b, write(t, awkward(t), codec)) {
			t.Errorf("%q: the same tree gave other bytes", codec)
		}
		m, err := fsmod.Probe(bytes.NewReader(b), int64(len(b)))
		if err != nil || m == nil || m.Name() != "ramfs" {
			t.Errorf("%q: probe: %v, %v", codec, m, err)
		}
		fsys, err := module(t).Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatalf("%q: %v", codec, err)
		}
		got, err := fsys.Tree()
		if err != nil {
			t.Fatal(err)
		}
		compare(t, got, want)
		if problems, err := module(t).Check(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || len(problems) > 0 {
			t.Errorf("%q: check: %v, %v", codec, problems, err)
		}
	}
}

func TestLevels(t *testing.T) {
	want := awkward(t)
	for _, o := range []fsmod.Options{{Codec: "gzip", Level: 1}, {Codec: "zstd", Level: 19}, {Codec: "lz4", Level: 1}} {
		var m memory
		if _, err := module(t).Write(t.Context(), &m, want, o); err != nil {
			t.Fatal(err)
		}
		fsys, err := module(t).Open(bytes.NewReader(m.b), int64(len(m.b)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := fsys.Tree()
		if err != nil {
			t.Fatal(err)
		}
		compare(t, got, want)
	}
}

func compare(t *testing.T, got, want *tree.Tree) {
	t.Helper()
	if len(got.Entries) != len(want.Entries) {
		t.Fatalf("%d entries, want %d", len(got.Entries), len(want.Entries))
	}
	for i := range want.Entries {
		g, w := got.Entries[i], want.Entries[i]
		if gc, wc := content(t, &g), content(t, &w); gc != wc {
			t.Errorf("%q: %d bytes, want %d, or others", w.Path, len(gc), len(wc))
		}
		g.Source, w.Source = nil, nil
		if d := cmp.Diff(w, g); d != "" {
			t.Errorf("%q (-want +got):\n%s", w.Path, d)
		}
	}
}

func TestFS(t *testing.T) {
	tr, err := tree.New(
		tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, tree.Entry{Path: "d", Mode: fs.ModeDir | 0o755},
		tree.Entry{Path: "d/f", Mode: 0o644, Size: 3, Source: text("abc")}, tree.Entry{Path: "e", Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	b := write(t, tr, "zstd")
	fsys, err := module(t).Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(fsys, "d/f", "e"); err != nil {
		t.Error(err)
	}
}

// TestCpio has GNU cpio list and extract an archive, which the compressors' own programs unpack.
func TestCpio(t *testing.T) {
	needs.Tool(t, "cpio", "cpio")
	want := awkward(t)
	for _, codec := range codecs {
		b := write(t, want, codec)
		if codec != "" {
			needs.Tool(t, codec, codec)
			cmd := exec.Command(codec, "-dc")
			cmd.Stdin = bytes.NewReader(b)
			var err error
			if b, err = cmd.Output(); err != nil {
				t.Fatalf("%s: %v", codec, err)
			}
		}
		cmd := exec.Command("cpio", "-t", "--null", "--quiet")
		cmd.Stdin = bytes.NewReader(b)
		list, err := cmd.Output()
		if err != nil {
			t.Fatalf("%q: cpio -t: %v", codec, err)
		}
		for i := range want.Entries {
			// cpio shows control characters escaped.
			if p := want.Entries[i].Path; !strings.Contains(p, "\n") && !bytes.Contains(list, []byte(p)) {
				t.Errorf("%q: cpio -t does not list %q:\n%s", codec, p, list)
			}
		}
		if codec != "" {
			continue
		}
		dir := t.TempDir()
		args := []string{"-i", "-d", "-m", "--quiet"}
		if os.Getuid() != 0 {
			args = append(args, "--no-preserve-owner", "--nonmatching", "null", "disk")
		}
		cmd = exec.Command("cpio", args...)
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(b)
		if msg, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("cpio -i: %v\n%s", err, msg)
		}
		root := os.Getuid() == 0
		got, err := tree.FromDir(context.Background(), dir, tree.Options{KeepOwner: root, Devices: true})
		if err != nil {
			t.Fatal(err)
		}
		// What only root may make, and the times of links and folders, which cpio sets before it fills them.
		expect := awkward(t)
		expect.Entries = slices.DeleteFunc(expect.Entries, func(e tree.Entry) bool { return !root && e.Mode&fs.ModeDevice != 0 })
		for i := range expect.Entries {
			g, w := &got.Entries[i], &expect.Entries[i]
			if w.Mode.IsDir() || w.Mode.Type() == fs.ModeSymlink || w.Mode.Type() == fs.ModeNamedPipe || !root {
				g.ModTime, w.ModTime = time.Time{}, time.Time{}
			}
			if !root {
				w.UID, w.GID = 0, 0
			}
			if w.Path == "." {
				g.Mode = w.Mode
			}
		}
		compare(t, got, expect)
	}
}

// TestForeign reads what GNU cpio writes.
func TestForeign(t *testing.T) {
	needs.Tool(t, "cpio", "cpio")
	dir := t.TempDir()
	for name, s := range map[string]string{"a": "first", "b": "", "sub/c": strings.Repeat("z", 5000)} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "sub", "hard")); err != nil {
		t.Fatal(err)
	}
	want, err := tree.FromDir(t.Context(), dir, tree.Options{KeepOwner: true})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "find . | cpio -o -H newc --quiet")
	cmd.Dir = dir
	b, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := module(t).Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := fsys.Tree()
	if err != nil {
		t.Fatal(err)
	}
	for _, tr := range []*tree.Tree{got, want} {
		for i := range tr.Entries {
			tr.Entries[i].ModTime = tr.Entries[i].ModTime.Truncate(time.Second).UTC()
		}
	}
	compare(t, got, want)
}

func TestRefused(t *testing.T) {
	root := tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}
	for name, e := range map[string]tree.Entry{
		"extended attribute": {Path: "x", Mode: 0o644, Xattrs: []tree.Xattr{{Name: "user.a"}}},
		"the most is":        {Path: "x", Mode: 0o644, Size: 1 << 32, Source: text("")},
		"the end of":         {Path: "TRAILER!!!", Mode: 0o644},
	} {
		tr, err := tree.New(root, e)
		if err != nil {
			t.Fatal(err)
		}
		_, err = module(t).Write(t.Context(), &memory{}, tr, fsmod.Options{})
		if !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), name) || !strings.HasPrefix(err.Error(), "/"+e.Path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	tr, _ := tree.New(root)
	for _, o := range []fsmod.Options{{Codec: "xz"}, {ClusterSize: 4096}, {Codec: "gzip", Level: 10}, {Level: 1}, {AlignExec: "all"}} {
		if _, err := module(t).Write(t.Context(), &memory{}, tr, o); !errors.Is(err, fsmod.ErrUnsupported) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// failing fails after some bytes.
type failing struct{ left int }

var errFull = errors.New("disk full")

func (f *failing) WriteAt(p []byte, _ int64) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestFailingWriter(t *testing.T) {
	tr := awkward(t)
	for _, codec := range codecs {
		for _, n := range []int{0, 1, 300} {
			if _, err := module(t).Write(t.Context(), &failing{n}, tr, fsmod.Options{Codec: codec}); !errors.Is(err, errFull) {
				t.Errorf("%q after %d bytes: %v", codec, n, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := module(t).Write(ctx, &memory{}, tr, fsmod.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// FuzzOpen opens archives from noise and from damaged ones.
func FuzzOpen(f *testing.F) {
	tr, err := tree.New(
		tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, tree.Entry{Path: "a", Mode: 0o644, Size: 3, Source: text("abc")},
		tree.Entry{Path: "b", Mode: 0o644, Size: 3, HardLink: "a"}, tree.Entry{Path: "l", Mode: fs.ModeSymlink | 0o777, Link: "a"})
	if err != nil {
		f.Fatal(err)
	}
	for _, codec := range codecs {
		b := write(f, tr, codec)
		f.Add(b)
		if fsys, err := module(f).Open(bytes.NewReader(b), int64(len(b))); err != nil {
			f.Fatalf("seed: %v %v", fsys, err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.HasPrefix(b, []byte("\x28\xb5")) || bytes.HasPrefix(b, []byte("\x1f\x8b")) {
			return // whose decoders are others', and may give much
		}
		fsys, err := module(t).Open(bytes.NewReader(b), int64(len(b)))
		problems, checkErr := module(t).Check(t.Context(), bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if checkErr == nil && len(problems) == 0 {
				t.Fatalf("not opened (%v), and Check found nothing", err)
			}
			return
		}
		tr, err := fsys.Tree()
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Validate(); err != nil {
			t.Fatal(err)
		}
		for i := range tr.Entries {
			content(t, &tr.Entries[i])
		}
	})
}
