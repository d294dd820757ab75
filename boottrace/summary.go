package boottrace

// Summary is what a recording says about the boots as a whole. A nil field was not measured.
type Summary struct {
	TotalNanos   *Stats // t0 to ready, of the timed runs
	FloorNanos   *Stats // t0 to exit, of the floor guest
	Instructions *Stats // to ready, of the counting runs
	TouchedBytes *Stats // of the timed runs, or of the counting runs where there are no others
	PSSBytes     *Stats // likewise
	Phases       []Phase
}

// Summarize sums up the recording.
func (r *Recording) Summarize() Summary {
	timed, counting := r.Of(Timed), r.Of(Counting)
	either := func(value func(*Run) float64) *Stats {
		if s := statsOf(timed, value); s != nil {
			return s
		}
		return statsOf(counting, value)
	}
	ready := func(run *Run) float64 { return float64(run.ReadyNanos) }
	return Summary{
		TotalNanos:   statsOf(timed, ready),
		FloorNanos:   statsOf(r.Of(Floor), ready),
		Instructions: statsOf(counting, func(run *Run) float64 { return float64(run.Instructions) }),
		TouchedBytes: either(func(run *Run) float64 { return float64(run.TouchedBytes) }),
		PSSBytes:     either(func(run *Run) float64 { return float64(run.PSSBytes) }),
		Phases:       r.Phases(),
	}
}

// statsOf returns the statistics of the runs that have the value, or nil when none has.
func statsOf(runs []*Run, value func(*Run) float64) *Stats {
	var values []float64
	for _, run := range runs {
		if v := value(run); v > 0 {
			values = append(values, v)
		}
	}
	s, ok := NewStats(values)
	if !ok {
		return nil
	}
	return &s
}
