// Package layout holds the kernel's map of memory, which the guest and the host's linker (kernel/link) share. The linker
// writes the page tables into the kernel file, so a boot spends no instruction on building them.
//
//	physical             virtual                                what
//	0x100000             identity until the Go runtime starts   this package's segment: trampoline, GDT, notes, page tables
//	0x200000 up          KernelBase + physical                  the kernel: text, rodata, data; W^X, 4 KiB pages
//	behind the data      behind the data, with gaps             the part of BSS that is there from the start
//	all other RAM        only the direct map                    page frames
//	all RAM              DirectMap + physical                   never executable, writable but for 2 to 4 MiB, 2 MiB pages; the first GiB from the start
//	3 GiB + 0x3ea00000.. DirectMap + physical                   device windows, Uncached
//	-                    HeapBase, 512 GiB                      the Go runtime's mappings, filled by page faults
//
// The lower half of the address space (PML4 slots 0 to 255) is the program's. BSS is not cleared: a PVH loader hands over memory
// that is zero (QEMU's, Firecracker's and every other VMM's RAM starts so), and clearing it would touch pages that no boot uses.
// The pages of a large array in BSS have no place in RAM until they are touched.
package layout

const (
	KernelBase = 0xffffffff80000000 // virtual minus physical address of the kernel's image
	KernelPhys = 0x200000           // physical address of the kernel's first page
	TextStart  = KernelBase + KernelPhys + 0x1000
	TextEnd    = KernelPhys + 2<<20 // physical end of what the kernel may execute; the direct map has it read-only
	DirectMap  = 0xffff800000000000
	HeapBase   = 0xffffc00000000000
	HeapSize   = 1 << 39
	UserEnd    = 0x00007ffffffff000 // first address above the program's

	// The low segment.
	LowPhys    = 0x100000
	GdtOff     = 0x100 // eight descriptors
	GdtrOff    = 0x180
	NotesOff   = 0x1000 // notes, with the parameters
	NotesSize  = TablesOff - NotesOff
	ParamsPhys = LowPhys + NotesOff + 24 // the descriptor of the first note, named "Firstlight"
	TablesOff  = 0x4000
	Entry32    = LowPhys // PVH entry
	GDTPhys    = LowPhys + GdtOff
	RootPhys   = LowPhys + TablesOff
	PML4       = 0 // indices of table pages
	PDPTDirect = 1
	PDPTKernel = 2
	PDPTHeap   = 3
	PDDirect   = 4
	PDMMIO     = 5
	PDKernel   = 6
	PTKernel   = 7 // and up: for each 2 MiB of the kernel of which something is mapped
	MaxLowSize = KernelPhys - LowPhys

	PageSize = 4096
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
	Uncached = 1<<3 | 1<<4
	Accessed = 1 << 5
	Dirty    = 1 << 6
	Large    = 1 << 7
	NoExec   = 1 << 63
)
