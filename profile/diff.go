package profile

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// Side is one of two recordings that are compared: all of it that a comparison needs, which is little beside its profiles.
type Side struct {
	About SideAbout

	rec       boottrace.Recording // without profiles
	phases    []boottrace.Phase
	disk      *DiskUse
	kind      boottrace.ProfileKind // of the functions; "" if there are none
	unit      string
	period    int64
	builds    map[string]string // build IDs by mapping
	functions map[string]*functionUse
}

// SideAbout is what a recording is of.
type SideAbout struct {
	Image       string `json:"image"`
	Flavour     string `json:"flavour"`
	Accel       string `json:"accel"`
	Machine     string `json:"machine"`
	Firmware    string `json:"firmware"`
	VMM         string `json:"vmm"`
	CPU         string `json:"cpu,omitempty"`
	Until       string `json:"until"`
	MemoryBytes uint64 `json:"memory_bytes"`
	Time        string `json:"time,omitempty"` // when it was recorded, RFC 3339
	Runs        int    `json:"runs"`           // timed boots
	Counting    int    `json:"counting"`       // counting boots
}

// functionUse is what a function used, by phase.
type functionUse struct {
	self, total uint64
	samples     uint64 // of a sampled profile, of self
	phases      map[string]uint64
}

// NewSide takes what a comparison needs from a recording. sampled asks for the functions of the sampled profile, should there
// be an exact one too.
func NewSide(r *boottrace.Recording, sampled bool) *Side {
	s := &Side{rec: *r, phases: r.Phases(), disk: NewDiskUse(r), builds: make(map[string]string)}
	s.rec.Exact, s.rec.Sampled = nil, nil
	s.About = SideAbout{
		Image: r.Image, Flavour: r.Flavour, Accel: r.Accel, Machine: r.Machine, Firmware: r.Firmware, VMM: r.VMM, CPU: r.CPU,
		Until: r.Until(), MemoryBytes: r.MemoryBytes, Runs: len(r.Of(boottrace.Timed)), Counting: len(r.Of(boottrace.Counting)),
	}
	if r.TimeNanos != 0 {
		s.About.Time = time.Unix(0, r.TimeNanos).UTC().Format(time.RFC3339)
	}
	p := r.Exact
	if p == nil || sampled {
		p = r.Sampled
	}
	if p == nil {
		return s
	}
	s.kind, s.period = p.Kind, p.PeriodNanos
	for _, m := range p.Mappings {
		s.builds[m.Name] = m.BuildID
	}
	var value func(*boottrace.Sample) uint64
	s.unit, value = weight(p)
	c := newCalls(p)
	all := len(p.Phases)
	s.functions = make(map[string]*functionUse)
	for _, u := range c.uses(all+2, func(s *boottrace.Sample, into []uint64) {
		v := value(s)
		into[all], into[all+1] = v, s.Count
		if s.Phase >= 0 {
			into[s.Phase] = v
		}
	}) {
		f := &functionUse{self: u.self[all], total: u.total[all], samples: u.self[all+1]}
		for i, name := range p.Phases {
			if u.self[i] > 0 {
				if f.phases == nil {
					f.phases = make(map[string]uint64)
				}
				f.phases[name] += u.self[i]
			}
		}
		s.functions[c.names[u.frame]] = f
	}
	return s
}

// Verdicts of a comparison.
const (
	VerdictMore   = "more"
	VerdictLess   = "less"
	VerdictSame   = "same"
	VerdictChance = "no significant difference"
	VerdictFew    = "too few runs"
)

// Change is how one measurement differs.
type Change struct {
	Name string  `json:"name"`
	Unit string  `json:"unit"` // ms, instructions, bytes, requests or ratio
	A    float64 `json:"a"`    // median
	B    float64 `json:"b"`

	Change  float64  `json:"change"` // B - A
	Percent *float64 `json:"percent,omitempty"`
	Verdict string   `json:"verdict"`

	// Of what was measured by the clock or varies from run to run: p of the Mann-Whitney test, and the 95 % confidence interval of the
	// change by Hodges and Lehmann.
	P    *float64 `json:"p,omitempty"`
	Low  *float64 `json:"low,omitempty"`
	High *float64 `json:"high,omitempty"`

	RunsA int `json:"runs_a,omitempty"`
	RunsB int `json:"runs_b,omitempty"`
}

// FunctionChange is how a function differs.
type FunctionChange struct {
	Name   string `json:"name"`
	Phase  string `json:"phase,omitempty"` // in which most of the change lies
	SelfA  uint64 `json:"self_a"`
	SelfB  uint64 `json:"self_b"`
	Self   int64  `json:"self_change"`
	TotalA uint64 `json:"total_a"` // with all that it calls
	TotalB uint64 `json:"total_b"`
	Total  int64  `json:"total_change"`
}

// Diff says how recording B differs from recording A.
type Diff struct {
	A SideAbout `json:"a"`
	B SideAbout `json:"b"`

	Conflicts []string `json:"conflicts,omitempty"` // why the two are not comparable
	Notes     []string `json:"notes,omitempty"`     // what else differs, or should be known

	Measures []Change `json:"measures,omitempty"` // of the boot as a whole
	Phases   []Change `json:"phases,omitempty"`   // time, and then instructions, of each phase that both have

	FunctionKind boottrace.ProfileKind `json:"function_kind,omitempty"`
	FunctionUnit string                `json:"function_unit,omitempty"`
	// Functions are those that changed, the greatest change first; of sampled profiles those that changed by more than chance.
	Functions []FunctionChange `json:"functions,omitempty"`
	Changed   int              `json:"functions_changed"` // how many there are in all
}

// Regressions returns what of time and instructions of the whole boot B takes more of for certain.
func (d *Diff) Regressions() []Change {
	return slices.DeleteFunc(slices.Clone(d.Measures), func(c Change) bool {
		return c.Verdict != VerdictMore || c.Name != "boot" && c.Name != "instructions"
	})
}

// NewDiff compares two recordings, and tells at most n functions.
func NewDiff(a, b *Side, n int) *Diff {
	d := &Diff{A: a.About, B: b.About}
	d.circumstances(a, b)
	timed := func(s *Side) []*boottrace.Run { return s.rec.Of(boottrace.Timed) }
	counting := func(s *Side) []*boottrace.Run { return s.rec.Of(boottrace.Counting) }
	traced := func(s *Side) []*boottrace.Run { return slices.Concat(s.rec.Of(boottrace.Traced), timed(s)) }
	either := func(value func(*boottrace.Run) float64) func(s *Side) []float64 {
		return func(s *Side) []float64 {
			if v := valuesOf(timed(s), value); len(v) > 0 {
				return v
			}
			return valuesOf(counting(s), value)
		}
	}
	boot := func(s *Side) []float64 {
		return valuesOf(timed(s), func(r *boottrace.Run) float64 { return float64(r.ReadyNanos) / 1e6 })
	}
	floor := func(s *Side) []float64 {
		return valuesOf(s.rec.Of(boottrace.Floor), func(r *boottrace.Run) float64 { return float64(r.ReadyNanos) / 1e6 })
	}
	instrs := func(s *Side) []float64 {
		return valuesOf(counting(s), func(r *boottrace.Run) float64 { return float64(r.Instructions) })
	}
	var all []*Change
	all = append(all,
		compare("boot", "ms", boot(a), boot(b)),
		compare("floor", "ms", floor(a), floor(b)),
		compare("boot ÷ floor", "ratio", ratios(&a.rec), ratios(&b.rec)),
		compareCounts("instructions", "instructions", instrs(a), instrs(b)))
	for _, m := range []struct {
		name  string
		value func(*boottrace.Run) float64
	}{
		{"touched memory", func(r *boottrace.Run) float64 { return float64(r.TouchedBytes) }},
		{"VMM's PSS", func(r *boottrace.Run) float64 { return float64(r.PSSBytes) }},
	} {
		all = append(all, compare(m.name, "bytes", either(m.value)(a), either(m.value)(b)))
	}
	all = append(all, regionChanges(a, b)...)
	disk := func(s *Side, value func(*boottrace.Run) float64) []float64 {
		if v := valuesOf(counting(s), value); len(v) > 0 {
			return v
		}
		return valuesOf(traced(s), value)
	}
	requests := func(r *boottrace.Run) float64 { return float64(len(r.IO)) }
	read := func(r *boottrace.Run) (n float64) {
		for i := range r.IO {
			if r.IO[i].Op == "read" {
				n += float64(r.IO[i].Length)
			}
		}
		return n
	}
	latency := func(r *boottrace.Run) (ms float64) {
		for i := range r.IO {
			ms += float64(r.IO[i].Nanos) / 1e6
		}
		return ms
	}
	all = append(all,
		compareCounts("disk requests", "requests", disk(a, requests), disk(b, requests)),
		compareCounts("read from disk", "bytes", disk(a, read), disk(b, read)),
		compare("disk latencies", "ms", valuesOf(traced(a), latency), valuesOf(traced(b), latency)))
	d.Measures = present(all)
	d.Phases = phaseChanges(a, b)
	d.functions(a, b, n)
	return d
}

// circumstances tells what differs besides the figures.
func (d *Diff) circumstances(a, b *Side) {
	differ := func(what, x, y string) string {
		return fmt.Sprintf("%s: A has %s, B has %s", what, cmp.Or(clean(x), "none"), cmp.Or(clean(y), "none"))
	}
	for _, c := range []struct {
		what, x, y string
		conflict   bool
	}{
		{"accelerator", a.About.Accel, b.About.Accel, true},
		{"machine", a.About.Machine, b.About.Machine, true},
		{"what ready means", a.About.Until, b.About.Until, true},
		{"flavour", a.About.Flavour, b.About.Flavour, false},
		{"another image", a.About.Image, b.About.Image, false},
		{"firmware", a.About.Firmware, b.About.Firmware, false},
		{"VMM", a.About.VMM, b.About.VMM, false},
		{"CPU model", a.About.CPU, b.About.CPU, false},
		{"guest memory", size(a.About.MemoryBytes), size(b.About.MemoryBytes), false},
	} {
		switch {
		case c.x == c.y:
		case c.conflict && c.x != "" && c.y != "":
			d.Conflicts = append(d.Conflicts, differ(c.what, c.x, c.y))
		default:
			d.Notes = append(d.Notes, differ(c.what, c.x, c.y))
		}
	}
	for _, name := range sortedKeys(a.builds) {
		if x, y := a.builds[name], b.builds[name]; x != "" && y != "" && x != y {
			d.Notes = append(d.Notes, differ("another build of "+clean(name), x, y))
		}
	}
	for _, s := range []struct {
		name string
		side *Side
	}{{"A", a}, {"B", b}} {
		if len(s.side.rec.Runs) == 0 {
			d.Notes = append(d.Notes, s.name+" has no boots")
		}
	}
}

// valuesOf returns the values of the runs that have them.
func valuesOf(runs []*boottrace.Run, value func(*boottrace.Run) float64) []float64 {
	var all []float64
	for _, run := range runs {
		if v := value(run); v > 0 {
			all = append(all, v)
		}
	}
	return all
}

// ratios returns the time of each timed run over that of the floor run before it.
func ratios(r *boottrace.Recording) []float64 {
	var all []float64
	floor := 0.0
	for i := range r.Runs {
		switch run := &r.Runs[i]; run.Kind {
		case boottrace.Floor:
			floor = float64(run.ReadyNanos)
		case boottrace.Timed:
			if floor > 0 && run.ReadyNanos > 0 {
				all = append(all, float64(run.ReadyNanos)/floor)
			}
			floor = 0
		}
	}
	return all
}

// compare compares what varies from run to run. It is nil when a side has none.
func compare(name, unit string, a, b []float64) *Change {
	found, ok := boottrace.Compare(a, b)
	if !ok {
		return nil
	}
	c := &Change{Name: name, Unit: unit, A: found.A.Median, B: found.B.Median, RunsA: len(a), RunsB: len(b)}
	c.difference()
	switch {
	case found.A == found.B && found.A.Min == found.A.Max:
		c.Verdict = VerdictSame
		return c
	case !found.Enough:
		c.Verdict = VerdictFew
		return c
	case !found.Significant() || found.Shift == 0:
		c.Verdict = VerdictChance
	case found.Shift > 0:
		c.Verdict = VerdictMore
	default:
		c.Verdict = VerdictLess
	}
	c.P, c.Low, c.High = &found.P, &found.Low, &found.High
	return c
}

func (c *Change) difference() {
	c.Change = c.B - c.A
	if c.A != 0 {
		c.Percent = new(100 * c.Change / c.A)
	}
}

// countSpread is how much the instructions of one image may differ between counting boots, since a guest that waits for its
// disk or calibrates a clock looks now and then: one part in a thousand. docs/bootprof.md has what was seen.
const countSpread = 1e-3

// compareCounts compares what is exact: counts differ if those of all runs of one side are above those of the other. A
// lone run does not tell how much runs differ, so that there the change must be more than countSpread.
func compareCounts(name, unit string, a, b []float64) *Change {
	found, ok := boottrace.Compare(a, b)
	if !ok {
		return nil
	}
	c := &Change{Name: name, Unit: unit, A: found.A.Median, B: found.B.Median, RunsA: len(a), RunsB: len(b)}
	c.difference()
	lone := len(a) == 1 || len(b) == 1
	switch {
	case c.Change == 0:
		c.Verdict = VerdictSame
	case found.A.Min <= found.B.Max && found.B.Min <= found.A.Max, lone && math.Abs(c.Change) <= countSpread*c.A:
		c.Verdict = VerdictChance
	case c.Change > 0:
		c.Verdict = VerdictMore
	default:
		c.Verdict = VerdictLess
	}
	return c
}

// ownerPrefix begins the names of changes of memory by owner.
const ownerPrefix = "touched: "

// regionChanges compares the touched memory of the median boots by owner, if both know it.
func regionChanges(a, b *Side) []*Change {
	// An owner that a boot does not have, has nothing in it.
	owners := func(s *Side) (m map[string][]float64, runs int) {
		m = make(map[string][]float64)
		for _, run := range s.rec.Of(boottrace.Timed) {
			if len(run.Regions) == 0 {
				continue
			}
			for _, g := range run.Regions {
				m[g.Name] = append(m[g.Name], float64(g.TouchedBytes))
			}
			runs++
		}
		return m, runs
	}
	fill := func(values []float64, runs int) []float64 {
		return append(values, make([]float64, max(runs-len(values), 0))...)
	}
	x, nx := owners(a)
	y, ny := owners(b)
	if nx == 0 || ny == 0 {
		return nil
	}
	var all []*Change
	for _, name := range sortedKeys(x, y) {
		all = append(all, compare(ownerPrefix+name, "bytes", fill(x[name], nx), fill(y[name], ny)))
	}
	return all
}

// phaseChanges compares the phases that both have, in each of their runs: first time, then instructions.
func phaseChanges(a, b *Side) []Change {
	times := func(s *Side) map[string][]float64 {
		m := make(map[string][]float64)
		for _, run := range s.rec.Of(boottrace.Timed) {
			one := boottrace.Recording{Runs: []boottrace.Run{*run}}
			for _, p := range one.Phases() {
				m[p.Name] = append(m[p.Name], p.Nanos/1e6)
			}
		}
		return m
	}
	x, y := times(a), times(b)
	var all []*Change
	for _, p := range a.phases {
		all = append(all, compare(p.Name, "ms", x[p.Name], y[p.Name]))
	}
	for _, p := range a.phases {
		for _, q := range b.phases {
			if p.Name == q.Name && p.Counted && q.Counted {
				all = append(all, compareCounts(p.Name, "instructions", []float64{p.Instructions}, []float64{q.Instructions}))
			}
		}
	}
	return present(all)
}

func present(all []*Change) []Change {
	var some []Change
	for _, c := range all {
		if c != nil {
			some = append(some, *c)
		}
	}
	return some
}

// functions compares the functions, if both sides have profiles of the same kind.
func (d *Diff) functions(a, b *Side, n int) {
	if a.kind != b.kind || a.unit != b.unit {
		if a.kind != "" || b.kind != "" {
			d.Notes = append(d.Notes, fmt.Sprintf("no functions: A has %s profile, B has %s", cmp.Or(withArticle(a), "no"), cmp.Or(withArticle(b), "none")))
		}
		return
	}
	if a.kind == "" {
		return
	}
	d.FunctionKind, d.FunctionUnit = a.kind, a.unit
	if len(a.functions) == 0 || len(b.functions) == 0 {
		d.Notes = append(d.Notes, "a profile is empty")
	}
	var none functionUse
	add := func(name string, x, y *functionUse) {
		f := FunctionChange{
			Name: name, SelfA: x.self, SelfB: y.self, Self: int64(y.self - x.self),
			TotalA: x.total, TotalB: y.total, Total: int64(y.total - x.total),
		}
		if f.Self == 0 || a.kind == boottrace.Sampled && !apart(x.samples, y.samples) {
			return
		}
		most := int64(0)
		for _, phase := range sortedKeys(x.phases, y.phases) {
			change := int64(y.phases[phase] - x.phases[phase])
			if f.Self < 0 {
				change = -change
			}
			if change > most {
				f.Phase, most = phase, change
			}
		}
		d.Functions = append(d.Functions, f)
	}
	for name, x := range a.functions {
		if y := b.functions[name]; y != nil {
			add(name, x, y)
		} else {
			add(name, x, &none)
		}
	}
	for name, y := range b.functions {
		if a.functions[name] == nil {
			add(name, &none, y)
		}
	}
	d.Changed = len(d.Functions)
	slices.SortFunc(d.Functions, func(x, y FunctionChange) int {
		return cmp.Or(cmp.Compare(abs(y.Self), abs(x.Self)), cmp.Compare(x.Name, y.Name))
	})
	d.Functions = d.Functions[:min(n, len(d.Functions))]
}

func withArticle(s *Side) string {
	switch s.kind {
	case boottrace.Exact:
		return "an exact"
	case boottrace.Sampled:
		return "a sampled"
	}
	return ""
}

// apart reports whether two numbers of samples differ by more than three standard deviations of their difference, which is
// seldom chance even among hundreds of functions.
func apart(x, y uint64) bool {
	diff := float64(y) - float64(x)
	return math.Abs(diff) > 3*math.Sqrt(float64(x)+float64(y))
}

func abs(v int64) uint64 {
	if v < 0 {
		return uint64(-v)
	}
	return uint64(v)
}

// sortedKeys returns the keys of all maps, each once.
func sortedKeys[V any](maps ...map[string]V) []string {
	var keys []string
	for _, m := range maps {
		for k := range m {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// WriteJSON writes the comparison as JSON, indented, with a newline at its end.
func (d *Diff) WriteJSON(w io.Writer) error { return writeJSON(w, d) }

// WriteTable writes the comparison for people.
func (d *Diff) WriteTable(w io.Writer, style Style) error {
	t := &timeline{style: style}
	for _, s := range []struct {
		name  string
		about SideAbout
	}{{"A", d.A}, {"B", d.B}} {
		var about []string
		for _, text := range []string{s.about.Flavour, s.about.Machine, s.about.Firmware, s.about.Accel, size(s.about.MemoryBytes), s.about.VMM, s.about.Time} {
			if text != "" {
				about = append(about, text)
			}
		}
		t.printf("%s  %s  %s\n", t.style.paint(bold, s.name), clean(s.about.Image), t.style.paint(dim, clean(strings.Join(about, " · "))))
	}
	for _, c := range d.Conflicts {
		t.printf("not comparable: %s\n", c)
	}
	for _, n := range d.Notes {
		t.printf("note: %s\n", n)
	}
	if len(d.Measures) == 0 {
		t.printf("\nthere is nothing that was measured in both\n")
	} else {
		// Most owners never change: they are left to the JSON.
		t.changes("boot", slices.DeleteFunc(slices.Clone(d.Measures), func(c Change) bool {
			return strings.HasPrefix(c.Name, ownerPrefix) && c.Change == 0
		}))
	}
	if len(d.Phases) > 0 {
		t.changes("phase", d.Phases)
	}
	t.functionChanges(d)
	_, err := io.WriteString(w, t.b.String())
	return err
}

func (t *timeline) changes(what string, all []Change) {
	changeName := 22
	for _, c := range all {
		changeName = max(changeName, utf8.RuneCountInString(c.Name)+1)
	}
	t.printf("\n%s\n", t.style.paint(dim, fmt.Sprintf("%s%15s%15s%15s%9s", padRight(what, changeName), "A", "B", "change", "%")))
	for _, c := range all {
		percent := ""
		if c.Percent != nil {
			percent = fmt.Sprintf("%+.1f", *c.Percent)
		}
		t.printf("%s%15s%15s%15s%9s  %s\n", padRight(clean(c.Name), changeName), quantity(c.A, c.Unit), quantity(c.B, c.Unit), signed(c.Change, c.Unit), percent, c.verdict())
	}
}

// verdict says in words what a change means, and why.
func (c *Change) verdict() string {
	words := c.Verdict
	if c.Unit == "ms" {
		words = map[string]string{VerdictMore: "slower", VerdictLess: "faster"}[c.Verdict]
		words = cmp.Or(words, c.Verdict)
	}
	switch {
	case c.P != nil:
		return fmt.Sprintf("%s (p %s, 95 %% within %s … %s; %d and %d runs)", words, pText(*c.P), signed(*c.Low, c.Unit), signed(*c.High, c.Unit), c.RunsA, c.RunsB)
	case c.Verdict == VerdictFew:
		return fmt.Sprintf("%s to tell: %d and %d; four and four can", words, c.RunsA, c.RunsB)
	case c.Unit == "instructions" && c.Verdict == VerdictChance:
		return words + ": so much may differ between counting boots"
	}
	return words
}

func pText(p float64) string {
	if p < 0.0001 {
		return "< 0.0001"
	}
	return fmt.Sprintf("= %.4f", p)
}

func quantity(v float64, unit string) string {
	switch unit {
	case "ms":
		return fmt.Sprintf("%.2f ms", v)
	case "ratio":
		return fmt.Sprintf("%.2f", v)
	case "bytes":
		return cmp.Or(size(uint64(v)), "0 B")
	}
	return count(v, true)
}

func signed(v float64, unit string) string {
	if v < 0 {
		return "-" + quantity(-v, unit)
	}
	return "+" + quantity(v, unit)
}

func (t *timeline) functionChanges(d *Diff) {
	if d.FunctionKind == "" {
		return
	}
	about := string(d.FunctionKind) + "; " + d.FunctionUnit + " by themselves, the greatest change first"
	if d.FunctionKind == boottrace.Sampled {
		about += "; what may be chance is left out"
	}
	t.heading("functions", about)
	if len(d.Functions) == 0 {
		t.printf("no function changed\n")
		return
	}
	t.printf("%s\n", t.style.paint(dim, fmt.Sprintf("%15s%15s%15s%17s  %-9s  %s", "A", "B", "change", "with callees", "phase", "function")))
	for _, f := range d.Functions {
		t.printf("%15s%15s%15s%17s  %-9s  %s\n", count(float64(f.SelfA), true), count(float64(f.SelfB), true), signed(float64(f.Self), ""), signed(float64(f.Total), ""), clean(cmp.Or(f.Phase, "-")), clean(f.Name))
	}
	if n := d.Changed - len(d.Functions); n > 0 {
		t.printf("and %d more functions changed; --top N shows more\n", n)
	}
}
