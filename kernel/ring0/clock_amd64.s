#include "textflag.h"
#include "go_asm.h"

// runtimeClock is clock_gettime as the Go runtime calls the vDSO's: in C's way, DI = clock, SI = struct timespec. BX, BP and
// R12 to R15 stay. It reads what Nanotime reads.
TEXT ·runtimeClock(SB), NOSPLIT|NOFRAME, $0
again:
	MOVL  ·clock+clockState_seq(SB), R8
	TESTL $1, R8
	JNE   again
	RDTSC
	SHLQ  $32, DX
	ORQ   DX, AX
	SUBQ  ·clock+clockState_tsc(SB), AX
	MULQ  ·clock+clockState_mult(SB)
	SHRQ  $32, DX, AX
	ADDQ  ·clock+clockState_nanos(SB), AX
	CMPL  R8, ·clock+clockState_seq(SB)
	JNE   again
	TESTL DI, DI // CLOCK_REALTIME
	JNE   split
	ADDQ  ·wallBase(SB), AX

split:
	MOVL $1000000000, CX
	XORL DX, DX
	DIVQ CX
	MOVQ AX, 0(SI)
	MOVQ DX, 8(SI)
	XORL AX, AX
	RET

// func setRuntimeClock()
// The runtime has no way to be told of a vDSO but an ELF image in memory, which it would search in every boot. What it keeps
// of that is this variable; a release without it does not link.
TEXT ·setRuntimeClock(SB), NOSPLIT|NOFRAME, $0
	LEAQ ·runtimeClock(SB), AX
	MOVQ AX, runtime·vdsoClockgettimeSym(SB)
	RET
