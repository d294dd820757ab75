package zstdpack

import "math"

const (
	// window is how far ahead ways are compared.
	window = 1 << 12
	// adapt is after how many bytes prices follow the counts.
	adapt = 2 << 10
	// never is more than any way costs.
	never = math.MaxInt32 / 2
)

// A node is the cheapest way that is known to a position.
type node struct {
	price int32
	match uint32 // length of the match that ends here; 0: a literal does
	off   uint32
	lit   uint32 // literals before here without a match
	rep   recent // offsets, known once the position is reached
}

// A parser chooses sequences.
type parser struct {
	prices
	passes int

	nodes [window + 1]node
	path  []match // from the end
}

// parse makes e.seqs of src[lo:hi].
func (e *Encoder) parse(src []byte, lo, hi int) {
	e.find(src, lo, hi)
	e.prices.start(src[lo:hi], lo == 0)
	for pass := range e.passes {
		if pass > 0 {
			e.prices.again(src[lo:hi], e.seqs, e.last)
		}
		e.choose(src, lo, hi, pass == 0)
	}
}

// choose makes e.seqs of the matches that were found.
func (e *Encoder) choose(src []byte, lo, hi int, learn bool) {
	e.seqs = e.seqs[:0]
	rep := e.last
	anchor, counted := lo, lo
	ends := e.ends[:hi-lo]
	for pos := lo; pos < hi; {
		nodes := &e.nodes
		lits := uint32(pos - anchor)
		nodes[0] = node{lit: lits, rep: rep}
		last, cur := 0, 0
		var end match // what is taken at cur whatever it costs
		for ; ; cur++ {
			n := &nodes[cur]
			at := pos + cur
			if cur > 0 {
				prev := &nodes[cur-1]
				lit := uint32(1)
				if prev.match == 0 {
					lit = prev.lit + 1
				}
				price := prev.price + e.lit[src[at-1]] + e.another(lit)
				if price <= n.price {
					n.price, n.match, n.off, n.lit = price, 0, 0, lit
				}
				if n.match == 0 {
					n.rep = prev.rep
				} else {
					from := &nodes[cur-int(n.match)]
					n.rep = from.rep
					n.rep.value(n.off, from.lit)
				}
				if cur == last {
					break
				}
			}
			if at+4 > hi {
				if cur == last {
					break
				}
				continue
			}
			base := n.price + e.litLen[0]
			best := uint32(minMatch - 1)
			v := load32(src, at)
			for k := range n.rep {
				off := n.rep[k]
				if n.lit == 0 {
					if k < 2 {
						off = n.rep[k+1]
					} else {
						off = n.rep[0] - 1
					}
				}
				if uint(off)-1 >= uint(at) || (load32(src, at-int(off))^v)<<8 != 0 {
					continue
				}
				length := uint32(common(src, at-int(off), at, hi))
				if length <= best {
					continue
				}
				if int(length) >= e.nice || cur+int(length) >= window {
					end = match{length, off}
					best = length
					break
				}
				last = e.reach(nodes, cur, last, best+1, length, off, base+e.offset[offsetCode(uint32(k+1))])
				best = length
			}
			if end.length == 0 {
				i := at - lo
				from := uint32(0)
				if i > 0 {
					from = ends[i-1]
				}
				for _, m := range e.matches[from:ends[i]] {
					if m.length <= best {
						continue
					}
					if int(m.length) >= e.nice || cur+int(m.length) >= window {
						end = m
						break
					}
					last = e.reach(nodes, cur, last, best+1, m.length, m.off, base+e.offset[offsetCode(m.off+3)])
					best = m.length
				}
			}
			if end.length > 0 || cur == last {
				break
			}
		}
		if cur == 0 && end.length == 0 {
			pos++
			continue
		}
		// The way to cur, from its end.
		e.path = e.path[:0]
		if end.length > 0 {
			e.path = append(e.path, end)
		}
		for i := cur; i > 0; {
			n := &nodes[i]
			if n.match == 0 {
				e.path = append(e.path, match{1, 0})
				i--
			} else {
				e.path = append(e.path, match{n.match, n.off})
				i -= int(n.match)
			}
		}
		for i := len(e.path) - 1; i >= 0; i-- {
			m := e.path[i]
			if m.off > 0 {
				lit := uint32(pos - anchor)
				value := rep.value(m.off, lit)
				e.seqs = append(e.seqs, seq{lit, m.length, m.off})
				if learn {
					e.prices.add(src[anchor:pos], m.length, value)
				}
				anchor = pos + int(m.length)
			}
			pos += int(m.length)
		}
		if learn && pos-counted >= adapt {
			e.prices.update()
			counted = pos
		}
	}
}

// reach takes note of ways from the node at cur to those that matches of from to length bytes lead to. It returns the last node
// that is known.
func (e *Encoder) reach(nodes *[window + 1]node, cur, last int, from, length, off uint32, price int32) int {
	for ; last < cur+int(length); last++ {
		nodes[last+1].price = never
	}
	for l := from; l <= length; l++ {
		n := &nodes[cur+int(l)]
		if p := price + e.prices.length(l); p < n.price {
			n.price, n.match, n.off, n.lit = p, l, off, 0
		}
	}
	return last
}
