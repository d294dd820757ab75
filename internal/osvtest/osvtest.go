// Package osvtest holds images that OSv's own tools made, and the tree they were made from, for tests.
package osvtest

import (
	"bytes"
	_ "embed" // the images
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/tree"
)

// Provenance: testdata/README.md.
var (
	//go:embed testdata/rofs-v1.img
	ROFS []byte
	//go:embed testdata/bootfs.bin
	BootFS []byte
	//go:embed testdata/manifest.txt
	Manifest string
)

// links are the symbolic links of the tree.
var links = map[string]string{"link": "/usr/lib/k4", "etc/rel": "../usr/lib/one"}

// Content returns the files' contents by their paths.
func Content() map[string][]byte {
	m := map[string][]byte{"etc/hosts": []byte("127.0.0.1 localhost\n"), "usr/lib/deep/deeper/leaf.txt": []byte("leaf\n")}
	for name, n := range map[string]int{
		"hello": 7000, "usr/lib/zero": 0, "usr/lib/one": 1, "usr/lib/b511": 511, "usr/lib/b512": 512, "usr/lib/b513": 513,
		"usr/lib/k4": 4096, "usr/lib/k32": 32768, "usr/lib/k32p1": 32769, "usr/lib/k100": 102400,
	} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i*131 + (i>>8)*17 + n)
		}
		m[name] = b
	}
	return m
}

// Order lists the manifest's paths in its order.
func Order() []string {
	var list []string
	for line := range strings.Lines(Manifest) {
		if name, _, ok := strings.Cut(line, ": "); ok {
			list = append(list, strings.Trim(name, "/"))
		}
	}
	return list
}

// Tree returns the tree as the formats of OSv hold it: permissions 0555, the time 0.
func Tree(t testing.TB) *tree.Tree {
	t.Helper()
	epoch := time.Unix(0, 0)
	dirs := map[string]bool{".": true, "etc/empty": true}
	var list []tree.Entry
	for name, b := range Content() {
		e := tree.Entry{Path: name, Mode: 0o555, ModTime: epoch, Size: int64(len(b))}
		if len(b) > 0 {
			e.Source = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
		}
		list = append(list, e)
	}
	for name, target := range links {
		list = append(list, tree.Entry{Path: name, Mode: fs.ModeSymlink | 0o777, ModTime: epoch, Link: target})
	}
	for _, e := range list {
		for d := path.Dir(e.Path); d != "."; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	for d := range dirs {
		list = append(list, tree.Entry{Path: d, Mode: fs.ModeDir | 0o555, ModTime: epoch})
	}
	tr, err := tree.New(list...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// Dir writes the tree below dir/tree and the manifest to dir/usr.manifest, as OSv's tools found them. The manifest names
// its sources relative to dir.
func Dir(t testing.TB, dir string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range Content() {
		name = filepath.Join(dir, "tree", name)
		check(os.MkdirAll(filepath.Dir(name), 0o755))
		check(os.WriteFile(name, b, 0o644))
	}
	check(os.MkdirAll(filepath.Join(dir, "tree/etc/empty"), 0o755))
	check(os.WriteFile(filepath.Join(dir, "usr.manifest"), []byte(Manifest), 0o644))
}

// Same fails t unless two trees have the same entries with the same content. Times, modes and owners are not compared.
func Same(t testing.TB, got, want *tree.Tree) {
	t.Helper()
	list := func(tr *tree.Tree) (s []string) {
		for _, e := range tr.Entries {
			s = append(s, e.Mode.Type().String()+" "+e.Path+" "+e.Link)
		}
		return s
	}
	g, w := list(got), list(want)
	if strings.Join(g, "\n") != strings.Join(w, "\n") {
		t.Fatalf("entries\n%s\nwant\n%s", strings.Join(g, "\n"), strings.Join(w, "\n"))
	}
	for _, e := range want.Entries {
		if !e.Mode.IsRegular() {
			continue
		}
		a, err := fs.ReadFile(got, e.Path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := fs.ReadFile(want, e.Path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Fatalf("%s: %d bytes differ from the %d wanted", e.Path, len(a), len(b))
		}
	}
}
