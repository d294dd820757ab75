package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// Clocks (include/uapi/linux/time.h).
const (
	clockRealtime        = 0
	clockMonotonic       = 1
	clockProcess         = 2
	clockThread          = 3
	clockMonotonicRaw    = 4
	clockRealtimeCoarse  = 5
	clockMonotonicCoarse = 6
	clockBoottime        = 7
	clockTAI             = 11
)

// clock reads a clock in nanoseconds. The program's CPU time is the time since the kernel began: it has the machine to
// itself, and its waits are counted in.
func clock(id uint64) (uint64, bool) {
	switch int32(id) {
	case clockRealtime, clockRealtimeCoarse, clockTAI:
		return ring0.Walltime(), true
	case clockMonotonic, clockMonotonicRaw, clockMonotonicCoarse, clockBoottime, clockProcess, clockThread:
		return ring0.Nanotime(), true
	}
	if int32(id) < 0 { // the CPU clock of a process or thread: pthread_getcpuclockid
		return ring0.Nanotime(), true
	}
	return 0, false
}

// forever is the longest time that getTime returns, 292 years.
const forever = 1<<63 - 1

// getTime reads a struct timespec in nanoseconds.
func (p *process) getTime(addr uint64) (uint64, vfs.Errno) {
	var b [16]byte
	if !p.mm.copyIn(b[:], addr) {
		return 0, vfs.EFAULT
	}
	s, ns := le64(b[:]), le64(b[8:])
	if int64(s) < 0 || ns >= 1e9 {
		return 0, vfs.EINVAL
	}
	if s >= forever/1000000000 {
		return forever, 0
	}
	return s*1e9 + ns, 0
}

func (p *process) putTime(addr, t uint64) bool {
	var b [16]byte
	set64(b[:], t/1e9)
	set64(b[8:], t%1e9)
	return p.mm.copyOut(addr, b[:])
}

// putTimeval writes a struct timeval.
func (p *process) putTimeval(addr, t uint64) bool {
	var b [16]byte
	set64(b[:], t/1e9)
	set64(b[8:], t%1e9/1000)
	return p.mm.copyOut(addr, b[:])
}

// getTimeval reads a struct timeval in nanoseconds.
func (p *process) getTimeval(addr uint64) (uint64, vfs.Errno) {
	var b [16]byte
	if !p.mm.copyIn(b[:], addr) {
		return 0, vfs.EFAULT
	}
	s, us := le64(b[:]), le64(b[8:])
	if int64(s) < 0 || us >= 1e6 {
		return 0, vfs.EINVAL
	}
	if s >= forever/1000000000 {
		return forever, 0
	}
	return s*1e9 + us*1000, 0
}

// absoluteTime turns a moment of the wall or monotonic clock into a Nanotime that block takes: never 0.
func absoluteTime(t uint64, wall bool) uint64 {
	if wall {
		offset := ring0.Walltime() - ring0.Nanotime()
		if t <= offset {
			return 1
		}
		t -= offset
	}
	return max(t, 1)
}

func (p *process) clockGettime(id, addr uint64) int64 {
	t, ok := clock(id)
	if !ok {
		return -int64(vfs.EINVAL)
	}
	if !p.putTime(addr, t) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (p *process) clockGetres(id, addr uint64) int64 {
	if _, ok := clock(id); !ok {
		return -int64(vfs.EINVAL)
	}
	if addr != 0 && !p.putTime(addr, 1) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (p *process) gettimeofday(tv, tz uint64) int64 {
	if tv != 0 && !p.putTimeval(tv, ring0.Walltime()) || tz != 0 && !p.put64(tz, 0) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (p *process) put64(addr, v uint64) bool { return p.mm.put64(addr, v) }

func (p *process) timeCall(addr uint64) int64 {
	s := ring0.Walltime() / 1e9
	if addr != 0 && !p.put64(addr, s) {
		return -int64(vfs.EFAULT)
	}
	return int64(s)
}

func (p *process) clockNanosleep(t *thread, id, flags, req, rem uint64) int64 {
	const absolute = 1
	if _, ok := clock(id); !ok || int32(id) == clockThread {
		return -int64(vfs.EINVAL)
	}
	d, err := p.getTime(req)
	if err != 0 {
		return -int64(err)
	}
	if flags&absolute != 0 {
		wall := int32(id) == clockRealtime || int32(id) == clockTAI
		return p.block(t, absoluteTime(d, wall), 0, eRestartNoHand)
	}
	if d == 0 {
		return 0
	}
	p.block(t, after(d), 0, vfs.EINTR)
	t.remaining = rem
	return 0
}

// setitimer knows the real-time timer.
func (p *process) setitimer(which, val, old uint64) int64 {
	if which != 0 {
		if which > 2 {
			return -int64(vfs.EINVAL)
		}
		return -int64(vfs.EOPNOTSUPP)
	}
	if val == 0 {
		return -int64(vfs.EFAULT)
	}
	every, err := p.getTimeval(val)
	if err != 0 {
		return -int64(err)
	}
	first, err := p.getTimeval(val + 16)
	if err != 0 {
		return -int64(err)
	}
	if old != 0 {
		if r := p.getitimer(0, old); r != 0 {
			return r
		}
	}
	p.setAlarm(first, every)
	return 0
}

// setAlarm makes SIGALRM come in first nanoseconds and then again and again; 0 is never.
func (p *process) setAlarm(first, every uint64) {
	p.alarmAt, p.alarmEvery = 0, 0
	if first != 0 {
		p.alarmAt, p.alarmEvery = after(first), every
		if p.wakeAt == 0 || p.alarmAt < p.wakeAt {
			p.wakeAt = p.alarmAt
		}
	}
}

func (p *process) alarmLeft() uint64 {
	if now := ring0.Nanotime(); p.alarmAt > now {
		return p.alarmAt - now
	}
	if p.alarmAt != 0 {
		return 1
	}
	return 0
}

func (p *process) getitimer(which, addr uint64) int64 {
	if which > 2 {
		return -int64(vfs.EINVAL)
	}
	var every, left uint64
	if which == 0 {
		every, left = p.alarmEvery, p.alarmLeft()
	}
	if !p.putTimeval(addr, every) || !p.putTimeval(addr+16, left) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (p *process) alarm(seconds uint64) int64 {
	left := (p.alarmLeft() + 999999999) / 1e9
	p.setAlarm(uint64(uint32(seconds))*1e9, 0)
	return int64(left)
}
