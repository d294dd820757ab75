package rofs_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/firstlight-boot/firstlight/rofs"
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/rofs/read"
	"github.com/firstlight-boot/firstlight/tree"
)

// answers is everything that the leaf reader tells of an image; nil stands for an error.
type answers struct {
	super    []byte
	inodes   [][]byte
	names    [][]string // by inode
	contents [][]byte   // of a file, a link's target, nothing of others
	xattrs   [][]byte
}

// ask reads all of an image, with memory for it that is used again.
func ask(image, cache []byte, buf []byte) (a answers) {
	rd, err := read.Open(bytes.NewReader(image), int64(len(image)), read.Options{SegmentSize: len(cache), Cache: cache})
	if err != nil {
		return a
	}
	a.super = rd.Super[:]
	var n format.Inode
	var d read.Dirent
	for ino := uint32(1); ino <= rd.Inodes(); ino++ {
		a.inodes, a.names = append(a.inodes, nil), append(a.names, nil)
		a.contents, a.xattrs = append(a.contents, nil), append(a.xattrs, nil)
		if rd.Inode(ino, &n) != nil {
			continue
		}
		i := ino - 1
		a.inodes[i] = bytes.Clone(n[:])
		if size, err := rd.Xattrs(&n, buf); err == nil {
			a.xattrs[i] = append([]byte{}, buf[:size]...)
		}
		switch n.Type() {
		case format.TypeDir:
			names := []string{}
			for k := range n.Count() {
				if rd.ReadDir(&n, k, &d) != nil {
					names = nil
					break
				}
				names = append(names, string(d.Name()), string([]byte{d.Type, byte(d.Ino), byte(d.Ino >> 8)}))
			}
			a.names[i] = names
		case format.TypeLink:
			if size, err := rd.Readlink(&n, buf); err == nil {
				a.contents[i] = append([]byte{}, buf[:size]...)
			}
		case format.TypeFile:
			if size, err := rd.ReadAt(&n, buf, 0); err == nil {
				a.contents[i] = append([]byte{}, buf[:size]...)
			}
		}
	}
	return a
}

// wrong tells what of a damaged image's answers is neither right nor an error.
func (a answers) wrong(got answers) string {
	if got.super == nil {
		return ""
	}
	if !bytes.Equal(a.super, got.super) {
		return "superblock"
	}
	for i := range a.inodes {
		switch {
		case got.inodes[i] != nil && !bytes.Equal(got.inodes[i], a.inodes[i]):
			return "inode"
		case got.names[i] != nil && !slices.Equal(got.names[i], a.names[i]):
			return "names"
		case got.contents[i] != nil && !bytes.Equal(got.contents[i], a.contents[i]):
			return "content"
		case got.xattrs[i] != nil && !bytes.Equal(got.xattrs[i], a.xattrs[i]):
			return "extended attributes"
		}
	}
	return ""
}

// TestMillionDamages changes a million bytes, one at a time: each read returns what was written or an error, and the checker
// notices each.
func TestMillionDamages(t *testing.T) {
	total := 1_000_000
	if testing.Short() || raceEnabled { // the whole million runs without the race detector
		total /= 100
	}
	x := file("x", mixed(3000, 4))
	x.Xattrs = []tree.Xattr{{Name: "user.a", Value: []byte("1")}}
	tr := newTree(t, dir("d"), file("d/inline", []byte("Hello, world.\n")), file("tail", mixed(4096+1000, 6)), file("raw", noise(600, 1)), x,
		tree.Entry{Path: "l", Mode: fs.ModeSymlink | 0o777, Link: "d/inline", ModTime: mtime})
	var wg sync.WaitGroup
	for k, codec := range []rofs.Codec{rofs.LZ4, rofs.LZ4, rofs.Zstd} {
		share := total * 45 / 100
		if codec == rofs.Zstd { // whose tables cost more to make for each image than all else
			share = total - 2*share
		}
		image := write(t, tr, rofs.Options{Codec: codec, ClusterSize: 4096})
		for _, p := range check(t, image) {
			t.Fatal(p)
		}
		cache, buf := make([]byte, 32<<10), make([]byte, 32<<10)
		if len(image) > len(cache) {
			t.Fatalf("the image has %d bytes", len(image))
		}
		want := ask(image, cache, buf)
		for i, n := range want.inodes {
			if n == nil || want.xattrs[i] == nil || want.contents[i] == nil && want.names[i] == nil {
				t.Fatalf("inode %d of the whole image cannot be read", i+1)
			}
		}
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(k), 10))
			for i := range share {
				at := r.IntN(len(image))
				old := image[at]
				image[at] ^= byte(1 + r.IntN(255))
				if what := want.wrong(ask(image, cache, buf)); what != "" {
					t.Errorf("%v: byte %d, %#x instead of %#x: wrong %s", codec, at, image[at], old, what)
				}
				if i%32 == 0 { // TestEveryBit has the checker notice each bit; here, bytes
					noticed := false
					err := rofs.Check(t.Context(), bytes.NewReader(image), int64(len(image)), func(p rofs.Problem) {
						noticed = noticed || p.Offset <= int64(at) && int64(at) < p.Offset+p.Length
					})
					if err != nil || !noticed {
						t.Errorf("%v: byte %d: the checker does not name it (%v)", codec, at, err)
					}
				}
				image[at] = old
				if t.Failed() {
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestDamageOnce damages one block or cluster after the other: Check names it, once, with a path that suffers, and nothing else.
func TestDamageOnce(t *testing.T) {
	entries := []tree.Entry{dir("d"), file("d/large", mixed(300000, 1)), file("d/inline", []byte("a few bytes"))}
	for i := range 200 {
		entries = append(entries, file(fmt.Sprintf("d/tail%d", i), mixed(2000+i, uint64(i))))
	}
	whole := write(t, newTree(t, entries...), rofs.Options{})
	once := func(what string, off, length int64) {
		t.Helper()
		image := bytes.Clone(whole)
		image[off+20] ^= 4
		var got []rofs.Problem
		if err := rofs.Check(t.Context(), bytes.NewReader(image), int64(len(image)), func(p rofs.Problem) { got = append(got, p) }); err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || got[0].Offset != off || got[0].Length != length || !strings.Contains(got[0].What, "; lost with it, in whole or in part: /") {
			t.Errorf("%s, bytes %d to %d: %d problems: %.3q", what, off, off+length-1, len(got), got)
		} else {
			t.Log(got[0])
		}
	}
	s := format.Superblock(whole)
	for table := range format.NumTables {
		for i := range format.Blocks(table, s.Count(table)) {
			once(fmt.Sprintf("table %d", table), int64(s.Start(table)+i)<<format.BlockLog, format.BlockSize)
		}
	}
	seen := map[int64]bool{}
	if err := open(t, whole).Extents(func(e rofs.Extent) {
		if e.Path != "" && !seen[e.Offset] {
			seen[e.Offset] = true
			once(e.Path, e.Offset, e.Length)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
