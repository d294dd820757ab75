package zstdblock

const haveAsm = true

// decodeFour makes 5 × rounds bytes, at least one round, of each of four streams: those of the first at dst, those of the others
// stride, 2 × stride and 3 × stride bytes after them. Of each stream less than 8 bits of the 8 bytes at p are used, and p is at
// least 7 × (rounds - 1). It leaves p and used right, but not v.
//
//go:noescape
func decodeFour(t *[1 << maxHuffLog]uint16, dst *byte, stride, rounds int, r *[4]bitReader)

// runSequences carries out sequences that are not the last as long as that is simple. It returns whether the next one is decoded
// to lit, match and off of a; if not, nothing of it is.
//
//go:noescape
func runSequences(a *seqArgs) (decoded bool)
