package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// sleepOnFiles makes t wait until something happens to some file, or for the nanoseconds of timeout if limited. done means
// that the wait is over: nothing happened.
func (p *process) sleepOnFiles(t *thread, limited bool, timeout uint64) (done bool, r int64) {
	if p.deliverable(t) {
		return true, -int64(eRestartNoHand)
	}
	if t.timedOut || limited && timeout == 0 {
		return true, 0
	}
	deadline := t.deadline
	if !t.waiting {
		deadline = 0
		if limited {
			deadline = after(timeout)
		}
	}
	return false, p.blockOnFile(t, nil, deadline, eRestartNoHand)
}

// timeoutOf reads the timeout of ppoll, pselect6 and epoll_pwait2.
func (p *process) timeoutOf(addr uint64) (limited bool, ns uint64, err vfs.Errno) {
	if addr == 0 {
		return false, 0, 0
	}
	ns, err = p.getTime(addr)
	return true, ns, err
}

// until returns the end of the wait of t's call for ns nanoseconds, which may have begun before.
func (p *process) until(t *thread, ns uint64) uint64 {
	if t.waiting {
		return t.deadline
	}
	return after(ns)
}

// timeLeft tells the program how much of its timeout at addr, if there is one, is left at the end of a call with the result r:
// now, or when a signal interrupts it. micro says that it is a struct timeval.
func (p *process) timeLeft(t *thread, addr, until uint64, micro bool, r int64) int64 {
	if addr != 0 {
		t.remaining, t.remainingMicro = addr, micro
		if t.state == running {
			p.putRemaining(t, until)
		}
	}
	return r
}

// putRemaining writes the time up to a moment where t wants it. That it cannot be written is no error.
func (p *process) putRemaining(t *thread, until uint64) {
	var left uint64
	if now := ring0.Nanotime(); until > now {
		left = until - now
	}
	if t.remainingMicro {
		p.putTimeval(t.remaining, left)
	} else {
		p.putTime(t.remaining, left)
	}
}

// milliseconds is the timeout of poll and epoll_wait; negative is for ever.
func milliseconds(ms uint64) (limited bool, ns uint64) {
	if int32(ms) < 0 {
		return false, 0
	}
	return true, uint64(uint32(ms)) * 1e6
}

// poll waits until one of count files of the array at addr has an event.
func (p *process) poll(t *thread, addr, count uint64, limited bool, timeout uint64) int64 {
	if count > maxFiles {
		return -int64(vfs.EINVAL)
	}
	if !userRange(addr, 8*count) {
		return -int64(vfs.EFAULT)
	}
	ready := int64(0)
	var b [8]byte
	for i := range count {
		at := addr + 8*i
		if !p.mm.copyIn(b[:], at) {
			return -int64(vfs.EFAULT)
		}
		fd, want := int32(le32(b[:])), uint32(le16(b[4:]))
		var got uint32
		if fd >= 0 {
			if f := p.file(uint64(fd)); f == nil {
				got = vfs.PollNval
			} else {
				got = pollOf(f) & (want | vfs.PollErr | vfs.PollHup)
			}
		}
		if got != 0 {
			ready++
		}
		set16(b[6:], uint16(got))
		if !p.mm.copyOut(at+6, b[6:]) {
			return -int64(vfs.EFAULT)
		}
	}
	if ready > 0 {
		return ready
	}
	_, r := p.sleepOnFiles(t, limited, timeout)
	return r
}

// The synonyms of POLLIN and POLLOUT that programs may ask for.
const (
	pollRdNorm = 0x40
	pollWrNorm = 0x100
)

func pollOf(f *vfs.File) uint32 {
	ev := f.Node.Poll()
	if ev&vfs.PollIn != 0 {
		ev |= pollRdNorm
	}
	if ev&vfs.PollOut != 0 {
		ev |= pollWrNorm
	}
	return ev
}

// selectFiles is select and pselect6: sets of n bits at in, out and except.
func (p *process) selectFiles(t *thread, n, in, out, except uint64, limited bool, timeout uint64) int64 {
	if int32(n) < 0 {
		return -int64(vfs.EINVAL)
	}
	n = min(uint64(uint32(n)), maxFiles)
	size := (n + 63) / 64 * 8
	addrs := [3]uint64{in, out, except}
	wanted := [3]uint32{vfs.PollIn | vfs.PollHup | vfs.PollErr, vfs.PollOut | vfs.PollErr, vfs.PollPri}
	sets := make([]byte, 6*size)
	for i, at := range addrs {
		if at != 0 && !p.mm.copyIn(sets[uint64(i)*size:uint64(i+1)*size], at) {
			return -int64(vfs.EFAULT)
		}
	}
	ready := int64(0)
	for fd := range n {
		for i := range uint64(3) {
			if sets[i*size+fd/8]>>(fd%8)&1 == 0 {
				continue
			}
			f := p.file(fd)
			if f == nil {
				return -int64(vfs.EBADF)
			}
			if f.Node.Poll()&wanted[i] != 0 {
				sets[(3+i)*size+fd/8] |= 1 << (fd % 8)
				ready++
			}
		}
	}
	if ready == 0 {
		if done, r := p.sleepOnFiles(t, limited, timeout); !done || r != 0 {
			return r
		}
	}
	for i, at := range addrs {
		if at != 0 && !p.mm.copyOut(at, sets[uint64(3+i)*size:uint64(4+i)*size]) {
			return -int64(vfs.EFAULT)
		}
	}
	return ready
}

// epoll is the set of files of an epoll descriptor.
type epoll struct {
	vfs.Base
	p       *process
	watch   []watch
	watched bool   // by another set, at some time
	told    uint64 // the event, by process.calls, that made a watch fresh
	level   int    // of sets between its file and this one
	next    int    // where the search for ready files begins, so that all get their turn
	opens   int

	polled   uint64 // the call, by process.calls, that ready is of
	ready    uint32
	search   uint64 // the call that looked here, for sets this many deep
	searched int
}

// watch is one file of the set. fresh says that something happened to it since it was last reported.
type watch struct {
	fd     int
	file   *vfs.File
	events uint32
	data   uint64
	fresh  bool
}

// Flags of epoll_ctl's events.
const (
	epollOneshot   = 1 << 30
	epollET        = 1 << 31
	epollWakeup    = 1 << 29
	epollExclusive = 1 << 28
	epollFlags     = epollOneshot | epollET | epollWakeup | epollExclusive
	epollAlone     = vfs.PollIn | vfs.PollOut | vfs.PollErr | vfs.PollHup | epollWakeup | epollET | epollExclusive // what may stand beside the last
)

func (p *process) epollCreate(flags uint64) int64 {
	if flags&^uint64(vfs.OCloexec) != 0 {
		return -int64(vfs.EINVAL)
	}
	e := &epoll{p: p}
	p.epolls = append(p.epolls, e)
	return p.install(vfs.NewFile(anonymous(e, "anon_inode:[eventpoll]", 0), vfs.ReadWriteF), 0, flags != 0)
}

func (e *epoll) Attr(a *vfs.Attr) { *a = vfs.Attr{Ino: 1, Mode: 0o600, Nlink: 1} }

func (e *epoll) Retain() { e.opens++ }

func (e *epoll) Release() {
	if e.opens--; e.opens > 0 {
		return
	}
	for i, o := range e.p.epolls {
		if o == e {
			e.p.epolls = append(e.p.epolls[:i], e.p.epolls[i+1:]...)
			return
		}
	}
}

// got returns the events that a watch has to report.
func (w *watch) got() uint32 {
	if w.events&^epollFlags == 0 || w.events&epollET != 0 && !w.fresh {
		return 0
	}
	return pollOf(w.file) & (w.events | vfs.PollErr | vfs.PollHup)
}

// Poll is worked out once a system call, however many sets watch this one.
func (e *epoll) Poll() uint32 {
	if e.polled != e.p.calls {
		e.polled, e.ready = e.p.calls, 0
		for i := range e.watch {
			if e.watch[i].got() != 0 {
				e.ready = vfs.PollIn
				break
			}
		}
	}
	return e.ready
}

// reaches reports whether e is, or watches through others, the set o, or is more than depth sets high. search numbers the search: what
// it has seen it does not look at again, or sets that all watch each other's watches would take for ever.
func (e *epoll) reaches(o *epoll, depth int, search uint64) bool {
	if e == o || depth == 0 {
		return true
	}
	if e.search == search && e.searched >= depth {
		return false
	}
	e.search, e.searched = search, depth
	for i := range e.watch {
		if sub, ok := e.watch[i].file.Node.(*epoll); ok && sub.reaches(o, depth-1, search) {
			return true
		}
	}
	return false
}

func (p *process) epollOf(fd uint64) (*epoll, vfs.Errno) {
	f := p.file(fd)
	if f == nil {
		return nil, vfs.EBADF
	}
	if e, ok := f.Node.(*epoll); ok {
		return e, 0
	}
	return nil, vfs.EINVAL
}

func (p *process) epollCtl(epfd, op, fd, addr uint64) int64 {
	const (
		ctlAdd, ctlDel, ctlMod = 1, 2, 3
		maxDepth               = 4
	)
	e, err := p.epollOf(epfd)
	if err != 0 {
		return -int64(err)
	}
	f := p.file(fd)
	if f == nil {
		return -int64(vfs.EBADF)
	}
	var b [12]byte
	if op != ctlDel && !p.mm.copyIn(b[:], addr) {
		return -int64(vfs.EFAULT)
	}
	if f.Kind == vfs.TypeReg || f.Kind == vfs.TypeDir || f.Kind == vfs.TypeChar && alwaysReady(f) {
		return -int64(vfs.EPERM)
	}
	sub, isEpoll := f.Node.(*epoll)
	if isEpoll {
		if sub == e {
			return -int64(vfs.EINVAL)
		}
		if sub.reaches(e, maxDepth, p.calls) {
			return -int64(vfs.ELOOP)
		}
	}
	i := 0
	for i < len(e.watch) && (e.watch[i].fd != int(uint32(fd)) || e.watch[i].file != f) {
		i++
	}
	found := i < len(e.watch)
	w := watch{fd: int(uint32(fd)), file: f, events: le32(b[:]) | vfs.PollErr | vfs.PollHup, data: le64(b[4:]), fresh: true}
	if w.events&epollExclusive != 0 && (op == ctlMod || op == ctlAdd && (w.events&^epollAlone != 0 || isEpoll)) ||
		op == ctlMod && found && e.watch[i].events&epollExclusive != 0 {
		return -int64(vfs.EINVAL)
	}
	switch op {
	case ctlAdd:
		if found {
			return -int64(vfs.EEXIST)
		}
		e.watch = append(e.watch, w)
	case ctlMod:
		if !found {
			return -int64(vfs.ENOENT)
		}
		e.watch[i] = w
	case ctlDel:
		if !found {
			return -int64(vfs.ENOENT)
		}
		e.watch = append(e.watch[:i], e.watch[i+1:]...)
		return 0
	default:
		return -int64(vfs.EINVAL)
	}
	if isEpoll {
		sub.watched = true
	}
	p.fileEvent(e, vfs.PollIn)
	return 0
}

// refresh marks the watches of node, and those of the sets that thereby have something to report, when events happened to it.
func (p *process) refresh(node vfs.Node, events uint32) {
	again := false
	for _, e := range p.epolls {
		for i := range e.watch {
			if w := &e.watch[i]; w.file.Node == node && w.events&events != 0 {
				w.fresh = true
				e.told, e.level = p.calls, 0
				again = again || e.watched
			}
		}
	}
	for level := 1; again; level++ { // ends: no set watches itself
		again = false
		for _, e := range p.epolls {
			for i := range e.watch {
				if sub, ok := e.watch[i].file.Node.(*epoll); ok && sub.told == p.calls && sub.level == level-1 && e.watch[i].events&vfs.PollIn != 0 {
					e.watch[i].fresh = true
					e.told, e.level = p.calls, level
					again = again || e.watched
				}
			}
		}
	}
}

// alwaysReady reports whether a device never makes anybody wait, and so cannot be polled: null, zero and their kin.
func alwaysReady(f *vfs.File) bool {
	const random = 1<<8 | 8
	var a vfs.Attr
	f.Node.Attr(&a)
	return a.Rdev>>8 == 1 && a.Rdev != random
}

// epollWait reports up to limit ready files.
func (p *process) epollWait(t *thread, epfd, addr, limit uint64, limited bool, timeout uint64) int64 {
	e, err := p.epollOf(epfd)
	if err != 0 {
		return -int64(err)
	}
	if int32(limit) <= 0 || limit > 1<<26 {
		return -int64(vfs.EINVAL)
	}
	if !userRange(addr, 12*limit) {
		return -int64(vfs.EFAULT)
	}
	n := uint64(0)
	var b [12]byte
	count := len(e.watch)
	for k := 0; k < count && n < limit; k++ {
		i := (e.next + k) % count
		w := &e.watch[i]
		got := w.got()
		if got == 0 {
			continue
		}
		set32(b[:], got)
		set64(b[4:], w.data)
		if !p.mm.copyOut(addr+12*n, b[:]) {
			if n == 0 {
				return -int64(vfs.EFAULT)
			}
			break
		}
		n++
		w.fresh = false
		if w.events&epollOneshot != 0 {
			w.events &= epollFlags
		}
		if n == limit {
			e.next = i + 1
		}
	}
	if n > 0 {
		return int64(n)
	}
	if limited && timeout == 0 { // a signal does not matter then
		return 0
	}
	done, r := p.sleepOnFiles(t, limited, timeout)
	if done && r == -int64(eRestartNoHand) {
		r = -int64(vfs.EINTR)
	}
	if !done {
		t.onSignal = vfs.EINTR // even with SA_RESTART: signal(7)
	}
	return r
}

// forgetWatches drops a closed descriptor from the epoll sets, as far as no other descriptor keeps its file open. Linux
// does so by file; a duplicate keeps the watch.
func (p *process) forgetWatches(fd int, f *vfs.File) {
	if len(p.epolls) == 0 {
		return
	}
	for i := range p.files {
		if p.files[i].file == f {
			return
		}
	}
	for _, e := range p.epolls {
		for i := 0; i < len(e.watch); {
			if e.watch[i].file == f {
				e.watch = append(e.watch[:i], e.watch[i+1:]...)
			} else {
				i++
			}
		}
	}
}

// after returns the moment ns nanoseconds from now; one that never comes if that is beyond the clock.
func after(ns uint64) uint64 {
	if t := ring0.Nanotime() + ns; t >= ns {
		return t
	}
	return ^uint64(0)
}
