package bootprof

import (
	"debug/elf"
	"fmt"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/guestmem"
)

const pageSize = guestmem.PageSize

// owner is what a touched page is for. Where several could own a page, the first one does. docs/memory.md says how each is told.
type owner int

const (
	ownTables owner = iota
	ownText
	ownRodata
	ownData
	ownBSS
	ownEntry
	ownAppText
	ownAppRodata
	ownAppData
	ownAppBSS
	ownAppStack
	ownPageCache
	ownAppHeap
	ownHeap
	ownVmalloc
	ownMemmap
	ownDisk
	ownInitrd
	ownInit
	ownFirmware
	ownOther
	numOwners
)

var ownerNames = [numOwners]string{
	ownTables: "page tables", ownText: "kernel text", ownRodata: "kernel rodata", ownData: "kernel data", ownBSS: "kernel bss",
	ownEntry: "kernel entry", ownAppText: "app text", ownAppRodata: "app rodata", ownAppData: "app data", ownAppBSS: "app bss",
	ownAppStack: "app stack", ownPageCache: "page cache", ownAppHeap: "app heap", ownHeap: "kernel heap",
	ownVmalloc: "kernel stacks and vmalloc", ownMemmap: "page structures", ownDisk: "disk buffers", ownInitrd: "initrd",
	ownInit: "kernel init", ownFirmware: "first MiB", ownOther: "other",
}

// survey is a guest's memory at the end of a boot, by owner.
type survey struct {
	*guestmem.Memory
	owners []owner // of each page
	tables *guestmem.Tables
}

// setMemory looks at the guest's memory, which the VM must not change any more.
func (p *plan) setMemory(run *boottrace.Run, vm *qemu.VM) error {
	touched, err := vm.TouchedBytes()
	if err != nil {
		return nil // the guest's RAM is its own
	}
	run.TouchedBytes = uint64(touched)
	s, err := p.survey(vm)
	if err != nil {
		return err
	}
	zero, duplicate := s.Alike()
	run.Memory = &boottrace.Memory{ZeroBytes: zero, DuplicateBytes: duplicate}
	run.Regions = s.regions(run.TouchedBytes)
	return nil
}

// regions sums up the touched memory by owner. What of all was not looked at is of no known one.
func (s *survey) regions(all uint64) []boottrace.Region {
	var bytes [numOwners]uint64
	for _, o := range s.owners {
		bytes[o] += pageSize
	}
	if known := uint64(len(s.owners)) * pageSize; all > known {
		bytes[ownOther] += all - known
	}
	var rs []boottrace.Region
	for o, n := range bytes {
		if n > 0 {
			rs = append(rs, boottrace.Region{Name: ownerNames[o], TouchedBytes: n})
		}
	}
	return rs
}

// survey finds the owner of each touched page of physical memory.
func (p *plan) survey(src guestmem.Source) (*survey, error) {
	m, err := guestmem.Read(src)
	if err != nil {
		return nil, fmt.Errorf("looking at the guest's memory: %w", err)
	}
	s := &survey{Memory: m, owners: make([]owner, len(m.Pages)), tables: m.Tables()}
	for i, page := range m.Pages {
		s.owners[i] = ownOther
		if page.Addr < 1<<20 {
			s.owners[i] = ownFirmware
		}
	}
	for _, seg := range p.target.segments {
		s.segment(seg)
	}
	if err := s.walk(p.target); err != nil {
		return nil, err
	}
	return s, nil
}

// own makes o the owner of the touched pages in a range of physical memory, but for those that have one which comes before it.
func (s *survey) own(o owner, start, end uint64) {
	for i := s.From(start &^ (pageSize - 1)); i < len(s.Pages) && s.Pages[i].Addr < end; i++ {
		s.owners[i] = min(s.owners[i], o)
	}
}

// segment gives a kernel's segment its owner, by what it may be used for.
func (s *survey) segment(seg elf.ProgHeader) {
	o := ownRodata
	switch {
	case seg.Flags&elf.PF_X != 0 && seg.Flags&elf.PF_W != 0:
		o = ownEntry
	case seg.Flags&elf.PF_X != 0:
		o = ownText
	case seg.Flags&elf.PF_W != 0:
		o = ownData
	}
	file, end := seg.Paddr+seg.Filesz, seg.Paddr+seg.Memsz
	if end < seg.Paddr || file < seg.Paddr {
		return // around the end of the addresses: nothing is there
	}
	s.own(o, seg.Paddr, min(file, end))
	s.own(ownBSS, file, end)
}

// walk finds the page tables, and by them what pages are mapped for.
func (s *survey) walk(t *target) error {
	roots, where := s.roots(t)
	err := s.tables.Walk(roots, func(addr uint64) { s.own(ownTables, addr, addr+1) }, func(l guestmem.Leaf) {
		if o := where(l); o != ownOther {
			s.own(o, l.Phys, l.Phys+l.Size)
		}
	})
	if err != nil {
		return fmt.Errorf("looking at the guest's page tables: %w", err)
	}
	return nil
}

// roots returns the guest's address spaces, none if they cannot be told, and what pages are for by where they are mapped.
func (s *survey) roots(t *target) ([]guestmem.Root, func(guestmem.Leaf) owner) {
	for _, seg := range t.segments {
		if seg.Flags&elf.PF_X == 0 || seg.Memsz == 0 || seg.Vaddr == seg.Paddr && t.flavour == image.FlavourNative {
			continue
		}
		return s.tables.Roots(seg.Vaddr, func(t *guestmem.Tables, r guestmem.Root) bool {
			phys, ok := t.Translate(r, seg.Vaddr)
			return ok && phys == seg.Paddr
		}), nativeOwner
	}
	return nil, nil
}

// nativeOwner tells the owner of a page of our kernel by kernel/boot/layout.
func nativeOwner(l guestmem.Leaf) owner {
	switch {
	case l.Virt >= layout.KernelBase:
		return ownBSS // behind the segments, which have owners that come before it
	case l.Virt >= layout.HeapBase && l.Virt < layout.HeapBase+layout.HeapSize:
		return ownHeap
	}
	return ownOther
}
