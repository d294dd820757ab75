package budget

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// timing is what one timed boot says of a limit of time.
type timing struct {
	nanos float64 // of the boot, or of a phase
	floor float64 // of the floor guest right before it; 0: there was none
}

// timings returns what each timed boot says, or why none does.
func (s *Side) timings(l *Limit) (all []timing, why string) {
	floor := 0.0
	var has []string
	for i := range s.rec.Runs {
		switch run := &s.rec.Runs[i]; run.Kind {
		case boottrace.Floor:
			floor = float64(run.ReadyNanos)
		case boottrace.Timed:
			v := float64(run.ReadyNanos)
			if l.Phase != "" {
				v, has = phase(run, l.Phase)
			}
			if v > 0 {
				all = append(all, timing{v, floor})
			}
			floor = 0
		}
	}
	if has != nil {
		return all, fmt.Sprintf("the timed boots have no phase %s, but %s", l.Phase, strings.Join(has, ", "))
	}
	return all, "there is no timed boot"
}

// floored returns the timings that have a floor.
func floored(all []timing) []timing {
	return slices.DeleteFunc(slices.Clone(all), func(t timing) bool { return t.floor == 0 })
}

func values(all []timing, value func(timing) float64) []float64 {
	v := make([]float64, len(all))
	for i, t := range all {
		v[i] = value(t)
	}
	return v
}

// times judges a limit of time. low and high are the chances that the interval's ends may have.
func (r *Result) times(rec, base *Side, low, high float64) {
	all, why := rec.timings(r.Limit)
	if r.Reference == Floor {
		if len(all) > 0 {
			why = "no floor was measured between the timed boots"
		}
		all = floored(all)
	}
	if len(all) == 0 {
		r.unmeasured("%s", why)
		return
	}
	nanos := values(all, func(t timing) float64 { return t.nanos })
	s, _ := boottrace.NewStats(nanos)
	r.Value, r.Runs = s.Median, s.Runs
	switch {
	case r.Reference == Baseline:
		r.againstBaseline(all, base, low, high)
	case r.ratio():
		r.Bound = r.Times
		r.interval(values(all, func(t timing) float64 { return t.nanos / t.floor }), low, high)
	case r.Reference == Floor:
		r.Bound = r.Plus
		above := func(t timing) float64 { return t.nanos - t.floor }
		r.interval(values(all, above), low, high)
		r.busy(all, above, low, high)
	default:
		r.Bound = r.Plus
		r.interval(nanos, low, high)
		r.busy(floored(all), func(t timing) float64 { return t.nanos }, low, high)
	}
	if r.Verdict == Undecided && r.Why == "" {
		r.Why = fmt.Sprintf("%d timed boots do not tell", r.Runs)
	}
}

// interval sets the interval of the values' median, and the verdict.
func (r *Result) interval(values []float64, low, high float64) {
	in := boottrace.MedianInterval(values, low, high)
	r.Measured, r.Low, r.High = in.Estimate, in.Low, in.High
	if math.IsInf(r.Low, 0) {
		least, factor := slices.Min(values), few(len(values), low)
		r.Low = min(least/factor, least*factor) // a difference may be negative
	}
	if math.IsInf(r.High, 0) {
		most, factor := slices.Max(values), few(len(values), high)
		r.High = max(most*factor, most/factor)
	}
	r.judge()
}

// busy takes back that a limit in milliseconds is exceeded, by what value gives, if it is not at the speed that the host had in the
// better boots: the lower quartile of their floors.
func (r *Result) busy(all []timing, value func(timing) float64, low, high float64) {
	if r.Verdict != Fail || len(all) == 0 {
		return
	}
	floors := slices.Sorted(slices.Values(values(all, func(t timing) float64 { return t.floor })))
	quiet := floors[len(floors)/4]
	at := *r
	at.interval(values(all, func(t timing) float64 { return value(t) / t.floor * quiet }), low, high)
	if at.Verdict != Fail {
		r.Verdict = Undecided
		r.Why = fmt.Sprintf("the host was busy: the floor took %.1f to %.1f ms, and at its better speed the boot may be within the limit", floors[0]/1e6, floors[len(floors)-1]/1e6)
	}
}

// againstBaseline judges a limit that is relative to the baseline. If both have floors, all times are first brought to the speed
// that the host had in the baseline.
func (r *Result) againstBaseline(all []timing, base *Side, low, high float64) {
	others, why := base.timings(r.Limit)
	if len(others) == 0 {
		r.unmeasured("the baseline has none: %s", why)
		return
	}
	a, b := others, all
	if x, y := floored(a), floored(b); len(x) > 0 && len(y) > 0 {
		a, b = x, y
		s, _ := boottrace.NewStats(values(a, func(t timing) float64 { return t.floor }))
		for _, side := range [][]timing{a, b} {
			for i := range side {
				side[i].nanos *= s.Median / side[i].floor
			}
		}
	}
	nanos := func(t timing) float64 { return t.nanos }
	log := func(t timing) float64 { return math.Log(t.nanos) }
	value := nanos
	if r.Bound = r.Plus; r.ratio() {
		r.Bound, value = r.Times, log
	}
	in := boottrace.ShiftInterval(values(a, value), values(b, value), low, high)
	r.Measured, r.Low, r.High = in.Estimate, in.Low, in.High
	if r.ratio() {
		r.Measured, r.Low, r.High = math.Exp(in.Estimate), math.Exp(in.Low), math.Exp(in.High)
	}
	fewer := min(len(a), len(b))
	leastA, mostA := extremes(values(a, nanos))
	leastB, mostB := extremes(values(b, nanos))
	if leastB /= few(fewer, low); math.IsInf(in.Low, 0) {
		if r.Low = leastB - mostA; r.ratio() {
			r.Low = leastB / mostA
		}
	}
	if mostB *= few(fewer, high); math.IsInf(in.High, 0) {
		if r.High = mostB - leastA; r.ratio() {
			r.High = mostB / leastA
		}
	}
	if r.judge(); r.Verdict == Undecided {
		r.Why = fmt.Sprintf("%d timed boots in the baseline and %d here do not tell", len(a), len(b))
	}
}

func extremes(values []float64) (least, most float64) { return slices.Min(values), slices.Max(values) }
