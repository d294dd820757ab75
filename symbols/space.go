package symbols

import (
	"slices"
	"sort"
)

// Mapping is a range of run-time addresses and what was there.
type Mapping struct {
	Name         string
	Start, Limit uint64  // run-time addresses
	Bias         uint64  // run-time minus link-time address, modulo 2^64
	Object       *Object // nil: the mapping is one frame called Name
	Offset       uint64  // of Start in the file
}

// Space is an address space: the mappings that were seen in it. The zero Space has none. Its methods must not be called at the
// same time.
type Space struct {
	mappings []Mapping
	pieces   []piece // by start; built by the first Lookup after an Add
}

// piece is a range of addresses at which one mapping can be seen; it reaches to the next piece.
type piece struct {
	start   uint64
	mapping int // -1: none
}

// Add adds a mapping. Where it overlaps earlier ones, it hides them.
func (s *Space) Add(m Mapping) {
	s.mappings = append(s.mappings, m)
	s.pieces = nil
}

// Mappings returns the mappings in the order in which they were added.
func (s *Space) Mappings() []Mapping { return s.mappings }

// Lookup returns the index of the mapping that covers a run-time address, -1 if none does, and the frames there, nil if its
// object has no symbol for it. Frames' Start is a link-time address.
func (s *Space) Lookup(addr uint64) (mapping int, frames []Frame) {
	if s.pieces == nil {
		s.pieces = s.cut()
	}
	i := sort.Search(len(s.pieces), func(i int) bool { return s.pieces[i].start > addr }) - 1
	if i < 0 || s.pieces[i].mapping < 0 {
		return -1, nil
	}
	mapping = s.pieces[i].mapping
	m := &s.mappings[mapping]
	if m.Object == nil {
		return mapping, []Frame{{Function: m.Name, System: m.Name, Start: m.Start - m.Bias}}
	}
	return mapping, m.Object.Lookup(addr - m.Bias)
}

// cut cuts the address space at each mapping's ends.
func (s *Space) cut() []piece {
	pieces := []piece{{0, -1}}
	for _, m := range s.mappings {
		if m.Start < m.Limit {
			pieces = append(pieces, piece{m.Start, -1}, piece{m.Limit, -1})
		}
	}
	slices.SortFunc(pieces, func(a, b piece) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	pieces = slices.CompactFunc(pieces, func(a, b piece) bool { return a.start == b.start })
	for i, m := range s.mappings {
		j := sort.Search(len(pieces), func(j int) bool { return pieces[j].start >= m.Start })
		for ; j < len(pieces) && pieces[j].start < m.Limit; j++ {
			pieces[j].mapping = i
		}
	}
	return pieces
}
