package html

import (
	"cmp"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// axis is what a chart of one boot is drawn along.
type axis struct {
	Axis   string  `json:"axis"`             // time, instructions, or order: the number of the request
	Max    float64 `json:"max"`              // where it ends
	Phases []phase `json:"phases,omitempty"` // with what each took on this axis in Nanos
	Run    int     `json:"run"`              // the boot's number, from 1
	Kind   string  `json:"boot"`             // the boot's kind
}

// memoryChart is touched memory over time.
type memoryChart struct {
	axis
	Points [][2]float64 `json:"points"` // place on the axis, bytes touched by then
}

// diskChart is the disk requests of a boot.
type diskChart struct {
	axis
	Ops      []string     `json:"ops"`
	Whats    []string     `json:"whats"`    // what lies at a request's offset; [0] is nothing known
	Requests [][7]float64 `json:"requests"` // op, disk, offset, length, place on the axis, latency, what
}

// firstRun returns the run that a chart is of, or nil: the first that has what is needed of those on the host's clock, a median
// one if there is, or else of those that count.
func firstRun(r *boottrace.Recording, has func(*boottrace.Run) bool) *boottrace.Run {
	all := slices.Concat(r.Of(boottrace.Traced), r.MedianRuns(), r.Of(boottrace.Timed), r.Of(boottrace.Counting))
	if i := slices.IndexFunc(all, has); i >= 0 {
		return all[i]
	}
	return nil
}

// spans returns what a run spent in each of its phases, on its own clock.
func spans(run *boottrace.Run) []boottrace.Span {
	if run.Kind == boottrace.Traced {
		timed := *run // its marks are as good
		timed.Kind = boottrace.Timed
		run = &timed
	}
	return run.Spans()
}

// newAxis returns an axis that begins with the boot and ends with ready, or with end if that is later. Without a clock, end is all
// that is known of it.
func newAxis(r *boottrace.Recording, run *boottrace.Run, clock string, end float64) axis {
	a := axis{Axis: clock, Max: end, Kind: string(run.Kind)}
	for i := range r.Runs {
		if &r.Runs[i] == run {
			a.Run = i + 1
		}
	}
	if clock == "order" || (clock == "instructions") != (run.Kind == boottrace.Counting) {
		return a
	}
	at := 0.0
	for _, s := range spans(run) {
		a.Phases = append(a.Phases, phase{Name: s.Phase, Tone: tone(s.Phase), Nanos: number(s.Value)})
		at += s.Value
	}
	a.Max = max(a.Max, number(at))
	return a
}

// clockOf says which of two clocks values lie on.
func clockOf(nanos, instructions bool) string {
	switch {
	case nanos:
		return "time"
	case instructions:
		return "instructions"
	}
	return "order"
}

// newMemoryCharts returns the charts of touched memory: on the host's clock, by instructions, as far as there are any.
func newMemoryCharts(r *boottrace.Recording) (charts []*memoryChart) {
	for _, counting := range []bool{false, true} {
		run := firstRun(r, func(run *boottrace.Run) bool {
			return run.Memory != nil && len(run.Memory.OverTime) > 0 && (run.Kind == boottrace.Counting) == counting
		})
		if run == nil {
			continue
		}
		c := &memoryChart{}
		over := run.Memory.OverTime
		clock := clockOf(
			slices.ContainsFunc(over, func(m boottrace.Touched) bool { return m.Nanos > 0 }),
			slices.ContainsFunc(over, func(m boottrace.Touched) bool { return m.Instructions > 0 }),
		)
		end := 0.0
		for i, m := range over {
			at := map[string]float64{"time": float64(m.Nanos), "instructions": float64(m.Instructions), "order": float64(i)}[clock]
			c.Points = append(c.Points, [2]float64{at, float64(m.Bytes)})
			end = max(end, at)
		}
		slices.SortStableFunc(c.Points, func(a, b [2]float64) int { return cmp.Compare(a[0], b[0]) })
		c.axis = newAxis(r, run, clock, end)
		charts = append(charts, c)
	}
	return charts
}

// newDiskChart returns the chart of disk requests, or nil.
func newDiskChart(r *boottrace.Recording) *diskChart {
	run := firstRun(r, func(run *boottrace.Run) bool { return len(run.IO) > 0 })
	if run == nil {
		return nil
	}
	c := &diskChart{Whats: []string{""}}
	clock := clockOf(
		slices.ContainsFunc(run.IO, func(q boottrace.Request) bool { return q.StartNanos > 0 }),
		slices.ContainsFunc(run.IO, func(q boottrace.Request) bool { return q.Instructions > 0 }),
	)
	whats := map[string]int{"": 0}
	end := 0.0
	for i := range run.IO {
		q := &run.IO[i]
		op := slices.Index(c.Ops, q.Op)
		if op < 0 {
			op = len(c.Ops)
			c.Ops = append(c.Ops, q.Op)
		}
		w := what(q)
		at, ok := whats[w]
		if !ok {
			at = len(c.Whats)
			whats[w] = at
			c.Whats = append(c.Whats, w)
		}
		start := map[string]float64{"time": float64(q.StartNanos), "instructions": float64(q.Instructions), "order": float64(i)}[clock]
		latency := float64(q.Nanos)
		c.Requests = append(c.Requests, [7]float64{float64(op), float64(q.Disk), float64(q.Offset), float64(q.Length), start, latency, float64(at)})
		switch clock {
		case "time":
			end = max(end, start+latency)
		default:
			end = max(end, start+1)
		}
	}
	c.axis = newAxis(r, run, clock, end)
	return c
}

// maxWhats is how many of a request's parts are named.
const maxWhats = 4

// what names what lies where a request reads or writes, a line each.
func what(q *boottrace.Request) string {
	var names []string
	for _, part := range q.Parts {
		name := cmp.Or(part.Path, "["+cmp.Or(part.What, "unknown")+"]")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if more := len(names) - maxWhats; more > 0 {
		names = append(names[:maxWhats], "and "+count(float64(more))+" more")
	}
	return strings.Join(names, "\n")
}
