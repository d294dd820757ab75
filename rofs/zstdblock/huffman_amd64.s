#include "textflag.h"

// func decodeFour(t *[2048]uint16, dst *byte, stride, rounds int, r *[4]bitReader)
//
// BX           table
// DI, SI, DX   place in the first stream's part of dst; its distance to the second part, to the fourth
// R8…R11       next bits of each stream, then a 1 that marks how many are read, then zeros
// R12…R15      where these were loaded from
//
// A round reads 55 bits at most, after up to 7 that a load does not save: the mark's place, bit 0 of what was loaded, is not data
// that is used.
#define LOAD(bits, from) \
	BSFQ bits, CX   \
	MOVL CX, AX     \
	SHRL $3, AX     \
	SUBQ AX, from   \
	ANDL $7, CX     \
	MOVQ (from), bits \
	ORQ  $1, bits   \
	SHLQ CX, bits

#define SYMBOL(bits, to) \
	MOVQ    bits, AX     \
	SHRQ    $53, AX      \
	MOVWLZX (BX)(AX*2), CX \
	SHLQ    CX, bits     \
	MOVB    CH, to

#define SYMBOLS(n) \
	SYMBOL(R8, n(DI))         \
	SYMBOL(R9, n(DI)(SI*1))   \
	SYMBOL(R10, n(DI)(SI*2))  \
	SYMBOL(R11, n(DI)(DX*1))

#define OPEN(n, bits, from) \
	MOVQ (48*n+0)(AX), from  \
	ADDQ (48*n+32)(AX), from \
	MOVQ (48*n+40)(AX), CX   \
	MOVL $1, bits            \
	SHLQ CX, bits

#define CLOSE(n, bits, from) \
	BSFQ bits, CX            \
	SUBQ (48*n+0)(AX), from  \
	MOVQ from, (48*n+32)(AX) \
	MOVQ CX, (48*n+40)(AX)

TEXT ·decodeFour(SB), NOSPLIT, $8-40
	MOVQ rounds+24(FP), AX
	MOVQ AX, left-8(SP)
	MOVQ t+0(FP), BX
	MOVQ dst+8(FP), DI
	MOVQ stride+16(FP), SI
	LEAQ (SI)(SI*2), DX
	MOVQ r+32(FP), AX
	OPEN(0, R8, R12)
	OPEN(1, R9, R13)
	OPEN(2, R10, R14)
	OPEN(3, R11, R15)

loop:
	LOAD(R8, R12)
	LOAD(R9, R13)
	LOAD(R10, R14)
	LOAD(R11, R15)
	SYMBOLS(0)
	SYMBOLS(1)
	SYMBOLS(2)
	SYMBOLS(3)
	SYMBOLS(4)
	ADDQ $5, DI
	DECQ left-8(SP)
	JNE  loop

	MOVQ r+32(FP), AX
	CLOSE(0, R8, R12)
	CLOSE(1, R9, R13)
	CLOSE(2, R10, R14)
	CLOSE(3, R11, R15)
	RET
