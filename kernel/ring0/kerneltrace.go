package ring0

import (
	_ "unsafe" // for linkname

	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/mem"
)

// kernelTrace prints the functions on the stack that f's registers stand for. They need not be any good: only what is mapped is read, and
// of the Go runtime only a search in its tables is called, which needs no g. The caller of a function without a frame is missed, but for
// one that called what is no function.
func kernelTrace(f *frame) {
	rip, rbp := f.RIP, f.RBP
	if !kernelFrame(rip, rip) && f.RSP&7 == 0 && kernelPresent(f.RSP) {
		rip = *(*uint64)(mem.Pointer(f.RSP))
		kernelFrame(rip, rip-1)
	}
	for range 31 {
		if rbp&7 != 0 || !kernelPresent(rbp) || !kernelPresent(rbp+8) {
			return
		}
		next := *(*uint64)(mem.Pointer(rbp))
		rip = *(*uint64)(mem.Pointer(rbp + 8))
		if rip == 0 {
			return
		}
		if next <= rbp {
			next = 0
		}
		kernelFrame(rip, rip-1) // a call may be the last instruction of its function
		rbp = next
	}
}

// kernelFrame prints a line of the trace: rip, and the function that pc lies in. It reports whether there is one.
func kernelFrame(rip, pc uint64) bool {
	kernelPrint("  ")
	kernelPrintHex(rip)
	function, module := findfunc(pc)
	if function == 0 || module == 0 {
		kernelPrint("\n")
		return false
	}
	// runtime._func: the entry, then the name's offset in runtime.moduledata's second field; unchanged since Go 1.18.
	const nameOff, names, most = 4, 8, 256
	at := *(*uint64)(mem.Pointer(module + names)) + uint64(*(*uint32)(mem.Pointer(function + nameOff)))
	size := 0
	for size < most && kernelPresent(at+uint64(size)) && *(*byte)(mem.Pointer(at + uint64(size))) != 0 {
		size++
	}
	kernelPrint(" ")
	kernelConsole(mem.Pointer(at), size)
	kernelPrint("\n")
	return true
}

// findfunc returns the addresses of the runtime._func and runtime.moduledata of the function that pc lies in; 0 for none.
//
//go:linkname findfunc runtime.findfunc
func findfunc(pc uint64) (function, module uint64)

// kernelPresent reports whether the word at an address of the kernel's image, BSS or heap can be read.
func kernelPresent(addr uint64) bool {
	const image = layout.KernelBase + layout.KernelPhys
	switch {
	case addr >= image && addr < bssStart:
		return true
	case addr >= bssStart && addr < bssEnd, addr >= layout.HeapBase && addr < heapNext:
		return mem.KernelHas(addr)
	}
	return false
}
