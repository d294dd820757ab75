package profile

import (
	"encoding/json"
	"io"
	"math"
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
		o.Memory = &Memory{median(s.TouchedBytes), median(s.PSSBytes)}
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
func (o *Object) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(o)
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
