#include "textflag.h"

// func decodeAsm(dst, src []byte) int
//
// SI, R8   next byte and end of src
// DI, R9   next byte and end of dst; R10 its start
// R11      the fast loop runs while SI is not above: it reads up to 38 bytes from there
// R12      and while DI is not above: it writes less than 100 bytes from there
// AX       token, length of the match
// CX       length of the literals; end of the match that is to be copied in steps of 16
// DX, BX   offset, start of the match; room after the literals in dst, src
// R13      end of the match
// R15      how many more sequences can at least follow before SI and DI have to be looked at again: a short one takes and makes
//          at most 32 bytes, and a longer one pays for each 32 more
//
// All copies go upwards in steps of 16 bytes and may write past their end where there is room.
TEXT ·decodeAsm(SB), NOSPLIT, $0-56
	MOVQ dst_base+0(FP), DI
	MOVQ dst_len+8(FP), R9
	MOVQ src_base+24(FP), SI
	MOVQ src_len+32(FP), R8
	MOVQ DI, R10
	ADDQ DI, R9
	ADDQ SI, R8
	LEAQ -40(R8), R11
	LEAQ -100(R9), R12

	XORL R15, R15

loop:
	SUBQ $1, R15
	JLT  look

sequence:
	MOVBLZX (SI), AX
	MOVL    AX, CX
	SHRL    $4, CX
	CMPL    CX, $15
	JEQ     longLiterals

short:
	MOVUPS  1(SI), X0
	MOVUPS  X0, (DI)
	ADDQ    CX, DI
	MOVWLZX 1(SI)(CX*1), DX
	LEAQ    3(SI)(CX*1), SI

offset: // DI is followed by 66 bytes
	MOVQ    DI, BX
	SUBQ    DX, BX
	CMPQ    BX, R10
	JCS     bad
	ANDL    $15, AX
	CMPL    AX, $15
	JEQ     longish
	CMPL    DX, $16
	JCS     near
	MOVUPS  (BX), X0
	MOVUPS  X0, (DI)
	MOVWLZX 16(BX), CX
	MOVW    CX, 16(DI)
	LEAQ    4(DI)(AX*1), DI

	// As at loop.
	SUBQ    $1, R15
	JLT     look
	MOVBLZX (SI), AX
	MOVL    AX, CX
	SHRL    $4, CX
	CMPL    CX, $15
	JNE     short
	JMP     longLiterals

longish: // Most long matches are of up to 48 bytes, for which there is room.
	CMPL    DX, $16
	JCS     longMatch
	CMPQ    SI, R8
	JCC     bad
	MOVBLZX (SI), CX
	CMPL    CX, $29
	JHI     longMatch
	INCQ    SI
	MOVUPS  (BX), X0
	MOVUPS  X0, (DI)
	MOVUPS  16(BX), X0
	MOVUPS  X0, 16(DI)
	MOVUPS  32(BX), X0
	MOVUPS  X0, 32(DI)
	LEAQ    19(DI)(CX*1), DI
	SUBQ    $2, R15
	JMP     loop

look:
	MOVQ R11, R15
	SUBQ SI, R15
	JLT  slow
	MOVQ R12, BX
	SUBQ DI, BX
	JLT  slow
	CMPQ R15, BX
	JLS  least
	MOVQ BX, R15

least:
	SHRQ $5, R15
	JMP  sequence

near: // Eight bytes at a time can be copied if no fewer repeat.
	CMPL    DX, $8
	JCS     nearest
	MOVQ    (BX), CX
	MOVQ    CX, (DI)
	MOVQ    8(BX), CX
	MOVQ    CX, 8(DI)
	MOVWLZX 16(BX), CX
	MOVW    CX, 16(DI)
	LEAQ    4(DI)(AX*1), DI
	JMP     loop

nearest:
	LEAQ 4(DI)(AX*1), R13
	MOVQ R13, CX

periodic: // Less than 16 bytes repeat: BX stays, so that each copy doubles what can be copied at once.
	TESTL DX, DX
	JEQ   bad

double:
	MOVUPS (BX), X0
	MOVUPS X0, (DI)
	ADDQ   DX, DI
	ADDL   DX, DX
	CMPL   DX, $16
	JCS    double
	CMPQ   DI, CX
	JCC    copied

far: // What the first step writes the second may read.
	MOVUPS (BX), X0
	MOVUPS X0, (DI)
	MOVUPS 16(BX), X0
	MOVUPS X0, 16(DI)
	ADDQ   $32, BX
	ADDQ   $32, DI
	CMPQ   DI, CX
	JCS    far

copied:
	CMPQ DI, R13
	JCS  bytes
	MOVQ R13, DI
	JMP  loop

longMatch:
	CMPQ    SI, R8
	JCC     bad
	MOVBLZX (SI), CX
	INCQ    SI
	ADDQ    CX, AX
	CMPL    CX, $255
	JEQ     longMatch

checkMatch: // AX + 4 bytes from BX to DI
	ADDQ $4, AX
	XORL R15, R15
	MOVQ R9, CX
	SUBQ DI, CX
	CMPQ AX, CX
	JHI  bad
	LEAQ (DI)(AX*1), R13
	LEAQ 48(R13), CX
	CMPQ CX, R9
	MOVQ R13, CX
	JLS  steps
	CMPQ AX, $112          // too near to the end of dst for steps, at least the last 64 bytes
	JCS  zeroOffset
	SUBQ $64, CX

steps:
	CMPL DX, $16
	JCS  periodic
	JMP  far

zeroOffset:
	TESTL DX, DX
	JEQ   bad

bytes:
	MOVBLZX (BX), CX
	MOVB    CX, (DI)
	INCQ    BX
	INCQ    DI
	CMPQ    DI, R13
	JCS     bytes
	JMP     loop

slow:
	CMPQ    SI, R8
	JCC     bad
	MOVBLZX (SI), AX
	INCQ    SI
	MOVL    AX, CX
	SHRL    $4, CX
	CMPL    CX, $15
	JNE     checkLiterals
	JMP     extend

longLiterals: // Most are up to 32, for which there is room.
	MOVBLZX 1(SI), CX
	CMPL    CX, $17
	JHI     manyLiterals
	MOVUPS  2(SI), X0
	MOVUPS  X0, (DI)
	MOVUPS  18(SI), X0
	MOVUPS  X0, 16(DI)
	SUBQ    $1, R15
	LEAQ    15(DI)(CX*1), DI
	MOVWLZX 17(SI)(CX*1), DX
	LEAQ    19(SI)(CX*1), SI
	JMP     offset

manyLiterals:
	MOVL $15, CX
	INCQ SI

extend:
	CMPQ    SI, R8
	JCC     bad
	MOVBLZX (SI), BX
	INCQ    SI
	ADDQ    BX, CX
	CMPL    BX, $255
	JEQ     extend

checkLiterals: // CX bytes from SI to DI
	XORL R15, R15
	MOVQ R8, BX
	SUBQ SI, BX
	SUBQ CX, BX
	JCS  bad
	MOVQ R9, DX
	SUBQ DI, DX
	SUBQ CX, DX
	JCS  bad
	CMPQ BX, $16
	JCS  exact
	CMPQ DX, $16
	JCS  exact
	LEAQ (DI)(CX*1), R13

literals:
	MOVUPS (SI), X0
	MOVUPS X0, (DI)
	ADDQ   $16, SI
	ADDQ   $16, DI
	CMPQ   DI, R13
	JCS    literals
	SUBQ   R13, DI
	SUBQ   DI, SI
	MOVQ   R13, DI
	JMP    afterLiterals

exact: // REP MOVSB, which an emulator takes a byte at a time, only for the rest
	CMPQ   CX, $16
	JCS    rest
	MOVUPS (SI), X0
	MOVUPS X0, (DI)
	ADDQ   $16, SI
	ADDQ   $16, DI
	SUBQ   $16, CX
	JMP    exact

rest:
	REP
	MOVSB
	TESTQ BX, BX
	JEQ   done
	CMPQ  BX, $2
	JCS   bad

afterLiterals:
	MOVWLZX (SI), DX
	ADDQ    $2, SI
	LEAQ    34(R12), BX
	CMPQ    DI, BX
	JLS     offset
	MOVQ    DI, BX
	SUBQ    DX, BX
	CMPQ    BX, R10
	JCS     bad
	ANDL    $15, AX
	CMPL    AX, $15
	JEQ     longMatch
	JMP     checkMatch

done:
	TESTL $15, AX
	JNE   bad
	SUBQ R10, DI
	MOVQ DI, ret+48(FP)
	RET

bad: // DI is behind what was made
	SUBQ R10, DI
	NOTQ DI
	MOVQ DI, ret+48(FP)
	RET
