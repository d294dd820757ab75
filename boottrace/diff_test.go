package boottrace

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestMannWhitney has p values that can be counted by hand: of all choices of ranks, those at least as far from the middle.
func TestMannWhitney(t *testing.T) {
	series := func(n int, from, step float64) []float64 {
		var v []float64
		for i := range n {
			v = append(v, from+step*float64(i))
		}
		return v
	}
	for _, tt := range []struct {
		name   string
		a, b   []float64
		p      float64
		enough bool
	}{
		{"apart", []float64{1, 2, 3, 4}, []float64{5, 6, 7, 8}, 2.0 / 70, true},
		{"three and three", []float64{1, 2, 3}, []float64{5, 6, 7}, 0.1, false},
		{"one and one", []float64{1}, []float64{2}, 1, false},
		{"interleaved", []float64{1, 3, 5, 7}, []float64{2, 4, 6, 8}, 48.0 / 70, true},
		{"the same", []float64{5, 5, 5, 5}, []float64{5, 5, 5, 5}, 1, true},
		{"ties", []float64{1, 1, 2, 2}, []float64{2, 3, 3, 3}, 6.0 / 70, true},           // which of three ranks of 4 goes to which side
		{"U of 2", []float64{1, 2, 3, 4, 7}, []float64{5, 6, 8, 9, 10}, 8.0 / 252, true}, // 1, 1 and 2 ways for U of 0, 1 and 2
		{"many, the same", series(40, 0, 1), series(40, 0, 1), 1, true},
		{"many, apart", series(40, 0, 1), series(40, 100, 1), 0, true},
		{"none", nil, []float64{1}, 1, false},
	} {
		p, enough := MannWhitney(tt.a, tt.b)
		if math.Abs(p-tt.p) > 5e-4 || enough != tt.enough {
			t.Errorf("%s: p = %v, %v, want %v, %v", tt.name, p, enough, tt.p, tt.enough)
		}
		if q, _ := MannWhitney(tt.b, tt.a); math.Abs(p-q) > 1e-12 {
			t.Errorf("%s: p = %v one way, %v the other", tt.name, p, q)
		}
	}
}

// TestMannWhitneyModel counts all ways to choose.
func TestMannWhitneyModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		n, m := 1+rnd.IntN(5), 1+rnd.IntN(5)
		all := make([]float64, n+m)
		for i := range all {
			all[i] = float64(rnd.IntN(8))
		}
		ranks, sum, _ := rank(all[:n], all[n:])
		mean := n * (n + m + 1)
		ways, far := 0, 0
		for set := range 1 << (n + m) {
			s, k := 0, 0
			for i, r := range ranks {
				if set>>i&1 == 1 {
					s, k = s+r, k+1
				}
			}
			if k == n {
				ways++
				if math.Abs(float64(s-mean)) >= math.Abs(float64(sum-mean)) {
					far++
				}
			}
		}
		if p, _ := MannWhitney(all[:n], all[n:]); math.Abs(p-float64(far)/float64(ways)) > 1e-9 {
			t.Fatalf("%v and %v: p = %v, want %d/%d", all[:n], all[n:], p, far, ways)
		}
	}
}

// TestMannWhitneyNormal compares the exact distribution with the approximation, where one ends and the other begins.
func TestMannWhitneyNormal(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 3))
	for range 20 {
		a, b := make([]float64, 30), make([]float64, 30)
		for i := range a {
			a[i], b[i] = rnd.NormFloat64(), rnd.NormFloat64()+rnd.Float64()
		}
		for i := range a[:rnd.IntN(len(a))] { // ties
			a[i], b[i] = math.Round(a[i]), math.Round(b[i])
		}
		ranks, sum, ties := rank(a, b)
		if exact, near := exactP(ranks, sum, 30, 30), normalP(sum, ties, 30, 30); math.Abs(exact-near) > 0.01 {
			t.Errorf("exact %v, approximation %v", exact, near)
		}
	}
}

func TestHodgesLehmann(t *testing.T) {
	shift, low, high := HodgesLehmann([]float64{1, 2, 3, 4}, []float64{11, 12, 13, 14})
	if shift != 10 || low != 7 || high != 13 { // with four and four the interval is from the least to the greatest difference
		t.Errorf("got %v, from %v to %v", shift, low, high)
	}
	if shift, low, high := HodgesLehmann([]float64{1}, []float64{4}); shift != 3 || low != 3 || high != 3 {
		t.Errorf("one and one: %v, from %v to %v", shift, low, high)
	}
	if shift, _, _ := HodgesLehmann(nil, []float64{1}); shift != 0 {
		t.Errorf("none: %v", shift)
	}
	// The interval holds the truth as often as it says, with few values and with many.
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{6, 12, 40} {
		misses, significant := 0, 0
		const rounds = 400
		for range rounds {
			a, b, c := make([]float64, n), make([]float64, n), make([]float64, n)
			for i := range a {
				a[i], b[i], c[i] = rnd.ExpFloat64(), rnd.ExpFloat64()+2, rnd.ExpFloat64()
			}
			if _, low, high := HodgesLehmann(a, b); low > 2 || high < 2 {
				misses++
			}
			if p, _ := MannWhitney(a, c); p < Alpha {
				significant++
			}
		}
		if misses > rounds*8/100 || significant > rounds*8/100 {
			t.Errorf("%d values: %d of %d intervals miss, %d of %d tests of the same source are significant", n, misses, rounds, significant, rounds)
		}
	}
	big := make([]float64, 5000)
	for i := range big {
		big[i] = float64(i)
	}
	if shift, low, high := HodgesLehmann(big, big); math.Abs(shift) > 5 || low > 0 || high < 0 {
		t.Errorf("many: %v, from %v to %v", shift, low, high)
	}
}

func TestCompare(t *testing.T) {
	c, ok := Compare([]float64{10, 11, 12, 13, 14}, []float64{20, 21, 22, 23, 24})
	if !ok || !c.Significant() || c.Shift != 10 || c.A.Median != 12 || c.B.Median != 22 {
		t.Errorf("%+v", c)
	}
	if c, _ := Compare([]float64{1, 2, 3}, []float64{9, 9, 9}); c.Significant() || c.Enough {
		t.Errorf("three and three: %+v", c)
	}
	if _, ok := Compare(nil, []float64{1}); ok {
		t.Error("a comparison with nothing")
	}
}
