package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// Kinds of setitimer.
const (
	itimerReal    = 0
	itimerVirtual = 1
	itimerProf    = 2
)

// itimerNow returns what setitimer's timer counts.
func (p *process) itimerNow(which uint64) uint64 {
	if which == itimerReal {
		return ring0.Nanotime()
	}
	user, sys := p.cpuOf(nil)
	if which == itimerProf {
		user += sys
	}
	return user
}

// setTimer makes m be over first nanoseconds from now, and then again and again; 0 is never.
func (m *timer) setTimer(now, first, every uint64) {
	m.at, m.every = 0, 0
	if first != 0 {
		m.at, m.every = saturate(now, first), every
	}
}

// saturate adds; what is beyond the clock's end never comes.
func saturate(a, b uint64) uint64 {
	if a+b < a {
		return ^uint64(0)
	}
	return a + b
}

func (p *process) setItimer(which, first, every uint64) {
	m := &p.itimers[which]
	m.setTimer(p.itimerNow(which), first, every)
	if which == itimerReal {
		p.wake(m.at, m.at)
	} else if m.at != 0 {
		p.cpuTimers++
	}
}

func (p *process) setitimer(which, val, old uint64) int64 {
	if which > itimerProf {
		return -int64(vfs.EINVAL)
	}
	var every, first uint64
	if val != 0 { // without one it is switched off
		var err vfs.Errno
		if every, err = p.getTimeval(val); err != 0 {
			return -int64(err)
		}
		if first, err = p.getTimeval(val + 16); err != 0 {
			return -int64(err)
		}
	}
	was := p.itimers[which]
	now := p.itimerNow(which)
	p.setItimer(which, first, every)
	if old != 0 && (!p.putTimeval(old, was.every) || !p.putTimeval(old+16, roundUp(was.left(now)))) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

// roundUp makes a time that is not over a whole number of microseconds, which is not 0.
func roundUp(ns uint64) uint64 { return (ns + 999) / 1000 * 1000 }

func (p *process) getitimer(which, addr uint64) int64 {
	if which > itimerProf {
		return -int64(vfs.EINVAL)
	}
	m := &p.itimers[which]
	if !p.putTimeval(addr, m.every) || !p.putTimeval(addr+16, roundUp(m.left(p.itimerNow(which)))) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

// alarm answers in whole seconds, rounded to the nearest, but never 0 for a timer that is on.
func (p *process) alarm(seconds uint64) int64 {
	left := p.itimers[itimerReal].left(ring0.Nanotime())
	p.setItimer(itimerReal, uint64(uint32(seconds))*1e9, 0)
	if left == 0 {
		return 0
	}
	return max(int64((left+5e8)/1e9), 1)
}

// Ways of a timer to tell (struct sigevent, include/uapi/asm-generic/siginfo.h).
const (
	sigevSignal   = 0
	sigevNone     = 1
	sigevThreadID = 4
)

func (p *process) timerCreate(t *thread, clockID, event, id uint64) int64 {
	owner, ok := p.clockOwner(t, clockID)
	switch int32(clockID) {
	case clockMonotonicRaw, clockRealtimeCoarse, clockMonotonicCoarse:
		return -int64(vfs.EOPNOTSUPP)
	}
	if !ok {
		return -int64(vfs.EINVAL)
	}
	if len(p.timers) >= maxTimers {
		return -int64(vfs.EAGAIN)
	}
	m := &posixTimer{p: p, clock: clockID, owner: owner, sig: sigAlrm, id: p.nextTimer}
	for p.timerByID(uint64(m.id)) != nil {
		m.id++
	}
	m.value = uint64(m.id)
	if event != 0 {
		var b [24]byte // sigev_value, sigev_signo, sigev_notify, thread
		if !p.mm.copyIn(b[:], event) {
			return -int64(vfs.EFAULT)
		}
		m.value, m.sig = le64(b[:]), int(int32(le32(b[8:])))
		how := le32(b[12:])
		switch how {
		case sigevNone:
			m.silent = true
		case sigevThreadID | sigevSignal:
			if m.target = p.byTID(int(int32(le32(b[16:])))); m.target == nil {
				return -int64(vfs.EINVAL)
			}
		case sigevSignal, 2: // SIGEV_THREAD is the C library's
		default:
			return -int64(vfs.EINVAL)
		}
		if !m.silent && (m.sig < 1 || m.sig > numSignals) {
			return -int64(vfs.EINVAL)
		}
	}
	if !p.mm.put32(id, uint32(m.id)) {
		return -int64(vfs.EFAULT)
	}
	p.timers = append(p.timers, m)
	p.nextTimer = (m.id + 1) & 0x7fffffff
	return 0
}

func (p *process) timerByID(id uint64) *posixTimer {
	for _, m := range p.timers {
		if m.id == int(int32(id)) {
			return m
		}
	}
	return nil
}

func (p *process) putItimerspec(addr uint64, m *timer, now uint64) int64 {
	if !p.putTime(addr, m.every) || !p.putTime(addr+16, m.left(now)) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

// getItimerspec reads a struct itimerspec.
func (p *process) getItimerspec(addr uint64) (every, first uint64, err vfs.Errno) {
	if every, err = p.getTime(addr); err != 0 {
		return 0, 0, err
	}
	first, err = p.getTime(addr + 16)
	return every, first, err
}

// start sets m, which counts as now does; wall says that a moment of the wall clock is meant by an absolute first.
func (m *timer) start(now, first, every uint64, absolute, wall bool) {
	if absolute && first != 0 {
		m.at, m.every = absoluteTime(first, wall), every
		return
	}
	m.setTimer(now, first, every)
}

func isWall(id uint64) bool { return int32(id) == clockRealtime || int32(id) == clockTAI }

func (p *process) timerSettime(id, flags, val, old uint64) int64 {
	if val == 0 {
		return -int64(vfs.EINVAL)
	}
	every, first, err := p.getItimerspec(val)
	if err != 0 {
		return -int64(err)
	}
	m := p.timerByID(id)
	if m == nil {
		return -int64(vfs.EINVAL)
	}
	now := m.now()
	was := *m.state(now)
	m.cancel()
	m.overrun = 0
	m.start(now, first, every, flags&1 != 0, isWall(m.clock))
	m.arm()
	if countsCPU(m.clock) && m.at != 0 {
		p.cpuTimers++
	}
	if old != 0 {
		return p.putItimerspec(old, &was, now)
	}
	return 0
}

func (p *process) timerGettime(id, addr uint64) int64 {
	m := p.timerByID(id)
	if m == nil {
		return -int64(vfs.EINVAL)
	}
	now := m.now()
	return p.putItimerspec(addr, m.state(now), now)
}

func (p *process) timerOverrun(id uint64) int64 {
	if m := p.timerByID(id); m != nil {
		return int64(min(m.overrun, 1<<31-1))
	}
	return -int64(vfs.EINVAL)
}

func (p *process) timerDelete(id uint64) int64 {
	for i, m := range p.timers {
		if m.id == int(int32(id)) {
			m.cancel()
			p.timers = append(p.timers[:i], p.timers[i+1:]...)
			return 0
		}
	}
	return -int64(vfs.EINVAL)
}
