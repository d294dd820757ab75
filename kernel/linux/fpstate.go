package linux

import "github.com/firstlight-boot/firstlight/kernel/ring0"

// The floating-point state in a handler's frame: an FXSAVE image (Intel SDM volume 1, 10.5.1) and, on a CPU with AVX, the rest of an
// XSAVE image in the standard format (13.4) with a magic number behind it. What is in the frame, and how much, is told in the bytes
// of the FXSAVE image that are software's (uapi/asm/sigcontext.h, struct _fpx_sw_bytes). Offsets in bytes.
const (
	fxMXCSR    = 24
	fxMask     = 28 // bits that MXCSR may have
	fxRegs     = 32 // of the x87: 16 bytes each
	fxXMM      = 160
	fxXMMEnd   = 416
	fxSoftware = 464
	fxSize     = 512
	xsYMM      = fxSize + 64
	xsSize     = xsYMM + 256
	fpMagic2   = xsSize
	fpMost     = xsSize + 4

	// From fxSoftware on.
	fpMagic1   = 0
	fpExtended = 4 // size with the second magic number
	fpFeatures = 8
	fpImage    = 16
	xsFeatures = fxSize - fxSoftware + 0 // XSTATE_BV: the components that are not as in a new program
	xsZero     = fxSize - fxSoftware + 8 // 16 bytes

	magic1 = 0x46505853
	magic2 = 0x46505845

	stateX87 = 1
	stateSSE = 2
	stateAVX = ring0.StateAVX
	stateAll = stateX87 | stateSSE | stateAVX

	fcwReset   = 0x37f
	mxcsrReset = 0x1f80
)

// fpStateSize is the size of the state in a frame.
func fpStateSize() uint64 {
	if ring0.HasAVX() {
		return fpMost
	}
	return fxSize
}

// putFP writes c's state to a frame; b has fpStateSize bytes, which are zero.
func putFP(b []byte, c *ring0.UserContext) {
	copy(b, c.FX[:])
	if len(b) == fxSize {
		return
	}
	sw := b[fxSoftware:]
	set32(sw[fpMagic1:], magic1)
	set32(sw[fpExtended:], fpMost)
	set64(sw[fpFeatures:], stateAll)
	set32(sw[fpImage:], xsSize)
	set64(sw[xsFeatures:], stateX87|stateSSE|c.XState)
	if c.XState&stateAVX != 0 {
		copy(b[xsYMM:], c.YMM[:])
	}
	set32(b[fpMagic2:], magic2)
}

// initFP gives c the state of a new program: all exceptions masked, 64-bit precision.
func initFP(c *ring0.UserContext) {
	mask := le32(c.FX[fxMask:])
	clear(c.FX[:])
	set16(c.FX[:], fcwReset)
	set32(c.FX[fxMXCSR:], mxcsrReset)
	set32(c.FX[fxMask:], mask)
	c.XState = 0
}

// loadFP gives c the state that a frame has at an address, 0 for that of a new program. It reports false for what cannot be read, and for
// what the instructions that load it would fault at; c has anything then.
func (p *process) loadFP(c *ring0.UserContext, at uint64) bool {
	if at == 0 {
		initFP(c)
		return true
	}
	mask := le32(c.FX[fxMask:])
	ok := p.mm.copyIn(c.FX[:], at)
	set32(c.FX[fxMask:], mask)
	c.XState = 0
	load, has, align := uint64(stateX87|stateSSE), uint64(stateX87|stateSSE), uint64(16)
	var b [xsYMM - fxSoftware]byte
	if ok && ring0.HasAVX() {
		if !p.mm.copyIn(b[:fxSize-fxSoftware], at+fxSoftware) {
			return false
		}
		if p.hasXState(&b, at) {
			if !p.mm.copyIn(b[fxSize-fxSoftware:], at+fxSize) {
				return false
			}
			load, has, align = le64(b[fpFeatures:])&stateAll, le64(b[xsFeatures:]), 64
			if has&^stateAll != 0 || le64(b[xsZero:]) != 0 || le64(b[xsZero+8:]) != 0 {
				return false
			}
		}
		if load&has&stateAVX != 0 {
			c.XState = stateAVX
			ok = p.mm.copyIn(c.YMM[:], at+xsYMM)
		}
	}
	return ok && at%align == 0 && keepFP(c, load, has)
}

// hasXState reports whether the FXSAVE image at an address, with b where it is software's, says by right that the rest of an XSAVE image
// follows.
func (p *process) hasXState(b *[xsYMM - fxSoftware]byte, at uint64) bool {
	size := le32(b[fpImage:])
	if le32(b[fpMagic1:]) != magic1 || size < xsYMM || size > xsSize || size > le32(b[fpExtended:]) {
		return false
	}
	var end [4]byte
	return p.mm.copyIn(end[:], at+uint64(size)) && le32(end[:]) == magic2
}

// keepFP gives those components of c's FXSAVE image that are not in load and in has the state of a new program. It reports false when
// MXCSR would be loaded with bits that the CPU does not have.
func keepFP(c *ring0.UserContext, load, has uint64) bool {
	mask := le32(c.FX[fxMask:])
	if mask == 0 {
		mask = 0xffbf
	}
	if load&(stateSSE|stateAVX) != 0 && le32(c.FX[fxMXCSR:])&^mask != 0 {
		return false
	}
	if load&stateSSE == 0 {
		set32(c.FX[fxMXCSR:], mxcsrReset)
	}
	if load&has&stateSSE == 0 {
		clear(c.FX[fxXMM:fxXMMEnd])
	}
	if load&has&stateX87 == 0 {
		clear(c.FX[:fxMXCSR])
		clear(c.FX[fxRegs:fxXMM])
		set16(c.FX[:], fcwReset)
	}
	return true
}
