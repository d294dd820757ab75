// Package html makes the HTML report of a recording: one file with its own styles and script, which loads nothing.
package html

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/profile"
)

var (
	//go:embed report.html
	page string
	//go:embed report.css
	style string
	//go:embed report.js
	script string
)

var report = template.Must(template.New("report").Funcs(template.FuncMap{
	"ms": millis, "count": count, "size": size, "spread": spread, "tone": tone, "permille": permille,
	"decimal": func(v *float64) string { return fmt.Sprintf("%.2f", *v) },
	"bytes":   func(n uint64) string { return size(float64(n)) },
}).Parse(strings.Replace(page, "POLICY", policy, 1)))

// policy lets nothing run or be shown but what is in the file, and nothing be loaded.
var policy = "default-src 'none'; script-src " + digest(script) + "; style-src " + digest(style) + "; base-uri 'none'; form-action 'none'"

// digest names an inline script or style, as Content Security Policy Level 3 has it.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// view is what the page's template is executed with. What it shows without script stands here, what the script draws in Data.
type view struct {
	Style  template.CSS
	Script template.JS
	Data   *data

	*profile.Report
	Sum     boottrace.Summary
	Title   string // the image without its folders
	Facts   []string
	About   string // how the timeline was measured
	RAM     float64
	Boots   []boot
	Output  string
	Missing []string // what the recording does not have, and how to get it, a sentence each

	total, longest float64 // nanoseconds: of the median boot, of all boots
}

// boot is a line of the table of boots.
type boot struct {
	*boottrace.Run
	Number                       int
	Timed                        bool
	Ready, Counted, Touched, PSS float64
	Phases                       []segment
}

// segment is a phase as a part of a bar, in thousandths of the longest boot.
type segment struct {
	Tone     int
	X, Width float64
}

// Write writes the report of a recording. The same recording gives the same bytes.
func Write(w io.Writer, r *boottrace.Recording) error {
	v := &view{
		Style: template.CSS(style), Script: template.JS(script),
		Report: profile.NewReport(r, nil), Sum: r.Summarize(), RAM: float64(r.MemoryBytes),
	}
	for _, p := range v.Sum.Phases {
		v.total += p.Nanos
	}
	if run := r.Outcome(); run != nil {
		v.Output = printable(run.Output)
	}
	v.about(r)
	v.boots(r)
	v.Data = newData(r, v)
	v.missing()
	return report.Execute(w, v)
}

// about says what was booted, and how.
func (v *view) about(r *boottrace.Recording) {
	v.Title = cmp.Or(r.Image[strings.LastIndexAny(r.Image, `/\\`)+1:], r.Image, "A boot without a name")
	for _, s := range []string{r.Flavour, r.Machine, r.Firmware, r.Accel, r.VMM, r.CPU} {
		if s != "" {
			v.Facts = append(v.Facts, s)
		}
	}
	if r.MemoryBytes > 0 {
		v.Facts = append(v.Facts, size(v.RAM)+" of RAM")
	}
	if r.ImageBytes > 0 {
		v.Facts = append(v.Facts, size(float64(r.ImageBytes))+" of image")
	}
	if r.PrepareNanos > 0 {
		v.Facts = append(v.Facts, millis(float64(r.PrepareNanos))+" ms to prepare")
	}
	if r.TimeNanos != 0 {
		v.Facts = append(v.Facts, time.Unix(0, r.TimeNanos).UTC().Format("2006-01-02 15:04 UTC"))
	}
	if v.Title != r.Image && r.Image != "" {
		v.Facts = append(v.Facts, r.Image)
	}
	v.About = "The only boot that was timed"
	switch n := len(r.MedianRuns()); {
	case n == 2:
		v.About = fmt.Sprintf("The mean of the two median boots of %d", len(r.Of(boottrace.Timed)))
	case len(r.Of(boottrace.Timed)) > 1:
		v.About = fmt.Sprintf("The median boot of %d", len(r.Of(boottrace.Timed)))
	}
	v.About += ", on the host's clock from the start of the VMM until it was ready."
}

// AboutProfile says how the flame graph was measured.
func (v *view) AboutProfile() string {
	var about []string
	for _, t := range v.Data.Profiles {
		switch {
		case t.Kind == boottrace.Sampled:
			about = append(about, "Sampled: the registers of the guest now and then, in boots of their own.")
		case t.has("touched"):
			about = append(about, "Exact: every instruction of a counting boot, under TCG, and the functions that touched memory first; callees are in the order of their first calls.")
		default:
			about = append(about, "Exact: every instruction of a counting boot, under TCG; callees are in the order of their first calls.")
		}
	}
	return strings.Join(about, " ")
}

// row is a line of the table of phases.
type row struct {
	Name, Millis, Share, Instructions string
	Tone                              int
	Step                              bool
}

// maxSteps is how many steps of a phase the table shows: the longest, and one that stands for the others.
const maxSteps = 16

// Rows returns the phases with their steps.
func (v *view) Rows() (rows []row) {
	add := func(name string, from, nanos, instructions float64, counted bool) *row {
		r := row{Name: name, Millis: between(from, from+nanos), Share: "–", Instructions: "–"}
		if v.total > 0 {
			r.Share = fmt.Sprintf("%.1f %%", 100*nanos/v.total)
		}
		if counted {
			r.Instructions = count(instructions)
		}
		rows = append(rows, r)
		return &rows[len(rows)-1]
	}
	at := 0.0
	for _, p := range v.Sum.Phases {
		add(p.Name, at, p.Nanos, p.Instructions, p.Counted).Tone = tone(p.Name)
		least := 0.0
		if len(p.Steps) > maxSteps {
			longest := slices.Clone(p.Steps)
			slices.SortStableFunc(longest, func(a, b boottrace.Step) int { return cmp.Compare(b.Nanos, a.Nanos) })
			least = longest[maxSteps-2].Nanos
		}
		from, shown := at, 0
		others := boottrace.Step{Counted: true}
		for i, s := range p.Steps {
			if s.Nanos >= least && (shown < maxSteps-1 || len(p.Steps) == maxSteps) {
				add(s.Name, from, s.Nanos, s.Instructions, s.Counted).Step = true
				shown++
			} else {
				others.Nanos += s.Nanos
				others.Instructions += s.Instructions
				others.Counted = others.Counted && s.Counted
			}
			from += s.Nanos
			if i == len(p.Steps)-1 && shown < len(p.Steps) {
				add(fmt.Sprintf("%d other steps", len(p.Steps)-shown), 0, others.Nanos, others.Instructions, others.Counted).Step = true
			}
		}
		at += p.Nanos
	}
	return rows
}

// maxOwners, maxFiles: how long the tables of memory and of files may be. What comes after that is in bootprof report --format json.
const (
	maxOwners = 50
	maxFiles  = 200
)

// owner is a line of the table of memory.
type owner struct {
	Name  string
	Bytes float64
	Ready string  // touched before it was ready; "" if unknown
	Bar   float64 // thousandths of the largest
}

// Owners returns what the guest's memory was for, the most first.
func (v *view) Owners() (owners []owner) {
	if v.Memory == nil {
		return nil
	}
	regions := slices.Clone(v.Memory.Owners)
	slices.SortStableFunc(regions, func(a, b boottrace.Region) int { return cmp.Compare(b.TouchedBytes, a.TouchedBytes) })
	ready := make(map[string]uint64)
	for _, r := range v.Memory.ReadyOwners {
		ready[r.Name] = r.TouchedBytes
	}
	for _, r := range regions[:min(maxOwners, len(regions))] {
		if r.TouchedBytes == 0 {
			continue
		}
		o := owner{Name: r.Name, Bytes: float64(r.TouchedBytes), Bar: 1000 * float64(r.TouchedBytes) / float64(regions[0].TouchedBytes)}
		if len(ready) > 0 {
			o.Ready = size(float64(ready[r.Name]))
		}
		owners = append(owners, o)
	}
	return owners
}

// AboutMemory says what is known of the memory besides its owners.
func (v *view) AboutMemory() string {
	m := v.Memory
	about := "Pages of the guest that were touched by the end of one boot."
	if m == nil {
		return about
	}
	if m.ReadyBytes > 0 {
		about += " " + size(float64(m.ReadyBytes)) + " were touched before it was ready."
	}
	if m.ZeroBytes != nil && m.DuplicateBytes != nil {
		about += fmt.Sprintf(" %s hold nothing but zeros, %s the same as another page.", size(float64(*m.ZeroBytes)), size(float64(*m.DuplicateBytes)))
	}
	if m.VMMRSSBytes > 0 {
		about += " The VMM's resident set was " + size(float64(m.VMMRSSBytes)) + "."
	}
	for _, name := range slices.Sorted(maps.Keys(m.Balloon)) {
		about += fmt.Sprintf(" Balloon, %s: %s.", name, count(float64(m.Balloon[name])))
	}
	return about
}

// AboutDisk sums up the disk requests.
func (v *view) AboutDisk() string {
	u := v.IO
	about := fmt.Sprintf("%s requests before ready, %s read", count(float64(u.Requests)), size(float64(u.ReadBytes)))
	if u.WroteBytes > 0 {
		about += ", " + size(float64(u.WroteBytes)) + " written"
	}
	if u.Amplification != nil {
		about += fmt.Sprintf(", read amplification %.2f", *u.Amplification)
	}
	if u.BusyMS != nil {
		about += fmt.Sprintf(", %.2f ms with a request under way", *u.BusyMS)
		if u.Share != nil {
			about += fmt.Sprintf(" (%.1f %% of that boot)", 100**u.Share)
		}
	}
	for _, n := range []struct {
		n    int
		what string
	}{{u.Failed, "failed"}, {u.Later, "made when it was ready"}, {u.Dropped, "not recorded"}} {
		if n.n > 0 {
			about += fmt.Sprintf("; %s %s", count(float64(n.n)), n.what)
		}
	}
	return about + "."
}

// Files returns the files that were read, in the order of their first use.
func (v *view) Files() []profile.FileUse { return v.IO.Files[:min(maxFiles, len(v.IO.Files))] }

// MaxOutput is how much of a console the report has, in bytes.
func (v *view) MaxOutput() float64 { return boottrace.MaxOutput }

// boots lists the boots in the order in which they were made.
func (v *view) boots(r *boottrace.Recording) {
	for i := range r.Runs {
		if run := &r.Runs[i]; run.Kind != boottrace.Counting {
			v.longest = max(v.longest, float64(run.ReadyNanos))
		}
	}
	bar := func(phase string, from, nanos float64) segment {
		return segment{tone(phase), from / v.longest * 1000, nanos / v.longest * 1000}
	}
	for i := range r.Runs {
		run := &r.Runs[i]
		b := boot{
			Run: run, Number: i + 1, Timed: run.Kind != boottrace.Counting && run.ReadyNanos > 0,
			Ready: float64(run.ReadyNanos), Counted: float64(run.Instructions), Touched: float64(run.TouchedBytes), PSS: float64(run.PSSBytes),
		}
		at := 0.0
		switch {
		case !b.Timed:
		case run.Kind == boottrace.Floor:
			b.Phases = []segment{bar("", 0, b.Ready)}
		default:
			for _, s := range spans(run) {
				b.Phases = append(b.Phases, bar(s.Phase, at, s.Value))
				at += s.Value
			}
		}
		v.Boots = append(v.Boots, b)
	}
}

// missing says what the recording does not have.
func (v *view) missing() {
	for _, m := range []struct {
		absent bool
		text   string
	}{
		{v.Sum.TotalNanos == nil, "No timeline: no boot was timed; bootprof qemu -n 1 times one."},
		{v.Sum.FloorNanos == nil, "No floor: it is measured between timed boots, with bootprof qemu -n 2 or more."},
		{v.Sum.Instructions == nil, "No instructions: bootprof qemu --counting 1 counts them in a boot of its own."},
		{len(v.Data.Profiles) == 0, "No flame graph: bootprof qemu --profile=exact records every call, --profile=sample samples them."},
		{len(v.Data.Profiles) > 0 && !slices.ContainsFunc(v.Data.Profiles, func(t *tree) bool { return t.has("touched") }), "No memory in the flame graph: bootprof qemu --profile=exact,memory records which function touched each page first."},
		{len(v.Data.Memory) == 0 && (v.Memory == nil || len(v.Memory.Owners) == 0), "No memory by owner: the guest's memory was not looked at; bootprof qemu --profile=exact,memory does."},
		{v.Data.Disk == nil, "No disk chart: bootprof qemu --io records each disk request, if the guest makes any."},
	} {
		if m.absent {
			v.Missing = append(v.Missing, m.text)
		}
	}
}
