package profile

import (
	"slices"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// Top is what a profile says of the functions that used most.
type Top struct {
	Kind  boottrace.ProfileKind `json:"kind"`
	Unit  string                `json:"unit"`  // of the numbers: instructions, nanoseconds or samples
	Total uint64                `json:"total"` // of the whole profile
	Named uint64                `json:"named"` // how much of it has a function's name

	Functions []TopFunction `json:"functions,omitempty"` // most by themselves first
	Phases    []TopPhase    `json:"phases,omitempty"`    // in the order of the boot
	// Touched are the functions that touched most memory first, in bytes.
	Touched []TopFunction `json:"touched,omitempty"`
}

// TopPhase is a phase's part.
type TopPhase struct {
	Name      string        `json:"name"`
	Total     uint64        `json:"total"`
	Functions []TopFunction `json:"functions"`
}

// TopFunction is a function with what it used.
type TopFunction struct {
	Name  string `json:"name"`
	Self  uint64 `json:"self"`
	Total uint64 `json:"total"` // with all that it called
}

// NewTop returns the first n functions of a profile, and of each of its phases. It is nil without a profile.
func NewTop(p *boottrace.Profile, n int) *Top {
	if p == nil {
		return nil
	}
	t := &Top{Kind: p.Kind}
	var value func(*boottrace.Sample) uint64
	t.Unit, value = weight(p)
	c := newCalls(p)
	// A column for each phase, for no phase, for all, and for touched bytes.
	all := len(p.Phases) + 1
	uses := c.uses(all+2, func(s *boottrace.Sample, into []uint64) {
		v := value(s)
		phase := s.Phase
		if phase < 0 {
			phase = len(p.Phases)
		}
		into[phase], into[all], into[all+1] = v, v, s.TouchedBytes
	})
	functions := func(column int) []TopFunction {
		var fs []TopFunction
		for _, u := range c.top(uses, column, n) {
			fs = append(fs, TopFunction{c.names[u.frame], u.self[column], u.total[column]})
		}
		return fs
	}
	totals := make([]uint64, len(p.Phases)+1)
	for i := range p.Samples {
		s := &p.Samples[i]
		v := value(s)
		t.Total += v
		if s.Phase >= 0 {
			totals[s.Phase] += v
		}
	}
	for _, u := range uses {
		if c.known[u.frame] {
			t.Named += u.self[all]
		}
	}
	t.Functions, t.Touched = functions(all), functions(all+1)
	for i, name := range p.Phases {
		if totals[i] > 0 {
			t.Phases = append(t.Phases, TopPhase{name, totals[i], functions(i)})
		}
	}
	return t
}

// weight returns what a profile's samples are weighed by, and its unit.
func weight(p *boottrace.Profile) (unit string, value func(*boottrace.Sample) uint64) {
	switch {
	case p.Kind == boottrace.Exact:
		return "instructions", func(s *boottrace.Sample) uint64 { return s.Instructions }
	case slices.ContainsFunc(p.Samples, func(s boottrace.Sample) bool { return s.Nanos > 0 }):
		return "nanoseconds", func(s *boottrace.Sample) uint64 { return uint64(s.Nanos) }
	}
	return "samples", func(s *boottrace.Sample) uint64 { return s.Count }
}
