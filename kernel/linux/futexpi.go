package linux

import "github.com/firstlight-boot/firstlight/kernel/vfs"

// Futexes whose word names the owner (Linux: Documentation/locking/pi-futex.rst). There they lend the owner the priority of who
// waits; here all threads have the same one, and what is left is that the lock is handed to the next in turn.

// claim makes t the owner of the futex at addr, if nobody is; else it notes that threads wait for it, as it does if more is set.
func (p *process) claim(t *thread, addr uint64, k futexKey, more bool) (owned bool, err vfs.Errno) {
	var refused vfs.Errno
	_, err = p.mm.change(addr, func(v uint32) (uint32, bool) {
		owned, refused = false, 0
		switch owner := v & futexOwner; {
		case owner == uint32(t.tid):
			refused = vfs.EDEADLK
		case owner == 0:
			owned = true
			if v = v&futexDied | uint32(t.tid); more || p.heir(k) != nil {
				v |= futexWaiters
			}
			return v, true
		case p.byTID(int(owner)) == nil:
			refused = vfs.ESRCH
		}
		return v | futexWaiters, refused == 0
	})
	if err == 0 {
		err = refused
	}
	return owned && err == 0, err
}

// lockOwned is FUTEX_LOCK_PI, or TRYLOCK_PI.
func (p *process) lockOwned(t *thread, addr uint64, k futexKey, deadline uint64, try bool) int64 {
	owned, err := p.claim(t, addr, k, false)
	switch {
	case err != 0:
		return -int64(err)
	case owned:
		return 0
	}
	if try {
		return -int64(vfs.EAGAIN)
	}
	return p.waitFutex(t, addr, k, 0, deadline, eRestartNoIntr)
}

// heir returns the thread that has waited longest to own the futex.
func (p *process) heir(k futexKey) *thread {
	for t := p.futexQueue(k).head; t != nil; t = t.nextQueue {
		if t.futexBits == 0 && t.futex == k {
			return t
		}
	}
	return nil
}

func (p *process) unlockOwned(t *thread, addr uint64, k futexKey) int64 {
	v, ok := p.mm.get32(addr)
	if !ok {
		return -int64(vfs.EFAULT)
	}
	if v&futexOwner != uint32(t.tid) {
		return -int64(vfs.EPERM)
	}
	if !p.handOver(addr, p.heir(k), 0) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

// handOver makes heir, if there is one, the owner.
func (p *process) handOver(addr uint64, heir *thread, flags uint32) bool {
	v := flags
	if heir != nil {
		v |= futexWaiters | uint32(heir.tid)
	}
	if !p.mm.put32(addr, v) {
		return false
	}
	if heir != nil {
		p.unqueueFutex(heir)
		p.ready(heir, 0)
	}
	return true
}

// leaveOwned hands what the ending thread owns, and others wait for, to these.
func (p *process) leaveOwned(t *thread) {
	for i := range p.futexes {
		for w := p.futexes[i].head; w != nil; {
			next := w.nextQueue
			if w.futexBits == 0 {
				if v, ok := p.mm.get32(w.futexAddr); ok && v&futexOwner == uint32(t.tid) {
					if p.handOver(w.futexAddr, p.heir(w.futex), futexDied) {
						next = p.futexes[i].head
					}
				}
			}
			w = next
		}
	}
}

// waitToOwn is FUTEX_WAIT_REQUEUE_PI: t waits at addr until somebody has it wait for the futex at addr2 instead, and then until it owns
// that.
func (p *process) waitToOwn(t *thread, addr uint64, private bool, val uint32, deadline, addr2 uint64) int64 {
	if addr == addr2 || addr2%4 != 0 {
		return -int64(vfs.EINVAL)
	}
	if !userRange(addr2, 4) {
		return -int64(vfs.EFAULT)
	}
	v, ok := p.mm.get32(addr)
	switch {
	case !ok:
		return -int64(vfs.EFAULT)
	case v != val:
		return -int64(vfs.EAGAIN)
	case p.futexKey(addr, private) == p.futexKey(addr2, private):
		return -int64(vfs.EINVAL)
	}
	p.waitFutex(t, addr, p.futexKey(addr, private), ^uint32(0), deadline, eRestartNoIntr)
	t.heirTo = addr2
	return 0
}

// requeueOwned is FUTEX_CMP_REQUEUE_PI: the first of those that wait at addr becomes the owner of the futex at addr2, if nobody is, and
// up to move others wait for that from now on; without that, one more does.
func (p *process) requeueOwned(addr, addr2 uint64, private bool, wake, move int32, val uint32) int64 {
	if addr == addr2 || addr2%4 != 0 || wake != 1 || move < 0 {
		return -int64(vfs.EINVAL)
	}
	v, ok := p.mm.get32(addr)
	if _, ok2 := p.mm.get32(addr2); !ok || !ok2 {
		return -int64(vfs.EFAULT)
	}
	if v != val {
		return -int64(vfs.EAGAIN)
	}
	from, to := p.futexKey(addr, private), p.futexKey(addr2, private)
	if from == to {
		return -int64(vfs.EINVAL)
	}
	// next returns the first that waits at addr, at or behind t; it must wait for the futex at addr2.
	next := func(t *thread) (*thread, bool) {
		for ; t != nil; t = t.nextQueue {
			if t.futex == from {
				return t, t.heirTo != 0 && p.futexKey(t.heirTo, private) == to
			}
		}
		return nil, true
	}
	n := int64(0)
	q := p.futexQueue(from)
	t, fits := next(q.head)
	if t == nil {
		return 0
	}
	if !fits {
		return -int64(vfs.EINVAL)
	}
	owned, err := p.claim(t, addr2, to, move > 0)
	if err != 0 {
		return -int64(err)
	}
	if owned {
		p.unqueueFutex(t)
		p.ready(t, 0)
		n++
	}
	for t, fits = next(q.head); t != nil && n < int64(move)+1; t, fits = next(q.head) {
		if !fits {
			return -int64(vfs.EINVAL)
		}
		p.unqueueFutex(t)
		t.futex, t.futexBits, t.futexAddr, t.heirTo = to, 0, addr2, 0
		t.onSignal = vfs.EAGAIN // as Linux: made again, the call would find another value
		p.futexQueue(to).push(t)
		n++
	}
	return n
}
