// Command selftest is a guest that tests package ring0 from inside: the Go runtime and standard library on it, ring 3, the
// clock. It prints a line "ok NAME" for each check and ends with a panic, whose trace the test that boots it reads.
package main

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
)

func main() {
	ring0.EnableAVX()
	oops()
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"channels", channels},
		{"locked-threads", lockedThreads},
		{"collector", collector},
		{"faults", faults},
		{"recursion", recursion},
		{"free-memory", freeMemory},
		{"timers", timers},
		{"clock", clock},
		{"idle", idle},
		{"ring3", ring3},
		{"turns", turns},
		{"loops", loops},
		{"storm", storm},
		{"two-spaces", twoSpaces},
		{"isolation", isolation},
		{"page-tables", pageTables},
		{"supervisor", supervisor},
		{"segments", segments},
		{"floating-point", floatingPoint},
		{"bss", bss},
		{"ram", ram},
		{"cpus", cpus},
	} {
		if ring0.CPUs() > 1 && c.name != "cpus" {
			continue // time is the host's then, and much of this is about time
		}
		if err := c.run(); err != nil {
			println("FAILED", c.name, err.Error())
		} else {
			println("ok", c.name)
		}
	}
	theEnd()
}

//go:noinline
func theEnd() { panic("the end of the self-test") }

// channels sends a token to and fro between two goroutines.
func channels() error {
	to, fro := make(chan int), make(chan int)
	go func() {
		for v := range to {
			fro <- v + 1
		}
		close(fro)
	}()
	v := 0
	for range 20000 {
		to <- v
		v = <-fro
	}
	close(to)
	if v != 20000 {
		return fmt.Errorf("counted to %d, want 20000", v)
	}
	return nil
}

// lockedThreads passes a token round goroutines that each have a thread of their own.
func lockedThreads() error {
	const n, rounds = 6, 200
	var ring [n]chan int
	for i := range ring {
		ring[i] = make(chan int)
	}
	done := make(chan int)
	for i := range n {
		go func() {
			runtime.LockOSThread() // until the goroutine ends, and the thread with it
			for v := range ring[i] {
				if v == n*rounds {
					done <- v
					return
				}
				ring[(i+1)%n] <- v + 1
			}
		}()
	}
	ring[0] <- 1
	if v := <-done; v != n*rounds {
		return fmt.Errorf("the token counts %d", v)
	}
	for i := range n - 1 {
		close(ring[i])
	}
	return nil
}

// collector makes garbage in several goroutines and checks what is not garbage.
func collector() error {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	bad := make(chan error, 4)
	for g := range 4 {
		wg.Go(func() {
			keep := map[int][]byte{}
			for i := range 4000 {
				b := make([]byte, 1+i%2000)
				b[0] = byte(i ^ g)
				keep[i%50] = b
				if len(keep[(i+7)%50]) > 2000 {
					bad <- errors.New("an object changed its size")
				}
			}
			for i := 3950; i < 4000; i++ {
				if keep[i%50][0] != byte(i^g) {
					bad <- fmt.Errorf("object %d was lost", i)
				}
			}
		})
	}
	wg.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if after.NumGC-before.NumGC < 2 {
		return fmt.Errorf("%d collections", after.NumGC-before.NumGC)
	}
	select {
	case err := <-bad:
		return err
	default:
		return nil
	}
}

var zero int

// faults turns hardware faults into panics and recovers.
func faults() error {
	try := func(f func()) (got any) {
		defer func() { got = recover() }()
		f()
		return nil
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for _, c := range []struct {
		name, want string
		f          func()
	}{
		{"nil", "runtime error: invalid memory address or nil pointer dereference", func() { *(*int)(nil) = 1 }},
		{"divide", "runtime error: integer divide by zero", func() { zero = 1 / zero }},
		{"user address", "runtime error: invalid memory address or nil pointer dereference", func() { *(*int)(mem.Pointer(0x400000)) = 1 }},
		{"text", "runtime error: invalid memory address or nil pointer dereference", func() { *(*byte)(mem.Pointer(textAddress())) = 1 }},
	} {
		err, _ := try(c.f).(error)
		if err == nil || err.Error() != c.want {
			return fmt.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
	return nil
}

func textAddress() uint64 {
	f := textAddress
	return **(**uint64)(unsafe.Pointer(&f))
}

func recursion() error {
	var down func(n int, pad [4]int) int
	down = func(n int, pad [4]int) int {
		if n == 0 {
			return pad[0]
		}
		pad[0]++
		return down(n-1, pad)
	}
	if got := down(100000, [4]int{}); got != 100000 {
		return fmt.Errorf("came back with %d", got)
	}
	return nil
}

// freeMemory checks that memory given back is zero when it comes again, and that it did go back.
func freeMemory() error {
	_, before := mem.Stats()
	b := make([]byte, 8<<20)
	for i := range b {
		b[i] = 0xaa
	}
	b = nil
	debug.FreeOSMemory()
	if _, after := mem.Stats(); after+256 < before {
		return fmt.Errorf("%d pages free, were %d", after, before)
	}
	b = make([]byte, 8<<20)
	for i, c := range b {
		if c != 0 {
			return fmt.Errorf("byte %d is %#x", i, c)
		}
	}
	return nil
}

// timers uses the runtime's own, which wait in epoll_pwait.
func timers() error {
	type event struct{ due, at uint64 }
	events := make(chan event, 3)
	for _, ms := range []uint64{30, 10, 20} {
		due := ring0.Nanotime() + ms*1e6
		time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { events <- event{due, ring0.Nanotime()} })
	}
	// Those that are over at once, on a host that stopped the machine, come in any order.
	for range 3 {
		if e := <-events; e.at < e.due {
			return fmt.Errorf("a timer went off %d ns too early", e.due-e.at)
		}
	}
	return nil
}

func clock() error {
	last := ring0.Nanotime()
	for range 200000 {
		now := ring0.Nanotime()
		if now < last {
			return fmt.Errorf("the clock went back from %d to %d", last, now)
		}
		last = now
	}
	return nil
}

func idle() error {
	for _, nanos := range []uint64{1e6, 20e6, 3e6} {
		start := ring0.Nanotime()
		ring0.Idle(start + nanos)
		if took := ring0.Nanotime() - start; took < nanos-nanos/50 {
			return fmt.Errorf("idled %d ns, want at least %d", took, nanos)
		}
	}
	return nil
}

// program maps a page with code at 0x400000 and a page to write at 0x500000 and returns a context that starts it.
func program(code string) (*ring0.Context, *mem.Space, error) {
	s, ok := mem.NewSpace()
	text, data := mem.Alloc(abi.OwnApp), mem.Alloc(abi.OwnApp)
	if !ok || text == 0 || data == 0 || !s.Map(0x400000, text, mem.Exec) || !s.Map(0x500000, data, mem.Write) {
		return nil, nil, errors.New("no memory")
	}
	copy(text.Bytes(mem.PageSize), code)
	s.Activate()
	c := ring0.NewContext()
	c.RIP, c.RSP = 0x400000, 0x501000
	return c, &s, nil
}

// twoSpaces runs two programs in turn that use the same addresses.
func twoSpaces() error {
	var contexts [2]*ring0.Context
	var spaces [2]*mem.Space
	for i := range contexts {
		var err error
		// movabs $0x500000,%rbx; again: incq (%rbx); mov (%rbx),%rdi; syscall; jmp again
		if contexts[i], spaces[i], err = program("\x48\xbb\x00\x00\x50\x00\x00\x00\x00\x00\x48\xff\x03\x48\x8b\x3b\x0f\x05\xeb\xf6"); err != nil {
			return err
		}
	}
	for n := uint64(1); n <= 1000; n++ {
		for i := range contexts {
			if n%3 == uint64(i) {
				continue
			}
			spaces[i].Activate()
			want := contexts[i].RDI + 1
			if trap := ring0.Enter(contexts[i], 0); trap != ring0.TrapSyscall || contexts[i].RDI != want {
				return fmt.Errorf("program %d: trap %d, counted to %d, want %d", i, trap, contexts[i].RDI, want)
			}
		}
	}
	return nil
}

func ring3() error {
	// mov $5,%eax; syscall; jmp .
	c, _, err := program("\xb8\x05\x00\x00\x00\x0f\x05\xeb\xfe")
	if err != nil {
		return err
	}
	c.RBX, c.R15 = 0x1234, 0x5678
	if trap := ring0.Enter(c, 0); trap != ring0.TrapSyscall || c.RAX != 5 || c.RIP != 0x400007 || c.RBX != 0x1234 || c.R15 != 0x5678 {
		return fmt.Errorf("system call: trap %d, RAX %d, RIP %#x", trap, c.RAX, c.RIP)
	}
	start := ring0.Nanotime()
	if trap := ring0.Enter(c, start+10e6); trap != ring0.TrapTimeslice || c.RIP != 0x400007 {
		return fmt.Errorf("spinning: trap %d, RIP %#x", trap, c.RIP)
	}
	if took := ring0.Nanotime() - start; took < 9e6 {
		return fmt.Errorf("a slice of 10 ms took %d ns", took)
	}
	// Into the past: not entered at all, or left at once.
	if trap := ring0.Enter(c, ring0.Nanotime()); trap != ring0.TrapTimeslice {
		return fmt.Errorf("no time left: trap %d", trap)
	}
	return nil
}

// turns has goroutines and timers beside a program that spins: each gets its turn when the program's slice ends, as it does
// in package linux when there are any.
func turns() error {
	c, _, err := program("\xeb\xfe") // jmp .
	if err != nil {
		return err
	}
	const naps, slice = 5, 10e6
	done := make(chan struct{})
	go func() {
		for range naps {
			time.Sleep(5 * time.Millisecond)
		}
		close(done)
	}()
	start := ring0.Nanotime()
	for {
		if trap := ring0.Enter(c, ring0.Nanotime()+slice); trap != ring0.TrapTimeslice {
			return fmt.Errorf("trap %d", trap)
		}
		runtime.Gosched()
		took := ring0.Nanotime() - start
		select {
		case <-done:
			return nil
		default:
			if took > 100*naps*slice {
				return fmt.Errorf("%d naps of 5 ms are not over after %d ns", naps, took)
			}
		}
	}
}

// loops has goroutines that never make way by themselves: others and timers get their turn all the same.
func loops() error {
	ring0.Share(true)
	defer ring0.Share(false)
	const spinners = 3
	var stop atomic.Bool
	var ended sync.WaitGroup
	var turns [spinners]uint64
	for i := range spinners {
		ended.Go(func() {
			for !stop.Load() { // without a call: the load is an instruction
				turns[i]++
			}
		})
	}
	// One that enters ring 3 is preempted anywhere around that.
	c, _, err := program("\x48\xff\xc7\x0f\x05\xeb\xf9") // inc rdi; syscall; jmp to the start
	if err != nil {
		return err
	}
	entered := make(chan error, 1)
	ended.Go(func() {
		for n := uint64(1); !stop.Load(); n++ {
			trap := ring0.Enter(c, 0)
			for trap == ring0.TrapTimeslice {
				trap = ring0.Enter(c, 0)
			}
			if trap != ring0.TrapSyscall || c.RDI != n || c.RIP != 0x400005 {
				entered <- fmt.Errorf("trap %d at %#x in round %d: RDI is %d", trap, c.RIP, n, c.RDI)
				return
			}
		}
		entered <- nil
	})
	start := ring0.Nanotime()
	fired := make(chan struct{})
	time.AfterFunc(5*time.Millisecond, func() { close(fired) })
	for range 5 {
		time.Sleep(5 * time.Millisecond)
	}
	runtime.GC() // which has to stop them all
	<-fired
	stop.Store(true)
	ended.Wait()
	if err := <-entered; err != nil {
		return err
	}
	for i, n := range turns {
		if n == 0 {
			return fmt.Errorf("goroutine %d of %d had no turn", i, spinners)
		}
	}
	if took := ring0.Nanotime() - start; took > 2e9 {
		return fmt.Errorf("5 naps of 5 ms and a collection beside %d goroutines took %d ns", spinners, took)
	}
	return nil
}

// storm has an interrupt as a device's come all the time: timers and other goroutines get their turn beside it, ring 3 gets on, and
// an interrupt that comes while nobody waits is found by who waits next.
func storm() error {
	const command, toItself, edges = layout.DirectMap + 0xfee00300, 1 << 18, 50000
	interrupt := func() { cpu.Store32(command, toItself|ring0.VectorDevice) }
	_, before := ring0.Interrupts()
	ring0.Share(true)
	defer ring0.Share(false)
	naps := make(chan struct{})
	go func() {
		for range 3 {
			time.Sleep(5 * time.Millisecond)
		}
		close(naps)
	}()
	c, _, err := program("\x48\xff\xc7\x0f\x05\xeb\xf9") // inc rdi; syscall; jmp to the start
	if err != nil {
		return err
	}
	for n := uint64(1); n <= edges; {
		interrupt()
		if trap := ring0.Enter(c, 0); trap == ring0.TrapSyscall {
			if c.RDI != n {
				return fmt.Errorf("round %d of the program came as number %d", c.RDI, n)
			}
			n++
		} else if trap != ring0.TrapTimeslice {
			return fmt.Errorf("trap %d", trap)
		}
	}
	<-naps
	if _, after := ring0.Interrupts(); after-before < edges {
		return fmt.Errorf("%d of %d interrupts came", after-before, edges)
	}
	for range 100 {
		interrupt()
		if !ring0.Await() { // for ever, if it was lost
			return errors.New("an interrupt was lost")
		}
	}
	return nil
}

// floatingPoint checks that a program's state and the kernel's do not mix.
func floatingPoint() error {
	// movl $0x3f80,(%rsp) [round down]; ldmxcsr (%rsp); fld1; movq %rbx,%xmm7; syscall; movq %xmm7,%rbx; stmxcsr (%rsp);
	// mov (%rsp),%ecx is lost to SYSCALL, so %r12d; syscall
	c, _, err := program("\x48\x83\xec\x08\xc7\x04\x24\x80\x3f\x00\x00\x0f\xae\x14\x24\xd9\xe8\x66\x48\x0f\x6e\xfb\x0f\x05" +
		"\x66\x48\x0f\x7e\xfb\x0f\xae\x1c\x24\x44\x8b\x24\x24\x0f\x05")
	if err != nil {
		return err
	}
	c.RBX = 0x1122334455667788
	if trap := ring0.Enter(c, 0); trap != ring0.TrapSyscall {
		return fmt.Errorf("trap %d at RIP %#x", trap, c.RIP)
	}
	// Another thread has the state of a new one: stmxcsr, fnstcw and fnstsw to %r12, %r13, %r14; movq %xmm7,%rbx; movq %xmm15,%r15.
	space := mem.Frame(cpu.ReadCR3())
	other, _, err := program("\x48\x83\xec\x08\x0f\xae\x1c\x24\x44\x8b\x24\x24\xd9\x3c\x24\x44\x0f\xb7\x2c\x24\xdd\x3c\x24\x44\x0f\xb7\x34\x24\x66\x48\x0f\x7e\xfb\x66\x4d\x0f\x7e\xff\x0f\x05")
	if err != nil {
		return err
	}
	if trap := ring0.Enter(other, 0); trap != ring0.TrapSyscall || other.R12 != 0x1f80 || other.R13 != 0x37f || other.R14 != 0 || other.RBX != 0 || other.R15 != 0 {
		return fmt.Errorf("another thread: trap %d, MXCSR %#x, x87 control %#x, status %#x, XMM7 %#x, XMM15 %#x", trap, other.R12, other.R13, other.R14, other.RBX, other.R15)
	}
	cpu.WriteCR3(uint64(space))
	c.RBX = 0
	three := 3.0
	if got := math.Float64bits(1 / three); got != 0x3fd5555555555555 {
		return fmt.Errorf("the kernel rounds as the program does: 1/3 is %#x", got)
	}
	if two := math.Float64bits(2 / three); two != 0x3fe5555555555555 {
		return fmt.Errorf("the kernel rounds as the program does: 2/3 is %#x", two)
	}
	if trap := ring0.Enter(c, 0); trap != ring0.TrapSyscall || c.RBX != 0x1122334455667788 || uint32(c.R12) != 0x3f80 {
		return fmt.Errorf("trap %d, XMM7 %#x, MXCSR %#x", trap, c.RBX, c.R12)
	}
	if err := floatExceptions(); err != nil {
		return err
	}
	return avx()
}

func interruptTable() uint64

// floatExceptions has ring 3 raise the exceptions of the x87 and of SSE, which the emulator never raises, by instructions that it may not
// execute but now.
func floatExceptions() error {
	for _, vector := range []uint64{16, 19} {
		gate := (*uint64)(mem.Pointer(interruptTable() + 16*vector))
		const fromRing3 = 3 << 45
		*gate |= fromRing3
		c, _, err := program("\xcd" + string(rune(vector))) // int $vector
		if err != nil {
			return err
		}
		trap := ring0.Enter(c, 0)
		*gate &^= fromRing3
		if trap != int(vector) || c.RIP != 0x400002 {
			return fmt.Errorf("exception %d: trap %d at %#x", vector, trap, c.RIP)
		}
	}
	return nil
}
