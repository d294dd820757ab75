// Package layout holds the kernel's map of memory, the code that enters long mode and the page tables it enters with. The
// host's linker (kernel/link) writes them into the kernel file, so a boot spends no instruction on building them; the guest
// uses the same constants.
//
//	physical             virtual                                what
//	0x100000             identity until the Go runtime starts   this package's segment: trampoline, GDT, notes, page tables
//	0x200000 up          KernelBase + physical                  the kernel: text, rodata, data, BSS; W^X, 4 KiB pages
//	end of kernel up     only the direct map                    page frames
//	0-1 GiB              DirectMap + physical                   RAM: writable, never executable, 2 MiB pages
//	3 GiB + 0x3ea00000.. DirectMap + physical                   device windows, uncached
//	-                    HeapBase, 512 GiB                      the Go runtime's mappings, filled by page faults
//
// The lower half of the address space (PML4 slots 0 to 255) is the program's. BSS lies in RAM right after the data and is
// not cleared: a PVH loader hands over memory that is zero (QEMU's, Firecracker's and every other VMM's RAM starts so), and
// clearing it would touch pages that no boot uses.
package layout

import "encoding/binary"

const (
	KernelBase = 0xffffffff80000000 // virtual minus physical address of the kernel's image
	KernelPhys = 0x200000           // physical address of the kernel's first page
	TextStart  = KernelBase + KernelPhys + 0x1000
	DirectMap  = 0xffff800000000000
	HeapBase   = 0xffffc00000000000
	HeapSize   = 1 << 39
	UserEnd    = 0x00007ffffffff000 // first address above the program's

	// The low segment.
	LowPhys    = 0x100000
	gdtOff     = 0x100 // eight descriptors
	gdtrOff    = 0x180
	NotesOff   = 0x1000 // notes, with the parameters
	NotesSize  = tablesOff - NotesOff
	ParamsPhys = LowPhys + NotesOff + 24 // the descriptor of the first note, named "Firstlight"
	tablesOff  = 0x4000
	Entry32    = LowPhys // PVH entry
	GDTPhys    = LowPhys + gdtOff
	RootPhys   = LowPhys + tablesOff
	pml4       = 0 // indices of table pages
	pdptDirect = 1
	pdptKernel = 2
	pdptHeap   = 3
	pdDirect   = 4
	pdMMIO     = 5
	pdKernel   = 6
	ptKernel   = 7
	KernelPTs  = 4 // page tables for the kernel's image: 8 MiB of it, from physical 2 MiB on
	tablePages = ptKernel + KernelPTs
	LowSize    = tablesOff + tablePages*pageSize

	pageSize = 4096

	// MaxKernelEnd bounds the physical end of the kernel's BSS.
	MaxKernelEnd = KernelPhys + KernelPTs<<21
)

// Selectors in the GDT. SYSCALL wants kernel stack after kernel code; SYSRET wants 32-bit code, stack, 64-bit code.
const (
	KernelCS = 0x08
	KernelSS = 0x10
	UserSS   = 0x20 | 3
	UserCS   = 0x28 | 3
	TaskSel  = 0x30
	StarUser = 0x18 | 3
)

// Page-table entry bits.
const (
	Present  = 1 << 0
	Writable = 1 << 1
	User     = 1 << 2
	uncached = 1<<3 | 1<<4
	accessed = 1 << 5
	dirty    = 1 << 6
	Large    = 1 << 7
	NoExec   = 1 << 63
)

// Segment is one loaded piece of the kernel's image.
type Segment struct {
	Phys, Size  uint64 // bytes
	Write, Exec bool
}

// trampoline is the code at the PVH entry. In: EBX = physical address of hvm_start_info, 32-bit protected mode, no paging.
// Out, in 64-bit mode at the kernel's entry: RBX unchanged, RDI:RSI = the TSC at entry, page tables of this package, no stack.
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

// Low returns the low segment for a kernel: entry is the virtual address of its 64-bit entry, taskState the virtual address
// of its 104-byte task state segment, segments its image with BSS, guards the physical pages that stay unmapped below its
// stacks. The notes' pages are zero and the caller's to fill.
func Low(entry, taskState uint64, segments []Segment, guards []uint64) []byte {
	b := make([]byte, LowSize)
	le := binary.LittleEndian
	copy(b, trampoline)
	le.PutUint32(b[opRoot:], RootPhys)
	le.PutUint32(b[opGDTR:], LowPhys+gdtrOff)
	le.PutUint32(b[opLong:], LowPhys+offLong)
	le.PutUint64(b[opEntry:], entry)

	gdt := b[gdtOff:]
	le.PutUint64(gdt[KernelCS:], 0x00af9b000000ffff)
	le.PutUint64(gdt[KernelSS:], 0x00cf93000000ffff)
	le.PutUint64(gdt[0x18:], 0x00cffb000000ffff) // 32-bit user code: SYSRET counts from here, nothing runs in it
	le.PutUint64(gdt[0x20:], 0x00cff3000000ffff)
	le.PutUint64(gdt[0x28:], 0x00affb000000ffff)
	const tssLimit = 103
	le.PutUint64(gdt[TaskSel:], tssLimit|(taskState&0xffffff)<<16|0x89<<40|(taskState>>24&0xff)<<56)
	le.PutUint64(gdt[TaskSel+8:], taskState>>32)
	le.PutUint16(b[gdtrOff:], 8*8-1)
	le.PutUint64(b[gdtrOff+2:], GDTPhys)

	page := func(n int) []byte { return b[tablesOff+n*pageSize:][:pageSize] }
	phys := func(n int) uint64 { return RootPhys + uint64(n)*pageSize }
	set := func(table, index int, v uint64) { le.PutUint64(page(table)[8*index:], v) }

	const table = Present | Writable | accessed
	// Not global: the identity map shares these entries and must not outlive its removal in the TLB.
	const data = Present | Writable | accessed | dirty
	set(pml4, 0, phys(pdptDirect)|table) // the identity map under the trampoline; the guest removes it
	set(pml4, 256, phys(pdptDirect)|table|NoExec)
	set(pml4, 384, phys(pdptHeap)|table|NoExec)
	set(pml4, 511, phys(pdptKernel)|table)
	set(pdptDirect, 0, phys(pdDirect)|table)
	set(pdptDirect, 3, phys(pdMMIO)|table)
	set(pdptKernel, 510, phys(pdKernel)|table)
	for i := range 512 {
		set(pdDirect, i, uint64(i)<<21|data|Large)
	}
	for _, window := range []uint64{0xfea00000, 0xfec00000, 0xfee00000} {
		set(pdMMIO, int(window>>21&511), window|data|Large|uncached)
	}
	for i := range KernelPTs {
		set(pdKernel, 1+i, phys(ptKernel+i)|table)
	}
	for _, s := range segments {
		flags := uint64(Present | accessed)
		if s.Write {
			flags |= Writable | dirty
		}
		if !s.Exec {
			flags |= NoExec
		}
		for p := s.Phys; p < s.Phys+s.Size; p += pageSize {
			i := int(p-KernelPhys) / pageSize
			set(ptKernel+i/512, i%512, p|flags)
		}
	}
	for _, p := range guards {
		i := int(p-KernelPhys) / pageSize
		set(ptKernel+i/512, i%512, 0)
	}
	return b
}
