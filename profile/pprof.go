// Package profile makes views of a recording: pprof profiles, the JSON object of bootprof, and a timeline for the terminal.
package profile

import (
	"math"
	"path/filepath"

	"github.com/google/pprof/profile"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// BootProfile returns the boot as a pprof profile: stacks of boot, phase and step, with a sample type for everything that was
// measured of time/nanoseconds, instructions/count and touched/bytes. The values are those of the median boot, since
// pprof adds up what it is given. The profile is nil when nothing was measured.
func BootProfile(r *boottrace.Recording) *profile.Profile {
	s := r.Summarize()
	b := newBuilder(r)
	time, instructions, touched := -1, -1, -1
	if s.TotalNanos != nil {
		time = b.valueType("time", "nanoseconds")
		b.p.DurationNanos = round(s.TotalNanos.Median)
	}
	if s.Instructions != nil {
		instructions = b.valueType("instructions", "count")
	}
	if s.TouchedBytes != nil {
		touched = b.valueType("touched", "bytes")
	}
	if len(b.p.SampleType) == 0 {
		return nil
	}
	// Values are rounded where they end, not each on its own: so they still add up to the total.
	var nanos, instrs rounder
	for _, p := range s.Phases {
		steps := p.Steps
		if steps == nil {
			steps = []boottrace.Step{{Nanos: p.Nanos, Instructions: p.Instructions, Counted: p.Counted}}
		}
		for _, st := range steps {
			values := b.values()
			values.set(time, nanos.next(st.Nanos))
			if st.Counted {
				values.set(instructions, instrs.next(st.Instructions))
			}
			b.add(values, "boot", p.Name, st.Name)
		}
	}
	if missing := b.missing(instructions, s.Instructions); missing > 0 {
		// The boot was counted, but not where the phases end.
		values := b.values()
		values.set(instructions, missing)
		b.add(values, "boot")
	}
	if touched >= 0 {
		for _, g := range regions(r, s) {
			values := b.values()
			values.set(touched, int64(g.TouchedBytes))
			b.add(values, "boot", "memory", g.Name)
		}
	}
	return b.p
}

// MemoryProfile returns the guest's touched memory by what it was for, and the VMM's own, as a pprof profile with the sample types
// touched/bytes and pss/bytes. It is nil when neither was measured.
func MemoryProfile(r *boottrace.Recording) *profile.Profile {
	s := r.Summarize()
	b := newBuilder(r)
	touched, pss := -1, -1
	if s.TouchedBytes != nil {
		touched = b.valueType("touched", "bytes")
	}
	if s.PSSBytes != nil {
		pss = b.valueType("pss", "bytes")
	}
	if len(b.p.SampleType) == 0 {
		return nil
	}
	if touched >= 0 {
		for _, g := range regions(r, s) {
			values := b.values()
			values.set(touched, int64(g.TouchedBytes))
			b.add(values, "guest memory", g.Name)
		}
	}
	if pss >= 0 {
		values := b.values()
		values.set(pss, round(s.PSSBytes.Median))
		b.add(values, "vmm process")
	}
	return b.p
}

// regions returns the touched memory of the median run by region; what belongs to none has no name.
func regions(r *boottrace.Recording, s boottrace.Summary) []boottrace.Region {
	rest := uint64(round(s.TouchedBytes.Median))
	var all []boottrace.Region
	runs := r.MedianRuns()
	if len(runs) > 0 && runs[0].TouchedBytes == rest {
		for _, g := range runs[0].Regions {
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

// builder makes a profile of named frames.
type builder struct {
	p         *profile.Profile
	locations map[string]*profile.Location
}

func newBuilder(r *boottrace.Recording) *builder {
	return &builder{
		// pprof shows the file's name, and looks for no symbols where a mapping has its functions.
		p: &profile.Profile{TimeNanos: r.TimeNanos, Mapping: []*profile.Mapping{{
			ID: 1, File: filepath.Base(r.Image), HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true,
		}}},
		locations: make(map[string]*profile.Location),
	}
}

// valueType adds a sample type and returns its index. The first one is pprof's default.
func (b *builder) valueType(name, unit string) int {
	if b.p.SampleType == nil {
		b.p.DefaultSampleType = name
		b.p.PeriodType = &profile.ValueType{Type: name, Unit: unit}
		b.p.Period = 1
	}
	b.p.SampleType = append(b.p.SampleType, &profile.ValueType{Type: name, Unit: unit})
	return len(b.p.SampleType) - 1
}

type values []int64

func (b *builder) values() values { return make(values, len(b.p.SampleType)) }

// set sets the value of one sample type; -1 is one that the profile does not have.
func (v values) set(sampleType int, value int64) {
	if sampleType >= 0 {
		v[sampleType] = value
	}
}

// add adds a sample, whose stack is given from the root down; empty names are left out.
func (b *builder) add(v values, stack ...string) {
	s := &profile.Sample{Value: v}
	for _, name := range stack {
		if name != "" {
			s.Location = append([]*profile.Location{b.location(name)}, s.Location...)
		}
	}
	b.p.Sample = append(b.p.Sample, s)
}

func (b *builder) location(name string) *profile.Location {
	if l := b.locations[name]; l != nil {
		return l
	}
	id := uint64(len(b.locations) + 1)
	f := &profile.Function{ID: id, Name: name, SystemName: name}
	l := &profile.Location{ID: id, Mapping: b.p.Mapping[0], Line: []profile.Line{{Function: f}}}
	b.p.Function = append(b.p.Function, f)
	b.p.Location = append(b.p.Location, l)
	b.locations[name] = l
	return l
}

// missing returns how much less than the total the samples of a type add up to.
func (b *builder) missing(sampleType int, total *boottrace.Stats) int64 {
	if sampleType < 0 {
		return 0
	}
	left := round(total.Median)
	for _, s := range b.p.Sample {
		left -= s.Value[sampleType]
	}
	return left
}
