package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// maxThreads bounds the memory that a program can make the kernel spend on threads.
const maxThreads = 16384

type threadState uint8

const (
	running threadState = iota // or ready to
	blocked
	dead
)

// thread is one thread of the program. While it is blocked exactly one kind of event can wake it besides a signal and the
// deadline: a futex (futexAt is set), a file (onFile), or none.
type thread struct {
	tid        int
	ctx        *ring0.UserContext
	state      threadState
	again      bool // the call is to be made again: its registers are still those of the call
	timedOut   bool // the deadline came while the call waited
	waiting    bool // the call has waited before: the deadline is set
	nr         uint64
	deadline   uint64    // Nanotime; 0: none
	onTimeout  int64     // result of the call when the deadline comes, unless it is made again
	onSignal   vfs.Errno // result when a signal comes
	retry      bool      // the call is made again when woken, else it has its result
	onFile     bool
	file       vfs.Node // onFile: the file waited for, nil for several
	futex      futexKey // that it waits for
	futexBits  uint32   // of a wake that it waits for; 0: it waits to own the futex
	futexValue uint32
	futexAddr  uint64
	heirTo     uint64     // address of the futex that it is to own once somebody moves it there; 0: none
	anyOf      []futexKey // that it waits for any of
	private    bool
	nextQueue  *thread
	urgent     bool   // it runs because its wait ended
	left       uint64 // nanoseconds of its slice that it has not had
	cpu        cpuTime
	on         int    // the CPU that runs it now, if that is not the first
	last       int    // the CPU that ran it last
	trap       int    // what ended its run there; valid if back
	back       bool   // it came from there, and that is to be served
	burst      uint64 // ticks that it runs between two calls, mostly
	affinity   uint64 // CPUs it wants to run on, as it said; 0: it said nothing
	policy     uint32
	priority   uint32
	nice       int32
	timerSlack uint64  // as PR_SET_TIMERSLACK left it; 0: as by default
	next, prev *thread // ring of all threads

	mask           uint64 // signal n is bit n-1
	oldMask        uint64 // mask to restore after a call that waits with another; valid if restoreMask
	restoreMask    bool
	waitSet        uint64 // signals that sigtimedwait takes
	pending        sigQueue
	notice         bool // there may be a signal to take before the program goes on
	altStack       altStack
	clearTID       uint64
	robustList     uint64
	caps           capabilities
	name           [16]byte
	noNewPrivs     bool
	remaining      uint64 // address where the time that is left goes when a signal comes, 0 for none
	resume         resumption
	sleep          *posixTimer // of CPU time, until which it sleeps
	remainingMicro bool        // as a struct timeval
	progress       uint64      // bytes that the waiting call has moved already
	restarts       vfs.Errno   // one of eRestart…: what the call that is over ended with
}

// resumption is what restart_syscall goes on with: a sleep, or the wait for a futex, until a moment.
type resumption struct {
	deadline, remaining, futex uint64
	value, bits                uint32
	private                    bool
	sleep                      *posixTimer
}

// newThread adds a thread that runs ctx. The caller makes it ready.
func (p *process) newThread(ctx *ring0.UserContext) *thread {
	p.lastTID++
	t := &p.leader
	if p.threads != nil {
		t = new(thread)
	}
	t.tid, t.ctx, t.name = p.lastTID, ctx, p.name
	t.cpu.seen = ctx.Ticks
	if p.threads == nil {
		t.next, t.prev = t, t
		p.threads = t
	} else {
		first := p.threads
		t.next, t.prev = first, first.prev
		t.prev.next, first.prev = t, t
	}
	p.numTh++
	if p.numTh > 1 {
		t.affinity = p.current.affinity
		p.startCPUs()
	}
	return t
}

func (p *process) byTID(tid int) *thread {
	t := p.threads
	for range p.numTh {
		if t.tid == tid {
			return t
		}
		t = t.next
	}
	return nil
}

// endThread is exit(2): the last thread ends the program.
func (p *process) endThread(t *thread, code int) {
	p.releaseRobust(t)
	p.leaveOwned(t)
	if t.clearTID != 0 && p.mm.put32(t.clearTID, 0) {
		p.futexWake(p.futexKey(t.clearTID, false), 1, ^uint32(0))
	}
	if p.numTh == 1 {
		p.exit(code)
	}
	t.state = dead
	t.prev.next, t.next.prev = t.next, t.prev
	if p.threads == t {
		p.threads = t.next
	}
	p.numTh--
	p.account(t)
	p.ended.user.nanos += t.cpu.user.read()
	p.ended.sys.nanos += t.cpu.sys.read()
	p.endTimers(t)
	p.drop(&t.pending, ^uint64(0))
	if t.notice && p.pending.set&^t.mask != 0 {
		p.assign(p.pending.set &^ t.mask)
	}
}

// block makes the running thread t wait until deadline (0: for ever). It returns what the call returns for now.
func (p *process) block(t *thread, deadline uint64, onTimeout int64, onSignal vfs.Errno) int64 {
	t.state = blocked
	t.waiting = true
	t.deadline = deadline
	t.onTimeout = onTimeout
	t.onSignal = onSignal
	t.retry, t.onFile, t.file, t.futex, t.futexAddr = false, false, nil, futexKey{}, 0
	if deadline != 0 {
		p.wake(deadline, saturate(deadline, t.slack()))
	}
	return 0
}

// blockOnFile makes t wait for an event on node, or on any file if node is nil, and then make its call again.
func (p *process) blockOnFile(t *thread, node vfs.Node, deadline uint64, onSignal vfs.Errno) int64 {
	p.block(t, deadline, 0, onSignal)
	t.retry, t.onFile, t.file = true, true, node
	return 0
}

// ready makes a blocked thread runnable; its call returns result unless it is made again.
func (p *process) ready(t *thread, result int64) {
	t.state = running
	if t.retry {
		t.again = true
	} else {
		p.finish(t, result)
	}
	p.woken.push(t)
	p.look = p.look || p.slice == 0
}

// finish gives a call its result.
func (p *process) finish(t *thread, result int64) {
	t.ctx.RAX = uint64(result)
	t.waiting, t.timedOut, t.retry = false, false, false
	t.deadline, t.waitSet, t.remaining, t.progress, t.remainingMicro = 0, 0, 0, 0, false
	e := vfs.Errno(-result)
	if e >= eRestartSys && e <= eRestartBlock {
		t.restarts = e
	}
	if t.restoreMask && e != vfs.EINTR && e != eRestartNoHand { // no signal that only the call would have let through
		t.restoreMask = false
		p.setMask(t, t.oldMask)
	}
}

// anyEvent stands for what is no single event, such as a closed end of a pipe.
const anyEvent = ^uint32(0)

// fileEvent wakes the threads that wait for node, to which events happened.
func (p *process) fileEvent(node vfs.Node, events uint32) {
	p.calls++
	p.refresh(node, events)
	t := p.threads
	for range p.numTh {
		if t.state == blocked && t.onFile && (t.file == nil || t.file == node) {
			p.ready(t, 0)
		}
		t = t.next
	}
}

// wake makes the loop look at a moment, or at the first time it looks until then another one, whether somebody's time has come. 0 is never.
func (p *process) wake(at, by uint64) {
	p.wakeAt = sooner(p.wakeAt, at)
	p.wakeBy = sooner(p.wakeBy, by)
	p.look = true
}

// expire wakes all whose time has come, and finds the next moment at which that happens.
func (p *process) expire(now uint64) {
	p.wakeAt, p.wakeBy = 0, 0
	t := p.threads
	for range p.numTh {
		if t.state == blocked && t.deadline != 0 {
			if t.deadline <= now {
				t.timedOut = true
				if t.futex.at != 0 {
					p.unqueueFutex(t)
				}
				p.hurry = true
				p.ready(t, t.onTimeout)
			} else {
				p.wake(t.deadline, saturate(t.deadline, t.slack()))
			}
		}
		t = t.next
	}
	p.expireTimers(now)
}
