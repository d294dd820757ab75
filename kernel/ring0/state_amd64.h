// Saves the floating-point state of ring 3 in the Context at RSP. The upper halves of the YMM registers are zero then, and the kernel has
// no instruction that changes them. Most calls are made with them zero, as the ABI wants it of calls of functions, and asking is cheaper
// than saving. Clobbers AX, CX, DX.
#define SAVESTATE \
	FXSAVE64 fxOff(SP); \
	CMPB ·avx(SB), $const_avxNone; \
	JEQ  saved; \
	MOVL $const_stateAVX, AX; \
	XORL DX, DX; \
	CMPB ·avx(SB), $const_avxAsk; \
	JNE  save; \
	MOVL $1, CX; \
	XGETBV; \
	XORL DX, DX; \
	ANDL $const_stateAVX, AX; \
	MOVQ AX, Context_XState(SP); \
	JEQ  saved; \
save: \
	XSAVE64 fxOff(SP); \
	VZEROUPPER; \
saved:

// Loads the floating-point state of the Context at RDI. Clobbers AX, DX.
#define LOADSTATE \
	FXRSTOR64 fxOff(DI); \
	TESTB $const_stateAVX, Context_XState(DI); \
	JEQ  loaded; \
	MOVL $const_stateAVX, AX; \
	XORL DX, DX; \
	XRSTOR64 fxOff(DI); \
loaded:
