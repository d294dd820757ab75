package ramfs

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
)

func must[T any](t testing.TB) func(v T, err Errno) T {
	return func(v T, err Errno) T {
		t.Helper()
		if err != 0 {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err Errno) {
	t.Helper()
	if err != 0 {
		t.Fatal(err)
	}
}

func create(t testing.TB, d *Node, name string, mode uint32) *Node {
	t.Helper()
	return must[*Node](t)(d.Create(name, mode, 0))
}

// model is the reference: a node of a tree whose data is a plain slice.
type model struct {
	kind   uint32
	data   []byte
	target string
	names  map[string]*model
}

func (m *model) clone(seen map[*model]*model) *model {
	if c := seen[m]; c != nil {
		return c
	}
	c := &model{m.kind, bytes.Clone(m.data), m.target, nil}
	seen[m] = c
	if m.names != nil {
		c.names = map[string]*model{}
		for name, to := range m.names {
			c.names[name] = to.clone(seen)
		}
	}
	return c
}

// compare checks that v is what m says, names, data and all.
func compare(v View, m *model, path string) error {
	a := v.Attr()
	if a.Mode&TypeMask != m.kind {
		return fmt.Errorf("%s: type %o, want %o", path, a.Mode&TypeMask, m.kind)
	}
	switch m.kind {
	case TypeReg:
		got := make([]byte, len(m.data)+1)
		n, err := v.ReadAt(got, 0)
		if err != 0 || !bytes.Equal(got[:n], m.data) || a.Size != uint64(len(m.data)) {
			return fmt.Errorf("%s: read %d bytes of %d, want %d, %v; the contents differ", path, n, a.Size, len(m.data), err)
		}
	case TypeLink:
		if got, err := v.Readlink(); err != 0 || got != m.target {
			return fmt.Errorf("%s: link to %q, %v; want %q", path, got, err, m.target)
		}
	case TypeDir:
		var names []string
		dirs := uint32(2)
		for pos := uint64(0); ; {
			name, to, next, ok := v.ReadDir(pos)
			if !ok {
				break
			}
			if next <= pos {
				return fmt.Errorf("%s: position %d after %d", path, next, pos)
			}
			pos = next
			names = append(names, name)
			want := m.names[name]
			if want == nil {
				return fmt.Errorf("%s: %q should not be there", path, name)
			}
			if l, err := v.Lookup(name); err != 0 || l != to {
				return fmt.Errorf("%s: Lookup(%q) = %v, %v", path, name, l, err)
			}
			if err := compare(to, want, path+"/"+name); err != nil {
				return err
			}
			if want.kind == TypeDir {
				dirs++
			}
		}
		sort.Strings(names)
		if want := slices.Sorted(maps.Keys(m.names)); !slices.Equal(names, want) {
			return fmt.Errorf("%s: has %q, want %q", path, names, want)
		}
		if a.Nlink != dirs {
			return fmt.Errorf("%s: %d links, want %d", path, a.Nlink, dirs)
		}
	}
	return nil
}

// TestModel does what chance says to a file system and to a model, with snapshots taken and released in any order.
func TestModel(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			pool := NewPool(nil)
			f := New(Options{Memory: pool})
			m := &model{kind: TypeDir, names: map[string]*model{}}
			type pair struct {
				n *Node
				m *model
			}
			dirs := []pair{{f.Root(), m}}
			type snapshot struct {
				s *Snapshot
				m *model
			}
			var snaps []snapshot
			check := func() {
				t.Helper()
				if err := compare(f.Root().View(), m, ""); err != nil {
					t.Fatal(err)
				}
				for i, s := range snaps {
					if err := compare(s.s.Root(), s.m, fmt.Sprintf("snapshot %d: ", i)); err != nil {
						t.Fatal(err)
					}
				}
			}
			for step := range 3000 {
				at := r.IntN(len(dirs))
				d, to := dirs[at], dirs[r.IntN(len(dirs))]
				name, other := fmt.Sprint("n", r.IntN(25)), fmt.Sprint("n", r.IntN(25))
				n, _ := d.n.Lookup(name)
				mm := d.m.names[name]
				if (n == nil) != (mm == nil) {
					t.Fatalf("step %d: %q is there: %v, %v", step, name, n != nil, mm != nil)
				}
				isDir := mm != nil && mm.kind == TypeDir
				switch op := r.IntN(22); {
				case op < 3: // make
					kind := []uint32{TypeReg, TypeReg, TypeDir, TypeLink}[r.IntN(4)]
					var c *Node
					var err Errno
					target := strings.Repeat("x", 1+r.IntN(50))
					if kind == TypeLink {
						c, err = d.n.Symlink(name, target)
					} else {
						c, err = d.n.Create(name, kind|0o644, 0)
						target = ""
					}
					if (err == EEXIST) != (mm != nil) || err != 0 && err != EEXIST {
						t.Fatal(err)
					}
					if err == 0 {
						d.m.names[name] = &model{kind: kind, target: target}
						if kind == TypeDir {
							d.m.names[name].names = map[string]*model{}
							dirs = append(dirs, pair{c, d.m.names[name]})
						}
					}
				case op < 9 && mm != nil && mm.kind == TypeReg: // write
					off, size := r.IntN(20000), 1+r.IntN(10000)
					if r.IntN(20) == 0 {
						off += leafPages * PageSize
					}
					if r.IntN(2) == 0 {
						off = len(mm.data)
					}
					p := bytes.Repeat([]byte{byte(step)}, size)
					if k := must[int](t)(n.WriteAt(p, uint64(off))); k != size {
						t.Fatalf("wrote %d of %d", k, size)
					}
					if end := off + size; end > len(mm.data) {
						mm.data = append(mm.data, make([]byte, end-len(mm.data))...)
					}
					copy(mm.data[off:], p)
				case op < 12 && mm != nil && mm.kind == TypeReg: // truncate
					size := r.IntN(20000)
					if r.IntN(20) == 0 {
						size += leafPages * PageSize
					}
					ok(t, n.Truncate(uint64(size)))
					mm.data = append(mm.data[:min(size, len(mm.data)):min(size, len(mm.data))], make([]byte, max(0, size-len(mm.data)))...)
				case op < 14: // remove
					err := d.n.Remove(name, isDir)
					want := Errno(0)
					switch {
					case mm == nil:
						want = ENOENT
					case isDir && len(mm.names) > 0:
						want = ENOTEMPTY
					}
					if err != want {
						t.Fatalf("Remove: %v, want %v", err, want)
					}
					if err == 0 {
						delete(d.m.names, name)
						dirs = slices.DeleteFunc(dirs, func(p pair) bool { return p.n == n })
					}
				case op < 16: // rename
					err := d.n.Rename(name, to.n, other, false)
					old := to.m.names[other]
					below := false
					for up := to.n; up != nil; up = up.parent {
						below = below || up == n
					}
					want := Errno(0)
					switch {
					case mm == nil:
						want = ENOENT
					case isDir && below:
						want = EINVAL
					case old != nil && above(to.n, other, d.n):
						want = ENOTEMPTY
					case old == nil || old == mm:
					case isDir && old.kind != TypeDir:
						want = ENOTDIR
					case !isDir && old.kind == TypeDir:
						want = EISDIR
					case len(old.names) > 0:
						want = ENOTEMPTY
					}
					if err != want {
						t.Fatalf("Rename: %v, want %v", err, want)
					}
					if err == 0 && old != mm {
						dirs = slices.DeleteFunc(dirs, func(p pair) bool { return p.m == old })
						delete(d.m.names, name)
						to.m.names[other] = mm
					}
				case op < 17 && mm != nil && !isDir: // link
					err := to.n.Link(other, n)
					if (err == EEXIST) != (to.m.names[other] != nil) || err != 0 && err != EEXIST {
						t.Fatalf("Link: %v", err)
					}
					if err == 0 {
						to.m.names[other] = mm
					}
				case op >= 20 && mm != nil && mm.kind == TypeReg: // punch, allocate
					off, size := r.IntN(20000), 1+r.IntN(20000)
					if r.IntN(3) == 0 {
						off, size = off&^(PageSize-1), (size+PageSize-1)&^(PageSize-1)
					}
					if end := off + size; op == 20 {
						ok(t, n.Punch(uint64(off), uint64(size)))
						clear(mm.data[min(off, len(mm.data)):min(end, len(mm.data))])
						if at, is := n.NextData(uint64(off+PageSize-1) &^ (PageSize - 1)); is && at+PageSize <= uint64(end) {
							t.Fatalf("step %d: %d bytes at %d were punched, and there is data at %d", step, size, off, at)
						}
					} else {
						ok(t, n.Allocate(uint64(off), uint64(size)))
						mm.data = append(mm.data, make([]byte, max(0, end-len(mm.data)))...)
						if at, is := n.NextHole(uint64(off)); !is || at < uint64(end) {
							t.Fatalf("step %d: %d bytes at %d were allocated, and there is a hole at %d", step, size, off, at)
						}
					}
				case op == 18 && r.IntN(5) == 0 && len(snaps) < 4:
					snaps = append(snaps, snapshot{f.Snapshot(), m.clone(map[*model]*model{})})
				case op == 19 && r.IntN(5) == 0 && len(snaps) > 0:
					i := r.IntN(len(snaps))
					snaps[i].s.Release()
					snaps = slices.Delete(snaps, i, i+1)
				}
				if step%150 == 149 {
					check()
				}
			}
			check()
			empty(t, f.Root())
			m.names = map[string]*model{}
			check()
			for len(snaps) > 0 {
				i := r.IntN(len(snaps))
				snaps[i].s.Release()
				snaps = slices.Delete(snaps, i, i+1)
				check()
			}
			if s := pool.Stats(); s != (PoolStats{}) {
				t.Errorf("with all files gone, the pool holds %+v", s)
			}
			if s := f.Stats(); s.UsedBytes != nodeBytes || s.Nodes != 1 {
				t.Errorf("with all files gone, the file system holds %+v", s)
			}
		})
	}
}

// above reports whether what has a name in dir is d or above it.
func above(dir *Node, name string, d *Node) bool {
	n, _ := dir.Lookup(name)
	return n.above(d)
}

// empty removes all that is in d, while reading it.
func empty(t *testing.T, d *Node) {
	t.Helper()
	for pos := uint64(0); ; {
		name, n, next, more := d.ReadDir(pos)
		if !more {
			return
		}
		pos = next
		if n.Type() == TypeDir {
			empty(t, n)
		}
		ok(t, d.Remove(name, n.Type() == TypeDir))
	}
}

func TestErrors(t *testing.T) {
	f := New(Options{})
	root := f.Root()
	d := create(t, root, "d", TypeDir|0o755)
	file := create(t, root, "f", TypeReg|0o644)
	long := strings.Repeat("n", NameMax+1)
	for _, c := range []struct {
		what string
		err  error
		want Errno
	}{
		{"write a directory", second(d.WriteAt([]byte("x"), 0)), EISDIR},
		{"read a directory", second(d.ReadAt(make([]byte, 1), 0)), EISDIR},
		{"truncate a directory", d.Truncate(0), EISDIR},
		{"a name twice", second(root.Create("f", TypeReg, 0)), EEXIST},
		{"an empty name", second(root.Create("", TypeReg, 0)), ENOENT},
		{"a slash in a name", second(root.Create("a/b", TypeReg, 0)), EINVAL},
		{"a name of 256 bytes", second(root.Create(long, TypeReg, 0)), ENAMETOOLONG},
		{"rename to 256 bytes", root.Rename("f", root, long, false), ENAMETOOLONG},
		{"rename to ..", root.Rename("f", root, "..", false), EINVAL},
		{"create in a file", second(file.Create("x", TypeReg, 0)), ENOTDIR},
		{"look up in a file", second(file.Lookup("x")), ENOTDIR},
		{"link to a directory", root.Link("l", d), EPERM},
		{"link to another file system", root.Link("l", New(Options{}).Root()), EXDEV},
		{"rename below itself", root.Rename("d", d, "x", false), EINVAL},
		{"rename over, refused", root.Rename("f", root, "d", true), EEXIST},
		{"rename a file over a directory", root.Rename("f", root, "d", false), EISDIR},
		{"rename a directory over a file", root.Rename("d", root, "f", false), ENOTDIR},
		{"rmdir of a file", root.Remove("f", true), ENOTDIR},
		{"unlink of a directory", root.Remove("d", false), EISDIR},
		{"write far out", second(file.WriteAt([]byte("xy"), FileMax-1)), EFBIG},
		{"truncate far out", file.Truncate(FileMax + 1), EFBIG},
		{"an empty link", second(root.Symlink("l", "")), ENOENT},
		{"the target of a file", second(file.Readlink()), EINVAL},
		{"remove an attribute that is not there", file.RemoveXattr("user.a"), ENODATA},
		{"replace one", file.SetXattr("user.a", nil, XattrReplace), ENODATA},
		{"a large one", file.SetXattr("user.a", make([]byte, XattrMax+1), 0), E2BIG},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.err, c.want)
		}
	}
	if n := f.Stats().Nodes; n != 3 {
		t.Errorf("%d nodes after errors, want 3", n)
	}
	ok(t, root.Remove("d", true))
	if _, err := d.Create("x", TypeReg, 0); err != ENOENT {
		t.Errorf("create in a removed directory: %v", err)
	}
}

func second[T any](_ T, err Errno) error { return err }
