package zstdpack

// prices are what the parts of sequences and literals are taken to cost, in units, by how often each was used so far.
type prices struct {
	lit      [256]int32
	litLen   [36]int32 // of the code with its bits
	offset   [32]int32 // the same
	matchLen [maxSymbols]int32
	match    [256]int32 // by length, as far as it goes
	more     [64]int32  // by literals without a match: what their length costs more than that of one less

	lits  [256]uint32
	codes counts
}

// expected are counts that stand for what is not known yet.
var expected = counts{
	litLengths: {4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
	offsets:    {6, 2, 1, 1, 2, 3, 4, 4, 4, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
}

// start prepares for the block in: what is known of earlier ones counts less.
func (p *prices) start(in []byte, first bool) {
	if first {
		p.codes = expected
		for i := range p.codes[matchLengths] {
			p.codes[matchLengths][i] = 1
		}
		clear(p.lits[:])
		for _, c := range in {
			p.lits[c]++
		}
		for i := range p.lits {
			p.lits[i] = p.lits[i]>>4 + 1
		}
		p.update()
		return
	}
	shrink := func(c []uint32, to uint32) {
		sum := uint32(0)
		for _, k := range c {
			sum += k
		}
		shift := 0
		for sum>>shift > to {
			shift++
		}
		for i := range c {
			c[i] = c[i]>>shift + 1
		}
	}
	shrink(p.lits[:], 1<<12)
	shrink(p.codes[litLengths][:36], 1<<11)
	shrink(p.codes[offsets][:32], 1<<11)
	shrink(p.codes[matchLengths][:], 1<<11)
	p.update()
}

// update makes prices of the counts.
func (p *prices) update() {
	weigh := func(price []int32, c []uint32, extra []uint8) {
		sum := uint32(0)
		for _, k := range c {
			sum += k
		}
		all := log2(sum)
		for i, k := range c {
			price[i] = int32(all - log2(k))
			if extra != nil {
				price[i] += int32(extra[i]) * one
			}
		}
	}
	weigh(p.lit[:], p.lits[:], nil)
	for i := range p.lit {
		p.lit[i] = min(max(p.lit[i], one), maxHuffman*one)
	}
	weigh(p.litLen[:], p.codes[litLengths][:36], litBits[:])
	for n := 1; n < len(p.more); n++ {
		p.more[n] = p.litLen[litCodes[n]] - p.litLen[litCodes[n-1]]
	}
	weigh(p.offset[:], p.codes[offsets][:32], nil)
	for i := range p.offset {
		p.offset[i] += int32(i) * one
	}
	weigh(p.matchLen[:], p.codes[matchLengths][:], matchBits[:])
	for n := minMatch; n < len(p.match); n++ {
		p.match[n] = p.matchLen[matchCode(uint32(n))]
	}
}

func (p *prices) length(n uint32) int32 {
	if n < uint32(len(p.match)) {
		return p.match[n]
	}
	return p.matchLen[matchCode(n)]
}

// add counts a sequence, whose literals are lits and whose offset has the value.
func (p *prices) add(lits []byte, match, value uint32) {
	for _, c := range lits {
		p.lits[c] += 2
	}
	p.codes[litLengths][litCode(uint32(len(lits)))]++
	p.codes[offsets][offsetCode(value)]++
	p.codes[matchLengths][matchCode(match)]++
}

// another returns what the length of n literals costs more than that of one less.
func (p *prices) another(n uint32) int32 {
	if n < uint32(len(p.more)) {
		return p.more[n]
	}
	return p.litLen[litCode(n)] - p.litLen[litCode(n-1)]
}

// again makes prices of the sequences that were chosen for in.
func (p *prices) again(in []byte, list []seq, last recent) {
	for i := range p.lits {
		p.lits[i] = 1
	}
	for k := range p.codes {
		for i := range p.codes[k] {
			p.codes[k][i] = 1
		}
	}
	at := 0
	for _, s := range list {
		p.add(in[at:at+int(s.lit)], s.match, last.value(s.off, s.lit))
		at += int(s.lit + s.match)
	}
	for _, c := range in[at:] {
		p.lits[c] += 2
	}
	p.update()
}
