package ring0

import "github.com/firstlight-boot/firstlight/kernel/cpu"

// Components of the extended state (Intel SDM volume 1, 13.1), and where AVX's is in an image of the standard format.
const (
	stateX87 = 1 << 0
	stateSSE = 1 << 1
	stateAVX = 1 << 2
	states   = stateX87 | stateSSE | stateAVX // XCR0 when programs have AVX
	avxOff   = 576
	avxSize  = 256
)

// StateAVX is the component that Context.XState may have.
const StateAVX = stateAVX

// The values of avx.
const (
	avxNone = iota // programs have no AVX
	avxSave        // its state is saved always
	avxAsk         // the CPU tells whether there is any to save
)

const (
	cr4OSXSAVE   = 1 << 18
	featureXSAVE = 1 << 26 // CPUID leaf 1, ECX
	featureAVX   = 1 << 28
	leafXState   = 0xd
	featureInUse = 1 << 2 // leaf 0xd, 1, EAX: XGETBV tells what is in use
)

// kernelEnableAVX gives programs AVX, if this CPU has it. The others follow it when they start.
func kernelEnableAVX() {
	maxLeaf, _, _, _ := cpu.CPUID(0, 0)
	_, _, features, _ := cpu.CPUID(1, 0)
	const need = featureXSAVE | featureAVX
	if maxLeaf < leafXState || features&need != need {
		return
	}
	has, _, _, _ := cpu.CPUID(leafXState, 0)
	size, offset, _, _ := cpu.CPUID(leafXState, 2)
	if has&states != states || offset != avxOff || size != avxSize {
		return
	}
	cpu.WriteCR4(cpu.ReadCR4() | cr4OSXSAVE)
	cpu.WriteXCR0(states)
	how := uint8(avxSave)
	if more, _, _, _ := cpu.CPUID(leafXState, 1); more&featureInUse != 0 {
		how = avxAsk
	}
	avx = how
}
