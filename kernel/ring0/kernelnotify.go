package ring0

import "github.com/firstlight-boot/firstlight/kernel/cpu"

var (
	// quiet is set while Notify waits: no thread's deadline is met, but after it.
	quiet bool
	// watches counts how often the timer has run out meanwhile.
	watches int
	// clockCounts: the clock counts instructions and jumps to the next timer when the CPU halts, as QEMU's does with
	// -icount sleep=off. A wait that a timer limits would end at once there, and none need be limited.
	clockCounts bool
)

const (
	watching    = ^uint64(0) // a deadline that the timer never reaches, but runs out for
	watchesMost = 3          // of 4.29 s each, the first of which may be shorter
)

// kernelNotify writes a register, if it is not 0, and makes t wait for a device interrupt.
func kernelNotify(t *thread, register uint64, v uint32) *thread {
	if register != 0 {
		irqPending = false
	}
	quiet, watches = !irqPending, 0
	if register != 0 {
		cpu.Store32(register, v)
	}
	return kernelIdle(t, 0)
}

// kernelWatched notes that the timer has run out while Notify waits, whose wait it ends with 1 when that was the last time.
func kernelWatched() {
	if watches++; watches < watchesMost {
		return
	}
	quiet = false
	for i := range numThreads {
		if t := &threads[i%maxThreads]; t.state == waiting && t.irq {
			kernelWake(t, 1)
		}
	}
}

// kernelCounts reports whether the clock counts instructions: it is QEMU's TCG, and each round of a loop takes as long as the last.
func kernelCounts() bool {
	const tcg = 0x54474354 // "TCGT"
	if _, b, _, _ := cpu.CPUID(leafHypervisor, 0); b != tcg {
		return false
	}
	var at [12]uint64
	for i := range at {
		at[i] = cpu.ReadTSC()
	}
	for i := 2; i < len(at); i++ {
		if at[i]-at[i-1] != at[1]-at[0] {
			return false
		}
	}
	return true
}
