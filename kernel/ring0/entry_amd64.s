#include "textflag.h"
#include "go_asm.h"
#include "state_amd64.h"

// thread and Context agree in their first two fields, so one piece of code saves either. kernel.go checks that.
#define frameSize const_frameSize
#define fxOff     thread_fx
#define vectorOff frame_Vector
#define ripOff    frame_RIP

#define FSBASE 0xc0000100
#define GSBASE 0xc0000101

// The frame's registers above the vector. RSP is below them.
#define PUSHREGS \
	PUSHQ DI; PUSHQ SI; PUSHQ DX; PUSHQ CX; PUSHQ AX; PUSHQ R8; PUSHQ R9; PUSHQ R10; PUSHQ R11; \
	PUSHQ BX; PUSHQ BP; PUSHQ R12; PUSHQ R13; PUSHQ R14; PUSHQ R15

#define POPREGS \
	POPQ R15; POPQ R14; POPQ R13; POPQ R12; POPQ BP; POPQ BX; POPQ R11; POPQ R10; POPQ R9; POPQ R8; \
	POPQ AX; POPQ CX; POPQ DX; POPQ SI; POPQ DI

// Writes the value in AX to an MSR. Clobbers AX, CX, DX.
#define WRITEMSR(msr) \
	MOVL $msr, CX; MOVQ AX, DX; SHRQ $32, DX; WRMSR

// Clears all flags. A trap leaves AC as the program had it, which would suspend SMAP, and DF.
#define CLEANFLAGS \
	PUSHQ $2; POPFQ

// Calls the Go function whose func value is in the variable fn, with RDI as its argument, in kernel context.
#define KERNELCALL(fn) \
	LEAQ ·kernelStack+const_kernelStackSize(SB), SP; \
	KERNELCALLHERE(fn)

// The same on the stack that there is.
#define KERNELCALLHERE(fn) \
	LEAQ ·fakeTLS+8(SB), AX; \
	WRITEMSR(FSBASE); \
	LEAQ ·fakeG(SB), R14; \
	XORL BP, BP; \
	XORPS X15, X15; \
	CLEANFLAGS; \
	MOVQ DI, AX; \
	MOVQ fn(SB), DX; \
	CALL (DX)

// entry is the kernel's 64-bit entry: the trampoline of package layout jumps here. RBX = hvm_start_info, RDI:RSI = TSC.
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	SHLQ $32, DI
	ORQ  SI, DI
	MOVQ DI, ·entryTSC(SB)
	MOVQ BX, ·startInfo(SB)
	LEAQ ·fakeG(SB), AX
	MOVQ AX, ·fakeTLS(SB)
	XORL DI, DI
	KERNELCALL(·startFn)
	JMP  resume<>(SB)

// func entryPoints() (runtimeEntry, syscallEntry, idle, runtimeEnd uint64, traps *[21]uint64)
TEXT ·entryPoints(SB), NOSPLIT, $0-40
	LEAQ _rt0_amd64_linux(SB), AX
	MOVQ AX, runtimeEntry+0(FP)
	LEAQ ·syscallEntry(SB), AX
	MOVQ AX, syscallEntry+8(FP)
	LEAQ idle<>(SB), AX
	MOVQ AX, idle+16(FP)
	LEAQ runtime·end(SB), AX
	MOVQ AX, runtimeEnd+24(FP)
	LEAQ traps<>(SB), AX
	MOVQ AX, traps+32(FP)
	RET

// func kernelCR2() uint64
TEXT ·kernelCR2(SB), NOSPLIT, $0-8
	MOVQ CR2, AX
	MOVQ AX, ret+0(FP)
	RET

// syscallEntry is where SYSCALL leads from either ring. RCX = return address, R11 = flags, interrupts off, stack unchanged.
TEXT ·syscallEntry(SB), NOSPLIT|NOFRAME, $0
	MOVQ SP, ·scratch(SB)
	MOVQ ·top(SB), SP
	CMPB ·inUser(SB), $0
	JNE  user
	PUSHQ $0x10
	PUSHQ ·scratch(SB)
	PUSHQ R11
	PUSHQ $0x08
	PUSHQ CX
	SUBQ $8, SP
	PUSHQ $256
	PUSHREGS
	MOVL $0, thread_fxValid(SP)
	MOVQ SP, DI
	KERNELCALL(·syscallFn)
	JMP  resume<>(SB)

user:
	PUSHQ $0x23
	PUSHQ ·scratch(SB)
	PUSHQ R11
	PUSHQ $0x2b
	PUSHQ CX
	SUBQ $8, SP
	PUSHQ $256
	PUSHREGS
	MOVL $256, BX
	JMP  leave<>(SB)

// leave ends enter: RSP = Context, BX = what enter returns.
TEXT leave<>(SB), NOSPLIT|NOFRAME, $0
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	ADDQ AX, Context_Ticks(SP)
	SAVESTATE
	MOVB $0, ·inUser(SB)
	MOVQ ·cur(SB), SI
	LEAQ frameSize(SI), AX
	MOVQ AX, ·top(SB)
	MOVQ AX, ·taskState+36(SB)
	MOVQ thread_fs(SI), AX
	WRITEMSR(FSBASE)
	MOVQ thread_ksp(SI), SP
	LDMXCSR ·mxcsr(SB)
	CLEANFLAGS
	MOVQ BX, 16(SP) // enter's frame: return address, argument, result
	STI
	RET

// func enter(c *Context) int
TEXT ·enter(SB), NOSPLIT|NOFRAME, $0-16
	MOVQ c+0(FP), DI
	MOVQ $257, ret+8(FP)
	// A trap of ring 3 writes to the Context, where nothing serves a page fault: it is mapped now.
	MOVQ (DI), AX
	CLI
	CMPB ·sliceExpired(SB), $0
	JEQ  go
	MOVB $0, ·sliceExpired(SB)
	STI
	RET

go:
	MOVQ ·cur(SB), SI
	MOVQ SP, thread_ksp(SI)
	LEAQ frameSize(DI), AX
	MOVQ AX, ·top(SB)
	MOVQ AX, ·taskState+36(SB)
	MOVB $1, ·inUser(SB)
	// The base is the one that was written last, unless another thread loaded the segment register since.
	MOVQ Context_GSBase(DI), AX
	CMPQ DI, ·userWas(SB)
	JNE  otherGS
	CMPQ AX, ·userGS(SB)
	JEQ  sameGS

otherGS:
	MOVQ DI, ·userWas(SB)
	MOVQ AX, ·userGS(SB)
	WRITEMSR(GSBASE)

sameGS:
	MOVQ Context_FSBase(DI), AX
	WRITEMSR(FSBASE)
	LOADSTATE
	MOVQ DI, SP
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	SUBQ AX, Context_Ticks(SP)

	// SYSRET loads RIP from RCX and the flags from R11, which is right only after a system call, and faults in ring 0 when
	// RIP is not canonical.
	CMPQ vectorOff(SP), $256
	JNE  iret
	MOVQ ripOff(SP), CX
	MOVQ CX, AX
	SHRQ $47, AX
	JNE  iret
	POPREGS
	MOVQ 16(SP), CX
	MOVQ 32(SP), R11
	MOVQ 40(SP), SP
	BYTE $0x48; SYSRET // with REX.W: to 64-bit mode

iret:
	POPREGS
	ADDQ $16, SP
	IRETQ

// resume continues the thread in AX.
TEXT resume<>(SB), NOSPLIT|NOFRAME, $0
	MOVQ AX, SI
	MOVQ AX, ·cur(SB)
	LEAQ frameSize(AX), AX
	MOVQ AX, ·top(SB)
	MOVQ AX, ·taskState+36(SB)
	MOVQ thread_fs(SI), AX
	WRITEMSR(FSBASE)
	CMPL thread_fxValid(SI), $0
	JEQ  nofx
	FXRSTOR64 fxOff(SI)

nofx:
	MOVQ SI, SP
	POPREGS
	ADDQ $16, SP
	IRETQ

// idle is the thread that runs when no other can.
TEXT idle<>(SB), NOSPLIT|NOFRAME, $0
again:
	STI
	HLT
	JMP again

// Traps. The CPU has pushed SS to RIP, and for some vectors an error code, below the frame's top.
TEXT trap0<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $0
	JMP trap<>(SB)

TEXT trap1<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $1
	JMP trap<>(SB)

TEXT trap2<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $2
	JMP trap<>(SB)

TEXT trap3<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $3
	JMP trap<>(SB)

TEXT trap4<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $4
	JMP trap<>(SB)

TEXT trap5<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $5
	JMP trap<>(SB)

TEXT trap6<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $6
	JMP trap<>(SB)

TEXT trap7<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $7
	JMP trap<>(SB)

// A double fault is one whose place to push to is no good: it has another, the end of the second stack.
TEXT trap8<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $8
	PUSHREGS
	MOVQ SP, DI
	KERNELCALLHERE(·faultFn)
	INT $3 // not reached

TEXT trap10<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $10
	JMP trap<>(SB)

TEXT trap11<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $11
	JMP trap<>(SB)

TEXT trap12<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $12
	JMP trap<>(SB)

TEXT trap13<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $13
	JMP trap<>(SB)

TEXT trap14<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $14
	JMP trap<>(SB)

TEXT trap16<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $16
	JMP trap<>(SB)

TEXT trap17<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $17
	JMP trap<>(SB)

TEXT trap18<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $18
	JMP trap<>(SB)

TEXT trap19<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $19
	JMP trap<>(SB)

TEXT trap32<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $32
	JMP trap<>(SB)

TEXT trap33<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $33
	JMP trap<>(SB)

TEXT trap39<>(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $39
	JMP trap<>(SB)


// backTrap is vector 35, of a Context that another CPU has handed back.
TEXT ·backTrap(SB), NOSPLIT|NOFRAME, $0
	PUSHQ $0
	PUSHQ $35
	JMP trap<>(SB)

DATA traps<>+0(SB)/8, $trap0<>(SB)
DATA traps<>+8(SB)/8, $trap1<>(SB)
DATA traps<>+16(SB)/8, $trap2<>(SB)
DATA traps<>+24(SB)/8, $trap3<>(SB)
DATA traps<>+32(SB)/8, $trap4<>(SB)
DATA traps<>+40(SB)/8, $trap5<>(SB)
DATA traps<>+48(SB)/8, $trap6<>(SB)
DATA traps<>+56(SB)/8, $trap7<>(SB)
DATA traps<>+64(SB)/8, $trap8<>(SB)
DATA traps<>+72(SB)/8, $trap10<>(SB)
DATA traps<>+80(SB)/8, $trap11<>(SB)
DATA traps<>+88(SB)/8, $trap12<>(SB)
DATA traps<>+96(SB)/8, $trap13<>(SB)
DATA traps<>+104(SB)/8, $trap14<>(SB)
DATA traps<>+112(SB)/8, $trap16<>(SB)
DATA traps<>+120(SB)/8, $trap17<>(SB)
DATA traps<>+128(SB)/8, $trap18<>(SB)
DATA traps<>+136(SB)/8, $trap19<>(SB)
DATA traps<>+144(SB)/8, $trap32<>(SB)
DATA traps<>+152(SB)/8, $trap33<>(SB)
DATA traps<>+160(SB)/8, $trap39<>(SB)
GLOBL traps<>(SB), RODATA|NOPTR, $168

// A trap leaves SS empty where SYSCALL and IRETQ load it. That is the same to the processor, but QEMU would translate what runs
// after both twice, one for each.
TEXT trap<>(SB), NOSPLIT|NOFRAME, $0
	PUSHREGS
	MOVL $0x10, AX
	MOVW AX, SS
	TESTB $3, frame_CS(SP)
	JNE  user
	CMPB ·inUser(SB), $0 // between ring 3 and enter's return: an interrupt is served, or a register does not load
	JNE  kernel
	LEAQ ·kernelStack(SB), AX
	MOVQ frame_RSP(SP), CX
	SUBQ AX, CX
	CMPQ CX, $const_kernelStacks
	JLS  kernel
	MOVL $1, thread_fxValid(SP)
	FXSAVE64 fxOff(SP)
	MOVQ SP, DI
	KERNELCALL(·trapFn)
	JMP  resume<>(SB)

kernel: // of which there will be a trace: its stack stays as it is
	MOVQ SP, DI
	LEAQ ·kernelStack+const_kernelStacks(SB), SP
	KERNELCALLHERE(·faultFn)
	INT $3 // not reached

user:
	MOVQ vectorOff(SP), BX
	CMPQ BX, $32
	JCC  interrupt
	MOVQ CR2, AX
	MOVQ AX, Context_CR2(SP)
	JMP  leave<>(SB)

interrupt:
	FXSAVE64 fxOff(SP)
	MOVQ SP, ·scratch(SB)
	MOVQ SP, DI
	KERNELCALL(·userInterruptFn)
	MOVQ ·scratch(SB), SP
	TESTB AX, AX // a bool: the rest of the register is undefined
	JEQ  back
	MOVB $0, ·sliceExpired(SB)
	MOVL $257, BX
	FXRSTOR64 fxOff(SP)
	JMP  leave<>(SB)

back:
	MOVQ Context_FSBase(SP), AX
	WRITEMSR(FSBASE)
	FXRSTOR64 fxOff(SP)
	POPREGS
	ADDQ $16, SP
	IRETQ

// func mark(b byte)
// The OUTB is the instruction that the boot record's note names: it writes every byte of a mark, and a counting host counts up to it.
TEXT ·mark(SB), NOSPLIT|NOFRAME, $0-1
	MOVB b+0(FP), AX
	MOVW $0x3f0, DX
	JMP  ·markPort(SB)

TEXT ·markPort(SB), NOSPLIT|NOFRAME, $0
	OUTB
	RET

// func syscall(nr, a, b uint64) uint64
TEXT ·syscall(SB), NOSPLIT, $0-32
	MOVQ nr+0(FP), AX
	MOVQ a+8(FP), DI
	MOVQ b+16(FP), SI
	SYSCALL
	MOVQ AX, ret+24(FP)
	RET
