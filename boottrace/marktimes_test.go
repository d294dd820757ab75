package boottrace

import (
	"slices"
	"testing"
)

func TestMarkTimes(t *testing.T) {
	run := native(100)
	run.Marks[1].HostNanos += 5 * ms // seen late
	run.Marks[2].TSC = 0             // not noted
	if got, want := run.MarkTimes(), []float64{30 * ms, 40 * ms, 50 * ms, 60 * ms, 100 * ms, 105 * ms}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	run.Guest = nil
	for i := range run.Marks {
		run.Marks[i].TSC = 0
	}
	if got := run.MarkTimes(); got[1] != 45*ms {
		t.Errorf("without a clock: %v", got)
	}
}
