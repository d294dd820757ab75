//go:build firstlight_trace

package ring0

import (
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/mem"
)

// kernelCall prints a system call of the Go runtime, with its arguments, until the kernel's main runs. Only the kernel of the test that
// compares them with those of the Go release that this package was written for is built so.
func kernelCall(f *frame) {
	if *(*uint32)(unsafe.Pointer(&bootRecord[abi.RecNumMarks])) > 1 {
		return
	}
	kernelPrint("call ")
	for _, v := range [...]uint64{f.RAX, f.RDI, f.RSI, f.RDX, f.R10} {
		kernelPrintHex(v)
		kernelPrint(" ")
	}
	if f.RAX == sysOpenat {
		for at := f.RSI; kernelMapped(at) && *(*byte)(mem.Pointer(at)) != 0; at++ {
			kernelConsole(mem.Pointer(at), 1)
		}
	}
	kernelPrint("\n")
}
