package ramfs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestHost does the same to a file system and to a folder of the host, and wants the same errors and the same tree.
func TestHost(t *testing.T) {
	for seed := range uint64(4) {
		top := t.TempDir()
		r := rand.New(rand.NewPCG(seed, 7))
		f := New(Options{})
		type folder struct {
			n    *Node
			path string
		}
		folders := func() (all []folder) {
			var walk func(folder)
			walk = func(d folder) {
				all = append(all, d)
				for pos := uint64(0); ; {
					name, n, next, more := d.n.ReadDir(pos)
					if !more {
						return
					}
					if pos = next; n.Type() == TypeDir {
						walk(folder{n, filepath.Join(d.path, name)})
					}
				}
			}
			walk(folder{f.Root(), top})
			return all
		}
		for step := range 4000 {
			all := folders()
			d, to := all[r.IntN(len(all))], all[r.IntN(len(all))]
			name, other := fmt.Sprint("n", r.IntN(6)), fmt.Sprint("n", r.IntN(6))
			path, otherPath := filepath.Join(d.path, name), filepath.Join(to.path, other)
			n, lookErr := d.n.Lookup(name)
			var got Errno
			var want error
			op := [...]string{"create", "mkdir", "symlink", "write", "truncate", "unlink", "rmdir", "rename", "rename", "link", "mode"}[r.IntN(11)]
			switch op {
			case "create":
				_, got = d.n.Create(name, TypeReg|0o600, 0)
				var h *os.File
				if h, want = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); want == nil {
					h.Close()
				}
			case "mkdir":
				if strings.Count(path, "/") > strings.Count(top, "/")+5 {
					continue
				}
				_, got = d.n.Create(name, TypeDir|0o700, 0)
				want = syscall.Mkdir(path, 0o700)
			case "symlink":
				_, got = d.n.Symlink(name, "to/nowhere")
				want = syscall.Symlink("to/nowhere", path)
			case "write", "truncate":
				if lookErr != 0 || n.Type() != TypeReg {
					continue
				}
				h, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				off, size := r.IntN(3*PageSize), r.IntN(2*PageSize)
				if op == "write" {
					p := bytes.Repeat([]byte{byte(step)}, size)
					_, got = n.WriteAt(p, uint64(off))
					_, want = h.WriteAt(p, int64(off))
				} else {
					got = n.Truncate(uint64(off))
					want = h.Truncate(int64(off))
				}
				h.Close()
			case "unlink":
				got = d.n.Remove(name, false)
				want = syscall.Unlink(path)
			case "rmdir":
				got = d.n.Remove(name, true)
				want = syscall.Rmdir(path)
			case "rename":
				got = d.n.Rename(name, to.n, other, false)
				want = syscall.Rename(path, otherPath)
			case "link":
				if lookErr != 0 {
					continue
				}
				got = to.n.Link(other, n)
				want = syscall.Link(path, otherPath)
			case "mode":
				if lookErr != 0 || n.Type() == TypeLink {
					continue
				}
				n.SetMode(0o700 | uint32(r.IntN(0o100)))
				want = os.Chmod(path, os.FileMode(n.Attr().Mode&0o777))
			}
			var no syscall.Errno
			if want != nil && !errors.As(want, &no) || Errno(no) != got {
				t.Fatalf("seed %d, step %d: %s %s %s: %v, the host says %v", seed, step, op, path, otherPath, got, want)
			}
		}
		for _, d := range folders() {
			same(t, d.n, d.path)
		}
	}
}

// same checks that d and the host's folder have the same entries with the same attributes.
func same(t *testing.T, d *Node, path string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, e := range entries {
		want = append(want, e.Name())
	}
	for pos := uint64(0); ; {
		name, n, next, more := d.ReadDir(pos)
		if !more {
			break
		}
		pos = next
		got = append(got, name)
		var st syscall.Stat_t
		if err := syscall.Lstat(filepath.Join(path, name), &st); err != nil {
			t.Fatal(err)
		}
		a := n.Attr()
		if a.Mode&^0o777 != st.Mode&^0o777 || n.Type() != TypeLink && a.Mode != st.Mode || n.Type() != TypeDir && (uint64(a.Nlink) != uint64(st.Nlink) || a.Size != uint64(st.Size)) {
			t.Errorf("%s/%s: %+v, the host has mode %o, %d links, size %d", path, name, a, st.Mode, st.Nlink, st.Size)
		}
		if n.Type() == TypeReg {
			b, err := os.ReadFile(filepath.Join(path, name))
			p := make([]byte, len(b)+1)
			if k, no := n.ReadAt(p, 0); err != nil || no != 0 || !bytes.Equal(p[:k], b) {
				t.Errorf("%s/%s: the contents differ", path, name)
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, the host has %q", path, got, want)
	}
}
