package ring0

import (
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
)

func setRuntimeClock()

// CPUID leaves of hypervisors.
const (
	leafHypervisor = 0x40000000
	leafKVM        = 0x40000001
	leafFrequency  = 0x40000010 // EAX: TSC in kHz (VMware's definition, which KVM and others follow)
)

// kernelKnownHz returns the frequency of the TSC if somebody knows it and it does not change, else 0.
func kernelKnownHz() uint64 {
	const hypervisor, invariant = 1 << 31, 1 << 8
	if _, _, c, _ := cpu.CPUID(1, 0); c&hypervisor != 0 {
		most, b, c, d := cpu.CPUID(leafHypervisor, 0)
		if most >= leafKVM && b == 0x4b4d564b && c == 0x564b4d56 && d == 0x4d { // KVMKVMKVM
			if hz := kernelPVClock(); hz != 0 {
				return hz
			}
		}
		if most >= leafFrequency && most < leafHypervisor+0x100 {
			a, _, _, _ := cpu.CPUID(leafFrequency, 0)
			if hz := uint64(a) * 1000; hz >= minHz && hz <= maxHz {
				return hz
			}
		}
	}
	if most, _, _, _ := cpu.CPUID(0, 0); most < 0x15 {
		return 0
	}
	if most, _, _, _ := cpu.CPUID(0x80000000, 0); most < 0x80000007 {
		return 0
	}
	if _, _, _, d := cpu.CPUID(0x80000007, 0); d&invariant == 0 {
		return 0
	}
	a, b, c, _ := cpu.CPUID(0x15, 0)
	return kernelTSCHz(uint64(a), uint64(b), uint64(c))
}

// pvclock has room for what KVM keeps of its clock (Linux: Documentation/virt/kvm/x86/msr.rst): a struct
// pvclock_vcpu_time_info, 32 bytes that lie on one page, and after it a struct pvclock_wall_clock.
var pvclock [16]uint64

const (
	msrKVMWallClock = 0x4b564d00
	msrKVMSystem    = 0x4b564d01
	kvmClockSource2 = 1 << 3

	pvTSC    = 8  // the host's clock, at this TSC,
	pvNanos  = 16 // was this many ns
	pvFactor = 24
	pvShift  = 28
	pvWall   = 32 // version, seconds, nanoseconds: the wall clock when the host's clock was 0
)

// pvVersion is the version of what the clock was made from; 0: it is not pvclock's.
var pvVersion uint32

// kernelPVPage returns the address of the structures.
func kernelPVPage() uint64 { return (uint64(uintptr(unsafe.Pointer(&pvclock))) + 63) &^ 63 }

// kernelPVClock lets KVM describe its clock and returns the TSC's frequency, 0 if it does not say.
func kernelPVClock() uint64 {
	const enable = 1
	if a, _, _, _ := cpu.CPUID(leafKVM, 0); a&kvmClockSource2 == 0 {
		return 0
	}
	cpu.WriteMSR(msrKVMSystem, (kernelPVPage()-layout.KernelBase)|enable)
	rate := kernelPVRate()
	if rate == 0 {
		return 0
	}
	return 1e9 << 32 / rate
}

// kernelPVChanged reports whether KVM has described its clock anew, as it does when the machine was moved or stopped.
func kernelPVChanged() bool { return cpu.Load32(kernelPVPage()) != pvVersion }

// kernelPVRate returns the length of a tick in 2^-32 ns, 0 if KVM does not say. The version is odd while KVM writes.
func kernelPVRate() uint64 {
	at := kernelPVPage()
	for range 1000 {
		v := cpu.Load32(at)
		rate := kernelPVMult(cpu.Load32(at+pvFactor), int8(cpu.Load32(at+pvShift)))
		if v&1 == 0 && v == cpu.Load32(at) && rate != 0 {
			pvVersion = v
			return rate
		}
	}
	pvVersion = 0
	return 0
}
