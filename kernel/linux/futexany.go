package linux

import "github.com/firstlight-boot/firstlight/kernel/vfs"

// Threads that wait for any of several futexes (futex_waitv) are in a list of their own, not in the futexes' queues.

// anyFutex is what a thread waits for that waits for any of several; no futex has this key.
var anyFutex = futexKey{at: 2}

// waitsForAny returns the first thread that waits for k among others, and which of its futexes that is.
func (p *process) waitsForAny(k futexKey) (t *thread, i int) {
	for _, t := range p.anyOf {
		for i := range t.anyOf {
			if t.anyOf[i] == k {
				return t, i
			}
		}
	}
	return nil, 0
}

func (p *process) leaveAny(t *thread) {
	t.anyOf = nil
	for i := range p.anyOf {
		if p.anyOf[i] == t {
			n := copy(p.anyOf[i:], p.anyOf[i+1:]) + i
			p.anyOf[n] = nil
			p.anyOf = p.anyOf[:n]
			return
		}
	}
}

// futexWaitv is futex_waitv(2): addr has count times struct futex_waitv.
func (p *process) futexWaitv(t *thread, addr, count, flags, timeout, clock uint64) int64 {
	const (
		most    = 128
		size    = 24
		size32  = 2
		private = 128
	)
	if flags != 0 || uint32(count) == 0 || uint32(count) > most || addr == 0 {
		return -int64(vfs.EINVAL)
	}
	var deadline uint64
	if timeout != 0 {
		if c := int32(clock); c != clockRealtime && c != clockMonotonic {
			return -int64(vfs.EINVAL)
		}
		d, err := p.getTime(timeout)
		if err != 0 {
			return -int64(err)
		}
		deadline = absoluteTime(d, int32(clock) == clockRealtime)
	}
	var list [most]struct {
		val  uint64
		addr uint64
		key  futexKey
	}
	l := list[:uint32(count)]
	for i := range l {
		var b [size]byte
		if !p.mm.copyIn(b[:], addr+uint64(i)*size) {
			return -int64(vfs.EFAULT)
		}
		f := &l[i]
		f.val, f.addr = le64(b[:]), le64(b[8:])
		if how := le32(b[16:]); how&^private != size32 || le32(b[20:]) != 0 || f.val>>32 != 0 {
			return -int64(vfs.EINVAL)
		} else if f.addr%4 == 0 {
			f.key = p.futexKey(f.addr, how&private != 0)
		}
	}
	for i := range l {
		if l[i].addr%4 != 0 {
			return -int64(vfs.EINVAL)
		}
		if !userRange(l[i].addr, 4) {
			return -int64(vfs.EFAULT)
		}
	}
	for i := range l {
		if v, ok := p.mm.get32(l[i].addr); !ok {
			return -int64(vfs.EFAULT)
		} else if uint64(v) != l[i].val {
			return -int64(vfs.EAGAIN)
		}
	}
	if !vfs.Room(1) {
		return -int64(vfs.ENOMEM)
	}
	keys := make([]futexKey, len(l))
	for i := range l {
		keys[i] = l[i].key
	}
	p.block(t, deadline, -int64(vfs.ETIMEDOUT), eRestartSys)
	t.futex, t.anyOf = anyFutex, keys
	p.anyOf = append(p.anyOf, t)
	return 0
}
