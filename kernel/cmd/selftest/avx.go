package main

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/kernel/cpu"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
)

func setUpper(v uint64)
func upper() (v0, v7, v14 uint64)
func clearUpper()

// spin fills the YMM registers with RBX, calls the kernel and looks for ever whether they still have it:
// movq %rbx,%xmm0; vinsertf128 $1,%xmm0,%ymm0,%ymm0; vmovaps %ymm0,%ymm1 to 15; syscall; again: vmovaps %ymm0,%ymm1;
// vextractf128 $1,%ymm0,%xmm2; movq %xmm2,%r12; vextractf128 $1,%ymm15,%xmm2; movq %xmm2,%r13; cmp %r12,%rbx; jne bad;
// cmp %r13,%rbx; je again; bad: ud2
const spin = "\x66\x48\x0f\x6e\xc3\xc4\xe3\x7d\x18\xc0\x01\xc5\xfc\x28\xc8\xc5\xfc\x28\xd0\xc5\xfc\x28\xd8\xc5\xfc\x28\xe0\xc5\xfc\x28\xe8\xc5\xfc\x28\xf0" +
	"\xc5\xfc\x28\xf8\xc5\x7c\x28\xc0\xc5\x7c\x28\xc8\xc5\x7c\x28\xd0\xc5\x7c\x28\xd8\xc5\x7c\x28\xe0\xc5\x7c\x28\xe8\xc5\x7c\x28\xf0\xc5\x7c\x28\xf8\x0f\x05" +
	"\xc5\xfc\x28\xc8\xc4\xe3\x7d\x19\xc2\x01\x66\x49\x0f\x7e\xd4\xc4\x63\x7d\x19\xfa\x01\x66\x49\x0f\x7e\xd5\x4c\x39\xe3\x75\x05\x4c\x39\xeb\x74\xdc\x0f\x0b"

// avx checks the upper halves of the YMM registers: the kernel's Go leaves them alone, and each program has its own, without anything of
// another's or the kernel's.
func avx() error {
	const hasXSAVE, hasAVX = 1 << 26, 1 << 28
	_, _, features, _ := cpu.CPUID(1, 0)
	if has := features&hasXSAVE != 0 && features&hasAVX != 0; has != ring0.HasAVX() {
		return fmt.Errorf("the CPU has AVX: %v, programs have it: %v", has, ring0.HasAVX())
	}
	// xor %ecx,%ecx; xor %edx,%edx; mov $7,%eax; xsetbv; hlt
	c, _, err := program("\x31\xc9\x31\xd2\xb8\x07\x00\x00\x00\x0f\x01\xd1\xf4")
	if err != nil {
		return err
	}
	if trap := ring0.Enter(c, 0); trap == ring0.TrapSyscall || c.RIP != 0x400009 {
		return fmt.Errorf("XSETBV: trap %d at %#x", trap, c.RIP)
	}
	if !ring0.HasAVX() {
		// vxorps %ymm0,%ymm0,%ymm0; syscall
		c, _, err = program("\xc5\xfc\x57\xc0\x0f\x05")
		if err != nil {
			return err
		}
		if trap := ring0.Enter(c, 0); trap != 6 {
			return fmt.Errorf("AVX on a CPU without it: trap %d", trap)
		}
		return nil
	}
	if err := goWithoutAVX(); err != nil {
		return err
	}

	var contexts [2]*ring0.Context
	values := [2]uint64{0x1111222233334444, 0x8888777766665555}
	c, space, err := program(spin)
	if err != nil {
		return err
	}
	for i := range contexts {
		contexts[i] = ring0.NewContext()
		contexts[i].RIP, contexts[i].RBX = c.RIP, values[i]
		if trap := ring0.Enter(contexts[i], 0); trap != ring0.TrapSyscall || contexts[i].XState != ring0.StateAVX {
			return fmt.Errorf("trap %d, state %d", trap, contexts[i].XState)
		}
		for n := range 16 {
			if got := contexts[i].YMM[16*n : 16*n+8]; le64(got) != values[i] {
				return fmt.Errorf("YMM%d is %x, want %x", n, le64(got), values[i])
			}
		}
	}
	if v0, v7, v14 := upper(); v0|v7|v14 != 0 {
		return fmt.Errorf("a program's upper halves, %x, %x and %x, are left in the CPU", v0, v7, v14)
	}
	// Interrupts that end a turn, and those that do not.
	for range 10 {
		for i, c := range contexts {
			if trap := ring0.Enter(c, ring0.Nanotime()+2e6); trap != ring0.TrapTimeslice {
				return fmt.Errorf("program %d: trap %d, upper halves %x and %x, want %x", i, trap, c.R12, c.R13, values[i])
			}
		}
	}
	// vextractf128 $1,%ymm0,%xmm1; movq %xmm1,%r12; vextractf128 $1,%ymm15,%xmm1; movq %xmm1,%r13; vzeroall; syscall;
	// vextractf128 $1,%ymm0,%xmm1; movq %xmm1,%r12; syscall
	fresh, _, err := program("\xc4\xe3\x7d\x19\xc1\x01\x66\x49\x0f\x7e\xcc\xc4\x63\x7d\x19\xf9\x01\x66\x49\x0f\x7e\xcd\xc5\xfc\x77\x0f\x05" +
		"\xc4\xe3\x7d\x19\xc1\x01\x66\x49\x0f\x7e\xcc\x0f\x05")
	if err != nil {
		return err
	}
	setUpper(0x5ec4e7)
	clearUpper() // as the kernel always has them
	if trap := ring0.Enter(fresh, 0); trap != ring0.TrapSyscall || fresh.R12 != 0 || fresh.R13 != 0 {
		return fmt.Errorf("a new program: trap %d, upper halves %x and %x", trap, fresh.R12, fresh.R13)
	}
	fresh.XState = 0 // as a CPU leaves it that tells what is in use
	for i := range fresh.YMM {
		fresh.YMM[i] = 0xee
	}
	if trap := ring0.Enter(fresh, 0); trap != ring0.TrapSyscall || fresh.R12 != 0 {
		return fmt.Errorf("upper halves that are zero: trap %d, %x", trap, fresh.R12)
	}
	space.Activate()
	return nil
}

// movesTo checks that the upper halves go with a context to CPU n and back.
func movesTo(n int) error {
	if !ring0.HasAVX() {
		return nil
	}
	c, _, err := program(spin)
	if err != nil {
		return err
	}
	c.RBX = 0x1234567887654321
	for i := range 4 {
		if i%2 == 0 {
			ring0.Give(n, c)
			if i != 0 {
				time.Sleep(time.Millisecond)
				ring0.Kick(n)
			}
			if trap := returned(n); (i == 0) != (trap == ring0.TrapSyscall) || i != 0 && trap != ring0.TrapTimeslice || c.XState != ring0.StateAVX {
				return fmt.Errorf("upper halves: trap %d, %x and %x", trap, c.R12, c.R13)
			}
		} else if trap := ring0.Enter(c, ring0.Nanotime()+1e6); trap != ring0.TrapTimeslice {
			return fmt.Errorf("upper halves on the first CPU: trap %d, %x and %x", trap, c.R12, c.R13)
		}
	}
	return nil
}

func le64(b []byte) (v uint64) {
	for i := range 8 {
		v |= uint64(b[i]) << (8 * i)
	}
	return v
}

// goWithoutAVX checks that what uses AVX in other Go programs does not in the kernel.
func goWithoutAVX() error {
	const mark = 0x123456789abcdef
	setUpper(mark)
	defer clearUpper()
	from, to := make([]byte, 64<<10), make([]byte, 64<<10)
	from[60000] = 1
	found := 0
	for n := 1; n <= len(from); n *= 2 {
		copy(to[:n], from)
		copy(to[1:n], to) // overlapping
		found += bytes.IndexByte(from[:n], 1) + bytes.Count(from[:n], []byte{0}) + bytes.Compare(from[:n], to[:n])
		found += bytes.Index(from[:n], []byte("0123456789abcdef0123456789abcdef"))
		clear(to[:n])
	}
	found += strings.Index(strings.Repeat("ab", 3000), "ba0")
	runtime.GC()
	ch := make(chan int)
	go func() { ch <- found }()
	<-ch
	if v0, v7, v14 := upper(); v0 != mark || v7 != mark || v14 != mark {
		return errors.New("the kernel's Go uses AVX: its threads have none of it saved")
	}
	return nil
}
