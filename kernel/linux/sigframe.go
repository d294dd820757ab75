package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// Flags of sigaltstack.
const (
	ssOnStack    = 1
	ssDisable    = 2
	ssAutodisarm = 1 << 31
	minAltStack  = 2048
)

// altStack is where handlers run that ask for it. Without one size is 0.
type altStack struct {
	sp, size uint64
	flags    uint32 // as sigaltstack was given them
}

// holds reports whether sp lies on the stack.
func (a *altStack) holds(sp uint64) bool { return sp > a.sp && sp-a.sp <= a.size }

// inUse reports whether a thread with stack pointer sp runs on it; with SS_AUTODISARM it is nobody's while one does.
func (a *altStack) inUse(sp uint64) bool { return a.flags&ssAutodisarm == 0 && a.holds(sp) }

// state is what sigaltstack reports for a thread with stack pointer sp.
func (a *altStack) state(sp uint64) uint32 {
	switch {
	case a.size == 0:
		return a.flags&ssAutodisarm | ssDisable
	case a.inUse(sp):
		return ssOnStack
	}
	return a.flags & ssAutodisarm
}

// set is sigaltstack for a thread with stack pointer now.
func (a *altStack) set(sp, size uint64, flags uint32, now uint64) vfs.Errno {
	mode := flags &^ ssAutodisarm
	switch {
	case a.size != 0 && a.inUse(now):
		return vfs.EPERM
	case mode != ssDisable && mode != ssOnStack && mode != 0:
		return vfs.EINVAL
	case mode == ssDisable:
		sp, size = 0, 0
	case size < minAltStack:
		return vfs.ENOMEM
	}
	a.sp, a.size, a.flags = sp, size, flags
	return 0
}

// The frame of a handler (arch/x86/include/asm/sigframe.h, rt_sigframe; uapi/asm/ucontext.h and sigcontext.h): return
// address, ucontext, siginfo. Offsets in bytes from the frame's start.
const (
	frUC     = 8
	frFlags  = frUC + 0
	frStack  = frUC + 16 // stack_t: sp, flags, size
	frRegs   = frUC + 40 // r8…r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags, segments, err, trapno, oldmask, cr2
	frFP     = frRegs + 184
	frMask   = frUC + 296
	frInfo   = frUC + 304
	frSize   = frInfo + sigInfoSize
	redZone  = 128
	ucXState = 1     // UC_FP_XSTATE
	ucFlags  = 2 | 4 // UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS

	rflagsUser   = 0x10000 | 0x40000 | 0x800 | 0x400 | 0x100 | 0x80 | 0x40 | 0x10 | 4 | 1 // RF AC OF DF TF SF ZF AF PF CF
	rflagsAlways = 0x202                                                                  // interrupts on, and the bit that is always 1
)

// layFrame returns where the frame and the fpSize bytes of floating-point state of a handler go that interrupts a thread with stack
// pointer sp, or begins the alternate stack at its end.
func layFrame(sp, fpSize uint64) (frame, fp uint64) {
	fp = (sp - fpSize) &^ 63
	return (fp-frSize)&^15 - 8, fp
}

// maxFrame is the most that layFrame takes of a stack: AT_MINSIGSTKSZ.
func maxFrame(fpSize uint64) uint64 { return (fpSize + 63 + frSize + 15 + 15) &^ 15 }

// pushFrame sets t up to run a handler; mask is what its return restores.
func (p *process) pushFrame(t *thread, a *action, s *sigInfo, mask uint64) bool {
	c := t.ctx
	sp := c.RSP - redZone
	alt := t.altStack.size != 0 && t.altStack.inUse(c.RSP)
	if a.flags&saOnStack != 0 && t.altStack.size != 0 && !alt {
		sp = t.altStack.sp + t.altStack.size
		alt = true
	}
	fpSize := fpStateSize()
	frame, fp := layFrame(sp, fpSize)
	if frame > sp || !userRange(frame, frSize) { // the stack pointer was anywhere
		return false
	}
	if alt && !t.altStack.holds(frame) {
		return false
	}
	var b [frSize]byte
	set64(b[:], a.restorer)
	set64(b[frFlags:], ucFlags)
	if fpSize != fxSize {
		set64(b[frFlags:], ucFlags|ucXState)
	}
	set64(b[frStack:], t.altStack.sp)
	set32(b[frStack+8:], t.altStack.state(c.RSP))
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
			set64(b[frRegs+176:], c.CR2)
		}
	}
	set64(b[frRegs+168:], mask)
	set64(b[frFP:], fp)
	set64(b[frMask:], mask)
	s.put(b[frInfo:])
	var image [fpMost]byte
	putFP(image[:fpSize], c)
	if !p.mm.copyOut(fp, image[:fpSize]) || !p.mm.copyOut(frame, b[:]) {
		return false
	}
	if t.altStack.flags&ssAutodisarm != 0 {
		t.altStack = altStack{}
	}
	initFP(c)
	c.RSP, c.RIP = frame, a.handler
	c.RDI, c.RSI, c.RDX, c.RAX = uint64(s.sig), frame+frInfo, frame+frUC, 0
	c.RFLAGS = c.RFLAGS&^(0x400|0x100|0x10000) | rflagsAlways
	return true
}

// sigreturn undoes pushFrame. The program may have edited the frame as it likes: what comes back is made harmless, or refused.
func (p *process) sigreturn(t *thread) int64 {
	c := t.ctx
	frame := c.RSP - 8 // the handler's return took the return address
	var b [frSize]byte
	if !p.mm.copyIn(b[:], frame) {
		p.force(t, sigSegv, siKernel, 0)
		return int64(c.RAX)
	}
	p.setMask(t, le64(b[frMask:]))
	for i, r := range [...]*uint64{&c.R8, &c.R9, &c.R10, &c.R11, &c.R12, &c.R13, &c.R14, &c.R15, &c.RDI, &c.RSI, &c.RBP, &c.RBX,
		&c.RDX, &c.RAX, &c.RCX, &c.RSP, &c.RIP} {
		*r = le64(b[frRegs+8*i:])
	}
	c.RFLAGS = le64(b[frRegs+8*17:])&rflagsUser | rflagsAlways
	c.Vector = 0 // not as from a system call, which would take RCX and R11 for itself
	if fp := le64(b[frFP:]); !p.loadFP(c, fp) {
		initFP(c)
		p.force(t, sigSegv, siKernel, 0)
		return int64(c.RAX)
	}
	t.altStack.set(le64(b[frStack:]), le64(b[frStack+16:]), le32(b[frStack+8:]), c.RSP) // what is wrong with it changes nothing
	return int64(c.RAX)
}
