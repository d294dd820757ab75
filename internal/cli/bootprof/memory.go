package bootprof

import (
	"cmp"
	"debug/elf"
	"fmt"
	"maps"
	"slices"

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
	ownTextData
	ownBSS
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
	ownPacked
	ownInit
	ownFirmware
	ownOther
	numOwners
)

var ownerNames = [numOwners]string{
	ownTables: "page tables", ownText: "kernel text", ownRodata: "kernel rodata", ownData: "kernel data", ownBSS: "kernel bss",
	ownTextData: "kernel text and data", ownAppText: "app text", ownAppRodata: "app rodata", ownAppData: "app data", ownAppBSS: "app bss",
	ownAppStack: "app stack", ownPageCache: "page cache", ownAppHeap: "app heap", ownHeap: "kernel heap",
	ownVmalloc: "kernel stacks and vmalloc", ownMemmap: "page structures", ownDisk: "disk buffers", ownInitrd: "initrd",
	ownPacked: "compressed kernel", ownInit: "kernel init", ownFirmware: "first MiB", ownOther: "other",
}

// survey is a guest's memory at the end of a boot, by owner.
type survey struct {
	*guestmem.Memory
	owners []owner // of each page
	tables *guestmem.Tables
}

// setMemory looks at the guest's memory, which the VM must not change any more.
func (p *plan) setMemory(o *outcome, vm *qemu.VM) {
	touched, err := vm.TouchedBytes()
	if err != nil {
		return // the guest's RAM is its own
	}
	o.TouchedBytes = uint64(touched)
	if o.memory, err = p.survey(vm); err != nil {
		p.note(err.Error())
		return
	}
	zero, duplicate := o.memory.Alike()
	o.Memory = &boottrace.Memory{ZeroBytes: zero, DuplicateBytes: duplicate}
	o.Regions = o.memory.regions(o.TouchedBytes)
}

// note keeps a note for the user, once.
func (p *plan) note(n string) {
	if !slices.Contains(p.notes, n) {
		p.notes = append(p.notes, n)
	}
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
	if p.contents == nil {
		p.contents = p.readContents()
		if p.contents.left {
			p.note(fmt.Sprintf("not all of the guest's files and disks were looked for in its memory: of each kind %d MiB", maxContents>>20))
		}
	}
	if err := s.walk(p); err != nil {
		p.note(err.Error())
	}
	s.alike(p.contents)
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
		o = ownTextData
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

// maxUserPages bounds the pages of programs that are looked at.
const maxUserPages = 1 << 20

// walk finds the page tables, and by them what pages are mapped for.
func (s *survey) walk(p *plan) error {
	roots, where := s.roots(p.target)
	var users []guestmem.Leaf
	err := s.tables.Walk(roots, func(addr uint64) { s.own(ownTables, addr, addr+1) }, func(l guestmem.Leaf) {
		switch {
		case !l.User:
			if o := where(l); o != ownOther {
				s.own(o, l.Phys, l.Phys+l.Size)
			}
		case s.From(l.Phys) < s.From(l.Phys+l.Size) && len(users) < maxUserPages:
			users = append(users, l)
		}
	})
	if err != nil {
		return fmt.Errorf("looking at the guest's page tables: %w", err)
	}
	s.apps(users, p.contents)
	return nil
}

// stackRoom is how far below the highest address of a program its stack may reach and nothing else lies: both our kernel and Linux
// keep that much free by default.
const stackRoom = 8 << 20

// placed is a program or a library at which it was mapped in an address space.
type placed struct {
	root, file int
	bias       uint64
}

// apps tells what pages that programs may touch are for.
func (s *survey) apps(users []guestmem.Leaf, c *contents) {
	votes := make(map[placed]int)
	top := make(map[int]uint64) // of each address space, but for what the kernel shows of itself
	for _, l := range users {
		i := s.From(l.Phys)
		if s.owners[i] > ownBSS {
			top[l.Root] = max(top[l.Root], l.Virt+l.Size)
		}
		b, ok := c.files[s.Pages[i].Sum]
		if !ok || !l.Exec {
			continue
		}
		for _, seg := range c.programs[b.file] {
			if start := seg.Off &^ (pageSize - 1); seg.Flags&elf.PF_X != 0 && b.off >= start && b.off < seg.Off+seg.Filesz {
				votes[placed{l.Root, b.file, l.Virt - (seg.Vaddr&^(pageSize-1) + b.off - start)}]++
			}
		}
	}
	places := slices.SortedFunc(maps.Keys(votes), func(a, b placed) int {
		return cmp.Or(votes[b]-votes[a], a.root-b.root, a.file-b.file, cmp.Compare(a.bias, b.bias))
	})
	for _, l := range users {
		o := ownAppHeap
		switch {
		case l.Exec:
			o = ownAppText
		case l.Virt+stackRoom >= top[l.Root]:
			o = ownAppStack
		}
		for _, at := range places {
			if seg := c.programs[at.file].segment(l.Virt - at.bias); at.root == l.Root && seg != ownOther {
				o = seg
				break
			}
		}
		s.own(o, l.Phys, l.Phys+l.Size)
	}
}

// segment tells what the page at a link-time address is for.
func (p program) segment(virt uint64) owner {
	for _, seg := range p {
		start, file := seg.Vaddr&^(pageSize-1), seg.Vaddr+seg.Filesz
		switch {
		case virt < start || virt >= seg.Vaddr+seg.Memsz:
		case seg.Flags&elf.PF_X != 0:
			return ownAppText
		case seg.Flags&elf.PF_W == 0:
			return ownAppRodata
		case virt < file:
			return ownAppData
		default:
			return ownAppBSS
		}
	}
	return ownOther
}

// alike tells pages by their content: those of files, disks, the initial RAM disk and a compressed kernel.
func (s *survey) alike(c *contents) {
	for i, page := range s.Pages {
		o := ownOther
		if _, ok := c.files[page.Sum]; ok {
			o = ownPageCache
		} else if c.disks[page.Sum] {
			o = ownDisk
		} else if c.initrd[page.Sum] {
			o = ownInitrd
		} else if c.packed[page.Sum] {
			o = ownPacked
		}
		s.owners[i] = min(s.owners[i], o)
	}
}

// roots returns the guest's address spaces, none if they cannot be told, and what pages are for by where they are mapped.
func (s *survey) roots(t *target) ([]guestmem.Root, func(guestmem.Leaf) owner) {
	if t.flavour == image.FlavourLinux {
		// Those that cannot be read are told of elsewhere.
		if kernel, err := t.symbols(); err == nil && kernel != nil {
			return s.linuxRoots(kernel)
		}
	}
	where := func(guestmem.Leaf) owner { return ownOther }
	if t.flavour == image.FlavourNative {
		where = nativeOwner
	}
	for _, seg := range t.segments {
		if seg.Flags&elf.PF_X == 0 || seg.Memsz == 0 || seg.Vaddr == seg.Paddr && t.flavour == image.FlavourNative {
			continue
		}
		return s.tables.Roots(seg.Vaddr, func(t *guestmem.Tables, r guestmem.Root) bool {
			phys, ok := t.Translate(r, seg.Vaddr)
			return ok && phys == seg.Paddr
		}), where
	}
	return nil, where
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
