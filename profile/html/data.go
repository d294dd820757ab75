package html

import (
	"cmp"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// data is what the script draws: the page's block of JSON. Times are in nanoseconds since t0, sizes in bytes.
type data struct {
	Until string  `json:"until"`
	Total float64 `json:"total"`
	// Counted is the instructions to ready, 0 if they were not counted.
	Counted  float64 `json:"counted,omitempty"`
	Phases   []phase `json:"phases,omitempty"`
	Marks    []mark  `json:"marks,omitempty"`
	Profiles []*tree `json:"profiles,omitempty"`

	Memory []*memoryChart `json:"memory,omitempty"`
	Disk   *diskChart     `json:"disk,omitempty"`
}

// phase is a phase of the median boot, or a step of one.
type phase struct {
	Name         string  `json:"name"`
	Tone         int     `json:"tone,omitempty"` // of phases
	Nanos        float64 `json:"ns"`
	Millis       string  `json:"ms,omitempty"` // as the table has it
	Instructions float64 `json:"n,omitempty"`
	Steps        []phase `json:"steps,omitempty"`
}

// mark is a mark of the median boot.
type mark struct {
	Name  string  `json:"name"`
	Nanos float64 `json:"at"`
}

// newData collects what the script draws.
func newData(r *boottrace.Recording, v *view) *data {
	d := &data{Until: r.Until()}
	if v.Sum.Instructions != nil {
		d.Counted = v.Sum.Instructions.Median
	}
	for _, p := range v.Sum.Phases {
		ph := newPhase(p.Name, d.Total, p.Nanos, p.Instructions)
		ph.Tone = tone(p.Name)
		at := d.Total
		for _, s := range p.Steps {
			ph.Steps = append(ph.Steps, newPhase(s.Name, at, s.Nanos, s.Instructions))
			at += s.Nanos
		}
		d.Phases = append(d.Phases, ph)
		d.Total += p.Nanos
	}
	d.Marks = marks(r.MedianRuns(), d.Total)
	for _, p := range []*boottrace.Profile{r.Exact, r.Sampled} {
		if t := newTree(p); t != nil {
			d.Profiles = append(d.Profiles, t)
		}
	}
	d.Memory, d.Disk = newMemoryCharts(r), newDiskChart(r)
	return d
}

func newPhase(name string, from, nanos, instructions float64) phase {
	return phase{Name: name, Nanos: number(nanos), Millis: between(from, from+nanos), Instructions: number(instructions)}
}

// marks returns the marks that all of some runs have up to the end, at their mean. Initcalls are left out: they are steps, and too many.
func marks(runs []*boottrace.Run, end float64) (marks []mark) {
	type key struct {
		name string
		n    int // how many marks before have the same name
	}
	sums, runsWith := make(map[key]float64), make(map[key]int)
	var order []key
	for _, run := range runs {
		seen := make(map[string]int)
		for i, at := range run.MarkTimes() {
			name := run.Marks[i].Label()
			if at <= 0 || strings.HasPrefix(name, boottrace.InitcallPrefix) {
				continue
			}
			k := key{name, seen[name]}
			seen[name]++
			if runsWith[k] == 0 {
				order = append(order, k)
			}
			runsWith[k]++
			sums[k] += at
		}
	}
	for _, k := range order {
		if at := number(sums[k] / float64(len(runs))); runsWith[k] == len(runs) && at <= end {
			marks = append(marks, mark{k.name, at})
		}
	}
	slices.SortStableFunc(marks, func(a, b mark) int { return cmp.Compare(a.Nanos, b.Nanos) })
	return marks
}
