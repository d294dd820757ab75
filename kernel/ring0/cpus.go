package ring0

import (
	"sync/atomic"
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/cpu"
)

// CPUs returns how many CPUs the machine has, by what the first says of its package: Intel's manual, volume 2, CPUID.
func CPUs() int {
	_, b, _, d := cpu.CPUID(1, 0)
	if d&(1<<28) == 0 {
		return 1 // "only a single logical processor in the package"
	}
	n := max(1, b>>16&0xff) // as many as there are numbers for
	if most, _, _, _ := cpu.CPUID(0, 0); most >= 0xb {
		counted := uint32(0)
		// Each level counts the logical processors up to it; the last is the package.
		for level := range uint32(8) {
			_, b, c, _ := cpu.CPUID(0xb, level)
			if c>>8&0xff == 0 {
				break
			}
			counted = max(counted, b&0xffff)
		}
		if counted != 0 {
			n = counted
		}
	}
	return int(min(n, MaxCPUs))
}

// StartCPUs starts n CPUs besides the first and returns how many it could prepare. They arrive later: see ReadyCPUs.
func StartCPUs(n int) int {
	if n <= 0 {
		return 0
	}
	return int(syscall(sysCPUs, uint64(n), 0))
}

// ReadyCPUs returns the CPUs that take Contexts: bit n is CPU n, and bit 0 never set.
func ReadyCPUs() uint64 { return atomic.LoadUint64(&cpusReady) }

// Give lets CPU n, which is ready and has none, run c in ring 3 until its next system call, exception or a Kick. The caller leaves c
// alone until Returned reports the CPU.
func Give(n int, c *Context) {
	c.CS, c.SS = userCS, userSS
	syscall(sysGive, uint64(n), address(c))
}

// Kick makes CPU n hand back its Context soon.
func Kick(n int) { syscall(sysKick, uint64(n), 0) }

// Returned returns the CPUs that have handed back a Context since the last call.
func Returned() uint64 {
	if atomic.LoadUint64(&cpusDone) == 0 {
		return 0
	}
	return atomic.SwapUint64(&cpusDone, 0)
}

// Result returns what ended the last run of CPU n, as Enter does.
func Result(n int) (trap int) {
	b := kernelBlock(uint64(n))
	if b.trap >= cpuFault {
		syscall(sysCPUFault, uint64(n), 0)
	}
	return int(b.trap)
}

// Arrival returns the TSC of CPU n when it was ready.
func Arrival(n int) uint64 { return kernelBlock(uint64(n)).tsc }

// Flush makes the other CPUs forget mappings that are not there any more or allow less than they did.
func Flush() { syscall(sysFlush, 0, 0) }

// address returns where c lies, which stays there.
func address(c *Context) uint64 { return uint64(uintptr(unsafe.Pointer(c))) }
