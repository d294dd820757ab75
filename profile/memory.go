package profile

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// How much is told of memory.
const (
	summaryOwners = 5   // that a summary names
	tableTouchers = 2   // functions of each owner
	tableMarks    = 8   // columns of memory over time
	tableGrowth   = 200 // at least this part of all memory is a new column
)

// memoryRun returns the run whose memory is shown: one of which each page's first touch is known, a median timed one, or else the first
// that has details; or nil.
func memoryRun(r *boottrace.Recording) *boottrace.Run {
	runs := slices.Concat(r.MedianRuns(), r.Of(boottrace.Timed), r.Of(boottrace.Counting))
	for _, has := range []func(*boottrace.Run) bool{
		func(run *boottrace.Run) bool { return run.Memory != nil && len(run.Memory.Ready) > 0 },
		func(run *boottrace.Run) bool { return len(run.Regions) > 0 || run.Memory != nil },
	} {
		if i := slices.IndexFunc(runs, has); i >= 0 {
			return runs[i]
		}
	}
	return nil
}

// memory writes the touched memory by owner, and how it grew.
func (t *timeline) memory() {
	run := memoryRun(t.r)
	if run == nil {
		return
	}
	t.heading("memory", "pages of the guest that were touched, of one "+string(run.Kind)+" boot")
	defer t.owners(run)
	ready := make(map[string]uint64)
	if run.Memory != nil {
		for _, g := range run.Memory.Ready {
			ready[g.Name] = g.TouchedBytes
		}
	}
	bytes := func(n uint64) string { return cmp.Or(size(n), "0 B") }
	line := func(name string, n, atReady uint64, first ...boottrace.Toucher) {
		at := ""
		if len(ready) > 0 {
			at = fmt.Sprintf("%12s", bytes(atReady))
		}
		var by []string
		for _, f := range first[:min(tableTouchers, len(first))] {
			by = append(by, clean(f.Function[strings.LastIndexByte(f.Function, '/')+1:])+" "+bytes(f.Bytes))
		}
		name = clean(name)
		if len(by) > 0 {
			name += t.style.paint(dim, ", first by "+strings.Join(by, ", "))
		}
		t.printf("%12s%*s%s  %s\n", bytes(n), shareWidth, share(float64(n), float64(run.TouchedBytes)), at, name)
	}
	if len(ready) > 0 {
		t.printf("%s\n", t.style.paint(dim, fmt.Sprintf("%12s%*s%12s  %s", "at the end", shareWidth, "%", "at ready", "for")))
	}
	rest := run.TouchedBytes
	for _, g := range run.Regions {
		line(g.Name, g.TouchedBytes, ready[g.Name], g.First...)
		rest -= min(rest, g.TouchedBytes)
	}
	if rest > 0 && len(run.Regions) > 0 {
		line("[of no known owner]", rest, 0)
	}
	m := run.Memory
	if m == nil {
		line("all", run.TouchedBytes, 0)
		return
	}
	line("all", run.TouchedBytes, m.ReadyBytes)
	detail := func(name string, n uint64) {
		t.printf("%12s%*s  %s\n", bytes(n), shareWidth, share(float64(n), float64(run.TouchedBytes)), name)
	}
	detail("of them full of zeros", m.ZeroBytes)
	detail("of them equal to another page", m.DuplicateBytes)
	if len(ready) == 0 && m.ReadyBytes > 0 {
		detail("of them touched when it was ready", m.ReadyBytes)
	}
	if m.RSSBytes > 0 {
		t.printf("%12s%*s  %s\n", size(m.RSSBytes), shareWidth, "", "resident set of the VMM")
	}
	for _, name := range slices.Sorted(maps.Keys(m.Balloon)) {
		t.printf("%12d%*s  balloon: %s\n", m.Balloon[name], shareWidth, "", clean(name))
	}
	t.growth(run)
}

// owners writes what all RAM is for by the kernel's own account, whether touched or not.
func (t *timeline) owners(run *boottrace.Run) {
	if run.Guest == nil || len(run.Guest.Owners) == 0 {
		return
	}
	t.heading("RAM", "by the kernel's own account, at its last mark")
	const pageSize = 4096
	var all uint64
	for _, o := range run.Guest.Owners {
		all += min(o.Pages, math.MaxUint32) * pageSize
	}
	for _, o := range run.Guest.Owners {
		n := min(o.Pages, math.MaxUint32) * pageSize
		t.printf("%12s%*s  %s\n", cmp.Or(size(n), "0 B"), shareWidth, share(float64(n), float64(all)), clean(o.Name))
	}
	t.printf("%12s%*s  %s\n", size(all), shareWidth, share(1, 1), "all that the loader's map names")
}

// growth writes how much memory was touched by each mark that is much more than by the one before, in all and by owner.
func (t *timeline) growth(run *boottrace.Run) {
	over := run.Memory.OverTime
	if len(over) == 0 {
		return
	}
	counted := over[len(over)-1].Instructions > 0
	type column struct {
		label string
		at    int // in over
	}
	var columns []column
	for _, mark := range run.Marks {
		at := sort.Search(len(over), func(i int) bool {
			if counted {
				return over[i].Instructions > mark.Instructions
			}
			return over[i].Nanos > mark.HostNanos
		}) - 1
		if at < 0 || strings.HasPrefix(mark.Name, boottrace.InitcallPrefix) {
			continue
		}
		var before uint64
		if n := len(columns); n > 0 {
			before = over[columns[n-1].at].Bytes
		}
		if over[at].Bytes > before && over[at].Bytes-before >= run.TouchedBytes/tableGrowth && len(columns) < tableMarks {
			columns = append(columns, column{clean(mark.Label()), at})
		}
	}
	if len(columns) == 0 {
		return
	}
	t.heading("memory over time", "touched by the time of these marks, by what it was for in the end")
	line := func(name string, value func(c column) string) {
		for _, c := range columns {
			t.printf("%*s", max(11, utf8.RuneCountInString(c.label)+2), value(c))
		}
		t.printf("  %s\n", name)
	}
	line(t.style.paint(dim, "for"), func(c column) string { return c.label })
	for _, g := range run.Regions {
		if len(g.OverTime) == len(over) {
			line(clean(g.Name), func(c column) string { return size(g.OverTime[c.at]) })
		}
	}
	line("all", func(c column) string { return size(over[c.at].Bytes) })
}

// endOnly returns regions without what they were over time.
func endOnly(regions []boottrace.Region) []boottrace.Region {
	regions = slices.Clone(regions)
	for i := range regions {
		regions[i].OverTime = nil
	}
	return regions
}

// memoryFigure writes what the memory was for in a few words.
func (t *timeline) memoryFigure() {
	run := memoryRun(t.r)
	if run == nil || len(run.Regions) == 0 {
		return
	}
	owners := slices.SortedStableFunc(slices.Values(run.Regions), func(a, b boottrace.Region) int { return cmp.Compare(b.TouchedBytes, a.TouchedBytes) })
	var parts []string
	var rest uint64
	for i, g := range owners {
		if i < summaryOwners {
			parts = append(parts, size(g.TouchedBytes)+" "+clean(g.Name))
		} else {
			rest += g.TouchedBytes
		}
	}
	if rest > 0 {
		parts = append(parts, size(rest)+" more")
	}
	if m := run.Memory; m != nil {
		parts[len(parts)-1] += "; of all " + cmp.Or(size(m.ZeroBytes), "0 B") + " zero"
		parts = append(parts, cmp.Or(size(m.DuplicateBytes), "0 B")+" duplicate")
	}
	line := ""
	for i, part := range parts {
		if i < len(parts)-1 {
			part += ","
		}
		if line != "" && nameWidth+utf8.RuneCountInString(line)+1+utf8.RuneCountInString(part) > t.style.Width {
			t.figure("", line, "")
			line = ""
		}
		line = strings.TrimSpace(line + " " + part)
	}
	t.figure("", line, "one "+string(run.Kind)+" boot")
}
