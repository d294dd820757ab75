package rofs1

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/firstlight-boot/firstlight/internal/osvtest"
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/tree"
)

func write(t testing.TB, tr *tree.Tree, o Options) []byte {
	t.Helper()
	var w osvtest.Buffer
	st, err := Write(t.Context(), &w, tr, o)
	if err != nil {
		t.Fatal(err)
	}
	if st.ImageBytes != int64(len(w.B)) || len(w.B)%BlockSize != 0 {
		t.Fatalf("%d bytes written, told %d", len(w.B), st.ImageBytes)
	}
	if err := Check(t.Context(), bytes.NewReader(w.B), int64(len(w.B)), func(p Problem) { t.Errorf("%+v", p) }); err != nil {
		t.Error(err)
	}
	return w.B
}

// The same tree in the same order is the same file that OSv's own tool wrote, to the last bit.
func TestWriteGolden(t *testing.T) {
	got := write(t, osvtest.Tree(t), Options{Order: osvtest.Order()})
	if !bytes.Equal(got, osvtest.ROFS) {
		t.Errorf("%d bytes with the digest %x, want %d with %x", len(got), sha256.Sum256(got), len(osvtest.ROFS), sha256.Sum256(osvtest.ROFS))
	}
	// In the tree's order it is another file of the same size, and the same whenever it is written.
	a, b := write(t, osvtest.Tree(t), Options{}), write(t, osvtest.Tree(t), Options{})
	if !bytes.Equal(a, b) || len(a) != len(got) || bytes.Equal(a, got) {
		t.Error("the default order is not one")
	}
	sum := sha256.Sum256(a)
	if s := hex.EncodeToString(sum[:8]); s != "761fcb4ae22979f2" {
		t.Errorf("digest begins with %s", s)
	}
	osvtest.Same(t, open(t, a).Tree, osvtest.Tree(t))
}

func file(name, content string) tree.Entry {
	return tree.Entry{Path: name, Mode: 0o644, Size: int64(len(content)), Source: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

func dir(name string) tree.Entry { return tree.Entry{Path: name, Mode: fs.ModeDir | 0o755} }

func link(name, target string) tree.Entry {
	return tree.Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Link: target}
}

func newTree(t testing.TB, list ...tree.Entry) *tree.Tree {
	t.Helper()
	tr, err := tree.New(append(list, dir("."))...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// Where the reference tools go wrong: lengths are bytes, an empty file takes no block, and tables that end with a block are
// not followed by another.
func TestWriteAwkward(t *testing.T) {
	long := strings.Repeat("ä", 127) + "x" // 255 bytes
	same := file("usr/same", "shared")
	same.HardLink, same.Source = "grüße/motd", nil
	tr := newTree(t, dir("grüße"), file("grüße/motd", "shared"), dir("usr"), same, file("\xff\xfe", ""), file(long, "x"), file("日本", strings.Repeat("z", 512)),
		link("ζ", "grüße/motd"), dir("empty"), file("a\nb", "new line"))
	f := open(t, write(t, tr, Options{}))
	osvtest.Same(t, f.Tree, tr)
	if err := fstest.TestFS(open(t, write(t, newTree(t, dir("grüße"), file("grüße/motd", "hello")), Options{})), "grüße/motd"); err != nil {
		t.Error(err)
	}
	if e := f.Lookup("usr/same"); e.HardLink != "grüße/motd" {
		t.Errorf("hard link: %+v", e)
	}

	// Root and one file take 64 + 10 + len(name) bytes; with a link of n bytes, all of a block is 10+1+32 + 2+n more.
	for n := 300; n <= 420; n++ {
		tr := newTree(t, file("f", ""), link("l", strings.Repeat("t", n)))
		b := write(t, tr, Options{})
		tables := 3*inodeSize + 2*(direntHead+1) + linkHead + n
		if want := int(1+blocks(int64(tables))) * BlockSize; len(b) != want {
			t.Fatalf("tables of %d bytes: the image has %d, want %d", tables, len(b), want)
		}
		osvtest.Same(t, open(t, b).Tree, tr)
	}
	if b := write(t, newTree(t), Options{}); len(b) != 2*BlockSize {
		t.Errorf("an empty tree takes %d bytes", len(b))
	}
	// Every size around a block.
	var list []tree.Entry
	for n := range 1100 {
		if n%512 < 3 || n%512 > 509 {
			list = append(list, file(fmt.Sprintf("n%d", n), strings.Repeat("q", n)))
		}
	}
	tr = newTree(t, list...)
	osvtest.Same(t, open(t, write(t, tr, Options{})).Tree, tr)
}

func TestWriteRefuses(t *testing.T) {
	deep := []tree.Entry{}
	name := "d"
	for len(name) <= MaxPath {
		deep = append(deep, dir(name))
		name += "/" + strings.Repeat("d", 200)
	}
	deep = append(deep, dir(name))
	for _, tt := range []struct {
		tr   *tree.Tree
		want error
	}{
		{newTree(t, tree.Entry{Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice, Major: 1, Minor: 3}), format.ErrUnsupported},
		{newTree(t, tree.Entry{Path: "pipe", Mode: fs.ModeNamedPipe}), format.ErrUnsupported},
		{newTree(t, deep...), format.ErrTooLarge},
		{&tree.Tree{}, tree.ErrInvalid},
	} {
		var w osvtest.Buffer
		if _, err := Write(t.Context(), &w, tt.tr, Options{}); !errors.Is(err, tt.want) || len(w.B) > 0 {
			t.Errorf("%v, want %v; %d bytes were written", err, tt.want, len(w.B))
		}
	}
	for _, wrong := range []string{"short", "much too long"} {
		e := file("f", "content!")
		e.Source = file("f", wrong).Source
		if _, err := Write(t.Context(), new(osvtest.Buffer), newTree(t, e), Options{}); !errors.Is(err, errSize) {
			t.Errorf("a source of %q: %v", wrong, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, new(osvtest.Buffer), osvtest.Tree(t), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	for most := 1; most < len(osvtest.ROFS); most += 10_000 {
		if _, err := Write(t.Context(), &osvtest.Buffer{Most: most}, osvtest.Tree(t), Options{}); !errors.Is(err, osvtest.ErrFull) {
			t.Errorf("a disk of %d bytes: %v", most, err)
		}
	}
}

// What the format does not hold is gone, and what is in the way of no one is not noticed.
func TestCheckFindsDirt(t *testing.T) {
	b := write(t, osvtest.Tree(t), Options{})
	for _, off := range []int{100, BlockSize + 400, len(b) - 1} {
		b[off] ^= 0x10
		var got []Problem
		if err := Check(t.Context(), bytes.NewReader(b), int64(len(b)), func(p Problem) { got = append(got, p) }); err != nil || len(got) != 1 || got[0].Offset != int64(off) {
			t.Errorf("byte %d: %+v, %v", off, got, err)
		}
		b[off] ^= 0x10
	}
	if e := open(t, b).Lookup("hello"); !e.ModTime.Equal(time.Unix(0, 0)) {
		t.Errorf("time: %v", e.ModTime)
	}
}
