package lz4block

const haveAsm = true

// decodeAsm is Decode for a dst of at least 128 bytes and a src of at least 32.
//
//go:noescape
func decodeAsm(dst, src []byte) int
