package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// Operations of futex(2) (include/uapi/linux/futex.h).
const (
	futexWait          = 0
	futexWake          = 1
	futexRequeue       = 3
	futexCmpRequeue    = 4
	futexWakeOp        = 5
	futexLockPI        = 6
	futexUnlockPI      = 7
	futexTrylockPI     = 8
	futexWaitBitset    = 9
	futexWakeBitset    = 10
	futexWaitRequeuePI = 11
	futexCmpRequeuePI  = 12
	futexLockPI2       = 13
	futexPrivate       = 128
	futexRealtime      = 256
)

// Bits of the word of a futex that tells its owner, which is a thread's number.
const (
	futexWaiters = 1 << 31
	futexDied    = 1 << 30
	futexOwner   = futexDied - 1
)

// futexKey says what a futex is: its address in the program's memory, or its place in the file that is mapped there and
// shared, lest two mappings of one page are two futexes. at is odd, as no futex's address is: the zero key is none.
type futexKey struct {
	file vfs.Node
	at   uint64
}

// futexBuckets is how many queues there are, so that a program of many locks does not search all that wait for any.
const futexBuckets = 32

func (p *process) futexKey(addr uint64, private bool) futexKey {
	if !private {
		if a := p.mm.areas.find(addr); a != nil && a.file != nil && a.kind&areaShared != 0 {
			return futexKey{a.file.Node, a.page(addr)*pageSize + addr%pageSize | 1}
		}
	}
	return futexKey{at: addr | 1}
}

func (p *process) futexQueue(k futexKey) *queue { return &p.futexes[(k.at>>2^k.at>>12)%futexBuckets] }

// waitFutex blocks t until somebody wakes the futex; bits are those that a wake must have one of, 0 for the owner's handing over.
func (p *process) waitFutex(t *thread, addr uint64, k futexKey, bits uint32, deadline uint64, onSignal vfs.Errno) int64 {
	p.block(t, deadline, -int64(vfs.ETIMEDOUT), onSignal)
	t.futex, t.futexBits, t.futexAddr, t.heirTo = k, bits, addr, 0
	p.futexQueue(k).push(t)
	return 0
}

func (p *process) unqueueFutex(t *thread) {
	if t.anyOf != nil {
		p.leaveAny(t)
	} else {
		p.futexQueue(t.futex).remove(t)
	}
	t.futex = futexKey{}
}

func (p *process) futex(t *thread, addr, op, val, timeout, addr2, val3 uint64) int64 {
	if addr%4 != 0 {
		return -int64(vfs.EINVAL)
	}
	if !userRange(addr, 4) {
		return -int64(vfs.EFAULT)
	}
	bits := ^uint32(0)
	cmd := op & 127
	private, realtime := op&futexPrivate != 0, op&futexRealtime != 0
	switch cmd {
	case futexWaitBitset, futexWakeBitset:
		if bits = uint32(val3); bits == 0 {
			return -int64(vfs.EINVAL)
		}
	}
	if realtime && cmd != futexWaitBitset && cmd != futexWaitRequeuePI && cmd != futexLockPI2 {
		return -int64(vfs.ENOSYS)
	}
	k := p.futexKey(addr, private)
	switch cmd {
	case futexWait, futexWaitBitset:
		var deadline uint64
		onSignal := eRestartSys
		if timeout != 0 {
			d, err := p.getTime(timeout)
			if err != 0 {
				return -int64(err)
			}
			if cmd == futexWaitBitset {
				deadline = absoluteTime(d, realtime)
			} else {
				deadline = after(d)
			}
			onSignal = eRestartBlock
		}
		return p.futexWait(t, addr, private, uint32(val), bits, deadline, onSignal)
	case futexWake, futexWakeBitset:
		return p.futexWake(k, int32(val), bits)
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
		return p.futexRequeue(k, p.futexKey(addr2, private), int32(val), int32(timeout))
	case futexWaitRequeuePI:
		var deadline uint64
		if timeout != 0 {
			d, err := p.getTime(timeout)
			if err != 0 {
				return -int64(err)
			}
			deadline = absoluteTime(d, realtime)
		}
		return p.waitToOwn(t, addr, private, uint32(val), deadline, addr2)
	case futexCmpRequeuePI:
		return p.requeueOwned(addr, addr2, private, int32(val), int32(timeout), uint32(val3))
	case futexWakeOp:
		return p.futexWakeOp(k, addr2, private, int32(val), int32(timeout), uint32(val3))
	case futexLockPI, futexLockPI2:
		var deadline uint64
		if timeout != 0 {
			d, err := p.getTime(timeout)
			if err != 0 {
				return -int64(err)
			}
			deadline = absoluteTime(d, realtime || cmd == futexLockPI)
		}
		return p.lockOwned(t, addr, k, deadline, false)
	case futexTrylockPI:
		return p.lockOwned(t, addr, k, 0, true)
	case futexUnlockPI:
		return p.unlockOwned(t, addr, k)
	}
	return -int64(vfs.ENOSYS)
}

func (p *process) futexWait(t *thread, addr uint64, private bool, val, bits uint32, deadline uint64, onSignal vfs.Errno) int64 {
	v, ok := p.mm.get32(addr)
	if !ok {
		return -int64(vfs.EFAULT)
	}
	if v != val {
		return -int64(vfs.EAGAIN)
	}
	t.futexValue, t.private = val, private
	return p.waitFutex(t, addr, p.futexKey(addr, private), bits, deadline, onSignal)
}

// futexWake wakes up to limit threads, at least one, in the order in which they came, but those that wait for several futexes after
// all others. Who waits to own a futex is not woken: that is an error.
func (p *process) futexWake(k futexKey, limit int32, bits uint32) int64 {
	woken := int64(0)
	q := p.futexQueue(k)
	for t := q.head; t != nil; {
		next := t.nextQueue
		if t.futex == k && (t.futexBits == 0 || t.heirTo != 0) {
			return -int64(vfs.EINVAL)
		}
		if t.futexBits&bits != 0 && t.futex == k {
			p.unqueueFutex(t)
			p.ready(t, 0)
			if woken++; woken >= int64(limit) {
				return woken
			}
		}
		t = next
	}
	for len(p.anyOf) > 0 {
		t, i := p.waitsForAny(k)
		if t == nil {
			break
		}
		p.unqueueFutex(t)
		p.ready(t, int64(i))
		if woken++; woken >= int64(limit) {
			break
		}
	}
	return woken
}

func (p *process) futexRequeue(from, to futexKey, wake, move int32) int64 {
	n := int64(0)
	if wake > 0 {
		if n = p.futexWake(from, wake, ^uint32(0)); n < 0 {
			return n
		}
	}
	for t := p.futexQueue(from).head; t != nil && move > 0; {
		next := t.nextQueue
		if t.futex == from && (t.futexBits == 0 || t.heirTo != 0) {
			return -int64(vfs.EINVAL)
		}
		if t.futex == from {
			if from != to {
				p.unqueueFutex(t)
				t.futex = to
				p.futexQueue(to).push(t)
			}
			move--
			n++
		}
		t = next
	}
	for ; move > 0 && from != to && len(p.anyOf) > 0; move-- {
		t, i := p.waitsForAny(from)
		if t == nil {
			break
		}
		t.anyOf[i] = to
		n++
	}
	return n
}

func (p *process) futexWakeOp(k futexKey, addr2 uint64, private bool, wake, wake2 int32, op uint32) int64 {
	if addr2%4 != 0 {
		return -int64(vfs.EINVAL)
	}
	signed := func(v uint32) int32 { return int32(v<<20) >> 20 } // 12 bits
	arg, cmp := signed(op>>12&0xfff), signed(op&0xfff)
	if op>>28&8 != 0 {
		arg = 1 << (arg & 31)
	}
	what := op >> 28 & 7
	if what > 4 {
		return -int64(vfs.ENOSYS)
	}
	old, err := p.mm.change(addr2, func(v uint32) (uint32, bool) {
		switch what {
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
		}
		return v, true
	})
	if err != 0 {
		return -int64(err)
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
	n := p.futexWake(k, wake, ^uint32(0))
	if holds {
		n += p.futexWake(p.futexKey(addr2, private), wake2, ^uint32(0))
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
		priority = 1    // bit of the address of an entry that is handed over by its owner, which leaveOwned does
	)
	leave := func(e uint64) {
		at := e&^priority + offset
		if v, ok := p.mm.get32(at); !ok || at%4 != 0 || v&futexOwner != uint32(t.tid) {
			return
		}
		mine := false
		v, err := p.mm.change(at, func(v uint32) (uint32, bool) {
			mine = v&futexOwner == uint32(t.tid)
			return v&futexWaiters | futexDied, mine
		})
		if err == 0 && mine && v&futexWaiters != 0 {
			p.futexWake(p.futexKey(at, false), 1, ^uint32(0))
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
