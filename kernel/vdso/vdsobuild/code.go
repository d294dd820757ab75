package vdsobuild

import (
	"encoding/binary"
	"fmt"

	"github.com/firstlight-boot/firstlight/kernel/vdso"
)

// assembler holds code, the places that it names, and what refers to them.
type assembler struct {
	code   []byte
	base   int // offset of the code in the image
	labels map[string]int
	jumps  map[int]string // place of a signed byte: its target
}

func (a *assembler) emit(b ...byte) { a.code = append(a.code, b...) }

func (a *assembler) label(name string) { a.labels[name] = len(a.code) }

// jump emits a short jump: opcode, and the distance, which is filled in at the end.
func (a *assembler) jump(opcode byte, to string) {
	a.emit(opcode, 0)
	a.jumps[len(a.code)-1] = to
}

// data emits an instruction with the data page's field at an offset as its RIP-relative operand, which ends it but for
// imm bytes.
func (a *assembler) data(field int, imm int, opcode ...byte) {
	a.emit(opcode...)
	next := a.base + len(a.code) + 4 + imm
	a.code = binary.LittleEndian.AppendUint32(a.code, uint32(field-vdso.PageSize-next))
}

func (a *assembler) link() error {
	for at, name := range a.jumps {
		to, ok := a.labels[name]
		if d := to - at - 1; ok && d == int(int8(d)) {
			a.code[at] = byte(d)
			continue
		}
		return fmt.Errorf("vdso: %s is out of reach", name)
	}
	return nil
}

// Short jumps.
const (
	jmp = 0xeb
	jz  = 0x74
	jnz = 0x75
	ja  = 0x77
)

// systemCall emits the call of the kernel with the arguments as they are.
func (a *assembler) systemCall(nr uint32) {
	a.emit(0xb8) // mov eax, nr
	a.code = binary.LittleEndian.AppendUint32(a.code, nr)
	a.emit(0x0f, 0x05) // syscall
	a.emit(0xc3)       // ret
}

// readClock emits: RAX = the monotonic clock in ns, and, if wall, the wall clock. It goes to slow when the page is not to be
// used, and changes RCX, RDX and R8.
func (a *assembler) readClock(name string, wall func()) {
	a.label(name + ".again")
	a.data(vdso.DataSeq, 0, 0x44, 0x8b, 0x05)   // mov r8d, [seq]
	a.emit(0x41, 0xf6, 0xc0, 0x01)              // test r8b, 1
	a.jump(jnz, name+".slow")                   //
	a.data(vdso.DataFine, 1, 0x83, 0x3d)        // cmp dword [fine], 0
	a.emit(0)                                   //
	a.jump(jz, name+".slow")                    //
	a.emit(0x0f, 0xae, 0xe8)                    // lfence
	a.emit(0x0f, 0x31)                          // rdtsc
	a.emit(0x48, 0xc1, 0xe2, 0x20)              // shl rdx, 32
	a.emit(0x48, 0x09, 0xd0)                    // or rax, rdx
	a.data(vdso.DataTSC, 0, 0x48, 0x2b, 0x05)   // sub rax, [tsc]
	a.data(vdso.DataMult, 0, 0x48, 0xf7, 0x25)  // mul qword [mult]
	a.emit(0x48, 0x0f, 0xac, 0xd0, 0x20)        // shrd rax, rdx, 32
	a.data(vdso.DataNanos, 0, 0x48, 0x03, 0x05) // add rax, [nanos]
	wall()                                      //
	a.data(vdso.DataSeq, 0, 0x44, 0x3b, 0x05)   // cmp r8d, [seq]
	a.jump(jnz, name+".again")                  //
	a.emit(0x31, 0xd2)                          // xor edx, edx
	a.emit(0xb9, 0x00, 0xca, 0x9a, 0x3b)        // mov ecx, 1000000000
	a.emit(0x48, 0xf7, 0xf1)                    // div rcx: RAX = seconds, RDX = nanoseconds
}

func (a *assembler) addWall() { a.data(vdso.DataWall, 0, 0x48, 0x03, 0x05) } // add rax, [wall]

// Clocks that the page knows (include/uapi/linux/time.h), as bits of a mask.
const (
	wallClocks = 1<<0 | 1<<5 | 1<<11                    // REALTIME, REALTIME_COARSE, TAI
	allClocks  = wallClocks | 1<<1 | 1<<4 | 1<<6 | 1<<7 // MONOTONIC, MONOTONIC_RAW, MONOTONIC_COARSE, BOOTTIME
)

func (a *assembler) imm32(v uint32) { a.code = binary.LittleEndian.AppendUint32(a.code, v) }

// functions emits all that the image exports, in the calling convention of C.
func (a *assembler) functions() []function {
	var fs []function
	begin := func(name string) { fs = append(fs, function{name: name, start: len(a.code)}) }
	end := func() {
		f := &fs[len(fs)-1]
		f.size = len(a.code) - f.start
		for len(a.code)%16 != 0 {
			a.emit(0xcc)
		}
	}

	begin("__vdso_clock_gettime") // EDI = clock, RSI = timespec
	a.emit(0x83, 0xff, 11)        // cmp edi, 11
	a.jump(ja, "clock.slow")
	a.emit(0xb8)
	a.imm32(1)         // mov eax, 1
	a.emit(0x89, 0xf9) // mov ecx, edi
	a.emit(0xd3, 0xe0) // shl eax, cl
	a.emit(0xa9)
	a.imm32(allClocks) // test eax, allClocks
	a.jump(jz, "clock.slow")
	a.emit(0x41, 0x89, 0xc1) // mov r9d, eax
	a.readClock("clock", func() {
		a.emit(0x41, 0xf7, 0xc1)
		a.imm32(wallClocks) // test r9d, wallClocks
		a.jump(jz, "clock.monotonic")
		a.addWall()
		a.label("clock.monotonic")
	})
	a.emit(0x48, 0x89, 0x06)       // mov [rsi], rax
	a.emit(0x48, 0x89, 0x56, 0x08) // mov [rsi+8], rdx
	a.emit(0x31, 0xc0)             // xor eax, eax
	a.emit(0xc3)                   // ret
	a.label("clock.slow")
	a.systemCall(228)
	end()

	begin("__vdso_gettimeofday") // RDI = timeval, RSI = timezone, either may be 0
	a.emit(0x48, 0x85, 0xff)     // test rdi, rdi
	a.jump(jz, "day.slow")
	a.emit(0x48, 0x85, 0xf6) // test rsi, rsi
	a.jump(jnz, "day.slow")
	a.readClock("day", a.addWall)
	a.emit(0x48, 0x89, 0x07) // mov [rdi], rax
	a.emit(0x89, 0xd0)       // mov eax, edx
	a.emit(0x31, 0xd2)       // xor edx, edx
	a.emit(0xb9)
	a.imm32(1000)                  // mov ecx, 1000
	a.emit(0xf7, 0xf1)             // div ecx
	a.emit(0x48, 0x89, 0x47, 0x08) // mov [rdi+8], rax
	a.emit(0x31, 0xc0)             // xor eax, eax
	a.emit(0xc3)                   // ret
	a.label("day.slow")
	a.systemCall(96)
	end()

	begin("__vdso_time") // RDI = time_t, or 0
	a.readClock("time", a.addWall)
	a.emit(0x48, 0x85, 0xff) // test rdi, rdi
	a.jump(jz, "time.done")
	a.emit(0x48, 0x89, 0x07) // mov [rdi], rax
	a.label("time.done")
	a.emit(0xc3) // ret
	a.label("time.slow")
	a.systemCall(201)
	end()

	begin("__vdso_getcpu")                   // RDI, RSI = unsigned int, or 0
	a.emit(0x31, 0xc9)                       // xor ecx, ecx
	a.data(vdso.DataCPUs, 0, 0x44, 0x8b, 05) // mov r8d, [cpus]
	a.emit(0x45, 0x85, 0xc0)                 // test r8d, r8d
	a.jump(jz, "cpu.known")
	a.emit(0x41, 0x83, 0xf8, vdso.CPUTells) // cmp r8d, CPUTells
	a.jump(jnz, "cpu.slow")
	a.emit(0x0f, 0x01, 0xf9) // rdtscp: ECX = the processor
	a.label("cpu.known")
	a.emit(0x31, 0xc0)       // xor eax, eax
	a.emit(0x48, 0x85, 0xff) // test rdi, rdi
	a.jump(jz, "cpu.node")
	a.emit(0x89, 0x0f) // mov [rdi], ecx
	a.label("cpu.node")
	a.emit(0x48, 0x85, 0xf6) // test rsi, rsi
	a.jump(jz, "cpu.done")
	a.emit(0x89, 0x06) // mov [rsi], eax
	a.label("cpu.done")
	a.emit(0xc3) // ret
	a.label("cpu.slow")
	a.systemCall(309)
	end()
	return fs
}
