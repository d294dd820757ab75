package linux

import "github.com/firstlight-boot/firstlight/kernel/vfs"

// Futexes whose word names the owner (Linux: Documentation/locking/pi-futex.rst). There they lend the owner the priority of who
// waits; here all threads have the same one, and what is left is that the lock is handed to the next in turn.

// lockOwned is FUTEX_LOCK_PI, or TRYLOCK_PI.
func (p *process) lockOwned(t *thread, addr uint64, k futexKey, deadline uint64, try bool) int64 {
	var owned bool
	var refused vfs.Errno
	_, err := p.mm.change(addr, func(v uint32) (uint32, bool) {
		owned, refused = false, 0
		switch owner := v & futexOwner; {
		case owner == uint32(t.tid):
			refused = vfs.EDEADLK
		case owner == 0:
			owned = true
			if v = v&futexDied | uint32(t.tid); p.heir(k) != nil {
				v |= futexWaiters
			}
			return v, true
		case p.byTID(int(owner)) == nil:
			refused = vfs.ESRCH
		}
		return v | futexWaiters, refused == 0
	})
	switch {
	case err != 0:
		return -int64(err)
	case refused != 0:
		return -int64(refused)
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
