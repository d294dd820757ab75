package mem

import (
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
)

// Flags say what a program may do with a page. It may read it unless NoAccess is set.
type Flags uint64

const (
	Write    Flags = 1 << iota // the program may write
	Exec                       // the program may execute
	NoAccess                   // the program may not touch it: PROT_NONE over a page that keeps its contents
)

const frameMask = 0x000ffffffffff000

// Space is an address space: the program's lower half over the kernel's upper half.
type Space struct{ Root Frame }

// NewSpace returns a space whose lower half is empty; false means that there is no memory for it.
func NewSpace() (Space, bool) {
	f := Alloc(abi.OwnAppTables)
	if f == 0 {
		return Space{}, false
	}
	kernel := Frame(cpu.ReadCR3() & frameMask).words()
	copy(f.words()[256:], kernel[256:])
	return Space{f}, true
}

// Activate makes s the space that ring 3 and the kernel see.
func (s *Space) Activate() { cpu.WriteCR3(uint64(s.Root)) }

// forget makes this CPU forget the mapping of va at once, and the others with the next Settle.
func forget(va uint64) {
	cpu.InvalidatePage(va)
	stale = shared
}

// entry returns the page-table entry of va, nil when there is no table for it and create is false or memory is out.
func (s *Space) entry(va uint64, create bool) *uint64 {
	t := s.Root.words()
	for shift := 39; shift > 12; shift -= 9 {
		e := &t[va>>shift&511]
		if *e == 0 {
			if !create {
				return nil
			}
			f := Alloc(abi.OwnAppTables)
			if f == 0 {
				return nil
			}
			*e = uint64(f) | layout.Present | layout.Writable | layout.User
		}
		t = Frame(*e & frameMask).words()
	}
	return &t[va>>12&511]
}

func bits(fl Flags) uint64 {
	b := uint64(layout.Present | layout.User)
	if fl&Write != 0 {
		b |= layout.Writable
	}
	if fl&Exec == 0 {
		b |= layout.NoExec
	}
	if fl&NoAccess != 0 {
		b &^= layout.User
	}
	return b
}

// Map maps the page at va, which is in the lower half, to f. It replaces what was there, which stays the caller's to free.
// False means that there is no memory for a page table.
func (s *Space) Map(va uint64, f Frame, fl Flags) bool {
	e := s.entry(va, true)
	if e == nil {
		return false
	}
	old := *e
	*e = uint64(f) | bits(fl)
	if old != 0 {
		forget(va)
	}
	return true
}

// Table is a page table of a program: the entries of 512 pages, from a multiple of 2 MiB on.
type Table [512]uint64

// Table returns the table for va, nil when there is none. It is valid until pages are unmapped.
func (s *Space) Table(va uint64) *Table {
	e := s.entry(va, false)
	if e == nil {
		return nil
	}
	return (*Table)(Pointer(uint64(uintptr(unsafe.Pointer(e))) &^ (PageSize - 1)))
}

// Group is how many pages in a row Empty and Fill are about; the first lies at a multiple of their size.
const Group = 16

// group returns the entries of the group that va lies in, which t is for.
func (t *Table) group(va uint64) *[Group]uint64 {
	return (*[Group]uint64)(t[va>>12&511&^(Group-1):])
}

// Empty tells which pages of va's group are not mapped, the first in bit 0.
func (t *Table) Empty(va uint64) (empty uint32) {
	for i, e := range t.group(va) {
		if e == 0 {
			empty |= 1 << i
		}
	}
	return empty
}

// Fill maps pages of va's group, none of which is mapped, to frames; those that are 0 stay as they are.
func (t *Table) Fill(va uint64, frames *[Group]Frame, fl Flags) (filled uint64) {
	b := bits(fl)
	g := t.group(va)
	for i, f := range frames {
		if f != 0 {
			g[i] = uint64(f) | b
			filled++
		}
	}
	return filled
}

// Lookup returns the frame that va's page is mapped to.
func (s *Space) Lookup(va uint64) (Frame, Flags, bool) {
	e := s.entry(va, false)
	if e == nil || *e == 0 {
		return 0, 0, false
	}
	var fl Flags
	if *e&layout.Writable != 0 {
		fl |= Write
	}
	if *e&layout.NoExec == 0 {
		fl |= Exec
	}
	if *e&layout.User == 0 {
		fl |= NoAccess
	}
	return Frame(*e & frameMask), fl, true
}

// Unmap removes the page at va and returns its frame, which is the caller's to free.
func (s *Space) Unmap(va uint64) (Frame, bool) {
	e := s.entry(va, false)
	if e == nil || *e == 0 {
		return 0, false
	}
	f := Frame(*e & frameMask)
	*e = 0
	forget(va)
	return f, true
}

// Protect changes what the program may do with the page at va; false means that no page is mapped there.
func (s *Space) Protect(va uint64, fl Flags) bool {
	e := s.entry(va, false)
	if e == nil || *e == 0 {
		return false
	}
	old, b := *e, bits(fl)
	*e = old&frameMask | b
	if old&^b&(layout.Writable|layout.User) != 0 || b&^old&layout.NoExec != 0 {
		forget(va)
	} else {
		cpu.InvalidatePage(va) // who does not know that he may do more is told by a fault
	}
	return true
}

// Next returns the first mapped page in [va, end), passing over empty page tables as a whole.
func (s *Space) Next(va, end uint64) (uint64, bool) {
	for va < end {
		t := s.Root.words()
		shift := uint(39)
		for ; shift > 12; shift -= 9 {
			e := t[va>>(shift&63)&511]
			if e == 0 {
				break
			}
			t = Frame(e & frameMask).words()
		}
		if shift == 12 && t[va>>12&511] != 0 {
			return va, true
		}
		va = (va>>(shift&63) + 1) << (shift & 63)
	}
	return 0, false
}

// Prune frees the page tables for addresses in [start, end) that serve none outside [low, high), which surrounds it and in which no
// page is mapped.
func (s *Space) Prune(start, end, low, high uint64) {
	s.prune(s.Root, 39, 0, start, end, low, high)
}

// prune is Prune for a table, whose entries span 1<<shift bytes each, from base on.
func (s *Space) prune(table Frame, shift uint, base, start, end, low, high uint64) {
	first := max(start, base) >> (shift & 63) & 511
	last := min(end-1, base+512<<(shift&63)-1) >> (shift & 63) & 511
	for i := first; i <= last; i++ {
		e := &table.words()[i]
		if *e == 0 {
			continue
		}
		from, size := base+i<<(shift&63), uint64(1)<<(shift&63)
		below := Frame(*e & frameMask)
		if shift > 21 {
			s.prune(below, shift-9, from, start, end, low, high)
		}
		if from >= low && from+size <= high {
			*e = 0
			forget(from) // and what the CPU keeps of page tables
			Free(below, abi.OwnAppTables)
		}
	}
}

// Release frees the space's page tables. No page may be mapped in it and it must not be active.
func (s *Space) Release() {
	freeTables(s.Root, 256, 3)
	s.Root = 0
}

func freeTables(table Frame, entries, depth int) {
	if depth > 0 {
		for _, e := range table.words()[:entries] {
			if e != 0 {
				freeTables(Frame(e&frameMask), 512, depth-1)
			}
		}
	}
	Free(table, abi.OwnAppTables)
}

// KernelUnmap removes the page at va, of the heap's region, and returns its frame to the pool.
func KernelUnmap(va uint64) {
	e := kernelEntry(va, false)
	if e == nil || *e == 0 {
		return
	}
	f := Frame(*e & frameMask)
	*e = 0
	cpu.InvalidatePage(va)
	KernelFree(f, abi.OwnHeap)
}

// KernelTouch maps a zero page of owner's at va, in the upper half, unless one is mapped: writable, never executable. False means
// that there is no memory.
func KernelTouch(va uint64, owner int) bool {
	e := kernelEntry(va, true)
	if e == nil {
		return false
	}
	if *e == 0 {
		f := KernelAlloc(owner)
		if f == 0 {
			return false
		}
		*e = uint64(f) | layout.Present | layout.Writable | layout.NoExec
	}
	return true
}

// KernelPrune frees the page tables of the heap's region that have no page any more, of those for the addresses [start, end).
func KernelPrune(start, end uint64) {
	pdpt := Frame(Frame(layout.RootPhys).words()[start>>39&511] & frameMask)
	for va := start &^ (1<<21 - 1); va < end; va += 1 << 21 {
		pde := pdpt.words()[va>>30&511]
		if pde == 0 {
			va |= 1<<30 - 1<<21
			continue
		}
		e := &Frame(pde & frameMask).words()[va>>21&511]
		if *e == 0 {
			continue
		}
		f := Frame(*e & frameMask)
		used := uint64(0)
		for _, page := range f.words() {
			used |= page
		}
		if used == 0 {
			walked, *e = 0, 0
			cpu.InvalidatePage(va) // and what the CPU keeps of page tables
			KernelFree(f, abi.OwnTables)
		}
	}
}

// walked is the page table that kernelEntry used last, for the 2 MiB at walkedBase.
var (
	walked     Frame
	walkedBase uint64
)

func kernelEntry(va uint64, create bool) *uint64 {
	if walked != 0 && va>>21 == walkedBase {
		return &walked.words()[va>>12&511]
	}
	at := Frame(layout.RootPhys)
	for shift := uint(39); shift > 12; shift -= 9 {
		e := &at.words()[va>>(shift&63)&511]
		if *e == 0 {
			if !create {
				return nil
			}
			f := KernelAlloc(abi.OwnTables)
			if f == 0 {
				return nil
			}
			*e = uint64(f) | layout.Present | layout.Writable
		}
		at = Frame(*e & frameMask)
	}
	walked, walkedBase = at, va>>21
	return &at.words()[va>>12&511]
}

// KernelSpan makes the direct map cover [start, end), of which the first GiB is there already, with 2 MiB pages. False means that
// there is no memory.
func KernelSpan(start, end uint64) bool {
	pdpt := Frame(Frame(layout.RootPhys).words()[256] & frameMask).words()
	for at := max(start, 1<<30) &^ (1<<21 - 1); at < end; at += 1 << 21 {
		e := &pdpt[at>>30&511]
		if *e == 0 {
			pd := KernelAlloc(abi.OwnTables)
			if pd == 0 {
				return false
			}
			*e = uint64(pd) | layout.Present | layout.Writable
		}
		Frame(*e & frameMask).words()[at>>21&511] = at | layout.Present | layout.Writable | layout.Large | layout.NoExec
	}
	return true
}

// MapDevice makes the direct map cover the page of a device's registers at phys, uncached, and reports whether it does: they must lie
// between 3 and 4 GiB, and in no 2 MiB that also have RAM.
func MapDevice(phys uint64) bool {
	if phys < 3<<30 || phys >= 1<<32 {
		return false
	}
	const flags = layout.Present | layout.Writable | layout.Large | layout.NoExec | layout.Uncached
	pdpt := Frame(Frame(layout.RootPhys).words()[256] & frameMask).words()
	e := &Frame(pdpt[phys>>30] & frameMask).words()[phys>>21&511]
	if *e == 0 {
		*e = phys&^(1<<21-1) | flags
	}
	return *e&layout.Uncached == layout.Uncached
}

// KernelHas reports whether a page is mapped at va, in the upper half.
func KernelHas(va uint64) bool {
	e := kernelEntry(va, false)
	return e != nil && *e != 0
}

// KernelNext returns the first mapped page of the kernel's at or after va and before end.
func KernelNext(va, end uint64) (uint64, bool) {
	s := Space{layout.RootPhys}
	return s.Next(va, end)
}

// Physical returns the physical address of va, in the upper half, whose page must be mapped.
func Physical(va uint64) uint64 {
	t := Frame(layout.RootPhys).words()
	for shift := uint(39); ; shift -= 9 {
		e := t[va>>(shift&63)&511]
		if size := uint64(1) << (shift & 63); shift == 12 || e&layout.Large != 0 {
			return e&frameMask&^(size-1) | va&(size-1)
		}
		t = Frame(e & frameMask).words()
	}
}

// CountKernel returns how many pages are mapped in the heap's region, and how many page tables there are for that and for the direct
// map that are not part of the kernel's image.
func CountKernel() (pages, tables uint64) {
	s := Space{layout.RootPhys}
	pages, tables = s.count(layout.HeapBase, layout.HeapBase+layout.HeapSize, nil)
	const image = 3 // the table of the heap's region, and those of the direct map's first and fourth GiB
	for _, e := range Frame(Frame(layout.RootPhys).words()[layout.DirectMap>>39&511] & frameMask).words() {
		if e != 0 {
			tables++
		}
	}
	return pages, tables - image
}

// Count returns how many page tables the space has, its root included, and how many pages for which private is true.
func (s *Space) Count(private func(va uint64, f Frame) bool) (pages, tables uint64) {
	pages, tables = s.count(0, layout.UserEnd, private)
	return pages, tables + 1
}

func (s *Space) count(start, end uint64, of func(va uint64, f Frame) bool) (pages, tables uint64) {
	for shift := uint(39); shift > 12; shift -= 9 {
		for va := start; va < end; va = (va>>shift + 1) << shift {
			t, at := s.Root.words(), uint(39)
			for at > shift && t[va>>at&511] != 0 {
				t = Frame(t[va>>at&511] & frameMask).words()
				at -= 9
			}
			if t[va>>at&511] == 0 {
				va = (va>>at+1)<<at - 1<<shift
			} else {
				tables++
			}
		}
	}
	for va, ok := s.Next(start, end); ok; va, ok = s.Next(va+PageSize, end) {
		f, _, _ := s.Lookup(va)
		if of == nil || of(va, f) {
			pages++
		}
	}
	return pages, tables
}
