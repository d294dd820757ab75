package profile

import (
	"cmp"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// Pprof is a pprof profile of a recording, which is made when it is written: one of a Linux boot has a million samples.
type Pprof struct {
	r     *boottrace.Recording
	s     boottrace.Summary
	types []valueType
	nanos float64 // what the profile covers; 0 if unknown
	write func(*Pprof, sink)
}

// sink takes samples: those of a guest's profile, with the values that set gives them, and those of stacks of names, from the
// root down, of which empty ones do not count.
type sink interface {
	stacks(p *boottrace.Profile, set func(*boottrace.Sample, values))
	add(v values, l labels, stack ...string)
	values() values
}

// The sample types, and the names by which pprof has them.
type metric int

const (
	timeNanos metric = iota
	instructions
	touched
	ioNanos
	pss
)

type valueType struct{ name, unit string }

var valueTypes = []valueType{
	timeNanos: {"time", "nanoseconds"}, instructions: {"instructions", "count"}, touched: {"touched", "bytes"},
	ioNanos: {"io", "nanoseconds"}, pss: {"pss", "bytes"},
}

// has returns the index of a metric among the profile's sample types, or -1.
func (p *Pprof) has(m metric) int { return slices.Index(p.types, valueTypes[m]) }

// newPprof returns a profile with the metrics that were measured, or nil if none was.
func newPprof(r *boottrace.Recording, s boottrace.Summary, measured map[metric]bool, write func(*Pprof, sink)) *Pprof {
	p := &Pprof{r: r, s: s, write: write}
	for m, t := range valueTypes {
		if measured[metric(m)] {
			p.types = append(p.types, t)
		}
	}
	if len(p.types) == 0 {
		return nil
	}
	return p
}

// Write writes the profile in the format of github.com/google/pprof/blob/main/proto/profile.proto, compressed by gzip. The same
// recording gives the same bytes.
func (p *Pprof) Write(w io.Writer) error {
	e := newPprofWriter(w, p.types)
	// pprof shows the file's name, and looks for no symbols where a mapping has its functions.
	e.mapping(boottrace.Mapping{Name: filepath.Base(p.r.Image)})
	p.write(p, e)
	e.times(p.r.TimeNanos, round(p.nanos))
	return e.close()
}

// BootProfile returns the boot as a pprof profile, with a sample type for everything that was measured of time/nanoseconds,
// instructions/count, touched/bytes and io/nanoseconds. Instructions and touched bytes have the guest's stacks if an exact
// profile was taken, and time if a sampled one was; else the stacks are boot, phase and step, or what memory was for. Disk
// requests have the path of the file. The values are those of the median boot, since pprof adds up what it is given. The
// profile is nil when nothing was measured.
func BootProfile(r *boottrace.Recording) *Pprof {
	s := r.Summarize()
	run := diskRun(r)
	p := newPprof(r, s, map[metric]bool{
		timeNanos: s.TotalNanos != nil || r.Sampled != nil, instructions: s.Instructions != nil || r.Exact != nil,
		touched: s.TouchedBytes != nil, ioNanos: run != nil && slices.ContainsFunc(run.IO, func(q boottrace.Request) bool { return q.Nanos > 0 }),
	}, (*Pprof).boot)
	if p != nil && s.TotalNanos != nil {
		p.nanos = s.TotalNanos.Median
	}
	return p
}

func (p *Pprof) boot(e sink) {
	r, s := p.r, p.s
	time, instrs, pages := p.has(timeNanos), p.has(instructions), p.has(touched)
	sampled := make(map[string]bool) // phases whose time has stacks
	if r.Sampled != nil {
		for i := range r.Sampled.Samples {
			if smp := &r.Sampled.Samples[i]; smp.Phase >= 0 && smp.Nanos > 0 {
				sampled[r.Sampled.Phases[smp.Phase]] = true
			}
		}
		e.stacks(r.Sampled, func(smp *boottrace.Sample, v values) { v.set(time, smp.Nanos) })
	}
	var counted, paged int64 // instructions and bytes that have stacks
	if r.Exact != nil {
		e.stacks(r.Exact, func(smp *boottrace.Sample, v values) {
			counted += int64(smp.Instructions)
			paged += int64(smp.TouchedBytes)
			v.set(instrs, int64(smp.Instructions))
			v.set(pages, int64(smp.TouchedBytes))
		})
	}
	// Values are rounded where they end, not each on its own: so they still add up to the total.
	var nanos, instructions rounder
	for _, ph := range s.Phases {
		steps := ph.Steps
		if steps == nil {
			steps = []boottrace.Step{{Nanos: ph.Nanos, Instructions: ph.Instructions, Counted: ph.Counted}}
		}
		for _, st := range steps {
			v := e.values()
			if !sampled[ph.Name] {
				v.set(time, nanos.next(st.Nanos))
			}
			if st.Counted && r.Exact == nil {
				n := instructions.next(st.Instructions)
				counted += n
				v.set(instrs, n)
			}
			e.add(v, labels{phase: ph.Name}, "boot", ph.Name, st.Name)
		}
	}
	if s.Instructions != nil {
		if missing := round(s.Instructions.Median) - counted; missing > 0 {
			// The boot was counted, but not where the phases end; or the stacks are those of a shorter one.
			v := e.values()
			v.set(instrs, missing)
			e.add(v, labels{}, "boot")
		}
	}
	if s.TouchedBytes != nil {
		for _, g := range regions(r, s, uint64(max(paged, 0))) {
			v := e.values()
			v.set(pages, int64(g.TouchedBytes))
			e.add(v, labels{}, "boot", "memory", g.Name)
		}
	}
	if run := diskRun(r); run != nil && p.has(ioNanos) >= 0 {
		p.disk(e, run)
	}
}

// disk adds the latency of the disk requests, each at the path of what it read.
func (p *Pprof) disk(e sink, run *boottrace.Run) {
	sums := make(map[string]int64)
	var names []string // in the order of their first use
	add := func(name string, nanos int64) {
		if _, ok := sums[name]; !ok {
			names = append(names, name)
		}
		sums[name] += nanos
	}
	for i := range run.IO {
		q := &run.IO[i]
		shares := partNanos(q)
		for j, part := range q.Parts {
			add(partName(part), shares[j])
		}
		if len(q.Parts) == 0 {
			add("["+cmp.Or(q.Op, "unknown")+"]", q.Nanos)
		}
	}
	for _, name := range names {
		v := e.values()
		v.set(p.has(ioNanos), sums[name])
		e.add(v, labels{}, "disk", name)
	}
}

// MemoryProfile returns the guest's touched memory by what it was for and, where that is known, who touched it first, and the VMM's own, as a pprof profile with the sample types
// touched/bytes and pss/bytes. It is nil when neither was measured.
func MemoryProfile(r *boottrace.Recording) *Pprof {
	s := r.Summarize()
	return newPprof(r, s, map[metric]bool{touched: s.TouchedBytes != nil, pss: s.PSSBytes != nil}, (*Pprof).memory)
}

func (p *Pprof) memory(e sink) {
	if p.s.TouchedBytes != nil {
		for _, g := range regions(p.r, p.s, 0) {
			add := func(n uint64, frames ...string) {
				v := e.values()
				v.set(p.has(touched), int64(n))
				e.add(v, labels{}, frames...)
			}
			rest := g.TouchedBytes
			for _, f := range g.First {
				if f.Bytes <= rest {
					rest -= f.Bytes
					add(f.Bytes, "guest memory", g.Name, f.Function)
				}
			}
			if rest > 0 {
				add(rest, "guest memory", g.Name)
			}
		}
	}
	if p.s.PSSBytes != nil {
		v := e.values()
		v.set(p.has(pss), round(p.s.PSSBytes.Median))
		e.add(v, labels{}, "vmm process")
	}
}

// regions returns the touched memory of the median run by region; what belongs to none has no name. Of memory that is told by
// stacks only the rest is returned.
func regions(r *boottrace.Recording, s boottrace.Summary, stacks uint64) []boottrace.Region {
	rest := uint64(round(s.TouchedBytes.Median))
	if stacks > 0 {
		if rest > stacks {
			return []boottrace.Region{{TouchedBytes: rest - stacks}}
		}
		return nil
	}
	var all []boottrace.Region
	runs := slices.Concat(r.MedianRuns(), r.Of(boottrace.Timed), r.Of(boottrace.Counting))
	if i := slices.IndexFunc(runs, func(run *boottrace.Run) bool { return run.TouchedBytes == rest && len(run.Regions) > 0 }); i >= 0 {
		for _, g := range runs[i].Regions {
			if g.TouchedBytes <= rest {
				rest -= g.TouchedBytes
				all = append(all, g)
			}
		}
	}
	if rest > 0 {
		all = append(all, boottrace.Region{TouchedBytes: rest})
	}
	return all
}

func round(v float64) int64 { return int64(math.Round(v)) }

// rounder turns a series of numbers into integers whose sums are the rounded sums.
type rounder struct{ sum float64 }

func (r *rounder) next(v float64) int64 {
	from := round(r.sum)
	r.sum += v
	return round(r.sum) - from
}

type values []int64

// set sets the value of one sample type; -1 is one that the profile does not have.
func (v values) set(sampleType int, value int64) {
	if sampleType >= 0 {
		v[sampleType] = value
	}
}

// labels of a sample; empty ones are left out.
type labels struct{ phase, privilege, cpu string }

// maxDepth bounds the frames of a stack in profiles that write each stack in full. Of a deeper one, which no sane program has, the
// callees are kept.
const maxDepth = 1 << 10

// stacks adds a guest's profile, with the values that set gives to a sample.
func (e *pprofWriter) stacks(p *boottrace.Profile, set func(*boottrace.Sample, values)) {
	mappings := e.mappings
	for _, m := range p.Mappings {
		e.mapping(m)
	}
	functions := e.functions
	for i := range p.Functions {
		f := &p.Functions[i]
		e.function(functionName(f), cmp.Or(f.System, f.Name), f.File, f.Line)
	}
	locations := e.locations
	for i := range p.Locations {
		l := &p.Locations[i]
		mapping := uint64(0)
		if l.Mapping >= 0 {
			mapping = mappings + uint64(l.Mapping) + 1
		}
		e.location(mapping, l.Address, l.Lines, functions)
	}
	v := e.values()
	var stack []uint64
	for i := range p.Samples {
		s := &p.Samples[i]
		clear(v)
		set(s, v)
		stack = stack[:0]
		for at := s.Stack; at != 0 && len(stack) < maxDepth; at = p.Stacks[at].Parent {
			stack = append(stack, locations+uint64(p.Stacks[at].Location)+1)
		}
		if len(stack) == 0 {
			stack = append(stack, e.named("[unknown]"))
		}
		l := labels{privilege: "kernel", cpu: strconv.Itoa(s.CPU)}
		if s.User {
			l.privilege = "user"
		}
		if s.Phase >= 0 {
			l.phase = p.Phases[s.Phase]
		}
		e.sample(v, l, stack)
	}
}
