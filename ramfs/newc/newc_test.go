package newc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/ramfs"
	"github.com/firstlight-boot/firstlight/ramfs/iofs"
)

// filter runs a command on in.
func filter(t testing.TB, in []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

// folder fills a folder with what archives have to keep.
func folder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	for i, size := range []int{0, 1, 3, 4, 5, 4095, 4096, 4097, 100_000, 8<<20 + 5000} {
		b := make([]byte, size)
		for k := range b {
			b[k] = byte(k>>8) + byte(r.Uint32()&1)
		}
		name := filepath.Join(dir, fmt.Sprintf("sub%d", i%3), "file"+strings.Repeat("x", i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, time.Time{}, time.Unix(1_000_000_000+int64(i), 0)); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Link(filepath.Join(dir, "sub2", "filexx"), filepath.Join(dir, "hard")),
		os.Link(filepath.Join(dir, "sub2", "filexx"), filepath.Join(dir, "sub1", "hard")),
		os.Symlink("sub1/hard", filepath.Join(dir, "link")),
		os.Chmod(filepath.Join(dir, "sub0"), 0o1777),
		os.Mkdir(filepath.Join(dir, "empty"), 0o700),
		os.Chtimes(filepath.Join(dir, "sub1"), time.Time{}, time.Unix(77, 0)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// archive has cpio pack dir.
func archive(t testing.TB, dir, format string) []byte {
	t.Helper()
	needs.Tool(t, "cpio", "cpio")
	cmd := exec.Command("sh", "-c", "find . | LC_ALL=C sort | cpio -o --quiet -H "+format)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// check compares f with the folder that it was made of.
func check(t *testing.T, f *ramfs.FS, dir string) {
	t.Helper()
	got := iofs.New(f.Root().View())
	count := 0
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		count++
		rel, _ := filepath.Rel(dir, name)
		want, err := os.Lstat(name)
		if err != nil {
			return err
		}
		have, err := got.Lstat(rel)
		if err != nil {
			return err
		}
		st, a := want.Sys().(*syscall.Stat_t), have.Sys().(*ramfs.Attr)
		if have.Mode() != want.Mode() || a.UID != st.Uid || a.GID != st.Gid || uint64(a.Nlink) != uint64(st.Nlink) {
			t.Errorf("%s: mode %v, owner %d:%d, %d links; want %v, %d:%d, %d", rel, have.Mode(), a.UID, a.GID, a.Nlink, want.Mode(), st.Uid, st.Gid, st.Nlink)
		}
		if !have.ModTime().Equal(want.ModTime().Truncate(time.Second)) {
			t.Errorf("%s: time %v, want %v", rel, have.ModTime(), want.ModTime())
		}
		switch {
		case want.Mode().IsRegular():
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if c, err := fs.ReadFile(got, rel); err != nil || !bytes.Equal(b, c) {
				t.Errorf("%s: contents differ, %v", rel, err)
			}
		case want.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(name)
			if s, err := got.ReadLink(rel); s != target || err != nil {
				t.Errorf("%s: leads to %q, %v", rel, s, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	have := 0
	if err := fs.WalkDir(got, ".", func(string, fs.DirEntry, error) error { have++; return nil }); err != nil || have != count {
		t.Errorf("%d entries, want %d; %v", have, count, err)
	}
}

// TestLoad loads what cpio and the compressors made.
func TestLoad(t *testing.T) {
	dir := folder(t)
	plain := archive(t, dir, "newc")
	for _, c := range []struct {
		name, tool, pkg string
		args            []string
	}{
		{"lz4", "lz4", "lz4", []string{"-l", "-9"}},
		{"lz4fast", "lz4", "lz4", []string{"-l", "-1"}},
		{"zstd", "zstd", "zstd", []string{"-5", "--check"}},
		{"zstdfast", "zstd", "zstd", []string{"-1", "--no-check"}},
		{"gzip", "gzip", "gzip", []string{"-9", "-n"}},
		{"gzipfast", "gzip", "gzip", []string{"-1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			needs.Tool(t, c.tool, c.pkg)
			b := filter(t, plain, c.tool, append(c.args, "-c")...)
			f := ramfs.New(ramfs.Options{})
			if err := Load(f, b, Heap(1<<28)); err != nil {
				t.Fatal(err)
			}
			check(t, f, dir)
			if d := f.Stats().DataBytes; d != 0 {
				t.Errorf("%d bytes were copied", d)
			}
			for range 40 { // damaged: never a crash
				c := bytes.Clone(b[:1+rand.IntN(len(b))])
				c[rand.IntN(len(c))] ^= 1 << rand.IntN(8)
				if err := Load(ramfs.New(ramfs.Options{}), c[:min(len(c), 50000)], Heap(1<<28)); err == nil {
					t.Error("a cut archive was loaded")
				}
			}
		})
	}
	t.Run("plain", func(t *testing.T) {
		f := ramfs.New(ramfs.Options{})
		if err := Load(f, plain, Heap(0)); err != nil {
			t.Fatal(err)
		}
		check(t, f, dir)
	})
	t.Run("crc", func(t *testing.T) {
		b := archive(t, dir, "crc")
		f := ramfs.New(ramfs.Options{})
		if err := Load(f, b, Heap(0)); err != nil {
			t.Fatal(err)
		}
		check(t, f, dir)
		b[len(b)/2] ^= 1 // in the large file
		if err := Load(ramfs.New(ramfs.Options{}), b, Heap(0)); err == nil || !strings.Contains(err.Error(), "sum") {
			t.Errorf("a damaged one: %v", err)
		}
	})
	t.Run("several", func(t *testing.T) {
		needs.Tool(t, "lz4", "lz4")
		empty := t.TempDir()
		early := archive(t, empty, "newc")
		f := ramfs.New(ramfs.Options{})
		b := append(append(early, make([]byte, 516)...), filter(t, plain, "lz4", "-l", "-c")...)
		if err := Load(f, append(b, 0, 0, 0, 0, 0), Heap(1<<28)); err != nil {
			t.Fatal(err)
		}
		check(t, f, dir)
	})
}

// entry is one as it stands in an archive.
func entry(name string, mode, nlink int, data string) string {
	h := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", 7, mode, 1, 2, nlink, 3, len(data), 0, 0, 1, 3, len(name)+1, 0)
	pad := func(s string) string { return s + strings.Repeat("\x00", -len(s)&3) }
	return pad(h+name+"\x00") + pad(data)
}

var end = entry(trailer, 0, 1, "")

func TestArchives(t *testing.T) {
	for _, c := range []struct {
		name, archive, want string // the error's text; "" for none
		paths               string
	}{
		{"nothing", "", "at byte 0: there is no archive", ""},
		{"zeros", "\x00\x00\x00\x00", "at byte 0: there is no archive", ""},
		{"empty", end, "", ""},
		{"text", "hello", "neither a cpio archive", ""},
		{"no trailer", entry("a", 0o100644, 1, "x"), "at byte 116: the archive ends without its trailer", ""},
		{"garbage behind", end + "rubbish!", "neither a cpio archive", ""},
		{"no folder before", entry("/a//b/./c", 0o100644, 1, "x") + end, "", "a a/b a/b/c"},
		{"up", entry("a/../../b", 0o100644, 1, "x") + end, "leads out of a folder", ""},
		{"below a file", entry("a", 0o100644, 1, "x") + entry("a/b", 0o100644, 1, "x") + end, "at byte 116: a/b lies in what is no folder", ""},
		{"twice", entry("a", 0o100644, 1, "x") + entry("a", 0o120777, 1, "target") + end, "", "a"},
		{"folder twice", entry("a", 0o40755, 2, "") + entry("a/b", 0o100644, 1, "") + entry("a", 0o40700, 2, "") + end, "", "a a/b"},
		{"folder replaced", entry("a/b", 0o100644, 1, "") + entry("a", 0o100644, 1, "") + end, "a: directory not empty", ""},
		{"links, contents last", entry("a", 0o100644, 2, "") + entry("b", 0o100644, 2, "late") + end, "", "a b"},
		{"a link of itself", entry("a", 0o100644, 2, "x") + entry("a", 0o100644, 2, "x") + end, "", "a"},
		{"device", entry("null", 0o20666, 1, "") + end, "", "null"},
		{"a type that is none", entry("a", 0o644, 1, "") + end, "invalid argument", ""},
		{"root a file", entry(".", 0o100644, 1, "") + end, "the root is no folder", ""},
		{"long name", entry(strings.Repeat("n", 256), 0o100644, 1, "") + end, "file name too long", ""},
		{"deep", entry(strings.Repeat("n/", 300), 0o100644, 1, "") + end, "more than 256 folders", ""},
		{"no hex", strings.Replace(entry("a", 0, 1, ""), "0000000", "000000g", 1) + end, "hexadecimal", ""},
		{"size beyond", strings.Replace(entry("a", 0o100644, 1, "x"), "00000001000000000000000000000001", "FFFFFFFF000000000000000000000001", 1) + end, "contents of a are cut short", ""},
		{"lz4 of nothing", "\x02\x21\x4c\x18", "at byte of the unpacked archive 0: there is no archive", ""},
		{"lz4 cut", "\x02\x21\x4c\x18\x20\x00\x00\x00abc", "cut short or damaged", ""},
		{"zstd cut", "\x28\xb5\x2f\xfd\x00\x00", "cut short or damaged", ""},
		{"xz", "\xfd7zXZ\x00", "neither a cpio archive", ""},
	} {
		f := ramfs.New(ramfs.Options{})
		err := Load(f, []byte(c.archive), Heap(1<<20))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
			continue
		}
		if err != nil {
			continue
		}
		var paths []string
		fs.WalkDir(iofs.New(f.Root().View()), ".", func(path string, _ fs.DirEntry, _ error) error {
			paths = append(paths, path)
			return nil
		})
		if got := strings.Join(paths[1:], " "); got != c.paths {
			t.Errorf("%s: has %s, want %s", c.name, got, c.paths)
		}
	}
	if err := Load(ramfs.New(ramfs.Options{Limit: 400}), []byte(entry("a", 0o100644, 1, "")+end), Heap(0)); !errors.Is(err, ramfs.ENOSPC) {
		t.Errorf("no room: %v", err)
	}
}

func TestAttributes(t *testing.T) {
	f := ramfs.New(ramfs.Options{})
	if err := Load(f, []byte(entry("null", 0o20666, 1, "")+entry(".", 0o41700, 2, "")+end), Heap(0)); err != nil {
		t.Fatal(err)
	}
	n, _ := f.Root().Lookup("null")
	if a := n.Attr(); a.Mode != 0o20666 || a.Rdev != 0x103 || a.UID != 1 || a.GID != 2 || a.Mtime != 3e9 {
		t.Errorf("%+v", a)
	}
	if a := f.Root().Attr(); a.Mode != 0o41700 || a.Mtime != 3e9 {
		t.Errorf("the root: %+v", a)
	}
}

// FuzzLoad finds nothing in bytes of any kind but an error or a tree that can be read.
func FuzzLoad(f *testing.F) {
	plain := []byte(entry("a/b", 0o100755, 2, "contents") + entry("c", 0o100755, 2, "") + entry("l", 0o120777, 1, "a/b") + entry("d", 0o40755, 2, "") + end)
	f.Add(plain)
	f.Add([]byte(entry("caf\xe9", 0o100644, 1, "x") + end))
	for _, c := range [][]string{{"lz4", "-l", "-c"}, {"zstd", "-c"}, {"gzip", "-c"}} {
		if _, err := exec.LookPath(c[0]); err == nil {
			f.Add(filter(f, plain, c[0], c[1:]...))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys := ramfs.New(ramfs.Options{Limit: 1 << 20})
		if err := Load(fsys, b, Heap(16<<20)); err != nil {
			return
		}
		err := fs.WalkDir(iofs.New(fsys.Root().View()), ".", func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				_, err = fs.ReadFile(iofs.New(fsys.Root().View()), path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestSeeds proves that the seeds reach what is behind the checks.
func TestSeeds(t *testing.T) {
	plain := []byte(entry("a/b", 0o100755, 1, "contents") + end)
	for _, c := range [][]string{{"lz4", "-l", "-c"}, {"zstd", "-c"}, {"gzip", "-c"}} {
		needs.Tool(t, c[0], c[0])
		f := ramfs.New(ramfs.Options{})
		if err := Load(f, filter(t, plain, c[0], c[1:]...), Heap(16<<20)); err != nil {
			t.Errorf("%s: %v", c[0], err)
		}
	}
}

// TestLean checks that the kernel can afford the package.
func TestLean(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if !strings.HasPrefix(dep, "github.com/firstlight-boot/firstlight/r") && dep != "unsafe" && dep != "math/bits" && !strings.HasPrefix(dep, "internal/") {
			t.Errorf("imports %s", dep)
		}
	}
}
