package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

const (
	pipeSize = 65536 // bytes that a pipe holds
	pipeBuf  = 4096  // writes up to this are not torn apart: PIPE_BUF
)

// pipe is a ring of bytes, whose pages are there as far as they are used.
type pipe struct {
	p           *process
	ino         uint64
	ring        [pipeSize / pageSize]mem.Frame
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

// short reports whether a write of n bytes that must stay in one piece has to wait.
func (e *pipeEnd) short(n uint64) bool {
	q := e.pipe
	return n <= pipeBuf && uint64(pipeSize-q.used) < n && q.r.opens > 0
}

// at returns the piece of the ring from byte i on, counted from its start, up to the end of a page. make has its page be there.
func (q *pipe) at(i int, make bool) []byte {
	i = (q.start + i) % pipeSize
	f := &q.ring[i/pageSize]
	if *f == 0 && make {
		*f = vfs.AllocDirty(abi.OwnPipes)
	}
	if *f == 0 {
		return nil
	}
	return f.Bytes(pageSize)[i%pageSize:]
}

// drop frees the page of the ring that byte i lies in.
func (q *pipe) drop(i int) {
	if f := &q.ring[i/pageSize%len(q.ring)]; *f != 0 {
		mem.Free(*f, abi.OwnPipes)
		*f = 0
	}
}

// roomy reports whether a write that must stay in one piece has room, whatever its size.
func (q *pipe) roomy() bool { return pipeSize-q.used >= pipeBuf }

func (e *pipeEnd) ReadAt(b []byte, _ uint64) (int, vfs.Errno) {
	q := e.pipe
	if q.used == 0 {
		if q.w.opens == 0 {
			return 0, 0
		}
		return 0, vfs.EAGAIN
	}
	roomy := q.roomy()
	done := 0
	for done < len(b) && q.used > 0 {
		page := q.at(0, false)
		n := copy(b[done:], page[:min(len(page), q.used)])
		done += n
		q.used -= n
		if n == len(page) && q.used <= pipeSize-pageSize { // else what was written last goes on at the page's beginning
			q.drop(q.start)
		}
		q.start = (q.start + n) % pipeSize
	}
	if !roomy { // else nobody waits to write
		events := uint32(0)
		if q.roomy() {
			events = vfs.PollOut
		}
		q.p.fileEvent(&q.w, events)
	}
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
	if q.used == 0 && q.ring[q.start/pageSize] == 0 {
		q.start = 0
	}
	if len(b) <= pipeBuf { // in one piece, or not at all
		for _, i := range [...]int{q.used, q.used + len(b) - 1} {
			if i >= q.used && i < pipeSize && q.at(i, true) == nil {
				return 0, vfs.ENOMEM
			}
		}
	}
	done := 0
	var err vfs.Errno
	for done < len(b) && q.used < pipeSize {
		page := q.at(q.used, true)
		if page == nil {
			err = vfs.ENOMEM
			break
		}
		n := copy(page[:min(len(page), pipeSize-q.used)], b[done:])
		done += n
		q.used += n
	}
	q.p.fileEvent(&q.r, vfs.PollIn)
	if err == 0 && done < len(b) {
		err = vfs.EAGAIN
	}
	return done, err
}

func (e *pipeEnd) Poll() uint32 {
	q := e.pipe
	var ev uint32
	if e.write {
		if q.roomy() {
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
		e.pipe.p.fileEvent(&e.pipe.r, anyEvent)
		e.pipe.p.fileEvent(&e.pipe.w, anyEvent)
		if q := e.pipe; q.r.opens+q.w.opens == 0 {
			for i := range q.ring {
				q.drop(i * pageSize)
			}
		}
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
	e.p.fileEvent(e, vfs.PollOut)
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
	e.p.fileEvent(e, vfs.PollIn)
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
