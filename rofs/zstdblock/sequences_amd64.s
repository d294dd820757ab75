#include "textflag.h"

// func runSequences(a *seqArgs) (decoded bool)
//
// R8            a
// BX            next bits of the stream, then a 1 that marks how many are read, then zeros
// R9            where these were loaded from
// R10, R11      next byte of dst, of the literals
// R12, R13, R14 entries of the literal length, the offset, the match length
// R15           last offset
// AX, SI, DX    literal length, match length, offset
//
// A sequence reads 56 bits at most, after up to 7 that a load does not save: the mark's place, bit 0 of what was loaded, is not
// data that is used.

// NEXT makes the next entry of a table out of entry.
#define NEXT(entry, table) \
	MOVL entry, AX      \
	MOVL entry, CX      \
	SHRL $16, AX        \
	XORL DX, DX         \
	SHLQ CX, BX, DX     \
	SHLQ CX, BX         \
	ADDL DX, AX         \
	MOVQ table(R8), DI  \
	MOVQ (DI)(AX*8), entry

TEXT ·runSequences(SB), NOSPLIT, $24-9
	MOVQ a+0(FP), R8
	MOVQ 0(R8), R9
	LEAQ 8(R9), AX
	MOVQ AX, first-8(SP)      // a load needs 8 bytes before it
	ADDQ 8(R8), R9
	MOVQ 16(R8), CX
	MOVL $1, BX
	SHLQ CX, BX
	MOVQ 24(R8), R12
	MOVQ 32(R8), R13
	MOVQ 40(R8), R14
	MOVQ 72(R8), R15
	MOVQ 96(R8), R10
	MOVQ 112(R8), AX
	ADDQ R10, AX
	MOVQ AX, end-16(SP)
	ADDQ 104(R8), R10
	MOVQ 120(R8), R11
	MOVQ 136(R8), AX
	ADDQ R11, AX
	MOVQ AX, litEnd-24(SP)
	ADDQ 128(R8), R11

loop:
	CMPQ R9, first-8(SP)
	JCS  whole
	BSFQ BX, CX
	MOVL CX, AX
	SHRL $3, AX
	SUBQ AX, R9
	ANDL $7, CX
	MOVQ (R9), BX
	ORQ  $1, BX
	SHLQ CX, BX

	MOVL R13, CX
	SHRL $8, CX
	MOVL $1, DX
	SHLQ CX, BX, DX           // 1 << bits | the bits
	SHLQ CX, BX
	MOVQ R12, AX
	MOVQ R14, SI
	MOVL R12, DI
	ORL  R14, DI
	SHRQ $32, AX
	SHRQ $32, SI
	TESTL $0xff00, DI
	JNE  more

lengths:
	CMPQ DX, $3
	JLS  repeat
	SUBQ $3, DX
	MOVQ 80(R8), CX
	MOVQ CX, 88(R8)
	MOVQ R15, 80(R8)
	MOVQ DX, R15

execute:
	LEAQ (R11)(AX*1), CX
	CMPQ CX, litEnd-24(SP)
	JHI  hard
	LEAQ (R10)(AX*1), DI
	LEAQ (DI)(SI*1), CX
	CMPQ CX, end-16(SP)
	JHI  hard
	CMPQ DX, $16
	JCS  hard
	CMPQ DX, 144(R8)
	JHI  hard
	MOVQ DI, CX
	SUBQ 96(R8), CX
	CMPQ DX, CX
	JHI  hard

	MOVUPS (R11), X0
	MOVUPS X0, (R10)
	CMPQ AX, $16
	JHI  literals

copied:
	ADDQ AX, R11
	MOVQ DI, R10
	MOVQ DI, CX
	SUBQ DX, CX
	MOVUPS (CX), X0
	MOVUPS X0, (R10)
	ADDQ SI, R10
	CMPQ SI, $16
	JHI  match

matched:
	NEXT(R12, 48)
	NEXT(R14, 64)
	NEXT(R13, 56)
	DECQ 152(R8)
	JNE  loop

whole: // the next sequence is not decoded yet
	MOVB $0, decoded+8(FP)
	BSFQ BX, CX
	JMP  save

hard: // it is, but not carried out
	MOVB $1, decoded+8(FP)
	MOVQ AX, 160(R8)
	MOVQ SI, 168(R8)
	MOVQ DX, 176(R8)
	BSFQ BX, CX

save:
	SUBQ 0(R8), R9
	MOVQ R9, 8(R8)
	MOVQ CX, 16(R8)
	MOVQ R12, 24(R8)
	MOVQ R13, 32(R8)
	MOVQ R14, 40(R8)
	MOVQ R15, 72(R8)
	SUBQ 96(R8), R10
	MOVQ R10, 104(R8)
	SUBQ 120(R8), R11
	MOVQ R11, 128(R8)
	RET

literals: // what is beyond 16, from 16 on
	MOVQ $16, CX

moreLiterals:
	MOVUPS (R11)(CX*1), X0
	MOVUPS X0, (R10)(CX*1)
	ADDQ $16, CX
	CMPQ CX, AX
	JCS  moreLiterals
	JMP  copied

match: // the same, from CX to DI
	ADDQ $16, CX
	ADDQ $16, DI
	MOVUPS (CX), X0
	MOVUPS X0, (DI)
	SUBQ $16, SI
	CMPQ SI, $16
	JHI  match
	JMP  matched

repeat: // 1 to 3: an offset that was used lately, or the next one where there are no literals
	TESTQ AX, AX
	JNE  which
	INCQ DX

which:
	CMPQ DX, $2
	JCS  last
	JEQ  second
	CMPQ DX, $4
	JEQ  less
	MOVQ 88(R8), DX

rotate:
	MOVQ 80(R8), CX
	MOVQ CX, 88(R8)
	MOVQ R15, 80(R8)
	MOVQ DX, R15
	JMP  execute

last:
	MOVQ R15, DX
	JMP  execute

second:
	MOVQ 80(R8), DX
	MOVQ R15, 80(R8)
	MOVQ DX, R15
	JMP  execute

less:
	LEAQ -1(R15), DX
	TESTQ DX, DX
	JNE  rotate
	JMP  hard

more: // bits of the match length, then of the literal length
	MOVL R12, DI
	SHRL $8, DI
	ANDL $0xff, DI
	MOVL R14, CX
	SHRL $8, CX
	ANDL $0xff, CX
	ADDL CX, DI
	MOVL R13, CX
	SHRL $8, CX
	ANDL $0xff, CX
	ADDL CX, DI
	CMPL DI, $30
	JHI  unread
	MOVL R14, CX
	SHRL $8, CX
	XORL DI, DI
	SHLQ CX, BX, DI
	SHLQ CX, BX
	ADDQ DI, SI
	MOVL R12, CX
	SHRL $8, CX
	XORL DI, DI
	SHLQ CX, BX, DI
	SHLQ CX, BX
	ADDQ DI, AX
	JMP  lengths

unread: // too many for one load: the offset's are given back
	MOVB $0, decoded+8(FP)
	BSFQ BX, DI
	SUBQ CX, DI
	MOVQ DI, CX
	JMP  save
