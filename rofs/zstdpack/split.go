package zstdpack

const (
	// minSplit is how many sequences a block has at least so that two of it are considered.
	minSplit = 128
	// ownCost is what a block costs for itself, in units, but for its tables.
	ownCost = 16 * 8 * one
)

// blocks writes src[lo:hi], whose sequences are e.seqs, as one block or several: as many as are worth their tables.
func (e *Encoder) blocks(w *writer, src []byte, lo, hi int) bool {
	e.cuts = e.cuts[:0]
	if n := len(e.seqs); n >= 2*minSplit {
		e.encode(0, n, e.last)
		e.cut(src, lo, hi, 0, n, e.estimate(src, lo, 0, n))
	}
	from := 0
	for _, to := range e.cuts {
		end := lo
		for _, s := range e.seqs[from:to] {
			end += int(s.lit + s.match)
		}
		if !e.block(w, src, lo, end, from, to) {
			return false
		}
		lo, from = end, to
	}
	return e.block(w, src, lo, hi, from, len(e.seqs))
}

// cut appends to e.cuts where the sequences from and to of src[lo:] are divided best. As one block they cost whole.
func (e *Encoder) cut(src []byte, lo, hi, from, to, whole int) {
	if to-from < 2*minSplit {
		return
	}
	mid := (from + to) / 2
	end := lo
	for _, s := range e.seqs[from:mid] {
		end += int(s.lit + s.match)
	}
	left, right := e.estimate(src, lo, from, mid), e.estimate(src, end, mid, to)
	if left+right >= whole {
		return
	}
	e.cut(src, lo, end, from, mid, left)
	e.cuts = append(e.cuts, mid)
	e.cut(src, end, hi, mid, to, right)
}

// estimate returns about what a block of the sequences from and to of src[lo:] costs, in units, without the bits that codes have added.
func (e *Encoder) estimate(src []byte, lo, from, to int) int {
	var lits [256]uint32
	var count counts
	n := uint32(0)
	for i := from; i < to; i++ {
		s := &e.seqs[i]
		for _, c := range src[lo : lo+int(s.lit)] {
			lits[c]++
		}
		n += s.lit
		lo += int(s.lit + s.match)
		for k := range count {
			count[k][e.codes.code[k][i]]++
		}
	}
	sum := ownCost + min(entropy(lits[:], n, 4), int(n)*8*one)
	for k := range count {
		sum += entropy(count[k][:], uint32(to-from), 5)
	}
	return sum
}

// entropy returns what n symbols that often cost, with as many bits for each that there is, in units.
func entropy(counts []uint32, n uint32, table int) int {
	if n == 0 {
		return 0
	}
	all := log2(n)
	sum := 0
	for _, c := range counts {
		if c > 0 {
			sum += int(c)*(all-log2(c)) + table*one
		}
	}
	return sum
}
