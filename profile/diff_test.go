package profile

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/boottrace/tracetest"
)

// series is a recording of as many timed boots, the first of which takes so many ms and each a bit longer than the one before.
func series(boots int, first int64) *boottrace.Recording {
	r := profiled()
	r.Runs = nil
	for i := range boots {
		r.Runs = append(r.Runs, floor(30+int64(i)%3), timed(first+int64(i)))
		r.Runs[len(r.Runs)-1].IO = requests()
	}
	c := counting()
	c.Instructions = 200
	c.Marks = nil
	r.Runs = append(r.Runs, c)
	return r
}

func verdicts(d *Diff) map[string]string {
	v := make(map[string]string)
	for _, c := range d.Measures {
		v[c.Name] = c.Verdict
	}
	return v
}

func TestDiff(t *testing.T) {
	a, b := series(8, 100), series(8, 120)
	b.Exact.Samples[5].Instructions += 50 // copy, in the app
	b.Exact.Samples[1].Instructions -= 9
	b.Exact.Functions = append(b.Exact.Functions, boottrace.Function{Name: "brand new"})
	b.Exact.Locations = append(b.Exact.Locations, boottrace.Location{Mapping: 0, Lines: []boottrace.Line{{Function: 3}}})
	b.Exact.Stacks = append(b.Exact.Stacks, boottrace.Stack{Parent: 2, Location: 4})
	b.Exact.Samples = append(b.Exact.Samples, boottrace.Sample{Stack: 6, Phase: 0, Instructions: 5})
	b.Exact.Mappings[0].BuildID = "dcba"
	b.Image, b.MemoryBytes = "other.img", 1<<30
	last := &b.Runs[len(b.Runs)-1]
	last.Instructions = b.Exact.Instructions()
	d := NewDiff(NewSide(a, false), NewSide(b, false), 10)
	want := map[string]string{
		"boot": VerdictMore, "floor": VerdictChance, "boot ÷ floor": VerdictMore, "instructions": VerdictMore, "touched memory": VerdictSame,
		"VMM's PSS": VerdictFew, "touched: kernel image": VerdictSame, "disk requests": VerdictSame, "read from disk": VerdictSame, "disk latencies": VerdictSame,
	}
	want["VMM's PSS"] = VerdictSame // one boot each, and no difference
	if diff := cmp.Diff(want, verdicts(d)); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	if c := d.Measures[0]; c.Change != 20 || *c.Low > 20 || *c.High < 20 || *c.P > 0.001 {
		t.Errorf("boot: %+v, %v to %v, p %v", c, *c.Low, *c.High, *c.P)
	}
	if diff := cmp.Diff([]FunctionChange{
		{"copy", "app", 30, 80, 50, 30, 80, 50}, {"[firmware]", "", 99, 90, -9, 99, 90, -9}, {"brand new", "kernel", 0, 5, 5, 0, 5, 5},
	}, d.Functions); diff != "" {
		t.Errorf("functions (-want +got):\n%s", diff)
	}
	if got := d.Regressions(); len(got) != 2 || got[0].Name != "boot" || got[1].Name != "instructions" {
		t.Errorf("regressions: %+v", got)
	}
	if len(d.Conflicts) > 0 || len(d.Notes) != 3 {
		t.Errorf("conflicts %q, notes %q", d.Conflicts, d.Notes)
	}
	var text, js bytes.Buffer
	if err := errors.Join(d.WriteTable(&text, Style{}), d.WriteJSON(&js)); err != nil {
		t.Fatal(err)
	}
	golden(t, "diff.txt", text.Bytes())
	golden(t, "diff.json", js.Bytes())
	if err := d.WriteTable(failingWriter{}, Style{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a writer that fails: %v", err)
	}
	// The other way round what was more is less.
	if back := NewDiff(NewSide(b, false), NewSide(a, false), 1); verdicts(back)["boot"] != VerdictLess || verdicts(back)["instructions"] != VerdictLess || back.Changed != 3 || len(back.Functions) != 1 {
		t.Errorf("the other way round: %v", verdicts(back))
	}
}

func TestDiffSame(t *testing.T) {
	d := NewDiff(NewSide(series(8, 100), false), NewSide(series(8, 100), false), 10)
	for name, v := range verdicts(d) {
		if v != VerdictSame && v != VerdictChance {
			t.Errorf("%s of the same: %s", name, v)
		}
	}
	if d.Changed != 0 || len(d.Regressions()) > 0 || len(d.Notes) > 0 {
		t.Errorf("%+v", d)
	}
	if d := NewDiff(NewSide(series(2, 100), false), NewSide(series(2, 200), false), 10); verdicts(d)["boot"] != VerdictFew {
		t.Errorf("two boots each: %v", verdicts(d))
	}
	// As much as counting boots of one image may differ decides nothing; with two of each it does.
	a, b := series(1, 100), series(1, 100)
	a.Exact, b.Exact = nil, nil
	a.Runs[len(a.Runs)-1].Instructions, b.Runs[len(b.Runs)-1].Instructions = 1_000_000, 1_000_003
	if v := verdicts(NewDiff(NewSide(a, false), NewSide(b, false), 1))["instructions"]; v != VerdictChance {
		t.Errorf("three instructions more: %s", v)
	}
	a.Runs, b.Runs = append(a.Runs, a.Runs[len(a.Runs)-1]), append(b.Runs, b.Runs[len(b.Runs)-1])
	if v := verdicts(NewDiff(NewSide(a, false), NewSide(b, false), 1))["instructions"]; v != VerdictMore {
		t.Errorf("three instructions more, two boots each: %s", v)
	}
}

func TestDiffCircumstances(t *testing.T) {
	a, b := series(4, 100), recordings()["empty"]
	b.Accel, b.Machine, b.Image, b.Runs = "kvm", "q35", "\x1b[31mred", []boottrace.Run{timed(9)}
	b.Runs[0].Until = boottrace.UntilExit
	d := NewDiff(NewSide(a, false), NewSide(b, false), 10)
	if got := strings.Join(d.Conflicts, "\n"); !strings.Contains(got, "A has tcg, B has kvm") || !strings.Contains(got, "q35") || !strings.Contains(got, "B has exit") {
		t.Errorf("conflicts: %q", got)
	}
	if got := strings.Join(d.Notes, "\n"); !strings.Contains(got, "another image") || !strings.Contains(got, "A has an exact profile, B has none") || strings.Contains(got, "\x1b") {
		t.Errorf("notes: %q", got)
	}
	empty := &boottrace.Recording{Exact: &boottrace.Profile{Kind: boottrace.Exact}}
	d = NewDiff(NewSide(empty, false), NewSide(empty, false), 10)
	var text bytes.Buffer
	if err := d.WriteTable(&text, Style{}); err != nil || !strings.Contains(text.String(), "nothing that was measured in both") || !strings.Contains(text.String(), "a profile is empty") {
		t.Errorf("nothing with nothing: %v\n%s", err, text.String())
	}
	// Samples that may differ by chance are no change.
	a, b = recording(timed(100)), recording(timed(100))
	a.Sampled, b.Sampled = small(), small()
	for i, p := range []*boottrace.Profile{a.Sampled, b.Sampled} {
		p.Kind = boottrace.Sampled
		for j := range p.Samples {
			p.Samples[j].Instructions, p.Samples[j].Count = 0, uint64(20+5*i)
		}
		p.Samples[5].Count += uint64(i) * 100
	}
	d = NewDiff(NewSide(a, false), NewSide(b, true), 10)
	if len(d.Functions) != 1 || d.Functions[0].Name != "copy" {
		t.Errorf("functions of sampled profiles: %+v", d.Functions)
	}
}

// BenchmarkDiff compares two profiles as of a Linux boot.
func BenchmarkDiff(b *testing.B) {
	r := &boottrace.Recording{Exact: tracetest.Profile(1_500_000)}
	b.ReportAllocs()
	for b.Loop() {
		NewDiff(NewSide(r, false), NewSide(r, false), 20)
	}
}
