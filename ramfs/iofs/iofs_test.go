package iofs

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/firstlight-boot/firstlight/ramfs"
)

func tree(t *testing.T) *ramfs.FS {
	t.Helper()
	f := ramfs.New(ramfs.Options{Now: func() int64 { return 1e18 + 5 }})
	check := func(err ramfs.Errno) {
		t.Helper()
		if err != 0 {
			t.Fatal(err)
		}
	}
	write := func(d *ramfs.Node, name string, data []byte) *ramfs.Node {
		t.Helper()
		n, err := d.Create(name, ramfs.TypeReg|0o640, 0)
		check(err)
		_, err = n.WriteAt(data, 0)
		check(err)
		return n
	}
	root := f.Root()
	bin, err := root.Create("bin", ramfs.TypeDir|0o755, 0)
	check(err)
	write(bin, "app", bytes.Repeat([]byte("code"), 5000))
	write(root, "empty", nil)
	check(root.Link("hard", write(root, "file", []byte("text"))))
	_, err = bin.Symlink("link", "../file")
	check(err)
	_, err = root.Symlink("loop", "loop")
	check(err)
	_, err = root.Symlink("abs", "/bin/link")
	check(err)
	_, err = root.Create("null", ramfs.TypeChar|0o666, 1<<8|3)
	check(err)
	sparse := write(root, "sparse", nil)
	check(sparse.Truncate(100_000))
	_, err = sparse.WriteAt([]byte("x"), 70_000)
	check(err)
	return f
}

func TestFS(t *testing.T) {
	f := tree(t)
	// fstest reads all that is no directory, which a loop and a device cannot be.
	for _, name := range []string{"loop", "null"} {
		if err := f.Root().Remove(name, false); err != 0 {
			t.Fatal(err)
		}
	}
	snap := f.Snapshot()
	if err := f.Root().Remove("file", false); err != 0 {
		t.Fatal(err)
	}
	if err := fstest.TestFS(New(snap.Root()), "bin/app", "bin/link", "empty", "file", "hard", "abs", "sparse"); err != nil {
		t.Error(err)
	}
	if err := f.Root().Remove("abs", false); err != 0 {
		t.Fatal(err)
	}
	if bin, err := f.Root().Lookup("bin"); err != 0 || bin.Remove("link", false) != 0 {
		t.Fatal(err)
	}
	if err := fstest.TestFS(New(f.Root().View()), "bin/app", "empty", "hard", "sparse"); err != nil {
		t.Error(err)
	}
}

func TestLinks(t *testing.T) {
	f := New(tree(t).Root().View())
	if b, err := fs.ReadFile(f, "abs"); string(b) != "text" || err != nil {
		t.Errorf("read through links: %q, %v", b, err)
	}
	if _, err := f.Open("loop"); err == nil || !strings.Contains(err.Error(), "too many levels") {
		t.Errorf("loop: %v", err)
	}
	if s, err := f.ReadLink("bin/link"); s != "../file" || err != nil {
		t.Errorf("ReadLink: %q, %v", s, err)
	}
	if _, err := f.ReadLink("file"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("ReadLink of a file: %v", err)
	}
	i, err := f.Lstat("null")
	if err != nil || i.Mode() != fs.ModeDevice|fs.ModeCharDevice|0o666 || i.Sys().(*ramfs.Attr).Rdev != 0x103 {
		t.Errorf("null: %v, %v", i, err)
	}
	if i, err := f.Stat("hard"); err != nil || i.Sys().(*ramfs.Attr).Nlink != 2 || !i.ModTime().Equal(time.Unix(1e9, 5)) {
		t.Errorf("hard: %v, %v", i, err)
	}
}

// TestNames opens a name that is no UTF-8, as an archive's may be, and none that is no path.
func TestNames(t *testing.T) {
	fsys := tree(t)
	if _, err := fsys.Root().Create("caf\xe9", ramfs.TypeReg|0o644, 0); err != 0 {
		t.Fatal(err)
	}
	f := New(fsys.Root().View())
	seen := false
	if err := fs.WalkDir(f, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && path == "caf\xe9" {
			seen = true
			_, err = fs.ReadFile(f, path)
		}
		return err
	}); err != nil || !seen {
		t.Errorf("a name in Latin-1: seen %v, %v", seen, err)
	}
	for _, name := range []string{"", "/", "/file", "bin/", "bin//app", "./file", "bin/..", ".."} {
		if _, err := f.Open(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestReaders has many goroutines read a snapshot.
func TestReaders(t *testing.T) {
	f := New(tree(t).Snapshot().Root())
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if b, err := fs.ReadFile(f, "bin/app"); err != nil || len(b) != 20000 {
					t.Errorf("%d bytes, %v", len(b), err)
				}
			}
		})
	}
	all.Wait()
}
