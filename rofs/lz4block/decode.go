package lz4block

// Decode decodes the block src to the start of dst and returns how many bytes that made, or where src is not one whole
// well-formed block or does not fit into dst, a negative number: ^n, if up to there it made n bytes. It may write anything to the
// rest of dst. The two must not overlap.
func Decode(dst, src []byte) int {
	if haveAsm && len(dst) >= 128 && len(src) >= 32 {
		return decodeAsm(dst, src)
	}
	return decodeGeneric(dst, src)
}

// sequence is what is enough for most sequences, the smallest part of a block, in bytes that they make.
const sequence = 256

// DecodeStart decodes so much of the block src, which makes len(dst) bytes, that the first n bytes of dst are right, and reports
// whether it could. It may write anything to the rest of dst. Of what it did not have to decode it does not tell whether that is
// well-formed.
func DecodeStart(dst, src []byte, n int) bool {
	if n < len(dst)-sequence && ^Decode(dst[:n+sequence], src) >= n {
		return true
	}
	return Decode(dst, src) == len(dst)
}
