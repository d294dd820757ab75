package ext4mod_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/ext4mod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/tree"
)

func module(t testing.TB) fsmod.Module {
	t.Helper()
	m, err := fsmod.Lookup("ext4")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// fsck has e2fsck judge a file system.
func fsck(t *testing.T, b []byte) {
	t.Helper()
	needs.Tool(t, "e2fsck", "e2fsprogs")
	img := filepath.Join(t.TempDir(), "img")
	if err := os.WriteFile(img, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.Command("/sbin/e2fsck", "-fn", img).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, msg)
	}
	if msg, err := exec.Command("/sbin/dumpe2fs", "-h", img).CombinedOutput(); err != nil {
		t.Errorf("dumpe2fs: %v\n%s", err, msg)
	}
}

func open(t *testing.T, b []byte) (fsmod.FileSystem, *tree.Tree) {
	t.Helper()
	fsys, err := module(t).Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	tr, err := fsys.Tree()
	if err != nil {
		t.Fatal(err)
	}
	return fsys, tr
}

func TestWrite(t *testing.T) {
	m := module(t)
	want := fsmodtest.Awkward(t, fsmodtest.All)
	b := fsmodtest.Write(t, m, want, fsmod.Options{})
	fsck(t, b)
	_, got := open(t, b)
	fsmodtest.Compare(t, got, want, nil)
	if p, err := fsmod.Probe(bytes.NewReader(b), int64(len(b))); err != nil || p == nil || p.Name() != "ext4" {
		t.Errorf("probe: %v, %v", p, err)
	}
	if problems, err := m.Check(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || len(problems) > 0 {
		t.Errorf("check: %v, %v", problems, err)
	}
}

// TestDebugfs has debugfs extract the files.
func TestDebugfs(t *testing.T) {
	needs.Tool(t, "debugfs", "e2fsprogs")
	has := fsmodtest.All &^ (fsmodtest.Xattrs | fsmodtest.FineMtime | fsmodtest.Devices)
	if os.Getuid() != 0 {
		has &^= fsmodtest.Owners
	}
	want := fsmodtest.Awkward(t, has)
	got := fsmodtest.Extracted(t, fsmodtest.Write(t, module(t), want, fsmod.Options{}), func(img, dir string) *exec.Cmd {
		return exec.Command("/sbin/debugfs", "-R", "rdump / "+dir, img)
	})
	var kept []tree.Entry
	for _, e := range got.Entries {
		if e.Path != "lost+found" {
			kept = append(kept, e)
		}
	}
	got.Entries = kept
	// It makes a file of its own of each name, and leaves the root as it found it; special bits of modes it drops.
	for i := range want.Entries {
		if e := &want.Entries[i]; e.HardLink != "" {
			e.Source, e.HardLink = want.Lookup(e.HardLink).Source, ""
		}
	}
	fsmodtest.Compare(t, got, want, func(e *tree.Entry) {
		if e.Path == "." || e.Mode.Type() == fs.ModeSymlink || os.Getuid() != 0 {
			e.Mode, e.ModTime, e.UID, e.GID = e.Mode.Type(), time.Time{}, 0, 0
		}
		e.Mode &^= fs.ModeSetuid | fs.ModeSticky
		e.ModTime = e.ModTime.Truncate(time.Second)
	})
}

// TestMke2fs reads what mke2fs writes: with a journal, check codes and blocks of several sizes.
func TestMke2fs(t *testing.T) {
	needs.Tool(t, "mke2fs", "e2fsprogs")
	dir := t.TempDir()
	files := map[string]string{"a": "first", "empty": "", "sub/deep/x": strings.Repeat("0123456789", 100_000)}
	for i := range 400 {
		files[fmt.Sprintf("many/file%d", i)] = fmt.Sprint(i)
	}
	for name, s := range files {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(s), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "0")), os.Symlink(strings.Repeat("y", 80), filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // which mke2fs gives to each root
		t.Fatal(err)
	}
	want, err := tree.FromDir(t.Context(), dir, tree.Options{KeepOwner: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-b", "1024"}, {"-b", "4096", "-O", "^64bit,^metadata_csum"}} {
		img := filepath.Join(t.TempDir(), "img")
		if msg, err := exec.Command("/sbin/mke2fs", append(args, "-q", "-t", "ext4", "-d", dir, img, "32M")...).CombinedOutput(); err != nil {
			t.Fatalf("mke2fs: %v\n%s", err, msg)
		}
		b, err := os.ReadFile(img)
		if err != nil {
			t.Fatal(err)
		}
		_, got := open(t, b)
		var kept []tree.Entry
		for _, e := range got.Entries {
			if e.Path != "lost+found" {
				kept = append(kept, e)
			}
		}
		fsmodtest.Compare(t, &tree.Tree{Entries: kept}, want, func(e *tree.Entry) {
			e.ModTime = e.ModTime.Truncate(time.Second)
			if e.Path == "." {
				e.ModTime = time.Time{}
				if os.Getuid() != 0 { // mke2fs gives the root to root
					e.UID, e.GID = 0, 0
				}
			}
		})
	}
}

// TestMany has more files than one group has inodes, and a folder with more folders than there may be links.
func TestMany(t *testing.T) {
	list := []tree.Entry{{Path: ".", Mode: fs.ModeDir | 0o755}, {Path: "d", Mode: fs.ModeDir | 0o755}}
	for i := range 70_000 {
		list = append(list, tree.Entry{Path: fmt.Sprintf("d/%d", i), Mode: fs.ModeDir | 0o755})
	}
	want, err := tree.New(list...)
	if err != nil {
		t.Fatal(err)
	}
	var m fsmodtest.Memory
	if _, err := module(t).Write(t.Context(), &m, want, fsmod.Options{}); err != nil {
		t.Fatal(err)
	}
	fsck(t, m.B)
	_, got := open(t, m.B)
	if len(got.Entries) != len(want.Entries) {
		t.Errorf("%d entries, want %d", len(got.Entries), len(want.Entries))
	}
}

func TestFS(t *testing.T) {
	tr, err := tree.New(tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, tree.Entry{Path: "d", Mode: fs.ModeDir | 0o755}, fsmodtest.File("d/f", "abc", 0o644), fsmodtest.File("e", "", 0o644))
	if err != nil {
		t.Fatal(err)
	}
	fsys, _ := open(t, fsmodtest.Write(t, module(t), tr, fsmod.Options{}))
	if err := fstest.TestFS(fsys, "d/f", "e"); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	root := tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}
	for want, e := range map[string]tree.Entry{
		"extended attribute os2.x": {Path: "x", Mode: 0o644, Xattrs: []tree.Xattr{{Name: "os2.x"}}},
		"than a block":             {Path: "x", Mode: 0o644, Xattrs: []tree.Xattr{{Name: "user.x", Value: make([]byte, 5000)}}},
		"the most is":              {Path: "x", Mode: 0o644, Size: 1 << 40, Source: fsmodtest.Text("")},
	} {
		tr, err := tree.New(root, e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = module(t).Write(t.Context(), &fsmodtest.Memory{}, tr, fsmod.Options{}); !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	tr := fsmodtest.Awkward(t, 0)
	for _, n := range []int{0, 5000, 300_000} {
		if _, err := module(t).Write(t.Context(), &fsmodtest.Failing{Left: n}, tr, fsmod.Options{}); !errors.Is(err, fsmodtest.ErrFull) {
			t.Errorf("failing writer: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := module(t).Write(ctx, &fsmodtest.Memory{}, tr, fsmod.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// FuzzOpen changes bytes of a file system.
func FuzzOpen(f *testing.F) {
	small, err := tree.New(
		tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, tree.Entry{Path: "d", Mode: fs.ModeDir | 0o755}, fsmodtest.File("d/f", strings.Repeat("abc", 3000), 0o644),
		tree.Entry{Path: "l", Mode: fs.ModeSymlink | 0o777, Link: strings.Repeat("x", 70)},
		tree.Entry{Path: "x", Mode: 0o644, Xattrs: []tree.Xattr{{Name: "user.a", Value: []byte("b")}}})
	if err != nil {
		f.Fatal(err)
	}
	seed := fsmodtest.Write(f, module(f), small, fsmod.Options{})
	if _, err := module(f).Open(bytes.NewReader(seed), int64(len(seed))); err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte{})
	f.Add(uint32(1024), []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, off uint32, change []byte) {
		b := bytes.Clone(seed)
		copy(b[int(off)%len(b):], change)
		fsys, err := module(t).Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
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
			if e := &tr.Entries[i]; e.Size < 1<<20 {
				fsmodtest.Content(t, e)
			}
		}
	})
}
