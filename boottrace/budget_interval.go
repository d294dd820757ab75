package boottrace

import (
	"math"
	"slices"
)

// Interval is where a figure of all boots lies, as some of them tell. An end that there are too few boots for is infinite.
type Interval struct {
	Estimate, Low, High float64
}

// MedianInterval returns the interval of the median of what values were drawn from: the chance that it is below Low is at most low,
// and that it is above High at most high. The ends are values, chosen by the sign test: nothing is assumed of the distribution.
func MedianInterval(values []float64, low, high float64) Interval {
	v := slices.Sorted(slices.Values(values))
	i, j := middle(len(v))
	in := Interval{v[i]/2 + v[j]/2, math.Inf(-1), math.Inf(1)}
	if k := signs(len(v), low); k > 0 {
		in.Low = v[k-1]
	}
	if k := signs(len(v), high); k > 0 {
		in.High = v[len(v)-k]
	}
	return in
}

// signs is the greatest k such that of n values fewer than k are below the median with a chance of at most alpha.
func signs(n int, alpha float64) int {
	ln := func(x int) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
	below := 0.0
	for k := range n {
		below += math.Exp(ln(n) - ln(k) - ln(n-k) - float64(n)*math.Ln2)
		if below > alpha {
			return k
		}
	}
	return n
}

// ShiftInterval returns the interval of how far b lies above a: the Hodges-Lehmann estimate, with ends by the rank-sum test, each
// with a chance of its own as those of MedianInterval.
func ShiftInterval(a, b []float64, low, high float64) Interval {
	a, b = thin(a), thin(b)
	diffs := make([]float64, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			diffs = append(diffs, y-x)
		}
	}
	slices.Sort(diffs)
	i, j := middle(len(diffs))
	in := Interval{diffs[i]/2 + diffs[j]/2, math.Inf(-1), math.Inf(1)}
	if k := ranksOff(len(a), len(b), low); k > 0 {
		in.Low = diffs[k-1]
	}
	if k := ranksOff(len(a), len(b), high); k > 0 {
		in.High = diffs[len(diffs)-k]
	}
	return in
}

// ranksOff is the greatest k such that fewer than k differences between n and m values are below their median with a chance of at
// most alpha. Beyond 60 values it is the normal approximation, which errs to the safe side in the tails.
func ranksOff(n, m int, alpha float64) int {
	if n+m > maxExact {
		nm := float64(n) * float64(m)
		z := math.Sqrt2 * math.Erfinv(1-2*alpha)
		return max(0, int(math.Floor(nm/2-z*math.Sqrt(nm*float64(n+m+1)/12))))
	}
	// In how many ways u of the differences can be below zero is the coefficient of q^u in the product of (1-q^(m+i))/(1-q^i) over
	// i from 1 to n. Those of low powers, which count here, come out exact.
	c := make([]float64, n*m+1)
	c[0] = 1
	for i := 1; i <= n; i++ {
		for u := n * m; u >= m+i; u-- {
			c[u] -= c[u-m-i]
		}
		for u := i; u <= n*m; u++ {
			c[u] += c[u-i]
		}
	}
	ways, below := choices(n, m), 0.0
	for k := range c {
		if below += c[k]; below/ways > alpha {
			return k
		}
	}
	return n * m
}
