package boottrace

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// Phase is a part of a boot. Phases lie end to end from t0 to ready, and their times add up to the total.
type Phase struct {
	// Name is vmm, firmware, kernel or app; or several of them joined by "+" where the boundary cannot be seen.
	Name  string
	Nanos float64
	// Instructions are the guest's. Counted is false when they are not known, and in the VMM, which is not the guest.
	Instructions float64
	Counted      bool
	// Steps divide the phase at the marks that lie in it; there are none when no mark does.
	Steps []Step
}

// Step is a part of a phase: from the mark before it, or the phase's start, to the next one.
type Step struct {
	Name         string // "to LABEL" of the mark that ends it; or the label of the mark that begins it, if that is an initcall's
	Nanos        float64
	Instructions float64
	Counted      bool
}

// The phases, in order.
const (
	vmm = iota
	firmware
	kernel
	app

	noPhase = -1
)

var phaseNames = []string{"vmm", "firmware", "kernel", "app"}

// point is an instant of a boot.
type point struct {
	label string  // the mark's, or "" of a boundary without a mark
	n     int     // how many points before it have the same label
	ends  int     // the phase that ends here, or noPhase
	ready bool    // this is the last
	at    float64 // nanoseconds since t0 in a timed run, instructions in a counting run

	instructions float64
	counted      bool
}

// MedianRuns returns the timed runs whose total is the median: one, or two when the number of runs is even.
func (r *Recording) MedianRuns() []*Run {
	return medianRuns(r.Of(Timed), func(run *Run) uint64 { return uint64(run.ReadyNanos) })
}

// medianRuns leaves out the runs that have no value.
func medianRuns(runs []*Run, value func(*Run) uint64) []*Run {
	runs = slices.DeleteFunc(runs, func(r *Run) bool { return value(r) == 0 })
	if len(runs) == 0 {
		return nil
	}
	slices.SortStableFunc(runs, func(a, b *Run) int { return cmp.Compare(value(a), value(b)) })
	lo, hi := middle(len(runs))
	return runs[lo : hi+1]
}

// Phases returns the phases of the median boot: of the timed run whose total is the median, or the mean of the two in the
// middle. So they add up to the median total, as medians taken phase by phase would not. Instructions are those of the
// median counting run.
func (r *Recording) Phases() []Phase {
	pts := meanPoints(r.MedianRuns())
	counts := meanPoints(medianRuns(r.Of(Counting), func(run *Run) uint64 { return run.Instructions }))
	for i, p := range pts {
		if q := findPoint(counts, p); q != nil {
			pts[i].instructions, pts[i].counted = q.at, true
		}
	}
	return layOut(pts)
}

// findPoint returns the point of pts that is the same as p, or nil.
func findPoint(pts []point, p point) *point {
	i := slices.IndexFunc(pts, func(q point) bool { return p.ready == q.ready && (p.ready || p.label == q.label && p.n == q.n) })
	if i < 0 {
		return nil
	}
	return &pts[i]
}

// meanPoints returns the points that all runs have, at their mean.
func meanPoints(runs []*Run) []point {
	if len(runs) == 0 {
		return nil
	}
	pts := runs[0].points()
	for _, run := range runs[1:] {
		others := run.points()
		pts = slices.DeleteFunc(pts, func(p point) bool { return findPoint(others, p) == nil })
		for i, p := range pts {
			pts[i].at += findPoint(others, p).at
		}
	}
	for i := range pts {
		pts[i].at /= float64(len(runs))
	}
	return pts
}

// layOut makes phases of the points of a boot, which are in order and end with ready.
func layOut(pts []point) []Phase {
	var phases []Phase
	var steps []Step
	next := vmm                   // the first phase that has not ended yet
	start := point{counted: true} // of the phase; at t0 the guest has executed nothing
	from := start                 // of the step
	for _, p := range pts {
		if p.label != "" {
			steps = append(steps, Step{
				Name:         stepName(from.label, p.label),
				Nanos:        p.at - from.at,
				Instructions: p.instructions - from.instructions,
				Counted:      from.counted && p.counted,
			})
			from = p
		}
		if p.ready {
			p.ends = max(p.ends, next) // whatever the guest's marks say, the boot ends here
		}
		if p.ends < next {
			continue
		}
		if p.ends == vmm {
			p.counted = true // the guest has still executed nothing
		}
		phase := Phase{
			Name:         strings.Join(phaseNames[next:p.ends+1], "+"),
			Nanos:        p.at - start.at,
			Instructions: p.instructions - start.instructions,
			Counted:      start.counted && p.counted && p.ends > vmm,
		}
		if len(steps) > 1 {
			phase.Steps = steps
		}
		phases = append(phases, phase)
		next, start, from, steps = p.ends+1, p, p, nil
	}
	return phases
}

// InitcallPrefix begins the names of the marks at which Linux calls its initcalls.
const InitcallPrefix = "initcall "

// stepName names the part of a phase between two marks.
func stepName(from, to string) string {
	switch {
	case strings.HasPrefix(from, InitcallPrefix):
		return from
	case strings.HasPrefix(to, InitcallPrefix):
		return "to the initcalls"
	}
	return "to " + to
}

// points returns the instants of a run up to ready, which is the last. They never go back: the host may see a mark late,
// and puts it where the one before it was.
func (run *Run) points() []point {
	var pts []point
	seen := make(map[string]int)
	last := 0.0
	add := func(label string, ends int, at float64) {
		last = max(last, at)
		pts = append(pts, point{label: label, n: seen[label], ends: ends, at: last})
		seen[label]++
	}
	ready := float64(run.ReadyNanos)
	if run.Kind == Counting {
		ready = float64(run.Instructions)
	}
	clock, aligned := run.guestClock()
	if aligned && clock.start < ready {
		add("", vmm, clock.start)
	}
	readyAt := run.readyMark()
	for i, m := range run.Marks {
		at := float64(m.HostNanos)
		switch {
		case run.Kind == Counting:
			at = float64(m.Instructions)
		case aligned && m.TSC > 0:
			at = clock.nanos(m.TSC)
		}
		if i == readyAt {
			break
		}
		switch {
		case at <= 0 || at > ready:
		case m.ends() == vmm:
			add("", vmm, at)
		default:
			add(m.Label(), m.ends(), at)
		}
	}
	add(run.readyLabel(), run.readyPhase(), ready)
	pts[len(pts)-1].ready = true
	return pts
}

// ends returns the phase that ends at the mark.
func (m Mark) ends() int {
	switch m.ID {
	case MarkReset:
		return vmm
	case abi.MarkEntry:
		return firmware
	case abi.MarkApp, MarkOSv:
		return kernel
	}
	return noPhase
}

// IsReady reports whether a boot that runs until the given condition is ready at the mark.
func (m Mark) IsReady(until string) bool {
	switch until {
	case UntilEntry:
		return m.ends() == kernel
	case UntilOutput:
		return m.ID == abi.MarkOutput
	case UntilExit:
		return false
	}
	name, ok := strings.CutPrefix(until, UntilMark)
	return ok && m.Label() == name
}

// readyMark returns the index of the mark that made the run ready, or -1 when none did.
func (run *Run) readyMark() int {
	return slices.IndexFunc(run.Marks, func(m Mark) bool { return m.IsReady(run.Until) })
}

func (run *Run) readyLabel() string {
	if i := run.readyMark(); i >= 0 {
		return run.Marks[i].Label()
	}
	return run.Until
}

// readyPhase returns the phase in which a run became ready: the last one that it has.
func (run *Run) readyPhase() int {
	before := run.Marks
	if i := run.readyMark(); i >= 0 {
		if ends := run.Marks[i].ends(); ends != noPhase {
			return ends
		}
		before = run.Marks[:i]
	}
	if run.Until == UntilExit || slices.ContainsFunc(before, func(m Mark) bool { return m.ends() == kernel }) {
		return app
	}
	return kernel
}

// guestClock puts the guest's clock on the host's time line.
type guestClock struct {
	start float64 // when the guest's TSC was zero, in nanoseconds since t0
	hz    float64
}

// nanos returns the host's time of a TSC value, in nanoseconds since t0.
func (c guestClock) nanos(tsc uint64) float64 { return c.start + float64(tsc)/c.hz*1e9 }

// guestClock returns the clock of a timed run. VMMs start the guest's TSC at zero when its vCPU starts, so the clock's
// start is the first instruction of the firmware. The host sees each mark some time after the guest wrote it, on a busy
// host a millisecond or more, and never before: so the mark that came through soonest says where the clock started, and
// the guest's own note of a mark's time is then better than the host's.
func (run *Run) guestClock() (c guestClock, ok bool) {
	c.hz, ok = run.TSCHz()
	if !ok || run.Kind != Timed {
		return c, false
	}
	c.start = math.Inf(1)
	for _, m := range run.Marks {
		if m.TSC > 0 && m.HostNanos > 0 {
			c.start = min(c.start, float64(m.HostNanos)-float64(m.TSC)/c.hz*1e9)
		}
	}
	// A clock that had run before t0 was not started by this boot.
	return c, c.start > 0 && !math.IsInf(c.start, 0)
}

// SetReady sets ReadyNanos, for which it is given when the host saw that the run was ready: if a mark said so, and the
// guest noted its time, that is what counts. It is called after SetRecord.
func (run *Run) SetReady(hostNanos int64) {
	run.ReadyNanos = hostNanos
	clock, aligned := run.guestClock()
	if i := run.readyMark(); aligned && i >= 0 && run.Marks[i].TSC > 0 {
		if at := clock.nanos(run.Marks[i].TSC); at < float64(hostNanos) { // which a damaged record may put beyond int64
			run.ReadyNanos = int64(math.Round(at))
		}
	}
}

// lateNanos is how late the host may see a mark without doubt being cast on the clocks: 25 ms.
const lateNanos = 25e6

// TSCHz returns the frequency of the guest's clock: what the guest measured; or else the host's, unless the marks speak
// against it; or else what the marks show against the host's clock, if they lie a millisecond apart. A busy host may see
// any mark late, so marks do not speak against a frequency by which the clock started after t0 if they are closer together
// on the host's clock, which saw the first one late, or if by their own frequency it would have started before t0.
func (run *Run) TSCHz() (hz float64, ok bool) {
	if run.Guest != nil && run.Guest.TSCHz > 0 {
		return float64(run.Guest.TSCHz), true
	}
	var both []Mark
	for _, m := range run.Marks {
		if m.TSC > 0 && m.HostNanos > 0 {
			both = append(both, m)
		}
	}
	if len(both) == 0 {
		return 0, false
	}
	a, b := both[0], both[len(both)-1]
	if b.TSC < a.TSC || b.HostNanos < a.HostNanos {
		return 0, false
	}
	ticks, nanos := float64(b.TSC-a.TSC), float64(b.HostNanos-a.HostNanos)
	if run.HostTSCHz > 0 {
		hz = float64(run.HostTSCHz)
		diff := ticks/hz*1e9 - nanos
		switch started := startedBy(a, hz) && startedBy(b, hz); {
		case math.Abs(diff) < lateNanos || math.Abs(diff) < 0.2*nanos:
			return hz, true
		case started && (diff > 0 || !startedBy(a, ticks/nanos*1e9)):
			return hz, true
		}
	}
	if ticks == 0 || nanos < 1e6 {
		return 0, false
	}
	return ticks / nanos * 1e9, true
}

// startedBy reports whether a clock of the frequency hz that shows the mark's TSC when the host sees the mark was zero at t0 or later.
func startedBy(m Mark, hz float64) bool {
	return float64(m.TSC)/hz*1e9 <= float64(m.HostNanos)
}
