package ring0

import (
	"runtime"
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
	"github.com/firstlight-boot/firstlight/kernel/mem"
)

const (
	userCS          = layout.UserCS
	userSS          = layout.UserSS
	kernelStackSize = 32 << 10
	maxThreads      = 32
	monitorID       = 2 // thread id of sysmon, the first that the runtime makes
)

var (
	threads    [maxThreads]thread
	numThreads uint64 // threads at the start of the table that are, or were, in use
	idleThread thread
	idleStack  [64]uint64
	idt        [256][2]uint64
	bootRecord [abi.RecordSize]byte
	irqPending bool // a device interrupt came and no thread waited for it
	sliceEnd   uint64
	hasRDRAND  bool
	randState  uint64
)

// vectors lists the vectors that entry_amd64.s has code for, in the order of its table.
const vectors = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0a\x0b\x0c\x0d\x0e\x10\x11\x12\x13\x20\x21\x27"

const (
	vectorPageFault = 14
	vectorTimer     = 32
	VectorDevice    = 33 // what devices interrupt with
	vectorSpurious  = 39
)

const (
	msrEFER  = 0xc0000080
	msrSTAR  = 0xc0000081
	msrLSTAR = 0xc0000082
	msrFMASK = 0xc0000084
	cr4UMIP  = 1 << 11
	cr4SMEP  = 1 << 20
	cr4SMAP  = 1 << 21
)

// Offsets in hvm_start_info, from Xen's public/arch-x86/hvm/start_info.h.
const (
	startMagic      = 0x336ec578
	startModules    = 8 // flags, then the number of modules
	startModlist    = 16
	startCmdline    = 24
	startMemmap     = 40
	startMemEntries = 48
	memEntrySize    = 24
	memRAM          = 1
)

// runtimeStack is the size of the stack of the first thread, at the start of the heap's region.
const runtimeStack = 256 << 10

// kernelStart makes the machine ready for the Go runtime and returns its first thread.
func kernelStart() *thread {
	kernelPut64(abi.RecEntryTSC, entryTSC)
	*(*[8]byte)(bootRecord[:8]) = [8]byte([]byte(abi.RecordMagic))
	kernelMark(abi.MarkEntry)
	runtime.MemProfileRate = 0 // before the runtime's first allocation, which may be sampled otherwise

	runtimeEntry, syscallEntry, idle, runtimeEnd, traps := entryPoints()
	for i := range len(vectors) {
		kernelGate(int(vectors[i]), traps[i])
	}
	var gdtr, idtr [10]byte
	kernelTableRegister(&gdtr, 8*8, layout.DirectMap+layout.GDTPhys)
	kernelTableRegister(&idtr, uint64(unsafe.Sizeof(idt)), uint64(uintptr(unsafe.Pointer(&idt))))
	// No map of ports that ring 3 may use: it would start behind the end of the segment.
	const portMap = 102
	taskState[portMap] = byte(unsafe.Sizeof(taskState))
	cpu.LoadTables(&gdtr, &idtr, layout.TaskSel)
	cpu.WriteMSR(msrSTAR, layout.StarUser<<48|layout.KernelCS<<32)
	cpu.WriteMSR(msrLSTAR, syscallEntry)
	cpu.WriteMSR(msrFMASK, 0x47700) // AC, NT, IOPL, DF, IF, TF
	_, _, features, _ := cpu.CPUID(1, 0)
	hasRDRAND = features&(1<<30) != 0
	randState = entryTSC
	if maxLeaf, _, _, _ := cpu.CPUID(0, 0); maxLeaf >= 7 {
		_, b, c, _ := cpu.CPUID(7, 0)
		cr4 := cpu.ReadCR4()
		if b&(1<<7) != 0 {
			cr4 |= cr4SMEP
		}
		if b&(1<<20) != 0 {
			cr4 |= cr4SMAP
		}
		if c&(1<<2) != 0 {
			cr4 |= cr4UMIP
		}
		cpu.WriteCR4(cr4)
	}

	kernelMemory(max(runtimeEnd-layout.KernelBase, layout.TextEnd))
	kernelWord(layout.RootPhys, 0, 0) // the trampoline's identity map
	cpu.WriteCR3(layout.RootPhys)
	kernelTimerInit()

	idleThread.frame.RIP, idleThread.frame.CS = idle, layout.KernelCS
	idleThread.frame.SS, idleThread.frame.RFLAGS = layout.KernelSS, userDefault
	idleThread.frame.RSP = uint64(uintptr(unsafe.Pointer(&idleStack))) + uint64(unsafe.Sizeof(idleStack))

	numThreads = 1
	t := &threads[0]
	t.id, t.state = 1, runnable
	t.frame.RIP, t.frame.CS = runtimeEntry, layout.KernelCS
	t.frame.SS, t.frame.RFLAGS = layout.KernelSS, userDefault
	t.frame.RSP = kernelRuntimeStack()
	return t
}

// kernelRuntimeStack makes the stack that the Go runtime starts with and returns its stack pointer.
func kernelRuntimeStack() uint64 {
	const va = layout.HeapBase + runtimeStack - mem.PageSize
	f := mem.KernelAlloc()
	if f == 0 || !mem.KernelMap(va, f) {
		kernelDie("no memory for the first stack")
	}
	heapNext = layout.HeapBase + runtimeStack
	const words = 64
	const envOff = mem.PageSize - 64
	phys := uint64(f) + mem.PageSize - 64 - words*8
	virt := uint64(va) + mem.PageSize - 64 - words*8
	const (
		atPageSize = 6
		atSecure   = 23
		atRandom   = 25
	)
	kernelWord(uint64(f)+envOff, 0, kernelRandom()|1)
	kernelWord(uint64(f)+envOff, 1, kernelRandom()|1)
	// argc, argv, envp, auxv. One processor is said in the environment, or the runtime would keep asking; and a small heap
	// is collected from 1 MiB on, not 4, which a machine of 8 MiB does not have to spare.
	copy((*[32]byte)(mem.Pointer(layout.DirectMap + uint64(f) + envOff + 16))[:], "firstlight\x00GOMAXPROCS=1\x00GOGC=25\x00")
	name := uint64(va) + envOff + 16
	for i, w := range [...]uint64{1, name, 0, name + 11, name + 24, 0, atPageSize, mem.PageSize, atSecure, 0, atRandom, uint64(va) + envOff, 0, 0} {
		kernelWord(phys, uint64(i), w)
	}
	return virt
}

// kernelMemory gives package mem the RAM after the kernel's image, which ends at physical address end.
func kernelMemory(end uint64) {
	if kernelLoad(startInfo, 0)&0xffffffff != startMagic {
		kernelDie("the loader gave no PVH start information")
	}
	entries := kernelLoad(startInfo, startMemmap)
	limit := uint64(0)
	for i := range kernelLoad(startInfo, startMemEntries) & 0xffffffff {
		e := entries + i*memEntrySize
		start, size, kind := kernelLoad(e, 0), kernelLoad(e, 8), kernelLoad(e, 16)&0xffffffff
		if kind == memRAM && start <= end && end < start+size {
			limit = min(start+size, 3<<30)
		}
	}
	if limit == 0 {
		kernelDie("the machine has too little memory for the kernel (--memory)")
	}
	// An initial RAM disk cuts that in two. Allocation begins with the larger piece.
	start, to := end, limit
	spare, spareEnd := uint64(0), uint64(0)
	disk, diskEnd := kernelModule()
	if diskEnd != 0 {
		if disk < end || diskEnd > limit {
			kernelDie("the initial RAM disk does not lie in the RAM behind the kernel: give the machine more --memory")
		}
		if disk-end >= limit-diskEnd {
			to, spare, spareEnd = disk, diskEnd, limit
		} else {
			start, spare, spareEnd = diskEnd, end, disk
		}
	}
	// Not all of the direct map's first GiB is RAM, but no frame lies outside of what the memory map names.
	first := uint64(1 << 30)
	ramEnd = min(limit, first)
	if start >= ramEnd {
		kernelDie("the initial RAM disk leaves no memory below 1 GiB")
	}
	mem.KernelInit(start, min(to, ramEnd))
	if limit > first && mem.KernelSpan(limit) {
		ramEnd = limit
		if to > first {
			mem.KernelGrow(to)
		}
	}
	if diskEnd != 0 {
		if diskEnd > ramEnd {
			kernelDie("no memory to map the initial RAM disk")
		}
		mem.KernelSpare(spare, min(spareEnd, ramEnd), (diskEnd-disk)/mem.PageSize)
	}
}

// kernelModule returns the pages of the first module that the loader brought, which is the initial RAM disk; zeros without.
func kernelModule() (start, end uint64) {
	list := kernelLoad(startInfo, startModlist)
	if kernelLoad(startInfo, startModules)>>32 == 0 || list == 0 || list >= 1<<30 {
		return 0, 0
	}
	modulePhys, moduleSize = kernelLoad(list, 0), kernelLoad(list, 8)
	if moduleSize == 0 || moduleSize > 3<<30 || modulePhys > 4<<30 {
		return 0, 0
	}
	const mask = mem.PageSize - 1
	return modulePhys &^ mask, (modulePhys + moduleSize + mask) &^ mask
}

func kernelTableRegister(r *[10]byte, size, addr uint64) {
	*(*uint16)(unsafe.Pointer(&r[0])) = uint16(size - 1)
	*(*uint64)(unsafe.Pointer(&r[2])) = addr
}

// kernelGate makes an interrupt gate. Machine check, NMI and double fault use the same stack as all others: none of them is
// survived.
func kernelGate(vector int, addr uint64) {
	const present, interrupt, ist, user = 1 << 47, 14 << 40, 1 << 32, 3 << 45
	g := addr&0xffff | layout.KernelCS<<16 | ist | interrupt | present | (addr>>16&0xffff)<<48
	if vector == 3 || vector == 4 {
		g |= user // INT3 and INTO are instructions for programs
	}
	idt[vector&255] = [2]uint64{g, addr >> 32}
}

// kernelLoad reads 8 bytes of physical memory.
func kernelLoad(phys, off uint64) uint64 {
	return *(*uint64)(mem.Pointer(layout.DirectMap + phys + off))
}

// kernelWord writes word i at a physical address.
func kernelWord(phys, i, v uint64) {
	*(*uint64)(mem.Pointer(layout.DirectMap + phys + 8*i)) = v
}

func kernelPut64(off int, v uint64) {
	*(*uint64)(unsafe.Pointer(&bootRecord[off&(abi.RecordSize-8)])) = v
}

// AddDiskRead counts a request to the disk in the boot record.
func AddDiskRead(bytes int) {
	*(*uint64)(unsafe.Pointer(&bootRecord[abi.RecDiskRequests]))++
	*(*uint64)(unsafe.Pointer(&bootRecord[abi.RecDiskBytes])) += uint64(bytes)
}

// kernelMark reports a milestone: a byte for the host's clock, a line in the boot record with the guest's.
func kernelMark(b byte) {
	n := (*uint32)(unsafe.Pointer(&bootRecord[abi.RecNumMarks]))
	i := int(min(*n, abi.RecMaxMarks-1))
	kernelPut64(abi.RecMarks+16*i, uint64(b))
	kernelPut64(abi.RecMarks+16*i+8, cpu.ReadTSC())
	*n = uint32(i + 1)
	mark(b)
}

// kernelConsole writes n bytes at p to the serial port, sixteen for each time its FIFO is empty.
func kernelConsole(p unsafe.Pointer, n int) {
	const (
		lineStatus = abi.PortSerial + 5
		empty      = 1 << 5
		fifo       = 16
	)
	for n > 0 {
		for i := 0; cpu.In8(lineStatus)&empty == 0 && i < 1<<20; i++ {
		}
		piece := min(n, fifo)
		cpu.OutString(abi.PortSerial, (*byte)(p), piece)
		p = unsafe.Add(p, piece)
		n -= piece
	}
}

func kernelPrint(s string) { kernelConsole(unsafe.Pointer(unsafe.StringData(s)), len(s)) }

func kernelPrintHex(v uint64) {
	var b [16]byte
	for i := range b {
		b[15-i] = "0123456789abcdef"[v&15]
		v >>= 4
	}
	kernelConsole(unsafe.Pointer(&b), len(b))
}

// kernelRandom returns a random word; see Random.
func kernelRandom() uint64 {
	if hasRDRAND {
		if w, ok := cpu.RandWord(); ok {
			return w
		}
	}
	// SplitMix64 over the TSC.
	randState += cpu.ReadTSC() ^ 0x9e3779b97f4a7c15
	z := randState
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// kernelEnd ends the machine.
func kernelEnd(how, code uint64) {
	kernelCalibrate()
	total, free := mem.Stats()
	kernelPut64(abi.RecTSCHz, clock.hz)
	kernelPut64(abi.RecPages, total)
	kernelPut64(abi.RecPagesFree, free)
	*(*uint32)(unsafe.Pointer(&bootRecord[abi.RecHow])) = uint32(how)
	*(*uint32)(unsafe.Pointer(&bootRecord[abi.RecCode])) = uint32(code)
	kernelMark(abi.MarkEnd)
	mark(byte(how))
	mark(byte(code))
	status := byte(127)
	if how == abi.EndExited {
		status = byte(min(code, 127))
	}
	cpu.Out8(abi.PortExit, status)
	cpu.Out8(0x64, 0xfe) // keyboard controller: reset
	cpu.Reset()
}

// kernelDie ends the machine because the kernel cannot go on.
func kernelDie(msg string) {
	kernelPrint("firstlight: kernel: ")
	kernelPrint(msg)
	kernelPrint("\n")
	kernelEnd(abi.EndPanic, 0)
}
