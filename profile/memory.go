package profile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// How much is told of memory.
const (
	summaryOwners = 5 // that a summary names
	tableTouchers = 2 // functions of each owner
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

// growth writes how much memory was touched by each mark.
func (t *timeline) growth(run *boottrace.Run) {
	over := run.Memory.OverTime
	if len(over) == 0 {
		return
	}
	counted := over[len(over)-1].Instructions > 0
	written := false
	for _, mark := range run.Marks {
		i := sort.Search(len(over), func(i int) bool {
			if counted {
				return over[i].Instructions > mark.Instructions
			}
			return over[i].Nanos > mark.HostNanos
		})
		if i == 0 || strings.HasPrefix(mark.Name, boottrace.InitcallPrefix) {
			continue
		}
		if !written {
			t.heading("touched memory", "by the time of each mark")
			written = true
		}
		t.printf("%12s%*s  %s\n", cmp.Or(size(over[i-1].Bytes), "0 B"), shareWidth, share(float64(over[i-1].Bytes), float64(run.TouchedBytes)), clean(mark.Label()))
	}
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
