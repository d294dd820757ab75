package ring0

import (
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
	"github.com/firstlight-boot/firstlight/kernel/mem"
)

// Signals go to the Go runtime's own handlers: faults, which it turns into panics, and SIGURG, by which it preempts.

const (
	sigILL  = 4
	sigTRAP = 5
	sigBUS  = 7
	sigFPE  = 8
	sigSEGV = 11
	sigURG  = 23
)

// action is struct kernel_sigaction.
type action struct{ handler, flags, restorer, mask uint64 }

var actions [65]action

func kernelSigaction(sig, newAct, oldAct uint64) uint64 {
	if sig == 0 || sig >= uint64(len(actions)) {
		return eINVAL
	}
	if oldAct != 0 && kernelWritable(oldAct) && kernelWritable(oldAct+24) {
		*(*action)(mem.Pointer(oldAct)) = actions[sig]
	}
	if newAct != 0 && kernelWritable(newAct) && kernelWritable(newAct+24) {
		actions[sig] = *(*action)(mem.Pointer(newAct))
	}
	return 0
}

func kernelSigprocmask(t *thread) {
	const block, unblock, set = 0, 1, 2
	f := &t.frame
	if f.RDX != 0 && kernelWritable(f.RDX) {
		*(*uint64)(mem.Pointer(f.RDX)) = t.mask
	}
	if f.RSI == 0 || !kernelWritable(f.RSI) {
		return
	}
	switch m := *(*uint64)(mem.Pointer(f.RSI)); f.RDI {
	case block:
		t.mask |= m
	case unblock:
		t.mask &^= m
	case set:
		t.mask = m
	}
}

func kernelSigaltstack(t *thread) {
	f := &t.frame
	if f.RSI != 0 && kernelWritable(f.RSI) && kernelWritable(f.RSI+16) {
		*(*[3]uint64)(mem.Pointer(f.RSI)) = t.altStack
	}
	if f.RDI != 0 && kernelWritable(f.RDI) && kernelWritable(f.RDI+16) {
		t.altStack = *(*[3]uint64)(mem.Pointer(f.RDI))
	}
}

func kernelKill(id, sig uint64) uint64 {
	for i := range numThreads {
		if t := &threads[i%maxThreads]; t.state != unused && uint64(t.id) == id && sig < 64 {
			t.pending |= 1 << sig
			return 0
		}
	}
	return eINVAL
}

// kernelSignals delivers one pending signal to t, which is about to go on in ordinary Go, and returns it.
func kernelSignals(t *thread) *thread {
	if ready := t.pending &^ (t.mask << 1); ready != 0 {
		for sig := uint64(1); sig < 64; sig++ {
			if ready&(1<<sig) != 0 {
				t.pending &^= 1 << sig
				const fromTgkill = ^uint64(6 - 1)
				kernelDeliver(t, sig, fromTgkill, 0)
				break
			}
		}
	}
	return t
}

// The signal frame, from the stack pointer at the handler's entry up: arch/x86/include/asm/sigframe.h, struct rt_sigframe.
const (
	sfContext  = 8   // ucontext
	sfRegs     = 48  // ucontext.uc_mcontext.gregs
	sfFPState  = 232 // pointer to the FXSAVE image
	sfMask     = 304
	sfInfo     = 312
	sfFX       = 448
	sfSize     = sfFX + 512
	regErr     = 19
	regTrap    = 20
	regCR2     = 22
	numGregs   = 23
	altDisable = 2
)

// kernelDeliver makes t go on in the handler of sig.
func kernelDeliver(t *thread, sig, code, addr uint64) {
	a := &actions[sig&63]
	f := &t.frame
	if a.handler <= 1 {
		if sig == sigURG {
			return
		}
		kernelOops(f, "fault before the Go runtime was up")
	}
	sp := f.RSP
	base, size := t.altStack[0], t.altStack[2]
	if t.altStack[1]&altDisable == 0 && size != 0 && (sp < base || sp >= base+size) {
		sp = base + size
	}
	sp = (sp-sfSize-128)&^63 - 8
	for va := sp; va < sp+sfSize+mem.PageSize; va += mem.PageSize {
		if !kernelMapped(va) {
			kernelOops(f, "no signal stack")
		}
	}
	if t.fxValid == 0 {
		t.fx = [512]byte{}
		t.fx[0], t.fx[1] = fcwReset&0xff, fcwReset>>8
		t.fx[fxMXCSROff], t.fx[fxMXCSROff+1] = mxcsrReset&0xff, mxcsrReset>>8
	}
	s := (*[sfSize / 8]uint64)(mem.Pointer(sp))
	*s = [sfSize / 8]uint64{}
	s[0] = a.restorer
	*(*[numGregs]uint64)(unsafe.Pointer(&s[sfRegs/8])) = [numGregs]uint64{
		f.R8, f.R9, f.R10, f.R11, f.R12, f.R13, f.R14, f.R15, f.RDI, f.RSI, f.RBP, f.RBX, f.RDX, f.RAX, f.RCX, f.RSP,
		f.RIP, f.RFLAGS, f.CS | f.SS<<48, f.ErrorCode, f.Vector, t.mask, addr,
	}
	s[sfFPState/8] = sp + sfFX
	s[sfMask/8] = t.mask
	*(*[512]byte)(unsafe.Pointer(&s[sfFX/8])) = t.fx
	s[sfInfo/8] = sig
	s[sfInfo/8+1] = code & 0xffffffff
	s[sfInfo/8+2] = addr

	t.mask = ^uint64(0)
	t.fxValid = 1
	f.RDI, f.RSI, f.RDX = sig, sp+sfInfo, sp+sfContext
	f.RIP, f.RSP = a.handler, sp
	f.RFLAGS = userDefault
}

// kernelSigreturn restores what kernelDeliver saved, with the runtime's edits.
func kernelSigreturn(t *thread) {
	f := &t.frame
	sp := f.RSP - 8 // the handler's return popped the restorer
	for va := sp; va < sp+sfSize+mem.PageSize; va += mem.PageSize {
		if !kernelMapped(va) {
			kernelOops(f, "bad signal frame")
		}
	}
	s := (*[sfSize / 8]uint64)(mem.Pointer(sp))
	g := (*[numGregs]uint64)(unsafe.Pointer(&s[sfRegs/8]))
	f.R8, f.R9, f.R10, f.R11, f.R12, f.R13, f.R14, f.R15 = g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7]
	f.RDI, f.RSI, f.RBP, f.RBX, f.RDX, f.RAX, f.RCX, f.RSP = g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]
	f.RIP, f.RFLAGS = g[16], g[17]
	f.CS, f.SS = layout.KernelCS, layout.KernelSS
	t.fx = *(*[512]byte)(unsafe.Pointer(&s[sfFX/8]))
	t.fxValid = 1
	t.mask = s[sfMask/8]
}

// kernelTrap serves a trap or interrupt that came while ring 0 ran, and returns the thread to go on with.
func kernelTrap(t *thread) *thread {
	f := &t.frame
	switch f.Vector {
	case vectorPageFault:
		addr := kernelCR2()
		if f.ErrorCode&1 == 0 && kernelFault(addr) {
			return t
		}
		const notMapped, noAccess = 1, 2
		code := uint64(notMapped)
		if f.ErrorCode&1 != 0 {
			code = noAccess
		}
		kernelDeliver(t, sigSEGV, code, addr)
	case vectorTimer:
		kernelTimer()
		return kernelAfterInterrupt(t)
	case VectorDevice:
		kernelDevice()
		return kernelAfterInterrupt(t)
	case vectorDone:
		kernelBack()
		return kernelAfterInterrupt(t)
	case vectorSpurious:
	case 0:
		const intDivide = 1
		kernelDeliver(t, sigFPE, intDivide, f.RIP)
	case 3:
		kernelDeliver(t, sigTRAP, 0x80, f.RIP)
	case 6:
		kernelDeliver(t, sigILL, 1, f.RIP)
	case 13:
		kernelDeliver(t, sigSEGV, 0x80, 0)
	case 17:
		kernelDeliver(t, sigBUS, 1, 0)
	default:
		kernelOops(f, "trap")
	}
	return t
}

// kernelAfterInterrupt returns the thread to go on with after an interrupt: the one that it came to, unless that was idle.
func kernelAfterInterrupt(t *thread) *thread {
	if t == &idleThread {
		return kernelSchedule()
	}
	return kernelSignals(kernelMonitor(t))
}

// kernelUserInterrupt serves an interrupt that came while ring 3 ran and returns whether ring 3 is to be left.
func kernelUserInterrupt(c *Context) bool {
	switch c.Vector {
	case vectorTimer:
		kernelTimer()
		return sliceExpired || shared && threads[monitorID-1].state == runnable
	case VectorDevice:
		kernelDevice()
	case vectorDone:
		cpu.Store32(apicEOI, 0)
		return true
	}
	return false
}

// kernelFaulted tells of a fault in kernel context, or one whose frame could not be pushed, and ends the machine.
func kernelFaulted(f *frame) {
	const doubleFault = 8
	switch {
	case f.Vector == vectorPageFault && kernelCR2()-kernelGuard() < mem.PageSize:
		kernelOops(f, "stack overflow in kernel context")
	case f.Vector == doubleFault:
		kernelOops(f, "double fault")
	}
	kernelOops(f, "fault in kernel context")
}

// kernelGuard returns the address of the page below the stack of kernel context, which is not mapped.
func kernelGuard() uint64 {
	return (uint64(uintptr(unsafe.Pointer(&kernelStack))) + mem.PageSize - 1) &^ (mem.PageSize - 1)
}

func kernelCR2() uint64

var oops bool // kernelOops was called

// kernelOops prints the state of a fault that cannot be survived and ends the machine.
func kernelOops(f *frame, msg string) {
	if oops { // what follows faulted itself
		kernelEnd(abi.EndPanic, 0)
	}
	oops = true
	kernelPrint("firstlight: kernel: ")
	kernelPrint(msg)
	kernelPrint("\n")
	kernelReg("vector", f.Vector)
	kernelReg(" error", f.ErrorCode)
	kernelReg(" cr2", kernelCR2())
	kernelPrint("\n")
	kernelReg("rip", f.RIP)
	kernelReg(" rsp", f.RSP)
	kernelReg(" rbp", f.RBP)
	kernelPrint("\n")
	kernelReg("rax", f.RAX)
	kernelReg(" rbx", f.RBX)
	kernelReg(" rcx", f.RCX)
	kernelReg(" rdx", f.RDX)
	kernelPrint("\n")
	kernelReg("rsi", f.RSI)
	kernelReg(" rdi", f.RDI)
	kernelReg(" r14", f.R14)
	kernelPrint("\n")
	kernelTrace(f)
	kernelDie(msg)
}

func kernelReg(name string, v uint64) {
	kernelPrint(name)
	kernelPrint("=")
	kernelPrintHex(v)
}
