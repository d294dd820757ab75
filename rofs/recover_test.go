package rofs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/firstlight-boot/firstlight/rofs"
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/tree"
)

// sized is a rofs.File in memory, of which only what is written takes room.
type sized struct {
	parts map[int64][]byte
	size  int64
}

func (s *sized) Truncate(n int64) error { s.size = n; return nil }
func (s *sized) WriteAt(p []byte, off int64) (int, error) {
	s.parts[off] = bytes.Clone(p)
	return len(p), nil
}

func (s *sized) bytes() []byte {
	b := make([]byte, s.size)
	for off, p := range s.parts {
		copy(b[off:], p)
	}
	return b
}

type restored struct {
	entries map[string]tree.Entry
	data    map[string][]byte
	lost    map[string][]rofs.Lost // by path
	all     []rofs.Lost
}

func restore(t testing.TB, file []byte, offset int64) (*rofs.Recovered, *restored) {
	t.Helper()
	rec, err := rofs.Recover(t.Context(), bytes.NewReader(file), int64(len(file)), offset)
	if errors.Is(err, rofs.ErrNothing) {
		return nil, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	out := &restored{map[string]tree.Entry{}, map[string][]byte{}, map[string][]rofs.Lost{}, rec.Lost}
	for _, e := range rec.Tree.Entries {
		if _, twice := out.entries[e.Path]; twice {
			t.Fatalf("%q is there twice", e.Path)
		}
		if parent, ok := out.entries[path.Dir(e.Path)]; e.Path != "." && (!ok || !parent.Mode.IsDir()) {
			t.Fatalf("%q comes before its directory", e.Path)
		}
		if first, ok := out.entries[e.HardLink]; e.HardLink != "" && (!ok || first.HardLink != "") {
			t.Fatalf("%q comes before %q, to which it is a hard link", e.Path, e.HardLink)
		}
		out.entries[e.Path] = e
		if e.Mode.IsRegular() && e.HardLink == "" && e.Size < 1<<30 {
			w := &sized{parts: map[int64][]byte{}}
			list, err := rec.Content(t.Context(), e.Path, w)
			if err != nil {
				t.Fatal(err)
			}
			out.data[e.Path] = w.bytes()
			out.all = append(out.all, list...)
		}
	}
	for _, l := range out.all {
		if l.Why == "" {
			t.Errorf("no reason for %v", l)
		}
		out.lost[l.Path] = append(out.lost[l.Path], l)
	}
	return rec, out
}

// judgeRecovery checks that whatever is not in the list of what is lost is as it was. It returns how many of the tree's entries
// are under their names, and the files whose content is whole.
func judgeRecovery(t testing.TB, want *tree.Tree, data map[string][]byte, got *restored) (named, wholeFiles int) {
	t.Helper()
	for _, w := range want.Entries {
		g, ok := got.entries[w.Path]
		lost := got.lost[w.Path]
		if !ok {
			// It is in the list, or under its number.
			continue
		}
		named++
		if len(lost) > 0 {
			for at, b := range data[w.Path] {
				in := false
				for _, l := range lost {
					in = in || l.Length == 0 || int64(at) >= l.Offset && int64(at) < l.Offset+l.Length
				}
				if gd := got.data[w.Path]; !in && (at >= len(gd) || gd[at] != b) {
					t.Fatalf("%q: byte %d is wrong, and not in the list: %v", w.Path, at, lost)
				}
			}
			continue
		}
		if d := cmp.Diff(w, g, cmpopts.IgnoreFields(tree.Entry{}, "Source", "HardLink", "Size")); d != "" {
			t.Errorf("%q: want(-) got(+):\n%s", w.Path, d)
		}
		first := w.Path
		if g.HardLink != "" {
			first = g.HardLink
		}
		if len(got.lost[first]) == 0 {
			if !bytes.Equal(got.data[first], data[w.Path]) {
				t.Errorf("%q: content of %d bytes is not what was written: %d bytes", w.Path, len(got.data[first]), len(data[w.Path]))
			}
			if w.Mode.IsRegular() {
				wholeFiles++
			}
		}
	}
	// What has no name has its content all the same.
	for p, b := range got.data {
		if strings.HasPrefix(p, rofs.LostFound+"/") && !slices.ContainsFunc(got.lost[p], func(l rofs.Lost) bool { return l.Length > 0 || strings.Contains(l.Why, "damaged") }) {
			found := false
			for _, d := range data {
				found = found || bytes.Equal(b, d)
			}
			if !found {
				t.Errorf("%q has %d bytes that no file had: %v", p, len(b), got.lost[p])
			}
		}
	}
	return named, wholeFiles
}

// recoverable is a tree of some blocks of each table, and its content by path.
func recoverable(t testing.TB) (*tree.Tree, map[string][]byte) {
	t.Helper()
	var entries []tree.Entry
	data := map[string][]byte{}
	for d := range 6 {
		name := fmt.Sprintf("dir%d", d)
		entries = append(entries, dir(name), dir(name+"/sub"))
		for i := range 60 {
			p := fmt.Sprintf("%s/sub/a-name-of-middling-length-for-a-file-%03d", name, i)
			data[p] = mixed(i*i*(i%7), uint64(d*1000+i))
			entries = append(entries, file(p, data[p]))
		}
		p := name + "/big"
		data[p] = mixed(300_000+d, uint64(d))
		entries = append(entries, file(p, data[p]))
		again := entries[len(entries)-1]
		again.Path, again.HardLink, again.Source = name+"/sub/also-big", p, nil
		data[again.Path] = data[p]
		entries = append(entries, again,
			tree.Entry{Path: name + "/link", Mode: fs.ModeSymlink | 0o777, Link: fmt.Sprintf("sub/%d", d), ModTime: mtime})
	}
	data["holes"] = slices.Concat(make([]byte, 200000), mixed(100000, 3), make([]byte, 400000), []byte{1})
	x := file("with-attributes", []byte("x"))
	data[x.Path] = []byte("x")
	x.Xattrs = []tree.Xattr{{Name: "user.big", Value: noise(9000, 2)}}
	return newTree(t, append(entries, file("holes", data["holes"]), x)...), data
}

var recoverSets = map[string]rofs.Options{"lz4": {}, "none": {Codec: rofs.None}, "zstd": {Codec: rofs.Zstd, ClusterSize: 16 << 10}}

func TestRecoverWhole(t *testing.T) {
	for name, tr := range corpus(t) {
		data := map[string][]byte{}
		for _, e := range tr.Entries {
			if e.Mode.IsRegular() {
				data[e.Path] = content(t, e)
				if e.HardLink != "" {
					data[e.Path] = data[e.HardLink]
				}
			}
		}
		image := write(t, tr, rofs.Options{Codec: rofs.Zstd})
		for _, super := range []bool{true, false} {
			if !super {
				clear(image[:format.BlockSize])
			}
			for _, before := range few(512*77, 0, 4096) {
				rec, got := restore(t, append(noise(before, 1), image...), -1)
				if rec == nil {
					t.Fatalf("%s: nothing is found", name)
				}
				if rec.Offset != int64(before) || len(got.all) > 0 {
					t.Fatalf("%s: begins at %d, not %d; lost: %v", name, rec.Offset, before, got.all)
				}
				if named, _ := judgeRecovery(t, tr, data, got); named != len(tr.Entries) || len(got.entries) != named {
					t.Errorf("%s: %d of %d entries, %d in all", name, named, len(tr.Entries), len(got.entries))
				}
			}
		}
	}
}

// tables returns the first and the last byte after each table of an image.
func tables(image []byte) (at [format.NumTables][2]int) {
	s := format.Superblock(image)
	for i := range at {
		at[i][0] = int(s.Start(i)) * format.BlockSize
		at[i][1] = at[i][0] + int(format.Blocks(i, s.Count(i)))*format.BlockSize
	}
	return at
}

// TestRecoverTables destroys each table in turn, with and without the superblock.
func TestRecoverTables(t *testing.T) {
	tr, data := recoverable(t)
	for name, o := range recoverSets {
		whole := write(t, tr, o)
		for table, at := range tables(whole) {
			for _, super := range few(false, true) {
				for _, with := range few("noise", "zeros") {
					image := bytes.Clone(whole)
					fill := make([]byte, at[1]-at[0])
					if with == "noise" {
						fill = noise(len(fill), 5)
					}
					copy(image[at[0]:], fill)
					if !super {
						clear(image[:format.BlockSize])
					}
					_, got := restore(t, image, -1)
					if table == format.Inodes {
						if got != nil && len(got.data) > 0 {
							t.Errorf("%s: files without inodes", name)
						}
						continue
					}
					if got == nil {
						t.Fatalf("%s, table %d: nothing is found", name, table)
					}
					if len(got.all) == 0 {
						t.Errorf("%s, table %d: nothing is in the list", name, table)
					}
					named, files := judgeRecovery(t, tr, data, got)
					// Content is independent of names, and names of content.
					contents := 0
					for p, b := range got.data {
						if len(b) > 0 && !slices.ContainsFunc(got.lost[p], func(l rofs.Lost) bool { return l.Length > 0 }) {
							contents++
						}
					}
					switch table {
					case format.Clusters:
						if named != len(tr.Entries) {
							t.Errorf("%s without clusters: %d of %d entries are left", name, named, len(tr.Entries))
						}
					case format.Dirents:
						if contents < 300 || named != 1 {
							t.Errorf("%s without dirents: %d contents, %d names", name, contents, named)
						}
					case format.Strings: // which have small files' content, too
						if contents < 200 || named != 1 {
							t.Errorf("%s without strings: %d contents, %d names", name, contents, named)
						}
					}
					_ = files
				}
			}
		}
	}
}

// TestRecoverBlocks destroys blocks at random.
func TestRecoverBlocks(t *testing.T) {
	tr, data := recoverable(t)
	for name, o := range recoverSets {
		whole := write(t, tr, o)
		seeds := uint64(40)
		if raceEnabled {
			seeds = 4
		}
		for seed := range seeds {
			r := rand.New(rand.NewPCG(seed, 9))
			image := bytes.Clone(whole)
			for range 1 + r.IntN(6) {
				at := r.IntN(len(image)/format.BlockSize) * format.BlockSize
				if r.IntN(2) == 0 { // among the metadata
					s := format.Superblock(whole)
					at = r.IntN(int(s.DataOff())/format.BlockSize) * format.BlockSize
				}
				switch r.IntN(3) {
				case 0:
					clear(image[at : at+format.BlockSize])
				case 1:
					copy(image[at:], noise(format.BlockSize, seed))
				default: // one byte
					image[at+r.IntN(format.BlockSize)] ^= byte(1 + r.IntN(255))
				}
			}
			rec, got := restore(t, image, -1)
			if rec == nil {
				t.Fatalf("%s, seed %d: nothing is found", name, seed)
			}
			if named, files := judgeRecovery(t, tr, data, got); named < len(tr.Entries)/4 || files == 0 {
				t.Logf("%s, seed %d: %d of %d names, %d files", name, seed, named, len(tr.Entries), files)
			}
			if t.Failed() {
				t.Fatalf("%s, seed %d", name, seed)
			}
		}
	}
}

func FuzzRecover(f *testing.F) {
	image := write(f, small(f), rofs.Options{})
	if rec, _ := restore(f, image, -1); rec == nil || len(rec.Tree.Entries) < 2 {
		f.Fatal("the seed does not reach the tree")
	}
	f.Add(image, int64(-1))
	f.Add(image[format.BlockSize:], int64(0))
	f.Fuzz(func(t *testing.T, image []byte, offset int64) {
		if offset < 1<<40 {
			restore(t, image, offset)
		}
	})
}

// TestRecoverNested has an image in a file of an image, stored as it is: nothing of it gets into the outer one's tree.
func TestRecoverNested(t *testing.T) {
	inner := write(t, small(t), rofs.Options{})
	tr, data := recoverable(t)
	data["inner"] = inner
	tr = newTree(t, append(slices.DeleteFunc(tr.Entries, func(e tree.Entry) bool { return e.Path == "." }), file("inner", inner))...)
	whole := write(t, tr, rofs.Options{Raw: func(p string) bool { return p == "inner" }})
	for table, at := range tables(whole) {
		image := bytes.Clone(whole)
		clear(image[:format.BlockSize])
		if table != format.Inodes { // the first time, the superblock only
			clear(image[at[0]:at[1]])
		}
		rec, got := restore(t, image, -1)
		if rec == nil || rec.Offset != 0 || len(rec.Others) != 1 {
			t.Fatalf("table %d: the images are not told apart: %+v", table, rec)
		}
		judgeRecovery(t, tr, data, got)
		for p, e := range got.entries {
			if strings.HasPrefix(p, "d/") && e.Path != "." {
				t.Errorf("table %d: %q is the inner image's", table, p)
			}
		}
		if _, got := restore(t, image, rec.Others[0]); len(got.all) > 0 || got.entries["d/hello"].Size == 0 {
			t.Errorf("table %d: the inner image is not recovered: %v", table, got.all)
		}
	}
}

// TestRecoverFlips changes one byte of each metadata block: what has a check of its own comes back, and what cannot be told is in
// the list.
func TestRecoverFlips(t *testing.T) {
	tr, data := recoverable(t)
	whole := write(t, tr, rofs.Options{})
	super := format.Superblock(whole)
	r := rand.New(rand.NewPCG(1, 11))
	for at := format.BlockSize; at < int(super.DataOff()); at += format.BlockSize {
		image := bytes.Clone(whole)
		image[at+format.HeaderSize+r.IntN(int((*format.Header)(whole[at:]).Used()))] ^= 1 << r.IntN(8)
		if at%8192 == 0 {
			clear(image[:format.BlockSize])
		}
		_, got := restore(t, image, -1)
		if got == nil {
			t.Fatalf("block at %d: nothing is found", at)
		}
		if named, _ := judgeRecovery(t, tr, data, got); named < len(tr.Entries)-70 { // those of a directory, if its name is hit
			t.Errorf("block at %d: %d of %d entries are left", at, named, len(tr.Entries))
		}
		if len(got.all) == 0 {
			t.Errorf("block at %d: the list is empty", at)
		}
	}
}
