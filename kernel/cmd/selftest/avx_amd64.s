#include "textflag.h"

// func setUpper(v uint64)
TEXT ·setUpper(SB), NOSPLIT, $0-8
	MOVQ v+0(FP), X1
	VINSERTF128 $1, X1, Y0, Y0
	VINSERTF128 $1, X1, Y7, Y7
	VINSERTF128 $1, X1, Y14, Y14
	RET

// func upper() (v0, v7, v14 uint64)
TEXT ·upper(SB), NOSPLIT, $0-24
	VEXTRACTF128 $1, Y0, X1
	MOVQ X1, v0+0(FP)
	VEXTRACTF128 $1, Y7, X1
	MOVQ X1, v7+8(FP)
	VEXTRACTF128 $1, Y14, X1
	MOVQ X1, v14+16(FP)
	RET

// func clearUpper()
TEXT ·clearUpper(SB), NOSPLIT, $0-0
	VZEROUPPER
	RET
