package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// timerFile is a timer of timerfd_create. Reading it takes the number of times that it was over.
type timerFile struct {
	vfs.Base
	timer
	p     *process
	clock uint64
	ticks uint64
	opens int
}

func (p *process) timerfdCreate(clockID, flags uint64) int64 {
	if flags&^uint64(vfs.OCloexec|vfs.ONonblock) != 0 {
		return -int64(vfs.EINVAL)
	}
	switch int32(clockID) {
	case clockRealtime, clockMonotonic, clockBoottime, clockRealtimeAlarm, clockBoottimeAlarm:
	default:
		return -int64(vfs.EINVAL)
	}
	f := &timerFile{p: p, clock: clockID}
	p.timerFiles = append(p.timerFiles, f)
	return p.install(vfs.NewFile(anonymous(f, "anon_inode:[timerfd]", 0), vfs.ReadWriteF|uint32(flags)&vfs.ONonblock), 0, flags&vfs.OCloexec != 0)
}

func (f *timerFile) Attr(a *vfs.Attr) { *a = vfs.Attr{Ino: 1, Mode: 0o600, Nlink: 1} }

func (f *timerFile) Retain() { f.opens++ }

func (f *timerFile) Release() {
	if f.opens--; f.opens > 0 {
		return
	}
	for i, o := range f.p.timerFiles {
		if o == f {
			f.p.timerFiles = append(f.p.timerFiles[:i], f.p.timerFiles[i+1:]...)
			return
		}
	}
}

func (f *timerFile) Poll() uint32 {
	if f.ticks != 0 || f.at != 0 && f.at <= ring0.Nanotime() {
		return vfs.PollIn
	}
	return 0
}

func (f *timerFile) ReadAt(b []byte, _ uint64) (int, vfs.Errno) {
	if len(b) < 8 {
		return 0, vfs.EINVAL
	}
	if now := ring0.Nanotime(); f.at != 0 && f.at <= now { // since the loop looked
		f.ticks += f.forward(now)
	}
	if f.ticks == 0 {
		return 0, vfs.EAGAIN
	}
	set64(b, f.ticks)
	f.ticks = 0
	f.p.wake(f.at, f.at)
	return 8, 0
}

func (p *process) timerFileOf(fd uint64) (*timerFile, vfs.Errno) {
	file := p.file(fd)
	if file == nil {
		return nil, vfs.EBADF
	}
	f, ok := file.Node.(*timerFile)
	if !ok {
		return nil, vfs.EINVAL
	}
	return f, 0
}

func (p *process) timerfdSettime(fd, flags, val, old uint64) int64 {
	const absolute, cancelOnSet = 1, 2 // nobody sets the wall clock
	every, first, err := p.getItimerspec(val)
	if err != 0 {
		return -int64(err)
	}
	if flags&^uint64(absolute|cancelOnSet) != 0 {
		return -int64(vfs.EINVAL)
	}
	f, err := p.timerFileOf(fd)
	if err != 0 {
		return -int64(err)
	}
	was, now := f.timer, ring0.Nanotime()
	f.ticks = 0
	f.start(now, first, every, flags&absolute != 0, isWall(f.clock) || int32(f.clock) == clockRealtimeAlarm)
	p.wake(f.at, f.at)
	if old != 0 {
		return p.putItimerspec(old, &was, now)
	}
	return 0
}

func (p *process) timerfdGettime(fd, addr uint64) int64 {
	f, err := p.timerFileOf(fd)
	if err != 0 {
		return -int64(err)
	}
	return p.putItimerspec(addr, &f.timer, ring0.Nanotime())
}

// signalFile is a signalfd: reading it takes the pending signals of a set, of the thread that reads and of the process.
type signalFile struct {
	vfs.Base
	p     *process
	set   uint64
	opens int
}

func (p *process) signalfd(fd, mask, size, flags uint64) int64 {
	if size != 8 || flags&^uint64(vfs.OCloexec|vfs.ONonblock) != 0 {
		return -int64(vfs.EINVAL)
	}
	set, ok := p.mm.get64(mask)
	if !ok {
		return -int64(vfs.EFAULT)
	}
	set &^= unblockable
	if int32(fd) != -1 {
		file := p.file(fd)
		if file == nil {
			return -int64(vfs.EBADF)
		}
		f, ok := file.Node.(*signalFile)
		if !ok {
			return -int64(vfs.EINVAL)
		}
		f.set = set
		p.signalEvent()
		return int64(int32(fd))
	}
	f := &signalFile{p: p, set: set}
	p.sigFiles = append(p.sigFiles, f)
	return p.install(vfs.NewFile(anonymous(f, "anon_inode:[signalfd]", 0), vfs.ReadWriteF|uint32(flags)&vfs.ONonblock), 0, flags&vfs.OCloexec != 0)
}

// signalEvent wakes who waits for a signal at a file.
func (p *process) signalEvent() {
	for _, f := range p.sigFiles {
		p.fileEvent(f, vfs.PollIn)
	}
}

func (f *signalFile) Attr(a *vfs.Attr) { *a = vfs.Attr{Ino: 1, Mode: 0o600, Nlink: 1} }

func (f *signalFile) Retain() { f.opens++ }

func (f *signalFile) Release() {
	if f.opens--; f.opens > 0 {
		return
	}
	for i, o := range f.p.sigFiles {
		if o == f {
			f.p.sigFiles = append(f.p.sigFiles[:i], f.p.sigFiles[i+1:]...)
			return
		}
	}
}

func (f *signalFile) Poll() uint32 {
	set := f.p.pending.set
	if t := f.p.current; t != nil {
		set |= t.pending.set
	}
	if set&f.set != 0 {
		return vfs.PollIn
	}
	return 0
}

func (f *signalFile) ReadAt(b []byte, _ uint64) (int, vfs.Errno) {
	if len(b) < sigInfoSize {
		return 0, vfs.EINVAL
	}
	n := 0
	for ; n+sigInfoSize <= len(b); n += sigInfoSize {
		s, ok := f.p.next(f.p.current, f.set)
		if !ok {
			break
		}
		s.putSignalfd(b[n:])
	}
	if n == 0 {
		return 0, vfs.EAGAIN
	}
	return n, 0
}

// putSignalfd lays out a struct signalfd_siginfo (include/uapi/linux/signalfd.h).
func (s *sigInfo) putSignalfd(b []byte) {
	clear(b[:sigInfoSize])
	set32(b, uint32(s.sig))
	set32(b[4:], s.errno)
	set32(b[8:], uint32(s.code))
	first, second := uint32(s.fields[0]), uint32(s.fields[0]>>32)
	switch {
	case s.code == siTimer:
		set32(b[24:], first)  // timer
		set32(b[32:], second) // overrun
		set32(b[44:], uint32(s.fields[1]))
		set64(b[48:], s.fields[1])
	case s.code == siKernel || s.fault:
		set64(b[72:], s.fields[0])
	default:
		set32(b[12:], first)  // pid
		set32(b[16:], second) // uid
		if s.code != siUser && s.code != siTkill {
			set32(b[44:], uint32(s.fields[1]))
			set64(b[48:], s.fields[1])
		}
	}
}
