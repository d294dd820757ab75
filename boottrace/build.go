package boottrace

// Frame is a function at an address, or one inlined there, as a symbolizer knows it.
type Frame struct {
	Function, System, File string
	Line, StartLine        int
}

// Symbolizer says what is at a run-time address: the index of its mapping, -1 if none is known, and the frames there, the
// innermost inlined function first; none if there is no symbol.
type Symbolizer func(addr uint64) (mapping int, frames []Frame)

// Builder builds a Profile from addresses. Stacks that read the same become one: addresses that are in the same function and
// line are the same location, and in functions whose lines are not known all addresses are.
//
// Where a stack's own address lies is a Child like any call, so a sample's stack ends with it.
type Builder struct {
	p      *Profile
	lookup Symbolizer

	functions map[Function]int
	locations map[location]int
	byAddr    map[uint64]int // location
	byName    map[string]int
	children  map[edge]int
	samples   map[Sample]int // without values
}

type edge struct{ parent, location int }

// location is what tells one from another.
type location struct {
	mapping int
	addr    uint64 // of a location without symbols
	lines   string // the lines, packed
}

// NewBuilder returns a builder of a profile of the given kind, whose locations refer to mappings.
func NewBuilder(kind ProfileKind, mappings []Mapping, lookup Symbolizer) *Builder {
	return &Builder{
		p:         &Profile{Kind: kind, Mappings: mappings, Stacks: []Stack{{Location: -1}}},
		lookup:    lookup,
		functions: make(map[Function]int),
		locations: make(map[location]int),
		byAddr:    make(map[uint64]int),
		byName:    make(map[string]int),
		children:  make(map[edge]int),
		samples:   make(map[Sample]int),
	}
}

// Phase returns the index of a phase by its name.
func (b *Builder) Phase(name string) int {
	for i, p := range b.p.Phases {
		if p == name {
			return i
		}
	}
	b.p.Phases = append(b.p.Phases, name)
	return len(b.p.Phases) - 1
}

func (b *Builder) function(f Function) int {
	i, ok := b.functions[f]
	if !ok {
		i = len(b.p.Functions)
		b.functions[f] = i
		b.p.Functions = append(b.p.Functions, f)
	}
	return i
}

// locate returns the location of an address.
func (b *Builder) locate(addr uint64) int {
	if i, ok := b.byAddr[addr]; ok {
		return i
	}
	mapping, frames := b.lookup(addr)
	key := location{mapping: mapping}
	l := Location{Mapping: mapping, Address: addr}
	if len(frames) == 0 {
		key.addr = addr
	}
	var packed []byte
	for _, f := range frames {
		fn := Function{Name: f.Function, System: f.System, File: f.File, Line: f.StartLine}
		if fn.System == fn.Name {
			fn.System = ""
		}
		line := Line{b.function(fn), f.Line}
		l.Lines = append(l.Lines, line)
		for _, n := range []int{line.Function, line.Line} {
			packed = append(packed, byte(n), byte(n>>8), byte(n>>16), byte(n>>24), byte(n>>32))
		}
	}
	key.lines = string(packed)
	i, ok := b.locations[key]
	if !ok {
		i = len(b.p.Locations)
		b.locations[key] = i
		b.p.Locations = append(b.p.Locations, l)
	}
	b.byAddr[addr] = i
	return i
}

// child returns the node for a location below parent.
func (b *Builder) child(parent, location int, first uint64) int {
	e := edge{parent, location}
	i, ok := b.children[e]
	if !ok {
		i = len(b.p.Stacks)
		b.children[e] = i
		b.p.Stacks = append(b.p.Stacks, Stack{Parent: parent, Location: location, First: first})
		return i
	}
	b.p.Stacks[i].First = min(b.p.Stacks[i].First, first)
	return i
}

// Child returns the node for an address below parent, of which 0 is the root: a call made there, or the place itself. first is how
// many guest instructions came before it.
func (b *Builder) Child(parent int, addr, first uint64) int {
	return b.child(parent, b.locate(addr), first)
}

// Named returns the node for something below parent that has a name and no address.
func (b *Builder) Named(parent int, name string, first uint64) int {
	i, ok := b.byName[name]
	if !ok {
		i = len(b.p.Locations)
		b.byName[name] = i
		b.p.Locations = append(b.p.Locations, Location{Mapping: -1, Lines: []Line{{Function: b.function(Function{Name: name})}}})
	}
	return b.child(parent, i, first)
}

// Stack returns the node for a stack of addresses, the innermost first. Those of callers must lie in the calls.
func (b *Builder) Stack(addrs []uint64) int {
	node := 0
	for i := len(addrs) - 1; i >= 0; i-- {
		node = b.Child(node, addrs[i], 0)
	}
	return node
}

// Add adds what was used at a node.
func (b *Builder) Add(s Sample) {
	key := Sample{Stack: s.Stack, Phase: s.Phase, CPU: s.CPU, User: s.User}
	i, ok := b.samples[key]
	if !ok {
		i = len(b.p.Samples)
		b.samples[key] = i
		b.p.Samples = append(b.p.Samples, key)
	}
	t := &b.p.Samples[i]
	t.Instructions += s.Instructions
	t.TouchedBytes += s.TouchedBytes
	t.Nanos += s.Nanos
	t.Count += s.Count
}

// Profile returns what was built. The builder must not be used any more.
func (b *Builder) Profile() *Profile { return b.p }
