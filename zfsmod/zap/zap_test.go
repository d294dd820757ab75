package zap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/bits"
	"strings"
	"testing"
)

// memory is a table in memory.
type memory struct {
	b    []byte
	size int
}

func (m memory) Block(id uint64) ([]byte, error) {
	if id >= uint64(len(m.b)/m.size) {
		return nil, fs.ErrNotExist
	}
	return m.b[int(id)*m.size:][:m.size], nil
}

func TestBuild(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 100, 2047, 2048, 5000, 300_000} {
		var list []Entry
		want := map[string]uint64{}
		for i := range n {
			name := fmt.Sprintf("name-%d", i*7919)
			list = append(list, Number(name, uint64(i)<<40|5))
			want[name] = uint64(i)<<40 | 5
		}
		b, size, err := Build(list, 77)
		if err != nil {
			t.Fatal(err)
		}
		m := memory{b, size}
		got := map[string]uint64{}
		err = Each(m, func(name string, v Value) error {
			if _, twice := got[name]; twice {
				t.Errorf("%s comes twice", name)
			}
			got[name], _ = v.Uint64()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(want, got) {
			t.Fatalf("%d names: %d come back, or with other values", n, len(got))
		}
		for i := 0; i < n; i += max(1, n/100) {
			if v, ok, err := Lookup(m, list[i].Name); err != nil || !ok || len(v.Data) != 8 {
				t.Fatalf("%s of %d: %v, %v, %v", list[i].Name, n, v, ok, err)
			}
		}
		if _, ok, err := Lookup(m, "not there"); ok || err != nil {
			t.Errorf("what is not there of %d: %v, %v", n, ok, err)
		}
	}
}

func TestValues(t *testing.T) {
	long := strings.Repeat("n", 255)
	text := strings.Repeat("v", 5000)
	b, size, err := Build([]Entry{Text(long, text), Number("n", 1), {Name: "shorts", IntLen: 2, Ints: []uint64{1, 0xfffe}}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	m := memory{b, size}
	if v, ok, err := Lookup(m, long); !ok || err != nil {
		t.Error(ok, err)
	} else if s, ok := v.Text(); !ok || s != text {
		t.Errorf("%q", s)
	}
	if v, _, _ := Lookup(m, "shorts"); v.IntLen != 2 || string(v.Data) != "\x00\x01\xff\xfe" {
		t.Errorf("%v", v)
	}
}

// colliding returns n names of the longest kind whose hashes have the first so many bits in common, but not the next: the hash
// being linear in the bytes, differences of names that make none of it add up.
func colliding(n, length int) (list []Entry) {
	name := func(flips []int) string {
		b := []byte(strings.Repeat("n", 255))
		for _, bit := range flips {
			b[bit/4] ^= 1 << (bit % 4)
		}
		return string(b)
	}
	mask := ^uint64(0) << (64 - length)
	zero := Hash(1, name(nil))
	basis := map[int]uint64{} // by highest bit: the hash's difference, and the flips that make it
	flips := map[int][]int{}
	var none [][]int // flips that make no difference
	for bit := 0; len(none) < 7; bit++ {
		f := []int{bit}
		h := (Hash(1, name(f)) ^ zero) & mask
		for h != 0 {
			top := bits.Len64(h)
			if basis[top] == 0 {
				basis[top], flips[top] = h, f
				break
			}
			h ^= basis[top]
			f = append(append([]int{}, f...), flips[top]...)
		}
		if h == 0 {
			none = append(none, f)
		}
	}
	for i := range n {
		var f []int
		for k := range none {
			if i>>k&1 != 0 {
				f = append(f, none[k]...)
			}
		}
		list = append(list, Number(name(f), uint64(i)))
	}
	return list
}

// TestFull builds tables that no leaf, or no table, can hold.
func TestFull(t *testing.T) {
	if _, _, err := Build(colliding(30, hashBits), 1); err != nil {
		t.Errorf("30 long names of one hash: %v", err)
	}
	for what, list := range map[string][]Entry{
		"100 long names of one hash":                      colliding(100, hashBits),
		"100 long names that differ late":                 colliding(100, hashBits-3),
		"a value that is longer than a leaf":              {Text("name", strings.Repeat("v", BlockSize))},
		"a value that is longer than a leaf, with others": {Text("name", strings.Repeat("v", BlockSize)), Number("a", 1), Number("b", 2)},
	} {
		if _, _, err := Build(list, 1); !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v, want %v", what, err, ErrFull)
		}
	}
}

// shared is a table of 2^28 pointers, whose every block after the first is one of two leaves, which hold pointers at once.
type shared struct{ head, leaf []byte }

func (s shared) Block(id uint64) ([]byte, error) {
	if id == 0 {
		return s.head, nil
	}
	return s.leaf, nil
}

// TestPointers has pointers lead to a leaf that is not theirs alone.
func TestPointers(t *testing.T) {
	var list []Entry
	for i := range 2000 {
		list = append(list, Text(fmt.Sprint("name", i), "some value"))
	}
	good, _, _ := Build(list, 5)
	// The first leaf says that all hashes are its own.
	b := append([]byte{}, good...)
	b[BlockSize+32], b[BlockSize+33] = 0, 0
	n := 0
	if err := Each(memory{b, BlockSize}, func(string, Value) error { n++; return nil }); err != nil || n >= len(list) {
		t.Errorf("the first leaf has all the pointers: %d of %d names, %v", n, len(list), err)
	}
	// The last does, and pointers before it are to others.
	b = append([]byte{}, good...)
	at := len(b) - BlockSize
	b[at+32], b[at+33] = 0, 0
	if err := Each(memory{b, BlockSize}, func(string, Value) error { return nil }); !errors.Is(err, ErrDamaged) {
		t.Errorf("a leaf in the middle has all the pointers: %v", err)
	}

	s := shared{append([]byte{}, good[:BlockSize]...), append([]byte{}, good[BlockSize:2*BlockSize]...)}
	s.leaf[32], s.leaf[33] = 0, 0
	le := binary.LittleEndian
	le.PutUint64(s.head[16:], 1)  // pointers are in blocks
	le.PutUint64(s.head[32:], 28) // 2^28
	steps := 0
	err := Each(counted{s, &steps}, func(string, Value) error { return nil })
	if steps > 100 {
		t.Errorf("%d blocks are read of a table that has two: %v", steps, err)
	}
}

// counted counts the blocks that are read, and ends when there are too many.
type counted struct {
	Blocks
	n *int
}

func (c counted) Block(id uint64) ([]byte, error) {
	if *c.n++; *c.n > 1000 {
		return nil, fs.ErrInvalid
	}
	return c.Blocks.Block(id)
}

// FuzzRead reads tables that are damaged.
func FuzzRead(f *testing.F) {
	var list []Entry
	for i := range 40 {
		list = append(list, Text(fmt.Sprint("name", i), "some value"))
	}
	b, _, _ := Build(list, 5)
	f.Add(b[:2*BlockSize], 100, byte(3))
	small, _, _ := Build([]Entry{Number("a", 1)}, 5)
	f.Add(small, 64, byte(1))
	f.Add(b[:70], 0, byte(0))
	f.Add(b[:70], 32, b[32])
	f.Fuzz(func(t *testing.T, p []byte, at int, x byte) {
		if len(p) == 0 || len(p) > 8*BlockSize {
			return
		}
		p = append([]byte{}, p...)
		p[uint(at)%uint(len(p))] ^= x
		m := memory{p, min(len(p), BlockSize)}
		n := 0
		Each(m, func(string, Value) error { n++; return nil })
		if n > 1<<20 {
			t.Errorf("%d names in %d bytes", n, len(p))
		}
		Lookup(m, "name7")
	})
}
