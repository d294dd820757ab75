package link

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
)

// ErrNotKernel is a file that BzImage cannot take.
var ErrNotKernel = errors.New("not a kernel file of kernel/link")

// A bzImage is what Linux's boot protocol (Documentation/arch/x86/boot.rst, version 2.12) loads:
//
//	0        setup: 4096 bytes, loaded anywhere below 1 MiB. It is its own zero page when its 16-bit entry is used
//	0x1f1    setup header
//	0x200    16-bit entry: asks the BIOS for the memory map and goes on at 1 MiB in protected mode
//	0x1000   physical memory from 1 MiB on, as it is to be: low segment, bridge, gap of zeros, text, rodata, data
//
// The 32-bit entry lies at 1 MiB, where the PVH entry is: a jump to the bridge stands there until the bridge has put the
// PVH entry back. Nothing is copied to its place, at the price of a file with some 900 KiB of zeros.
const (
	setupSize = 8 * 512

	// Offsets in the setup header, which is also in the zero page.
	hdrSetupSects = 0x1f1
	hdrSysSize    = 0x1f4 // in units of 16 bytes
	hdrBootFlag   = 0x1fe
	hdrJump       = 0x200
	hdrMagic      = 0x202
	hdrVersion    = 0x206
	hdrName       = 0x20e // minus 0x200
	hdrLoadFlags  = 0x211
	hdrCode32     = 0x214
	hdrDisk       = 0x218 // initial RAM disk: address and size, filled in by the loader
	hdrCmdline    = 0x228 // filled in by the loader
	hdrInitrdMax  = 0x22c
	hdrAlignment  = 0x230
	hdrMinAlign   = 0x235
	hdrCmdlineMax = 0x238
	hdrPreferred  = 0x258
	hdrInitSize   = 0x260
	hdrEnd        = 0x268

	// Offsets in the zero page (Documentation/arch/x86/zero-page.rst).
	zeroE820Count = 0x1e8
	zeroE820      = 0x2d0
	e820Size      = 20
	e820Max       = 128

	// In the setup, behind the memory map.
	setupCode = zeroE820 + e820Max*e820Size
	setupGDT  = setupCode + 0x80 // null, null, code, data: 0x10 and 0x18 are flat, as at the 32-bit entry
	setupGDTR = setupGDT + 0x20
	setupName = setupGDTR + 0x10

	// The bridge's two pages lie behind the low segment.
	bridgeStart = 0x100 // hvm_start_info
	bridgeDisk  = 0x180 // its list of modules: the initial RAM disk, of no bytes when there is none
	bridgeMap   = 0x200 // its memory map
	bridgeLine  = 0x1000
	bridgeSize  = 0x2000

	// maxKernelEnd bounds the physical end of a kernel's BSS.
	maxKernelEnd = 64 << 20

	// MaxCommandLine is how many bytes of command line a loader may pass.
	MaxCommandLine = 4095
)

// setup16 is the code of the 16-bit entry. In: real mode, DS, ES and SS the segment of the setup, interrupts off, the A20
// line open, since the loader has written above 1 MiB. Out: at the 32-bit entry, ESI the zero page.
var setup16 = []byte{
	0xfc,             // cld
	0x66, 0x31, 0xdb, // xor %ebx,%ebx
	0xbf, zeroE820 & 0xff, zeroE820 >> 8, // mov $e820,%di
	// next:
	0x66, 0xb8, 0x20, 0xe8, 0, 0, // mov $0xe820,%eax
	0x66, 0xba, 0x50, 0x41, 0x4d, 0x53, // mov $"SMAP",%edx
	0x66, 0xb9, e820Size, 0, 0, 0, // mov $20,%ecx
	0xcd, 0x15, // int $0x15
	0x72, 0x1b, // jc done
	0x66, 0x3d, 0x50, 0x41, 0x4d, 0x53, // cmp $"SMAP",%eax
	0x75, 0x13, // jne done
	0x83, 0xc7, e820Size, // add $20,%di
	0xfe, 0x06, zeroE820Count & 0xff, zeroE820Count >> 8, // incb count
	0x80, 0x3e, zeroE820Count & 0xff, zeroE820Count >> 8, e820Max, // cmpb $128,count
	0x73, 0x05, // jae done
	0x66, 0x85, 0xdb, // test %ebx,%ebx
	0x75, 0xcf, // jne next
	// done:
	0xfa,             // cli
	0x66, 0x31, 0xf6, // xor %esi,%esi
	0x8c, 0xde, // mov %ds,%si
	0x66, 0xc1, 0xe6, 0x04, // shl $4,%esi
	0x67, 0x66, 0x8d, 0x86, setupGDT & 0xff, setupGDT >> 8, 0, 0, // lea gdt(%esi),%eax
	0x66, 0xa3, (setupGDTR + 2) & 0xff, (setupGDTR + 2) >> 8, // mov %eax,gdtr+2
	0x66, 0x0f, 0x01, 0x16, setupGDTR & 0xff, setupGDTR >> 8, // lgdt gdtr
	0x0f, 0x20, 0xc0, // mov %cr0,%eax
	0x0c, 0x01, // or $1,%al
	0x0f, 0x22, 0xc0, // mov %eax,%cr0
	0x66, 0xea, 0, 0, 0x10, 0, 0x10, 0, // ljmpl $0x10,$0x100000
}

// bridge32 is the code of the bridge. In: 32-bit protected mode, flat, selectors 0x10 and 0x18, ESI the zero page. Out: at
// the PVH entry with EBX = hvm_start_info (Xen, public/arch-x86/hvm/start_info.h). Loaders are free to leave bytes behind
// the file's end, as QEMU does with its setup_data, so BSS is cleared.
var bridge32 = []byte{
	0xb8, 0x18, 0, 0, 0, // mov $0x18,%eax
	0x8e, 0xd8, // mov %eax,%ds
	0x8e, 0xc0, // mov %eax,%es
	0x8e, 0xd0, // mov %eax,%ss
	0xfc,                                                 // cld
	0x8b, 0x9e, hdrCmdline & 0xff, hdrCmdline >> 8, 0, 0, // mov cmdline(%esi),%ebx
	0x0f, 0xb6, 0x96, zeroE820Count & 0xff, zeroE820Count >> 8, 0, 0, // movzbl count(%esi),%edx
	0x89, 0x15, 0, 0, 0, 0, // mov %edx,memmap_entries
	0x8b, 0x86, hdrDisk & 0xff, hdrDisk >> 8, 0, 0, // mov disk(%esi),%eax
	0xa3, 0, 0, 0, 0, // mov %eax,address
	0x8b, 0x86, (hdrDisk + 4) & 0xff, hdrDisk >> 8, 0, 0, // mov disk+4(%esi),%eax
	0xa3, 0, 0, 0, 0, // mov %eax,size
	0x8d, 0xb6, zeroE820 & 0xff, zeroE820 >> 8, 0, 0, // lea e820(%esi),%esi
	0xbf, 0, 0, 0, 0, // mov $memmap,%edi
	// entry:
	0x4a,       // dec %edx
	0x78, 0x0a, // js mapped
	0xb9, 5, 0, 0, 0, // mov $5,%ecx
	0xf3, 0xa5, // rep movsl
	0xaf,       // scasl: over the reserved word
	0xeb, 0xf3, // jmp entry
	// mapped:
	0x85, 0xdb, // test %ebx,%ebx
	0x74, 0x0e, // je copied
	0x89, 0xde, // mov %ebx,%esi
	0xbf, 0, 0, 0, 0, // mov $line,%edi
	0xb9, 0xff, 3, 0, 0, // mov $1023,%ecx: the page's last word stays zero
	0xf3, 0xa5, // rep movsl
	// copied:
	0xbf, 0, 0, 0, 0, // mov $bss,%edi
	0xb9, 0, 0, 0, 0, // mov $words,%ecx
	0x31, 0xc0, // xor %eax,%eax
	0xf3, 0xab, // rep stosl
	0xc7, 0x05, 0, 0, 0x10, 0, 0, 0, 0, 0, // movl $entry,0x100000
	0xc6, 0x05, 4, 0, 0x10, 0, 0, // movb $entry+4,0x100004
	0xbb, 0, 0, 0, 0, // mov $start_info,%ebx
	0xb8, 0, 0, 0x10, 0, // mov $0x100000,%eax
	0xff, 0xe0, // jmp *%eax
}

// Offsets of the bridge's operands.
const (
	opEntries  = 0x1b
	opDisk     = 0x26
	opDiskSize = 0x31
	opMap      = 0x3c
	opLine     = 0x54
	opBSS      = 0x60
	opBSSWords = 0x65
	opFirst4   = 0x73
	opFifth    = 0x7d
	opStart    = 0x7f
)

// BzImage returns a kernel file that Link made, with or without parameters, in the form that loaders of Linux take. The
// kernel keeps its parameters and gets the loader's command line and initial RAM disk beside them. The error wraps
// ErrNotKernel.
func BzImage(kernel []byte) ([]byte, error) {
	bad := func(format string, args ...any) ([]byte, error) {
		return nil, fmt.Errorf("bzImage: %w: %w", ErrNotKernel, fmt.Errorf(format, args...))
	}
	f, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return bad("%w", err)
	}
	if f.Machine != elf.EM_X86_64 || f.Type != elf.ET_EXEC || f.Entry != layout.Entry32 {
		return bad("%v %v with its entry at %#x, want an x86-64 executable with its entry at %#x", f.Machine, f.Type, f.Entry, layout.Entry32)
	}
	const minLowSize = layout.TablesOff + (layout.PTKernel+1)*layout.PageSize
	var lowSize uint64
	var memory []byte // physical, from LowPhys on
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		at := uint64(layout.LowPhys + len(memory))
		switch {
		case p.Filesz != p.Memsz || p.Filesz%layout.PageSize != 0 || p.Off > uint64(len(kernel)) || p.Filesz > uint64(len(kernel))-p.Off:
			return bad("the segment at %#x is not whole", p.Paddr)
		case p.Paddr < at || p.Paddr > maxKernelEnd || p.Filesz > maxKernelEnd-p.Paddr:
			return bad("the segment at %#x, %d bytes, is not in its place", p.Paddr, p.Filesz)
		case memory == nil && (p.Paddr != layout.LowPhys || p.Filesz < minLowSize || p.Filesz > layout.MaxLowSize-bridgeSize):
			return bad("the first segment is at %#x, %d bytes long", p.Paddr, p.Filesz)
		case memory != nil && p.Paddr < layout.KernelPhys:
			return bad("the segment at %#x is in the bridge's place", p.Paddr)
		}
		if memory == nil {
			lowSize = p.Filesz
		}
		memory = append(memory, make([]byte, p.Paddr-at)...)
		memory = append(memory, kernel[p.Off:][:p.Filesz]...)
	}
	if len(memory) <= layout.KernelPhys-layout.LowPhys {
		return bad("it has no text")
	}
	end := kernelEnd(memory[:lowSize])
	bss := uint64(layout.LowPhys + len(memory))
	if end < bss || end > maxKernelEnd {
		return bad("its page tables end at %#x, its data at %#x", end, bss)
	}

	le := binary.LittleEndian
	bridge := memory[lowSize:][:bridgeSize]
	copy(bridge, bridge32)
	bridgePhys := uint32(layout.LowPhys + lowSize)
	start := bridgePhys + bridgeStart
	le.PutUint32(bridge[opEntries:], start+startEntries)
	le.PutUint32(bridge[opDisk:], bridgePhys+bridgeDisk)
	le.PutUint32(bridge[opDiskSize:], bridgePhys+bridgeDisk+8)
	le.PutUint32(bridge[opMap:], bridgePhys+bridgeMap)
	le.PutUint32(bridge[opLine:], bridgePhys+bridgeLine)
	le.PutUint32(bridge[opBSS:], uint32(bss))
	le.PutUint32(bridge[opBSSWords:], uint32((end-bss)/4))
	copy(bridge[opFirst4:][:4], memory)
	bridge[opFifth] = memory[4]
	le.PutUint32(bridge[opStart:], start)
	info := bridge[bridgeStart:]
	le.PutUint32(info[startMagic:], startMagicValue)
	le.PutUint32(info[startVersion:], 1)
	le.PutUint32(info[startModules:], 1)
	le.PutUint64(info[startModlist:], uint64(bridgePhys+bridgeDisk))
	le.PutUint64(info[startLine:], uint64(bridgePhys+bridgeLine))
	le.PutUint64(info[startMap:], uint64(bridgePhys+bridgeMap))
	memory[0] = 0xe9 // jmp bridge
	le.PutUint32(memory[1:], bridgePhys-(layout.LowPhys+5))

	out := make([]byte, setupSize, setupSize+len(memory))
	out[hdrSetupSects] = setupSize/512 - 1
	le.PutUint32(out[hdrSysSize:], uint32(len(memory)/16))
	le.PutUint16(out[hdrBootFlag:], 0xaa55)
	out[hdrJump], out[hdrJump+1] = 0xeb, hdrEnd-(hdrJump+2) // jmp to the header's end, which it tells so
	copy(out[hdrMagic:], "HdrS")
	le.PutUint16(out[hdrVersion:], 0x20c)
	le.PutUint16(out[hdrName:], setupName-0x200)
	out[hdrLoadFlags] = 1 // loaded high
	le.PutUint32(out[hdrCode32:], layout.LowPhys)
	le.PutUint32(out[hdrInitrdMax:], math.MaxInt32)
	le.PutUint32(out[hdrAlignment:], layout.PageSize)
	out[hdrMinAlign] = 12
	le.PutUint32(out[hdrCmdlineMax:], MaxCommandLine)
	le.PutUint64(out[hdrPreferred:], layout.LowPhys)
	le.PutUint32(out[hdrInitSize:], uint32(end-layout.LowPhys))
	out[hdrEnd] = 0xe9 // jmp setup16
	le.PutUint16(out[hdrEnd+1:], setupCode-(hdrEnd+3))
	copy(out[setupCode:], setup16)
	le.PutUint64(out[setupGDT+0x10:], 0x00cf9b000000ffff)
	le.PutUint64(out[setupGDT+0x18:], 0x00cf93000000ffff)
	le.PutUint16(out[setupGDTR:], 4*8-1)
	copy(out[setupName:], "Firstlight\x00")
	return append(out, memory...), nil
}

// Offsets in hvm_start_info.
const (
	startMagicValue = 0x336ec578
	startMagic      = 0
	startVersion    = 4
	startModules    = 12
	startModlist    = 16
	startLine       = 24
	startMap        = 40
	startEntries    = 48
)

// kernelEnd returns the physical end of the kernel's BSS: no header tells it, but the kernel's page tables, in low, map it.
func kernelEnd(low []byte) (end uint64) {
	const frame = 1<<52 - 1<<12
	for tables := low[layout.TablesOff+layout.PTKernel*layout.PageSize:]; len(tables) >= 8; tables = tables[8:] {
		if e := binary.LittleEndian.Uint64(tables); e&layout.Present != 0 {
			end = max(end, e&frame+layout.PageSize)
		}
	}
	return end
}
