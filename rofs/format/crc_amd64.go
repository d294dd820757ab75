package format

// update uses the CRC32 instruction of SSE 4.2 where CPUID has it.
func update(crc uint32, p []byte) uint32 {
	if crc, ok := updateSSE42(crc, p); ok {
		return crc
	}
	return updateGeneric(crc, p)
}

// updateSSE42 returns !ok, having done nothing, on a processor without SSE 4.2. It asks CPUID once, since that leaves the
// guest under a hypervisor, and keeps the answer in a byte that only it touches: who races to ask gets the same answer.
//
//go:noescape
func updateSSE42(crc uint32, p []byte) (sum uint32, ok bool)
