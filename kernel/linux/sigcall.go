package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// System calls.

func (p *process) rtSigaction(sig, act, old, size uint64) int64 {
	if size != 8 || sig < 1 || sig > numSignals || act != 0 && bit(int(sig))&unblockable != 0 {
		return -int64(vfs.EINVAL)
	}
	var b [32]byte
	a := &p.actions[sig]
	was := *a
	if act != 0 {
		if !p.mm.copyIn(b[:], act) {
			return -int64(vfs.EFAULT)
		}
		*a = action{le64(b[:]), le64(b[8:]) & saKnown, le64(b[16:]), le64(b[24:]) &^ unblockable}
		if p.ignored(int(sig)) {
			p.discard(bit(int(sig)))
		}
	}
	if old != 0 {
		set64(b[:], was.handler)
		set64(b[8:], was.flags)
		set64(b[16:], was.restorer)
		set64(b[24:], was.mask)
		if !p.mm.copyOut(old, b[:]) {
			return -int64(vfs.EFAULT)
		}
	}
	return 0
}

func (p *process) rtSigprocmask(t *thread, how, set, old, size uint64) int64 {
	if size != 8 {
		return -int64(vfs.EINVAL)
	}
	was := t.mask
	if set != 0 {
		m, ok := p.mm.get64(set)
		if !ok {
			return -int64(vfs.EFAULT)
		}
		switch how {
		case 0:
			m |= was
		case 1:
			m = was &^ m
		case 2:
		default:
			return -int64(vfs.EINVAL)
		}
		p.setMask(t, m)
	}
	if old != 0 && !p.mm.put64(old, was) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (p *process) rtSigpending(t *thread, set, size uint64) int64 {
	if size > 8 {
		return -int64(vfs.EINVAL)
	}
	var b [8]byte
	set64(b[:], (t.pending.set|p.pending.set)&t.mask)
	if !p.mm.copyOut(set, b[:size]) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

// setMaskFor makes the set at an address, if that is not 0, the mask for the duration of a call that waits; it is restored when
// the call returns, or by the return of the handler that ended it.
func (p *process) setMaskFor(t *thread, set, size uint64) vfs.Errno {
	if t.restoreMask || set == 0 { // the call is made again
		return 0
	}
	if size != 8 {
		return vfs.EINVAL
	}
	m, ok := p.mm.get64(set)
	if !ok {
		return vfs.EFAULT
	}
	t.oldMask, t.restoreMask = t.mask, true
	p.setMask(t, m)
	return 0
}

// deliverable reports whether t has a signal to take now.
func (p *process) deliverable(t *thread) bool {
	for set := (t.pending.set | p.pending.set) &^ t.mask; set != 0; set &= set - 1 {
		if !p.ignored(lowest(set)) {
			return true
		}
	}
	return false
}

func (p *process) rtSigsuspend(t *thread, set, size uint64) int64 {
	if set == 0 {
		return -int64(vfs.EFAULT)
	}
	if err := p.setMaskFor(t, set, size); err != 0 {
		return -int64(err)
	}
	return p.pause(t)
}

func (p *process) pause(t *thread) int64 {
	if p.deliverable(t) {
		return -int64(eRestartNoHand)
	}
	return p.block(t, 0, 0, eRestartNoHand)
}

func (p *process) rtSigtimedwait(t *thread, set, info, timeout, size uint64) int64 {
	if size != 8 {
		return -int64(vfs.EINVAL)
	}
	m, ok := p.mm.get64(set)
	if !ok {
		return -int64(vfs.EFAULT)
	}
	m &^= unblockable
	t.waitSet = 0
	if s, ok := p.next(t, m); ok {
		if info != 0 {
			var b [sigInfoSize]byte
			s.put(b[:])
			if !p.mm.copyOut(info, b[:]) {
				return -int64(vfs.EFAULT)
			}
		}
		return int64(s.sig)
	}
	if p.deliverable(t) {
		return -int64(vfs.EINTR)
	}
	if t.timedOut {
		return -int64(vfs.EAGAIN)
	}
	deadline := t.deadline
	if !t.waiting && timeout != 0 {
		d, err := p.getTime(timeout)
		if err != 0 {
			return -int64(err)
		}
		if d == 0 {
			return -int64(vfs.EAGAIN)
		}
		deadline = after(d)
	}
	p.block(t, deadline, 0, vfs.EINTR)
	t.retry = true
	t.waitSet = m
	return 0
}

func (p *process) sigaltstack(t *thread, ss, old uint64) int64 {
	var b [24]byte
	was, sp := t.altStack, t.ctx.RSP
	if ss != 0 {
		if !p.mm.copyIn(b[:], ss) {
			return -int64(vfs.EFAULT)
		}
		if err := t.altStack.set(le64(b[:]), le64(b[16:]), le32(b[8:]), sp); err != 0 {
			return -int64(err)
		}
	}
	if old != 0 {
		set64(b[:], was.sp)
		set64(b[8:], uint64(was.state(sp)))
		set64(b[16:], was.size)
		if !p.mm.copyOut(old, b[:]) {
			return -int64(vfs.EFAULT)
		}
	}
	return 0
}

// sendSignal is kill: pid 0 and -1 mean the only process there is.
func (p *process) sendSignal(pid int64, sig uint64) int64 {
	if pid != thePID && pid != 0 && pid != -1 && pid != -thePID {
		return -int64(vfs.ESRCH)
	}
	if sig > numSignals {
		return -int64(vfs.EINVAL)
	}
	if sig != 0 {
		p.post(sigInfo{sig: int(sig), code: siUser, fields: sentBy})
	}
	return 0
}

func (p *process) tgkill(tgid, tid int64, sig uint64) int64 {
	if sig > numSignals || tgid <= 0 || tid <= 0 {
		return -int64(vfs.EINVAL)
	}
	t := p.byTID(int(tid))
	if t == nil || tgid != thePID {
		return -int64(vfs.ESRCH)
	}
	if sig != 0 {
		if !p.postTo(t, sigInfo{sig: int(sig), code: siTkill, fields: sentBy}) {
			return -int64(vfs.EAGAIN)
		}
	}
	return 0
}

// queueInfo is rt_sigqueueinfo and rt_tgsigqueueinfo, where t is the thread; pid is the process, of which there is one.
func (p *process) queueInfo(pid uint64, t *thread, sig, info uint64) int64 {
	var b [48]byte
	if !p.mm.copyIn(b[:], info) {
		return -int64(vfs.EFAULT)
	}
	code := int(int32(le32(b[8:])))
	if int32(pid) != thePID {
		if code >= 0 || code == siTkill { // what only the kernel says
			return -int64(vfs.EPERM)
		}
		return -int64(vfs.ESRCH)
	}
	if sig > numSignals {
		return -int64(vfs.EINVAL)
	}
	if sig == 0 {
		return 0
	}
	s := sigInfo{sig: int(sig), code: code, errno: le32(b[4:])}
	for i := range s.fields {
		s.fields[i] = le64(b[16+8*i:])
	}
	room := false
	if t != nil {
		room = p.postTo(t, s)
	} else {
		room = p.post(s)
	}
	if !room {
		return -int64(vfs.EAGAIN)
	}
	return 0
}
