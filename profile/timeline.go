package profile

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// Style is how text is laid out for its reader.
type Style struct {
	Width int  // columns; 0 means 80
	Color bool // with ANSI escape sequences
	Marks bool // with the list of marks on both clocks, and the memory by owner
}

// ANSI sequences.
const (
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	reset = "\x1b[0m"
)

// phaseColors are chosen to be told apart on dark and light terminals, by the last phase of a merged one.
var phaseColors = map[string]string{"vmm": "\x1b[34m", "firmware": "\x1b[33m", "kernel": "\x1b[36m", "app": "\x1b[32m"}

// paint returns text in a color, if the style has colors.
func (s Style) paint(color, text string) string {
	if !s.Color || text == "" {
		return text
	}
	return color + text + reset
}

// WriteTimeline writes the timeline of a recording for people: the phases as bars, then one line for each other figure,
// which says how it was measured.
func WriteTimeline(w io.Writer, r *boottrace.Recording, style Style) error {
	if style.Width == 0 {
		style.Width = 80
	}
	t := &timeline{style: style, r: r, s: r.Summarize()}
	t.title()
	t.phases()
	if style.Marks {
		t.marks()
	}
	t.guestTimes()
	t.figures()
	if style.Marks {
		t.memory()
	}
	_, err := io.WriteString(w, t.b.String())
	return err
}

type timeline struct {
	b     strings.Builder
	style Style
	r     *boottrace.Recording
	s     boottrace.Summary
}

func (t *timeline) printf(format string, args ...any) { fmt.Fprintf(&t.b, format, args...) }

func (t *timeline) title() {
	var about []string
	for _, s := range []string{t.r.Flavour, t.r.Machine, t.r.Firmware, t.r.Accel, size(t.r.MemoryBytes), t.r.VMM} {
		if s != "" {
			about = append(about, s)
		}
	}
	t.printf("%s  %s\n\n", t.style.paint(bold, t.r.Image), t.style.paint(dim, strings.Join(about, " · ")))
}

// Columns before the bars.
const (
	nameWidth  = 14
	msWidth    = 10
	shareWidth = 7
	countWidth = 15
	minBars    = 8
)

// row is a line of the table of phases.
type row struct {
	name         string
	color        string
	step         bool
	from, nanos  float64
	instructions float64
	counted      bool
	spread       bool // over the phase, so that it has no bar
}

// How many steps of a phase are shown.
const (
	maxSteps   = 16 // up to this many, all
	mostCostly = 10 // of more, these
)

// costliest returns the steps that are shown, and the sum of the others; its name is empty if there are none.
func costliest(steps []boottrace.Step) (shown map[boottrace.Step]bool, others boottrace.Step) {
	shown = make(map[boottrace.Step]bool)
	sorted := slices.Clone(steps)
	if len(steps) > maxSteps {
		slices.SortStableFunc(sorted, func(a, b boottrace.Step) int { return cmp.Compare(b.Nanos, a.Nanos) })
		others = boottrace.Step{Name: fmt.Sprintf("%d other steps", len(steps)-mostCostly), Counted: true}
		for _, s := range sorted[mostCostly:] {
			others.Nanos += s.Nanos
			others.Instructions += s.Instructions
			others.Counted = others.Counted && s.Counted
		}
		sorted = sorted[:mostCostly]
	}
	for _, s := range sorted {
		shown[s] = true
	}
	return shown, others
}

func (t *timeline) phases() {
	total := t.s.TotalNanos
	if total == nil {
		return
	}
	var rows []row
	nameCol := nameWidth
	at := 0.0
	for _, p := range t.s.Phases {
		last := p.Name[strings.LastIndexByte(p.Name, '+')+1:]
		rows = append(rows, row{name: p.Name, color: phaseColors[last], from: at, nanos: p.Nanos, instructions: p.Instructions, counted: p.Counted})
		from := at
		steps, others := costliest(p.Steps)
		for _, s := range p.Steps {
			if !steps[s] {
				from += s.Nanos
				continue
			}
			rows = append(rows, row{name: "  " + s.Name, color: phaseColors[last], step: true, from: from, nanos: s.Nanos, instructions: s.Instructions, counted: s.Counted})
			from += s.Nanos
		}
		if others.Name != "" {
			rows = append(rows, row{name: "  " + others.Name, color: phaseColors[last], step: true, from: at, nanos: others.Nanos, instructions: others.Instructions, counted: others.Counted, spread: true})
		}
		at += p.Nanos
	}
	for _, r := range rows {
		nameCol = max(nameCol, utf8.RuneCountInString(r.name)+1)
	}
	bars := t.style.Width - nameCol - msWidth - shareWidth - 2
	counts := t.s.Instructions != nil
	if counts {
		bars -= countWidth
	}
	heading := fmt.Sprintf("%-*s%*s%*s", nameCol, "phase", msWidth, "ms", shareWidth, "%")
	if counts {
		heading += fmt.Sprintf("%*s", countWidth, "instructions")
	}
	t.printf("%s\n", t.style.paint(dim, heading))
	for _, r := range rows {
		line := fmt.Sprintf("%s%*s%*s", padRight(r.name, nameCol), msWidth, millisText(r.from+r.nanos, r.from), shareWidth, share(r.nanos, at))
		if counts {
			line += fmt.Sprintf("%*s", countWidth, count(r.instructions, r.counted))
		}
		if r.step {
			line = t.style.paint(dim, line)
		}
		if bars >= minBars && at > 0 && !r.spread {
			line += "  " + t.bar(r, at, bars)
		}
		t.printf("%s\n", strings.TrimRight(line, " "))
	}
	line := fmt.Sprintf("%s%*s%*s", padRight("total", nameCol), msWidth, millisText(at, 0), shareWidth, "")
	if n := t.s.Instructions; n != nil {
		line += fmt.Sprintf("%*s", countWidth, count(n.Median, true))
	}
	t.printf("%s\n\n", t.style.paint(bold, strings.TrimRight(line, " ")))
}

// bar draws a row's time on a line that is total nanoseconds and width columns long.
func (t *timeline) bar(r row, total float64, width int) string {
	col := func(at float64) int { return int(math.Round(at / total * float64(width))) }
	from, to := col(r.from), col(r.from+r.nanos)
	full, thin := "█", "▏"
	if r.step {
		full, thin = "─", "╶"
	}
	if from == to {
		from = min(from, width-1)
		return strings.Repeat(" ", from) + t.style.paint(r.color, thin)
	}
	return strings.Repeat(" ", from) + t.style.paint(r.color, strings.Repeat(full, to-from))
}

// countedBy is the accelerator of counting boots, and its clock.
func countedBy(r *boottrace.Recording) string {
	if r.CPUs > 1 {
		return fmt.Sprintf("tcg, %d CPUs in turns", r.CPUs)
	}
	return "tcg with icount"
}

// figures writes a line for every figure besides the phases.
func (t *timeline) figures() {
	r, s := t.r, t.s
	if s.TotalNanos != nil {
		t.figure("boot", fmt.Sprintf("%s ms to %s", millisText(s.TotalNanos.Median, 0), r.Until()),
			times(s.TotalNanos, "timed boot")+", wall clock, "+r.Accel)
	}
	if s.FloorNanos != nil {
		value := millisText(s.FloorNanos.Median, 0) + " ms"
		if s.TotalNanos != nil {
			value += fmt.Sprintf("; boot ÷ floor = %.2f", s.TotalNanos.Median/s.FloorNanos.Median)
		}
		how := times(s.FloorNanos, "boot of a guest that exits at once") + ", wall clock, " + r.Accel
		if s.TotalNanos != nil {
			how += ", in between"
		}
		t.figure("floor", value, how)
	}
	if n := s.Instructions; n != nil {
		how := "one counting boot"
		if n.Runs > 1 {
			how = fmt.Sprintf("median of %d counting boots, min %s, max %s", n.Runs, count(n.Min, true), count(n.Max, true))
		}
		t.figure("instructions", fmt.Sprintf("%s to %s", count(n.Median, true), t.countUntil()), "guest instructions, "+how+", "+countedBy(r))
	}
	if s.TouchedBytes != nil {
		value := size(uint64(s.TouchedBytes.Median)) + " touched"
		if r.MemoryBytes > 0 {
			value += " of " + size(r.MemoryBytes)
		}
		t.figure("memory", value, "pages of the guest, at the end, "+t.runs(s.TouchedBytes, func(r *boottrace.Run) uint64 { return r.TouchedBytes }))
		t.memoryFigure()
	}
	if s.PSSBytes != nil {
		t.figure("host memory", size(uint64(s.PSSBytes.Median))+" PSS", "the VMM with the guest's memory, "+t.runs(s.PSSBytes, func(r *boottrace.Run) uint64 { return r.PSSBytes }))
	}
	t.diskFigure()
	if r.PrepareNanos > 0 {
		t.figure("prepare", millisText(float64(r.PrepareNanos), 0)+" ms", "the host's work before the boot, not part of it")
	}
	if run := r.Outcome(); run != nil && run.End != nil {
		t.figure("end", run.End.String(), "")
	}
}

// countUntil is until when instructions were counted.
func (t *timeline) countUntil() string {
	for _, run := range t.r.Of(boottrace.Counting) {
		return run.Until
	}
	return ""
}

func (t *timeline) figure(name, value, how string) {
	line := padRight(name, nameWidth) + value
	if how == "" {
		t.printf("%s\n", line)
		return
	}
	how = "(" + how + ")"
	sep := "  "
	if utf8.RuneCountInString(line)+utf8.RuneCountInString(how)+2 > t.style.Width {
		sep = "\n" + strings.Repeat(" ", nameWidth)
	}
	t.printf("%s%s%s\n", line, sep, t.style.paint(dim, how))
}

// marks lists the marks of the median boot on the clocks of host and guest, with the instructions of a counting boot.
func (t *timeline) marks() {
	all := t.r.MedianRuns()
	if len(all) == 0 || len(all[0].Marks) == 0 {
		return
	}
	run := all[0]
	hz, known := run.TSCHz()
	width := nameWidth
	for _, m := range run.Marks {
		width = max(width, utf8.RuneCountInString(m.Label())+1)
	}
	t.printf("%s\n", t.style.paint(dim, fmt.Sprintf("%-*s%*s%*s", width, "mark", 14, "host ms", 14, "guest ms")))
	for _, m := range run.Marks {
		host, guest := "-", "-"
		if m.HostNanos > 0 {
			host = fmt.Sprintf("%.3f", float64(m.HostNanos)/1e6)
		}
		if known && m.TSC > 0 {
			guest = fmt.Sprintf("%.3f", float64(m.TSC)/hz*1e3)
		}
		t.printf("%s%*s%*s\n", padRight(m.Label(), width), 14, host, 14, guest)
	}
	if known {
		t.printf("%s\n", t.style.paint(dim, fmt.Sprintf("(one timed boot; host: seen, since t0; guest: written, since its vCPU started, TSC of %.3f GHz)", hz/1e9)))
	}
	t.printf("\n")
}

// times says what a time was measured on.
func times(s *boottrace.Stats, what string) string {
	if s.Runs == 1 {
		return "one " + what
	}
	return fmt.Sprintf("median of %d, min %s, p95 %s, max %s", s.Runs, millisText(s.Min, 0), millisText(s.P95, 0), millisText(s.Max, 0))
}

// runs says which runs a value is of: timed boots if they have it, or else counting boots.
func (t *timeline) runs(s *boottrace.Stats, value func(*boottrace.Run) uint64) string {
	kind := boottrace.Counting
	for _, run := range t.r.Of(boottrace.Timed) {
		if value(run) > 0 {
			kind = boottrace.Timed
		}
	}
	if s.Runs == 1 {
		return fmt.Sprintf("one %s boot", kind)
	}
	return fmt.Sprintf("median of %d %s boots", s.Runs, kind)
}

// millisText formats the time from one instant to another in milliseconds. Instants are rounded, not what lies between them: so
// the lines of a table add up.
func millisText(to, from float64) string {
	hundredths := math.Round(to/1e4) - math.Round(from/1e4)
	return fmt.Sprintf("%.2f", hundredths/100)
}

func share(part, total float64) string {
	if total == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", 100*part/total)
}

// count formats a number of instructions with separators, or "-" for one that is not known.
func count(n float64, known bool) string {
	if !known {
		return "-"
	}
	digits := fmt.Sprintf("%.0f", n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// size formats a number of bytes in binary units, or "" for zero.
func size(n uint64) string {
	switch {
	case n == 0:
		return ""
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return trimZeros(float64(n)/(1<<10)) + " KiB"
	case n < 1<<30:
		return trimZeros(float64(n)/(1<<20)) + " MiB"
	}
	return trimZeros(float64(n)/(1<<30)) + " GiB"
}

func trimZeros(v float64) string {
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
}

func padRight(s string, width int) string {
	return s + strings.Repeat(" ", max(1, width-utf8.RuneCountInString(s)))
}
