// Package ring0 lets an unmodified Go program run in ring 0: it serves the system calls of the Go runtime, takes traps and
// interrupts, and enters ring 3.
//
// # Kernel context
//
// The functions that serve a system call, a trap or an interrupt run in kernel context: interrupts off, on one static stack,
// with R14 and FS designating a zeroed fake g, while a goroutine stands interrupted at any instruction. Such code must not
// allocate, let anything escape, store pointers that have write barriers, use maps, channels, defer, recover, print, locks
// or interfaces, panic, or touch memory that is mapped on demand. It is named kernel… in this package and in mem; the files
// kernel*.go hold nothing else. Everything exported here without that prefix is for ordinary Go.
//
// # Threads
//
// The Go runtime's Ms are threads, switched in kernel context only: when one blocks in futex, nanosleep or epoll_pwait, or
// ends. There is no time slice between them, because the kernel's ordinary Go is one event loop on one P. The runtime's
// monitor (sysmon, the first thread that the runtime makes) runs when every other thread waits and, while goroutines share ring 0
// (see Share), by the timer.
package ring0

import (
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/mem"
)

// Context is the register state of one ring-3 thread. After Enter returned for a system call, RAX is its number, RDI, RSI,
// RDX, R10, R8 and R9 its arguments and RIP the instruction after it; RAX takes the result.
//
// From FX on it is an XSAVE image in the standard format, in which XState names no other component than the upper halves of the YMM
// registers, and those only if they are not all zero.
type Context struct {
	frame
	FSBase, GSBase uint64
	FX             [464]byte // FXSAVE image, but for what is software's
	CR2            uint64    // of the last page fault
	Ticks          uint64    // of the TSC that it had in ring 3
	_              [4]uint64
	XState         uint64
	_              [7]uint64
	YMM            [256]byte // the upper halves, if XState has StateAVX
}

// UserContext is Context's other name.
type UserContext = Context

// frame is what a trap or system call pushes: registers, then what the CPU pushes itself.
type frame struct {
	R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI uint64
	Vector, ErrorCode                                                       uint64
	RIP, CS, RFLAGS, RSP, SS                                                uint64
}

// What Enter returns besides the exception vectors 0 to 31.
const (
	TrapSyscall   = 256
	TrapTimeslice = 257
)

const (
	flagIF      = 1 << 9
	mxcsrReset  = 0x1f80
	fcwReset    = 0x37f
	fxMXCSROff  = 24
	userDefault = flagIF | 2
)

// NewContext returns a context with zero registers, no address-space of its own and the floating-point state that Linux
// gives a new program. The caller sets RIP and RSP.
func NewContext() *Context {
	c := new(Context)
	c.Init()
	return c
}

// Init makes c what NewContext returns.
func (c *Context) Init() {
	*c = Context{}
	c.CS, c.SS, c.RFLAGS = userCS, userSS, userDefault
	c.FX[0], c.FX[1] = fcwReset&0xff, fcwReset>>8
	c.FX[fxMXCSROff], c.FX[fxMXCSROff+1] = mxcsrReset&0xff, mxcsrReset>>8
}

// Enter runs c in ring 3, in the active address space, until its next system call, exception, or the deadline (a Nanotime; 0 is none),
// and returns which. The caller answers for the state: RIP and RSP must be canonical lower-half addresses, RFLAGS and MXCSR valid.
// It may return TrapTimeslice too early: a deadline that is no longer wanted stays until it passes, since setting the timer
// costs more than an interrupt now and then. It never returns it twice for one deadline that has passed, so the caller need not
// read the clock before he enters: he is told.
func Enter(c *Context, deadline uint64) int {
	if sliceExpired {
		sliceExpired = false
		return TrapTimeslice
	}
	if deadline != 0 && (sliceEnd == 0 || deadline < sliceEnd) {
		syscall(sysSlice, deadline, 0)
	}
	c.CS, c.SS = userCS, userSS
	trap := enter(c)
	if trap == TrapTimeslice && shared {
		syscall(sysYield, 0, 0) // it may be for the monitor
	}
	return trap
}

// Share says whether ring 0 has goroutines that want their turn from each other. Then the runtime's monitor runs every 10 ms or so while
// any of them does, and has those preempted that do not make way by themselves; else it runs only when all others wait, and no timer
// interrupts for it.
func Share(on bool) {
	flag := uint64(0)
	if on {
		flag = 1
	}
	syscall(sysShare, flag, 0)
}

func enter(c *Context) int

// EnableAVX gives programs AVX, if the CPU has it. It is called when the Go runtime and all packages are initialised: they have looked
// at the CPU then, and never use AVX themselves, so that nothing in ring 0 changes what of a program's state only XSAVE saves. CPUs that
// are started later have it too.
func EnableAVX() { kernelEnableAVX() }

// HasAVX reports whether programs have AVX.
func HasAVX() bool { return avx != avxNone }

// Idle halts the CPU until a device interrupt, or the deadline (a Nanotime; 0 is none). It returns at once when a device
// interrupt has come since the last Idle.
func Idle(deadline uint64) { syscall(sysIdle, deadline, 0) }

// Notify writes a device register, at a virtual address, and halts the CPU until a device interrupt, which it reports. No interrupt
// can come between the two, so a boot takes the same path however fast the device answers. The wait ends without an interrupt, after
// 8 to 13 s, where the clock is one of time: a counting boot waits for ever, because its clock jumps to any timer that is set.
func Notify(register uint64, v uint32) bool { return syscall(sysNotify, register, uint64(v)) == 0 }

// Await is Notify without the register, for an interrupt that came since the last one, or comes.
func Await() bool { return syscall(sysNotify, 0, 0) == 0 }

// Parameters returns the parameter area.
func Parameters() []byte { return mem.Frame(layout.ParamsPhys).Bytes(abi.ParamsSize) }

// CommandLine returns the VMM's kernel command line, at most 4 KiB of it.
func CommandLine() []byte {
	phys := kernelLoad(startInfo, startCmdline)
	if phys == 0 || phys >= 1<<30 {
		return nil
	}
	b := mem.Frame(phys).Bytes(4096)
	for i, c := range b {
		if c == 0 {
			return b[:i]
		}
	}
	return b
}

// HandBack gives package mem the pages that hold what the loader and the image had to tell: Parameters and CommandLine are not
// valid any more.
func HandBack() {
	for _, at := range loaderPages[:numLoaderPages] {
		mem.HandBack(mem.Frame(at))
	}
	numLoaderPages = 0
}

// Module returns the initial RAM disk, nil when the loader brought none. Its pages are the caller's, who may give them to
// package mem.
func Module() []byte {
	if moduleSize == 0 {
		return nil
	}
	return mem.Frame(modulePhys).Bytes(int(moduleSize))
}

// Random fills p with random bytes: RDRAND's, or, on a CPU without it, those of a generator seeded from the TSC, which
// nobody should take for a secret.
func Random(p []byte) {
	for len(p) > 0 {
		w := kernelRandom()
		for i := 0; i < 8 && len(p) > 0; i++ {
			p[0] = byte(w)
			w >>= 8
			p = p[1:]
		}
	}
}

// ConsoleWrite writes p to the console.
func ConsoleWrite(p []byte) { kernelConsole(unsafe.Pointer(unsafe.SliceData(p)), len(p)) }

// Mark reports a milestone to the host, as package abi numbers them.
func Mark(b byte) { kernelMark(b) }

// NamedMark reports the milestone name; at most 255 bytes of it.
func NamedMark(name string) {
	if len(name) > 255 {
		name = name[:255]
	}
	kernelMark(abi.MarkNamed)
	mark(byte(len(name)))
	for i := range len(name) {
		mark(name[i])
	}
}

// OutOfMemory ends the machine because the program's memory ran out, with a line that says what has it.
func OutOfMemory() { syscall(sysMemory, 0, 0) }

// Exit ends the machine. how and code are those of abi's end mark.
func Exit(how, code int) { syscall(sysEnd, uint64(how), uint64(code)) }

// Fatal ends the machine with a message and the trace of the caller, as the kernel's panic.
func Fatal(msg string) { panic(msg) }

func syscall(nr, a, b uint64) uint64
