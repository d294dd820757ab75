package profile

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// How much a table shows.
const (
	tableFunctions = 20 // of the whole boot
	phaseFunctions = 5  // of each phase
	tableFiles     = 20
	tableSlowest   = 5
)

// WriteTable writes all that a recording holds for people: the timeline, and what there is of functions, memory and disk.
// p is the profile of functions, one of the recording's or nil.
func WriteTable(w io.Writer, r *boottrace.Recording, p *boottrace.Profile, style Style) error {
	if err := WriteTimeline(w, r, style); err != nil {
		return err
	}
	t := &timeline{style: style, r: r, s: r.Summarize()}
	if top := NewTop(p, tableFunctions); top != nil {
		t.functions(top, p)
	}
	if !style.Marks { // else the timeline has it
		t.memory()
	}
	if u := NewDiskUse(r); u != nil {
		t.disk(u)
	}
	_, err := io.WriteString(w, t.b.String())
	return err
}

// heading writes a heading and what is to be known of it.
func (t *timeline) heading(name, about string) {
	t.printf("\n%s  %s\n", t.style.paint(bold, name), t.style.paint(dim, about))
}

func (t *timeline) functions(top *Top, p *boottrace.Profile) {
	about := fmt.Sprintf("%s, %s in all, %s %% in functions with a name", top.Unit, count(float64(top.Total), true), share(float64(top.Named), float64(top.Total)))
	if top.Kind == boottrace.Sampled {
		about += fmt.Sprintf(", a sample every %s ms", millisText(float64(p.PeriodNanos), 0))
	}
	t.heading("functions", string(top.Kind)+"; "+about)
	if top.Total == 0 {
		t.printf("the profile is empty\n")
		return
	}
	t.topRows(top.Functions, top.Total)
	for _, ph := range top.Phases {
		t.heading("phase "+clean(ph.Name), count(float64(ph.Total), true)+" "+top.Unit)
		t.topRows(ph.Functions[:min(phaseFunctions, len(ph.Functions))], ph.Total)
	}
	if len(top.Touched) > 0 {
		var total uint64
		for i := range p.Samples {
			total += p.Samples[i].TouchedBytes
		}
		t.heading("first touched by", "bytes of guest memory, whole pages, by the function that touched them first")
		t.topRows(top.Touched[:min(10, len(top.Touched))], total)
	}
}

func (t *timeline) topRows(fs []TopFunction, total uint64) {
	t.printf("%s\n", t.style.paint(dim, fmt.Sprintf("%15s%*s%15s%*s  %s", "self", shareWidth, "%", "total", shareWidth, "%", "function")))
	for _, f := range fs {
		t.printf("%15s%*s%15s%*s  %s\n", count(float64(f.Self), true), shareWidth, share(float64(f.Self), float64(total)),
			count(float64(f.Total), true), shareWidth, share(float64(f.Total), float64(total)), clean(f.Name))
	}
}

func (t *timeline) disk(u *DiskUse) {
	about := fmt.Sprintf("%d requests before ready, %s read", u.Requests, cmp.Or(size(u.ReadBytes), "nothing"))
	if u.Amplification != nil {
		about += fmt.Sprintf(", %s without what was read again", size(u.DistinctBytes))
		if u.ContentBytes > 0 {
			about += fmt.Sprintf(", with %s of content", size(u.ContentBytes))
		}
		about += fmt.Sprintf(" (read amplification %.2f)", *u.Amplification)
	}
	if u.WroteBytes > 0 {
		about += ", " + size(u.WroteBytes) + " written"
	}
	if u.BusyMS != nil {
		about += fmt.Sprintf(", %.2f ms with a request under way, latencies of %.2f ms in all", *u.BusyMS, *u.LatencyMS)
	}
	t.heading("disk", about)
	for _, n := range []struct {
		n    int
		what string
	}{{u.Failed, "that the disk did not do"}, {u.Later, "when it was ready, which are not in these figures"}, {u.Dropped, "that were not recorded"}} {
		if n.n > 0 {
			t.printf("requests %s: %d\n", n.what, n.n)
		}
	}
	ms := func(v *float64) string {
		if v == nil {
			return "-"
		}
		return fmt.Sprintf("%.2f", *v)
	}
	if len(u.Files) > 0 {
		t.printf("%s\n", t.style.paint(dim, fmt.Sprintf("%10s%12s%*s  %s", "requests", "content", msWidth, "ms", "file, in the order of first use")))
		for _, f := range u.Files[:min(tableFiles, len(u.Files))] {
			name := clean(partName(boottrace.Part{Path: f.Path, What: f.What}))
			if f.Along {
				name += " (came along with others)"
			}
			t.printf("%10d%12s%*s  %s\n", f.Requests, cmp.Or(size(f.Bytes), "0 B"), msWidth, ms(f.LatencyMS), name)
		}
		if n := len(u.Files) - tableFiles; n > 0 {
			t.printf("and %d more; --format json has all\n", n)
		}
	}
	if len(u.Slowest) > 0 {
		t.printf("%s\n", t.style.paint(dim, fmt.Sprintf("%*s%*s%12s%16s  %s", msWidth, "at ms", msWidth, "ms", "length", "offset", "slowest requests")))
		for _, q := range u.Slowest[:min(tableSlowest, len(u.Slowest))] {
			t.printf("%*.2f%*.2f%12s%16d  %s\n", msWidth, q.StartMS, msWidth, q.LatencyMS, cmp.Or(size(q.Length), "0 B"), q.Offset, clean(strings.TrimSpace(q.Op+" "+q.What)))
		}
	}
}

// clean takes out of a name what could do something to a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
