package budget

import (
	"fmt"
	"math"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/profile"
)

// Verdict is what became of a limit.
type Verdict string

// The verdicts.
const (
	Pass       Verdict = "pass"
	Fail       Verdict = "fail"
	Undecided  Verdict = "undecided"  // the boots do not tell: more of them, or a quieter host, may
	Unmeasured Verdict = "unmeasured" // what is limited was not measured at all
)

// How likely a gate errs. docs/budgets.md has the reasons.
const (
	// FalseAlarm is the chance that a gate fails although no limit is exceeded: shared out among its limits of time, and among the
	// looks at the boots so far.
	FalseAlarm = 0.001
	// FalsePass is the chance that a limit of time that is exceeded passes, shared out among the looks.
	FalsePass = 0.05
)

// few is how far the median is taken to be from any of n boots, a factor, when they are too few for an end of the interval that has
// the chance alpha: 3 without any, and less the closer n comes to enough.
func few(n int, alpha float64) float64 {
	return max(1, math.Pow(3, 1-float64(n)*math.Ln2/math.Log(1/alpha)))
}

// spread is how much a measure of the same image varies between boots, relative: what is read into a comparison with a baseline.
var spread = map[Metric]float64{Instructions: 1e-3, Touched: 1e-2, RSS: 2e-2, PSS: 15e-2}

// Result is a limit with its verdict. The figures are in the metric's unit; of a limit that is a multiple of its reference they are
// that multiple; of a sum with its reference, what is above the reference.
type Result struct {
	*Limit
	Verdict Verdict
	Why     string // of undecided and unmeasured

	Bound     float64
	Measured  float64
	Low, High float64 // the interval; either may be infinite
	Value     float64 // the median in the metric's unit, whatever the limit is relative to
	Runs      int
}

// Over is by how much the measure is beyond the limit.
func (r *Result) Over() float64 {
	if r.Least() {
		return r.Bound - r.Measured
	}
	return r.Measured - r.Bound
}

// judge sets the verdict by the interval.
func (r *Result) judge() {
	low, high, bound := r.Low, r.High, r.Bound
	if r.Least() {
		low, high, bound = -high, -low, -bound
	}
	switch {
	case low > bound:
		r.Verdict = Fail
	case high <= bound:
		r.Verdict = Pass
	default:
		r.Verdict = Undecided
	}
}

// Side is a recording, with what of it limits are about.
type Side struct {
	rec *boottrace.Recording
	top *profile.Top // of the exact profile, once it was asked for
}

// NewSide prepares a recording; nil stands for none.
func NewSide(rec *boottrace.Recording) *Side {
	if rec == nil {
		return nil
	}
	return &Side{rec: rec}
}

// Judge judges a recording by the file's limits. base is the baseline, and may be nil if no limit is relative to it. looks is how
// often the boots are looked at before a verdict is final: once, if they are all there.
func (f *File) Judge(rec, base *Side, looks int) []Result {
	timed := 0
	for i := range f.Limits {
		if f.Limits[i].Metric == Time {
			timed++
		}
	}
	var all []Result
	for i := range f.Limits {
		r := Result{Limit: &f.Limits[i], Low: math.Inf(-1), High: math.Inf(1)}
		if r.Metric == Time {
			r.times(rec, base, FalseAlarm/float64(timed*looks), FalsePass/float64(looks))
		} else {
			r.counts(rec, base)
		}
		all = append(all, r)
	}
	return all
}

func (r *Result) unmeasured(format string, args ...any) {
	r.Verdict, r.Why = Unmeasured, fmt.Sprintf(format, args...)
}

// counts judges what is counted: it is what it is in one boot, up to the spread.
func (r *Result) counts(rec, base *Side) {
	// Counting boots first: they touch the same memory each time. Boots of different kinds are not compared.
	kind := boottrace.Counting
	values, why := rec.counts(r.Limit, kind)
	if others := base; r.Metric == Touched || r.Metric == RSS || r.Metric == PSS {
		if r.Reference == None {
			others = rec
		}
		if v, _ := others.counts(r.Limit, kind); len(v) == 0 || len(values) == 0 {
			kind = boottrace.Timed
			values, why = rec.counts(r.Limit, kind)
		}
	}
	s, ok := boottrace.NewStats(values)
	if !ok {
		r.unmeasured("%s", why)
		return
	}
	r.Value = s.Median
	if r.Metric != ImageSize {
		r.Runs = s.Runs
	}
	if r.Reference == None {
		r.Bound, r.Measured, r.Low, r.High = r.Plus, s.Median, s.Min, s.Max
		exact := Result{Limit: r.Limit, Bound: r.Bound, Low: s.Median, High: s.Median}
		exact.judge()
		r.Verdict = exact.Verdict
		return
	}
	values, why = base.counts(r.Limit, kind)
	b, ok := boottrace.NewStats(values)
	if !ok {
		r.unmeasured("the baseline has none: %s", why)
		return
	}
	within := spread[r.Metric]
	if r.ratio() {
		r.Bound, r.Measured = r.Times, s.Median/b.Median
		r.Low, r.High = s.Min/b.Max*(1-within), s.Max/b.Min*(1+within)
	} else {
		r.Bound, r.Measured = r.Plus, s.Median-b.Median
		r.Low, r.High = s.Min-b.Max-within*b.Median, s.Max-b.Min+within*b.Median
	}
	if r.judge(); r.Verdict == Undecided {
		r.Why = fmt.Sprintf("boots of the same image differ by as much (%g %%); allow for it in the limit", 100*within)
	}
}

// counts returns the values that a limit is about, in boots of a kind if they are of boots; or why there are none.
func (s *Side) counts(l *Limit, kind boottrace.Kind) (values []float64, why string) {
	of := func(value func(*boottrace.Run) uint64) []float64 {
		var all []float64
		for _, run := range s.rec.Of(kind) {
			if v := value(run); v > 0 {
				all = append(all, float64(v))
			}
		}
		return all
	}
	switch l.Metric {
	case Instructions:
		switch {
		case len(s.rec.Of(boottrace.Counting)) == 0:
			return nil, "there is no counting boot"
		case l.Phase != "":
			return s.phases(l.Phase, boottrace.Counting)
		}
		values = of(func(r *boottrace.Run) uint64 { return r.Instructions })
		return values, "this kernel does not tell when its output starts; with --until exit the whole boot is counted"
	case Touched:
		values = of(func(r *boottrace.Run) uint64 { return r.TouchedBytes })
	case RSS:
		values = of(func(r *boottrace.Run) uint64 {
			if r.Memory == nil {
				return 0
			}
			return r.Memory.RSSBytes
		})
	case PSS:
		values = of(func(r *boottrace.Run) uint64 { return r.PSSBytes })
	case ImageSize:
		if s.rec.ImageBytes == 0 {
			return nil, "the recording does not have it: it was made by an older bootprof"
		}
		return []float64{float64(s.rec.ImageBytes)}, ""
	case Symbols:
		if s.top == nil {
			s.top = profile.NewTop(s.rec.Exact, 0)
		}
		if s.top == nil || s.top.Total == 0 {
			return nil, "there is no exact profile; bootprof qemu --profile=exact takes one"
		}
		return []float64{100 * float64(s.top.Named) / float64(s.top.Total)}, ""
	}
	return values, "no boot has it"
}

// phases returns what a phase took in each run of a kind: nanoseconds, or instructions of counting runs.
func (s *Side) phases(name string, kind boottrace.Kind) (values []float64, why string) {
	var has []string
	for _, run := range s.rec.Of(kind) {
		v, names := phase(run, name)
		if v > 0 {
			values = append(values, v)
		}
		has = names
	}
	return values, fmt.Sprintf("the %s boots have no phase %s, but %s", kind, name, strings.Join(has, ", "))
}

// phase returns what a phase took in a run, and the names of all phases that the run has.
func phase(run *boottrace.Run, name string) (value float64, names []string) {
	for _, s := range run.Spans() {
		if s.Phase == name {
			value = s.Value
		}
		names = append(names, s.Phase)
	}
	return value, names
}
