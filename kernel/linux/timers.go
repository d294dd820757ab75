package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// timer is a moment, a Nanotime or an amount of CPU time, and what is added to it each time; at 0 it is off.
type timer struct{ at, every uint64 }

// left returns the nanoseconds to go at a moment: never 0 while it is on.
func (m *timer) left(now uint64) uint64 {
	switch {
	case m.at == 0:
		return 0
	case m.at > now:
		return m.at - now
	case m.every != 0:
		return m.every - (now-m.at)%m.every
	}
	return 1
}

// forward moves a timer that is over to its next moment behind now, or switches it off, and returns how often it was over.
func (m *timer) forward(now uint64) uint64 {
	if m.every == 0 {
		m.at = 0
		return 1
	}
	n := (now-m.at)/m.every + 1
	m.at += n * m.every
	return n
}

// shortest is the shortest time between two moments of a timer that counts CPU time, which Linux looks at when the scheduler ticks, or
// has nothing new to tell: without it one of a nanosecond would leave the program no time.
const shortest = 1e6

// slow keeps the next moment of a timer that comes again at least the shortest time away.
func (m *timer) slow(now uint64) {
	if m.every < shortest && m.at != 0 {
		m.at = max(m.at, saturate(now, shortest))
	}
}

// posixTimer is a timer of timer_create.
type posixTimer struct {
	timer
	p       *process
	id      int
	clock   uint64
	owner   *thread // whose CPU time it counts; nil: the process's, or that of the world
	target  *thread // that the signal goes to; nil: the process
	sleeper *thread // that sleeps until the timer is over, which then has no number
	silent  bool    // SIGEV_NONE
	sig     int
	value   uint64
	queued  bool   // its signal is pending; until it is taken the timer stands
	overrun uint64 // how often it was over besides when its signal was taken
}

// maxTimers bounds what timers cost the kernel.
const maxTimers = 4096

// countsCPU reports whether a clock counts CPU time.
func countsCPU(id uint64) bool {
	return int32(id) < 0 || int32(id) == clockProcess || int32(id) == clockThread
}

// now reads the timer's clock as its moments are counted: Nanotime, or CPU time.
func (m *posixTimer) now() uint64 {
	if !countsCPU(m.clock) {
		return ring0.Nanotime()
	}
	return m.p.cpuClock(m.clock, m.owner)
}

// fire sends the timer's signal.
func (m *posixTimer) fire() {
	s := sigInfo{sig: m.sig, code: siTimer, fields: [4]uint64{uint64(m.id), m.value}, timer: m}
	m.queued = true
	if m.target != nil {
		m.p.postTo(m.target, s)
	} else {
		m.p.post(s)
	}
	if m.queued && !m.pending() { // it is ignored
		m.queued = false
		now := m.now()
		m.forward(now)
		m.slow(now)
	}
}

// state is the timer as the program sees it: one that is silent is over when its time has come, for nobody looks at it.
func (m *posixTimer) state(now uint64) *timer {
	if m.silent && m.every == 0 && m.at <= now {
		m.at = 0
	}
	return &m.timer
}

// pending reports whether the signal is in a queue.
func (m *posixTimer) pending() bool {
	q := &m.p.pending
	if m.target != nil {
		q = &m.target.pending
	}
	for i := range q.list {
		if q.list[i].timer == m {
			return true
		}
	}
	return false
}

// taken completes the signal s, which was this timer's, and lets the timer go on.
func (m *posixTimer) taken(s *sigInfo) {
	m.queued = false
	m.overrun = 0
	if m.at != 0 {
		if now := m.now(); m.at <= now {
			m.overrun = m.forward(now) - 1
			if countsCPU(m.clock) {
				m.slow(now)
			}
		}
		m.arm()
	}
	s.fields[0] |= min(m.overrun, 1<<31-1) << 32
}

// arm makes the loop look at the timer when it is over.
func (m *posixTimer) arm() {
	if m.at != 0 && !m.silent && !countsCPU(m.clock) {
		m.p.wake(m.at, m.at)
	}
}

// cancel drops the timer's signal.
func (m *posixTimer) cancel() {
	if !m.queued {
		return
	}
	m.queued = false
	q := &m.p.pending
	if m.target != nil {
		q = &m.target.pending
	}
	for i := range q.list {
		if q.list[i].timer == m {
			sig := q.list[i].sig
			q.list = append(q.list[:i], q.list[i+1:]...)
			m.p.queued--
			for _, s := range q.list {
				if s.sig == sig {
					return
				}
			}
			q.set &^= bit(sig)
			return
		}
	}
}

// expireTimers fires the timers of the world's time that are over, and finds the next moment at which that happens.
func (p *process) expireTimers(now uint64) {
	if real := &p.itimers[itimerReal]; real.at != 0 {
		if real.at <= now {
			real.forward(now)
			if p.pending.set&bit(sigAlrm) != 0 || p.needless(&p.leader, sigAlrm) {
				real.slow(now)
			}
			p.post(sigInfo{sig: sigAlrm, code: siKernel})
			p.hurry = true
		}
		p.wake(real.at, real.at)
	}
	for _, m := range p.timers {
		if m.at == 0 || m.queued || m.silent || countsCPU(m.clock) {
			continue
		}
		if m.at <= now {
			m.fire()
			if m.queued && m.every == 0 {
				m.at = 0
			}
			p.hurry = true
		}
		if !m.queued {
			p.wake(m.at, m.at)
		}
	}
	for _, f := range p.timerFiles {
		if f.at == 0 || f.ticks != 0 { // once it was over it stands until it is read
			continue
		}
		if f.at <= now {
			f.ticks = f.forward(now)
			p.hurry = true
			p.fileEvent(f, vfs.PollIn)
		} else {
			p.wake(f.at, f.at)
		}
	}
}

// expireCPU fires the timers of CPU time that are over, and returns the Nanotime at which the next one is if t runs on.
func (p *process) expireCPU(t *thread, now uint64) (deadline uint64) {
	user, sys := p.cpuOf(nil)
	p.cpuTimers = 0
	check := func(m *timer, used uint64) bool {
		if m.at == 0 {
			return false
		}
		p.cpuTimers++
		if m.at <= used {
			return true
		}
		deadline = sooner(deadline, now+m.at-used)
		return false
	}
	for i, used := range [...]uint64{itimerVirtual: user, itimerProf: user + sys} {
		if m := &p.itimers[i]; i != itimerReal && check(m, used) {
			m.forward(used)
			m.slow(used)
			p.post(sigInfo{sig: sigVtalrm + i - itimerVirtual, code: siKernel})
			check(m, used)
		}
	}
	for _, m := range p.timers {
		if m.silent {
			continue
		}
		if m.queued || !countsCPU(m.clock) || m.owner != nil && m.owner != t {
			if m.at != 0 {
				p.cpuTimers++
			}
			continue
		}
		used := m.now()
		if check(&m.timer, used) {
			m.fire()
			if m.queued && m.every == 0 {
				m.at = 0
			}
		}
	}
	for i := 0; i < len(p.sleepers); {
		m := p.sleepers[i]
		if m.owner != nil && m.owner != t {
			p.cpuTimers++
		} else if check(&m.timer, m.now()) {
			p.awake(m.sleeper)
			p.ready(m.sleeper, 0)
			p.hurry = true
			continue
		}
		i++
	}
	return deadline
}

// sleepCPU makes t sleep until m, which counts somebody's CPU time, is over.
func (p *process) sleepCPU(t *thread, m *posixTimer, onSignal vfs.Errno) int64 {
	p.block(t, 0, 0, onSignal)
	t.sleep = m
	p.sleepers = append(p.sleepers, m)
	p.cpuTimers++
	p.look = true
	return 0
}

// awake ends a sleep of t by sleepCPU.
func (p *process) awake(t *thread) {
	for i, m := range p.sleepers {
		if m == t.sleep {
			n := copy(p.sleepers[i:], p.sleepers[i+1:]) + i
			p.sleepers[n] = nil
			p.sleepers = p.sleepers[:n]
			break
		}
	}
	t.sleep = nil
}

// endTimers takes from the timers the thread t, which ends.
func (p *process) endTimers(t *thread) {
	for _, m := range p.timers {
		if m.target == t {
			m.cancel()
			m.silent = true
			m.target = nil
		}
		if m.owner == t {
			m.at = 0
		}
	}
	for i := 0; i < len(p.sleepers); { // Linux lets those sleep on for ever
		if m := p.sleepers[i]; m.owner == t {
			p.awake(m.sleeper)
			p.ready(m.sleeper, 0)
			continue
		}
		i++
	}
}
