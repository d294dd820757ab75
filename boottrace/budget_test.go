package boottrace

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/kernel/abi"
)

func TestMedianInterval(t *testing.T) {
	values := []float64{9, 3, 1, 8, 2, 7, 4, 6, 5, 10}
	// Of ten values fewer than one is below the median once in 2^10, and fewer than two 11 times.
	for _, tt := range []struct{ alpha, low, high float64 }{
		{0.0009, math.Inf(-1), math.Inf(1)}, {1.0 / 1024, 1, 10}, {0.01, 1, 10}, {11.0 / 1024 * 1.0001, 2, 9}, {0.1, 3, 8},
	} {
		in := MedianInterval(values, tt.alpha, tt.alpha)
		if in.Estimate != 5.5 || in.Low != tt.low || in.High != tt.high {
			t.Errorf("alpha %v: %+v, want %v and %v", tt.alpha, in, tt.low, tt.high)
		}
	}
	if in := MedianInterval(values, 0.1, 0.0001); in.Low != 3 || !math.IsInf(in.High, 1) {
		t.Errorf("ends with chances of their own: %+v", in)
	}
	if values[0] != 9 {
		t.Error("the values were changed")
	}
}

func TestShiftIntervalAgrees(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{2, 3, 4, 12, 40} {
		a, b := make([]float64, n), make([]float64, n+3)
		for i := range a {
			a[i] = rnd.NormFloat64()
		}
		for i := range b {
			b[i] = rnd.NormFloat64() + 3
		}
		shift, low, high := HodgesLehmann(a, b)
		in := ShiftInterval(a, b, Alpha/2, Alpha/2)
		if n < 3 {
			if !math.IsInf(in.Low, -1) || !math.IsInf(in.High, 1) {
				t.Errorf("%d values: %+v", n, in)
			}
			continue
		}
		if in != (Interval{shift, low, high}) {
			t.Errorf("%d values: %+v, want %v within %v to %v", n, in, shift, low, high)
		}
	}
}

// TestIntervalsHold draws from a skewed distribution and counts how often the ends are wrong.
func TestIntervalsHold(t *testing.T) {
	const sets, alpha = 400, 0.05
	rnd := rand.New(rand.NewPCG(3, 4))
	draw := func(n int) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = math.Exp(rnd.NormFloat64())
		}
		return v
	}
	for _, n := range []int{10, 25, 50} {
		var median, shift [2]int
		for range sets {
			a, b := draw(n), draw(n)
			m, s := MedianInterval(a, alpha, alpha), ShiftInterval(a, b, alpha, alpha)
			for i, wrong := range []bool{m.Low > 1, m.High < 1} {
				if wrong {
					median[i]++
				}
			}
			for i, wrong := range []bool{s.Low > 0, s.High < 0} {
				if wrong {
					shift[i]++
				}
			}
		}
		most := int(sets*alpha + 4*math.Sqrt(sets*alpha))
		if slices.Max(median[:]) > most || slices.Max(shift[:]) > most {
			t.Errorf("%d values: ends are wrong %v and %v times of %d, want at most %d", n, median, shift, sets, most)
		}
	}
}

func TestSpans(t *testing.T) {
	timed := Run{Kind: Timed, Until: UntilExit, ReadyNanos: 100, Marks: []Mark{
		{ID: MarkReset, HostNanos: 10}, {ID: abi.MarkEntry, HostNanos: 30}, {ID: abi.MarkApp, HostNanos: 60},
	}}
	counting := Run{Kind: Counting, Until: UntilExit, Instructions: 1000, Marks: []Mark{
		{ID: abi.MarkEntry, Instructions: 100}, {ID: abi.MarkApp, Instructions: 600},
	}}
	for _, tt := range []struct {
		run  Run
		want []Span
	}{
		{timed, []Span{{"vmm", 10}, {"firmware", 20}, {"kernel", 30}, {"app", 40}}},
		{counting, []Span{{"firmware", 100}, {"kernel", 500}, {"app", 400}}},
		{Run{Kind: Counting, Until: UntilExit, Instructions: 7}, []Span{{"firmware+kernel+app", 7}}},
	} {
		if diff := cmp.Diff(tt.want, tt.run.Spans()); diff != "" {
			t.Error(diff)
		}
	}
}
