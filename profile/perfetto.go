package profile

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// MaxSpans bounds the spans of the guest's calls in a trace: viewers get slow beyond some ten thousand.
const MaxSpans = 20_000

// maxTraceRuns bounds the boots that a trace shows one by one.
const maxTraceRuns = 200

// Processes of a trace.
const (
	pidBoot  = 1 // the median boot, by the wall clock
	pidRuns  = 2 // every boot
	pidCalls = 3 // the guest's calls, by its instructions
	pidDisk  = 4 // the boot whose disk requests were traced, by the wall clock
)

// Threads of the median boot.
const (
	tidPhases = 1
	tidSteps  = 2
	tidMarks  = 3
	tidDisk   = 10 // and further ones for requests at the same time
)

// traceEvent is an event of the Trace Event Format, "JSON Object Format"; times are in microseconds.
type traceEvent struct {
	Name  string         `json:"name"`
	Phase string         `json:"ph"` // X: a span; i: an instant; C: a counter; M: a name
	Cat   string         `json:"cat,omitempty"`
	TS    float64        `json:"ts"`
	Dur   *float64       `json:"dur,omitempty"`
	PID   int            `json:"pid"`
	TID   int            `json:"tid"`
	Scope string         `json:"s,omitempty"`
	Args  map[string]any `json:"args,omitempty"`
}

// WriteTrace writes a recording as a trace for ui.perfetto.dev and chrome://tracing, in the Trace Event Format
// (docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU). Its processes are the median boot on the wall clock, with
// phases, steps, marks, disk requests and touched memory; every boot with its phases; and the guest's calls on a clock of
// instructions, of which one takes a nanosecond. There all calls by the same callers are one span, as long as they took
// together, which begins with the first of them if there is room. p is the profile of calls or nil.
func WriteTrace(w io.Writer, r *boottrace.Recording, p *boottrace.Profile) error {
	t := &trace{w: bufio.NewWriter(w)}
	about, err := json.Marshal(map[string]string{
		"image": r.Image, "flavour": r.Flavour, "accel": r.Accel, "machine": r.Machine, "firmware": r.Firmware, "vmm": r.VMM, "until": r.Until(),
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(t.w, `{"displayTimeUnit":"ms","otherData":%s,"traceEvents":[`, about)
	t.boot(r)
	t.runs(r)
	t.traced(r)
	if p != nil {
		t.calls(p)
	}
	t.memory(r)
	io.WriteString(t.w, "\n]}\n")
	return cmp.Or(t.err, t.w.Flush())
}

// trace writes events. The first error sticks.
type trace struct {
	w    *bufio.Writer // which keeps its first error
	some bool
	err  error
}

func (t *trace) event(e traceEvent) {
	b, err := json.Marshal(&e)
	if err != nil {
		t.err = cmp.Or(t.err, err)
		return
	}
	if t.some {
		t.w.WriteByte(',')
	}
	t.some = true
	t.w.WriteByte('\n')
	t.w.Write(b)
}

// micros converts nanoseconds, exact to the nanosecond.
func micros(nanos float64) float64 { return float64(round(nanos)) / 1e3 }

// span writes a span. Both ends are rounded, so that spans which lie end to end do not overlap.
func (t *trace) span(pid, tid int, cat, name string, from, to float64, args map[string]any) {
	t.event(traceEvent{Name: name, Phase: "X", Cat: cat, TS: micros(from), Dur: new(float64(round(to)-round(from)) / 1e3), PID: pid, TID: tid, Args: args})
}

// process names a process, thread one of its threads.
func (t *trace) process(pid int, name string) {
	t.event(traceEvent{Name: "process_name", Phase: "M", PID: pid, Args: map[string]any{"name": name}})
	t.event(traceEvent{Name: "process_sort_index", Phase: "M", PID: pid, Args: map[string]any{"sort_index": pid}})
}

func (t *trace) thread(pid, tid int, name string) {
	t.event(traceEvent{Name: "thread_name", Phase: "M", PID: pid, TID: tid, Args: map[string]any{"name": name}})
	t.event(traceEvent{Name: "thread_sort_index", Phase: "M", PID: pid, TID: tid, Args: map[string]any{"sort_index": tid}})
}

// boot writes the median boot.
func (t *trace) boot(r *boottrace.Recording) {
	phases := r.Phases()
	if len(phases) == 0 {
		return
	}
	t.process(pidBoot, fmt.Sprintf("boot of %s, median of %d, wall clock, %s", r.Image, len(r.Of(boottrace.Timed)), r.Accel))
	t.thread(pidBoot, tidPhases, "phases")
	t.thread(pidBoot, tidSteps, "steps")
	at := 0.0
	for _, p := range phases {
		t.span(pidBoot, tidPhases, "phase", p.Name, at, at+p.Nanos, counted(p.Counted, p.Instructions))
		from := at
		for _, s := range p.Steps {
			t.span(pidBoot, tidSteps, "step", s.Name, from, from+s.Nanos, counted(s.Counted, s.Instructions))
			from += s.Nanos
		}
		at += p.Nanos
	}
	if runs := r.MedianRuns(); len(runs) > 0 {
		t.thread(pidBoot, tidMarks, "marks")
		for i, at := range runs[0].MarkTimes() {
			if at > 0 {
				t.event(traceEvent{Name: runs[0].Marks[i].Label(), Phase: "i", Cat: "mark", TS: micros(at), PID: pidBoot, TID: tidMarks, Scope: "t"})
			}
		}
	}
	if run := diskRun(r); run != nil && run.Kind == boottrace.Timed {
		t.disk(pidBoot, run)
	}
}

// traced writes the phases and disk requests of the boot whose disk requests were traced.
func (t *trace) traced(r *boottrace.Recording) {
	run := diskRun(r)
	if run == nil || run.Kind != boottrace.Traced || len(run.IO) == 0 {
		return
	}
	t.process(pidDisk, "boot with its disk requests, wall clock, "+r.Accel)
	t.thread(pidDisk, tidPhases, "phases")
	t.phases(pidDisk, tidPhases, run)
	t.disk(pidDisk, run)
}

// phases writes the phases of one boot.
func (t *trace) phases(pid, tid int, run *boottrace.Run) {
	one := boottrace.Recording{Runs: []boottrace.Run{*run}}
	one.Runs[0].Kind = boottrace.Timed // a traced one has the same phases
	at := 0.0
	for _, p := range one.Phases() {
		t.span(pid, tid, "phase", p.Name, at, at+p.Nanos, nil)
		at += p.Nanos
	}
}

func counted(known bool, n float64) map[string]any {
	if !known {
		return nil
	}
	return map[string]any{"instructions": round(n)}
}

// disk writes the disk requests, those that are under way at the same time on threads of their own.
func (t *trace) disk(pid int, run *boottrace.Run) {
	var free []int64 // when the last request of each thread ended
	requests := slices.Clone(run.IO)
	slices.SortStableFunc(requests, func(a, b boottrace.Request) int { return cmp.Compare(a.StartNanos, b.StartNanos) })
	for i := range requests {
		q := &requests[i]
		lane := slices.IndexFunc(free, func(end int64) bool { return end <= q.StartNanos })
		if lane < 0 {
			lane = len(free)
			free = append(free, 0)
			t.thread(pid, tidDisk+lane, "disk")
		}
		free[lane] = q.StartNanos + q.Nanos
		t.span(pid, tidDisk+lane, "disk", strings.TrimSpace(q.Op+" "+what(q)), float64(q.StartNanos), float64(q.StartNanos+q.Nanos),
			map[string]any{"disk": q.Disk, "offset": q.Offset, "length": q.Length})
	}
}

// runs writes the phases of every boot that was timed.
func (t *trace) runs(r *boottrace.Recording) {
	n := 0
	for i := range r.Runs {
		run := &r.Runs[i]
		if run.Kind == boottrace.Counting || n == maxTraceRuns {
			continue
		}
		if n++; n == 1 {
			t.process(pidRuns, "every boot, wall clock, each from its start")
		}
		t.thread(pidRuns, n, fmt.Sprintf("%s boot %d", run.Kind, i+1))
		if run.Kind == boottrace.Floor {
			t.span(pidRuns, n, "phase", "floor", 0, float64(run.ReadyNanos), nil)
			continue
		}
		t.phases(pidRuns, n, run)
	}
}

// memory writes touched memory as counters, on the clock on which it was seen, and by owner where that is known.
func (t *trace) memory(r *boottrace.Recording) {
	for _, runs := range [][]*boottrace.Run{slices.Concat(r.MedianRuns(), r.Of(boottrace.Timed)), r.Of(boottrace.Counting)} {
		i := slices.IndexFunc(runs, func(run *boottrace.Run) bool { return run.Memory != nil && len(run.Memory.OverTime) > 0 })
		if i < 0 {
			continue
		}
		over := runs[i].Memory.OverTime
		for j, m := range over {
			e := traceEvent{Name: "touched memory", Phase: "C", TS: micros(float64(m.Nanos)), PID: pidBoot, Args: map[string]any{"bytes": m.Bytes}}
			if m.Nanos == 0 {
				e.TS, e.PID = micros(float64(m.Instructions)), pidCalls
			}
			t.event(e)
			owners := make(map[string]any)
			for _, g := range runs[i].Regions {
				if len(g.OverTime) == len(over) {
					owners[clean(g.Name)] = g.OverTime[j]
				}
			}
			if len(owners) > 0 {
				e.Name, e.Args = "touched memory by owner", owners
				t.event(e)
			}
		}
	}
}

// calls writes the guest's calls, the MaxSpans longest of them.
func (t *trace) calls(p *boottrace.Profile) {
	unit, value := weight(p)
	weights := inclusive(p, value)
	if len(weights) == 0 || weights[0] == 0 {
		return
	}
	name := "calls, exact: a nanosecond is an instruction, calls by the same callers are drawn as one"
	if p.Kind == boottrace.Sampled {
		name = "calls, sampled: " + unit + ", in no order of time"
	}
	t.process(pidCalls, name)
	t.thread(pidCalls, 1, "calls")
	c := newCalls(p)
	// Callers weigh at least as much as their callees and come before them, so that those of a chosen stack are chosen too.
	chosen := make([]int, 0, len(weights))
	for i := 1; i < len(weights); i++ {
		if weights[i] > 0 {
			chosen = append(chosen, i)
		}
	}
	if len(chosen) > MaxSpans {
		slices.SortFunc(chosen, func(a, b int) int { return cmp.Or(cmp.Compare(weights[b], weights[a]), cmp.Compare(a, b)) })
		chosen = chosen[:MaxSpans]
	}
	callees := make(map[int][]int)
	for _, i := range chosen {
		callees[p.Stacks[i].Parent] = append(callees[p.Stacks[i].Parent], i)
	}
	for _, some := range callees {
		slices.SortFunc(some, func(a, b int) int {
			return cmp.Or(cmp.Compare(p.Stacks[a].First, p.Stacks[b].First), cmp.Compare(a, b))
		})
	}
	starts := map[int]uint64{0: 0}
	for _, caller := range slices.Sorted(maps.Keys(callees)) { // callers before their callees
		var rest uint64 // what these and the callees after them take
		for _, i := range callees[caller] {
			rest += weights[i]
		}
		at, end := starts[caller], starts[caller]+weights[caller]
		for _, i := range callees[caller] {
			at = max(at, min(p.Stacks[i].First, end-rest)) // the first call, or earlier if the others would not fit
			starts[i] = at
			rest -= weights[i]
			frames := c.frames[p.Stacks[i].Location]
			args := map[string]any{unit: weights[i]}
			if l := &p.Locations[p.Stacks[i].Location]; len(l.Lines) > 0 {
				last := l.Lines[len(l.Lines)-1]
				if f := p.Functions[last.Function]; f.File != "" {
					args["source"] = fmt.Sprintf("%s:%d", f.File, last.Line)
				}
				var inlined []string
				for _, frame := range frames[:len(frames)-1] {
					inlined = append(inlined, c.names[frame])
				}
				if len(inlined) > 0 {
					args["inlined"] = strings.Join(inlined, " < ")
				}
			}
			t.span(pidCalls, 1, "call", c.names[frames[len(frames)-1]], float64(at), float64(at+weights[i]), args)
			at += weights[i]
		}
	}
}

// inclusive returns what each stack used with all that was called from it; of the root it is everything.
func inclusive(p *boottrace.Profile, value func(*boottrace.Sample) uint64) []uint64 {
	all := make([]uint64, len(p.Stacks))
	for i := range p.Samples {
		all[p.Samples[i].Stack] += value(&p.Samples[i])
	}
	for i := len(all) - 1; i > 0; i-- {
		all[p.Stacks[i].Parent] += all[i]
	}
	return all
}
