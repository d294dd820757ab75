package symbols

// Seen is code that was executed: 1 to 16 bytes at a run-time address.
type Seen struct {
	Addr uint64
	Code []byte
}

// Bias finds at which bias (run-time minus link-time address, a multiple of align) an object was mapped from code that was seen
// executed, and how many of seen agree. It is ok only if an overwhelming majority of them does, and no other bias comes near.
func Bias(o *Object, seen []Seen, align uint64) (bias uint64, matched int, ok bool) {
	return 0, 0, false
}
