package plugin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/internal/needs"
)

// encode returns what the plugin writes for c.
func encode(c Counts) []byte {
	le := binary.LittleEndian
	b := []byte(magic)
	words := func(vs ...uint64) {
		for _, v := range vs {
			b = le.AppendUint64(b, v)
		}
	}
	shorts := func(vs ...uint32) {
		for _, v := range vs {
			b = le.AppendUint32(b, v)
		}
	}
	t := c.Tree
	words(c.Total, c.Blocks, uint64(c.PSS), uint64(len(c.Marks)))
	if t == nil {
		words(0, uint64(c.RSS))
	} else {
		words(1, uint64(c.RSS))
	}
	for _, m := range c.Marks {
		words(uint64(m.Point), m.Addr, m.Instructions, uint64(m.Nanos))
	}
	if t == nil {
		return b
	}
	entries := 0
	for _, p := range t.Phases {
		entries += len(p.Spent)
	}
	words(uint64(len(t.Nodes)), uint64(len(t.Cells)), uint64(len(t.Blocks)), uint64(len(t.Phases)), uint64(entries), uint64(len(t.Firsts)), t.Lost, t.LoadedPages)
	for _, x := range t.Blocks {
		words(x.Addr)
		shorts(x.Instructions, uint32(len(x.Code)))
		b = append(b, append(bytes.Clone(x.Code), make([]byte, MaxCode-len(x.Code))...)...)
	}
	for _, x := range t.Nodes {
		trap := uint32(0)
		if x.Trap {
			trap = 1
		}
		shorts(x.Parent, trap)
		words(x.Site, x.First)
	}
	for _, x := range t.Cells {
		shorts(x.Node, x.Block)
	}
	for _, p := range t.Phases {
		words(uint64(p.Mark), uint64(len(p.Spent)))
	}
	for _, p := range t.Phases {
		for _, x := range p.Spent {
			shorts(x.Cell, x.Pages)
			words(x.Instructions)
		}
	}
	for _, x := range t.Firsts {
		shorts(x.Page, x.Cell)
		words(x.Instructions)
	}
	return b
}

var some = Counts{Total: 4751, Blocks: 217, PSS: 35 << 20, RSS: 36 << 20, Marks: []Mark{{1, 1 << 20, 4748, 7}, {0, 1<<64 - 1, 4750, 8}}}

// grown is some with a tree.
func grown() Counts {
	c := some
	c.Tree = &Tree{
		Nodes:  []Node{{}, {0, false, 0x1000, 5}, {1, true, 0x2000, 6}},
		Cells:  []Cell{{}, {Node: 1}, {Node: 2, Block: 1}},
		Blocks: []Block{{0x1000, 3, []byte{0x90, 0xc3}}, {0x2000, 1, []byte{}}},
		Phases: []TreePhase{{-1, []Spent{{1, 2, 4000}}}, {1, []Spent{{1, 0, 700}, {2, 1, 51}}}},
		Firsts: []First{{256, 0, 0}, {7, 1, 5}, {1 << 20, 2, 4750}},
		Lost:   1, LoadedPages: 9,
	}
	return c
}

func TestDecode(t *testing.T) {
	good := encode(some)
	c, err := Decode(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(some, *c); diff != "" {
		t.Error(diff)
	}
	change := func(off int, v byte) []byte {
		b := bytes.Clone(good)
		b[off] = v
		return b
	}
	for name, b := range map[string][]byte{
		"empty":             nil,
		"half a header":     good[:headerSize/2],
		"no magic":          change(0, 0),
		"negative PSS":      change(31, 0xff),
		"negative RSS":      change(55, 0xff),
		"too many marks":    change(32, 3),
		"many marks":        change(39, 0xff),
		"half a mark":       good[:len(good)-8],
		"more than in all":  change(headerSize+markSize+20, 1),
		"fewer than before": change(headerSize+markSize+17, 0),
		"no such point":     change(headerSize+1, 1),
		"no tree":           change(40, 1),
		"two trees":         change(40, 2),
	} {
		var format *FormatError
		if _, err := Decode(bytes.NewReader(b), int64(len(b))); !errors.As(err, &format) || !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Decode(bytes.NewReader(good[:50]), int64(len(good))); err == nil || errors.Is(err, ErrFormat) {
		t.Errorf("a failing read: %v", err)
	}
}

func TestDecodeTree(t *testing.T) {
	good := encode(grown())
	c, err := Decode(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(grown(), *c); diff != "" {
		t.Error(diff)
	}
	// Whatever is changed of a tree, it is refused or is another tree; it never reads outside itself.
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x41
		if _, err := Decode(bytes.NewReader(b), int64(len(b))); err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("byte %d: %v", i, err)
		}
		if _, err := Decode(bytes.NewReader(good[:i]), int64(i)); !errors.Is(err, ErrFormat) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	wrong := grown()
	wrong.Total++
	b := encode(wrong)
	if _, err := Decode(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrFormat) {
		t.Errorf("a tree without all instructions: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range []Counts{some, grown()} {
		seed := encode(c)
		if _, err := Decode(bytes.NewReader(seed), int64(len(seed))); err != nil {
			f.Fatalf("the seed does not decode: %v", err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("error %v of another kind", err)
			}
			return
		}
		if c.Tree == nil && !bytes.Equal(encode(*c), b) {
			t.Errorf("%x decodes to %+v, which encodes otherwise", b, *c)
		}
	})
}

func TestBuild(t *testing.T) {
	needs.Tool(t, "cc", "gcc libc6-dev")
	dir := filepath.Join(t.TempDir(), "a,b", "cache")
	paths := map[string]bool{}
	for _, major := range []int{7, 9} { // both versions of the API compile; QEMU 7 and 9 tell whether they work
		path, err := Build(t.Context(), dir, API(major))
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Build(t.Context(), dir, API(major))
		if err != nil || again != path {
			t.Errorf("built again: %s, %v; want %s", again, err, path)
		}
		if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("it was compiled again: %v", err)
		}
		paths[path] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || len(paths) != 2 {
		t.Errorf("cache holds %v (%v), want %v", entries, err, paths)
	}
	if _, err := Build(t.Context(), "", 1); err == nil || !strings.Contains(err.Error(), "HOME") {
		t.Errorf("without a cache: %v", err)
	}
}

func TestBuildFails(t *testing.T) {
	dir, bin := t.TempDir(), t.TempDir()
	cc := "#!/bin/sh\n[ \"$1\" = --version ] && echo fake && exit\necho 'no such header' >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(bin, "cc"), []byte(cc), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	if _, err := Build(t.Context(), dir, 1); err == nil || !strings.Contains(err.Error(), "no such header") || !strings.Contains(err.Error(), "apt-get install") {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestArg(t *testing.T) {
	c := Config{Count: true, Tree: true, Memory: true, Points: []Point{{Addr: 16, Phase: PhaseEach}, {Addr: 1 << 63, Mask: 0x1fffff, Code: []byte{0xe8, 1}, Phase: PhaseFirst}}}
	want := "file=/a,,b/c.so,out=7,tree=on,memory=on,ram=3,point=0x10:0xffffffffffffffff::P,point=0x8000000000000000:0x1fffff:e801:p"
	if got := c.Arg("/a,b/c.so", 7, 3, 0); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := (Config{}).Arg("x", 7, 3, 9), "file=x,out=7,live=9,count=off"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, c := range []Config{{Tree: true}, {Count: true, Memory: true}, {Points: make([]Point, MaxPoints+1)}, {Points: []Point{{Code: make([]byte, MaxCode+1)}}}} {
		if c.Check() == nil {
			t.Errorf("no error for %+v", c)
		}
	}
}
