package qemu

import (
	"debug/elf"
	"encoding/binary"

	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// FloorExit is what the floor guest's GuestExit returns. It is not 0, so that it cannot be taken for a failure of QEMU.
const FloorExit = 42

// FloorKernel returns the floor guest: a PVH ELF whose first act is to write FloorExit to the exit port. Boot it as
// Config.KernelImage with everything else as in the boots that it is compared with.
func FloorKernel() []byte {
	return pvhELF([]byte{
		0x66, 0xba, abi.PortExit & 0xff, abi.PortExit >> 8, // mov dx, PortExit
		0xb8, FloorExit, 0, 0, 0, // mov eax, FloorExit
		0xef,       // out dx, eax
		0xf4,       // hlt
		0xeb, 0xfd, // jmp hlt
	})
}

// Where pvhELF puts the guest's code.
const (
	guestEntry  = 0x100000
	guestOffset = 4096 // in the file
)

// pvhELF returns an ELF64 file that loads code at guestEntry and is entered there in 32-bit protected mode with flat
// segments, paging and interrupts off (Xen, docs/misc/pvh.pandoc).
func pvhELF(code []byte) []byte {
	le := binary.LittleEndian
	const (
		ehdr  = 64
		phdr  = 56
		note  = ehdr + 2*phdr
		nsize = 12 + 4 + 8
	)
	f := make([]byte, guestOffset, guestOffset+len(code))
	copy(f, "\x7fELF\x02\x01\x01")
	le.PutUint16(f[16:], uint16(elf.ET_EXEC))
	le.PutUint16(f[18:], uint16(elf.EM_X86_64))
	le.PutUint32(f[20:], 1) // version
	le.PutUint64(f[24:], guestEntry)
	le.PutUint64(f[32:], ehdr) // program headers
	le.PutUint16(f[52:], ehdr)
	le.PutUint16(f[54:], phdr)
	le.PutUint16(f[56:], 2) // of them

	segment := func(at int, typ elf.ProgType, flags elf.ProgFlag, off, addr, size, align uint64) {
		p := f[at:]
		le.PutUint32(p[0:], uint32(typ))
		le.PutUint32(p[4:], uint32(flags))
		le.PutUint64(p[8:], off)
		le.PutUint64(p[16:], addr) // virtual
		le.PutUint64(p[24:], addr) // physical
		le.PutUint64(p[32:], size) // in the file
		le.PutUint64(p[40:], size) // in memory
		le.PutUint64(p[48:], align)
	}
	segment(ehdr, elf.PT_LOAD, elf.PF_R|elf.PF_W|elf.PF_X, guestOffset, guestEntry, uint64(len(code)), 4096)
	segment(ehdr+phdr, elf.PT_NOTE, elf.PF_R, note, 0, nsize, 4)

	n := f[note:]
	le.PutUint32(n[0:], uint32(len(abi.XenNoteName)+1))
	le.PutUint32(n[4:], 8) // descriptor
	le.PutUint32(n[8:], abi.XenNotePhys32)
	copy(n[12:], abi.XenNoteName)
	le.PutUint64(n[16:], guestEntry)
	return append(f, code...)
}

// probeExit is what the probe guest exits with. It computes it with SSE.
const probeExit = 42

// probeKernel returns a PVH ELF that enters long mode, computes with SSE, saves and restores the SSE state, and exits
// with probeExit. Hosts whose KVM emulates ring 0 one instruction at a time fail at the SSE instructions.
func probeKernel() []byte {
	le := binary.LittleEndian
	const (
		gdtr  = 0x400 // offsets from guestEntry
		gdt   = 0x410
		fx    = 0x600 // FXSAVE area: 512 bytes, 16-aligned
		pml4  = 0x1000
		pdpt  = 0x2000
		pd    = 0x3000
		total = 0x4000
		long  = 58 // offset of the 64-bit code below
	)
	at := func(off uint32) (a, b, c, d byte) {
		v := guestEntry + off
		return byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)
	}
	var code []byte
	emit := func(b ...byte) { code = append(code, b...) }
	abs := func(off uint32) { a, b, c, d := at(off); emit(a, b, c, d) }

	emit(0x0f, 0x01, 0x15) // lgdt [gdtr]
	abs(gdtr)
	emit(0xb8) // mov eax, pml4
	abs(pml4)
	emit(
		0x0f, 0x22, 0xd8, // mov cr3, eax
		0xb8, 0x20, 0x06, 0, 0, // mov eax, PAE|OSFXSR|OSXMMEXCPT
		0x0f, 0x22, 0xe0, // mov cr4, eax
		0xb9, 0x80, 0, 0, 0xc0, // mov ecx, IA32_EFER
		0x0f, 0x32, // rdmsr
		0x0d, 0, 1, 0, 0, // or eax, LME
		0x0f, 0x30, // wrmsr
		0x0f, 0x20, 0xc0, // mov eax, cr0
		0x0d, 0x03, 0, 0, 0x80, // or eax, PG|MP|PE
		0x83, 0xe0, 0xfb, // and eax, ~EM
		0x0f, 0x22, 0xc0, // mov cr0, eax
		0xea) // jmp 8:long
	abs(long)
	emit(8, 0)
	if len(code) != long {
		panic("probeKernel: the 64-bit code is not where the jump goes") // a constant of this file, not input
	}
	emit(
		0xbf) // mov edi, fx
	abs(fx)
	emit(
		0x0f, 0x57, 0xc0, // xorps xmm0, xmm0
		0xb8, probeExit/2, 0, 0, 0, // mov eax, probeExit/2
		0xf2, 0x0f, 0x2a, 0xc8, // cvtsi2sd xmm1, eax
		0xf2, 0x0f, 0x58, 0xc9, // addsd xmm1, xmm1
		0x0f, 0xae, 0x07, // fxsave [rdi]
		0x0f, 0x57, 0xc9, // xorps xmm1, xmm1
		0x0f, 0xae, 0x0f, // fxrstor [rdi]
		0x0f, 0x29, 0x07, // movaps [rdi], xmm0
		0xf2, 0x0f, 0x58, 0xc8, // addsd xmm1, xmm0
		0xf2, 0x0f, 0x2c, 0xc1, // cvttsd2si eax, xmm1
		0x66, 0xba, abi.PortExit&0xff, abi.PortExit>>8, // mov dx, PortExit
		0xef,       // out dx, eax
		0xf4,       // hlt
		0xeb, 0xfd) // jmp hlt

	image := make([]byte, total)
	copy(image, code)
	le.PutUint16(image[gdtr:], 3*8-1)
	le.PutUint32(image[gdtr+2:], guestEntry+gdt)
	le.PutUint64(image[gdt+8:], 0x00af9b000000ffff)  // 64-bit code
	le.PutUint64(image[gdt+16:], 0x00cf93000000ffff) // data
	const present, writable, huge = 1, 2, 1 << 7
	le.PutUint64(image[pml4:], guestEntry+pdpt|present|writable)
	le.PutUint64(image[pdpt:], guestEntry+pd|present|writable)
	le.PutUint64(image[pd:], 0|present|writable|huge) // the first 2 MiB, as they are
	return pvhELF(image)
}
