package sample

import (
	"encoding/binary"
	"io"
)

const pageSize = 4096

// memory is a guest's memory as its CPUs see it, at an instant: what was read once is kept.
type memory struct {
	physical io.ReaderAt
	pages    map[uint64]*[pageSize]byte // nil: not readable
	free     []*[pageSize]byte
}

func newMemory(physical io.ReaderAt) *memory {
	return &memory{physical: physical, pages: make(map[uint64]*[pageSize]byte)}
}

// forget drops what was read.
func (m *memory) forget() {
	for _, p := range m.pages {
		if p != nil {
			m.free = append(m.free, p)
		}
	}
	clear(m.pages)
}

// page returns the page of physical memory at addr, or nil.
func (m *memory) page(addr uint64) *[pageSize]byte {
	addr &^= pageSize - 1
	p, ok := m.pages[addr]
	if !ok {
		b := new([pageSize]byte)
		if n := len(m.free); n > 0 {
			b, m.free = m.free[n-1], m.free[:n-1]
		}
		if _, err := m.physical.ReadAt(b[:], int64(addr)); err == nil { // addr has 52 bits at most
			p = b
		}
		m.pages[addr] = p
	}
	return p
}

// Bits of a page-table entry.
const (
	entryPresent = 1 << 0
	entryLarge   = 1 << 7
	entryAddr    = 1<<52 - pageSize
)

// translate walks the page tables of a CPU in 64-bit mode: Intel's Software Developer's Manual, volume 3, sections 4.5.4 (4-level
// and 5-level paging). Attributes are not looked at: what is mapped was readable to somebody.
func (m *memory) translate(c *CPU, addr uint64) (physical uint64, ok bool) {
	shift := 39
	if c.CR4&cr4LA57 != 0 {
		shift = 48
	}
	if sign := int64(addr) >> (shift + 8); sign != 0 && sign != -1 {
		return 0, false // not canonical
	}
	table := c.CR3 & entryAddr
	for ; shift >= 12; shift -= 9 {
		p := m.page(table)
		if p == nil {
			return 0, false
		}
		entry := binary.LittleEndian.Uint64(p[addr>>shift&511*8:])
		if entry&entryPresent == 0 {
			return 0, false
		}
		if shift == 12 || entry&entryLarge != 0 && shift <= 30 {
			in := uint64(1)<<shift - 1
			return entry&entryAddr&^in | addr&in, true
		}
		table = entry & entryAddr
	}
	return 0, false
}

// read copies the bytes at a virtual address and returns how many there are.
func (m *memory) read(c *CPU, addr uint64, b []byte) (n int) {
	for n < len(b) {
		at, ok := m.translate(c, addr+uint64(n))
		if !ok {
			break
		}
		p := m.page(at)
		if p == nil {
			break
		}
		n += copy(b[n:], p[at%pageSize:])
	}
	return n
}

// word returns the eight bytes at a virtual address.
func (m *memory) word(c *CPU, addr uint64) (v uint64, ok bool) {
	var b [8]byte
	n := m.read(c, addr, b[:])
	return binary.LittleEndian.Uint64(b[:]), n == len(b)
}
