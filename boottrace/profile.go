package boottrace

import "fmt"

// Profile says by which calls what a boot used was used: a tree of stacks with samples at its nodes, symbolized. The tree is what
// pprof calls stacks; kept as a tree it is a tenth of the size, and knows what came first.
type Profile struct {
	Kind ProfileKind

	// PeriodNanos is the mean time between two samples of a sampled profile.
	PeriodNanos int64

	Phases    []string // names that samples refer to, in the order of the boot
	Functions []Function
	Mappings  []Mapping
	Locations []Location
	Stacks    []Stack // [0] is the root, which has no location; a parent comes before its children
	Samples   []Sample
}

// ProfileKind says how a profile was taken.
type ProfileKind string

const (
	Exact   ProfileKind = "exact"   // every instruction of a counting boot
	Sampled ProfileKind = "sampled" // the registers now and then, of a timed boot
)

// Function is a function of the guest.
type Function struct {
	Name   string // demangled
	System string // as the symbol table has it; "" is the same as Name
	File   string // of the source; "" if unknown
	Line   int    // at which it starts; 0 if unknown
}

// Mapping is a range of the guest's virtual addresses and what was there.
type Mapping struct {
	Name         string // "kernel", "firmware", or the path of the program or library in the guest
	BuildID      string // hexadecimal; "" if unknown
	Start, Limit uint64 // as mapped in the boot
	Offset       uint64 // in the file, of Start
}

// Location is an address in the guest's code.
type Location struct {
	Mapping int // index; -1 if none is known
	Address uint64
	Lines   []Line // the innermost inlined function first, the function that was called last; none if there is no symbol
}

// Line is a place in a function.
type Line struct {
	Function int // index
	Line     int // 0 if unknown
}

// Stack is a node of the tree: a call at Location, or where the innermost function was, made by what Parent stands for.
type Stack struct {
	Parent   int    // index, less than the node's own; the root is its own
	Location int    // index; -1 for the root
	First    uint64 // guest instructions executed before it was first there; 0 in sampled profiles
}

// Sample is what was used at one place of the tree, the callees' use not included.
type Sample struct {
	Stack        int
	Phase        int  // index; -1 if unknown
	CPU          int  // virtual CPU
	User         bool // in ring 3
	Instructions uint64
	TouchedBytes uint64 // of pages that were touched here first
	Nanos        int64  // host time that the samples stand for
	Count        uint64 // how many samples were taken here, of a sampled profile
}

// Instructions is the sum over all samples.
func (p *Profile) Instructions() uint64 {
	var n uint64
	for i := range p.Samples {
		n += p.Samples[i].Instructions
	}
	return n
}

// CheckValid says which part of a profile refers to something that is not there.
func (p *Profile) CheckValid() error {
	if p.Kind != Exact && p.Kind != Sampled {
		return fmt.Errorf("profile of kind %q", p.Kind)
	}
	if p.PeriodNanos < 0 || p.PeriodNanos > maxNanos {
		return fmt.Errorf("a period of %d ns", p.PeriodNanos)
	}
	for i, l := range p.Locations {
		if l.Mapping < -1 || l.Mapping >= len(p.Mappings) {
			return fmt.Errorf("location %d: no mapping %d", i, l.Mapping)
		}
		for _, line := range l.Lines {
			if line.Function < 0 || line.Function >= len(p.Functions) {
				return fmt.Errorf("location %d: no function %d", i, line.Function)
			}
		}
	}
	for i, s := range p.Stacks {
		if i == 0 {
			if s.Parent != 0 || s.Location != -1 {
				return fmt.Errorf("the first stack is not the root")
			}
		} else if s.Parent < 0 || s.Parent >= i || s.Location < 0 || s.Location >= len(p.Locations) {
			return fmt.Errorf("stack %d: parent %d, location %d", i, s.Parent, s.Location)
		}
	}
	for i, s := range p.Samples {
		if s.Stack < 0 || s.Stack >= len(p.Stacks) || s.Phase < -1 || s.Phase >= len(p.Phases) || s.CPU < 0 {
			return fmt.Errorf("sample %d: stack %d, phase %d, CPU %d", i, s.Stack, s.Phase, s.CPU)
		}
		if s.Nanos < 0 || s.Nanos > maxNanos {
			return fmt.Errorf("sample %d: %d ns", i, s.Nanos)
		}
	}
	return nil
}
