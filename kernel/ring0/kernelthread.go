package ring0

import (
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/mem"
)

// kernelSchedule returns the thread to run: the next runnable one in turn, the monitor when no other can and its nap is
// over, or the idle thread.
func kernelSchedule() *thread {
	if shared { // the monitor's nap ends although another runs
		kernelArm()
	}
	start := kernelIndex()
	var monitor *thread
	for i := range numThreads {
		t := &threads[(start+1+i)%numThreads%maxThreads]
		if t.id == monitorID && !shared {
			monitor = t
		} else if t.state == runnable {
			return kernelSignals(t)
		}
	}
	if monitor != nil {
		if monitor.state == waiting && monitor.futex == 0 && monitor.deadline != 0 && monitor.deadline <= kernelNanotime() {
			kernelWake(monitor, 0)
		}
		if monitor.state == runnable {
			return kernelSignals(monitor)
		}
	}
	kernelArm()
	return &idleThread
}

// kernelIndex returns the current thread's place in the table; the idle thread has none.
func kernelIndex() uint64 {
	return (cur - uint64(uintptr(unsafe.Pointer(&threads)))) / uint64(unsafe.Sizeof(thread{})) % maxThreads
}

// kernelWait makes t wait until deadline (0 is for ever) and returns the thread to go on with.
func kernelWait(t *thread, deadline, timedOut uint64) *thread {
	t.state, t.deadline, t.timedOut = waiting, deadline, timedOut
	return kernelSchedule()
}

// kernelWake ends t's wait with a result.
func kernelWake(t *thread, result uint64) {
	t.state, t.deadline, t.futex, t.irq, t.poll = runnable, 0, 0, false, false
	t.frame.RAX = result
}

func kernelIdle(t *thread, deadline uint64) *thread {
	if irqPending || cpuPending && !quiet {
		irqPending, cpuPending = false, false
		return t
	}
	t.irq = true
	sliceEnd = 0 // nobody is in ring 3
	return kernelWait(t, deadline, 0)
}

// kernelTimespec reads a struct timespec as ns.
func kernelTimespec(addr uint64) uint64 {
	if !kernelWritable(addr) || !kernelWritable(addr+8) {
		return 0
	}
	ts := *(*[2]uint64)(mem.Pointer(addr))
	const most = 1 << 33 // seconds; what is longer is for ever
	return min(ts[0], most)*1e9 + min(ts[1], 1e9)
}

// monitorNap is the least time the monitor sleeps. It asks for 20 µs to 10 ms, to retake Ps from system calls, which do
// not block here, and to preempt goroutines, which there are hardly any of.
const monitorNap = 20e6

// sharedNap is that while goroutines share ring 0: the monitor preempts one that it has seen run for 10 ms.
const sharedNap = 10e6

// shared says that ring 0 has goroutines that want their turn from each other; see Share.
var shared bool

func kernelNanosleep(t *thread) *thread {
	nanos := kernelTimespec(t.frame.RDI)
	switch {
	case t.id != monitorID:
	case shared:
		nanos = max(nanos, sharedNap)
	default:
		nanos = max(nanos, monitorNap)
	}
	return kernelWait(t, kernelNanotime()+nanos, 0)
}

// kernelShare sets shared. A nap that the monitor began before ends as one of the others.
func kernelShare(on bool) {
	shared = on
	m := &threads[monitorID-1]
	if on && m.state == waiting && m.futex == 0 {
		m.deadline = min(m.deadline, kernelNanotime()+sharedNap)
	}
	kernelArm()
}

// kernelMonitor returns the monitor if its nap has ended, or somebody woke it, and goroutines share ring 0; else t, which goes on later.
func kernelMonitor(t *thread) *thread {
	if m := &threads[monitorID-1]; shared && m.state == runnable {
		return m
	}
	return t
}

func kernelFutex(t *thread) *thread {
	const opMask, opWait, opWake = 0x7f, 0, 1
	f := &t.frame
	addr := f.RDI
	switch f.RSI & opMask {
	case opWait:
		if !kernelMapped(addr) || *(*uint32)(mem.Pointer(addr)) != uint32(f.RDX) {
			f.RAX = eAGAIN
			return kernelSignals(t)
		}
		deadline := uint64(0)
		if f.R10 != 0 {
			deadline = kernelNanotime() + kernelTimespec(f.R10)
		}
		t.futex = addr
		return kernelWait(t, deadline, eTIMEDOUT)
	case opWake:
		woken := uint64(0)
		for i := range numThreads {
			if w := &threads[i%maxThreads]; woken < f.RDX && w.state == waiting && w.futex == addr {
				kernelWake(w, 0)
				woken++
			}
		}
		f.RAX = woken
		t = kernelMonitor(t)
	default:
		f.RAX = eNOSYS
	}
	return kernelSignals(t)
}

// kernelClone makes a thread as the runtime asks for one: RSI is its stack, R8 its FS base.
func kernelClone(parent *thread) uint64 {
	for i := range uint64(maxThreads) {
		t := &threads[i%maxThreads]
		if t.state != unused {
			continue
		}
		numThreads = max(numThreads, i+1)
		*t = thread{}
		t.id = uint32(i + 1)
		t.frame = parent.frame
		t.frame.RAX = 0
		t.frame.RSP = parent.frame.RSI
		t.fs = parent.frame.R8
		t.mask = parent.mask
		t.state = runnable
		if t.id == monitorID {
			// The monitor starts as if it napped, since a boot has nothing for it to do.
			t.state, t.deadline = waiting, kernelNanotime()+monitorNap
		}
		return uint64(t.id)
	}
	return eAGAIN
}

// kernelEpoll is epoll_pwait with the eventfd as its one source.
func kernelEpoll(t *thread) *thread {
	f := &t.frame
	if eventSet {
		kernelPolled(t)
		return kernelSignals(t)
	}
	switch millis := int32(f.R10); {
	case millis == 0:
		f.RAX = 0
		return kernelSignals(t)
	case millis > 0:
		t.poll = true
		return kernelWait(t, kernelNanotime()+uint64(millis)*1e6, 0)
	}
	t.poll = true
	return kernelWait(t, 0, 0)
}

// kernelPolled ends t's epoll_pwait with the eventfd's event.
func kernelPolled(t *thread) {
	const epollIn = 1
	event := t.frame.RSI
	kernelWake(t, 0)
	if kernelWritable(event) && kernelWritable(event+4) {
		*(*uint32)(mem.Pointer(event)) = epollIn
		*(*uint64)(mem.Pointer(event + 4)) = eventData
		t.frame.RAX = 1
	}
}
