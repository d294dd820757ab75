package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// timeSlice is how long a thread runs, in nanoseconds, while others could.
const timeSlice = 5e6

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
	futexAt    uint64
	futexBits  uint32
	nextQueue  *thread
	next, prev *thread // ring of all threads

	mask        uint64 // signal n is bit n-1
	oldMask     uint64 // mask to restore after a call that waits with another; valid if restoreMask
	restoreMask bool
	waitSet     uint64 // signals that sigtimedwait takes
	pending     []sigInfo
	altStack    struct {
		sp, size uint64
		flags    uint32
	}
	clearTID   uint64
	robustList uint64
	name       [16]byte
	remaining  uint64    // address of nanosleep's second argument, 0 for none
	progress   uint64    // bytes that the waiting call has moved already
	restarts   vfs.Errno // eRestartSys or eRestartNoHand: what the call that is over ended with
}

// queue holds threads that are ready to run.
type queue struct{ head, tail *thread }

func (q *queue) push(t *thread) {
	t.nextQueue = nil
	if q.tail == nil {
		q.head = t
	} else {
		q.tail.nextQueue = t
	}
	q.tail = t
}

func (q *queue) pop() *thread {
	t := q.head
	if t != nil {
		if q.head = t.nextQueue; q.head == nil {
			q.tail = nil
		}
		t.nextQueue = nil
	}
	return t
}

// newThread adds a thread that runs ctx. The caller makes it ready.
func (p *process) newThread(ctx *ring0.UserContext) *thread {
	p.lastTID++
	t := &thread{tid: p.lastTID, ctx: ctx, name: p.name}
	t.altStack.flags = ssDisable
	if p.threads == nil {
		t.next, t.prev = t, t
		p.threads = t
	} else {
		first := p.threads
		t.next, t.prev = first, first.prev
		t.prev.next, first.prev = t, t
	}
	p.numTh++
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
	if t.clearTID != 0 && p.mm.put32(t.clearTID, 0) {
		p.futexWake(t.clearTID, 1, ^uint32(0))
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
	if len(t.pending) > 0 {
		t.pending = nil
	}
}

// block makes the running thread t wait until deadline (0: for ever). It returns what the call returns for now.
func (p *process) block(t *thread, deadline uint64, onTimeout int64, onSignal vfs.Errno) int64 {
	t.state = blocked
	t.waiting = true
	t.deadline = deadline
	t.onTimeout = onTimeout
	t.onSignal = onSignal
	t.retry, t.onFile, t.file, t.futexAt = false, false, nil, 0
	if deadline != 0 && (p.wakeAt == 0 || deadline < p.wakeAt) {
		p.wakeAt = deadline
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
	p.run.push(t)
}

// finish gives a call its result.
func (p *process) finish(t *thread, result int64) {
	t.ctx.RAX = uint64(result)
	t.waiting, t.timedOut, t.retry = false, false, false
	t.deadline, t.waitSet, t.remaining, t.progress = 0, 0, 0, 0
	if e := vfs.Errno(-result); e == eRestartSys || e == eRestartNoHand {
		t.restarts = e
	}
}

// fileEvent wakes the threads that wait for node.
func (p *process) fileEvent(node vfs.Node) {
	for _, e := range p.epolls {
		for i := range e.watch {
			if e.watch[i].file.Node == node {
				e.watch[i].fresh = true
			}
		}
	}
	t := p.threads
	for range p.numTh {
		if t.state == blocked && t.onFile && (t.file == nil || t.file == node) {
			p.ready(t, 0)
		}
		t = t.next
	}
}

// expire wakes all whose time has come, and finds the next moment at which that happens.
func (p *process) expire(now uint64) {
	p.wakeAt = 0
	soonest := func(at uint64) {
		if p.wakeAt == 0 || at < p.wakeAt {
			p.wakeAt = at
		}
	}
	t := p.threads
	for range p.numTh {
		if t.state == blocked && t.deadline != 0 {
			if t.deadline <= now {
				t.timedOut = true
				if t.futexAt != 0 {
					p.futexes.remove(t)
				}
				p.ready(t, t.onTimeout)
			} else {
				soonest(t.deadline)
			}
		}
		t = t.next
	}
	if p.alarmAt != 0 {
		if p.alarmAt <= now {
			if p.alarmEvery == 0 {
				p.alarmAt = 0
			} else {
				p.alarmAt += (now-p.alarmAt)/p.alarmEvery*p.alarmEvery + p.alarmEvery
			}
			p.post(sigInfo{sig: sigAlrm, code: siKernel})
		}
		if p.alarmAt != 0 {
			soonest(p.alarmAt)
		}
	}
}
