package ring0

import (
	"math/bits"

	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
)

// The clock is the TSC. Its frequency is measured against the local APIC's timer, which VMMs run at 1 GHz, over the time that
// the boot takes anyway: the timer counts from kernel entry on, and a first reading of the clock at least calibrateTicks
// later relates the two. Until then a frequency is guessed; nothing waits.
var clock struct {
	seq    uint32 // odd while it changes
	tsc    uint64 // at this TSC
	nanos  uint64 // it was this many ns since kernel entry,
	mult   uint64 // and a tick is mult / 2^32 ns
	hz     uint64 // 0: guessed
	apic   uint64 // TSC when the APIC timer started to count down from its maximum; 0: it does something else by now
	window uint64 // ticks that the measurement took
}

const (
	calibrateTicks = 4 << 20  // first measurement: 1 to 4 ms
	refineTicks    = 64 << 20 // second, when the timer still counts
	guessedHz      = 2e9

	apicBase    = layout.DirectMap + 0xfee00000
	apicEOI     = apicBase + 0xb0
	apicSVR     = apicBase + 0xf0
	apicTimer   = apicBase + 0x320
	apicInitial = apicBase + 0x380
	apicCurrent = apicBase + 0x390
	apicDivide  = apicBase + 0x3e0

	apicEnable   = 1 << 8
	timerMasked  = 1 << 16
	divideBy1    = 0xb
	maxCount     = 0xffffffff
	minTimerNano = 1000
)

func kernelTimerInit() {
	// Firmware may leave the old interrupt controllers open, whose timer then interrupts as the processor's exceptions do.
	cpu.Out8(0x21, 0xff)
	cpu.Out8(0xa1, 0xff)
	cpu.Store32(apicSVR, apicEnable|vectorSpurious)
	cpu.Store32(apicDivide, divideBy1)
	cpu.Store32(apicTimer, timerMasked|vectorTimer)
	cpu.Store32(apicInitial, maxCount)
	clock.apic = cpu.ReadTSC()
	clock.tsc = entryTSC
	clock.mult = 1e9 << 32 / guessedHz
}

// Nanotime returns the time since kernel entry in ns. It never goes back.
func Nanotime() uint64 {
	for {
		seq := clock.seq
		tsc, nanos, mult := clock.tsc, clock.nanos, clock.mult
		now := cpu.ReadTSC()
		if seq == clock.seq && seq&1 == 0 {
			return nanos + scale(now-tsc, mult)
		}
	}
}

// Ticks reads the TSC, for what is counted often and read seldom.
func Ticks() uint64 { return cpu.ReadTSC() }

// Nanos turns ticks of the TSC into nanoseconds, as well as the frequency is known by now.
func Nanos(ticks uint64) uint64 { return scale(ticks, clock.mult) }

func scale(ticks, mult uint64) uint64 {
	hi, lo := bits.Mul64(ticks, mult)
	return hi<<32 | lo>>32
}

// kernelNanotime is Nanotime for kernel context, which also keeps the clock right.
func kernelNanotime() uint64 {
	if clock.apic != 0 {
		elapsed := cpu.ReadTSC() - clock.apic
		if clock.hz == 0 && elapsed >= calibrateTicks || elapsed >= refineTicks && clock.window < refineTicks {
			kernelCalibrate()
		}
	}
	return Nanotime()
}

// kernelCalibrate measures the TSC's frequency over the time since the APIC timer started, if it still counts.
func kernelCalibrate() {
	if clock.apic == 0 {
		return
	}
	// The tightest of three readings, lest the host preempts the machine between the two clocks.
	var count uint32
	var at uint64
	best := ^uint64(0)
	for range 3 {
		before := cpu.ReadTSC()
		c := cpu.Load32(apicCurrent)
		after := cpu.ReadTSC()
		if after-before < best {
			best, count, at = after-before, c, before+(after-before)/2
		}
	}
	nanos := uint64(maxCount - count)
	ticks := at - clock.apic
	if count == 0 || nanos == 0 || ticks == 0 || ticks>>40 != 0 {
		clock.apic = 0 // it ran out
		return
	}
	mult := nanos << 32 / ticks
	if mult == 0 {
		return
	}
	was := Nanotime()
	now := cpu.ReadTSC()
	clock.seq++
	clock.nanos = max(was, scale(now-entryTSC, mult))
	clock.tsc = now
	clock.mult = mult
	clock.hz = scaleHz(ticks, nanos)
	clock.window = ticks
	clock.seq++
}

// scaleHz returns ticks per second for ticks counted in nanos; ticks < 2^40 and nanos < 2^32 keep every step in 64 bits.
func scaleHz(ticks, nanos uint64) uint64 {
	whole, rest := ticks/nanos, ticks%nanos
	return whole*1e9 + rest*1e9/nanos
}

// kernelArm sets the timer for the earliest deadline of any thread and of the slice; the monitor's naps do not count.
func kernelArm() {
	next := sliceEnd
	for i := range numThreads {
		t := &threads[i%maxThreads]
		if t.state == waiting && t.deadline != 0 && (next == 0 || t.deadline < next) && (t.id != monitorID || t.futex != 0) {
			next = t.deadline
		}
	}
	if quiet {
		next = 0
	}
	if next == armedFor {
		return
	}
	armedFor = next
	if next == 0 {
		cpu.Store32(apicTimer, timerMasked|vectorTimer)
		return
	}
	now := kernelNanotime()
	if clock.apic != 0 {
		kernelCalibrate()
		clock.apic = 0
	}
	wait := uint64(minTimerNano)
	if next > now+minTimerNano {
		wait = min(next-now, maxCount)
	}
	cpu.Store32(apicTimer, vectorTimer)
	cpu.Store32(apicInitial, uint32(wait))
}

// quiet is set while Notify waits: no timer runs, so that a counting boot, whose clock stands still while the CPU halts, does
// not depend on how fast the device answers. A deadline that passes meanwhile is met after it.
var quiet bool

// armedFor is the deadline that the timer is set for, 0 for none. A deadline further off than the timer counts fires early and is
// set again.
var armedFor uint64

// kernelTimer serves the timer's interrupt.
func kernelTimer() {
	cpu.Store32(apicEOI, 0)
	armedFor = 0
	now := kernelNanotime()
	for i := range numThreads {
		t := &threads[i%maxThreads]
		if t.state == waiting && t.deadline != 0 && t.deadline <= now {
			kernelWake(t, t.timedOut)
		}
	}
	if sliceEnd != 0 && sliceEnd <= now {
		sliceEnd, sliceExpired = 0, true
	}
	kernelArm()
}

// kernelDevice serves a device's interrupt.
func kernelDevice() {
	cpu.Store32(apicEOI, 0)
	irqPending = true
	if quiet {
		quiet = false
		kernelArm()
	}
	for i := range numThreads {
		if t := &threads[i%maxThreads]; t.state == waiting && t.irq {
			irqPending = false
			kernelWake(t, 0)
		}
	}
}
