package linux

import (
	"runtime"

	"github.com/firstlight-boot/firstlight/kernel/ring0"
)

// timeSlice is how long a thread runs, in nanoseconds, while others could.
const timeSlice = 5e6

// queue holds threads that are ready to run, or wait for a futex.
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

func (q *queue) pushFront(t *thread) {
	if t.nextQueue = q.head; q.head == nil {
		q.tail = t
	}
	q.head = t
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

// remove takes t out of the queue.
func (q *queue) remove(t *thread) {
	var prev *thread
	for c := q.head; c != nil; prev, c = c, c.nextQueue {
		if c != t {
			continue
		}
		if prev == nil {
			q.head = c.nextQueue
		} else {
			prev.nextQueue = c.nextQueue
		}
		if q.tail == c {
			q.tail = prev
		}
		c.nextQueue = nil
		return
	}
}

// loop runs the threads. It ends only with the machine.
func (p *process) loop() {
	for {
		t := p.choose()
		if t == nil {
			p.idle()
			continue
		}
		p.current = t
		p.slice, p.hurry = 0, false
		p.stamp = ring0.Ticks()
		p.shared = p.stamp
		p.runThread(t)
		p.account(&t.cpu.sys)
		switch {
		case t.urgent:
			if p.run.head != nil {
				p.wokenTicks += p.stamp - p.shared
			}
		case t.left == 0: // it had its turn, or did not want more
			p.wokenTicks = 0
		}
	}
}

// choose takes the thread that runs next off its queue; nil if none is ready.
func (p *process) choose() *thread {
	if p.woken.head != nil && (p.run.head == nil || p.wokenFirst()) {
		t := p.woken.pop()
		t.urgent = true
		return t
	}
	t := p.run.pop()
	if t != nil {
		t.urgent = false
	}
	return t
}

// wokenFirst reports whether threads whose wait is over go before the others, so that one that mostly waits is served at once:
// until they had a slice, all together, since one of the others had its own.
func (p *process) wokenFirst() bool {
	return p.wokenTicks == 0 || ring0.Nanos(p.wokenTicks) < timeSlice
}

// idle waits for the next moment at which a thread wants to go on.
func (p *process) idle() {
	if p.wakeAt == 0 {
		say("firstlight: deadlock: every thread of the program waits, and nothing can wake one; it is killed\n")
		p.kill(sigKill)
	}
	p.current = nil
	ring0.Idle(p.wakeAt)
	p.expire(ring0.Nanotime())
}

const (
	// yieldEvery is how many times ring 3 is entered before the Go runtime's own goroutines may run: the collector's above all,
	// which otherwise could only collect in what this goroutine allocates. A short program never gets there.
	yieldEvery = 256
	// yieldNanos is after how long they may run while the program does not call the kernel, if there are any besides.
	yieldNanos = 10e6
)

// runThread runs t until it blocks, ends, or has had its share.
func (p *process) runThread(t *thread) {
	others := runtime.NumGoroutine() > 1
	for {
		if t.again {
			t.again = false
			p.syscall(t)
		}
		if t.state != running {
			return
		}
		if t.notice || t.restarts != 0 || t.restoreMask {
			p.deliver(t)
		}
		deadline := uint64(0)
		if p.wakeAt|p.slice != 0 || p.run.head != nil || p.woken.head != nil || p.cpuTimers != 0 || others {
			now := ring0.Nanotime()
			if p.wakeAt != 0 && now >= p.wakeAt {
				p.expire(now)
			}
			if p.cpuTimers != 0 {
				deadline = p.expireCPU(t, now)
			}
			if t.notice {
				continue
			}
			if p.turnOver(t, now) {
				return
			}
			deadline = sooner(sooner(deadline, p.wakeAt), p.slice)
			if others {
				deadline = sooner(deadline, now+yieldNanos)
			}
		}
		ctx := t.ctx
		if ctx.RIP >= userEnd {
			p.force(t, sigSegv, segvMapErr, ctx.RIP)
			continue
		}
		if p.entries++; p.entries%yieldEvery == 0 {
			runtime.Gosched()
			others = runtime.NumGoroutine() > 1
		}
		p.account(&t.cpu.sys)
		trap := ring0.Enter(ctx, deadline)
		p.account(&t.cpu.user)
		switch trap {
		case ring0.TrapSyscall:
			t.nr = ctx.RAX
			p.syscall(t)
		case ring0.TrapTimeslice:
			if others {
				runtime.Gosched()
			}
		default:
			p.exception(t, trap)
		}
	}
}

// sooner returns the earlier of two moments, of which 0 is never.
func sooner(a, b uint64) uint64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// turnOver reports whether t has to make way, and then has put it where it waits for its next turn: behind the others when it
// has had its slice, before them when one whose time came goes first.
func (p *process) turnOver(t *thread, now uint64) bool {
	hurry := p.hurry
	p.hurry = false
	if p.run.head == nil && p.woken.head == nil {
		p.slice, t.left = 0, 0
		return false
	}
	if p.slice == 0 {
		if t.left == 0 {
			t.left = timeSlice
		}
		p.slice = now + t.left
		p.shared = ring0.Ticks()
		t.left = 0
	}
	switch {
	case now >= p.slice:
		p.run.push(t)
	case hurry && p.wokenFirst():
		t.left = p.slice - now
		p.run.pushFront(t)
	default:
		return false
	}
	return true
}

// meter counts time: nanoseconds, and ticks of the TSC that are not yet turned into such.
type meter struct{ ticks, nanos uint64 }

// read returns the time in nanoseconds. It never goes back, also when the clock is found to be faster than it was.
func (m *meter) read() uint64 {
	m.nanos += ring0.Nanos(m.ticks)
	m.ticks = 0
	return m.nanos
}

// cpuTime is the time that a thread had the CPU: its own instructions, and what the kernel did for it.
type cpuTime struct{ user, sys meter }

// account adds the time since the last call to a meter of the current thread.
func (p *process) account(m *meter) {
	now := ring0.Ticks()
	m.ticks += now - p.stamp
	p.stamp = now
}

// cpuOf returns the CPU time of a thread in nanoseconds; of all that there are and were for nil.
func (p *process) cpuOf(t *thread) (user, sys uint64) {
	if c := p.current; c != nil {
		p.account(&c.cpu.sys)
	}
	if t != nil {
		return t.cpu.user.read(), t.cpu.sys.read()
	}
	user, sys = p.ended.user.read(), p.ended.sys.read()
	t = p.threads
	for range p.numTh {
		user += t.cpu.user.read()
		sys += t.cpu.sys.read()
		t = t.next
	}
	return user, sys
}
