package zap

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrDamaged is wrapped by errors about a table that makes no sense, and by those about other bytes of a pool.
var ErrDamaged = errors.New("damaged pool")

// Blocks gives the blocks of a table, all of the size of the first.
type Blocks interface {
	// Block returns block id, which stays as it is; it has the object's block size.
	Block(id uint64) ([]byte, error)
}

// A Value is what a name stands for.
type Value struct {
	IntLen int    // bytes of a number
	Data   []byte // the numbers, the most significant byte first
}

// Uint64 returns the only number of a value; false means that it is not one of 64 bits.
func (v Value) Uint64() (uint64, bool) {
	if v.IntLen != 8 || len(v.Data) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(v.Data), true
}

// Text returns the string that a value is, without its NUL; false means that it is none.
func (v Value) Text() (string, bool) {
	if v.IntLen != 1 {
		return "", false
	}
	n := len(v.Data)
	if n > 0 && v.Data[n-1] == 0 {
		n--
	}
	return string(v.Data[:n]), true
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// Each calls f for every name, in no order that means anything, until it returns an error, which it returns.
func Each(b Blocks, f func(name string, v Value) error) error {
	head, err := b.Block(0)
	if err != nil {
		return err
	}
	if kind(head) == blockMicro {
		for at := microEntry; at+microEntry <= len(head); at += microEntry {
			name, v := micro(head[at : at+microEntry])
			if name == "" {
				continue
			}
			if err := f(name, v); err != nil {
				return err
			}
		}
		return nil
	}
	t, err := open(b, head)
	if err != nil {
		return err
	}
	for i := uint64(0); i < 1<<t.shift; {
		at, err := t.leaf(i)
		if err != nil {
			return err
		}
		l, err := b.Block(at)
		if err != nil {
			return err
		}
		if err := t.each(l, i<<(64-t.shift), f); err != nil {
			return err
		}
		// The pointers to a leaf follow each other. Were each looked at, a few bytes that all 2^28 lead to would be read as often.
		n := uint64(1) << (t.shift - prefixLen(l))
		if i%n != 0 {
			return damaged("pointer %d is to a leaf of %d pointers", i, n)
		}
		i += n
	}
	return nil
}

// Lookup finds a name; false means that there is none.
func Lookup(b Blocks, name string) (v Value, ok bool, err error) {
	head, err := b.Block(0)
	if err != nil {
		return v, false, err
	}
	if kind(head) == blockMicro {
		for at := microEntry; at+microEntry <= len(head); at += microEntry {
			if n, v := micro(head[at : at+microEntry]); n == name && n != "" {
				return v, true, nil
			}
		}
		return v, false, nil
	}
	t, err := open(b, head)
	if err != nil {
		return v, false, err
	}
	h := Hash(binary.LittleEndian.Uint64(head[80:]), name)
	i := uint64(0)
	if t.shift > 0 {
		i = h >> (64 - t.shift)
	}
	at, err := t.leaf(i)
	if err != nil {
		return v, false, err
	}
	l, err := b.Block(at)
	if err != nil {
		return v, false, err
	}
	err = t.each(l, h, func(n string, w Value) error {
		if n == name {
			v, ok = w, true
		}
		return nil
	})
	return v, ok, err
}

func kind(b []byte) uint64 {
	if len(b) < microEntry {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

func micro(p []byte) (string, Value) {
	name := p[14:microEntry]
	for i, c := range name {
		if c == 0 {
			name = name[:i]
			break
		}
	}
	v := binary.BigEndian.AppendUint64(nil, binary.LittleEndian.Uint64(p))
	return string(name), Value{8, v}
}

// table is a fat table.
type table struct {
	b        Blocks
	head     []byte
	shift    uint
	external uint64 // first block of the pointers, 0 if the header has them
}

func open(b Blocks, head []byte) (t table, err error) {
	if kind(head) != blockHeader || binary.LittleEndian.Uint64(head[8:]) != magicFat {
		return t, damaged("its first block starts with %x", kind(head))
	}
	// Its fields end at byte 88; the smallest block of ZFS has 512.
	if len(head) < 512 {
		return t, damaged("its first block has %d bytes", len(head))
	}
	t = table{b: b, head: head, external: binary.LittleEndian.Uint64(head[16:])}
	shift := binary.LittleEndian.Uint64(head[32:])
	if shift > hashBits || t.external == 0 && len(head)/2>>3 < 1<<shift {
		return t, damaged("it has 2^%d pointers", shift)
	}
	t.shift = uint(shift)
	return t, nil
}

// leaf returns the block that pointer i is to.
func (t *table) leaf(i uint64) (uint64, error) {
	p := t.head[len(t.head)/2:]
	if t.external != 0 {
		per := uint64(len(t.head) / 8)
		var err error
		if p, err = t.b.Block(t.external + i/per); err != nil {
			return 0, err
		}
		i %= per
	}
	if 8*i+8 > uint64(len(p)) {
		return 0, damaged("pointer %d is beyond its block", i)
	}
	at := binary.LittleEndian.Uint64(p[8*i:])
	if at == 0 {
		return 0, damaged("pointer %d is to the first block", i)
	}
	return at, nil
}

// prefixLen returns how many bits of the hash all names of a leaf have in common.
func prefixLen(l []byte) uint { return uint(binary.LittleEndian.Uint16(l[32:])) }

// each goes through a leaf, which has to be that of the hash.
func (t *table) each(l []byte, hash uint64, f func(string, Value) error) error {
	le := binary.LittleEndian
	buckets := len(l) / 32
	if len(l) != len(t.head) || kind(l) != blockLeaf || le.Uint32(l[24:]) != magicLeaf {
		return damaged("a leaf starts with %x", kind(l))
	}
	if n := prefixLen(l); n > t.shift || n > 0 && hash>>(64-n) != le.Uint64(l[16:]) {
		return damaged("a leaf is not of the pointers to it")
	}
	chunks := l[leafHeader+2*buckets:]
	count := len(chunks) / chunkSize
	steps := count // of all chains together, each chunk being in one
	chunk := func(i uint16, kind byte) []byte {
		if steps--; int(i) >= count || steps < 0 {
			return nil
		}
		c := chunks[int(i)*chunkSize:][:chunkSize]
		if c[0] != kind {
			return nil
		}
		return c
	}
	array := func(i uint16, n int) []byte {
		p := make([]byte, 0, min(n, count*arrayBytes))
		for len(p) < n {
			c := chunk(i, chunkArray)
			if c == nil {
				return nil
			}
			p = append(p, c[1:1+min(arrayBytes, n-len(p))]...)
			i = le.Uint16(c[22:])
		}
		return p
	}
	for b := range buckets {
		for i := le.Uint16(l[leafHeader+2*b:]); i != chainEnd; {
			c := chunk(i, chunkEntry)
			if c == nil {
				return damaged("a chain of a leaf leaves its chunks")
			}
			name := array(le.Uint16(c[4:]), int(le.Uint16(c[6:])))
			v := Value{IntLen: int(c[1])}
			if v.Data = array(le.Uint16(c[8:]), v.IntLen*int(le.Uint16(c[10:]))); name == nil || v.Data == nil || len(name) == 0 {
				return damaged("a name or value leaves the chunks of its leaf")
			}
			if name[len(name)-1] == 0 {
				name = name[:len(name)-1]
			}
			if err := f(string(name), v); err != nil {
				return err
			}
			i = le.Uint16(c[2:])
		}
	}
	return nil
}
