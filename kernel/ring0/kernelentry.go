package ring0

//lint:file-ignore U1000 entry_amd64.s uses what Go code does not

import "unsafe"

// thread is an M of the Go runtime.
type thread struct {
	frame   frame
	fs      uint64 // FS base
	ksp     uint64 // stack pointer of its call of enter, while that is in ring 3
	fx      [512]byte
	fxValid uint32 // fx is to be restored
	id      uint32

	state    uint32
	irq      bool   // waiting: a device interrupt ends the wait
	poll     bool   // waiting: in epoll_pwait
	deadline uint64 // waiting: Nanotime at which the wait ends; 0 is never
	futex    uint64 // waiting: address of the futex word; 0 is none
	timedOut uint64 // waiting: result when the deadline ends the wait

	mask, pending uint64 // signals
	altStack      [3]uint64
	_             [6]uint64
}

// What entry_amd64.s relies on: the places of the first fields, that a frame ends and an FXSAVE image starts on a multiple of 16, an XSAVE
// image of 64, and that no Context lies in two pages: objects of a size that is a power of two are aligned to it.
const frameSize = unsafe.Sizeof(frame{})

var (
	_ [0]byte = [unsafe.Sizeof(thread{}) % 64]byte{}
	_ [0]byte = [frameSize % 16]byte{}
	_ [0]byte = [unsafe.Offsetof(thread{}.fx) - unsafe.Offsetof(Context{}.FX)]byte{}
	_ [0]byte = [unsafe.Offsetof(Context{}.FX) % 64]byte{}
	_ [0]byte = [unsafe.Offsetof(Context{}.XState) - unsafe.Offsetof(Context{}.FX) - 512]byte{}
	_ [0]byte = [unsafe.Offsetof(Context{}.YMM) - unsafe.Offsetof(Context{}.FX) - avxOff]byte{}
	_ [0]byte = [unsafe.Sizeof(Context{}) - 1024]byte{}
)

const (
	unused = iota
	runnable
	waiting
)

// The variables that entry_amd64.s uses.
var (
	entryTSC  uint64 // TSC at kernel entry
	startInfo uint64 // physical address of hvm_start_info
	cur       uint64 // address of the current thread
	top       uint64 // where the next trap pushes: end of the frame of the current thread or, in ring 3, Context
	inUser    bool   // ring 3 runs
	userGS    uint64 // GS base that was written last
	userWas   uint64 // address of the Context that it was written for
	scratch   uint64
	avx       uint8  // avxNone, avxSave or avxAsk
	mxcsr     uint32 = mxcsrReset
	fakeTLS   uint64
	fakeG     [128]uint64
	taskState [104]byte

	// sliceExpired tells enter that the deadline came before ring 3 was reached.
	sliceExpired bool

	// Below the stack of kernel context lies a page that is not mapped; above it is the stack of what tells of a fault in kernel context.
	kernelStack [kernelStacks]byte

	// Go functions are called by their func value: a direct call from assembly would reach a wrapper that expects a real g.
	startFn         = kernelStart
	syscallFn       = kernelSyscall
	trapFn          = kernelTrap
	userInterruptFn = kernelUserInterrupt
	faultFn         = kernelFaulted
)

func entry()
func entryPoints() (runtimeEntry, syscallEntry, idle, runtimeEnd uint64, traps *[21]uint64)
func mark(b byte)
