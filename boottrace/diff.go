package boottrace

import (
	"math"
	"slices"
)

// Comparison says how a measurement of two sets of runs differs. Nothing is assumed of how the values are distributed: boots have
// long tails, and a busy host shifts them.
type Comparison struct {
	A, B Stats

	// Shift is by how much B is above A: the Hodges-Lehmann estimate, which is the median of all differences between a value of B and
	// one of A. Low and High are the ends of its 95 % confidence interval; both are Shift when there are too few runs for one.
	Shift, Low, High float64
	// P is the two-sided probability that sets of the same source differ at least as much: the Mann-Whitney test's.
	P float64
	// Enough tells whether there are enough runs for P to be less than Alpha whatever they are: four and four are.
	Enough bool
}

// Alpha is how small P has to be for a difference to be significant.
const Alpha = 0.05

// Significant reports whether the sets differ by more than chance.
func (c *Comparison) Significant() bool { return c.Enough && c.P < Alpha }

// Compare compares two sets of values, which it does not change; ok is false when one is empty.
func Compare(a, b []float64) (c Comparison, ok bool) {
	var okA, okB bool
	c.A, okA = NewStats(a)
	c.B, okB = NewStats(b)
	if !okA || !okB {
		return c, false
	}
	c.P, c.Enough = MannWhitney(a, b)
	c.Shift, c.Low, c.High = HodgesLehmann(a, b)
	return c, true
}

// maxExact is how many values there may be for the test's exact distribution; beyond it the normal one is as good.
const maxExact = 60

// MannWhitney returns the two-sided p of the Mann-Whitney U test of two sets of values. Of up to 60 values it is exact, ties
// included: the share of all ways to choose as many of the values whose rank sum is as far from its mean; beyond that it is the
// normal approximation, corrected for ties and continuity. enough tells whether p could be less than Alpha at all.
func MannWhitney(a, b []float64) (p float64, enough bool) {
	n, m := len(a), len(b)
	if n == 0 || m == 0 {
		return 1, false
	}
	ways := choices(n, m)
	enough = 2/ways < Alpha
	ranks, sum, ties := rank(a, b)
	if n+m <= maxExact {
		return exactP(ranks, sum, n, m), enough
	}
	return normalP(sum, ties, n, m), enough
}

// choices is in how many ways n of n+m can be chosen.
func choices(n, m int) float64 {
	ways := 1.0
	for i := range n {
		ways *= float64(m+i+1) / float64(i+1)
	}
	return ways
}

// exactP is the share of the choices of n ranks whose sum is at least as far from its mean as the given one.
func exactP(ranks []int, sum, n, m int) float64 {
	mean := n * (n + m + 1)
	far := max(sum-mean, mean-sum)
	found := 0.0
	for s, c := range rankSums(ranks, n) {
		if s-mean >= far || mean-s >= far {
			found += c
		}
	}
	return min(1, found/choices(n, m))
}

// normalP is about the same for many ranks.
func normalP(sum int, ties float64, n, m int) float64 {
	total := float64(n + m)
	variance := float64(n) * float64(m) / 12 * (total + 1 - ties/(total*(total-1)))
	if variance <= 0 { // all values are the same
		return 1
	}
	far := math.Abs(float64(sum-n*(n+m+1))) / 2 // ranks are doubled
	return math.Erfc(max(0, far-0.5) / math.Sqrt(2*variance))
}

// rank returns twice the ranks of all values, so that those of ties are whole too, the sum of those of a, and the sum of t³-t over all groups of t equal values.
func rank(a, b []float64) (ranks []int, sum int, ties float64) {
	type value struct {
		v   float64
		ofA bool
	}
	all := make([]value, 0, len(a)+len(b))
	for _, v := range a {
		all = append(all, value{v, true})
	}
	for _, v := range b {
		all = append(all, value{v, false})
	}
	slices.SortStableFunc(all, func(x, y value) int {
		switch {
		case x.v < y.v:
			return -1
		case x.v > y.v:
			return 1
		}
		return 0
	})
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].v == all[i].v {
			j++
		}
		t := float64(j - i)
		ties += t*t*t - t
		for k := i; k < j; k++ {
			ranks = append(ranks, i+j+1)
			if all[k].ofA {
				sum += i + j + 1
			}
		}
		i = j
	}
	return ranks, sum, ties
}

// rankSums returns in how many ways n of the ranks have each sum.
func rankSums(ranks []int, n int) []float64 {
	total := 0
	for _, r := range ranks {
		total += r
	}
	ways := make([][]float64, n+1) // by how many were chosen
	for i := range ways {
		ways[i] = make([]float64, total+1)
	}
	ways[0][0] = 1
	for seen, r := range ranks {
		for k := min(seen+1, n); k > 0; k-- {
			for s := total; s >= r; s-- {
				ways[k][s] += ways[k-1][s-r]
			}
		}
	}
	return ways[n]
}

// maxPairs bounds the values of each set whose differences are looked at.
const maxPairs = 2000

// HodgesLehmann returns the Hodges-Lehmann estimate of how far b is above a, with its 95 % confidence interval, which is the one
// that belongs to the Mann-Whitney test. With too few values for an interval both ends are the estimate; so they are without any.
func HodgesLehmann(a, b []float64) (shift, low, high float64) {
	a, b = thin(a), thin(b)
	n, m := len(a), len(b)
	if n == 0 || m == 0 {
		return 0, 0, 0
	}
	diffs := make([]float64, 0, n*m)
	for _, x := range a {
		for _, y := range b {
			diffs = append(diffs, y-x)
		}
	}
	slices.Sort(diffs)
	i, j := middle(len(diffs))
	shift = diffs[i]/2 + diffs[j]/2
	k := 0 // how many differences are cut off at either end
	if n+m <= maxExact {
		ranks := make([]int, n+m)
		for i := range ranks {
			ranks[i] = i + 1
		}
		counts := rankSums(ranks, n)
		ways, below := 0.0, 0.0
		for _, c := range counts {
			ways += c
		}
		for s := n * (n + 1) / 2; ; s++ { // U is the rank sum less its least value
			if below += counts[s]; below/ways > Alpha/2 {
				break
			}
			k++
		}
	} else {
		nm := float64(n) * float64(m)
		k = int(math.Floor(nm/2 - 1.959964*math.Sqrt(nm*float64(n+m+1)/12)))
	}
	if k < 1 {
		return shift, shift, shift
	}
	return shift, diffs[k-1], diffs[len(diffs)-k]
}

// thin returns at most maxPairs of the values, spread over them all.
func thin(values []float64) []float64 {
	if len(values) <= maxPairs {
		return values
	}
	sorted := slices.Sorted(slices.Values(values))
	some := make([]float64, maxPairs)
	for i := range some {
		some[i] = sorted[i*len(sorted)/maxPairs]
	}
	return some
}
