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
	kernelStacks    = kernelStackSize + 4<<10
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
	appStarted bool // MarkApp was made
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

// Offsets in a task state segment: the first stack of the interrupt stack table, and where the map of ports would be.
const (
	taskStack   = 36
	taskPortMap = 102
)

const (
	msrEFER  = 0xc0000080
	msrSTAR  = 0xc0000081
	msrLSTAR = 0xc0000082
	msrFMASK = 0xc0000084

	msrStarValue = layout.StarUser<<48 | layout.KernelCS<<32
	msrMaskValue = 0x47700 // AC, NT, IOPL, DF, IF, TF

	cr4UMIP = 1 << 11
	cr4SMEP = 1 << 20
	cr4SMAP = 1 << 21
)

// Offsets in hvm_start_info, from Xen's public/arch-x86/hvm/start_info.h.
const (
	startMagic      = 0x336ec578
	startModules    = 8 // flags, then the number of modules
	startModlist    = 16
	startCmdline    = 24
	startMemmap     = 40
	startMemEntries = 48
	startSize       = 56
	memEntrySize    = 24
	moduleEntrySize = 32
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

	kernelSerialInit()

	runtimeEntry, syscallEntry, idle, runtimeEnd, traps := entryPoints()
	for i := range len(vectors) {
		kernelGate(&idt, int(vectors[i]), traps[i])
	}
	var gdtr, idtr [10]byte
	kernelTableRegister(&gdtr, 8*8, layout.DirectMap+layout.GDTPhys)
	kernelTableRegister(&idtr, uint64(unsafe.Sizeof(idt)), uint64(uintptr(unsafe.Pointer(&idt))))
	// No map of ports that ring 3 may use: it would start behind the end of the segment.
	taskState[taskPortMap] = byte(unsafe.Sizeof(taskState))
	*(*uint64)(unsafe.Pointer(&taskState[taskStack+8])) = uint64(uintptr(unsafe.Pointer(&kernelStack))) + kernelStacks
	const doubleFault, secondStack = 8, 1 << 32
	idt[doubleFault][0] += secondStack
	cpu.LoadTables(&gdtr, &idtr, layout.TaskSel)
	cpu.WriteMSR(msrSTAR, msrStarValue)
	cpu.WriteMSR(msrLSTAR, syscallEntry)
	cpu.WriteMSR(msrFMASK, msrMaskValue)
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

	bssStart, bssEnd = layout.KernelBase+placed[1], runtimeEnd
	kernelMemory()
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
	if !mem.KernelTouch(va, abi.OwnHeap) {
		kernelDie("no memory for the first stack")
	}
	f := mem.Physical(va)
	heapNext = layout.HeapBase + runtimeStack
	const words = 64
	const envOff = mem.PageSize - 64
	phys := f + mem.PageSize - 64 - words*8
	virt := uint64(va) + mem.PageSize - 64 - words*8
	const (
		atPageSize = 6
		atSecure   = 23
		atRandom   = 25
	)
	kernelWord(f+envOff, 0, kernelRandom()|1)
	kernelWord(f+envOff, 1, kernelRandom()|1)
	// argc, argv, envp, auxv. One processor is said in the environment, or the runtime would keep asking; and a small heap
	// is collected from 1 MiB on, not 4, which a machine of 8 MiB does not have to spare.
	copy((*[32]byte)(mem.Pointer(layout.DirectMap + f + envOff + 16))[:], "firstlight\x00GOMAXPROCS=1\x00GOGC=25\x00")
	name := uint64(va) + envOff + 16
	for i, w := range [...]uint64{1, name, 0, name + 11, name + 24, 0, atPageSize, mem.PageSize, atSecure, 0, atRandom, uint64(va) + envOff, 0, 0} {
		kernelWord(phys, uint64(i), w)
	}
	return virt
}

// placed are physical addresses that kernel/link writes: the ends of the low segment, of the kernel's data, and of the part of BSS
// that is there from the start.
var placed = [3]uint64{1, 1, 1}

// maxRAM is how much physical memory is used: what one table of the direct map spans.
const maxRAM = 512 << 30

// claim is physical memory that the allocator does not get.
type claim struct {
	start, end uint64
	owner      int
}

// maxClaims is a power of two above the number of claims that kernelMemory makes.
const maxClaims = 16

var claims [maxClaims]claim

// loaderPages are the frames that HandBack gives back.
var (
	loaderPages    [maxClaims]uint64
	numLoaderPages int
)

// kernelClaim notes that the pages of size bytes at phys have an owner.
func kernelClaim(i int, phys, size uint64, owner int) {
	if size != 0 && phys < maxRAM && size < maxRAM {
		const mask = mem.PageSize - 1
		claims[i&(maxClaims-1)] = claim{phys &^ mask, (phys + size + mask) &^ mask, owner}
	}
}

// kernelMemory gives package mem all RAM that the loader's map names, but for what is in use.
func kernelMemory() {
	if kernelLoad(startInfo, 0)&0xffffffff != startMagic {
		kernelDie("the loader gave no PVH start information")
	}
	entries, count := kernelLoad(startInfo, startMemmap), kernelLoad(startInfo, startMemEntries)&0xffffffff
	list := kernelModule()
	const mapMost, lineMost = 4096, 4096
	kernelClaim(0, 0, mem.PageSize, abi.OwnLoader) // its number stands for no frame
	kernelClaim(1, layout.LowPhys, layout.NotesOff, abi.OwnImage)
	kernelClaim(9, layout.LowPhys+layout.NotesOff, layout.NotesSize, abi.OwnLoader)
	kernelClaim(10, layout.RootPhys, placed[0]-layout.RootPhys, abi.OwnImage)
	kernelClaim(2, layout.KernelPhys, placed[1]-layout.KernelPhys, abi.OwnImage)
	kernelClaim(3, placed[1], placed[2]-placed[1], abi.OwnBSS)
	if placed[2] < layout.TextEnd { // there the direct map is read-only
		kernelClaim(11, placed[2], layout.TextEnd-placed[2], abi.OwnImage)
	}
	kernelClaim(4, modulePhys, moduleSize, abi.OwnInitrd)
	kernelClaim(5, startInfo, startSize, abi.OwnLoader)
	kernelClaim(6, entries, min(count*memEntrySize, mapMost), abi.OwnLoader)
	kernelClaim(7, list, moduleEntrySize, abi.OwnLoader)
	if line := kernelLoad(startInfo, startCmdline); line != 0 {
		kernelClaim(8, line, lineMost, abi.OwnLoader)
	}

	for i := range count { // one of them holds the kernel, or the trampoline would have said so
		start, end := kernelEntry(entries, i)
		kernelAdd(start, min(end, directEnd), end)
	}
	mem.KernelChoose()
	// What lies beyond the direct map's first GiB needs page tables, which come from below it.
	for i := range count {
		start, end := kernelEntry(entries, i)
		start = max(start, directEnd)
		if start >= end {
			continue
		}
		if !mem.KernelSpan(start, end) {
			break
		}
		kernelAdd(start, end, end)
	}
	if moduleSize != 0 && !kernelHasModule(entries, count) {
		kernelDie("the initial RAM disk does not lie in the machine's RAM: give the machine more --memory")
	}
	mem.KernelChoose()
}

// directEnd is the end of the part of the direct map that kernel/link makes.
const directEnd = 1 << 30

// kernelEntry returns the whole pages of entry i of the loader's map; none if it is no RAM.
func kernelEntry(entries, i uint64) (start, end uint64) {
	e := entries + i*memEntrySize
	start, size, kind := kernelLoad(e, 0), kernelLoad(e, 8), kernelLoad(e, 16)&0xffffffff
	if kind != memRAM || start >= maxRAM {
		return 0, 0
	}
	end = (start + min(size, maxRAM-start)) &^ (mem.PageSize - 1)
	return (start + mem.PageSize - 1) &^ (mem.PageSize - 1), end
}

func kernelHasModule(entries, count uint64) bool {
	for i := range count {
		if start, end := kernelEntry(entries, i); modulePhys >= start && modulePhys+moduleSize <= end {
			return true
		}
	}
	return false
}

// kernelAdd gives package mem the RAM in [start, end), of a piece that ends at top, as far as it is in nobody's use.
//
// Firmware works below 1 MiB and at the top of the RAM below 4 GiB, and loaders in the room below the kernel and right behind it: what
// was there is not zero. All other RAM is as the VMM made it.
func kernelAdd(start, end, top uint64) {
	const room, behind = 2 << 20, 64 << 10
	low := placed[2] + behind
	if top > 1<<32 {
		top = ^uint64(0)
	} else {
		top -= min(room, top)
	}
	for start < end {
		next := end
		for _, limit := range [...]uint64{low, top} {
			if start < limit {
				next = min(next, limit)
			}
		}
		owner := -1
		for i := range claims {
			if c := &claims[i]; start < c.start {
				next = min(next, c.start)
			} else if start < c.end {
				next, owner = min(next, c.end), c.owner
			}
		}
		if owner < 0 && !mem.KernelAdd(start, next, start < low || start >= top) {
			owner = abi.OwnLoader
		}
		if owner >= 0 {
			kernelOwn(owner, start, next)
		}
		ramEnd = max(ramEnd, next)
		start = next
	}
}

// kernelOwn counts the frames of [start, end) as owner's.
func kernelOwn(owner int, start, end uint64) {
	mem.KernelOwn(owner, (end-start)/mem.PageSize)
	if owner != abi.OwnLoader {
		return
	}
	for at := start; at < end && at != 0; at += mem.PageSize {
		if numLoaderPages < maxClaims {
			loaderPages[numLoaderPages&(maxClaims-1)] = at
			numLoaderPages++
		}
	}
}

// kernelModule finds the first module that the loader brought, which is the initial RAM disk, and returns where the list of modules is.
func kernelModule() (list uint64) {
	list = kernelLoad(startInfo, startModlist)
	if kernelLoad(startInfo, startModules)>>32 == 0 || list == 0 || list >= directEnd {
		return 0
	}
	modulePhys, moduleSize = kernelLoad(list, 0), kernelLoad(list, 8)
	if moduleSize == 0 || moduleSize > maxRAM || modulePhys > maxRAM {
		modulePhys, moduleSize = 0, 0
	}
	return list
}

func kernelTableRegister(r *[10]byte, size, addr uint64) {
	*(*uint16)(unsafe.Pointer(&r[0])) = uint16(size - 1)
	*(*uint64)(unsafe.Pointer(&r[2])) = addr
}

// kernelGate makes an interrupt gate. Machine check and NMI use the same stack as all others: neither is survived.
func kernelGate(table *[256][2]uint64, vector int, addr uint64) {
	const present, interrupt, ist, user = 1 << 47, 14 << 40, 1 << 32, 3 << 45
	g := addr&0xffff | layout.KernelCS<<16 | ist | interrupt | present | (addr>>16&0xffff)<<48
	if vector == 3 || vector == 4 {
		g |= user // INT3 and INTO are instructions for programs
	}
	table[vector&255] = [2]uint64{g, addr >> 32}
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
	appStarted = appStarted || b == abi.MarkApp
	n := (*uint32)(unsafe.Pointer(&bootRecord[abi.RecNumMarks]))
	i := int(min(*n, abi.RecMaxMarks-1))
	kernelPut64(abi.RecMarks+16*i, uint64(b))
	kernelPut64(abi.RecMarks+16*i+8, cpu.ReadTSC())
	*n = uint32(i + 1)
	total, free := mem.Stats()
	kernelPut64(abi.RecPages, total)
	kernelPut64(abi.RecPagesFree, free)
	owners := mem.Owners()
	*(*[abi.MaxOwners]uint64)(unsafe.Pointer(&bootRecord[abi.RecOwners])) = owners
	mark(b)
}

func kernelPrint(s string) { kernelConsole(unsafe.Pointer(unsafe.StringData(s)), len(s)) }

func kernelPrintDec(v uint64) {
	var b [32]byte // a power of two above the 20 digits that there can be
	i := len(b)
	for v > 0 || i == len(b) {
		i--
		b[i&(len(b)-1)] = byte('0' + v%10)
		v /= 10
	}
	kernelConsole(unsafe.Pointer(&b[i&(len(b)-1)]), len(b)-i)
}

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
	kernelPut64(abi.RecTSCHz, clock.hz)
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
