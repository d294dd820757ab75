package bootprof

import (
	"encoding/binary"
	"slices"

	"github.com/firstlight-boot/firstlight/qemu/guestmem"
	"github.com/firstlight-boot/firstlight/symbols"
)

// Where Linux maps itself (Documentation/arch/x86/x86_64/mm.rst): its image in the GiB at kernelHalf, modules above.
const (
	linuxModules = kernelHalf + 1<<30
	linuxVmemmap = 1 << 40 // size
)

// linuxSections are the parts of a Linux kernel's image in memory by the symbols around them (arch/x86/kernel/vmlinux.lds.S).
var linuxSections = []struct {
	start, end string
	owner      owner
}{
	{"_text", "_etext", ownText},
	{"__start_rodata", "__end_rodata", ownRodata},
	{"_sdata", "__init_begin", ownData},
	{"__init_begin", "__init_end", ownInit},
	{"__init_end", "__bss_start", ownData},
	{"__bss_start", "_end", ownBSS},
}

// maxTries bounds the address spaces in which a kernel's code is looked for: a hostile guest may have thousands of false ones.
const maxTries = 256

// linuxRoots is roots for a Linux, which is wherever its own code is found.
func (s *survey) linuxRoots(kernel *symbols.Object) ([]guestmem.Root, func(guestmem.Leaf) owner) {
	text, _, ok := kernel.Find("_text")
	if !ok {
		return nil, nil
	}
	var bias, phys uint64
	found, tries := false, 0
	roots := s.tables.Roots(kernelHalf, func(t *guestmem.Tables, r guestmem.Root) bool {
		if tries++; !found && tries > maxTries {
			return false
		}
		if !found {
			if bias, found = s.linuxBias(kernel, r); found {
				phys, found = t.Translate(r, text+bias)
			}
			return found
		}
		at, ok := t.Translate(r, text+bias)
		return ok && at == phys
	})
	if len(roots) == 0 {
		return nil, nil
	}
	for _, sec := range linuxSections {
		start, _, ok1 := kernel.Find(sec.start)
		end, _, ok2 := kernel.Find(sec.end)
		if ok1 && ok2 && text <= start && start < end {
			s.own(sec.owner, start-text+phys, end-text+phys)
		}
	}
	variable := func(name string) (v uint64) {
		var b [8]byte
		if addr, _, ok := kernel.Find(name); ok {
			if at, ok := s.tables.Translate(roots[0], addr+bias); ok && s.Read(b[:], at) == nil {
				v = binary.LittleEndian.Uint64(b[:])
			}
		}
		return v
	}
	vmalloc, vmemmap := variable("vmalloc_base"), variable("vmemmap_base")
	return roots, func(l guestmem.Leaf) owner {
		switch {
		case l.Virt >= linuxModules:
			return ownVmalloc
		case vmalloc == 0 || vmemmap <= vmalloc: // they are constants in kernels without KASLR
			return ownOther
		case l.Virt >= vmemmap && l.Virt < vmemmap+linuxVmemmap:
			return ownMemmap
		case l.Virt >= vmalloc && l.Virt < vmemmap:
			return ownVmalloc
		}
		return ownOther
	}
}

// linuxBias finds how far an address space has a Linux kernel from where it was linked.
func (s *survey) linuxBias(kernel *symbols.Object, r guestmem.Root) (bias uint64, ok bool) {
	const step = 32 << 10
	var seen []symbols.Seen
	for area := uint64(kernelHalf); area < linuxModules; area += kernelAlign {
		for virt := area; virt < area+kernelAlign; virt += step {
			at, mapped := s.tables.Translate(r, virt)
			if !mapped {
				break
			}
			code := make([]byte, 16)
			if s.Read(code, at) == nil && !slices.Contains(code[:2], code[2]) { // else it may be padding, which is everywhere
				seen = append(seen, symbols.Seen{Addr: virt, Code: code})
			}
		}
	}
	if len(seen) == 0 {
		return 0, false
	}
	bias, _, ok = symbols.Bias(kernel, seen, kernelAlign)
	return bias, ok
}
