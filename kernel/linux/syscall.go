package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// Numbers of calls that stand for others.
const (
	nrRtSigreturn = 15
	nrFork        = 57
	nrRestart     = 219
)

// syscall serves the call that t is in. Unless t has to wait, the call then has its result.
func (p *process) syscall(t *thread) {
	p.calls++
	r := p.call(t)
	if p.mm.short || vfs.Exhausted() {
		p.outOfMemory()
	}
	if t.state == running && !t.again {
		p.finish(t, r)
	}
}

// notThere is the answer to a call that there is none of. With Verbose it is named, once.
func (p *process) notThere(nr uint64) int64 {
	if p.verbose && nr < 1<<16 {
		for _, n := range p.missing {
			if uint64(n) == nr {
				return -int64(vfs.ENOSYS)
			}
		}
		p.missing = append(p.missing, uint16(nr))
		name := callName(nr)
		if name == "" {
			name = "without a name"
		}
		var l vfs.Text
		l.Str("firstlight: system call ").Str(name).Str(" (").Dec(nr).Str(") is not there\n")
		ring0.ConsoleWrite(l)
	}
	return -int64(vfs.ENOSYS)
}

func neg(e vfs.Errno) int64 { return -int64(e) }

const cwdFD = 1<<64 + atFDCWD // AT_FDCWD as an argument

// call dispatches by number (arch/x86/entry/syscalls/syscall_64.tbl); the compiler makes the switch a jump table.
func (p *process) call(t *thread) int64 {
	c := t.ctx
	a, b, d, e, f, g := c.RDI, c.RSI, c.RDX, c.R10, c.R8, c.R9
	switch t.nr {
	case 0: // read
		s, err := p.one(b, d)
		return p.read(t, a, s, err)
	case 1: // write
		s, err := p.one(b, d)
		return p.write(t, a, 0, s, err)
	case 2: // open
		return p.open(cwdFD, a, b, d)
	case 3: // close
		return p.close(a)
	case 4: // stat
		return p.fstatat(cwdFD, a, b, 0)
	case 5: // fstat
		return p.fstat(a, b)
	case 6: // lstat
		return p.fstatat(cwdFD, a, b, atSymlinkNofollow)
	case 7: // poll
		limited, ns := milliseconds(d)
		return p.poll(t, a, b, limited, ns)
	case 8: // lseek
		return p.lseek(a, b, d)
	case 9: // mmap
		return p.mmap(t, a, b, d, e, f, g)
	case 10: // mprotect
		return p.mprotect(a, b, d)
	case 11: // munmap
		return p.munmap(a, b)
	case 12: // brk
		return p.brkTo(t, a)
	case 13: // rt_sigaction
		return p.rtSigaction(a, b, d, e)
	case 14: // rt_sigprocmask
		return p.rtSigprocmask(t, a, b, d, e)
	case nrRtSigreturn:
		return p.sigreturn(t)
	case 16: // ioctl
		return p.ioctl(a, b, d)
	case 17, 18: // pread64, pwrite64
		s, err := p.one(b, d)
		return p.positional(t, a, e, 0, t.nr == 18, s, err)
	case 19: // readv
		s, err := p.iovec(b, d)
		return p.read(t, a, s, err)
	case 20: // writev
		s, err := p.iovec(b, d)
		return p.write(t, a, 0, s, err)
	case 21: // access
		return p.access(cwdFD, a, b, 0)
	case 22: // pipe
		return p.pipe2(a, 0)
	case 23: // select
		limited, ns := false, uint64(0)
		if f != 0 {
			var err vfs.Errno
			if ns, err = p.getTimeval(f); err != 0 {
				return neg(err)
			}
			limited = true
		}
		until := p.until(t, ns)
		return p.timeLeft(t, f, until, true, p.selectFiles(t, a, b, d, e, limited, ns))
	case 24: // sched_yield
		if p.run.head != nil || p.woken.head != nil {
			p.slice = 1 // long over
		}
		return 0
	case 25: // mremap
		return p.mremap(t, a, b, d, e, f)
	case 26: // msync
		return p.msync(a, b, d)
	case 27: // mincore
		return p.mincore(a, b, d)
	case 28: // madvise
		return p.madvise(a, b, d)
	case 32: // dup
		return p.dup(a, 0, false)
	case 33: // dup2
		return p.dup3(a, b, 0, true)
	case 34: // pause
		return p.pause(t)
	case 35: // nanosleep
		return p.clockNanosleep(t, clockMonotonic, 0, a, b)
	case 36: // getitimer
		return p.getitimer(a, b)
	case 37: // alarm
		return p.alarm(a)
	case 38: // setitimer
		return p.setitimer(a, b, d)
	case 39, 111: // getpid, getpgrp
		return thePID
	case 40: // sendfile
		return p.sendfile(t, a, b, d, e)
	case 41, 53: // socket, socketpair: there is no network
		return neg(vfs.EAFNOSUPPORT)
	case 56: // clone
		return p.clone(t, a, b, d, e, f)
	case 60: // exit
		p.endThread(t, int(a))
		return 0
	case 61, 247: // wait4, waitid
		return neg(vfs.ECHILD)
	case 62: // kill
		return p.sendSignal(int64(int32(a)), b)
	case 63: // uname
		return p.uname(a)
	case 72: // fcntl
		return p.fcntl(a, b, d)
	case 73: // flock
		return p.flock(t, a, b)
	case 306: // syncfs
		if p.file(a) == nil {
			return neg(vfs.EBADF)
		}
		return 0
	case 74, 75: // fsync, fdatasync
		return p.fsync(a)
	case 76: // truncate
		l, err := p.existing(cwdFD, a, true)
		if err != 0 {
			return neg(err)
		}
		return p.truncateNode(l, b)
	case 77: // ftruncate
		return p.ftruncate(a, b)
	case 79: // getcwd
		return p.getcwd(a, b)
	case 80: // chdir
		l, err := p.existing(cwdFD, a, true)
		if err != 0 {
			return neg(err)
		}
		return p.setCwd(l)
	case 81: // fchdir
		l, err := p.place(a)
		if err != 0 {
			return neg(err)
		}
		return p.setCwd(l)
	case 82: // rename
		return p.renameat(cwdFD, a, cwdFD, b, 0)
	case 83: // mkdir
		return p.mkdirat(cwdFD, a, b)
	case 84: // rmdir
		return p.unlinkat(cwdFD, a, atRemoveDir)
	case 85: // creat
		return p.open(cwdFD, a, vfs.OCreat|vfs.OTrunc|vfs.WriteOnlyF, b)
	case 86: // link
		return p.linkat(cwdFD, a, cwdFD, b, 0)
	case 87: // unlink
		return p.unlinkat(cwdFD, a, 0)
	case 88: // symlink
		return p.symlinkat(a, cwdFD, b)
	case 89: // readlink
		return p.readlinkat(cwdFD, a, b, d)
	case 90: // chmod
		l, err := p.existing(cwdFD, a, true)
		return p.chmod(l, err, b)
	case 91: // fchmod
		l, err := p.opened(a)
		return p.chmod(l, err, b)
	case 92: // chown
		l, err := p.existing(cwdFD, a, true)
		return p.chown(l, err, b, d)
	case 93: // fchown
		l, err := p.opened(a)
		return p.chown(l, err, b, d)
	case 94: // lchown
		l, err := p.existing(cwdFD, a, false)
		return p.chown(l, err, b, d)
	case 95: // umask
		old := p.umask
		p.umask = uint32(a) & 0o777
		return int64(old)
	case 96: // gettimeofday
		return p.gettimeofday(a, b)
	case 97: // getrlimit
		return p.rlimit(a, 0, b)
	case 98: // getrusage
		return p.getrusage(t, a, b)
	case 99: // sysinfo
		return p.sysinfo(a)
	case 100: // times
		return p.times(a)
	case 102, 104, 107, 108, 110: // getuid, getgid, geteuid, getegid, getppid
		return 0
	case 105, 106: // setuid, setgid
		return setID(a)
	case 109, 112: // setpgid, setsid
		if t.nr == 109 {
			return 0
		}
		return thePID
	case 113, 114: // setreuid, setregid
		return setID(a, b)
	case 115: // getgroups
		return 0
	case 116: // setgroups
		return 0
	case 117, 119: // setresuid, setresgid
		return setID(a, b, d)
	case 118, 120: // getresuid, getresgid
		return p.threeIDs(a, b, d)
	case 121, 124: // getpgid, getsid
		if int32(a) != 0 && int32(a) != thePID {
			return neg(vfs.ESRCH)
		}
		return thePID
	case 125: // capget
		return p.capget(t, a, b)
	case 126: // capset
		return p.capset(t, a, b)
	case 127: // rt_sigpending
		return p.rtSigpending(t, a, b)
	case 128: // rt_sigtimedwait
		return p.rtSigtimedwait(t, a, b, d, e)
	case 129: // rt_sigqueueinfo
		return p.queueInfo(a, nil, b, d)
	case 130: // rt_sigsuspend
		return p.rtSigsuspend(t, a, b)
	case 131: // sigaltstack
		return p.sigaltstack(t, a, b)
	case 132: // utime
		return p.utimes(cwdFD, a, b, false)
	case 133: // mknod
		return p.mknodat(cwdFD, a, b)
	case 137, 138: // statfs, fstatfs
		var l *vfs.Loc
		var err vfs.Errno
		if t.nr == 137 {
			l, err = p.existing(cwdFD, a, true)
		} else {
			l, err = p.place(a)
		}
		if err != 0 {
			return neg(err)
		}
		return p.statfsNode(l, b)
	case 140: // getpriority
		return p.getpriority(t, a, b)
	case 141: // setpriority
		return p.setpriority(t, a, b, d)
	case 142: // sched_setparam
		return p.schedSet(t, a, 0, b, true)
	case 143: // sched_getparam
		return p.schedParam(t, a, b)
	case 144: // sched_setscheduler
		return p.schedSet(t, a, b, d, false)
	case 145: // sched_getscheduler
		return p.schedPolicy(t, a)
	case 146, 147: // sched_get_priority_max, sched_get_priority_min
		return schedPriority(a, t.nr == 146)
	case 148: // sched_rr_get_interval
		return p.schedInterval(t, a, b)
	case 149: // mlock
		return p.mlock(t, a, b, 0)
	case 150: // munlock
		return p.munlock(a, b)
	case 325: // mlock2
		return p.mlock(t, a, b, d)
	case 151: // mlockall
		return p.mlockall(t, a)
	case 152: // munlockall
		return p.munlockall()
	case 162: // sync
		return 0
	case 157: // prctl
		return p.prctl(t, a, b, d)
	case 158: // arch_prctl
		return p.archPrctl(t, a, b)
	case 160: // setrlimit
		return p.rlimit(a, b, 0)
	case 161, 165, 166, 167, 168, 169, 170, 171, 175, 176, 246, 272: // chroot, mount … unshare: not for programs here
		return neg(vfs.EPERM)
	case 186: // gettid
		return int64(t.tid)
	case 188, 189, 190, 191, 192, 193, 194, 195, 196, 197, 198, 199: // setxattr … fremovexattr
		return p.xattr(t.nr, a, b, d, e, f)
	case 187: // readahead
		file := p.file(a)
		switch {
		case file == nil || !file.CanRead():
			return neg(vfs.EBADF)
		case file.Kind != vfs.TypeReg:
			return neg(vfs.EINVAL)
		}
		return 0
	case 200: // tkill
		return p.tgkill(thePID, int64(int32(a)), b)
	case 201: // time
		return p.timeCall(a)
	case 202: // futex
		return p.futex(t, a, b, d, e, f, g)
	case 203: // sched_setaffinity
		return p.setaffinity(a, b, d)
	case 204: // sched_getaffinity
		return p.getaffinity(a, b, d)
	case 213: // epoll_create
		if int32(a) <= 0 {
			return neg(vfs.EINVAL)
		}
		return p.epollCreate(0)
	case 217: // getdents64
		return p.getdents64(a, b, d)
	case 218: // set_tid_address
		t.clearTID = a
		return int64(t.tid)
	case nrRestart: // restart_syscall
		return p.restart(t)
	case 221: // fadvise64
		return p.fadvise(a, e)
	case 222: // timer_create
		return p.timerCreate(t, a, b, d)
	case 223: // timer_settime
		return p.timerSettime(a, b, d, e)
	case 224: // timer_gettime
		return p.timerGettime(a, b)
	case 225: // timer_getoverrun
		return p.timerOverrun(a)
	case 226: // timer_delete
		return p.timerDelete(a)
	case 227: // clock_settime
		return neg(vfs.EPERM)
	case 228: // clock_gettime
		return p.clockGettime(t, a, b)
	case 229: // clock_getres
		return p.clockGetres(t, a, b)
	case 230: // clock_nanosleep
		return p.clockNanosleep(t, a, b, d, e)
	case 231: // exit_group
		p.exit(int(a))
		return 0
	case 232: // epoll_wait
		limited, ns := milliseconds(e)
		return p.epollWait(t, a, b, d, limited, ns)
	case 233: // epoll_ctl
		return p.epollCtl(a, b, d, e)
	case 234: // tgkill
		return p.tgkill(int64(int32(a)), int64(int32(b)), d)
	case 235: // utimes
		return p.utimes(cwdFD, a, b, true)
	case 257: // openat
		return p.open(a, b, d, e)
	case 258: // mkdirat
		return p.mkdirat(a, b, d)
	case 259: // mknodat
		return p.mknodat(a, b, d)
	case 260: // fchownat
		if f&^(atSymlinkNofollow|atEmptyPath) != 0 {
			return neg(vfs.EINVAL)
		}
		l, err := p.existingOr(a, b, f)
		return p.chown(l, err, d, e)
	case 261: // futimesat
		return p.utimes(a, b, d, true)
	case 262: // newfstatat
		return p.fstatat(a, b, d, e)
	case 263: // unlinkat
		return p.unlinkat(a, b, d)
	case 264: // renameat
		return p.renameat(a, b, d, e, 0)
	case 265: // linkat
		return p.linkat(a, b, d, e, f)
	case 266: // symlinkat
		return p.symlinkat(a, b, d)
	case 267: // readlinkat
		return p.readlinkat(a, b, d, e)
	case 268: // fchmodat
		l, err := p.existing(a, b, true)
		return p.chmod(l, err, d)
	case 269: // faccessat
		return p.access(a, b, d, 0)
	case 270: // pselect6
		limited, ns, err := p.timeoutOf(f)
		if err != 0 {
			return neg(err)
		}
		if g != 0 { // pointer to a pointer to the mask, and its size
			set, ok1 := p.mm.get64(g)
			size, ok2 := p.mm.get64(g + 8)
			if !ok1 || !ok2 {
				return neg(vfs.EFAULT)
			}
			if err := p.setMaskFor(t, set, size); err != 0 {
				return neg(err)
			}
		}
		until := p.until(t, ns)
		return p.timeLeft(t, f, until, false, p.selectFiles(t, a, b, d, e, limited, ns))
	case 271: // ppoll
		limited, ns, err := p.timeoutOf(d)
		if err != 0 {
			return neg(err)
		}
		if err := p.setMaskFor(t, e, f); err != 0 {
			return neg(err)
		}
		until := p.until(t, ns)
		return p.timeLeft(t, d, until, false, p.poll(t, a, b, limited, ns))
	case 273: // set_robust_list
		if b != 24 {
			return neg(vfs.EINVAL)
		}
		t.robustList = a
		return 0
	case 274: // get_robust_list
		to := p.threadOf(t, a)
		if to == nil {
			return neg(vfs.ESRCH)
		}
		if !p.mm.put64(b, to.robustList) || !p.mm.put64(d, 24) {
			return neg(vfs.EFAULT)
		}
		return 0
	case 280: // utimensat
		return p.utimensat(a, b, d, e)
	case 281: // epoll_pwait
		if err := p.setMaskFor(t, f, g); err != 0 {
			return neg(err)
		}
		limited, ns := milliseconds(e)
		return p.epollWait(t, a, b, d, limited, ns)
	case 282: // signalfd
		return p.signalfd(a, b, d, 0)
	case 283: // timerfd_create
		return p.timerfdCreate(a, b)
	case 284: // eventfd
		return p.eventfd2(a, 0)
	case 285: // fallocate
		return p.fallocate(a, b, d, e)
	case 286: // timerfd_settime
		return p.timerfdSettime(a, b, d, e)
	case 287: // timerfd_gettime
		return p.timerfdGettime(a, b)
	case 289: // signalfd4
		return p.signalfd(a, b, d, e)
	case 290: // eventfd2
		return p.eventfd2(a, b)
	case 291: // epoll_create1
		return p.epollCreate(a)
	case 292: // dup3
		return p.dup3(a, b, d, false)
	case 293: // pipe2
		return p.pipe2(a, b)
	case 295, 296: // preadv, pwritev
		s, err := p.iovec(b, d)
		return p.positional(t, a, e, 0, t.nr == 296, s, err)
	case 297: // rt_tgsigqueueinfo
		to := p.byTID(int(int32(b)))
		if to == nil {
			return neg(vfs.ESRCH)
		}
		return p.queueInfo(a, to, d, e)
	case 302: // prlimit64
		if int32(a) != 0 && int32(a) != thePID {
			return neg(vfs.ESRCH)
		}
		return p.rlimit(b, d, e)
	case 309: // getcpu
		return p.getcpu(a, b)
	case 316: // renameat2
		return p.renameat(a, b, d, e, f)
	case 318: // getrandom
		return p.getrandom(a, b, d)
	case 319: // memfd_create
		return p.memfdCreate(a, b)
	case 324: // membarrier
		return p.membarrier(a, b)
	case 327, 328: // preadv2, pwritev2
		s, err := p.iovec(b, d)
		if int64(e) == -1 && g&^rwfKnown == 0 { // at the file's own offset
			if t.nr == 328 {
				return p.write(t, a, g, s, err)
			}
			return p.read(t, a, s, err)
		}
		return p.positional(t, a, e, g, t.nr == 328, s, err)
	case 332: // statx
		return p.statx(a, b, d, e, f)
	case 435: // clone3
		return p.clone3(t, a, b)
	case 436: // close_range
		return p.closeRange(a, b, d)
	case 439: // faccessat2
		return p.access(a, b, d, e)
	case 441: // epoll_pwait2
		limited, ns, err := p.timeoutOf(e)
		if err != 0 {
			return neg(err)
		}
		if err := p.setMaskFor(t, f, g); err != 0 {
			return neg(err)
		}
		return p.epollWait(t, a, b, d, limited, ns)
	case 449: // futex_waitv
		return p.futexWaitv(t, a, b, d, e, f)
	}
	return p.notThere(t.nr)
}
