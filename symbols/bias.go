package symbols

// Seen is code that was executed: 1 to 16 bytes at a run-time address.
type Seen struct {
	Addr uint64
	Code []byte
}

const (
	biasMinMatched = 4   // of fewer than these any may be an accident
	biasProbes     = 512 // pieces of code that are looked for everywhere; all are compared at the places that they suggest
	biasMaxPlaces  = 1 << 16
	biasBest       = 16 // biases that are compared with all that was seen
)

// Bias finds at which bias (run-time minus link-time address, a multiple of align) an object was mapped from code that was seen
// executed, and how many of seen agree. It is ok only if an overwhelming majority of them does, three of four, and no other
// bias comes near: then at most a quarter as many agree with any other.
func Bias(o *Object, seen []Seen, align uint64) (bias uint64, matched int, ok bool) {
	if align == 0 {
		align = 1
	}
	type text struct {
		Range
		code []byte
	}
	var texts []text
	for _, r := range o.Text() {
		if n := r.Limit - r.Start; n <= maxKernel {
			code := make([]byte, n)
			texts = append(texts, text{r, code[:o.Code(r.Start, code)]})
		}
	}
	at := func(addr uint64, want []byte) bool {
		for _, t := range texts {
			if off := addr - t.Start; addr >= t.Start && off < uint64(len(t.code)) && uint64(len(want)) <= uint64(len(t.code))-off {
				return string(t.code[off:off+uint64(len(want))]) == string(want)
			}
		}
		return false
	}

	// The longest pieces of code say most. Wherever one of them is found, its bias gets a vote.
	longest := 0
	for _, s := range seen {
		longest = max(longest, len(s.Code))
	}
	var probes []Seen
	for n := longest; n > 0 && len(probes) < biasProbes; n-- {
		for _, s := range seen {
			if len(s.Code) == n && len(probes) < biasProbes {
				probes = append(probes, s)
			}
		}
	}
	votes := map[uint64]int{}
	for _, p := range probes {
		for _, t := range texts {
			if t.Limit-t.Start < 1 {
				continue
			}
			first := t.Start + (p.Addr-t.Start)%align
			if places := (t.Limit - t.Start) / align; places > biasMaxPlaces {
				return 0, 0, false
			}
			for addr := first; addr >= t.Start && addr < t.Limit; addr += align {
				if at(addr, p.Code) {
					votes[p.Addr-addr]++
				}
				if addr+align < addr {
					break
				}
			}
		}
	}
	// Compare all that was seen at the few biases that got the most votes.
	var best, second int
	for range biasBest {
		top, most := uint64(0), 0
		for b, n := range votes {
			if n > most || n == most && b < top {
				top, most = b, n
			}
		}
		if most == 0 {
			break
		}
		delete(votes, top)
		n := 0
		for _, s := range seen {
			if len(s.Code) > 0 && at(s.Addr-top, s.Code) {
				n++
			}
		}
		if n > best {
			bias, best, second = top, n, best
		} else {
			second = max(second, n)
		}
	}
	return bias, best, best >= biasMinMatched && best*4 >= len(seen)*3 && best >= 4*second
}
