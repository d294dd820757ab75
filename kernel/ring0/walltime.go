package ring0

import (
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
	"github.com/firstlight-boot/firstlight/kernel/mem"
)

// wallBase is the wall clock at kernel entry, ns since 1970: 0 until somebody asks for it, and if the machine has none.
var (
	wallBase  uint64
	wallKnown bool
)

// WallBase returns the wall clock at kernel entry in ns since 1970. The machine is asked for it once.
func WallBase() uint64 {
	if !wallKnown {
		wallKnown = true
		wall := pvWalltime()
		if wall == 0 {
			wall = rtcWalltime()
		}
		if now := Nanotime(); wall > now {
			wallBase = wall - now
		}
	}
	return wallBase
}

// Walltime returns the wall clock in ns since 1970.
func Walltime() uint64 { return WallBase() + Nanotime() }

// pvWalltime returns the wall clock as KVM tells it, in ns since 1970; 0 if it does not.
func pvWalltime() uint64 {
	if pvVersion == 0 {
		return 0
	}
	at := kernelPVPage()
	cpu.WriteMSR(msrKVMWallClock, at+pvWall-layout.KernelBase)
	load := func(off uint64) uint64 { return *(*uint64)(mem.Pointer(at + off)) }
	seconds, nanos := uint64(cpu.Load32(at+pvWall+4)), uint64(cpu.Load32(at+pvWall+8))
	if cpu.Load32(at+pvWall)&1 != 0 || seconds == 0 {
		return 0
	}
	rate := kernelPVMult(cpu.Load32(at+pvFactor), int8(cpu.Load32(at+pvShift)))
	return seconds*1e9 + nanos + load(pvNanos) + scale(cpu.ReadTSC()-load(pvTSC), rate)
}

// The registers of the battery-backed clock, in the order of rtc, and where they are read.
const (
	rtcPorts    = "\x00\x02\x04\x07\x08\x09\x32\x0b"
	rtcIndex    = 0x70
	rtcValue    = 0x71
	rtcStatusA  = 0x0a // bit 7: it is changing
	rtcStatusD  = 0x0d // bit 7: it has power; the others are 0
	rtcTries    = 1 << 16
	maskedNMI   = 0x80
	rtcChanging = 0x80
	rtcHasPower = 0x80
)

func rtcRead(register uint8) uint8 {
	cpu.Out8(rtcIndex, register|maskedNMI)
	return cpu.In8(rtcValue)
}

// rtcWalltime returns the battery-backed clock's time in ns since 1970; 0 if the machine has none.
func rtcWalltime() uint64 {
	if rtcRead(rtcStatusD) != rtcHasPower {
		return 0
	}
	var last rtc
	for range rtcTries {
		if rtcRead(rtcStatusA)&rtcChanging != 0 {
			continue
		}
		var r rtc
		for i := range r {
			r[i] = rtcRead(rtcPorts[i])
		}
		if r == last {
			seconds, _ := r.kernelSeconds()
			return seconds * 1e9
		}
		last = r
	}
	return 0
}
