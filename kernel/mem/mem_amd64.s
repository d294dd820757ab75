#include "textflag.h"

// func call(nr, arg uint64) uint64
TEXT ·call(SB), NOSPLIT, $0-24
	MOVQ nr+0(FP), AX
	MOVQ arg+8(FP), DI
	SYSCALL
	MOVQ AX, ret+16(FP)
	RET
