package zfsmod

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/tree"
	"github.com/firstlight-boot/firstlight/zfsmod/format"
)

// TestAwkward reads back what was written, for all readers and codecs.
func TestAwkward(t *testing.T) {
	tr := fsmodtest.Awkward(t, fsmodtest.All)
	for name, k := range compats {
		for _, codec := range []string{"none", "lz4", "lzjb", "zle", "gzip"} {
			if codec == "lz4" && !k.lz4 {
				continue
			}
			t.Run(name+"/"+codec, func(t *testing.T) {
				b := fsmodtest.Write(t, Config{Compat: name}.Module(), tr, fsmod.Options{Codec: codec})
				f, err := Open(bytes.NewReader(b), int64(len(b)))
				if err != nil {
					t.Fatal(err)
				}
				if name == "osv" { // whose pools have a second file system
					f.Entries = slices.DeleteFunc(f.Entries, func(e tree.Entry) bool { return e.Path == "zfs" })
				}
				fsmodtest.Compare(t, f.Tree, tr, nil)
			})
		}
	}
}

// TestDamage flips bits wherever a block is: Check finds each, and what is read is right or an error.
func TestDamage(t *testing.T) {
	tr := fsmodtest.Awkward(t, fsmodtest.All)
	b := fsmodtest.Write(t, Config{}.Module(), tr, fsmod.Options{Codec: "lz4"})
	m := Config{}.Module()
	if list, err := m.Check(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || len(list) > 0 {
		t.Fatal(list, err)
	}
	// What is allocated lies in a row; the last block is the pool's own object set.
	used := len(b) - format.DataEnd
	for used > format.DataStart && allZero(b[used-512:used]) {
		used -= 512
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		at := format.DataStart + rnd.IntN(used-format.DataStart)
		if at%(1<<20) > (1<<20)-recordSize { // where no block was put because it would have ended in the next metaslab
			continue
		}
		was := b[at]
		b[at] ^= 1 << rnd.IntN(8)
		list, err := m.Check(t.Context(), bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			if p.Length > 0 && (int64(at) < p.Offset || int64(at) >= p.Offset+p.Length) {
				t.Errorf("byte %#x is damaged, and Check names %v", at, p)
			}
		}
		if len(list) == 0 {
			t.Errorf("byte %#x is damaged, and Check does not see it", at)
		}
		if f, err := Open(bytes.NewReader(b), int64(len(b))); err == nil {
			same(t, f.Tree, tr)
		} else if !errors.Is(err, fsmod.ErrDamaged) {
			t.Errorf("byte %#x: %v", at, err)
		}
		b[at] = was
	}
}

// same reads all files that can be read: they are what they were.
func same(t *testing.T, got, want *tree.Tree) {
	t.Helper()
	for i := range want.Entries {
		w := &want.Entries[i]
		g := got.Lookup(w.Path)
		if g == nil {
			t.Errorf("%q is lost without an error", w.Path)
			continue
		}
		if !w.Mode.IsRegular() || g.Source == nil {
			continue
		}
		r, err := g.Source()
		if err != nil {
			continue
		}
		b, err := io.ReadAll(r)
		if err == nil && string(b) != fsmodtest.Content(t, w) {
			t.Errorf("%q reads as something else", w.Path)
		} else if err != nil && !errors.Is(err, fsmod.ErrDamaged) {
			t.Errorf("%q: %v", w.Path, err)
		}
	}
}

func TestPropertyText(t *testing.T) {
	for _, tt := range [][3]string{
		{"compression", "15", "lz4"}, {"compression", "10", "gzip"}, {"compression", "13", "gzip-9"}, {"compression", "99", "99"}, {"canmount", "2", "noauto"}, {"xattr", "1", "on"},
		{"recordsize", "16384", "16384"}, {"mountpoint", "/", "/"}, {"org:note", "1", "1"},
	} {
		if got := PropertyText(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%s=%s is %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}
