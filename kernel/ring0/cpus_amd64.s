#include "textflag.h"
#include "go_asm.h"
#include "state_amd64.h"

// What the CPUs besides the first execute: see kernelcpus.go. GS is the base of their cpuBlock, outside ring 3.

#define frameSize const_frameSize
#define fxOff     thread_fx
#define vectorOff frame_Vector

#define PUSHREGS \
	PUSHQ DI; PUSHQ SI; PUSHQ DX; PUSHQ CX; PUSHQ AX; PUSHQ R8; PUSHQ R9; PUSHQ R10; PUSHQ R11; \
	PUSHQ BX; PUSHQ BP; PUSHQ R12; PUSHQ R13; PUSHQ R14; PUSHQ R15

#define POPREGS \
	POPQ R15; POPQ R14; POPQ R13; POPQ R12; POPQ BP; POPQ BX; POPQ R11; POPQ R10; POPQ R9; POPQ R8; \
	POPQ AX; POPQ CX; POPQ DX; POPQ SI; POPQ DI

// Writes the value in AX to an MSR. Clobbers AX, CX, DX.
#define WRITEMSR(msr) \
	MOVL $msr, CX; MOVQ AX, DX; SHRQ $32, DX; WRMSR

#define EFER         0xc0000080
#define STAR         0xc0000081
#define LSTAR        0xc0000082
#define FMASK        0xc0000084
#define FSBASE       0xc0000100
#define GSBASE       0xc0000101
#define KERNELGSBASE 0xc0000102
#define TSCAUX       0xc0000103

// func cpuPoints() (entry, syscall, back uint64, traps *[20]uint64)
TEXT ·cpuPoints(SB), NOSPLIT, $0-32
	LEAQ ·backTrap(SB), AX
	MOVQ AX, back+16(FP)
	LEAQ cpuEntry<>(SB), AX
	MOVQ AX, entry+0(FP)
	LEAQ cpuSyscall<>(SB), AX
	MOVQ AX, syscall+8(FP)
	LEAQ cpuTraps<>(SB), AX
	MOVQ AX, traps+24(FP)
	RET

// cpuEntry is where the 16-bit code leads: 64-bit mode, the kernel's own page table, interrupts off, no stack.
TEXT cpuEntry<>(SB), NOSPLIT|NOFRAME, $0
	MOVL $1, AX
	LOCK
	XADDL AX, ·cpusArrived(SB)
	CMPL AX, ·cpusWanted(SB)
	JCC  surplus
	LEAQ ·cpuBlocks(SB), BX
	MOVQ (BX)(AX*8), BX
	MOVL $0x10, AX
	MOVW AX, SS
	LEAQ const_cpuBlockSize(BX), SP
	MOVQ cpuBlock_gdtr(BX), AX
	LGDT (AX)
	MOVQ cpuBlock_idtr(BX), AX
	LIDT (AX)
	MOVL $0x30, AX
	LTR  AX
	XORL AX, AX
	BYTE $0x0f; BYTE $0x00; BYTE $0xd0 // LLDT AX
	MOVW AX, DS
	MOVW AX, ES
	MOVW AX, FS
	MOVW AX, GS
	MOVQ BX, AX
	WRITEMSR(GSBASE)
	MOVQ cpuBlock_star(BX), AX
	WRITEMSR(STAR)
	MOVQ cpuBlock_lstar(BX), AX
	WRITEMSR(LSTAR)
	MOVQ cpuBlock_fmask(BX), AX
	WRITEMSR(FMASK)
	CMPB ·avx(SB), $const_avxNone
	JEQ  noAVX
	XORL CX, CX
	XORL DX, DX
	MOVL $const_states, AX
	XSETBV

noAVX:
	CMPL cpuBlock_hasAux(BX), $0
	JEQ  noAux
	MOVL cpuBlock_number(BX), AX
	WRITEMSR(TSCAUX)

noAux:
	MOVQ cpuBlock_apic(BX), CX
	MOVL cpuBlock_apicOn(BX), AX
	MOVL AX, 0xf0(CX)
	MOVL 0x20(CX), AX
	SHRL $24, AX
	MOVL AX, cpuBlock_id(BX)
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, cpuBlock_tsc(BX)
	MOVQ cpuBlock_bit(BX), AX
	LOCK
	ORQ  AX, ·cpusReady(SB)
	MOVQ $-1, BX
	JMP  cpuNext<>(SB)

surplus:
	CLI
	HLT
	JMP surplus

// cpuNext hands the Context that RSP is the address of back, with BX as what ended its run, unless that is negative: there is
// none. Then it waits for the next. Interrupts are off, and what interrupts HLT begins the wait anew.
TEXT cpuNext<>(SB), NOSPLIT|NOFRAME, $0
	TESTQ BX, BX
	JLT  wait

leave:
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	ADDQ AX, Context_Ticks(SP)
	SAVESTATE
	MOVQ BX, cpuBlock_trap(GS)
	MOVQ cpuBlock_self(GS), SP
	ADDQ $const_cpuBlockSize, SP
	MOVQ SP, (cpuBlock_task+36)(GS)
	PUSHQ $2 // a trap leaves AC as the program had it, which would suspend SMAP, and DF
	POPFQ
	MOVQ $0, cpuBlock_ctx(GS)
	MOVL $0, cpuBlock_running(GS)
	MOVQ cpuBlock_bit(GS), AX
	LOCK
	ORQ  AX, ·cpusDone(SB)
	MOVQ cpuBlock_apic(GS), CX
	MOVL ·firstAPIC(SB), AX
	MOVL AX, 0x310(CX)
	MOVL $(0x4000+const_vectorDone), AX
	MOVL AX, 0x300(CX)

wait:
	CMPQ cpuBlock_ctx(GS), $0
	JNE  found
	STI
	HLT
	INT $3 // what interrupts it does not return

found:
	// From here on whoever takes a mapping away waits for an answer. What was taken away before is forgotten now.
	MOVL $1, AX
	XCHGL AX, cpuBlock_running(GS)
	MOVQ ·flushes(SB), AX
	MOVQ cpuBlock_cr3(GS), DX
	CMPQ AX, cpuBlock_seen(GS)
	JNE  flush
	CMPQ DX, cpuBlock_active(GS)
	JEQ  same

flush:
	MOVQ DX, CR3
	MOVQ DX, cpuBlock_active(GS)
	MOVQ AX, cpuBlock_seen(GS)

same:
	MOVQ cpuBlock_ctx(GS), DI
	LEAQ frameSize(DI), AX
	MOVQ AX, cpuBlock_top(GS)
	MOVQ AX, (cpuBlock_task+36)(GS)
	MOVQ Context_GSBase(DI), AX
	WRITEMSR(KERNELGSBASE)
	MOVQ Context_FSBase(DI), AX
	WRITEMSR(FSBASE)
	LOADSTATE
	MOVQ DI, SP
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	SUBQ AX, Context_Ticks(SP)
	MOVL $257, BX
	CMPL cpuBlock_kick(GS), $0 // its interrupt may have been the one that ended HLT
	JEQ  enter
	JMP  leave

enter:
	SWAPGS
	POPREGS
	ADDQ $16, SP
	IRETQ

TEXT cpuSyscall<>(SB), NOSPLIT|NOFRAME, $0
	SWAPGS
	MOVQ SP, cpuBlock_scratch(GS)
	MOVQ cpuBlock_top(GS), SP
	PUSHQ $0x23
	PUSHQ cpuBlock_scratch(GS)
	PUSHQ R11
	PUSHQ $0x2b
	PUSHQ CX
	SUBQ $8, SP
	PUSHQ $256
	PUSHREGS
	MOVL $256, BX
	JMP  cpuNext<>(SB)

#define NOCODE(name, n) TEXT name<>(SB), NOSPLIT|NOFRAME, $0; PUSHQ $0; PUSHQ $n; JMP cpuTrap<>(SB)
#define CODE(name, n) TEXT name<>(SB), NOSPLIT|NOFRAME, $0; PUSHQ $n; JMP cpuTrap<>(SB)

NOCODE(cpuTrap0, 0)
NOCODE(cpuTrap1, 1)
NOCODE(cpuTrap2, 2)
NOCODE(cpuTrap3, 3)
NOCODE(cpuTrap4, 4)
NOCODE(cpuTrap5, 5)
NOCODE(cpuTrap6, 6)
NOCODE(cpuTrap7, 7)
CODE(cpuTrap8, 8)
CODE(cpuTrap10, 10)
CODE(cpuTrap11, 11)
CODE(cpuTrap12, 12)
CODE(cpuTrap13, 13)
CODE(cpuTrap14, 14)
NOCODE(cpuTrap16, 16)
CODE(cpuTrap17, 17)
NOCODE(cpuTrap18, 18)
NOCODE(cpuTrap19, 19)
NOCODE(cpuTrap34, 34)
NOCODE(cpuTrap39, 39)

DATA cpuTraps<>+0(SB)/8, $cpuTrap0<>(SB)
DATA cpuTraps<>+8(SB)/8, $cpuTrap1<>(SB)
DATA cpuTraps<>+16(SB)/8, $cpuTrap2<>(SB)
DATA cpuTraps<>+24(SB)/8, $cpuTrap3<>(SB)
DATA cpuTraps<>+32(SB)/8, $cpuTrap4<>(SB)
DATA cpuTraps<>+40(SB)/8, $cpuTrap5<>(SB)
DATA cpuTraps<>+48(SB)/8, $cpuTrap6<>(SB)
DATA cpuTraps<>+56(SB)/8, $cpuTrap7<>(SB)
DATA cpuTraps<>+64(SB)/8, $cpuTrap8<>(SB)
DATA cpuTraps<>+72(SB)/8, $cpuTrap10<>(SB)
DATA cpuTraps<>+80(SB)/8, $cpuTrap11<>(SB)
DATA cpuTraps<>+88(SB)/8, $cpuTrap12<>(SB)
DATA cpuTraps<>+96(SB)/8, $cpuTrap13<>(SB)
DATA cpuTraps<>+104(SB)/8, $cpuTrap14<>(SB)
DATA cpuTraps<>+112(SB)/8, $cpuTrap16<>(SB)
DATA cpuTraps<>+120(SB)/8, $cpuTrap17<>(SB)
DATA cpuTraps<>+128(SB)/8, $cpuTrap18<>(SB)
DATA cpuTraps<>+136(SB)/8, $cpuTrap19<>(SB)
DATA cpuTraps<>+144(SB)/8, $cpuTrap34<>(SB)
DATA cpuTraps<>+152(SB)/8, $cpuTrap39<>(SB)
GLOBL cpuTraps<>(SB), RODATA|NOPTR, $160

// cpuTrap: the CPU has pushed SS to RIP below the end of the Context's frame or, in ring 0, of the block.
TEXT cpuTrap<>(SB), NOSPLIT|NOFRAME, $0
	PUSHREGS
	TESTB $3, frame_CS(SP)
	JEQ  kernel
	SWAPGS
	MOVQ vectorOff(SP), BX
	CMPQ BX, $34
	JCC  interrupt
	MOVQ CR2, AX
	MOVQ AX, Context_CR2(SP)
	JMP  cpuNext<>(SB)

interrupt:
	JNE  back // spurious
	MOVQ cpuBlock_apic(GS), CX
	MOVL $0, 0xb0(CX)
	MOVQ ·flushes(SB), AX
	CMPQ AX, cpuBlock_seen(GS)
	JEQ  noFlush
	MOVQ cpuBlock_active(GS), DX
	MOVQ DX, CR3
	MOVQ AX, cpuBlock_seen(GS)

noFlush:
	MOVL $257, BX
	CMPL cpuBlock_kick(GS), $0
	JEQ  back
	JMP  cpuNext<>(SB)

back:
	SWAPGS
	POPREGS
	ADDQ $16, SP
	IRETQ

kernel:
	MOVQ vectorOff(SP), BX
	CMPQ BX, $39
	JEQ  wait
	CMPQ BX, $34
	JNE  fault
	MOVQ cpuBlock_apic(GS), CX
	MOVL $0, 0xb0(CX)

wait: // only HLT is interrupted
	MOVQ cpuBlock_self(GS), SP
	ADDQ $const_cpuBlockSize, SP
	MOVQ $-1, BX
	JMP  cpuNext<>(SB)

fault: // cannot be: the first CPU says so and ends the machine
	MOVQ SP, cpuBlock_scratch(GS)
	ADDQ $const_cpuFault, BX
	MOVQ BX, cpuBlock_trap(GS)
	MOVL $0, cpuBlock_running(GS)
	MOVQ cpuBlock_bit(GS), AX
	LOCK
	ORQ  AX, ·cpusDone(SB)
	MOVQ cpuBlock_apic(GS), CX
	MOVL ·firstAPIC(SB), AX
	MOVL AX, 0x310(CX)
	MOVL $(0x4000+const_vectorDone), AX
	MOVL AX, 0x300(CX)
	CLI

halt:
	HLT
	JMP halt
