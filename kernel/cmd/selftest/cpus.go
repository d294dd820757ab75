package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
)

// cpus starts the machine's other CPUs, if it has any, and runs contexts on them.
func cpus() error {
	others := ring0.CPUs() - 1
	if others == 0 {
		return nil
	}
	before := ring0.Ticks()
	if n := ring0.StartCPUs(others); n != others {
		return fmt.Errorf("%d of %d CPUs could be prepared", n, others)
	}
	sent := ring0.Ticks()
	want := uint64(1)<<(others+1) - 2
	for limit := ring0.Nanotime() + 10e9; ring0.ReadyCPUs() != want; {
		if ring0.Nanotime() > limit {
			return fmt.Errorf("CPUs %#x have arrived, want %#x", ring0.ReadyCPUs(), want)
		}
	}
	seen := ring0.Ticks()
	for n := 1; n <= others; n++ {
		if at := ring0.Arrival(n); at < sent && at < before || at > seen {
			return fmt.Errorf("CPU %d's TSC was %d at a moment between %d and %d of the first's", n, at, before, seen)
		}
	}
	println("CPUs", others+1, "start", ring0.Nanos(sent-before), "ns, arrival", ring0.Nanos(seen-before), "ns")
	for n := 1; n <= others; n++ {
		if err := runsOn(n); err != nil {
			return fmt.Errorf("CPU %d: %w", n, err)
		}
		if err := movesTo(n); err != nil {
			return fmt.Errorf("CPU %d: %w", n, err)
		}
	}
	if err := parallel(); err != nil {
		return err
	}
	return forgets()
}

// returned waits for CPU n to hand back its context.
func returned(n int) int {
	for got := ring0.Returned(); got>>n&1 == 0; got |= ring0.Returned() {
		ring0.Idle(0)
	}
	return ring0.Result(n)
}

// runsOn has CPU n run a context to a system call, a fault, and till it is kicked.
func runsOn(n int) error {
	// mov $5,%eax; incq 0x500000; movq %rbx,%xmm7; syscall; movq %xmm7,%r12; mov %fs:0,%r13; mov %gs:8,%r14; ud2
	c, _, err := program("\xb8\x05\x00\x00\x00\x48\xff\x04\x25\x00\x00\x50\x00\x66\x48\x0f\x6e\xfb\x0f\x05" +
		"\x66\x49\x0f\x7e\xfc\x64\x4c\x8b\x2c\x25\x00\x00\x00\x00\x65\x4c\x8b\x34\x25\x08\x00\x00\x00\x0f\x0b\xeb\xfe")
	if err != nil {
		return err
	}
	c.RBX, c.R15, c.FSBase, c.GSBase = 0x1234, 0x5678, 0x500000, 0x500000
	ring0.Give(n, c)
	if trap := returned(n); trap != ring0.TrapSyscall || c.RAX != 5 || c.RIP != 0x400014 || c.RBX != 0x1234 || c.R15 != 0x5678 {
		return fmt.Errorf("system call: trap %d, RAX %d, RIP %#x", trap, c.RAX, c.RIP)
	}
	// It goes on here, and there again.
	trap := ring0.TrapTimeslice
	for trap == ring0.TrapTimeslice {
		trap = ring0.Enter(c, 0)
	}
	if trap != 6 || c.R12 != 0x1234 || c.R13 != 1 || c.R14 != 0 || c.RIP != 0x40002b {
		return fmt.Errorf("on the first: trap %d, RIP %#x, R12 %#x, R13 %d", trap, c.RIP, c.R12, c.R13)
	}
	c.R12, c.RIP = 0, 0x400014
	ring0.Give(n, c)
	if trap := returned(n); trap != 6 || c.R12 != 0x1234 || c.R13 != 1 {
		return fmt.Errorf("undefined instruction: trap %d, R12 %#x, R13 %d", trap, c.R12, c.R13)
	}
	c.RIP += 2
	ring0.Give(n, c)
	ring0.Kick(n)
	if trap := returned(n); trap != ring0.TrapTimeslice || c.RIP != 0x40002d {
		return fmt.Errorf("kicked: trap %d, RIP %#x", trap, c.RIP)
	}
	for _, p := range hostile {
		c, _, err := program(p.code)
		if err != nil {
			return err
		}
		ring0.Give(n, c)
		trap := returned(n)
		if trap == 14 && p.trap == 13 && c.CR2>>12 == 0x500 {
			continue // as isolation has it
		}
		if trap != p.trap || p.trap == 14 && c.CR2 != p.cr2 {
			return fmt.Errorf("%s: trap %d at %#x, RIP %#x", p.name, trap, c.CR2, c.RIP)
		}
	}
	return nil
}

// parallel has two contexts that each wait for the other's next step without a system call: one CPU would never get anywhere
// within a time slice that does not end.
func parallel() error {
	// again: mov %r8,(%rbx); pause; cmp %r8,(%rcx) [jb to pause]; inc %r8; cmp $500,%r8; jb again; syscall
	a, _, err := program("\x4c\x89\x03\xf3\x90\x4c\x39\x01\x72\xf9\x49\xff\xc0\x49\x81\xf8\xf4\x01\x00\x00\x72\xea\x0f\x05")
	if err != nil {
		return err
	}
	b := *a
	a.RBX, a.RCX, b.RBX, b.RCX = 0x500000, 0x500040, 0x500040, 0x500000
	a.R8, b.R8 = 1, 1
	ring0.Give(1, a)
	for ring0.Enter(&b, 0) == ring0.TrapTimeslice { // which the other's end is
	}
	if trap := returned(1); trap != ring0.TrapSyscall || a.R8 != 500 {
		return fmt.Errorf("in parallel: trap %d after %d steps, and %d", trap, a.R8, b.R8)
	}
	return nil
}

// forgets takes a page away from a context that writes to it without end.
func forgets() error {
	// again: incq (%rbx); jmp again
	c, s, err := program("\x48\xff\x03\xeb\xfb")
	if err != nil {
		return err
	}
	total, rounds := uint64(0), uint64(200)
	for i := range rounds {
		f := mem.Alloc(abi.OwnApp)
		if f == 0 || !s.Map(0x600000, f, mem.Write) {
			return errors.New("no memory")
		}
		word := (*uint64)(unsafe.Pointer(unsafe.SliceData(f.Bytes(8))))
		c.RBX, c.RIP = 0x600000, 0x400000
		ring0.Give(1, c)
		for atomic.LoadUint64(word) == 0 {
			cpu.Pause()
		}
		began := ring0.Ticks()
		if i%2 == 0 {
			s.Unmap(0x600000)
		} else {
			s.Protect(0x600000, 0)
		}
		ring0.Flush()
		total += ring0.Ticks() - began
		atomic.StoreUint64(word, 0)
		if trap := returned(1); trap != 14 || c.CR2 != 0x600000 {
			return fmt.Errorf("a page that was taken away: trap %d at %#x", trap, c.CR2)
		}
		if v := atomic.LoadUint64(word); v != 0 {
			return fmt.Errorf("a page that was taken away is written: %d", v)
		}
		mem.Free(f, abi.OwnApp)
	}
	println("taking a page away:", ring0.Nanos(total/rounds), "ns")
	return nil
}
