package ramfsmod_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
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

// awkward is a tree with one of everything that the format can hold, a file of two of lz4's blocks, and some of whole pages.
func awkward(t testing.TB) *tree.Tree {
	t.Helper()
	tr := fsmodtest.Awkward(t, fsmodtest.All&^(fsmodtest.Xattrs|fsmodtest.FineMtime))
	// Its large file compresses slowly.
	list := slices.DeleteFunc(slices.Clone(tr.Entries), func(e tree.Entry) bool { return e.Path == "a/large" })
	for _, e := range []tree.Entry{
		fsmodtest.File("a/larger", strings.Repeat("0123456789abcdef", 1<<20+7), 0o444),
		fsmodtest.File("a/program", strings.Repeat("program!", 1000), 0o755), fsmodtest.File("a/lib.so.6", strings.Repeat("library!", 1000), 0o644),
		fsmodtest.File("a/script", "#!/bin/sh\n", 0o755), fsmodtest.File("a/page", strings.Repeat("x", 4096), 0o600),
	} {
		e.ModTime = tr.Entries[0].ModTime
		list = append(list, e)
	}
	tr, err := tree.New(list...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func write(t testing.TB, tr *tree.Tree, codec string) []byte {
	t.Helper()
	return fsmodtest.Write(t, module(t), tr, fsmod.Options{Codec: codec})
}

var codecs = []string{"", "gzip", "zstd", "lz4"}

func TestReadBack(t *testing.T) {
	want := awkward(t)
	for _, codec := range codecs {
		b := write(t, want, codec)
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
		fsmodtest.Compare(t, got, want, nil)
		if problems, err := module(t).Check(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || len(problems) > 0 {
			t.Errorf("%q: check: %v, %v", codec, problems, err)
		}
	}
}

func TestLevels(t *testing.T) {
	want := awkward(t)
	for _, o := range []fsmod.Options{{Codec: "gzip", Level: 1}, {Codec: "zstd", Level: 19}, {Codec: "lz4", Level: 1}} {
		var m fsmodtest.Memory
		if _, err := module(t).Write(t.Context(), &m, want, o); err != nil {
			t.Fatal(err)
		}
		fsys, err := module(t).Open(bytes.NewReader(m.B), int64(len(m.B)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := fsys.Tree()
		if err != nil {
			t.Fatal(err)
		}
		fsmodtest.Compare(t, got, want, nil)
	}
}

func TestFS(t *testing.T) {
	tr, err := tree.New(
		tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, tree.Entry{Path: "d", Mode: fs.ModeDir | 0o755},
		tree.Entry{Path: "d/f", Mode: 0o644, Size: 3, Source: fsmodtest.Text("abc")}, tree.Entry{Path: "e", Mode: 0o644})
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
			args = append(args, "--no-preserve-owner", "--nonmatching", "null", "disk*")
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
		fsmodtest.Compare(t, got, expect, nil)
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
	fsmodtest.Compare(t, got, want, nil)
}

func TestRefused(t *testing.T) {
	root := tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}
	for name, e := range map[string]tree.Entry{
		"extended attribute": {Path: "x", Mode: 0o644, Xattrs: []tree.Xattr{{Name: "user.a"}}},
		"the most is":        {Path: "x", Mode: 0o644, Size: 1 << 32, Source: fsmodtest.Text("")},
		"the end of":         {Path: "TRAILER!!!", Mode: 0o644},
	} {
		tr, err := tree.New(root, e)
		if err != nil {
			t.Fatal(err)
		}
		_, err = module(t).Write(t.Context(), &fsmodtest.Memory{}, tr, fsmod.Options{})
		if !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), name) || !strings.HasPrefix(err.Error(), "/"+e.Path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	tr, _ := tree.New(root)
	for _, o := range []fsmod.Options{{Codec: "xz"}, {ClusterSize: 4096}, {Codec: "gzip", Level: 10}, {Level: 1}, {AlignExec: "some"}} {
		if _, err := module(t).Write(t.Context(), &fsmodtest.Memory{}, tr, o); !errors.Is(err, fsmod.ErrUnsupported) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestFailingWriter(t *testing.T) {
	tr := awkward(t)
	for _, codec := range codecs {
		for _, n := range []int{0, 1, 300} {
			if _, err := module(t).Write(t.Context(), &fsmodtest.Failing{Left: n}, tr, fsmod.Options{Codec: codec}); !errors.Is(err, fsmodtest.ErrFull) {
				t.Errorf("%q after %d bytes: %v", codec, n, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := module(t).Write(ctx, &fsmodtest.Memory{}, tr, fsmod.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// FuzzOpen opens archives from noise and from damaged ones.
func FuzzOpen(f *testing.F) {
	tr, err := tree.New(
		tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, tree.Entry{Path: "a", Mode: 0o644, Size: 3, Source: fsmodtest.Text("abc")},
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
			fsmodtest.Content(t, &tr.Entries[i])
		}
	})
}

// TestAligned looks where contents begin: those of the files that are to be mapped on page boundaries.
func TestAligned(t *testing.T) {
	tr := awkward(t)
	for which, want := range map[string][]string{
		"": {"program!", "library!"}, "auto": {"program!", "library!"}, "none": nil, "all": {"program!", "library!", "0123456789abcdef"},
	} {
		b := fsmodtest.Write(t, module(t), tr, fsmod.Options{AlignExec: which})
		for _, s := range []string{"program!", "library!", "0123456789abcdef"} {
			if at := bytes.Index(b, []byte(s+s)); at < 0 || (at%4096 == 0) != slices.Contains(want, s) {
				t.Errorf("%q: %s is at %#x", which, s, at)
			}
		}
		// What is put behind a name is zero.
		at := bytes.Index(b, []byte("a/program\x00")) + len("a/program\x00") + 8
		b[at] = 'x'
		if problems, err := module(t).Check(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || which == "" && len(problems) != 1 {
			t.Errorf("%q: check of a damaged one: %v, %v", which, problems, err)
		}
	}
}
