package main

import (
	"errors"
	"fmt"
	"runtime/debug"
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
)

// hostile is what a program must not do, and the fault that it ends in; cr2 is the address of a page fault.
var hostile = []struct {
	name, code string
	trap       int
	cr2        uint64
}{
	{"read of the kernel", "\x48\xc7\xc0\x00\x00\x20\x80\x48\x8b\x00", 14, 0xffffffff80200000}, // mov $-0x7fe00000,%rax; mov (%rax),%rax
	{"read of the direct map", "\x48\xb8\x00\x00\x10\x00\x00\x80\xff\xff\x48\x8b\x00", 14, 0xffff800000100000},
	{"write to text", "\xc6\x04\x25\x00\x00\x40\x00\x01", 14, 0x400000},              // movb $1,0x400000
	{"execution of data", "\xb8\x00\x00\x50\x00\xff\xe0", 14, 0x500000},              // mov $0x500000,%eax; jmp *%rax
	{"non-canonical", "\x48\xb8\x00\x00\x00\x00\x00\x00\x00\x80\x48\x8b\x00", 13, 0}, // mov $1<<63,%rax; mov (%rax),%rax
	{"privileged", "\xf4", 13, 0},         // hlt
	{"port", "\xe6\xf4", 13, 0},           // out %al,$0xf4
	{"undefined", "\x0f\x0b", 6, 0},       // ud2
	{"interrupt gate", "\xcd\x20", 13, 0}, // int $32
	{"jump to the kernel", "\x48\xb8\x00\x10\x20\x80\xff\xff\xff\xff\xff\xe0", 14, 0xffffffff80201000},
	{"clear interrupts", "\xfa", 13, 0},                                            // cli
	{"set interrupts", "\xfb", 13, 0},                                              // sti
	{"IOPL", "\x9c\x81\x0c\x24\x00\x30\x00\x00\x9d\xfa", 13, 0},                    // pushf; orl $0x3000,(%rsp); popf; cli
	{"port, 32 bits, IOPL", "\x9c\x81\x0c\x24\x00\x30\x00\x00\x9d\xe5\x60", 13, 0}, // pushf; orl $0x3000,(%rsp); popf; in $0x60,%eax
	{"write CR0", "\x0f\x22\xc0", 13, 0},                                           // mov %rax,%cr0
	{"read CR3", "\x0f\x20\xd8", 13, 0},                                            // mov %cr3,%rax
	{"write CR4", "\x0f\x22\xe0", 13, 0},                                           // mov %rax,%cr4
	{"write CR8", "\x44\x0f\x22\xc0", 13, 0},                                       // mov %rax,%cr8
	{"read DR7", "\x0f\x21\xf8", 13, 0},                                            // mov %dr7,%rax
	{"write DR0", "\x0f\x23\xc0", 13, 0},                                           // mov %rax,%dr0
	{"read an MSR", "\xb9\x80\x00\x00\xc0\x0f\x32", 13, 0},                         // mov $0xc0000080,%ecx; rdmsr
	{"write an MSR", "\xb9\x82\x00\x00\xc0\x0f\x30", 13, 0},                        // mov $0xc0000082,%ecx; wrmsr
	{"rdpmc", "\x31\xc9\x0f\x33", 13, 0},                                           // xor %ecx,%ecx; rdpmc
	{"swapgs", "\x0f\x01\xf8", 13, 0},                                              // swapgs
	{"invlpg", "\x0f\x01\x38", 13, 0},                                              // invlpg (%rax)
	{"clts", "\x0f\x06", 13, 0},                                                    // clts
	{"wbinvd", "\x0f\x09", 13, 0},                                                  // wbinvd
	{"lgdt", "\x0f\x01\x14\x24", 13, 0},                                            // lgdt (%rsp)
	{"lidt", "\x0f\x01\x1c\x24", 13, 0},                                            // lidt (%rsp)
	{"lldt", "\x0f\x00\xd0", 13, 0},                                                // lldt %ax
	{"ltr", "\x0f\x00\xd8", 13, 0},                                                 // ltr %ax
	{"lmsw", "\x0f\x01\xf0", 13, 0},                                                // lmsw %ax
	{"sysret", "\x48\x0f\x07", 13, 0},                                              // sysretq
	{"wrfsbase", "\xf3\x48\x0f\xae\xd0", 6, 0},                                     // wrfsbase %rax
	{"breakpoint", "\xcc", 3, 0},                                                   // int3
	{"int 0x80", "\xcd\x80", 13, 0},                                                // int $0x80
	{"int 1", "\xcd\x01", 13, 0},                                                   // int $1
	{"int 2", "\xcd\x02", 13, 0},                                                   // int $2
	{"int 8", "\xcd\x08", 13, 0},                                                   // int $8
	{"int 14", "\xcd\x0e", 13, 0},                                                  // int $14
	{"int 33", "\xcd\x21", 13, 0},                                                  // int $33
	{"int 255", "\xcd\xff", 13, 0},                                                 // int $255
	{"into", "\xce", 6, 0},                                                         // .byte 0xce
	{"single step", "\x9c\x81\x0c\x24\x00\x01\x00\x00\x9d\x90\xf4", 1, 0},          // pushf; orl $0x100,(%rsp); popf; nop; hlt
	{"iret to the kernel", "\x48\x89\xe3\x6a\x10\x53\x6a\x02\x6a\x08\x68\x00\x00\x40\x00\x48\xcf", 13, 0},                              // mov %rsp,%rbx; pushq $0x10; push %rbx; pushq $2; pushq $8; pushq $0x400000; iretq
	{"iret with NT", "\x9c\x81\x0c\x24\x00\x40\x00\x00\x9d\x48\xcf", 13, 0},                                                            // pushf; orl $0x4000,(%rsp); popf; iretq
	{"iret beyond", "\x48\x89\xe3\x6a\x23\x53\x68\x02\x02\x00\x00\x6a\x2b\x48\xb9\x00\x00\x00\x00\x00\x80\x00\x00\x51\x48\xcf", 13, 0}, // mov %rsp,%rbx; pushq $0x23; push %rbx; pushq $0x202; pushq $0x2b; mov $0x800000000000,%rcx; push %rcx; iretq
	{"far jump to 32-bit code", "\x6a\x00\xc7\x04\x24\x00\x00\x40\x00\x66\xc7\x44\x24\x04\x1b\x00\xff\x2c\x24", 13, 0},                 // pushq $0; movl $0x400000,(%rsp); movw $0x1b,4(%rsp); ljmp *(%rsp)
	{"far return to 32-bit code", "\x6a\x1b\x68\x00\x00\x40\x00\x48\xcb", 13, 0},                                                       // pushq $0x1b; pushq $0x400000; lretq
	{"far jump to kernel code", "\x6a\x00\xc7\x04\x24\x00\x00\x40\x00\x66\xc7\x44\x24\x04\x08\x00\xff\x2c\x24", 13, 0},                 // pushq $0; movl $0x400000,(%rsp); movw $0x08,4(%rsp); ljmp *(%rsp)
	{"far call through the task", "\x6a\x00\x66\xc7\x44\x24\x04\x33\x00\xff\x1c\x24", 13, 0},                                           // pushq $0; movw $0x33,4(%rsp); lcall *(%rsp)
	{"far call through the LDT", "\x6a\x00\x66\xc7\x44\x24\x04\x07\x00\xff\x1c\x24", 13, 0},                                            // pushq $0; movw $0x07,4(%rsp); lcall *(%rsp)
	{"kernel data segment", "\xb8\x10\x00\x00\x00\x8e\xd8", 13, 0},                                                                     // mov $0x10,%eax; mov %eax,%ds
	{"kernel stack segment", "\xb8\x10\x00\x00\x00\x8e\xd0", 13, 0},                                                                    // mov $0x10,%eax; mov %eax,%ss
	{"null stack segment", "\x31\xc0\x8e\xd0", 13, 0},                                                                                  // xor %eax,%eax; mov %eax,%ss
	{"stack beyond", "\x48\xbc\x00\x10\x00\x00\x00\x80\x00\x00\x50", 13, 0},                                                            // mov $0x800000001000,%rsp; push %rax: a stack fault, 12, on hardware
	{"write of the page tables", "\x48\xb8\x00\x40\x10\x00\x00\x80\xff\xff\xc6\x00\x01", 14, 0xffff800000104000},                       // mov $0xffff800000104000,%rax; movb $1,(%rax)
	{"write of the heap", "\x48\xb8\x00\x00\x00\x00\x00\xc0\xff\xff\xc6\x00\x01", 14, 0xffffc00000000000},                              // mov $0xffffc00000000000,%rax; movb $1,(%rax)
	{"read at the end of everything", "\x48\xc7\xc0\xff\xff\xff\xff\x8a\x00", 14, 0xffffffffffffffff},                                  // mov $-1,%rax; mov (%rax),%al
	{"the last page", "\x48\xb8\x00\xf0\xff\xff\xff\x7f\x00\x00\x8a\x00", 14, 0x7ffffffff000},                                          // mov $0x7ffffffff000,%rax; mov (%rax),%al
	{"jump beyond", "\x48\xb8\x00\x00\x00\x00\x00\x80\x00\x00\xff\xe0", 13, 0},                                                         // mov $0x800000000000,%rax; jmp *%rax
	{"undefined with all flags", "\x9c\x48\x81\x0c\x24\xd5\x0f\x24\x00\x9d\x0f\x0b", 6, 0},                                             // pushf; orq $0x240fd5,(%rsp); popf; ud2
}

func isolation() error {
	for _, p := range hostile {
		c, _, err := program(p.code)
		if err != nil {
			return err
		}
		trap := ring0.Enter(c, 0)
		if trap == 14 && p.trap == 13 && c.CR2>>12 == 0x500 {
			continue // QEMU before 9.1 has ring 3's far returns and jumps read memory as ring 0, which SMAP forbids
		}
		if trap != p.trap || p.trap == 14 && c.CR2 != p.cr2 {
			return fmt.Errorf("%s: trap %d at %#x, RIP %#x", p.name, trap, c.CR2, c.RIP)
		}
	}
	return nil
}

// leaf is a mapping in the live page tables, with what all levels of tables together allow.
type leaf struct {
	va, size, phys    uint64
	write, exec, user bool
}

// leaves calls f for each mapping.
func leaves(f func(leaf) error) error {
	const frame = 0x000ffffffffff000
	var walk func(table mem.Frame, shift uint, l leaf) error
	walk = func(table mem.Frame, shift uint, l leaf) error {
		entries := unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(table.Bytes(mem.PageSize)))), 512)
		for i, e := range entries {
			if e&layout.Present == 0 {
				continue
			}
			n := leaf{l.va | uint64(i)<<shift, 1 << shift, e & frame, l.write && e&layout.Writable != 0, l.exec && e&layout.NoExec == 0, l.user && e&layout.User != 0}
			if n.va>>47&1 != 0 {
				n.va |= 0xffff << 48
			}
			var err error
			if shift == 12 || e&layout.Large != 0 {
				err = f(n)
			} else {
				err = walk(mem.Frame(e&frame), shift-9, n)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	const frameMask = 0x000ffffffffff000
	return walk(mem.Frame(cpu.ReadCR3()&frameMask), 39, leaf{write: true, exec: true, user: true})
}

// pageTables walks the live page tables: no mapping is writable and executable, nor is any page by two mappings; the upper half is
// not ring 3's; nothing but the kernel's text and the program's is executable.
func pageTables() error {
	if _, _, err := program(""); err != nil { // a lower half with a page of each kind
		return err
	}
	pages := 0
	type span struct{ start, end uint64 }
	var code, written []span
	err := leaves(func(l leaf) error {
		pages++
		if l.write && l.exec {
			return fmt.Errorf("%#x is writable and executable", l.va)
		}
		if l.va < layout.UserEnd != l.user {
			return fmt.Errorf("%#x: ring 3 may access it: %v", l.va, l.user)
		}
		if l.exec && !l.user && (l.va < layout.KernelBase+layout.KernelPhys || l.va+l.size > layout.KernelBase+layout.TextEnd) {
			return fmt.Errorf("%#x is executable", l.va)
		}
		if l.exec {
			code = append(code, span{l.phys, l.phys + l.size})
		}
		if l.write && !l.user {
			written = append(written, span{l.phys, l.phys + l.size})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range code {
		if c.start < layout.KernelPhys || c.end > layout.TextEnd {
			continue // the program's, which the kernel fills
		}
		for _, w := range written {
			if w.start < c.end && c.start < w.end {
				return fmt.Errorf("physical page %#x is executable and, elsewhere, writable", c.start)
			}
		}
	}
	if pages < 500 || len(code) < 100 || len(written) < 100 {
		return fmt.Errorf("%d pages, %d of code, %d writable: is the walk right?", pages, len(code), len(written))
	}
	return nil
}

// supervisor checks that what the CPU has against the kernel's use of user memory is on, and stays on after a program that sets
// AC, which suspends it.
func supervisor() error {
	const cr4UMIP, cr4SMEP, cr4SMAP = 1 << 11, 1 << 20, 1 << 21
	_, b, c, _ := cpu.CPUID(7, 0)
	if maxLeaf, _, _, _ := cpu.CPUID(0, 0); maxLeaf < 7 {
		b, c = 0, 0
	}
	cr4 := cpu.ReadCR4()
	for _, f := range []struct {
		name string
		has  bool
		bit  uint64
	}{{"SMEP", b&(1<<7) != 0, cr4SMEP}, {"SMAP", b&(1<<20) != 0, cr4SMAP}, {"UMIP", c&(1<<2) != 0, cr4UMIP}} {
		if f.has != (cr4&f.bit != 0) {
			return fmt.Errorf("%s: the CPU has it: %v; CR4 is %#x", f.name, f.has, cr4)
		}
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	try := func(f func()) (faulted bool) {
		defer func() { faulted = recover() != nil }()
		f()
		return false
	}
	// pushf; orl $0x40000,(%rsp) [AC]; popf; ud2
	p, _, err := program("\x9c\x81\x0c\x24\x00\x00\x04\x00\x9d\x0f\x0b")
	if err != nil {
		return err
	}
	if trap := ring0.Enter(p, 0); trap != 6 || p.RFLAGS&(1<<18) == 0 {
		return fmt.Errorf("trap %d with flags %#x", trap, p.RFLAGS)
	}
	if faulted := try(func() { zero += int(*(*byte)(mem.Pointer(0x500000))) }); faulted != (cr4&cr4SMAP != 0) {
		return fmt.Errorf("SMAP %v, but a read of the program's memory faults: %v", cr4&cr4SMAP != 0, faulted)
	}
	if cr4&cr4SMEP != 0 {
		text := uint64(0x400000)
		at := &text
		f := *(*func())(unsafe.Pointer(&at))
		if !try(f) {
			return errors.New("SMEP is on, but the kernel executed the program's memory")
		}
	}
	// sgdt (%rsp); syscall: of no use to a program, but not to be hidden without UMIP.
	if p, _, err = program("\x48\x83\xec\x20\x0f\x01\x04\x24\x0f\x05"); err != nil {
		return err
	}
	want := ring0.TrapSyscall
	if cr4&cr4UMIP != 0 {
		want = 13
	}
	if trap := ring0.Enter(p, 0); trap != want {
		return fmt.Errorf("SGDT: trap %d, want %d", trap, want)
	}
	return nil
}

// segments checks that a program that loads a segment register changes the base of no other thread.
func segments() error {
	// xor %eax,%eax; mov %eax,%gs; mov %eax,%fs; syscall; then: mov %gs:0,%rbx; mov %fs:0,%r12; syscall
	p, _, err := program("\x31\xc0\x8e\xe8\x8e\xe0\x0f\x05\x65\x48\x8b\x1c\x25\x00\x00\x00\x00\x64\x4c\x8b\x24\x25\x00\x00\x00\x00\x0f\x05")
	if err != nil {
		return err
	}
	p.GSBase, p.FSBase = 0x500008, 0x500000
	if trap := ring0.Enter(p, 0); trap != ring0.TrapSyscall {
		return fmt.Errorf("trap %d", trap)
	}
	q := ring0.NewContext()
	q.RIP, q.RSP, q.GSBase, q.FSBase = p.RIP, 0x501000, 0x500008, 0x500000
	if trap := ring0.Enter(q, 0); trap != ring0.TrapSyscall {
		return fmt.Errorf("another thread: trap %d at %#x", trap, q.CR2)
	}
	return nil
}
