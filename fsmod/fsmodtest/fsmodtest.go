// Package fsmodtest has what the tests of file-system modules share.
package fsmodtest

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
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

// Memory is an empty file.
type Memory struct{ B []byte }

func (m *Memory) WriteAt(p []byte, off int64) (int, error) {
	if n := int(off) + len(p); n > len(m.B) {
		m.B = append(m.B, make([]byte, n-len(m.B))...)
	}
	return copy(m.B[off:], p), nil
}

// Text is the source of an entry with a text.
func Text(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

// File is an entry of a regular file.
func File(name, content string, mode fs.FileMode) tree.Entry {
	e := tree.Entry{Path: name, Mode: mode, Size: int64(len(content))}
	if content != "" {
		e.Source = Text(content)
	}
	return e
}

// Feature is something that not every file system can hold.
type Feature int

// Features of Awkward's trees.
const (
	Owners Feature = 1 << iota
	Devices
	Minors // above 255, of devices
	Links  // symbolic
	Hard   // links
	Modes  // other than 0644 and 0755
	Bytes  // names that are not UTF-8, with a newline
	Xattrs // user.*
	FineMtime
	LongNames         // of 255 bytes
	All       Feature = 1<<iota - 1
)

// Awkward makes a tree with one of everything that has.
func Awkward(t testing.TB, has Feature) *tree.Tree {
	t.Helper()
	at := time.Unix(1_700_000_000, 0).UTC()
	if has&FineMtime != 0 {
		at = at.Add(123_456_789)
	}
	var list []tree.Entry
	add := func(e tree.Entry) {
		e.ModTime = at
		if has&Owners == 0 {
			e.UID, e.GID = 0, 0
		}
		if has&Modes == 0 && e.Mode.Type() == 0 {
			e.Mode = 0o644 | e.Mode&0o111
		}
		if has&Modes == 0 && e.Mode.IsDir() {
			e.Mode = fs.ModeDir | 0o755
		}
		list = append(list, e)
	}
	add(tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755})
	add(tree.Entry{Path: "a", Mode: fs.ModeDir | 0o750 | fs.ModeSticky, UID: 1000, GID: 100})
	add(tree.Entry{Path: "empty", Mode: fs.ModeDir | 0o700})
	add(tree.Entry{Path: "a/wide", Mode: fs.ModeDir | 0o755})
	for i := range 300 {
		add(File(fmt.Sprintf("a/wide/file-with-a-long-name-%04d", i), fmt.Sprint(i), 0o644))
	}
	deep := "a"
	for i := range 12 {
		deep += fmt.Sprintf("/d%d", i)
		add(tree.Entry{Path: deep, Mode: fs.ModeDir | 0o755})
	}
	add(File(deep+"/end", "of it", 0o644))
	for _, n := range []int{0, 1, 59, 60, 61, 511, 512, 513, 2047, 2048, 2049, 4095, 4096, 4097, 131071, 131072, 131073} {
		add(File(fmt.Sprintf("a/size%d", n), strings.Repeat("x", n), 0o644))
	}
	add(File("a/é ü 漢字.Text", "odd", 0o600))
	long := 253
	if has&LongNames != 0 {
		long = tree.MaxName
	}
	add(File("a/"+strings.Repeat("n", long), "long", 0o755|fs.ModeSetuid))
	var large strings.Builder
	for i := range 150_000 {
		fmt.Fprintf(&large, "%016x", i*i)
	}
	add(File("a/large", large.String(), 0o444))
	add(File("b", "shared", 0o644))
	if has&Bytes != 0 {
		add(File("a/new\nline \xff\xfe", "odd", 0o600))
	}
	if has&Links != 0 {
		add(tree.Entry{Path: "link", Mode: fs.ModeSymlink | 0o777, Link: "a/size1"})
		add(tree.Entry{Path: "longlink", Mode: fs.ModeSymlink | 0o777, Link: strings.Repeat("x/", 100) + "y"})
		add(tree.Entry{Path: "longlink-from-root", Mode: fs.ModeSymlink | 0o777, Link: strings.Repeat("/x", 100)})
		add(tree.Entry{Path: "longlink-up", Mode: fs.ModeSymlink | 0o777, Link: strings.Repeat("../", 40) + "./y"})
	}
	if has&Hard != 0 {
		add(tree.Entry{Path: "c", Mode: 0o644, Size: 6, HardLink: "b"})
		add(tree.Entry{Path: "empty/d", Mode: 0o644, Size: 6, HardLink: "b"})
	}
	if has&Devices != 0 {
		add(tree.Entry{Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3})
		add(tree.Entry{Path: "disk", Mode: fs.ModeDevice | 0o660, Major: 254, Minor: 7})
		add(tree.Entry{Path: "pipe", Mode: fs.ModeNamedPipe | 0o600})
	}
	if has&Devices != 0 && has&Minors != 0 {
		add(tree.Entry{Path: "disk70000", Mode: fs.ModeDevice | 0o660, Major: 254, Minor: 70000})
	}
	if has&Xattrs != 0 {
		e := File("a/xattr", "with attributes", 0o644)
		e.Xattrs = []tree.Xattr{{Name: "user.a", Value: []byte("value")}, {Name: "user.empty", Value: []byte{}}, {Name: "user.long", Value: bytes.Repeat([]byte("v"), 300)}}
		add(e)
	}
	tr, err := tree.New(list...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// Write writes a tree twice, and checks that the bytes are the same.
func Write(t testing.TB, m fsmod.Module, tr *tree.Tree, o fsmod.Options) []byte {
	t.Helper()
	var b [2]Memory
	for i := range b {
		res, err := m.Write(t.Context(), &b[i], tr, o)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		if res.Bytes < int64(len(b[i].B)) || res.Entries != len(tr.Entries) || res.Bytes > int64(len(b[i].B))+1<<20 {
			t.Errorf("%+v: result %+v of %d bytes", o, res, len(b[i].B))
		}
		b[i].B = append(b[i].B, make([]byte, res.Bytes-int64(len(b[i].B)))...) // holes at the end
	}
	if !bytes.Equal(b[0].B, b[1].B) {
		t.Errorf("%+v: the same tree gave other bytes", o)
	}
	return b[0].B
}

// Content reads an entry's content.
func Content(t testing.TB, e *tree.Entry) string {
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

// Compare compares two trees. forget changes entries of both so that what cannot be the same is.
func Compare(t testing.TB, got, want *tree.Tree, forget func(*tree.Entry)) {
	t.Helper()
	paths := func(tr *tree.Tree) (all []string) {
		for i := range tr.Entries {
			all = append(all, tr.Entries[i].Path)
		}
		return all
	}
	if d := cmp.Diff(paths(want), paths(got)); d != "" {
		t.Fatalf("entries (-want +got):\n%q", d)
	}
	for i := range want.Entries {
		g, w := got.Entries[i], want.Entries[i]
		if gc, wc := Content(t, &g), Content(t, &w); gc != wc {
			t.Errorf("%q: %d bytes, want %d, or others", w.Path, len(gc), len(wc))
		}
		g.Source, w.Source = nil, nil
		if forget != nil {
			forget(&g)
			forget(&w)
		}
		for _, e := range []*tree.Entry{&g, &w} {
			if len(e.Xattrs) == 0 {
				e.Xattrs = nil
			}
			e.ModTime = e.ModTime.UTC()
			e.Xattrs = slices.Clone(e.Xattrs)
			for j := range e.Xattrs {
				if len(e.Xattrs[j].Value) == 0 {
					e.Xattrs[j].Value = nil
				}
			}
		}
		if d := cmp.Diff(w, g); d != "" {
			t.Errorf("%q (-want +got):\n%s", w.Path, d)
		}
	}
}

// Extracted runs a foreign program, which extracts the file system b from the file img to the folder dir, and returns what it made.
func Extracted(t testing.TB, b []byte, command func(img, dir string) *exec.Cmd) *tree.Tree {
	t.Helper()
	scratch := t.TempDir()
	img, dir := filepath.Join(scratch, "img"), filepath.Join(scratch, "root")
	if err := errors.Join(os.WriteFile(img, b, 0o644), os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := command(img, dir)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", cmd.Args, err, msg)
	}
	tr, err := tree.FromDir(context.Background(), dir, tree.Options{KeepOwner: true, Devices: true})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// Failing is a file that fails after some bytes.
type Failing struct{ Left int }

// ErrFull is a Failing file's error.
var ErrFull = errors.New("disk full")

func (f *Failing) WriteAt(p []byte, _ int64) (int, error) {
	if f.Left -= len(p); f.Left < 0 {
		return 0, ErrFull
	}
	return len(p), nil
}
