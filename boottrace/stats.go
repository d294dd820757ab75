package boottrace

import (
	"math"
	"slices"
)

// Stats sums up the same measurement of several runs.
type Stats struct {
	Runs                  int
	Min, Median, P95, Max float64
}

// NewStats returns the statistics of values, which it does not change; ok is false when there are none. The median of an
// even number of values is the mean of the middle two; P95 is the smallest value that at least 95 % of them do not exceed.
func NewStats(values []float64) (s Stats, ok bool) {
	n := len(values)
	if n == 0 {
		return Stats{}, false
	}
	v := slices.Sorted(slices.Values(values))
	lo, hi := middle(n)
	return Stats{
		Runs:   n,
		Min:    v[0],
		Median: v[lo]/2 + v[hi]/2,
		P95:    v[int(math.Ceil(0.95*float64(n)))-1],
		Max:    v[n-1],
	}, true
}

// middle returns the indices of the two middle ones of n sorted values; they are the same when n is odd.
func middle(n int) (lo, hi int) { return (n - 1) / 2, n / 2 }
