//go:build !amd64

package zstdblock

const haveAsm = false

func decodeFour(t *[1 << maxHuffLog]uint16, dst *byte, stride, rounds int, r *[4]bitReader) {}

func runSequences(a *seqArgs) (decoded bool) { return false }
