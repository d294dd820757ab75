package html

import (
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

	Memory *memoryChart `json:"memory,omitempty"`
	Disk   *diskChart   `json:"disk,omitempty"`
}

// phase is a phase of the median boot, or a step of one.
type phase struct {
	Name         string  `json:"name"`
	Tone         int     `json:"tone,omitempty"` // of phases
	Nanos        float64 `json:"ns"`
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
		ph := phase{Name: p.Name, Tone: tone(p.Name), Nanos: number(p.Nanos), Instructions: number(p.Instructions)}
		for _, s := range p.Steps {
			ph.Steps = append(ph.Steps, phase{Name: s.Name, Nanos: number(s.Nanos), Instructions: number(s.Instructions)})
		}
		d.Phases = append(d.Phases, ph)
		d.Total += ph.Nanos
	}
	if runs := r.MedianRuns(); len(runs) > 0 {
		for i, at := range runs[0].MarkTimes() {
			// Initcalls are steps, and too many.
			name := runs[0].Marks[i].Label()
			if at > 0 && at <= d.Total && !strings.HasPrefix(name, boottrace.InitcallPrefix) {
				d.Marks = append(d.Marks, mark{name, number(at)})
			}
		}
		slices.SortStableFunc(d.Marks, func(a, b mark) int { return int(a.Nanos - b.Nanos) })
	}
	for _, p := range []*boottrace.Profile{r.Exact, r.Sampled} {
		if t := newTree(p); t != nil {
			d.Profiles = append(d.Profiles, t)
		}
	}
	d.Memory, d.Disk = newMemoryChart(r), newDiskChart(r)
	return d
}
