package ring0

import (
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/mem"
)

// System calls of this package's own functions.
const (
	sysIdle   = 0x1000
	sysEnd    = 0x1001
	sysSlice  = 0x1002
	sysNotify = 0x1003
	sysMemory = 0x1004
	sysCPUs   = 0x1005
	sysGive   = 0x1006
	sysKick   = 0x1007
	sysFlush  = mem.SysFlush

	sysCPUFault = 0x1008
	sysShare    = 0x1009

	sysCalibrate = 0x1020
	sysClockPage = 0x1021
)

// Linux system calls that the Go runtime makes (runtime/sys_linux_amd64.s, internal/runtime/syscall/linux).
const (
	sysRead         = 0
	sysWrite        = 1
	sysClose        = 3
	sysMmap         = 9
	sysMprotect     = 10
	sysMunmap       = 11
	sysSigaction    = 13
	sysSigprocmask  = 14
	sysSigreturn    = 15
	sysYield        = 24
	sysMincore      = 27
	sysMadvise      = 28
	sysNanosleep    = 35
	sysGetpid       = 39
	sysClone        = 56
	sysExit         = 60
	sysFcntl        = 72
	sysSigaltstack  = 131
	sysPrctl        = 157
	sysArchPrctl    = 158
	sysGettid       = 186
	sysFutex        = 202
	sysAffinity     = 204
	sysClockGettime = 228
	sysExitGroup    = 231
	sysEpollCtl     = 233
	sysTgkill       = 234
	sysOpenat       = 257
	sysEpollPwait   = 281
	sysEventfd      = 290
	sysEpollCreate  = 291
	sysPrlimit      = 302
	sysGetrandom    = 318
)

// errno values, negated as results.
const (
	eNOENT    = ^uint64(2 - 1)
	eBADF     = ^uint64(9 - 1)
	eAGAIN    = ^uint64(11 - 1)
	eNOMEM    = ^uint64(12 - 1)
	eINVAL    = ^uint64(22 - 1)
	eNOSYS    = ^uint64(38 - 1)
	eTIMEDOUT = ^uint64(110 - 1)
)

// File descriptors: 0 to 2 are the console, eventFD wakes a thread in epoll_pwait.
const (
	epollFD = 3
	eventFD = 4
)

var (
	ramEnd uint64 // physical end of the RAM that is used, which may have holes

	modulePhys, moduleSize uint64 // the initial RAM disk, in bytes
	heapNext               uint64 // next address that mmap gives out
	eventSet               bool   // the eventfd's counter is not zero
	eventData              uint64 // what epoll_ctl registered with it
)

// kernelSyscall serves the system call in t's frame and returns the thread to go on with.
func kernelSyscall(t *thread) *thread {
	f := &t.frame
	nr := f.RAX
	kernelCall(f)
	f.RAX = 0
	switch nr {
	case sysSigaction:
		f.RAX = kernelSigaction(f.RDI, f.RSI, f.RDX)
	case sysMmap:
		f.RAX = kernelMmap(f.RDI, f.RSI, f.R10)
	case mem.SysFill, mem.SysEmpty, mem.SysContig, mem.SysCount, mem.SysAdd:
		f.RAX = mem.KernelCall(nr, f.RDI)
	case sysIdle:
		return kernelIdle(t, f.RDI)
	case sysNotify:
		return kernelNotify(t, f.RDI, uint32(f.RSI))
	case sysSlice:
		sliceEnd, sliceExpired = f.RDI, cpusDone != 0
		kernelArm()
	case sysShare:
		kernelShare(f.RDI != 0)
		t = kernelMonitor(t)
	case sysCalibrate:
		kernelNanotime()
	case sysClockPage:
		clockPage = f.RDI
		kernelPublish()
	case sysClockGettime:
		kernelTime(f.RDI, f.RSI)
	case sysFutex:
		return kernelFutex(t)
	case sysMadvise:
		const dontNeed = 4
		if f.RDX == dontNeed {
			kernelUnmapRange(f.RDI, f.RSI)
		}
	case sysMunmap:
		kernelUnmapRange(f.RDI, f.RSI)
	case sysSigprocmask:
		kernelSigprocmask(t)
	case sysSigaltstack:
		kernelSigaltstack(t)
	case sysArchPrctl:
		const setFS = 0x1002
		if f.RDI != setFS {
			f.RAX = eINVAL
			break
		}
		t.fs = f.RSI
	case sysGettid:
		f.RAX = uint64(t.id)
	case sysGetpid:
		f.RAX = 1
	case sysAffinity:
		if f.RSI < 8 || !kernelWritable(f.RDX) {
			f.RAX = eINVAL
			break
		}
		*(*uint64)(mem.Pointer(f.RDX)) = 1
		f.RAX = 8
	case sysFcntl:
		const getFlags, readWrite = 3, 2
		if f.RDI > eventFD {
			f.RAX = eBADF
		} else if f.RSI == getFlags {
			f.RAX = readWrite
		}
	case sysOpenat:
		f.RAX = eNOENT
	case sysPrctl:
		f.RAX = eINVAL
	case sysPrlimit:
		if f.R10 != 0 && kernelWritable(f.R10) {
			*(*[2]uint64)(mem.Pointer(f.R10)) = [2]uint64{1024, 1024}
		}
	case sysClone:
		f.RAX = kernelClone(t)
	case sysNanosleep:
		return kernelNanosleep(t)
	case sysYield:
		return kernelSchedule()
	case sysTgkill:
		f.RAX = kernelKill(f.RSI, f.RDX)
	case sysSigreturn:
		kernelSigreturn(t)
		return t // with its signals as they are: the runtime may have edited where it goes on
	case sysGetrandom:
		for i := uint64(0); i+8 <= f.RSI && kernelWritable(f.RDI+i); i += 8 {
			*(*uint64)(mem.Pointer(f.RDI + i)) = kernelRandom()
			f.RAX = i + 8
		}
	case sysWrite:
		f.RAX = kernelWrite(f.RDI, f.RSI, f.RDX)
	case sysRead:
		if f.RDI == eventFD {
			eventSet = false
			f.RAX = 8
		}
	case sysEpollCreate:
		f.RAX = epollFD
	case sysEventfd:
		f.RAX = eventFD
	case sysEpollCtl:
		const epollEventData = 4
		if f.RDX == eventFD && kernelWritable(f.R10) {
			eventData = *(*uint64)(mem.Pointer(f.R10 + epollEventData))
		}
	case sysEpollPwait:
		return kernelEpoll(t)
	case sysMprotect, sysMincore, sysClose:
	case sysCPUs:
		f.RAX = kernelCPUs(f.RDI)
	case sysGive:
		kernelGive(f.RDI, f.RSI)
	case sysKick:
		kernelKick(f.RDI)
	case sysFlush:
		kernelFlush()
	case sysCPUFault:
		kernelCPUFault(f.RDI)
	case sysMemory:
		kernelOutOfMemory()
	case sysEnd:
		kernelEnd(f.RDI, f.RSI)
	case sysExit:
		*t = thread{}
		return kernelSchedule()
	case sysExitGroup:
		// The runtime ends so after it printed a panic or a fatal error.
		kernelEnd(abi.EndPanic, 0)
	default:
		kernelPrint("firstlight: kernel: system call ")
		kernelPrintHex(nr)
		kernelPrint(" of the Go runtime is not there\n")
		f.RAX = eNOSYS
	}
	return kernelSignals(t)
}

// kernelMmap reserves addresses in the heap's region; page faults fill them. A hint is refused, since the runtime's are all in
// the lower half, which is the program's; the runtime then asks without.
func kernelMmap(hint, size, flags uint64) uint64 {
	const fixed = 0x10
	if flags&fixed != 0 {
		return hint
	}
	size = (size + mem.PageSize - 1) &^ (mem.PageSize - 1)
	if hint != 0 || size == 0 || size > layout.HeapSize {
		return eNOMEM
	}
	// The runtime wants arenas aligned to their size, 64 MiB, and would ask for twice as much to align them itself.
	const arena = 64 << 20
	if size >= arena {
		heapNext = (heapNext + arena - 1) &^ (arena - 1)
	}
	if heapNext+size > layout.HeapBase+layout.HeapSize {
		return eNOMEM
	}
	heapNext += size
	return heapNext - size
}

// kernelUnmapRange gives back the pages of a range of the heap's region, which will be zero when touched again.
func kernelUnmapRange(addr, size uint64) {
	if addr < layout.HeapBase || size > layout.HeapSize || addr+size > layout.HeapBase+layout.HeapSize {
		return
	}
	knownMapped = 0
	for va, ok := mem.KernelNext(addr, addr+size); ok; va, ok = mem.KernelNext(va, addr+size) {
		mem.KernelUnmap(va)
		va += mem.PageSize
	}
	mem.KernelPrune(addr, addr+size)
	kernelFlush()
}

// kernelWritable reports whether kernel context may access the eight bytes at an address of ordinary Go; memory that is
// mapped on demand is mapped by this.
func kernelWritable(addr uint64) bool {
	// Most are on the stack of one page, one after the other.
	if page := addr &^ (mem.PageSize - 1); page == knownMapped && addr <= page+mem.PageSize-8 {
		return true
	}
	if !kernelMapped(addr) || !kernelMapped(addr+7) {
		return false
	}
	if addr >= layout.HeapBase {
		knownMapped = addr &^ (mem.PageSize - 1)
	}
	return true
}

// knownMapped is a page of the heap's region that is mapped.
var knownMapped uint64

func kernelMapped(addr uint64) bool {
	if addr >= layout.KernelBase+layout.KernelPhys && addr < bssStart || addr >= layout.DirectMap && addr < layout.DirectMap+ramEnd {
		return true
	}
	return kernelFault(addr)
}

// bssStart and bssEnd are the bounds of the kernel's BSS behind the page that its data ends in.
var bssStart, bssEnd uint64

// kernelFault maps the page of the heap's region or of BSS at addr, if it is not yet, and reports whether there is one.
func kernelFault(addr uint64) bool {
	owner := abi.OwnHeap
	if addr < layout.HeapBase || addr >= heapNext {
		if addr < bssStart || addr >= bssEnd || addr-kernelGuard() < mem.PageSize {
			return false
		}
		owner = abi.OwnBSS
	}
	if !mem.KernelTouch(addr, owner) {
		kernelOutOfMemory()
	}
	return true
}

// kernelOutOfMemory ends the machine because a page cannot be had: the program goes by SIGKILL or, if there is none yet, is not started.
func kernelOutOfMemory() {
	owners := mem.Owners()
	kernel := uint64(0)
	for i := abi.OwnImage; i <= abi.OwnDevice; i++ {
		if i != abi.OwnCache {
			kernel += owners[i&(abi.MaxOwners-1)]
		}
	}
	ram := uint64(0)
	for _, n := range owners {
		ram += n
	}
	const kib = mem.PageSize >> 10
	kernelPrint("firstlight: out of memory: 4 KiB more are asked for; of ")
	kernelPrintDec(ram * kib)
	kernelPrint(" KiB of RAM the program has ")
	kernelPrintDec((owners[abi.OwnApp] + owners[abi.OwnAppTables]) * kib)
	kernelPrint(" KiB, files in memory and pipes ")
	kernelPrintDec((owners[abi.OwnFiles] + owners[abi.OwnPipes] + owners[abi.OwnInitrd]) * kib)
	kernelPrint(" KiB, files that are mapped ")
	kernelPrintDec(owners[abi.OwnCache] * kib)
	kernelPrint(" KiB and the kernel ")
	kernelPrintDec(kernel * kib)
	if appStarted {
		kernelPrint(" KiB. The program is killed: give the machine more --memory\n")
		const sigKill = 9
		kernelEnd(abi.EndKilled, sigKill)
	}
	kernelPrint(" KiB. The program is not started: give the machine more --memory\n")
	const noMemory = 12
	kernelEnd(abi.EndNotStart, noMemory)
}

// kernelWrite writes to the console or the eventfd.
func kernelWrite(fd, addr, n uint64) uint64 {
	switch {
	case fd == eventFD:
		eventSet = true
		for i := range numThreads {
			if t := &threads[i%maxThreads]; t.state == waiting && t.poll {
				kernelPolled(t)
			}
		}
		return 8
	case fd != 1 && fd != 2:
		return eBADF
	}
	for done := uint64(0); done < n; {
		if !kernelMapped(addr + done) {
			return done
		}
		piece := min(n-done, mem.PageSize-(addr+done)%mem.PageSize)
		kernelConsole(mem.Pointer(addr+done), int(piece))
		done += piece
	}
	return n
}

// kernelTime is clock_gettime.
func kernelTime(id, addr uint64) {
	now := kernelNanotime()
	const realtime = 0
	if id == realtime {
		now += wallBase
	}
	if kernelWritable(addr) && kernelWritable(addr+8) {
		*(*[2]uint64)(mem.Pointer(addr)) = [2]uint64{now / 1e9, now % 1e9}
	}
}
