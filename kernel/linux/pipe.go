package linux

import "github.com/firstlight-boot/firstlight/kernel/vfs"

const (
	pipeSize = 65536 // bytes that a pipe holds
	pipeBuf  = 4096  // writes up to this are not torn apart: PIPE_BUF
)

// pipe is a ring of bytes that grows as it is used.
type pipe struct {
	p           *process
	ino         uint64
	ring        []byte
	start, used int
	r, w        pipeEnd
}

// pipeEnd is the node of one end; opens counts the open files of it.
type pipeEnd struct {
	vfs.Base
	pipe  *pipe
	write bool
	opens int
}

func (p *process) newIno() uint64 {
	p.lastInode++
	return p.lastInode
}

// anonymous returns the place of a file that has none, with the name that /proc/self/fd shows.
func anonymous(n vfs.Node, kind string, ino uint64) *vfs.Loc {
	var t vfs.Text
	t.Str(kind)
	if ino != 0 {
		t.Str(":[").Dec(ino).Str("]")
	}
	return &vfs.Loc{Node: n, Name: string(t)}
}

func (p *process) pipe2(addr, flags uint64) int64 {
	const direct = 0o40000
	if flags&^uint64(vfs.OCloexec|vfs.ONonblock|direct) != 0 {
		return -int64(vfs.EINVAL)
	}
	q := &pipe{p: p, ino: p.newIno()}
	q.r.pipe, q.w.pipe, q.w.write = q, q, true
	nonblock := uint32(flags) & vfs.ONonblock
	cloexec := flags&vfs.OCloexec != 0
	r := p.install(vfs.NewFile(anonymous(&q.r, "pipe", q.ino), vfs.ReadOnlyF|nonblock), 0, cloexec)
	if r < 0 {
		return r
	}
	w := p.install(vfs.NewFile(anonymous(&q.w, "pipe", q.ino), vfs.WriteOnlyF|nonblock), 0, cloexec)
	if w < 0 {
		p.close(uint64(r))
		return w
	}
	var b [8]byte
	set32(b[:], uint32(r))
	set32(b[4:], uint32(w))
	if !p.mm.copyOut(addr, b[:]) {
		p.close(uint64(r))
		p.close(uint64(w))
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (e *pipeEnd) Attr(a *vfs.Attr) {
	*a = vfs.Attr{Ino: e.pipe.ino, Mode: vfs.TypeFIFO | 0o600, Nlink: 1}
}

// changed wakes who waits at either end.
func (q *pipe) changed() {
	q.p.fileEvent(&q.r)
	q.p.fileEvent(&q.w)
}

// short reports whether a write of n bytes that must stay in one piece has to wait.
func (e *pipeEnd) short(n uint64) bool {
	q := e.pipe
	return n <= pipeBuf && uint64(pipeSize-q.used) < n && q.r.opens > 0
}

func (e *pipeEnd) ReadAt(b []byte, _ uint64) (int, vfs.Errno) {
	q := e.pipe
	if q.used == 0 {
		if q.w.opens == 0 {
			return 0, 0
		}
		return 0, vfs.EAGAIN
	}
	done := 0
	for done < len(b) && q.used > 0 {
		n := copy(b[done:], q.ring[q.start:min(q.start+q.used, len(q.ring))])
		done += n
		q.used -= n
		if q.start += n; q.start == len(q.ring) {
			q.start = 0
		}
	}
	q.changed()
	return done, 0
}

func (e *pipeEnd) WriteAt(b []byte, _ uint64) (int, vfs.Errno) {
	q := e.pipe
	if q.r.opens == 0 {
		return 0, vfs.EPIPE
	}
	if q.used == pipeSize {
		return 0, vfs.EAGAIN
	}
	if need := q.used + len(b); need > len(q.ring) && len(q.ring) < pipeSize && (q.ring == nil || vfs.Room(pipeSize/pageSize)) {
		size := max(pipeBuf, len(q.ring))
		for size < need && size < pipeSize {
			size *= 2
		}
		ring := make([]byte, size)
		n := copy(ring, q.ring[q.start:min(q.start+q.used, len(q.ring))])
		copy(ring[n:q.used], q.ring)
		q.ring, q.start = ring, 0
	}
	done := 0
	for done < len(b) && q.used < len(q.ring) {
		end := q.start + q.used
		stop := len(q.ring)
		if end >= stop {
			end -= stop
			stop = q.start
		}
		n := copy(q.ring[end:stop], b[done:])
		done += n
		q.used += n
	}
	q.changed()
	if done < len(b) {
		return done, vfs.EAGAIN
	}
	return done, 0
}

func (e *pipeEnd) Poll() uint32 {
	q := e.pipe
	var ev uint32
	if e.write {
		if pipeSize-q.used >= pipeBuf {
			ev |= vfs.PollOut
		}
		if q.r.opens == 0 {
			ev |= vfs.PollErr
		}
		return ev
	}
	if q.used > 0 {
		ev |= vfs.PollIn
	}
	if q.w.opens == 0 {
		ev |= vfs.PollHup
	}
	return ev
}

func (e *pipeEnd) Retain() { e.opens++ }

func (e *pipeEnd) Release() {
	if e.opens--; e.opens == 0 {
		e.pipe.changed()
	}
}

// eventFD is an event counter (eventfd(2)).
type eventFD struct {
	vfs.Base
	p         *process
	count     uint64
	semaphore bool
}

func (p *process) eventfd2(count, flags uint64) int64 {
	const semaphore = 1
	if flags&^uint64(semaphore|vfs.OCloexec|vfs.ONonblock) != 0 {
		return -int64(vfs.EINVAL)
	}
	e := &eventFD{p: p, count: uint64(uint32(count)), semaphore: flags&semaphore != 0}
	f := vfs.NewFile(anonymous(e, "anon_inode:[eventfd]", 0), vfs.ReadWriteF|uint32(flags)&vfs.ONonblock)
	return p.install(f, 0, flags&vfs.OCloexec != 0)
}

func (e *eventFD) Attr(a *vfs.Attr) { *a = vfs.Attr{Ino: 1, Mode: 0o600, Nlink: 1} }

func (e *eventFD) ReadAt(b []byte, _ uint64) (int, vfs.Errno) {
	if len(b) < 8 {
		return 0, vfs.EINVAL
	}
	if e.count == 0 {
		return 0, vfs.EAGAIN
	}
	n := e.count
	if e.semaphore {
		n = 1
	}
	e.count -= n
	set64(b, n)
	e.p.fileEvent(e)
	return 8, 0
}

func (e *eventFD) WriteAt(b []byte, _ uint64) (int, vfs.Errno) {
	if len(b) < 8 {
		return 0, vfs.EINVAL
	}
	n := le64(b)
	if n == ^uint64(0) {
		return 0, vfs.EINVAL
	}
	if e.count+n < n || e.count+n == ^uint64(0) {
		return 0, vfs.EAGAIN
	}
	e.count += n
	e.p.fileEvent(e)
	return 8, 0
}

func (e *eventFD) Poll() uint32 {
	var ev uint32
	if e.count > 0 {
		ev |= vfs.PollIn
	}
	if e.count < ^uint64(0)-1 {
		ev |= vfs.PollOut
	}
	return ev
}
