package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// Signals (include/uapi/asm/signal.h).
const (
	sigIll     = 4
	sigTrap    = 5
	sigBus     = 7
	sigFpe     = 8
	sigKill    = 9
	sigSegv    = 11
	sigPipe    = 13
	sigAlrm    = 14
	sigChld    = 17
	sigCont    = 18
	sigStop    = 19
	sigTstp    = 20
	sigTtin    = 21
	sigTtou    = 22
	sigUrg     = 23
	sigWinch   = 28
	firstRT    = 32 // from here on signals queue
	numSignals = 64
)

// Codes of siginfo (include/uapi/asm-generic/siginfo.h).
const (
	siUser       = 0
	siKernel     = 0x80
	siTkill      = -6
	fpeIntDiv    = 1
	fpeFloatDiv  = 3
	fpeOverflow  = 4
	fpeUnderflow = 5
	fpeInexact   = 6
	fpeInvalid   = 7
	illIllOpn    = 2
	busAdrAln    = 1
	trapTrace    = 2
)

// Flags of sigaction.
const (
	saSiginfo   = 0x4
	saRestorer  = 0x04000000
	saOnStack   = 0x08000000
	saRestart   = 0x10000000
	saNoDefer   = 0x40000000
	saResetHand = 0x80000000

	sigDfl = 0
	sigIgn = 1
)

// Flags of sigaltstack.
const (
	ssOnStack    = 1
	ssDisable    = 2
	ssAutodisarm = 1 << 31
	minAltStack  = 2048
)

// Results of a call that a signal interrupted, which never reach the program (include/linux/errno.h): made again if the
// handler has SA_RESTART or there is none; made again if there is none.
const (
	eRestartSys    vfs.Errno = 512
	eRestartNoHand vfs.Errno = 514
)

// action is what the program wants done with a signal.
type action struct {
	handler, flags, restorer, mask uint64
}

// sigInfo is a signal on its way.
type sigInfo struct {
	sig, code int
	addr      uint64 // of a fault; else the value that rt_sigqueueinfo sent
	sent      bool   // by a process: siginfo tells its pid and uid
	fault     bool
}

const sigInfoSize = 128

// put lays out a siginfo_t.
func (s *sigInfo) put(b []byte) {
	clear(b[:sigInfoSize])
	set32(b, uint32(s.sig))
	set32(b[8:], uint32(s.code))
	if s.sent {
		set32(b[16:], thePID)
		set64(b[24:], s.addr)
	} else {
		set64(b[16:], s.addr)
	}
}

func bit(sig int) uint64 { return 1 << (sig - 1) }

// unblockable signals cannot be masked, caught or ignored.
const unblockable = 1<<(sigKill-1) | 1<<(sigStop-1)

// ignored reports whether the signal would have no effect now. Stopping is not there: nothing could continue the program.
func (p *process) ignored(sig int) bool {
	switch p.actions[sig].handler {
	case sigIgn:
		return true
	case sigDfl:
		switch sig {
		case sigChld, sigCont, sigStop, sigTstp, sigTtin, sigTtou, sigUrg, sigWinch:
			return true
		}
	}
	return false
}

func add(list []sigInfo, s sigInfo) []sigInfo {
	if s.sig < firstRT {
		for i := range list {
			if list[i].sig == s.sig {
				return list
			}
		}
	}
	return append(list, s)
}

// maxPending bounds the queue of real-time signals, as RLIMIT_SIGPENDING does.
const maxPending = 4096

// post sends a signal to the process.
func (p *process) post(s sigInfo) {
	masked := true // by every thread
	t := p.threads
	for range p.numTh {
		if (t.mask&^t.waitSet)&bit(s.sig) == 0 {
			masked = false
		}
		t = t.next
	}
	if len(p.pending) >= maxPending || !masked && p.ignored(s.sig) && !p.awaited(s.sig) {
		return
	}
	p.pending = add(p.pending, s)
	// One thread takes it: the running one if it can, else the first that can.
	if c := p.current; c != nil && c.state == running && c.mask&bit(s.sig) == 0 {
		return
	}
	t = p.threads
	for range p.numTh {
		if p.poke(t, s.sig) {
			return
		}
		t = t.next
	}
}

func (p *process) awaited(sig int) bool {
	t := p.threads
	for range p.numTh {
		if t.waitSet&bit(sig) != 0 {
			return true
		}
		t = t.next
	}
	return false
}

// postTo sends a signal to one thread.
func (p *process) postTo(t *thread, s sigInfo) {
	if len(t.pending) >= maxPending || p.ignored(s.sig) && (t.mask|t.waitSet)&bit(s.sig) == 0 {
		return
	}
	t.pending = add(t.pending, s)
	p.poke(t, s.sig)
}

// poke makes t notice a signal, and reports whether it will.
func (p *process) poke(t *thread, sig int) bool {
	if t.state == blocked && t.waitSet&bit(sig) != 0 {
		p.ready(t, 0)
		return true
	}
	if t.mask&bit(sig) != 0 {
		return false
	}
	if t.state == blocked {
		p.interrupt(t)
	}
	return true
}

// interrupt ends the call that t is blocked in.
func (p *process) interrupt(t *thread) {
	if t.futexAt != 0 {
		p.futexes.remove(t)
	}
	if t.remaining != 0 {
		var left uint64
		if now := ring0.Nanotime(); t.deadline > now {
			left = t.deadline - now
		}
		p.putTime(t.remaining, left)
	}
	t.retry = false
	if t.progress != 0 {
		p.ready(t, int64(t.progress))
		return
	}
	p.ready(t, -int64(t.onSignal))
}

// take removes the next signal of set from a list.
func take(list *[]sigInfo, set uint64) (s sigInfo, ok bool) {
	for i := range *list {
		if s = (*list)[i]; set&bit(s.sig) != 0 {
			*list = append((*list)[:i], (*list)[i+1:]...)
			return s, true
		}
	}
	return s, false
}

// next takes the next signal of set that is pending for t.
func (p *process) next(t *thread, set uint64) (s sigInfo, ok bool) {
	if s, ok = take(&t.pending, set); ok {
		return s, ok
	}
	return take(&p.pending, set)
}

// deliver is called before t returns to the program: it runs the handler of one signal, if there is one to run, and ends what
// a call has left to do.
func (p *process) deliver(t *thread) {
	for {
		s, ok := p.next(t, ^t.mask)
		if ok && p.ignored(s.sig) {
			continue
		}
		if ok {
			p.handle(t, &s)
			return
		}
		if t.restarts != 0 {
			t.callAgain()
		}
		if !t.restoreMask {
			return
		}
		t.mask, t.restoreMask = t.oldMask, false
	}
}

// callAgain makes the program repeat its call: the instruction is two bytes long.
func (t *thread) callAgain() {
	t.ctx.RIP -= 2
	t.ctx.RAX = t.nr
	t.restarts = 0
}

// force delivers a fault, which can be neither ignored nor put off.
func (p *process) force(t *thread, sig, code int, addr uint64) {
	s := sigInfo{sig: sig, code: code, addr: addr, fault: true}
	if a := &p.actions[sig]; a.handler == sigIgn || t.mask&bit(sig) != 0 {
		*a = action{}
		t.mask &^= bit(sig)
	}
	p.handle(t, &s)
}

// handle lets t run the handler of s, or ends the program.
func (p *process) handle(t *thread, s *sigInfo) {
	a := p.actions[s.sig]
	if a.handler == sigDfl {
		if s.fault {
			p.sayFault(t, s)
		}
		p.kill(s.sig)
	}
	if t.restarts == eRestartSys && a.flags&saRestart != 0 {
		t.callAgain()
	} else if t.restarts != 0 {
		t.ctx.RAX = errno(vfs.EINTR)
		t.restarts = 0
	}
	mask := t.mask
	if t.restoreMask {
		mask, t.restoreMask = t.oldMask, false
	}
	if a.flags&saResetHand != 0 {
		p.actions[s.sig] = action{}
	}
	if a.flags&saRestorer == 0 || !p.pushFrame(t, &a, s, mask) {
		bad := sigInfo{sig: sigSegv, code: siKernel, fault: true}
		p.sayFault(t, &bad)
		p.kill(sigSegv)
	}
	t.mask |= a.mask
	if a.flags&saNoDefer == 0 {
		t.mask |= bit(s.sig)
	}
	t.mask &^= unblockable
}

func errno(e vfs.Errno) uint64 { return uint64(-int64(e)) }

// sayFault tells on the console what no log of the program will.
func (p *process) sayFault(t *thread, s *sigInfo) {
	var l vfs.Text
	l.Str("firstlight: the program is killed by ").Str(signalName(s.sig)).Str(" at 0x").Hex(t.ctx.RIP, 1)
	if s.sig == sigSegv || s.sig == sigBus {
		l.Str(", address 0x").Hex(s.addr, 1)
	}
	l.Str("\n")
	ring0.ConsoleWrite(l)
}

func signalName(sig int) string {
	switch sig {
	case sigIll:
		return "SIGILL"
	case sigTrap:
		return "SIGTRAP"
	case sigBus:
		return "SIGBUS"
	case sigFpe:
		return "SIGFPE"
	case sigSegv:
		return "SIGSEGV"
	}
	var t vfs.Text
	t.Str("signal ").Dec(uint64(sig))
	return string(t)
}

// The frame of a handler (arch/x86/include/asm/sigframe.h, rt_sigframe; uapi/asm/ucontext.h and sigcontext.h): return
// address, ucontext, siginfo. Offsets in bytes from the frame's start.
const (
	frUC       = 8
	frFlags    = frUC + 0
	frStack    = frUC + 16 // stack_t: sp, flags, size
	frRegs     = frUC + 40 // r8…r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags, segments, err, trapno, oldmask, cr2
	frFP       = frRegs + 184
	frMask     = frUC + 296
	frInfo     = frUC + 304
	frSize     = frInfo + sigInfoSize
	fxSize     = 512
	redZone    = 128
	ucFlags    = 2 | 4 // UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
	fxReserved = 464   // from here on software's; zero says that no extended state follows
	fxMXCSR    = 24
	fxMask     = 28

	rflagsUser   = 0x10000 | 0x40000 | 0x800 | 0x400 | 0x100 | 0x80 | 0x40 | 0x10 | 4 | 1 // RF AC OF DF TF SF ZF AF PF CF
	rflagsAlways = 0x202                                                                  // interrupts on, and the bit that is always 1
)

func (t *thread) onAltStack(sp uint64) bool {
	return sp > t.altStack.sp && sp-t.altStack.sp <= t.altStack.size
}

// layFrame returns where the frame and the FXSAVE image of a handler go that interrupts a thread with stack pointer sp, or
// begins the alternate stack at its end.
func layFrame(sp uint64) (frame, fx uint64) {
	fx = (sp - fxSize) &^ 63
	return (fx-frSize)&^15 - 8, fx
}

// pushFrame sets t up to run a handler; mask is what its return restores.
func (p *process) pushFrame(t *thread, a *action, s *sigInfo, mask uint64) bool {
	c := t.ctx
	sp := c.RSP - redZone
	if a.flags&saOnStack != 0 && t.altStack.flags&ssDisable == 0 && t.altStack.size != 0 && !t.onAltStack(c.RSP) {
		sp = t.altStack.sp + t.altStack.size
	}
	frame, fx := layFrame(sp)
	if frame > sp || !userRange(frame, frSize) { // the stack pointer was anywhere
		return false
	}
	var b [frSize]byte
	set64(b[:], a.restorer)
	set64(b[frFlags:], ucFlags)
	set64(b[frStack:], t.altStack.sp)
	set32(b[frStack+8:], t.altStack.flags)
	set64(b[frStack+16:], t.altStack.size)
	for i, r := range [...]uint64{c.R8, c.R9, c.R10, c.R11, c.R12, c.R13, c.R14, c.R15, c.RDI, c.RSI, c.RBP, c.RBX, c.RDX,
		c.RAX, c.RCX, c.RSP, c.RIP, c.RFLAGS} {
		set64(b[frRegs+8*i:], r)
	}
	set16(b[frRegs+144:], uint16(c.CS))
	set16(b[frRegs+150:], uint16(c.SS))
	if s.fault {
		set64(b[frRegs+152:], c.ErrorCode)
		set64(b[frRegs+160:], c.Vector)
		if s.sig == sigSegv || s.sig == sigBus {
			set64(b[frRegs+176:], s.addr)
		}
	}
	set64(b[frRegs+168:], mask)
	set64(b[frFP:], fx)
	set64(b[frMask:], mask)
	s.put(b[frInfo:])
	clear(c.FX[fxReserved:])
	if !p.mm.copyOut(fx, c.FX[:]) || !p.mm.copyOut(frame, b[:]) {
		return false
	}
	if t.altStack.flags&ssAutodisarm != 0 {
		t.altStack.sp, t.altStack.size, t.altStack.flags = 0, 0, ssDisable
	}
	initFX(&c.FX)
	c.RSP, c.RIP = frame, a.handler
	c.RDI, c.RSI, c.RDX, c.RAX = uint64(s.sig), frame+frInfo, frame+frUC, 0
	c.RFLAGS = c.RFLAGS&^(0x400|0x100|0x10000) | rflagsAlways
	return true
}

// initFX is the floating-point state of a new program: all exceptions masked, 64-bit precision.
func initFX(fx *[fxSize]byte) {
	mask := le32(fx[fxMask:])
	clear(fx[:])
	set16(fx[:], 0x37f)
	set32(fx[fxMXCSR:], 0x1f80)
	set32(fx[fxMask:], mask)
}

// sigreturn undoes pushFrame. The program may have edited the frame as it likes: what comes back is made harmless.
func (p *process) sigreturn(t *thread) int64 {
	c := t.ctx
	frame := c.RSP - 8 // the handler's return took the return address
	var b [frSize]byte
	if !p.mm.copyIn(b[:], frame) {
		p.force(t, sigSegv, siKernel, 0)
		return int64(c.RAX)
	}
	fx := le64(b[frFP:])
	if fx == 0 {
		initFX(&c.FX)
	} else if !p.mm.copyIn(c.FX[:], fx) {
		initFX(&c.FX)
		p.force(t, sigSegv, siKernel, 0)
		return int64(c.RAX)
	}
	cleanFX(&c.FX)
	for i, r := range [...]*uint64{&c.R8, &c.R9, &c.R10, &c.R11, &c.R12, &c.R13, &c.R14, &c.R15, &c.RDI, &c.RSI, &c.RBP, &c.RBX,
		&c.RDX, &c.RAX, &c.RCX, &c.RSP, &c.RIP} {
		*r = le64(b[frRegs+8*i:])
	}
	c.RFLAGS = le64(b[frRegs+8*17:])&rflagsUser | rflagsAlways
	c.Vector = 0 // not as from a system call, which would take RCX and R11 for itself
	t.mask = le64(b[frMask:]) &^ unblockable
	t.altStack.sp, t.altStack.flags, t.altStack.size = le64(b[frStack:]), le32(b[frStack+8:])&(ssDisable|ssAutodisarm), le64(b[frStack+16:])
	return int64(c.RAX)
}

// cleanFX clears the bits of MXCSR that would fault when loaded.
func cleanFX(fx *[fxSize]byte) {
	const usual = 0xffff // every x86-64 CPU since 2004 has them all; FXRSTOR checks against the CPU's own mask
	set32(fx[fxMXCSR:], le32(fx[fxMXCSR:])&usual)
}

// System calls.

func (p *process) rtSigaction(sig, act, old, size uint64) int64 {
	if size != 8 || sig < 1 || sig > numSignals || act != 0 && bit(int(sig))&unblockable != 0 {
		return -int64(vfs.EINVAL)
	}
	var b [32]byte
	a := &p.actions[sig]
	was := *a
	if act != 0 {
		if !p.mm.copyIn(b[:], act) {
			return -int64(vfs.EFAULT)
		}
		*a = action{le64(b[:]), le64(b[8:]), le64(b[16:]), le64(b[24:])}
		if p.ignored(int(sig)) {
			p.discard(int(sig))
		}
	}
	if old != 0 {
		set64(b[:], was.handler)
		set64(b[8:], was.flags)
		set64(b[16:], was.restorer)
		set64(b[24:], was.mask)
		if !p.mm.copyOut(old, b[:]) {
			return -int64(vfs.EFAULT)
		}
	}
	return 0
}

func (p *process) discard(sig int) {
	for ok := true; ok; {
		_, ok = take(&p.pending, bit(sig))
	}
	t := p.threads
	for range p.numTh {
		for ok := true; ok; {
			_, ok = take(&t.pending, bit(sig))
		}
		t = t.next
	}
}

func (p *process) rtSigprocmask(t *thread, how, set, old, size uint64) int64 {
	if size != 8 {
		return -int64(vfs.EINVAL)
	}
	was := t.mask
	if set != 0 {
		m, ok := p.mm.get64(set)
		if !ok {
			return -int64(vfs.EFAULT)
		}
		switch how {
		case 0:
			t.mask |= m
		case 1:
			t.mask &^= m
		case 2:
			t.mask = m
		default:
			return -int64(vfs.EINVAL)
		}
		t.mask &^= unblockable
	}
	if old != 0 && !p.mm.put64(old, was) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

func (p *process) rtSigpending(t *thread, set, size uint64) int64 {
	if size > 8 {
		return -int64(vfs.EINVAL)
	}
	var m uint64
	for _, s := range t.pending {
		m |= bit(s.sig)
	}
	for _, s := range p.pending {
		m |= bit(s.sig)
	}
	var b [8]byte
	set64(b[:], m&t.mask)
	if !p.mm.copyOut(set, b[:size]) {
		return -int64(vfs.EFAULT)
	}
	return 0
}

// setMaskFor makes set the mask for the duration of a call that waits; it is restored when the call returns, or by the
// return of the handler that ended it.
func (p *process) setMaskFor(t *thread, set uint64) bool {
	if t.restoreMask { // the call is made again
		return true
	}
	m, ok := p.mm.get64(set)
	if ok {
		t.oldMask, t.restoreMask = t.mask, true
		t.mask = m &^ unblockable
	}
	return ok
}

// deliverable reports whether t has a signal to take now.
func (p *process) deliverable(t *thread) bool {
	for _, s := range t.pending {
		if t.mask&bit(s.sig) == 0 && !p.ignored(s.sig) {
			return true
		}
	}
	for _, s := range p.pending {
		if t.mask&bit(s.sig) == 0 && !p.ignored(s.sig) {
			return true
		}
	}
	return false
}

func (p *process) rtSigsuspend(t *thread, set, size uint64) int64 {
	if size != 8 {
		return -int64(vfs.EINVAL)
	}
	if !p.setMaskFor(t, set) {
		return -int64(vfs.EFAULT)
	}
	return p.pause(t)
}

func (p *process) pause(t *thread) int64 {
	if p.deliverable(t) {
		return -int64(eRestartNoHand)
	}
	return p.block(t, 0, 0, eRestartNoHand)
}

func (p *process) rtSigtimedwait(t *thread, set, info, timeout, size uint64) int64 {
	if size != 8 {
		return -int64(vfs.EINVAL)
	}
	m, ok := p.mm.get64(set)
	if !ok {
		return -int64(vfs.EFAULT)
	}
	m &^= unblockable
	t.waitSet = 0
	if s, ok := p.next(t, m); ok {
		if info != 0 {
			var b [sigInfoSize]byte
			s.put(b[:])
			if !p.mm.copyOut(info, b[:]) {
				return -int64(vfs.EFAULT)
			}
		}
		return int64(s.sig)
	}
	if p.deliverable(t) {
		return -int64(vfs.EINTR)
	}
	if t.timedOut {
		return -int64(vfs.EAGAIN)
	}
	deadline := t.deadline
	if !t.waiting && timeout != 0 {
		d, err := p.getTime(timeout)
		if err != 0 {
			return -int64(err)
		}
		if d == 0 {
			return -int64(vfs.EAGAIN)
		}
		deadline = after(d)
	}
	p.block(t, deadline, 0, vfs.EINTR)
	t.retry = true
	t.waitSet = m
	return 0
}

func (p *process) sigaltstack(t *thread, ss, old uint64) int64 {
	var b [24]byte
	was := t.altStack
	on := t.onAltStack(t.ctx.RSP)
	if ss != 0 {
		if !p.mm.copyIn(b[:], ss) {
			return -int64(vfs.EFAULT)
		}
		sp, flags, size := le64(b[:]), le32(b[8:]), le64(b[16:])
		switch mode := flags &^ ssAutodisarm; {
		case on:
			return -int64(vfs.EPERM)
		case mode == ssDisable:
			sp, size = 0, 0
		case mode != 0 && mode != ssOnStack:
			return -int64(vfs.EINVAL)
		case size < minAltStack:
			return -int64(vfs.ENOMEM)
		default:
			flags &= ssAutodisarm
		}
		t.altStack.sp, t.altStack.flags, t.altStack.size = sp, flags, size
	}
	if old != 0 {
		flags := was.flags
		if on {
			flags |= ssOnStack
		}
		set64(b[:], was.sp)
		set32(b[8:], flags)
		set32(b[12:], 0)
		set64(b[16:], was.size)
		if !p.mm.copyOut(old, b[:]) {
			return -int64(vfs.EFAULT)
		}
	}
	return 0
}

// sendSignal is kill: pid 0 and -1 mean the only process there is.
func (p *process) sendSignal(pid int64, sig uint64) int64 {
	if pid != thePID && pid != 0 && pid != -1 && pid != -thePID {
		return -int64(vfs.ESRCH)
	}
	if sig > numSignals {
		return -int64(vfs.EINVAL)
	}
	if sig != 0 {
		p.post(sigInfo{sig: int(sig), code: siUser, sent: true})
	}
	return 0
}

func (p *process) tgkill(tgid, tid int64, sig uint64) int64 {
	if sig > numSignals || tgid <= 0 || tid <= 0 {
		return -int64(vfs.EINVAL)
	}
	t := p.byTID(int(tid))
	if t == nil || tgid != thePID {
		return -int64(vfs.ESRCH)
	}
	if sig != 0 {
		p.postTo(t, sigInfo{sig: int(sig), code: siTkill, sent: true})
	}
	return 0
}

// queueInfo is rt_sigqueueinfo and rt_tgsigqueueinfo (t is not nil).
func (p *process) queueInfo(t *thread, sig, info uint64) int64 {
	var b [32]byte
	if sig > numSignals {
		return -int64(vfs.EINVAL)
	}
	if !p.mm.copyIn(b[:], info) {
		return -int64(vfs.EFAULT)
	}
	if sig == 0 {
		return 0
	}
	s := sigInfo{sig: int(sig), code: int(int32(le32(b[8:]))), addr: le64(b[24:]), sent: true}
	if t != nil {
		p.postTo(t, s)
	} else {
		p.post(s)
	}
	return 0
}
