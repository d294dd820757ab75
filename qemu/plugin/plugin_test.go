package plugin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// report returns what counter.c writes for c.
func report(c Counts) []byte {
	b := []byte(magic)
	for _, v := range []uint64{c.Total, c.Blocks, uint64(c.PSS), uint64(len(c.Marks))} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	for _, m := range c.Marks {
		b = binary.LittleEndian.AppendUint64(b, m.Addr)
		b = binary.LittleEndian.AppendUint64(b, m.Instructions)
	}
	return b
}

var some = Counts{Total: 4751, Blocks: 217, PSS: 35 << 20, Marks: []Mark{{1 << 20, 4748}, {1<<64 - 1, 4750}}}

func TestDecode(t *testing.T) {
	good := report(some)
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
		"too many marks":    change(32, 3),
		"many marks":        change(39, 0xff),
		"half a mark":       good[:len(good)-8],
		"more than in all":  change(headerSize+markSize+12, 1),
		"fewer than before": change(headerSize+markSize+9, 0),
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

func FuzzDecode(f *testing.F) {
	seed := report(some)
	if _, err := Decode(bytes.NewReader(seed), int64(len(seed))); err != nil {
		f.Fatalf("the seed does not decode: %v", err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("error %v of another kind", err)
			}
			return
		}
		if !bytes.Equal(report(*c), b) {
			t.Errorf("%x decodes to %+v, which encodes otherwise", b, *c)
		}
	})
}

func TestBuild(t *testing.T) {
	if _, err := exec.LookPath("cc"); err != nil {
		if os.Getenv("REQUIRE_TOOLS") == "1" {
			t.Fatal(err)
		}
		t.Skip("cc is not installed: apt-get install gcc libc6-dev")
	}
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
	if got, want := Arg("/a,b/c.so", 7, []uint64{16, 1 << 63}), "file=/a,,b/c.so,out=7,addr=0x10,addr=0x8000000000000000"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
