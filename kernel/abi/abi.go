// Package abi holds what the kernel and the host agree on: note types, ports, mark bytes, the boot record. It is used by
// both sides and imports nothing. docs/guest-abi.md is its specification.
package abi

// Version of the contract; the kernel's build note carries it as abi=1 and the host refuses any other.
const Version = 1

// ELF notes of a kernel file.
const (
	XenNoteName      = "Xen"
	XenNotePhys32    = 18 // descriptor: u64 physical address of the PVH entry
	NoteName         = "Firstlight"
	NoteParams       = 1 // descriptor: the parameter area
	NoteRecord       = 2 // descriptor: u64 physical address, u64 size, u64 virtual address of the mark instruction
	NoteBuild        = 3 // descriptor: key=value lines
	ParamsSize       = 8 << 10
	MaxDiskSegments  = 6    // program headers that fit LBA 0 before the partition table
	KernelHeaderSize = 4096 // bytes of a kernel file before its first segment
)

// Ports.
const (
	PortSerial = 0x3f8
	PortMark   = 0x3f0
	PortExit   = 0x501
)

// Mark bytes.
const (
	MarkEntry  = 1 // kernel entry
	MarkMain   = 2 // the Go runtime is up
	MarkRoot   = 3 // root mounted
	MarkApp    = 4 // just before the app's first instruction
	MarkOutput = 5 // just before the first byte of the app's output
	MarkEnd    = 6 // followed by how and code
	MarkNamed  = 7 // followed by a length byte and a name
)

// How a boot ended: second byte of MarkEnd, field of the boot record.
const (
	EndNone     = 0
	EndExited   = 1 // code: exit code
	EndKilled   = 2 // code: signal number
	EndPanic    = 3 // the kernel panicked
	EndNotStart = 4 // the app could not be started; code: errno
)

// Boot record: byte offsets in the page.
const (
	RecordMagic     = "FLBOOTR1"
	RecordSize      = 4096
	RecNumMarks     = 8
	RecHow          = 12
	RecCode         = 16
	RecEntryTSC     = 24
	RecTSCHz        = 32
	RecPages        = 40
	RecPagesFree    = 48
	RecDiskRequests = 56
	RecDiskBytes    = 64
	RecMarks        = 128 // 16 bytes each: u64 mark byte, u64 TSC
	RecMaxMarks     = 128
	RecOwners       = RecMarks + 16*RecMaxMarks // a u64 for each owner: pages of RAM that are its own
)

// Owners of RAM. Each whole page of RAM that the loader's map names has exactly one; docs/guest-abi.md says which.
const (
	OwnFree = iota
	OwnLoader
	OwnImage
	OwnBSS
	OwnHeap
	OwnTables
	OwnCache
	OwnDevice
	OwnInitrd
	OwnApp
	OwnAppTables
	OwnFiles
	OwnPipes
	NumOwners
	MaxOwners = 16 // that the record has room for
)

// OwnerNames are the owners' names for people.
var OwnerNames = [NumOwners]string{"free", "loader", "kernel image", "kernel bss", "kernel heap", "kernel page tables", "page cache",
	"device buffers", "initrd", "app", "app page tables", "files in memory", "pipes"}
