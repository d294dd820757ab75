package boottrace

import "strings"

// Span is what one run spent in a phase: nanoseconds of a timed run, instructions of a counting run.
type Span struct {
	Phase string
	Value float64
}

// Spans returns what each phase of the run took, in their order. A counting run has no phase of the VMM, which executes nothing.
func (run *Run) Spans() []Span {
	var spans []Span
	for _, p := range layOut(run.points()) {
		name := p.Name
		if run.Kind == Counting {
			name = strings.TrimPrefix(name, phaseNames[vmm]+"+")
		}
		spans = append(spans, Span{name, p.Nanos})
	}
	return spans
}
