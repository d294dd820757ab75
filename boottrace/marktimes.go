package boottrace

// MarkTimes returns when the marks of a timed run were written, in nanoseconds since t0: by the guest's own clock where it noted
// the time, or else when the host saw them; 0 is unknown.
func (run *Run) MarkTimes() []float64 {
	clock, aligned := run.guestClock()
	times := make([]float64, len(run.Marks))
	for i, m := range run.Marks {
		times[i] = float64(m.HostNanos)
		if aligned && m.TSC > 0 {
			times[i] = clock.nanos(m.TSC)
		}
	}
	return times
}
