package profile

import (
	"encoding/json"
	"io"
	"math"
	"time"
	"unicode/utf8"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// MaxOutput is how long the app's output may be, in bytes, to be part of the JSON object.
const MaxOutput = 4 << 10

// Object is what `bootprof qemu --json` prints. Fields that were not measured are absent.
type Object struct {
	Image        string   `json:"image"`
	Flavour      string   `json:"flavour"`
	Accel        string   `json:"accel"`
	Machine      string   `json:"machine"`
	Firmware     string   `json:"firmware"`
	Runs         int      `json:"runs"`  // timed boots
	Until        string   `json:"until"` // what ready was
	Cold         bool     `json:"cold"`  // started from the image, not from a snapshot
	TotalMS      *Spread  `json:"total_ms,omitempty"`
	FloorMS      *Spread  `json:"floor_ms,omitempty"`
	PrepareMS    *float64 `json:"prepare_ms,omitempty"`
	Phases       []Phase  `json:"phases,omitempty"`
	Instructions *Count   `json:"instructions,omitempty"`
	Memory       *Memory  `json:"memory,omitempty"`
	IO           *DiskUse `json:"io,omitempty"`        // of the median boot; its lists are in reports only
	ExitCode     *int     `json:"exit_code,omitempty"` // 128 plus its number after a signal
	Output       *string  `json:"output,omitempty"`
	Files        []string `json:"files,omitempty"`
}

// Spread is statistics of a time in milliseconds.
type Spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	P95    float64 `json:"p95"`
	Max    float64 `json:"max"`
}

// Phase is a phase of the median boot. Its times add up to the median total.
type Phase struct {
	Name         string  `json:"name"`
	MedianMS     float64 `json:"median_ms"`
	Instructions *int64  `json:"instructions,omitempty"`
}

// Count is statistics of guest instructions.
type Count struct {
	Min    int64 `json:"min"`
	Median int64 `json:"median"`
	Max    int64 `json:"max"`
}

// Memory is in bytes, the median of the runs.
type Memory struct {
	TouchedBytes *int64 `json:"touched_bytes,omitempty"`
	VMMPSSBytes  *int64 `json:"vmm_pss_bytes,omitempty"`

	// Of one boot, a median one if it has them.
	Owners         []boottrace.Region `json:"owners,omitempty"` // what touched pages were for
	ZeroBytes      *uint64            `json:"zero_bytes,omitempty"`
	DuplicateBytes *uint64            `json:"duplicate_bytes,omitempty"`
	VMMRSSBytes    uint64             `json:"vmm_rss_bytes,omitempty"`
	ReadyBytes     uint64             `json:"ready_bytes,omitempty"`  // touched before it was ready
	ReadyOwners    []boottrace.Region `json:"ready_owners,omitempty"` // what these pages were for
	Balloon        map[string]uint64  `json:"balloon,omitempty"`
}

// Report is what `bootprof report --format json` prints: the object, with more of what it is made of.
type Report struct {
	*Object
	VMM  string `json:"vmm"`
	Time string `json:"time,omitempty"` // when it was recorded, RFC 3339

	Profile  *Top                `json:"profile,omitempty"`
	Touched  []boottrace.Touched `json:"touched_over_time,omitempty"` // of the boot that the owners are of
	Requests []boottrace.Request `json:"requests,omitempty"`          // of the boot that io is of
	Boots    []Boot              `json:"boots,omitempty"`             // in the order in which they were made

	GuestTimes []GuestTime `json:"guest_times,omitempty"` // of the median timed boot
}

// Boot is one boot of a report.
type Boot struct {
	Kind         boottrace.Kind `json:"kind"`
	ReadyMS      *float64       `json:"ready_ms,omitempty"` // absent in counting boots, whose time means nothing
	Instructions uint64         `json:"instructions,omitempty"`
	TouchedBytes uint64         `json:"touched_bytes,omitempty"`
	PSSBytes     uint64         `json:"pss_bytes,omitempty"`
	Ended        string         `json:"ended,omitempty"`
}

// reportFunctions is how many functions a report has of the boot, and of each phase.
const reportFunctions = 100

// NewReport returns the report of a recording. p is the profile of functions, one of the recording's or nil.
func NewReport(r *boottrace.Recording, p *boottrace.Profile) *Report {
	rep := &Report{Object: NewObject(r, nil), VMM: r.VMM, Profile: NewTop(p, reportFunctions), GuestTimes: GuestTimes(r)}
	if r.TimeNanos != 0 {
		rep.Time = time.Unix(0, r.TimeNanos).UTC().Format(time.RFC3339)
	}
	if run := memoryRun(r); run != nil && run.Memory != nil {
		rep.Touched = run.Memory.OverTime
		if rep.Memory != nil {
			rep.Memory.Owners = run.Regions
		}
	}
	if run := diskRun(r); run != nil {
		rep.IO, rep.Requests = NewDiskUse(r), run.IO
	}
	for i := range r.Runs {
		run := &r.Runs[i]
		b := Boot{Kind: run.Kind, Instructions: run.Instructions, TouchedBytes: run.TouchedBytes, PSSBytes: run.PSSBytes}
		if run.Kind != boottrace.Counting && run.ReadyNanos > 0 {
			b.ReadyMS = new(millis(float64(run.ReadyNanos)))
		}
		if run.End != nil {
			b.Ended = run.End.String()
		}
		rep.Boots = append(rep.Boots, b)
	}
	return rep
}

// NewObject returns the object for a recording; files are the paths of what was written of it.
func NewObject(r *boottrace.Recording, files []string) *Object {
	s := r.Summarize()
	o := &Object{
		Image: r.Image, Flavour: r.Flavour, Accel: r.Accel, Machine: r.Machine, Firmware: r.Firmware,
		Runs: len(r.Of(boottrace.Timed)), Until: r.Until(), Cold: true, Files: files,
		TotalMS: spread(s.TotalNanos), FloorMS: spread(s.FloorNanos),
	}
	if r.PrepareNanos > 0 {
		ms := millis(float64(r.PrepareNanos))
		o.PrepareMS = &ms
	}
	for _, p := range s.Phases {
		phase := Phase{Name: p.Name, MedianMS: millis(p.Nanos)}
		if p.Counted {
			n := round(p.Instructions)
			phase.Instructions = &n
		}
		o.Phases = append(o.Phases, phase)
	}
	if n := s.Instructions; n != nil {
		o.Instructions = &Count{round(n.Min), round(n.Median), round(n.Max)}
	}
	if s.TouchedBytes != nil || s.PSSBytes != nil {
		o.Memory = &Memory{TouchedBytes: median(s.TouchedBytes), VMMPSSBytes: median(s.PSSBytes)}
		if run := memoryRun(r); run != nil {
			o.Memory.Owners = endOnly(run.Regions)
			if m := run.Memory; m != nil {
				o.Memory.ZeroBytes, o.Memory.DuplicateBytes = &m.ZeroBytes, &m.DuplicateBytes
				o.Memory.VMMRSSBytes, o.Memory.Balloon = m.RSSBytes, m.Balloon
				o.Memory.ReadyBytes, o.Memory.ReadyOwners = m.ReadyBytes, m.Ready
			}
		}
	}
	if u := NewDiskUse(r); u != nil {
		u.Slowest, u.Files = nil, nil
		o.IO = u
	}
	if run := r.Outcome(); run != nil {
		if run.End != nil {
			if code, ok := run.End.ExitCode(); ok {
				o.ExitCode = &code
			}
		}
		if run.OutputBytes <= MaxOutput && run.OutputBytes == uint64(len(run.Output)) && utf8.Valid(run.Output) {
			out := string(run.Output)
			o.Output = &out
		}
	}
	return o
}

// WriteJSON writes the object as JSON, indented, with a newline at its end.
func (o *Object) WriteJSON(w io.Writer) error { return writeJSON(w, o) }

// WriteJSON writes the report as JSON, indented, with a newline at its end.
func (r *Report) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// millis converts to milliseconds, exact to the nanosecond.
func millis(nanos float64) float64 { return math.Round(nanos) / 1e6 }

func spread(s *boottrace.Stats) *Spread {
	if s == nil {
		return nil
	}
	return &Spread{millis(s.Min), millis(s.Median), millis(s.P95), millis(s.Max)}
}

func median(s *boottrace.Stats) *int64 {
	if s == nil {
		return nil
	}
	n := round(s.Median)
	return &n
}

// FloorObject is what `bootprof floor --json` prints.
type FloorObject struct {
	Accel    string  `json:"accel"`
	Machine  string  `json:"machine"`
	Firmware string  `json:"firmware"`
	Runs     int     `json:"runs"`
	FloorMS  *Spread `json:"floor_ms"`
}

// NewFloorObject returns the object for a recording of floor runs.
func NewFloorObject(r *boottrace.Recording) *FloorObject {
	return &FloorObject{
		Accel: r.Accel, Machine: r.Machine, Firmware: r.Firmware,
		Runs: len(r.Of(boottrace.Floor)), FloorMS: spread(r.Summarize().FloorNanos),
	}
}
