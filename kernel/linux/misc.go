package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
	"github.com/firstlight-boot/firstlight/kernel/vfs/procfs"
)

// thePID is the process id of the program: there is no other process.
const thePID = 1

// Flags of clone(2) (include/uapi/linux/sched.h).
const (
	cloneVM            = 0x100
	cloneFS            = 0x200
	cloneFiles         = 0x400
	cloneSighand       = 0x800
	cloneThread        = 0x10000
	cloneSysvsem       = 0x40000
	cloneSettls        = 0x80000
	cloneParentSettid  = 0x100000
	cloneChildCleartid = 0x200000
	cloneDetached      = 0x400000
	cloneChildSettid   = 0x1000000
	cloneIO            = 0x80000000
	cloneThreadFlags   = cloneVM | cloneFS | cloneFiles | cloneSighand | cloneThread
	cloneKnown         = cloneThreadFlags | cloneSysvsem | cloneSettls | cloneParentSettid | cloneChildCleartid |
		cloneDetached | cloneChildSettid | cloneIO
)

// clone makes a thread. A process cannot be made: fork and vfork are not there.
func (p *process) clone(t *thread, flags, stack, parentTID, childTID, tls uint64) int64 {
	if flags&cloneThread == 0 {
		return p.notThere(nrFork)
	}
	if flags&cloneThreadFlags != cloneThreadFlags || flags&^uint64(cloneKnown) != 0 {
		return -int64(vfs.EINVAL)
	}
	if flags&cloneSettls != 0 && tls >= userEnd {
		return -int64(vfs.EPERM)
	}
	if p.numTh >= maxThreads || !vfs.Room(1) {
		return -int64(vfs.EAGAIN)
	}
	ctx := ring0.NewContext()
	*ctx = *t.ctx
	ctx.RAX = 0
	if stack != 0 {
		ctx.RSP = stack
	}
	if flags&cloneSettls != 0 {
		ctx.FSBase = tls
	}
	n := p.newThread(ctx)
	n.noNewPrivs, n.caps = t.noNewPrivs, t.caps
	n.mask, n.name, n.policy, n.priority, n.nice, n.timerSlack = t.mask, t.name, t.policy, t.priority, t.nice, t.timerSlack
	if flags&cloneParentSettid != 0 {
		p.mm.put32(parentTID, uint32(n.tid))
	}
	if flags&cloneChildSettid != 0 {
		p.mm.put32(childTID, uint32(n.tid))
	}
	if flags&cloneChildCleartid != 0 {
		n.clearTID = childTID
	}
	p.run.push(n)
	p.look = p.look || p.slice == 0
	return int64(n.tid)
}

// clone3 is clone with its arguments in memory (struct clone_args).
func (p *process) clone3(t *thread, addr, size uint64) int64 {
	if size < 64 || size > pageSize {
		return -int64(vfs.EINVAL)
	}
	var b [88]byte
	if !p.mm.copyIn(b[:min(size, 88)], addr) {
		return -int64(vfs.EFAULT)
	}
	flags, stack := le64(b[0:]), le64(b[40:])
	if stack != 0 {
		stack += le64(b[48:])
	}
	if le64(b[32:]) != 0 && flags&cloneThread != 0 || le64(b[64:]) != 0 { // a signal at exit, chosen thread ids
		return -int64(vfs.EINVAL)
	}
	return p.clone(t, flags, stack, le64(b[24:]), le64(b[16:]), le64(b[56:]))
}

func (p *process) archPrctl(t *thread, op, addr uint64) int64 {
	switch op {
	case 0x1001, 0x1002: // ARCH_SET_GS, ARCH_SET_FS
		if addr >= userEnd {
			return -int64(vfs.EPERM)
		}
		if op == 0x1001 {
			t.ctx.GSBase = addr
		} else {
			t.ctx.FSBase = addr
		}
		return 0
	case 0x1003, 0x1004: // ARCH_GET_FS, ARCH_GET_GS
		v := t.ctx.FSBase
		if op == 0x1004 {
			v = t.ctx.GSBase
		}
		if !p.mm.put64(addr, v) {
			return -int64(vfs.EFAULT)
		}
		return 0
	}
	return -int64(vfs.EINVAL)
}

func (p *process) prctl(t *thread, op, a, b uint64) int64 {
	const (
		setPdeathsig, getPdeathsig = 1, 2
		getDumpable, setDumpable   = 3, 4
		getKeepcaps, setKeepcaps   = 7, 8
		setName, getName           = 15, 16
		getSeccomp                 = 21
		capbsetRead                = 23
		getSecurebits              = 27
		getTSC                     = 25
		setTimerslack              = 29
		getTimerslack              = 30
		setSubreaper, getSubreaper = 36, 37
		setNoNewPrivs              = 38
		getNoNewPrivs              = 39
		setTHPDisable              = 41
		getTHPDisable              = 42
	)
	switch op {
	case setName:
		t.name = [16]byte{}
		for i := range len(t.name) - 1 {
			if !p.mm.copyIn(t.name[i:i+1], a+uint64(i)) {
				return -int64(vfs.EFAULT)
			}
			if t.name[i] == 0 {
				break
			}
		}
		return 0
	case getName:
		if !p.mm.copyOut(a, t.name[:]) {
			return -int64(vfs.EFAULT)
		}
		return 0
	case getSeccomp, getSecurebits:
		return 0
	case capbsetRead:
		if a > lastCapability {
			return -int64(vfs.EINVAL)
		}
		return 1
	// What follows is kept and told; but for the slack of timers it means nothing here.
	case setPdeathsig:
		if a > numSignals {
			return -int64(vfs.EINVAL)
		}
		p.told.deathSignal = uint32(a)
		return 0
	case getPdeathsig:
		return p.putResult(a, p.told.deathSignal)
	case setDumpable:
		return setFlag(&p.told.notDumpable, a^1)
	case getDumpable:
		return 1 - int64(p.told.notDumpable)
	case setKeepcaps:
		return setFlag(&p.told.keepCaps, a)
	case getKeepcaps:
		return int64(p.told.keepCaps)
	case getTSC:
		return p.putResult(a, 1)
	case setTimerslack:
		t.timerSlack = a
		if int64(a) <= 0 {
			t.timerSlack = 0
		}
		return 0
	case getTimerslack:
		if t.timerSlack == 0 {
			return 50000
		}
		return int64(t.timerSlack)
	case setSubreaper:
		return setFlag(&p.told.subreaper, min(a, 1))
	case getSubreaper:
		return p.putResult(a, p.told.subreaper)
	case setNoNewPrivs:
		if a != 1 || b != 0 {
			return -int64(vfs.EINVAL)
		}
		t.noNewPrivs = true
		return 0
	case getNoNewPrivs:
		if a != 0 || b != 0 {
			return -int64(vfs.EINVAL)
		}
		if t.noNewPrivs {
			return 1
		}
		return 0
	case setTHPDisable:
		return setFlag(&p.told.noHugePages, min(a, 1))
	case getTHPDisable:
		return int64(p.told.noHugePages)
	}
	return -int64(vfs.EINVAL)
}

// toldByPrctl is what prctl only keeps: flags are 0 or 1.
type toldByPrctl struct{ deathSignal, notDumpable, keepCaps, subreaper, noHugePages uint32 }

// lastCapability is CAP_CHECKPOINT_RESTORE.
const lastCapability = 40

func setFlag(flag *uint32, v uint64) int64 {
	if v > 1 {
		return -int64(vfs.EINVAL)
	}
	*flag = uint32(v)
	return 0
}

func (p *process) putResult(addr uint64, v uint32) int64 {
	if !p.mm.put32(addr, v) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

// Resources of getrlimit(2).
const (
	rlimitStack      = 3
	rlimitCore       = 4
	rlimitNofile     = 7
	rlimitMemlock    = 8
	rlimitSigpending = 11
	numRlimits       = 16
)

// setLimits sets the limits that a program begins with. Of those that it sets itself only those of pending signals, of the stack
// and, without CAP_IPC_LOCK, of locked memory have an effect; that of files stays as it is.
func (p *process) setLimits() {
	for i := range p.limits {
		p.limits[i] = [2]uint64{^uint64(0), ^uint64(0)}
	}
	p.limits[rlimitStack][0] = stackSize
	p.limits[rlimitCore][0] = 0
	p.limits[rlimitNofile] = [2]uint64{maxFiles, maxFiles}
	p.limits[rlimitSigpending] = [2]uint64{maxPending, maxPending}
}

func (p *process) rlimit(which, set, old uint64) int64 {
	if which >= numRlimits {
		return -int64(vfs.EINVAL)
	}
	var b [16]byte
	was := p.limits[which]
	if set != 0 {
		if !p.mm.copyIn(b[:], set) {
			return -int64(vfs.EFAULT)
		}
		cur, most := le64(b[:]), le64(b[8:])
		if cur > most {
			return -int64(vfs.EINVAL)
		}
		switch which {
		case rlimitNofile:
		case rlimitSigpending: // the kernel's memory is not the program's to give
			cur, most = min(cur, maxPending), min(most, maxPending)
			fallthrough
		default:
			p.limits[which] = [2]uint64{cur, most}
		}
		p.mm.stack = p.limits[rlimitStack][0]
	}
	if old != 0 {
		set64(b[:], was[0])
		set64(b[8:], was[1])
		if !p.mm.copyOut(old, b[:]) {
			return -int64(vfs.EFAULT)
		}
	}
	return 0
}

func (p *process) getrusage(t *thread, who, addr uint64) int64 {
	const self, children, ofThread = 0, -1, 1
	var b [144]byte
	switch int32(who) {
	case self:
		t = nil
	case ofThread:
	case children:
		if !p.mm.copyOut(addr, b[:]) {
			return -int64(vfs.EFAULT)
		}
		return 0
	default:
		return -int64(vfs.EINVAL)
	}
	user, sys := p.cpuOf(t)
	set64(b[0:], user/1e9)
	set64(b[8:], user%1e9/1000)
	set64(b[16:], sys/1e9)
	set64(b[24:], sys%1e9/1000)
	set64(b[32:], p.mm.pages*pageSize/1024)
	if !p.mm.copyOut(addr, b[:]) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

// times answers with the time since the kernel began, in ticks.
func (p *process) times(addr uint64) int64 {
	const tick = 1e9 / clockTick
	if addr != 0 {
		var b [32]byte
		user, sys := p.cpuOf(nil)
		set64(b[:], user/tick)
		set64(b[8:], sys/tick)
		if !p.mm.copyOut(addr, b[:]) {
			return -int64(vfs.EFAULT)
		}
	}
	return int64(ring0.Nanotime() / tick)
}

func (p *process) sysinfo(addr uint64) int64 {
	var b [112]byte
	total, free := mem.Stats()
	set64(b[0:], ring0.Nanotime()/1e9)
	set64(b[32:], total*pageSize)
	set64(b[40:], free*pageSize)
	set16(b[80:], uint16(p.numTh))
	set32(b[104:], 1) // unit of the sizes, in bytes
	if !p.mm.copyOut(addr, b[:]) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (p *process) uname(addr uint64) int64 {
	const field = 65
	var b [6 * field]byte
	for i, s := range [...]string{"Linux", p.host, procfs.Release, procfs.Version, "x86_64", "(none)"} {
		copy(b[i*field:(i+1)*field-1], s)
	}
	if !p.mm.copyOut(addr, b[:]) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

// maxRandom is how many random bytes one call makes, lest the kernel be busy with them for long (random(4)).
const maxRandom = 1<<25 - 1

func (p *process) getrandom(addr, size, flags uint64) int64 {
	const random, insecure = 2, 4
	if flags&^uint64(7) != 0 || flags&(random|insecure) == random|insecure {
		return -int64(vfs.EINVAL)
	}
	size = min(size, maxRandom)
	if !userRange(addr, size) {
		return -int64(vfs.EFAULT)
	}
	done := uint64(0)
	for done < size {
		b := p.mm.piece(addr+done, size-done, protWrite)
		if b == nil {
			if done == 0 {
				return -int64(vfs.EFAULT)
			}
			break
		}
		ring0.Random(b)
		done += uint64(len(b))
	}
	return int64(done)
}

// allCPUs is the mask of the CPUs that there are.
func (p *process) allCPUs() uint64 { return 1<<p.numCPUs() - 1 }

// getaffinity tells of the CPUs that there are, or of what setaffinity said.
func (p *process) getaffinity(tid, size, addr uint64) int64 {
	if size < 8 || size%8 != 0 {
		return -int64(vfs.EINVAL)
	}
	to := p.threadOf(p.current, tid)
	if to == nil {
		return -int64(vfs.ESRCH)
	}
	mask := to.affinity
	if mask == 0 {
		mask = p.allCPUs()
	}
	if !p.mm.put64(addr, mask) {
		return -int64(vfs.EFAULT)
	}
	return 8
}

func (p *process) setaffinity(tid, size, addr uint64) int64 {
	to := p.threadOf(p.current, tid)
	if to == nil {
		return -int64(vfs.ESRCH)
	}
	var b [8]byte
	if !p.mm.copyIn(b[:min(size, 8)], addr) {
		return -int64(vfs.EFAULT)
	}
	mask := le64(b[:]) & p.allCPUs()
	if mask == 0 {
		return -int64(vfs.EINVAL)
	}
	to.affinity = mask
	if to.on != 0 && mask&(1<<to.on) == 0 {
		ring0.Kick(to.on)
	}
	return 0
}

func (p *process) membarrier(cmd, flags uint64) int64 {
	// GLOBAL, GLOBAL_EXPEDITED and its registration, PRIVATE_EXPEDITED and its registration, the same for SYNC_CORE: an interrupt
	// to each CPU in ring 3 is all of them.
	const known = 1 | 2 | 4 | 8 | 16 | 32 | 64
	switch {
	case flags != 0:
		return -int64(vfs.EINVAL)
	case cmd == 0:
		return known
	case cmd&^known == 0 && cmd&(cmd-1) == 0:
		if p.cpus.busy() != 0 {
			ring0.Flush()
		}
		return 0
	}
	return -int64(vfs.EINVAL)
}

func (p *process) getcpu(cpu, node uint64) int64 {
	if cpu != 0 && !p.mm.put32(cpu, uint32(p.current.last)) || node != 0 && !p.mm.put32(node, 0) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

// threeIDs is getresuid and getresgid.
func (p *process) threeIDs(a, b, c uint64) int64 {
	if !p.mm.put32(a, 0) || !p.mm.put32(b, 0) || !p.mm.put32(c, 0) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

// setID allows what changes nothing: the program is root and stays so.
func setID(ids ...uint64) int64 {
	for _, id := range ids {
		if id := uint32(id); id != 0 && id != ^uint32(0) {
			return -int64(vfs.EPERM)
		}
	}
	return 0
}
