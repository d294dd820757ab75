package ring0

import (
	"runtime"

	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/mem"
)

// kernelTrace prints the functions on the stack that rip and rbp stand for.
func kernelTrace(rip, rbp uint64) {
	for range 32 {
		kernelPrint("  ")
		kernelPrintHex(rip)
		if fn := runtime.FuncForPC(uintptr(rip)); fn != nil {
			kernelPrint(" ")
			kernelPrint(fn.Name())
		}
		kernelPrint("\n")
		if rbp&7 != 0 || rbp < layout.HeapBase || !kernelPresent(rbp) || !kernelPresent(rbp+8) {
			return
		}
		next := *(*uint64)(mem.Pointer(rbp))
		rip = *(*uint64)(mem.Pointer(rbp + 8))
		if next <= rbp || rip == 0 {
			return
		}
		rbp = next
	}
}

func kernelPresent(addr uint64) bool {
	if addr >= layout.KernelBase+layout.KernelPhys {
		return true
	}
	return addr >= layout.HeapBase && addr < heapNext && mem.KernelHas(addr&^(mem.PageSize-1))
}
