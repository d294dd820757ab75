package ring0

//lint:file-ignore U1000 cpus_amd64.s uses what Go code does not

import (
	"sync/atomic"
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/vdso"
)

// MaxCPUs is how many CPUs are used, the first included.
const MaxCPUs = 16

// cpuBlock is what a CPU besides the first has to itself: a page, at whose end lies its stack. No such CPU executes Go: cpus_amd64.s
// waits for a Context, enters ring 3 with it and hands it back. So the stack holds no more than what one trap pushes.
type cpuBlock struct {
	ctx     uint64 // address of the Context to run; 0: none
	cr3     uint64 // the address space to run it in
	active  uint64 // the one that is active
	seen    uint64 // the value of flushes whose flush was made
	running uint32 // since it looked at flushes last; until the Context is handed back
	kick    uint32 // the next interrupt ends the run

	trap uint64 // what ended the last run, as Enter returns it, or cpuFault and the vector

	self, top, scratch uint64
	bit                uint64 // in cpusReady and cpusDone
	apic               uint64 // virtual address of the local APIC
	tsc                uint64 // when it arrived
	id                 uint32 // of its local APIC
	number             uint32 // 1 to MaxCPUs-1
	apicOn             uint32
	hasAux             uint32

	gdtr, idtr         uint64 // addresses of the pseudo-descriptors
	star, lstar, fmask uint64

	pseudo [2][16]byte
	gdt    [8]uint64
	task   [104]byte
}

// cpuBlockSize is where a block's stack begins, downwards.
const cpuBlockSize = mem.PageSize

var _ [cpuBlockSize/2 - unsafe.Sizeof(cpuBlock{})]byte

// The variables that cpus_amd64.s uses.
var (
	cpuBlocks   [MaxCPUs]uint64 // addresses of the blocks: in [0] of CPU 1
	cpusArrived uint32          // that the start has reached
	cpusWanted  uint32
	cpusReady   uint64 // bit n: CPU n takes Contexts
	cpusDone    uint64 // bit n: CPU n has handed its Context back
	flushes     uint64 // how often mappings were taken away
	firstAPIC   uint32 // the first CPU's, as the interrupt command register wants it
)

const (
	vectorCPU  = 34 // to the other CPUs: look at your block, and at flushes
	vectorDone = 35 // to the first: a Context is back

	apicID          = apicBase + 0x20
	apicCommand     = apicBase + 0x300
	apicDestination = apicBase + 0x310
	allButSelf      = 3 << 18
	commandAssert   = 1 << 14
	commandBusy     = 1 << 12
	commandInit     = 5 << 8
	commandStart    = 6 << 8
)

// cpuTeller is what programs find at vdso.DataCPUs.
var cpuTeller uint64

// cpuVectors lists the vectors that cpus_amd64.s has code for, in the order of its table.
const cpuVectors = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0a\x0b\x0c\x0d\x0e\x10\x11\x12\x13\x22\x27"

// cpuStart is the code that the other CPUs begin with, at physical address 0 in 16-bit mode: the page there is nobody's frame. It
// switches to 64-bit mode by the kernel's own page table, whose identity map kernelCPUs makes, not writable.
const cpuStart = "\xfa" + // cli
	"\xfc" + // cld
	"\x31\xc0" + // xor %ax,%ax
	"\x8e\xd8" + // mov %ax,%ds
	"\x66\x0f\x01\x16\x80\x00" + // lgdtl 0x80
	"\x66\xa1\x88\x00" + // mov 0x88,%eax
	"\x0f\x22\xe0" + // mov %eax,%cr4
	"\x66\xa1\x8c\x00" + // mov 0x8c,%eax
	"\x0f\x22\xd8" + // mov %eax,%cr3
	"\x66\xb9\x80\x00\x00\xc0" + // mov $EFER,%ecx
	"\x66\x31\xd2" + // xor %edx,%edx
	"\x66\xb8\x01\x09\x00\x00" + // mov $0x901,%eax: SCE, LME, NXE
	"\x0f\x30" + // wrmsr
	"\x66\xb8\x33\x00\x01\x80" + // mov $0x80010033,%eax: PG, WP, NE, ET, MP, PE
	"\x0f\x22\xc0" + // mov %eax,%cr0
	"\x66\xea\x3c\x00\x00\x00\x08\x00" + // ljmpl $KernelCS,$0x3c
	"\x48\xa1\x90\x00\x00\x00\x00\x00\x00\x00" + // movabs 0x90,%rax
	"\xff\xe0" // jmp *%rax

// Where the code finds what it loads.
const (
	startGDTR  = 0x80
	startCR4   = 0x88
	startCR3   = 0x8c
	startEntry = 0x90
)

// kernelBlock returns the block of CPU n, which has been made.
func kernelBlock(n uint64) *cpuBlock {
	return (*cpuBlock)(mem.Pointer(cpuBlocks[(n-1)&(MaxCPUs-1)]))
}

// kernelCPUs starts n CPUs besides this one, fewer if memory is short, and does not wait for them. It returns how many.
func kernelCPUs(n uint64) uint64 {
	if cpusWanted != 0 {
		return uint64(cpusWanted)
	}
	table := mem.KernelAlloc(abi.OwnBSS)
	if table == 0 {
		return 0
	}
	entry, syscall, back, traps := cpuPoints()
	kernelGate(&idt, vectorDone, back)
	gates := (*[256][2]uint64)(mem.Pointer(layout.DirectMap + uint64(table)))
	for i := range len(cpuVectors) {
		kernelGate(gates, int(cpuVectors[i]), traps[i])
	}
	_, _, _, extended := cpu.CPUID(0x80000001, 0)
	for i := uint64(0); i < min(n, MaxCPUs-1); i++ {
		f := mem.KernelAlloc(abi.OwnBSS)
		if f == 0 {
			break
		}
		at := layout.DirectMap + uint64(f)
		cpuBlocks[i&(MaxCPUs-1)] = at
		b := (*cpuBlock)(mem.Pointer(at))
		b.self, b.bit, b.number = at, 1<<(i+1), uint32(i+1)
		b.active = layout.RootPhys
		b.apic, b.apicOn = apicBase, apicEnable|vectorSpurious
		b.hasAux = extended >> 27 & 1
		b.star, b.lstar, b.fmask = msrStarValue, syscall, msrMaskValue
		for j := range b.gdt {
			b.gdt[j] = kernelLoad(layout.GDTPhys, uint64(8*j))
		}
		task := uint64(uintptr(unsafe.Pointer(&b.task)))
		b.gdt[layout.TaskSel/8] = uint64(unsafe.Sizeof(b.task)-1) | task&0xffffff<<16 | 0x89<<40 | task>>24&0xff<<56
		b.gdt[layout.TaskSel/8+1] = task >> 32
		b.task[taskPortMap] = byte(unsafe.Sizeof(b.task))
		*(*uint64)(unsafe.Pointer(&b.task[taskStack])) = at + cpuBlockSize
		kernelTableRegister((*[10]byte)(unsafe.Pointer(&b.pseudo[0])), uint64(unsafe.Sizeof(b.gdt)), uint64(uintptr(unsafe.Pointer(&b.gdt))))
		kernelTableRegister((*[10]byte)(unsafe.Pointer(&b.pseudo[1])), uint64(unsafe.Sizeof(*gates)), uint64(uintptr(unsafe.Pointer(gates))))
		b.gdtr, b.idtr = uint64(uintptr(unsafe.Pointer(&b.pseudo[0]))), uint64(uintptr(unsafe.Pointer(&b.pseudo[1])))
		cpusWanted = uint32(i + 1)
	}
	if cpusWanted == 0 {
		return 0
	}
	page := (*[mem.PageSize]byte)(mem.Pointer(layout.DirectMap))
	for i := range len(cpuStart) {
		page[i] = cpuStart[i]
	}
	*(*uint16)(unsafe.Pointer(&page[startGDTR])) = 8*8 - 1
	*(*uint32)(unsafe.Pointer(&page[startGDTR+2])) = layout.GDTPhys
	*(*uint32)(unsafe.Pointer(&page[startCR4])) = uint32(cpu.ReadCR4())
	*(*uint32)(unsafe.Pointer(&page[startCR3])) = layout.RootPhys
	*(*uint64)(unsafe.Pointer(&page[startEntry])) = entry
	// The identity map stays: a CPU that comes late has to find it. No program's table has it.
	const direct = layout.RootPhys + layout.PDPTDirect*mem.PageSize
	kernelWord(layout.RootPhys, layout.PML4, direct|layout.Present|layout.Accessed)
	cpuTeller = vdso.AskKernel
	if extended>>27&1 != 0 {
		cpuTeller = vdso.CPUTells
	}
	kernelPublish()
	firstAPIC = cpu.Load32(apicID) & 0xff000000
	kernelCommand(0, allButSelf|commandAssert|commandInit)
	kernelCommand(0, allButSelf|commandAssert|commandStart)
	return uint64(cpusWanted)
}

// kernelCommand sends an interrupt.
func kernelCommand(to, command uint32) {
	cpu.Store32(apicDestination, to)
	cpu.Store32(apicCommand, command)
	for range 1000 { // a virtual APIC is never busy
		if cpu.Load32(apicCommand)&commandBusy == 0 {
			return
		}
		cpu.Pause()
	}
}

// kernelGive lets CPU n run the Context at an address, in the active address space. The CPU must be ready and have none.
func kernelGive(n, ctx uint64) {
	if !kernelMapped(ctx) || !kernelMapped(ctx+uint64(unsafe.Sizeof(Context{}))-1) { // as enter does
		return
	}
	b := kernelBlock(n)
	b.cr3 = cpu.ReadCR3()
	b.kick = 0
	atomic.StoreUint64(&b.ctx, ctx)
	kernelCommand(b.id<<24, commandAssert|vectorCPU)
}

// kernelKick makes CPU n hand its Context back.
func kernelKick(n uint64) {
	b := kernelBlock(n)
	atomic.StoreUint32(&b.kick, 1)
	kernelCommand(b.id<<24, commandAssert|vectorCPU)
}

// kernelFlush makes all CPUs forget the mappings that were taken away or lost a right. The others in ring 3 are interrupted, and
// waited for; those that are not do it before they enter. In ring 3 interrupts are on, and out of it no CPU waits for this one.
func kernelFlush() {
	if cpusWanted == 0 {
		return
	}
	want := atomic.AddUint64(&flushes, 1)
	for n := uint64(1); n <= uint64(cpusWanted); n++ {
		if b := kernelBlock(n); atomic.LoadUint32(&b.running) != 0 && atomic.LoadUint64(&b.seen) != want {
			kernelCommand(b.id<<24, commandAssert|vectorCPU)
		}
	}
	for n := uint64(1); n <= uint64(cpusWanted); n++ {
		for b := kernelBlock(n); atomic.LoadUint32(&b.running) != 0 && atomic.LoadUint64(&b.seen) != want; {
			cpu.Pause()
		}
	}
}

// cpuFault is added to the vector of a fault in cpus_amd64.s itself.
const cpuFault = 512

// kernelCPUFault ends the machine because CPU n faulted outside ring 3.
func kernelCPUFault(n uint64) {
	b := kernelBlock(n)
	kernelPrint("CPU ")
	kernelPrintDec(n)
	kernelPrint(": ")
	kernelOops((*frame)(mem.Pointer(b.scratch)), "fault in the code of another CPU")
}

// cpuPending says that a Context came back and no thread waited for it.
var cpuPending bool

// kernelBack serves the interrupt that tells of a Context that is back.
func kernelBack() {
	cpu.Store32(apicEOI, 0)
	if !quiet { // else it is a disk that is waited for
		for i := range numThreads {
			if t := &threads[i%maxThreads]; t.state == waiting && t.irq {
				kernelWake(t, 0)
				return
			}
		}
	}
	cpuPending, sliceExpired = true, true // neither is to be entered: HLT or ring 3
}

func cpuPoints() (entry, syscall, back uint64, traps *[20]uint64)
