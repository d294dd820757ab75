package guestmem

import (
	"encoding/binary"
	"fmt"
)

// Page tables: Intel's Software Developer's Manual, volume 3, section 4.5. A root of 4 levels translates 48 bits of an address,
// one of 5 levels 57.
const (
	entries = PageSize / 8

	present  = 1 << 0
	writable = 1 << 1
	user     = 1 << 2
	large    = 1 << 7
	noExec   = 1 << 63
	addrMask = 1<<52 - PageSize
)

// Root is a page table of the top level: an address space.
type Root struct {
	Addr   uint64 // physical
	Levels int
}

// Leaf is a run of virtual addresses that a page table maps.
type Leaf struct {
	Virt, Phys, Size  uint64
	Root              int  // index of the first address space that has it
	User, Write, Exec bool // what its own entry allows; those of the levels above may allow less, but for User, which takes all
}

// Tables reads page tables, of which it keeps those that it has read.
type Tables struct {
	m     *Memory
	table map[uint64]*[PageSize]byte // by address; nil: not readable
}

// Tables returns a reader of page tables.
func (m *Memory) Tables() *Tables {
	return &Tables{m, make(map[uint64]*[PageSize]byte)}
}

// entry returns an entry of the table at addr; 0 if there is no such memory.
func (t *Tables) entry(addr, index uint64) uint64 {
	p, ok := t.table[addr]
	if !ok {
		p = new([PageSize]byte)
		if t.m.Read(p[:], addr) != nil {
			p = nil
		}
		t.table[addr] = p
	}
	if p == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(p[index*8:])
}

// Translate returns the physical address of a virtual one.
func (t *Tables) Translate(r Root, virt uint64) (phys uint64, ok bool) {
	table := r.Addr
	for shift := 12 + 9*(r.Levels-1); shift >= 12; shift -= 9 {
		e := t.entry(table, virt>>shift%entries)
		if e&present == 0 {
			return 0, false
		}
		if shift == 12 || e&large != 0 {
			if shift > 30 {
				return 0, false // there are no such pages
			}
			in := uint64(1)<<shift - 1
			return e&addrMask&^in | virt&in, true
		}
		table = e & addrMask
	}
	return 0, false
}

// Roots returns the address spaces in which virt is mapped such that is says so of its physical address. It tries every touched page.
// That a page which is no table passes for one takes a chain of entries that leads to the right place by chance.
func (t *Tables) Roots(virt uint64, is func(t *Tables, r Root) bool) []Root {
	var roots []Root
	shared := make(map[uint64]bool) // whether what this entry of a root leads to is right
	var word [8]byte
	for _, p := range t.m.Pages {
		if p.Sum == (Sum{}) || t.m.Read(word[:], p.Addr+virt>>39%entries*8) != nil {
			continue
		}
		e := binary.LittleEndian.Uint64(word[:])
		if e&present == 0 || e&large != 0 {
			continue
		}
		r := Root{p.Addr, 4}
		right, known := shared[e&addrMask]
		if !known {
			right = is(t, r)
			shared[e&addrMask] = right
		}
		if right {
			roots = append(roots, r)
		}
	}
	return t.top(roots, virt)
}

// top returns the tables of the fifth level over some of the fourth instead of those.
func (t *Tables) top(fourth []Root, virt uint64) []Root {
	is := make(map[uint64]bool, len(fourth))
	for _, r := range fourth {
		is[r.Addr] = true
	}
	var roots []Root
	var word [8]byte
	for _, p := range t.m.Pages {
		if len(fourth) == 0 || is[p.Addr] || t.m.Read(word[:], p.Addr+virt>>48%entries*8) != nil {
			continue
		}
		if e := binary.LittleEndian.Uint64(word[:]); e&present != 0 && e&large == 0 && is[e&addrMask] {
			roots = append(roots, Root{p.Addr, 5})
		}
	}
	if len(roots) > 0 {
		return roots
	}
	return fourth
}

// maxEntries bounds the entries that are looked at, and maxPages the touched pages that they map: a hostile guest's tables may map
// all of its memory from each of its pages.
const (
	maxEntries = 1 << 25
	maxPages   = 1 << 27
)

// Walk calls table for each page table and leaf for each page that they map, of any size, in no order. What several roots share is
// walked once.
func (t *Tables) Walk(roots []Root, table func(addr uint64), leaf func(Leaf)) error {
	w := &walk{t: t, table: table, leaf: leaf, seen: make(map[visit]bool)}
	for i, r := range roots {
		w.root, w.top = i, r.Levels
		w.visit(visit{r.Addr, r.Levels, true}, 0)
	}
	return w.err
}

type visit struct {
	addr  uint64
	level int // 1: its entries are pages
	user  bool
}

type walk struct {
	t     *Tables
	table func(uint64)
	leaf  func(Leaf)
	seen  map[visit]bool
	root  int
	top   int // level of the root
	n     int // entries
	pages int
	err   error
}

func (w *walk) visit(v visit, virt uint64) {
	if w.err != nil || w.seen[v] {
		return
	}
	w.seen[v] = true
	if _, ok := w.t.table[v.addr]; !ok {
		w.t.entry(v.addr, 0)
	}
	if w.t.table[v.addr] == nil {
		return
	}
	w.table(v.addr)
	if w.n += entries; w.n > maxEntries {
		w.err = fmt.Errorf("%w: its page tables are too many", ErrMemory)
		return
	}
	shift := 12 + 9*(v.level-1)
	for i := range uint64(entries) {
		e := w.t.entry(v.addr, i)
		if e&present == 0 {
			continue
		}
		at := virt | i<<shift
		if v.level == w.top && i >= entries/2 {
			at |= ^uint64(0) << (shift + 9) // the upper half
		}
		usable := v.user && e&user != 0
		switch {
		case v.level == 1 || e&large != 0 && v.level <= 3:
			size := uint64(1) << shift
			l := Leaf{Virt: at, Phys: e & addrMask &^ (size - 1), Size: size, Root: w.root, User: usable, Write: e&writable != 0, Exec: e&noExec == 0}
			if w.pages += w.t.m.From(l.Phys+size) - w.t.m.From(l.Phys); w.pages > maxPages {
				w.err = fmt.Errorf("%w: its page tables map too much", ErrMemory)
				return
			}
			w.leaf(l)
		case e&large == 0:
			w.visit(visit{e & addrMask, v.level - 1, usable}, at)
		}
	}
}
