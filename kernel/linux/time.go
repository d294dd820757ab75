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
	clockRealtimeAlarm   = 8
	clockBoottimeAlarm   = 9
	clockTAI             = 11
)

// clockOwner reports whether there is a clock, and whose CPU time it counts: nil is the process's, or that of the world.
// The clock of a process or a thread, as clock_getcpuclockid makes it, is the complement of its number times 8, a bit that
// says which of the two, and what to count: 0 is all of it, 1 the program's own instructions, 2 the time that it ran.
func (p *process) clockOwner(t *thread, id uint64) (owner *thread, ok bool) {
	const perThread = 4
	switch c := int32(id); {
	case c == clockThread:
		return t, true
	case c >= 0:
		return nil, c <= clockBoottimeAlarm || c == clockTAI
	case c&3 == 3:
		return nil, false // of a file: a clock device
	case c&perThread == 0:
		pid := ^c >> 3
		return nil, pid == 0 || pid == thePID
	case ^c>>3 == 0:
		return t, true
	default:
		owner = p.byTID(int(^c >> 3))
		return owner, owner != nil
	}
}

// cpuClock reads a clock that counts CPU time.
func (p *process) cpuClock(id uint64, owner *thread) uint64 {
	user, sys := p.cpuOf(owner)
	if c := int32(id); c < 0 && c&3 == 1 {
		return user
	}
	return user + sys
}

// clock reads a clock in nanoseconds.
func (p *process) clock(t *thread, id uint64) (uint64, bool) {
	owner, ok := p.clockOwner(t, id)
	switch {
	case !ok:
		return 0, false
	case countsCPU(id):
		return p.cpuClock(id, owner), true
	}
	switch int32(id) {
	case clockRealtime, clockRealtimeCoarse, clockRealtimeAlarm, clockTAI:
		return ring0.Walltime(), true
	}
	return ring0.Nanotime(), true
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
		offset := ring0.WallBase()
		if t <= offset {
			return 1
		}
		t -= offset
	}
	return max(t, 1)
}

func (p *process) clockGettime(t *thread, id, addr uint64) int64 {
	now, ok := p.clock(t, id)
	if !ok {
		return -int64(vfs.EINVAL)
	}
	if !p.putTime(addr, now) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (p *process) clockGetres(t *thread, id, addr uint64) int64 {
	if _, ok := p.clockOwner(t, id); !ok {
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
	owner, ok := p.clockOwner(t, id)
	if !ok {
		return -int64(vfs.EINVAL)
	}
	switch c := int32(id); {
	case c == clockThread, c == clockMonotonicRaw, c == clockRealtimeCoarse, c == clockMonotonicCoarse:
		return -int64(vfs.EOPNOTSUPP)
	}
	d, err := p.getTime(req)
	if err != 0 {
		return -int64(err)
	}
	if countsCPU(id) {
		m := &posixTimer{p: p, clock: id, owner: owner, sleeper: t}
		if owner == t {
			return -int64(vfs.EINVAL) // which would never be over
		}
		if m.at = d; flags&absolute == 0 {
			m.at = saturate(m.now(), d)
		}
		if d == 0 || m.at <= m.now() {
			return 0
		}
		if flags&absolute != 0 {
			return p.sleepCPU(t, m, eRestartNoHand)
		}
		p.sleepCPU(t, m, eRestartBlock)
		t.remaining = rem
		return 0
	}
	if flags&absolute != 0 {
		return p.block(t, absoluteTime(d, isWall(id) || int32(id) == clockRealtimeAlarm), 0, eRestartNoHand)
	}
	if d == 0 {
		return 0
	}
	p.block(t, after(d), 0, eRestartBlock)
	t.remaining = rem
	return 0
}

// restart goes on with a sleep that a signal without a handler interrupted.
func (p *process) restart(t *thread) int64 {
	r := t.resume
	t.resume = resumption{}
	switch {
	case r.sleep != nil:
		p.sleepCPU(t, r.sleep, eRestartBlock)
		t.remaining = r.remaining
		return 0
	case r.futex != 0:
		return p.futexWait(t, r.futex, r.private, r.value, r.bits, r.deadline, eRestartBlock)
	case r.deadline != 0:
		p.block(t, r.deadline, 0, eRestartBlock)
		t.remaining = r.remaining
		return 0
	}
	return -int64(vfs.EINTR)
}
