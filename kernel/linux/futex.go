package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// Operations of futex(2) (include/uapi/linux/futex.h).
const (
	futexWait       = 0
	futexWake       = 1
	futexRequeue    = 3
	futexCmpRequeue = 4
	futexWakeOp     = 5
	futexWaitBitset = 9
	futexWakeBitset = 10
	futexPrivate    = 128
	futexRealtime   = 256
)

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

// A futex is known by its address: there is one address space. Two mappings of one shared page are two futexes.
func (p *process) futex(t *thread, addr, op, val, timeout, addr2, val3 uint64) int64 {
	if addr%4 != 0 {
		return -int64(vfs.EINVAL)
	}
	if !userRange(addr, 4) {
		return -int64(vfs.EFAULT)
	}
	bits := ^uint32(0)
	cmd := op &^ (futexPrivate | futexRealtime)
	switch cmd {
	case futexWaitBitset, futexWakeBitset:
		if bits = uint32(val3); bits == 0 {
			return -int64(vfs.EINVAL)
		}
	}
	switch cmd {
	case futexWait, futexWaitBitset:
		return p.futexWait(t, addr, uint32(val), timeout, bits, cmd == futexWaitBitset, op&futexRealtime != 0)
	case futexWake, futexWakeBitset:
		return p.futexWake(addr, int32(val), bits)
	case futexRequeue, futexCmpRequeue:
		if addr2%4 != 0 {
			return -int64(vfs.EINVAL)
		}
		if !userRange(addr2, 4) {
			return -int64(vfs.EFAULT)
		}
		if int32(val) < 0 || int32(timeout) < 0 {
			return -int64(vfs.EINVAL)
		}
		if cmd == futexCmpRequeue {
			if v, ok := p.mm.get32(addr); !ok {
				return -int64(vfs.EFAULT)
			} else if v != uint32(val3) {
				return -int64(vfs.EAGAIN)
			}
		}
		return p.futexRequeue(addr, addr2, int32(val), int32(timeout))
	case futexWakeOp:
		return p.futexWakeOp(addr, addr2, int32(val), int32(timeout), uint32(val3))
	}
	return -int64(vfs.ENOSYS)
}

func (p *process) futexWait(t *thread, addr uint64, val uint32, timeout uint64, bits uint32, absolute, realtime bool) int64 {
	var deadline uint64
	onSignal := eRestartSys
	if timeout != 0 {
		d, err := p.getTime(timeout)
		if err != 0 {
			return -int64(err)
		}
		if absolute {
			deadline = absoluteTime(d, realtime)
		} else {
			deadline = after(d)
			onSignal = vfs.EINTR
		}
	}
	v, ok := p.mm.get32(addr)
	if !ok {
		return -int64(vfs.EFAULT)
	}
	if v != val {
		return -int64(vfs.EAGAIN)
	}
	p.block(t, deadline, -int64(vfs.ETIMEDOUT), onSignal)
	t.futexAt, t.futexBits = addr, bits
	p.futexes.push(t)
	return 0
}

// futexWake wakes up to limit threads, at least one, in the order in which they came.
func (p *process) futexWake(addr uint64, limit int32, bits uint32) int64 {
	woken := int64(0)
	for t := p.futexes.head; t != nil; {
		next := t.nextQueue
		if t.futexAt == addr && t.futexBits&bits != 0 {
			p.futexes.remove(t)
			p.ready(t, 0)
			if woken++; woken >= int64(limit) {
				break
			}
		}
		t = next
	}
	return woken
}

func (p *process) futexRequeue(from, to uint64, wake, move int32) int64 {
	n := int64(0)
	if wake > 0 {
		n = p.futexWake(from, wake, ^uint32(0))
	}
	for t := p.futexes.head; t != nil && move > 0; t = t.nextQueue {
		if t.futexAt == from {
			t.futexAt = to
			move--
			n++
		}
	}
	return n
}

func (p *process) futexWakeOp(addr, addr2 uint64, wake, wake2 int32, op uint32) int64 {
	if addr2%4 != 0 {
		return -int64(vfs.EINVAL)
	}
	old, ok := p.mm.get32(addr2)
	if !ok {
		return -int64(vfs.EFAULT)
	}
	signed := func(v uint32) int32 { return int32(v<<20) >> 20 } // 12 bits
	arg, cmp := signed(op>>12&0xfff), signed(op&0xfff)
	if op>>28&8 != 0 {
		arg = 1 << (arg & 31)
	}
	v := old
	switch op >> 28 & 7 {
	case 0:
		v = uint32(arg)
	case 1:
		v += uint32(arg)
	case 2:
		v |= uint32(arg)
	case 3:
		v &^= uint32(arg)
	case 4:
		v ^= uint32(arg)
	default:
		return -int64(vfs.ENOSYS)
	}
	if !p.mm.put32(addr2, v) {
		return -int64(vfs.EFAULT)
	}
	var holds bool
	o := int32(old)
	switch op >> 24 & 15 {
	case 0:
		holds = o == cmp
	case 1:
		holds = o != cmp
	case 2:
		holds = o < cmp
	case 3:
		holds = o <= cmp
	case 4:
		holds = o > cmp
	case 5:
		holds = o >= cmp
	default:
		return -int64(vfs.ENOSYS)
	}
	n := p.futexWake(addr, wake, ^uint32(0))
	if holds {
		n += p.futexWake(addr2, wake2, ^uint32(0))
	}
	return n
}

// releaseRobust marks the robust mutexes that the ending thread t holds as left by a dead owner (Linux:
// Documentation/locking/robust-futex-ABI.rst).
func (p *process) releaseRobust(t *thread) {
	if t.robustList == 0 {
		return
	}
	head := t.robustList
	entry, ok1 := p.mm.get64(head)
	offset, ok2 := p.mm.get64(head + 8)
	pending, ok3 := p.mm.get64(head + 16)
	if !ok1 || !ok2 || !ok3 {
		return
	}
	const (
		limit    = 2048 // entries, against a list that runs in a circle
		waiters  = 1 << 31
		died     = 1 << 30
		tidMask  = died - 1
		priority = 1 // bit of an entry's address
	)
	leave := func(e uint64) {
		at := e&^priority + offset
		v, ok := p.mm.get32(at)
		if !ok || at%4 != 0 || v&tidMask != uint32(t.tid) {
			return
		}
		if p.mm.put32(at, v&waiters|died) && v&waiters != 0 {
			p.futexWake(at, 1, ^uint32(0))
		}
	}
	for range limit {
		if entry&^priority == head {
			break
		}
		next, ok := p.mm.get64(entry &^ priority)
		if entry != pending {
			leave(entry)
		}
		if !ok {
			return
		}
		entry = next
	}
	if pending != 0 {
		leave(pending)
	}
}
