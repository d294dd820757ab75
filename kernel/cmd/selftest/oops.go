package main

import (
	"strings"
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
)

// What the entry code calls in kernel context, which is replaced by what faults there.
var (
	//go:linkname syscallFn github.com/firstlight-boot/firstlight/kernel/ring0.syscallFn
	syscallFn func(unsafe.Pointer) unsafe.Pointer
	//go:linkname trapFn github.com/firstlight-boot/firstlight/kernel/ring0.trapFn
	trapFn func(unsafe.Pointer) unsafe.Pointer
	//go:linkname userInterruptFn github.com/firstlight-boot/firstlight/kernel/ring0.userInterruptFn
	userInterruptFn func(unsafe.Pointer) bool
)

func overflowTrap()
func taskRegister() uint64

// oops ends the kernel in the way that the command line names, if it does. Each has to be told with a whole trace.
func oops() {
	line := strings.TrimSpace(string(ring0.CommandLine()))
	_, how, _ := strings.Cut(line, "oops=")
	how, _, _ = strings.Cut(how, " ")
	switch how {
	case "ordinary": // a trap that nobody expects of ordinary Go
		overflowTrap()
	case "call":
		syscallFn = faultsInCall
		ring0.Idle(1)
	case "overflow":
		syscallFn = overflows
		ring0.Idle(1)
	case "wild":
		syscallFn = jumps
		ring0.Idle(1)
	case "trap":
		trapFn = faultsInCall
		zero += int(*(*byte)(mem.Pointer(layout.HeapBase + layout.HeapSize - 1)))
	case "interrupt":
		c, _, err := program("\xeb\xfe") // jmp .
		if err != nil {
			println(err.Error())
			return
		}
		userInterruptFn = faultsInInterrupt
		for {
			ring0.Enter(c, ring0.Nanotime()+1e6)
		}
	case "double": // what is pushed to is not there
		descriptor := (*[2]uint64)(mem.Pointer(layout.DirectMap + layout.GDTPhys + taskRegister()))
		task := descriptor[0]>>16&0xffffff | descriptor[0]>>56<<24 | descriptor[1]<<32
		const firstStack = 36
		*(*uint64)(mem.Pointer(task + firstStack)) = layout.HeapBase + layout.HeapSize - 64
		zero += int(*(*byte)(nil))
	}
}

//go:noinline
func faultsInCall(unsafe.Pointer) unsafe.Pointer {
	faults1(&zero)
	return nil
}

//go:noinline
func faultsInInterrupt(unsafe.Pointer) bool {
	faults1(&zero)
	return true
}

// faults1 has a frame, as overflowTrap does.
//
//go:noinline
func faults1(n *int) {
	var pad [128]byte
	pad[*n&127]++
	*n += int(*(*byte)(mem.Pointer(0x123456))) + int(pad[*n&63])
}

//go:noinline
func overflows(unsafe.Pointer) unsafe.Pointer {
	zero = deeper(zero, [64]int{})
	return nil
}

//go:noinline
func deeper(n int, pad [64]int) int {
	if n < 0 { // never
		return n
	}
	pad[n&63]++
	return deeper(n+1, pad) + pad[n&31]
}

// jumps calls what is no function, from a frame that is none either.
//
//go:noinline
func jumps(unsafe.Pointer) unsafe.Pointer {
	nowhere := uint64(0x7000)
	at := &nowhere
	(*(*func())(unsafe.Pointer(&at)))()
	return nil
}
