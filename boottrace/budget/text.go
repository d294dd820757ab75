package budget

import (
	"fmt"
	"math"
)

// amount formats an amount of a metric.
func (m Metric) amount(v float64) string {
	switch m {
	case Time:
		return fmt.Sprintf("%.2f ms", v/1e6)
	case Instructions:
		return fmt.Sprintf("%.0f", v)
	case Symbols:
		return fmt.Sprintf("%.2f %%", v)
	}
	if math.Abs(v) < 1<<20 {
		return fmt.Sprintf("%.0f bytes", v)
	}
	return fmt.Sprintf("%.2f MiB", v/(1<<20))
}

// figure formats one of the figures that the limit is compared with.
func (l *Limit) figure(v float64) string {
	sign := "+"
	if v < 0 {
		sign = "-"
	}
	switch {
	case l.Reference == None:
		return l.Metric.amount(v)
	case !l.ratio():
		return fmt.Sprintf("%s %s %s", l.Reference, sign, l.Metric.amount(math.Abs(v)))
	case l.Reference == Floor:
		return fmt.Sprintf("floor * %.2f", v)
	}
	p := 100 * (v - 1)
	if p <= -0.005 {
		return fmt.Sprintf("baseline - %.2f %%", -p)
	}
	p = max(p, 0)
	return fmt.Sprintf("baseline + %.2f %%", p)
}

// MeasuredText is the measure for people, with the absolute one if the limit is relative; "-" without one.
func (r *Result) MeasuredText() string {
	switch {
	case r.Verdict == Unmeasured:
		return "-"
	case r.Reference == None:
		return r.figure(r.Measured)
	}
	return fmt.Sprintf("%s (%s)", r.figure(r.Measured), r.Metric.amount(r.Value))
}

// IntervalText is the interval for people, "-" without one.
func (r *Result) IntervalText() string {
	if r.Verdict == Unmeasured || r.Low == r.High {
		return "-"
	}
	return r.figure(r.Low) + " … " + r.figure(r.High)
}

// RunsText says how many boots were looked at; "" of what is no boot's.
func (r *Result) RunsText() string {
	switch r.Runs {
	case 0:
		return ""
	case 1:
		return "one boot"
	}
	return fmt.Sprintf("%d boots", r.Runs)
}

// Sentence says what became of the limit.
func (r *Result) Sentence() string {
	of := ""
	if runs := r.RunsText(); runs != "" {
		of = " (" + runs + ")"
	}
	switch r.Verdict {
	case Pass:
		return fmt.Sprintf("%s is within %s: %s%s", r.Key, r.Text, r.MeasuredText(), of)
	case Fail:
		return fmt.Sprintf("%s is %s, beyond the limit %s%s", r.Key, r.MeasuredText(), r.Text, of)
	case Undecided:
		return fmt.Sprintf("%s is undecided: %s, within %s; the limit is %s: %s", r.Key, r.MeasuredText(), r.IntervalText(), r.Text, r.Why)
	}
	return fmt.Sprintf("%s %s could not be measured: %s", r.Key, r.Text, r.Why)
}

// Unit is the unit of the limit's figures for programs, and what they are divided by to be in it.
func (l *Limit) Unit() (name string, scale float64) {
	switch {
	case l.ratio():
		return "ratio", 1
	case l.Metric == Time:
		return "ms", 1e6
	case l.Metric == Instructions:
		return "instructions", 1
	case l.Metric == Symbols:
		return "percent", 1
	}
	return "bytes", 1
}
