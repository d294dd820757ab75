#include "textflag.h"

// func overflowTrap()
// It has a frame: a trace misses the caller of a function without one.
TEXT ·overflowTrap(SB), NOSPLIT, $8-0
	INT $4
	RET

// func taskRegister() uint64
TEXT ·taskRegister(SB), NOSPLIT, $0-8
	XORL AX, AX
	BYTE $0x66; BYTE $0x0f; BYTE $0x00; BYTE $0xc8 // STR AX
	MOVQ AX, ret+0(FP)
	RET

// func interruptTable() uint64
TEXT ·interruptTable(SB), NOSPLIT, $16-8
	BYTE $0x0f; BYTE $0x01; BYTE $0x0c; BYTE $0x24 // SIDT (SP)
	MOVQ 2(SP), AX
	MOVQ AX, ret+0(FP)
	RET
