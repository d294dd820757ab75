package linux

import (
	"runtime"

	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
)

// timeSlice is how long a thread runs, in nanoseconds, while others could.
const timeSlice = 5e6

// sleepSlack is how long after its time a sleep may end while another thread runs, in nanoseconds: who naps and looks, and naps
// again, as the Go runtime's monitor does from 20 µs on, costs an interrupt and two switches each time. Linux's is 50 µs. A machine
// that idles wakes at once.
const sleepSlack = 800e3

// slack returns how much later than asked for t may be woken.
func (t *thread) slack() uint64 {
	switch {
	case t.policy == schedFIFO || t.policy == schedRR:
		return 0
	case t.timerSlack != 0:
		return min(t.timerSlack, sleepSlack)
	}
	return sleepSlack
}

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
	p.noteOthers()
	p.stamp = ring0.Ticks()
	for {
		if p.cpus.number > 1 {
			mem.Settle() // nothing has to be, but that rests on all of package linux
			p.collect()
		}
		t := p.choose()
		if t == nil {
			p.idle()
			continue
		}
		p.current = t
		p.slice, p.hurry, p.look = 0, false, true
		p.shared = p.stamp
		if p.cpus.number > 1 {
			p.cpus.entries, p.cpus.ticks = p.entries, t.ctx.Ticks
			p.serveBack(t)
		}
		p.runThread(t)
		if p.current == nil {
			continue // another CPU runs it
		}
		p.account(t)
		if p.cpus.number > 1 {
			p.measure(t)
		}
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
	if p.cpus.back.head != nil {
		t := p.cpus.back.pop()
		t.urgent = false // its calls are not held against those that are woken
		return t
	}
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
	if p.wakeAt == 0 && p.cpus.busy() == 0 {
		say("firstlight: deadlock: every thread of the program waits, and nothing can wake one; it is killed\n")
		p.kill(sigKill)
	}
	p.current = nil
	if p.cpuTimers != 0 {
		p.recall()
	}
	ring0.Idle(p.wakeAt)
	p.expire(ring0.Nanotime())
	p.stamp = ring0.Ticks()
}

const (
	// yieldEvery is how many times ring 3 is entered before the Go runtime's own goroutines may run: the collector's above all,
	// which otherwise could only collect in what this goroutine allocates. A short program never gets there.
	yieldEvery = 256
	// leastRun is how long a thread has at least, in nanoseconds, before the timer interrupts it: timers of a nanosecond, which are
	// always over, leave it that.
	leastRun = 20e3
	// yieldNanos is after how long they may run while the program does not call the kernel, if there are any besides.
	yieldNanos = 10e6
)

// runThread runs t until it blocks, ends, or has had its share. It asks for the time only when something has changed that others
// could run for, or the timer has interrupted ring 3, as it does at the first moment that matters.
func (p *process) runThread(t *thread) {
	deadline := uint64(0)
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
		if p.look || p.cpuTimers != 0 {
			over := false
			if deadline, over = p.review(t); over {
				return
			}
			if t.notice {
				continue
			}
		}
		ctx := t.ctx
		if ctx.RIP >= userEnd {
			p.force(t, sigSegv, segvMapErr, ctx.RIP)
			continue
		}
		if p.entries++; p.entries%yieldEvery == 0 {
			p.yield()
		}
		switch trap := ring0.Enter(ctx, deadline); trap {
		case ring0.TrapSyscall:
			t.nr = ctx.RAX
			p.syscall(t)
		case ring0.TrapTimeslice:
			p.look, p.interrupted = true, true
			if p.noteOthers(); p.others {
				runtime.Gosched()
			}
		default:
			p.exception(t, trap)
		}
	}
}

// yield lets the kernel's other goroutines run.
func (p *process) yield() {
	runtime.Gosched()
	p.noteOthers()
}

// noteOthers looks whether the kernel has goroutines besides this one.
func (p *process) noteOthers() {
	if others := runtime.NumGoroutine() > 1; others != p.others {
		p.others, p.look = others, true
		ring0.Share(others)
	}
}

// review wakes those whose time has come and says whether t has to make way; else, when the timer is to interrupt it.
func (p *process) review(t *thread) (deadline uint64, over bool) {
	p.look = false
	if p.cpus.number > 1 {
		p.collect()
	}
	if !p.interrupted && !p.others && p.cpuTimers == 0 && !p.waiting() {
		p.slice, t.left = 0, 0
		return p.wakeBy, false
	}
	now := ring0.Nanotime()
	if p.wakeAt != 0 && now >= p.wakeAt && (p.interrupted || now >= p.wakeBy) {
		p.expire(now)
	}
	p.look, p.interrupted = false, false
	if p.cpuTimers != 0 {
		deadline = p.expireCPU(t, now)
	}
	if t.notice {
		p.look = true
		return 0, false
	}
	if p.cpus.number > 1 && p.share(t, now) || p.turnOver(t, now) {
		return 0, true
	}
	if deadline = sooner(sooner(deadline, p.wakeBy), p.slice); deadline != 0 {
		deadline = max(deadline, now+leastRun)
	}
	if p.others {
		deadline = sooner(deadline, now+yieldNanos)
	}
	return deadline, false
}

// waiting reports whether threads are ready besides those that run.
func (p *process) waiting() bool {
	return p.run.head != nil || p.woken.head != nil || p.cpus.back.head != nil
}

// sooner returns the earlier of two moments, of which 0 is never.
func sooner(a, b uint64) uint64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// turnOver reports whether t has to make way, and then has put it where it waits for its next turn: behind the others when it
// has had its slice, before them or among those that are woken, as it came, when one whose time came goes first.
func (p *process) turnOver(t *thread, now uint64) bool {
	hurry := p.hurry
	p.hurry = false
	if !p.waiting() {
		p.slice, t.left = 0, 0
		return false
	}
	if p.slice == 0 {
		if t.left == 0 {
			t.left = timeSlice
		}
		if p.slice = now + t.left; p.cpus.free != 0 {
			p.slice = min(p.slice, now+trySlice)
		}
		p.shared = ring0.Ticks()
		t.left = 0
	}
	switch {
	case now >= p.slice:
		p.run.push(t)
	case hurry && p.wokenFirst() || p.cpus.back.head != nil:
		t.left = p.slice - now
		if t.urgent { // at the head of the others it would overtake all of them each time
			p.woken.push(t)
		} else {
			p.run.pushFront(t)
		}
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
type cpuTime struct {
	user, sys meter
	seen      uint64 // of its Context's Ticks: what is accounted
}

// account adds the time since the last call to the meters of t, the current thread.
func (p *process) account(t *thread) {
	now, user := ring0.Ticks(), t.ctx.Ticks-t.cpu.seen
	t.cpu.seen += user
	t.cpu.user.ticks += user
	t.cpu.sys.ticks += now - p.stamp - user
	p.stamp = now
}

// cpuOf returns the CPU time of a thread in nanoseconds; of all that there are and were for nil.
func (p *process) cpuOf(t *thread) (user, sys uint64) {
	if c := p.current; c != nil {
		p.account(c)
	}
	p.accountAway()
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
