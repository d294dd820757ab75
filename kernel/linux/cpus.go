package linux

import (
	"math/bits"
	"sync/atomic"

	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
)

// cpus are the machine's CPUs. The first runs the kernel, and threads of the program when there is nothing to serve. The others run
// threads only: each is given one and hands it back with its next call or fault, or when it is wanted back. So threads that
// compute go there, and threads that call much stay on the first.
type cpus struct {
	limit  int                    // the most that may be used
	total  int                    // that the machine has and that may be used; 0: not yet known
	number int                    // that are started, the first included; 0 before the program has several threads
	ready  uint64                 // bit n: CPU n can be used
	free   uint64                 // of these, those that run no thread
	on     [ring0.MaxCPUs]*thread // what they run
	since  [ring0.MaxCPUs]uint64  // the Nanotime since which
	back   queue                  // threads that came back and wait to be served
	sent   uint64                 // TSC when the others were started
	bad    uint64                 // those whose TSC is another

	entries, ticks uint64 // of ring 3, and of the current thread's Context, when it began to run
}

// busy returns the CPUs that run a thread.
func (c *cpus) busy() uint64 { return c.ready &^ c.free }

const (
	// computes is how long a thread runs between two calls, in nanoseconds, that is worth an interrupt each way.
	computes = 50e3
	// trySlice is how long a thread keeps the first CPU while others wait and another CPU could have it.
	trySlice = 200e3
)

// numCPUs returns how many CPUs the program is told of.
func (p *process) numCPUs() int {
	c := &p.cpus
	if c.total == 0 {
		c.total = 1
		if c.limit > 1 {
			c.total = min(ring0.CPUs(), c.limit)
		}
	}
	return c.total
}

// startCPUs starts the others, when the program has a second thread. They arrive while it runs.
func (p *process) startCPUs() {
	c := &p.cpus
	if c.number != 0 {
		return
	}
	c.number = 1
	if n := p.numCPUs(); n > 1 {
		c.sent = ring0.Ticks()
		if c.number += ring0.StartCPUs(n - 1); c.number > 1 {
			mem.Share()
		}
	}
}

// collect takes back what the other CPUs are done with, and notes which have arrived.
func (p *process) collect() {
	c := &p.cpus
	if bits.OnesCount64(c.ready|c.bad) < c.number-1 {
		p.arrivals()
	}
	for done := ring0.Returned(); done != 0; done &= done - 1 {
		n := bits.TrailingZeros64(done)
		t := c.on[n]
		c.on[n] = nil
		c.free |= 1 << n
		t.on, t.last, t.trap = 0, n, ring0.Result(n)
		used := p.away(t, t.ctx.Ticks)
		if t.trap == ring0.TrapTimeslice && !t.notice {
			p.run.push(t)
			continue
		}
		t.burst = used
		t.back = true
		c.back.push(t)
	}
}

// arrivals notes which CPUs have arrived. The clock is the TSC: one that does not agree is not used.
func (p *process) arrivals() {
	c := &p.cpus
	arrived := ring0.ReadyCPUs() &^ (c.ready | c.bad)
	for more := arrived; more != 0; more &= more - 1 {
		n := bits.TrailingZeros64(more)
		if at := ring0.Arrival(n); at < c.sent || at > ring0.Ticks() {
			c.bad |= 1 << n
			continue
		}
		c.ready |= 1 << n
		c.free |= 1 << n
	}
}

// away adds the time that t had on another CPU, whose Context says ticks, and returns that.
func (p *process) away(t *thread, ticks uint64) uint64 {
	if ticks <= t.cpu.seen {
		return 0
	}
	used := ticks - t.cpu.seen
	t.cpu.seen = ticks
	t.cpu.user.ticks += used
	return used
}

// accountAway adds the time of the threads that other CPUs run.
func (p *process) accountAway() {
	for busy := p.cpus.busy(); busy != 0; busy &= busy - 1 {
		t := p.cpus.on[bits.TrailingZeros64(busy)]
		ticks := atomic.LoadUint64(&t.ctx.Ticks)
		if int64(ticks) < 0 { // the TSC when it entered ring 3 is subtracted, and added when it leaves
			ticks += ring0.Ticks()
		}
		p.away(t, ticks)
	}
}

// serveBack serves what brought t back from another CPU.
func (p *process) serveBack(t *thread) {
	if !t.back {
		return
	}
	t.back = false
	switch t.trap {
	case ring0.TrapSyscall:
		t.nr = t.ctx.RAX
		p.syscall(t)
	case ring0.TrapTimeslice:
	default:
		p.exception(t, t.trap)
	}
}

// measure notes how long t, which ran on the first CPU, runs between two calls.
func (p *process) measure(t *thread) {
	c := &p.cpus
	if n := p.entries - c.entries; n != 0 {
		t.last = 0
		t.burst = (t.ctx.Ticks - c.ticks) / n
		c.entries, c.ticks = p.entries, t.ctx.Ticks
	}
}

// share gives t to another CPU if it computes, others are ready and a CPU is free, and reports whether it did. Without one that is
// free, those that had their slice are called back.
func (p *process) share(t *thread, now uint64) bool {
	c := &p.cpus
	if p.cpuTimers != 0 {
		p.recall()
		return false
	}
	if !p.waiting() {
		return false
	}
	p.measure(t)
	allowed := c.free
	if t.affinity != 0 {
		allowed &= t.affinity
	}
	if allowed != 0 && (ring0.Nanos(t.burst) >= computes || t.affinity&1 == 0 && t.affinity != 0) && t.ctx.RIP < userEnd {
		n := bits.TrailingZeros64(allowed)
		mem.Settle()
		p.account(t)
		if p.current = nil; !t.urgent {
			p.wokenTicks = 0 // it has its turn there
		}
		c.free &^= 1 << n
		c.on[n], c.since[n] = t, now
		t.on, t.left = n, 0
		ring0.Give(n, t.ctx)
		return true
	}
	if c.free == 0 && p.run.head != nil {
		for busy := c.busy(); busy != 0; busy &= busy - 1 {
			if n := bits.TrailingZeros64(busy); now-c.since[n] >= timeSlice {
				c.since[n] = now
				ring0.Kick(n)
			}
		}
	}
	return false
}

// recall has the threads that other CPUs run back: timers that count CPU time are looked at when the first CPU enters ring 3.
func (p *process) recall() {
	for busy := p.cpus.busy(); busy != 0; busy &= busy - 1 {
		ring0.Kick(bits.TrailingZeros64(busy))
	}
}
