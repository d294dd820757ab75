package rofs_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/firstlight-boot/firstlight/rofs"
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/rofs/read"
	"github.com/firstlight-boot/firstlight/tree"
)

// TestShared: equal files and clusters are stored once, wherever they come from, unless they only look alike.
func TestShared(t *testing.T) {
	data, tail := noise(4*65536, 1), mixed(9000, 2)
	stream := file("stream", slices.Concat(data[:65536], tail))
	stream.Source = func() (io.ReadCloser, error) { // one that cannot be read at an offset
		return io.NopCloser(bytes.NewBuffer(slices.Concat(data[:65536], tail))), nil
	}
	tr := newTree(t, file("a", slices.Concat(data, tail)), file("b", slices.Concat(data, tail)), file("c", data[65536:2*65536]), file("d", tail),
		file("e", tail[:8999]), stream, file("odd", data[1:65537]))
	for _, o := range []rofs.Options{{}, {Codec: rofs.None}, {Raw: func(p string) bool { return p == "b" }}} {
		m := &memory{}
		s, err := rofs.Write(t.Context(), m, tr, o)
		if err != nil {
			t.Fatal(err)
		}
		want := 4 + 1 + 1 + 2 + 1 // clusters of b, its tail, c, stream, d
		if o.Raw != nil {
			want-- // b's tail is a cluster of its own, raw
		}
		if s.Shared != want || s.StoredBytes > 6*65536 {
			t.Errorf("%s: %d shared, want %d; %d bytes stored", o.Codec, s.Shared, want, s.StoredBytes)
		}
		u, err := open(t, m.b).Usage()
		if err != nil || u.Shared != s.Shared || u.SharedBytes != s.SharedBytes || u.Tails != s.Tails {
			t.Errorf("%s: %+v, %v is not %+v", o.Codec, u, err, s)
		}
		same(t, tr, must(open(t, m.b).Tree()))
		for _, p := range check(t, m.b) {
			t.Error(p)
		}
	}
}

// TestSharedRuns: equal files have the same records in the cluster table, and their tails the same place.
func TestSharedRuns(t *testing.T) {
	whole, tail, small := noise(5*65536, 1), mixed(9000, 2), mixed(5000, 3)
	zeros := make([]byte, 3*65536)
	tr := newTree(t, file("0", noise(65536, 9)), file("a", slices.Concat(whole, tail)), file("b", slices.Concat(whole, small)), file("c", slices.Concat(whole, tail)), file("d", small), file("e", small),
		file("f", whole[:4*65536]), file("g", zeros), file("h", zeros), file("i", noise(65536, 10)), file("j", slices.Concat(noise(65536, 10), tail)))
	for codec, records := range map[rofs.Codec]int{"": 1 + 5 + 4 + 3 + 1 + 1, rofs.None: 1 + 6 + 6 + 1 + 4 + 3 + 1 + 2} { // with one of tails, or without tails
		image := write(t, tr, rofs.Options{Codec: codec, ClusterSize: 65536})
		rd, err := read.Open(bytes.NewReader(image), int64(len(image)), read.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if n := rd.Super.Count(format.Clusters); int(n) != records {
			t.Errorf("%q: %d records, want %d", codec, n, records)
		}
		where := func(name string) (at [4]uint64) {
			t.Helper()
			f := open(t, image)
			info, err := f.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			var n format.Inode
			if err := rd.Inode(uint32(info.Sys().(*rofs.Stat).Ino), &n); err != nil {
				t.Fatal(err)
			}
			return [4]uint64{n.First(), uint64(n.Count()), uint64(n.Tail()), uint64(n.TailOff())}
		}
		for _, pair := range []string{"ac", "de", "gh"} {
			if a, b := where(pair[:1]), where(pair[1:]); a != b {
				t.Errorf("%q: %s lies at %v, its twin at %v", codec, pair[:1], a, b)
			}
		}
		same(t, tr, must(open(t, image).Tree()))
		for _, p := range check(t, image) {
			t.Error(p)
		}
	}
}

// TestDigest computes the root digest as docs/rofs-v2.md says.
func TestDigest(t *testing.T) {
	image := write(t, newTree(t, file("a", noise(3<<20, 1))), rofs.Options{})
	f := open(t, image)
	blank := bytes.Clone(image)
	clear(blank[88:120])
	clear(blank[144:256])
	var sums []byte
	for _, area := range [][]byte{blank[:f.Info().MetadataBytes], blank[f.Info().MetadataBytes:]} {
		for piece := range slices.Chunk(area, 1<<20) {
			sum := sha256.Sum256(piece)
			sums = append(sums, sum[:]...)
		}
	}
	u, err := f.Usage()
	if want := sha256.Sum256(sums); err != nil || u.Digest != want || !bytes.Equal(image[88:120], want[:]) {
		t.Errorf("got %x, %v, want %x", u.Digest, err, want)
	}
}

// TestPlaces: what is used lies first, in the order of its use and as it is; then what is hot, then the rest.
func TestPlaces(t *testing.T) {
	program := file("program", slices.Concat([]byte("\x7fELF"), mixed(100000, 1)))
	program.Mode = 0o755
	tr := newTree(t, file("a", mixed(70000, 2)), file("b", mixed(5000, 3)), program, file("z", mixed(30000, 4)))
	image := write(t, tr, rofs.Options{
		Hot:    func(p string) bool { return p == "z" },
		Layout: []rofs.Use{{Path: "program", Offset: 65536, Length: 16384}, {Path: "b", Length: 5000}, {Path: "program", Offset: 0, Length: 16384}},
	})
	f := open(t, image)
	u, err := f.Usage()
	want := []rofs.Use{{Path: "program", Offset: 65536, Length: 16384}, {Path: "b", Length: 5000}, {Path: "program", Length: 16384}, {Path: "z", Length: 30000}}
	if err != nil || len(u.Order) < len(want) || !slices.Equal(u.Order[:len(want)], want) {
		t.Errorf("got %+v, %v, want %+v", u.Order, err, want)
	}
	err = f.Extents(func(e rofs.Extent) {
		if used := e.Path == "z" || e.Path == "b" || e.Path == "program" && (e.Start == 0 || e.Start == 65536); used == e.Packed && e.Path != "" {
			t.Errorf("%+v", e)
		}
		if e.Path == "program" && !e.Packed && e.Offset%4096 != 0 {
			t.Errorf("%+v cannot be mapped", e)
		}
	})
	if err != nil {
		t.Error(err)
	}
	same(t, tr, must(f.Tree()))
}

// TestEveryBoundary writes files of every size around every boundary, that of tails and inline content too.
func TestEveryBoundary(t *testing.T) {
	var list []tree.Entry
	for _, k := range []int{128, 4080, 4096, 8192, 16384, 65536, 131072} {
		for d := -2; d <= 2; d++ {
			list = append(list, file(fmt.Sprintf("f%d", k+d), mixed(k+d, uint64(k+d))))
			program := file(fmt.Sprintf("p%d", k+d), slices.Concat([]byte("\x7fELF"), noise(k+d, uint64(k+d))))
			program.Mode = 0o755
			list = append(list, program)
		}
	}
	tr := newTree(t, list...)
	for _, o := range []rofs.Options{
		{ClusterSize: 4096}, {ClusterSize: 16384, Align: rofs.AlignNone}, {Align: rofs.AlignAll}, {Codec: rofs.Zstd, ClusterSize: 65536}, {Codec: rofs.None, ClusterSize: 16384},
	} {
		image := write(t, tr, o)
		same(t, tr, must(open(t, image).Tree()))
		for _, p := range check(t, image) {
			t.Error(p)
		}
	}
}

// TestSharedSourceFails: the error of a file that is read again, for a comparison, names that file.
func TestSharedSourceFails(t *testing.T) {
	data := noise(65536, 1)
	opened := 0
	a := tree.Entry{Path: "a", Mode: 0o644, Size: int64(len(data)), Source: func() (io.ReadCloser, error) {
		if opened++; opened > 1 {
			return nil, fs.ErrNotExist
		}
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
	_, err := rofs.Write(t.Context(), &memory{}, newTree(t, a, file("b", data)), rofs.Options{})
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte(" a: ")) {
		t.Errorf("got %v", err)
	}
}
