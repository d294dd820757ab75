package lz4block

// Decode decodes the block src to the start of dst and returns how many bytes that made, or -1 where src is not one whole
// well-formed block or does not fit into dst. It may write anything to the rest of dst. The two must not overlap.
func Decode(dst, src []byte) int {
	if haveAsm && len(dst) >= 128 && len(src) >= 32 {
		return decodeAsm(dst, src)
	}
	return decodeGeneric(dst, src)
}
