#include "textflag.h"

// 0: not asked yet, 1: SSE 4.2, 2: none.
GLOBL ·sse42(SB), NOPTR, $1

// func updateSSE42(crc uint32, p []byte) (sum uint32, ok bool)
TEXT ·updateSSE42(SB), NOSPLIT, $0-37
	MOVBLZX ·sse42(SB), AX
	CMPL    AX, $1
	JNE     ask

go:
	MOVL crc+0(FP), AX
	MOVQ p_base+8(FP), SI
	MOVQ p_len+16(FP), CX
	SUBQ $64, CX
	JLT  words

by64:
	CRC32Q (SI), AX
	CRC32Q 8(SI), AX
	CRC32Q 16(SI), AX
	CRC32Q 24(SI), AX
	CRC32Q 32(SI), AX
	CRC32Q 40(SI), AX
	CRC32Q 48(SI), AX
	CRC32Q 56(SI), AX
	ADDQ   $64, SI
	SUBQ   $64, CX
	JGE    by64

words:
	ADDQ $56, CX
	JLT  bytes

by8:
	CRC32Q (SI), AX
	ADDQ   $8, SI
	SUBQ   $8, CX
	JGE    by8

bytes:
	ADDQ $8, CX
	JEQ  done

by1:
	CRC32B (SI), AX
	INCQ   SI
	DECQ   CX
	JNE    by1

done:
	MOVL AX, sum+32(FP)
	MOVB $1, ok+36(FP)
	RET

ask:
	CMPL AX, $2
	JEQ  none
	MOVL $1, AX
	XORL CX, CX
	CPUID
	MOVB $1, ·sse42(SB)
	BTL  $20, CX
	JCS  go
	MOVB $2, ·sse42(SB)

none:
	MOVB $0, ok+36(FP)
	RET
