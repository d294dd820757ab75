package link

import (
	"encoding/binary"
	"fmt"

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

	// The kernel, with the stack of all else that could complain, has to lie in one piece of RAM.
	0x81, 0x3b, 0x78, 0xc5, 0x6e, 0x33, // cmpl $0x336ec578,(%ebx)
	0x75, 0x45, // jne enough
	0x8b, 0x43, 0x28, // mov 0x28(%ebx),%eax
	0x8b, 0x4b, 0x30, // mov 0x30(%ebx),%ecx
	0x31, 0xed, // xor %ebp,%ebp
	// entry:
	0x83, 0xe9, 0x01, // sub $0x1,%ecx
	0x0f, 0x82, 0xdf, 0x01, 0x00, 0x00, // jb tooSmall
	0x83, 0x78, 0x10, 0x01, // cmpl $0x1,0x10(%eax)
	0x75, 0x29, // jne next
	0x83, 0x78, 0x04, 0x00, // cmpl $0x0,0x4(%eax)
	0x75, 0x23, // jne next
	0x8b, 0x10, // mov (%eax),%edx
	0x81, 0xfa, 0x00, 0x00, 0x20, 0x00, // cmp $0x200000,%edx
	0x77, 0x19, // ja next
	0x03, 0x50, 0x08, // add 0x8(%eax),%edx
	0x72, 0x19, // jb enough
	0x83, 0x78, 0x0c, 0x00, // cmpl $0x0,0xc(%eax)
	0x75, 0x13, // jne enough
	0x81, 0xfa, 0, 0, 0, 0, // cmp $imageEnd,%edx
	0x73, 0x0b, // jae enough
	0x39, 0xea, // cmp %ebp,%edx
	0x72, 0x02, // jb next
	0x89, 0xd5, // mov %edx,%ebp
	// next:
	0x83, 0xc0, 0x18, // add $0x18,%eax
	0xeb, 0xc3, // jmp entry
	// enough:
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
	opImageEnd = 0x44
	opRoot     = 86
	opGDTR     = 126
	opLong     = 131
	offLong    = 137
	opEntry    = 156
)

// tooSmall is the code that tells of a machine whose RAM ends before the kernel does, at EBP, and ends it as one whose app could not be
// started for want of memory. Its stack is the rest of its page.
var tooSmall = []byte{
	0xbc, 0x00, 0x10, 0x10, 0x00, // mov $0x101000,%esp
	0xba, 0xff, 0x03, 0x00, 0x00, // mov $0x3ff,%edx
	0xb0, 0x5a, // mov $0x5a,%al
	0xee,       // out %al,(%dx)
	0xec,       // in (%dx),%al
	0x3c, 0x5a, // cmp $0x5a,%al
	0x75, 0x41, // jne end
	0xbe, 0x00, 0x03, 0x10, 0x00, // mov $0x100300,%esi
	// setup:
	0x31, 0xd2, // xor %edx,%edx
	0xac,       // lods %ds:(%esi),%al
	0xb6, 0x03, // mov $0x3,%dh
	0x88, 0xc2, // mov %al,%dl
	0xac,             // lods %ds:(%esi),%al
	0xee,             // out %al,(%dx)
	0x80, 0xfa, 0xfc, // cmp $0xfc,%dl
	0x75, 0xf2, // jne setup
	0xe8, 0x4c, 0x00, 0x00, 0x00, // call print
	0xc1, 0xed, 0x0a, // shr $0xa,%ebp
	0x89, 0xe8, // mov %ebp,%eax
	0xb9, 0x0a, 0x00, 0x00, 0x00, // mov $0xa,%ecx
	0x6a, 0x00, // push $0x0
	// digit:
	0x31, 0xd2, // xor %edx,%edx
	0xf7, 0xf1, // div %ecx
	0x83, 0xc2, 0x30, // add $0x30,%edx
	0x52,       // push %edx
	0x85, 0xc0, // test %eax,%eax
	0x75, 0xf4, // jne digit
	// number:
	0x58,       // pop %eax
	0x85, 0xc0, // test %eax,%eax
	0x74, 0x07, // je rest
	0xe8, 0x36, 0x00, 0x00, 0x00, // call put
	0xeb, 0xf4, // jmp number
	// rest:
	0xe8, 0x23, 0x00, 0x00, 0x00, // call print
	// end:
	0xba, 0xf0, 0x03, 0x00, 0x00, // mov $0x3f0,%edx
	0xb0, 0x06, // mov $0x6,%al
	0xee,       // out %al,(%dx)
	0xb0, 0x04, // mov $0x4,%al
	0xee,       // out %al,(%dx)
	0xb0, 0x0c, // mov $0xc,%al
	0xee,                         // out %al,(%dx)
	0xba, 0x01, 0x05, 0x00, 0x00, // mov $0x501,%edx
	0xb0, 0x7f, // mov $0x7f,%al
	0xee,       // out %al,(%dx)
	0xb0, 0xfe, // mov $0xfe,%al
	0xe6, 0x64, // out %al,$0x64
	0x6a, 0x00, // push $0x0
	0x6a, 0x00, // push $0x0
	0x0f, 0x01, 0x1c, 0x24, // lidtl (%esp)
	0xcc, // int3
	// print:
	0xac,       // lods %ds:(%esi),%al
	0x84, 0xc0, // test %al,%al
	0x74, 0x20, // je printed
	0xe8, 0x02, 0x00, 0x00, 0x00, // call put
	0xeb, 0xf4, // jmp print
	// put:
	0x88, 0xc4, // mov %al,%ah
	0xba, 0xfd, 0x03, 0x00, 0x00, // mov $0x3fd,%edx
	0xb9, 0x00, 0x00, 0x10, 0x00, // mov $0x100000,%ecx
	// full:
	0xec,       // in (%dx),%al
	0xa8, 0x20, // test $0x20,%al
	0xe1, 0xfb, // loope full
	0xba, 0xf8, 0x03, 0x00, 0x00, // mov $0x3f8,%edx
	0x88, 0xe0, // mov %ah,%al
	0xee, // out %al,(%dx)
	// printed:
	0xc3, // ret
}

// Offsets in the low segment.
const (
	offTooSmall  = 0x200
	offSmallText = 0x300
)

// smallText is what tooSmall reads: how to set up the serial port (register, value), then the two parts of its line.
func smallText(imageEnd uint64) string {
	const setUp = "\xf9\x00\xfb\x80\xf8\x01\xf9\x00\xfb\x03\xfa\x07\xfc\x03" // as ring0 does
	return setUp + "firstlight: out of memory: RAM ends at \x00" +
		fmt.Sprintf(" KiB, and the kernel alone takes it up to %d KiB. The program is not started: give the machine more --memory\n\x00", (imageEnd+1023)>>10)
}

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
	imageEnd := uint64(0)
	for _, s := range segments {
		imageEnd = max(imageEnd, s.Phys+s.Size)
	}
	le.PutUint32(b[opImageEnd:], uint32(imageEnd))
	copy(b[offTooSmall:offSmallText], tooSmall)
	copy(b[offSmallText:layout.NotesOff], smallText(imageEnd))
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
