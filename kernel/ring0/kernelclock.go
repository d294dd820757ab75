package ring0

import (
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/vdso"
)

// The clock is the TSC. Who knows its frequency is asked: KVM's pvclock, the hypervisor's or the processor's CPUID. Else it is
// measured against the local APIC's timer, which VMMs run at 1 GHz, over the time that passes anyway: the timer counts from
// kernel entry on, and readings of both clocks relate the two. Until then a frequency is guessed; nothing waits.
type clockState struct {
	seq   uint32 // odd while it changes
	fine  uint32 // rateGuessed, rateFine or rateFinal
	tsc   uint64 // at this TSC
	nanos uint64 // it was this many ns since kernel entry,
	mult  uint64 // and a tick is mult / 2^32 ns
	hz    uint64 // 0: guessed

	// The measurement: a timer that counts, and what earlier ones counted.
	start              uint64 // TSC when the APIC timer began to count down; 0: it is not known
	initial            uint32 // from here
	slack              uint64 // ticks that start may be wrong by
	sumTicks, sumNanos uint64
	window             uint64 // ticks that the rate is from
}

var clock clockState

// How good the rate is. Programs read the clock themselves from rateFine on.
const (
	rateGuessed = iota // or measured in short
	rateFine
	rateFinal
)

// The times after which the frequency is measured, in ticks: a first time, for better, and for good.
const (
	calibrateTicks = 4 << 20  // 1 to 4 ms
	refineTicks    = 64 << 20 // a reading is wrong by a microsecond at most: of 20 ms the ten thousandth part
	finalTicks     = 1 << 30
	guessedHz      = 2e9

	apicBase    = layout.DirectMap + 0xfee00000
	apicEOI     = apicBase + 0xb0
	apicSVR     = apicBase + 0xf0
	apicTimer   = apicBase + 0x320
	apicInitial = apicBase + 0x380
	apicCurrent = apicBase + 0x390
	apicDivide  = apicBase + 0x3e0

	apicEnable    = 1 << 8
	timerMasked   = 1 << 16
	timerPeriodic = 1 << 17
	divideBy1     = 0xb
	maxCount      = 0xffffffff
	minTimerNano  = 1000

	// A VMM that was away takes up a periodic timer's interrupts one by one, with its lock held: on a busy host QEMU never caught up
	// with periods of a few microseconds. KVM has none below this.
	minPeriodNano = 200_000
)

func kernelTimerInit() {
	// Firmware may leave the old interrupt controllers open, whose timer then interrupts as the processor's exceptions do.
	cpu.Out8(0x21, 0xff)
	cpu.Out8(0xa1, 0xff)
	cpu.Store32(apicSVR, apicEnable|vectorSpurious)
	cpu.Store32(apicDivide, divideBy1)
	clock.tsc = entryTSC
	clock.mult = 1e9 << 32 / guessedHz
	setRuntimeClock()
	clockCounts = kernelCounts()
	if hz := kernelKnownHz(); hz != 0 {
		clock.hz, clock.mult, clock.fine = hz, kernelMult(hz), rateFinal
	}
	kernelRest()
}

// Nanotime returns the time since kernel entry in ns. It never goes back.
func Nanotime() uint64 {
	if clock.start != 0 && kernelDue() {
		syscall(sysCalibrate, 0, 0)
	}
	return kernelRead()
}

// kernelRead reads the clock as it is.
func kernelRead() uint64 {
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

// kernelNanotime is Nanotime for kernel context.
func kernelNanotime() uint64 {
	if clock.start != 0 && kernelDue() {
		kernelCalibrate()
	}
	if pvVersion != 0 && kernelPVChanged() {
		if rate := kernelPVRate(); rate != 0 && rate != clock.mult {
			kernelSetRate(rate, 1e9<<32/rate, rateFinal)
		}
	}
	return kernelRead()
}

// kernelDue reports whether the APIC timer has counted for long enough to measure, or to do so for better.
func kernelDue() bool {
	ticks := clock.sumTicks + cpu.ReadTSC() - clock.start
	return clock.hz == 0 && ticks >= calibrateTicks ||
		ticks >= refineTicks && clock.window < refineTicks || ticks >= finalTicks && clock.window < finalTicks
}

// kernelCalibrate measures the TSC's frequency over the time for which the APIC timer has counted so far.
func kernelCalibrate() {
	if clock.start != 0 {
		kernelCounted(false)
	}
}

// kernelCounted takes what the timer has counted into account and sets the clock's rate by all that there is; wrapped says that
// the timer's interrupt is being served. It returns what there was now.
func kernelCounted(wrapped bool) (ticks, nanos uint64) {
	// The tightest of three readings, lest the host preempts the machine between the two clocks.
	var r [3]reading
	for i := range r {
		r[i].before = cpu.ReadTSC()
		r[i].count = cpu.Load32(apicCurrent)
		r[i].after = cpu.ReadTSC()
	}
	if r[0].count == 0 && !wrapped {
		clock.start = 0 // it ran out
		return 0, 0
	}
	ticks, nanos, ok := kernelMeasure(clock.start, &r, clock.initial, wrapped)
	// The first rate has nothing to agree with, and a timer of a short period may have begun anew often before its interrupt comes.
	if !ok || clock.slack >= ticks>>10 || clock.hz == 0 && (wrapped || clock.initial != maxCount) || clock.hz != 0 && !kernelAgrees(ticks, nanos, clock.mult) {
		return 0, 0
	}
	allTicks, allNanos := clock.sumTicks+ticks, clock.sumNanos+nanos
	mult, hz, ok := kernelRatio(allTicks, allNanos)
	if !ok || allTicks < clock.window {
		return 0, 0
	}
	clock.window = allTicks
	fine := uint32(rateGuessed)
	switch {
	case allTicks >= finalTicks:
		fine = rateFinal
		clock.start = 0
	case allTicks >= refineTicks:
		fine = rateFine
	}
	kernelSetRate(mult, hz, fine)
	return ticks, nanos
}

// kernelStopped ends what the timer counts, since it is to count something else or has run down.
func kernelStopped(wrapped bool) {
	if clock.start != 0 && (periodic || !wrapped) {
		ticks, nanos := kernelCounted(wrapped)
		clock.sumTicks += ticks
		clock.sumNanos += nanos
	}
	clock.start = 0
}

// kernelStarted lets the timer count down from count.
func kernelStarted(count uint32) {
	before := cpu.ReadTSC()
	cpu.Store32(apicInitial, count)
	if clock.fine != rateFinal {
		clock.slack = cpu.ReadTSC() - before
		clock.start, clock.initial = before+clock.slack/2, count
	}
}

// periodic says that the timer begins anew when it has run down. It does as long as the rate is being measured, unless that is too
// often: what it has counted since tells how late its interrupt is.
var periodic bool

// kernelMode says what the timer does when it has run down. A VMM serves each write to the timer by itself, so there is none
// that changes nothing.
func kernelMode(mode uint32) {
	if mode != timerMode {
		timerMode = mode
		cpu.Store32(apicTimer, mode)
	}
}

var timerMode uint32

// kernelRest lets the timer interrupt no more. While nobody needs it, it may as well count.
func kernelRest() {
	periodic = false
	kernelMode(timerMasked | vectorTimer)
	if clock.fine != rateFinal {
		kernelStarted(maxCount)
	}
}

// kernelSetRate goes on with another rate, as if it had been there from the start; but time never goes back.
func kernelSetRate(mult, hz uint64, fine uint32) {
	was := kernelRead()
	now := cpu.ReadTSC()
	clock.seq++
	clock.nanos = max(was, scale(now-entryTSC, mult))
	clock.tsc = now
	clock.mult = mult
	clock.hz = hz
	clock.fine = fine
	clock.seq++
	kernelPublish()
}

// clockPage is the physical address of the page by which programs read the clock; 0: there is none.
var clockPage uint64

// kernelPublish writes what package vdso's code reads.
func kernelPublish() {
	if clockPage == 0 {
		return
	}
	kernelWord(clockPage, vdso.DataTSC/8, clock.tsc)
	kernelWord(clockPage, vdso.DataNanos/8, clock.nanos)
	kernelWord(clockPage, vdso.DataMult/8, clock.mult)
	kernelWord(clockPage, vdso.DataWall/8, wallBase)
	kernelWord(clockPage, vdso.DataCPUs/8, cpuTeller)
	kernelWord(clockPage, vdso.DataSeq/8, uint64(clock.seq)|uint64(clock.fine)<<32)
}

// ShareClock keeps the page that is to be mapped into programs beside package vdso's code up to date.
func ShareClock(page mem.Frame) {
	WallBase()
	syscall(sysClockPage, uint64(page), 0)
}

// kernelArm sets the timer for the earliest deadline of any thread and of the slice; the monitor's naps count only while a thread
// runs beside which goroutines want to.
func kernelArm() {
	next := sliceEnd
	for i := range numThreads {
		t := &threads[i%maxThreads]
		if t.state == waiting && t.deadline != 0 && (next == 0 || t.deadline < next) && (t.id != monitorID || t.futex != 0) {
			next = t.deadline
		}
	}
	if shared {
		next = kernelNapEnd(next)
	}
	if quiet {
		next = 0
		if !clockCounts {
			next = watching
		}
	}
	// What watches over a disk may go on when nobody needs the timer: the next wait finds it there.
	if next == armedFor || next == 0 && armedFor == watching {
		return
	}
	armedFor = next
	now := kernelNanotime()
	kernelStopped(false)
	if next == 0 {
		kernelRest()
		return
	}
	wait := uint64(minTimerNano)
	if next > now+minTimerNano {
		wait = min(next-now, maxCount)
	}
	mode := uint32(vectorTimer)
	if periodic = clock.fine != rateFinal && wait >= minPeriodNano; periodic {
		mode |= timerPeriodic
	}
	kernelMode(mode)
	kernelStarted(uint32(wait))
}

// kernelNapEnd returns the end of the monitor's nap if that comes before next, and a thread runs.
func kernelNapEnd(next uint64) uint64 {
	m := &threads[monitorID-1]
	if m.state != waiting || m.deadline == 0 || next != 0 && next <= m.deadline {
		return next
	}
	for i := range numThreads {
		if threads[i%maxThreads].state == runnable {
			return m.deadline
		}
	}
	return next
}

// armedFor is the deadline that the timer is set for, 0 for none. A deadline further off than the timer counts fires early and is
// set again.
var armedFor uint64

// kernelTimer serves the timer's interrupt.
func kernelTimer() {
	cpu.Store32(apicEOI, 0)
	interrupts[0]++
	armedFor = 0
	kernelStopped(true)
	if quiet {
		kernelWatched()
	}
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
	if armedFor == 0 && (periodic || clock.fine != rateFinal) {
		kernelRest()
	}
}

// kernelDevice serves a device's interrupt.
func kernelDevice() {
	cpu.Store32(apicEOI, 0)
	interrupts[1]++
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

var interrupts [2]uint64

// Interrupts returns how many interrupts there were: of the timer and of devices.
func Interrupts() (timer, device uint64) { return interrupts[0], interrupts[1] }
