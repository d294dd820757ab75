//go:build !race

// What foreign programs say of bytes is the same with the race detector, which makes them wait for it.

package zfsmod

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/tree"
	"github.com/firstlight-boot/firstlight/zfsmod/format"
	"github.com/firstlight-boot/firstlight/zfsmod/read"
)

// manyFiles is how many files are made in one folder; FIRSTLIGHT_ZFS_FILES=50000 makes as many as issue 6 names.
func manyFiles(t testing.TB) int {
	t.Helper()
	s := os.Getenv("FIRSTLIGHT_ZFS_FILES")
	if s == "" {
		t.Log("5,000 files in one folder; FIRSTLIGHT_ZFS_FILES=50000 makes more")
		return 5000
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sparseFile makes a file of so many bytes that takes no room.
func sparseFile(t testing.TB, name string, size int64) {
	t.Helper()
	do(t, os.WriteFile(name, nil, 0o600), os.Truncate(name, size))
}

// populate makes one of everything that a folder may have.
func populate(t testing.TB, dir string, seed uint64) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	rnd := rand.NewChaCha8([32]byte{byte(seed)})
	noise := make([]byte, 1<<20+777)
	rnd.Read(noise)
	text := bytes.Repeat([]byte("some text that can be compressed, and zeros: \x00\x00\x00\x00\x00\x00\x00\x00"), 9000)
	for _, n := range []int{0, 1, 511, 512, 513, 4096, 131071, 131072, 131073, len(text)} {
		do(t, os.WriteFile(at(fmt.Sprint("text", n)), text[:n], 0o644), os.WriteFile(at(fmt.Sprint("noise", n)), noise[:n], 0o600))
	}
	do(t, os.WriteFile(at("noise"), noise, 0o4755), os.WriteFile(at("zeros"), make([]byte, 300<<10), 0o644),
		os.WriteFile(at("gone"), noise, 0o644), os.Remove(at("gone")),
		os.Mkdir(at("folder"), 0o2750), os.Mkdir(at("folder/empty"), 0o700), os.Lchown(at("folder"), 70001, 1002),
		os.Link(at("noise513"), at("folder/again")),
		os.Symlink("short", at("link")), os.Symlink(strings.Repeat("long/", 60), at("link300")), os.Symlink(strings.Repeat("x", 1000), at("link1000")),
		os.WriteFile(at(strings.Repeat("n", 255)), []byte("long name"), 0o644), os.WriteFile(at("b\xffd\n"), []byte("odd name"), 0o644),
		syscall.Mknod(at("device"), syscall.S_IFCHR|0o600, 5<<8|1), syscall.Mkfifo(at("pipe"), 0o640))
	do(t, os.Chtimes(at("text4096"), time.Time{}, time.Unix(1_000_000_000, 0)))
}

// withHoles makes a file of the size whose blocks are a few, far from each other.
func withHoles(t testing.TB, name string, size int64) {
	t.Helper()
	sparseFile(t, name, size)
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	do(t, err)
	defer f.Close()
	for _, at := range []int64{0, 128<<10 - 3, 17 << 20, 100<<20 + 12345, size - 5} {
		_, err := f.WriteAt([]byte("data!"), at)
		do(t, err)
	}
}

// summed has hashes for the content of a tree's files, which then need not be in memory.
func summed(t testing.TB, tr *tree.Tree) *tree.Tree {
	t.Helper()
	for i := range tr.Entries {
		e := &tr.Entries[i]
		if e.Source == nil || e.Size == 0 {
			e.Source = nil
			continue
		}
		r, err := e.Source()
		if err != nil {
			t.Fatalf("%s: %v", e.Path, err)
		}
		h := sha256.New()
		n, err := io.Copy(h, r)
		r.Close()
		if err != nil || n != e.Size {
			t.Fatalf("%s: %d of %d bytes, %v", e.Path, n, e.Size, err)
		}
		e.Source = fsmodtest.Text(fmt.Sprintf("%x", h.Sum(nil)))
	}
	return tr
}

// treeOf reads one file system or snapshot of a pool.
func treeOf(t testing.TB, p *read.Pool, name string) *tree.Tree {
	t.Helper()
	list, err := p.Datasets()
	do(t, err)
	for _, d := range list {
		if d.Name != name {
			continue
		}
		entries, err := Entries(p, d, ".")
		do(t, err)
		tr, err := tree.New(entries...)
		do(t, err)
		return tr
	}
	t.Fatalf("there is no %s in %+v", name, list)
	return nil
}

// seconds leaves out what zfs-fuse does not show: parts of seconds.
func seconds(e *tree.Entry) { e.ModTime = e.ModTime.Truncate(time.Second) }

// TestForeign reads what a whole ZFS wrote: codecs, checksums, copies, snapshots, a clone, holes, many and deleted files.
func TestForeign(t *testing.T) {
	if !inner(t) {
		return
	}
	f := startFuse(t, "--enable-xattr")
	dir, alt := t.TempDir(), t.TempDir()
	img := filepath.Join(dir, "pool.img")
	sparseFile(t, img, 1<<30)
	f.zpool("create", "-O", "compression=off", "-R", alt, "flforeign", img)
	imported := true
	defer func() {
		if imported {
			tool(t, "fuse", "sbin/zpool", "export", "-f", "flforeign").Run()
		}
	}()
	root := alt // with an alternate root, that is the mount point of what zpool create makes
	sets := map[string]string{"off": "compression=off", "lzjb": "compression=lzjb", "gzip": "compression=gzip-9", "zle": "compression=zle",
		"sha": "checksum=sha256", "two": "checksum=fletcher2", "copies": "copies=2", "small": "recordsize=512"}
	for name, property := range sets {
		f.zfs("create", "-o", property, "flforeign/"+name)
		populate(t, filepath.Join(root, name), uint64(len(name)))
	}
	do(t, syscall.Setxattr(filepath.Join(root, "lzjb/text512"), "user.note", []byte("hello"), 0))
	big := bytes.Repeat([]byte("0123456789"), 3000)
	do(t, syscall.Setxattr(filepath.Join(root, "lzjb/folder"), "user.big", big, 0))
	withHoles(t, filepath.Join(root, "holes"), 300<<20)
	many := filepath.Join(root, "many")
	do(t, os.Mkdir(many, 0o755))
	n := manyFiles(t)
	for i := range n {
		do(t, os.WriteFile(filepath.Join(many, fmt.Sprint("file-", i)), fmt.Append(nil, i), 0o644))
	}
	for i := 0; i < n; i += 3 {
		do(t, os.Remove(filepath.Join(many, fmt.Sprint("file-", i))))
	}

	before := summed(t, mounted(t, filepath.Join(root, "lzjb")))
	f.zfs("snapshot", "flforeign/lzjb@before")
	f.zfs("clone", "flforeign/lzjb@before", "flforeign/clone")
	for _, name := range []string{"lzjb", "clone"} {
		at := filepath.Join(root, name)
		do(t, os.Remove(filepath.Join(at, "noise")), os.WriteFile(filepath.Join(at, "text131073"), []byte("new in "+name), 0o644),
			os.RemoveAll(filepath.Join(at, "folder")))
	}
	want := summed(t, mounted(t, root))
	f.export("flforeign")
	imported = false

	o, close := openFile(t, img)
	defer close()
	fsmodtest.Compare(t, summed(t, o.Tree), want, seconds)
	fsmodtest.Compare(t, summed(t, treeOf(t, o.Pool, "flforeign/lzjb@before")), before, seconds)
	if x := before.Lookup("folder").Xattrs; len(x) != 1 || x[0].Name != "user.big" || !bytes.Equal(x[0].Value, big) {
		t.Errorf("zfs-fuse keeps no extended attributes: %.100q", x)
	}
	list, err := Config{}.Module().Check(t.Context(), fileOf(t, img), 1<<30)
	if err != nil || len(list) > 0 {
		t.Errorf("Check: %v, %v", list, err)
	}
}

// fileOf opens a file until the test ends.
func fileOf(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	do(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// TestForeignMirror reads a mirror from either side, and from both when one is damaged all over.
func TestForeignMirror(t *testing.T) {
	if !inner(t) {
		return
	}
	const size = 64 << 20
	f := startFuse(t)
	dir, alt := t.TempDir(), t.TempDir()
	a, b := filepath.Join(dir, "a.img"), filepath.Join(dir, "b.img")
	sparseFile(t, a, size)
	sparseFile(t, b, size)
	f.zpool("create", "-R", alt, "flmirror", "mirror", a, b)
	root := alt
	populate(t, root, 1)
	want := summed(t, mounted(t, root))
	f.export("flmirror")

	for _, side := range []string{a, b} {
		o, close := openFile(t, side)
		fsmodtest.Compare(t, summed(t, o.Tree), want, seconds)
		close()
	}
	for i := range 2 {
		spoilt, err := os.ReadFile([]string{a, b}[i])
		do(t, err)
		for at := format.DataStart + 100; at < size-format.DataEnd; at += 512 {
			spoilt[at] ^= 0x10
		}
		devices := []read.Device{{ReaderAt: fileOf(t, a), Size: size}, {ReaderAt: fileOf(t, b), Size: size}}
		devices[i].ReaderAt = bytes.NewReader(spoilt)
		p, err := read.Open(devices...)
		do(t, err)
		fsmodtest.Compare(t, summed(t, treeOf(t, p, "flmirror")), want, seconds)
		if _, err := read.Open(devices[i]); !errors.Is(err, read.ErrDamaged) {
			t.Errorf("the damaged side alone: %v", err)
		}
	}
}
