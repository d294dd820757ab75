#include "textflag.h"

// 0: not asked yet, 1: SSE 4.2, 2: none, 3: SSE 4.2 and PCLMULQDQ.
GLOBL ·sse42(SB), NOPTR, $1

// func updateSSE42(crc uint32, p []byte) (sum uint32, ok bool)
TEXT ·updateSSE42(SB), NOSPLIT, $0-37
	MOVBLZX ·sse42(SB), AX
	MOVL    AX, R8
	ANDL    $1, AX
	JEQ     ask

go:
	MOVL crc+0(FP), AX
	MOVQ p_base+8(FP), SI
	MOVQ p_len+16(FP), CX
	CMPL R8, $3
	JNE  whole

streams: // Three runs of 1024 bytes at once, as each instruction waits for the one before it in the same run.
	SUBQ $3080, CX
	JLT  rest
	XORL BX, BX
	XORL DX, DX
	MOVL $1024, DI

by3:
	CRC32Q (SI), AX
	CRC32Q 1024(SI), BX
	CRC32Q 2048(SI), DX
	CRC32Q 8(SI), AX
	CRC32Q 1032(SI), BX
	CRC32Q 2056(SI), DX
	CRC32Q 16(SI), AX
	CRC32Q 1040(SI), BX
	CRC32Q 2064(SI), DX
	CRC32Q 24(SI), AX
	CRC32Q 1048(SI), BX
	CRC32Q 2072(SI), DX
	ADDQ   $32, SI
	SUBQ   $32, DI
	JNE    by3

	// What is before the last 8 bytes is multiplied by x^(8n-33) modulo the polynomial, to stand n = 2056 or 1032 bytes
	// further on, and added to those.
	MOVL      $0xf7506984, DI
	MOVQ      AX, X0
	MOVQ      DI, X1
	PCLMULQDQ $0, X1, X0
	MOVL      $0xfe314258, DI
	MOVQ      BX, X2
	MOVQ      DI, X1
	PCLMULQDQ $0, X1, X2
	PXOR      X2, X0
	MOVQ      X0, AX
	XORQ      2048(SI), AX
	CRC32Q    AX, DX
	MOVL      DX, AX
	ADDQ      $2056, SI
	JMP       streams

rest:
	ADDQ $3080, CX

whole:
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
	CMPL R8, $2
	JEQ  none
	MOVL $1, AX
	XORL CX, CX
	CPUID
	MOVL $1, R8
	BTL  $1, CX
	JCC  plain
	MOVL $3, R8

plain:
	BTL  $20, CX
	JCS  known
	MOVL $2, R8

known:
	MOVB R8, ·sse42(SB)
	CMPL R8, $2
	JNE  go

none:
	MOVB $0, ok+36(FP)
	RET
