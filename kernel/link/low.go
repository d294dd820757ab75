package link

import (
	"encoding/binary"

	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
)

// segment is one piece of the kernel's image.
type segment struct {
	Virt        uint64 // less KernelBase
	Phys, Size  uint64 // bytes
	Write, Exec bool
}

// trampoline is the code at the PVH entry. In: EBX = physical address of hvm_start_info, 32-bit protected mode, no paging.
// Out, in 64-bit mode at the kernel's entry: RBX unchanged, RDI:RSI = the TSC at entry, the page tables that follow, no stack.
var trampoline = []byte{
	0xfa,       // cli
	0xfc,       // cld
	0x0f, 0x31, // rdtsc
	0x89, 0xc6, // mov %eax,%esi
	0x89, 0xd7, // mov %edx,%edi
	0xb8, 0, 0, 0, 0, // mov $root,%eax
	0x0f, 0x22, 0xd8, // mov %eax,%cr3
	0xb8, 0xa0, 0x06, 0, 0, // mov $0x6a0,%eax: PAE, PGE, OSFXSR, OSXMMEXCPT
	0x0f, 0x22, 0xe0, // mov %eax,%cr4
	0xb9, 0x80, 0x00, 0x00, 0xc0, // mov $EFER,%ecx
	0x31, 0xd2, // xor %edx,%edx
	0xb8, 0x01, 0x09, 0, 0, // mov $0x901,%eax: SCE, LME, NXE
	0x0f, 0x30, // wrmsr
	0xb8, 0x33, 0x00, 0x01, 0x80, // mov $0x80010033,%eax: PG, WP, NE, ET, MP, PE
	0x0f, 0x22, 0xc0, // mov %eax,%cr0
	0x0f, 0x01, 0x15, 0, 0, 0, 0, // lgdt gdtr
	0xea, 0, 0, 0, 0, 0x08, 0x00, // ljmp $KernelCS,$long
	// long:
	0xb8, 0x10, 0, 0, 0, // mov $KernelSS,%eax
	0x8e, 0xd0, // mov %eax,%ss
	0x31, 0xc0, // xor %eax,%eax
	0x8e, 0xd8, // mov %eax,%ds
	0x8e, 0xc0, // mov %eax,%es
	0x8e, 0xe0, // mov %eax,%fs
	0x8e, 0xe8, // mov %eax,%gs
	0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, // movabs $entry,%rax
	0xff, 0xe0, // jmp *%rax
}

// Offsets of the trampoline's operands.
const (
	opRoot  = 9
	opGDTR  = 49
	opLong  = 54
	offLong = 60
	opEntry = 79
)

// lowSegment returns the low segment for a kernel: entry is the virtual address of its 64-bit entry, taskState the virtual address
// of its 104-byte task state segment, segments its image with the part of BSS that is there from the start. The notes' pages are
// zero and the caller's to fill.
func lowSegment(entry, taskState uint64, segments []segment) []byte {
	tables := make(map[uint64]int) // by number of the 2 MiB
	for _, s := range segments {
		for area := s.Virt >> 21; area<<21 < s.Virt+s.Size; area++ {
			if _, ok := tables[area]; !ok {
				tables[area] = layout.PTKernel + len(tables)
			}
		}
	}
	b := make([]byte, layout.TablesOff+(layout.PTKernel+len(tables))*layout.PageSize)
	le := binary.LittleEndian
	copy(b, trampoline)
	le.PutUint32(b[opRoot:], layout.RootPhys)
	le.PutUint32(b[opGDTR:], layout.LowPhys+layout.GdtrOff)
	le.PutUint32(b[opLong:], layout.LowPhys+offLong)
	le.PutUint64(b[opEntry:], entry)

	gdt := b[layout.GdtOff:]
	le.PutUint64(gdt[layout.KernelCS:], 0x00af9b000000ffff)
	le.PutUint64(gdt[layout.KernelSS:], 0x00cf93000000ffff)
	// SYSRET counts from 0x18, where 32-bit code of ring 3 would be, and reads no descriptor. There is none: on a CPU of AMD's, SYSCALL
	// in 32-bit code leads to ring 0 by another register than ours.
	le.PutUint64(gdt[0x20:], 0x00cff3000000ffff)
	le.PutUint64(gdt[0x28:], 0x00affb000000ffff)
	const tssLimit = 103
	le.PutUint64(gdt[layout.TaskSel:], tssLimit|(taskState&0xffffff)<<16|0x89<<40|(taskState>>24&0xff)<<56)
	le.PutUint64(gdt[layout.TaskSel+8:], taskState>>32)
	le.PutUint16(b[layout.GdtrOff:], 8*8-1)
	le.PutUint64(b[layout.GdtrOff+2:], layout.GDTPhys)

	page := func(n int) []byte { return b[layout.TablesOff+n*layout.PageSize:][:layout.PageSize] }
	phys := func(n int) uint64 { return layout.RootPhys + uint64(n)*layout.PageSize }
	set := func(table, index int, v uint64) { le.PutUint64(page(table)[8*index:], v) }

	const table = layout.Present | layout.Writable | layout.Accessed
	// Not global: the identity map shares these entries and must not outlive its removal in the TLB.
	const data = layout.Present | layout.Writable | layout.Accessed | layout.Dirty
	set(layout.PML4, 0, phys(layout.PDPTDirect)|table) // the identity map under the trampoline; the guest removes it
	set(layout.PML4, 256, phys(layout.PDPTDirect)|table|layout.NoExec)
	set(layout.PML4, 384, phys(layout.PDPTHeap)|table|layout.NoExec)
	set(layout.PML4, 511, phys(layout.PDPTKernel)|table)
	set(layout.PDPTDirect, 0, phys(layout.PDDirect)|table)
	set(layout.PDPTDirect, 3, phys(layout.PDMMIO)|table)
	set(layout.PDPTKernel, 510, phys(layout.PDKernel)|table)
	for i := range 512 {
		set(layout.PDDirect, i, uint64(i)<<21|data|layout.Large)
	}
	// What is executed is written nowhere, by no other address either.
	set(layout.PDDirect, layout.KernelPhys>>21, layout.KernelPhys|layout.Present|layout.Accessed|layout.Large)
	for _, window := range []uint64{0xfea00000, 0xfec00000, 0xfee00000} {
		set(layout.PDMMIO, int(window>>21&511), window|data|layout.Large|layout.Uncached)
	}
	for area, n := range tables {
		set(layout.PDKernel, int(area), phys(n)|table)
	}
	for _, s := range segments {
		flags := uint64(layout.Present | layout.Accessed)
		if s.Write {
			flags |= layout.Writable | layout.Dirty
		}
		if !s.Exec {
			flags |= layout.NoExec
		}
		for at := uint64(0); at < s.Size; at += layout.PageSize {
			v := s.Virt + at
			set(tables[v>>21], int(v>>12&511), s.Phys+at|flags)
		}
	}
	return b
}
