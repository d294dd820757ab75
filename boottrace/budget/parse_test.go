package budget

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParse(t *testing.T) {
	f, err := Parse("b.yaml", []byte(`# a budget
total:
  - 250ms
  - floor * 3
  - 2.5 × floor
  - "<= baseline + 3%"
phases:
  firmware: 5 ms
  vmm+firmware: floor + 1.5ms
  kernel: baseline - 10%
instructions: {total: 1_600_000, phases: {kernel: baseline + 1k, app: 1.5M}}
memory: {touched: 8M, rss: baseline + 1MiB}
image: 4194304
symbols: ">= 99.5%"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Limit{
		{Key: "total", Line: 3, Metric: Time, Plus: 250e6},
		{Key: "total", Line: 4, Metric: Time, Reference: Floor, Times: 3},
		{Key: "total", Line: 5, Metric: Time, Reference: Floor, Times: 2.5},
		{Key: "total", Line: 6, Metric: Time, Reference: Baseline, Times: 1.03},
		{Key: "phases.firmware", Line: 8, Metric: Time, Phase: "firmware", Plus: 5e6},
		{Key: "phases.vmm+firmware", Line: 9, Metric: Time, Phase: "vmm+firmware", Reference: Floor, Times: 1, Plus: 1.5e6},
		{Key: "phases.kernel", Line: 10, Metric: Time, Phase: "kernel", Reference: Baseline, Times: 0.9},
		{Key: "instructions.total", Line: 11, Metric: Instructions, Plus: 1.6e6},
		{Key: "instructions.phases.kernel", Line: 11, Metric: Instructions, Phase: "kernel", Reference: Baseline, Times: 1, Plus: 1000},
		{Key: "instructions.phases.app", Line: 11, Metric: Instructions, Phase: "app", Plus: 1.5e6},
		{Key: "memory.touched", Line: 12, Metric: Touched, Plus: 8 << 20},
		{Key: "memory.rss", Line: 12, Metric: RSS, Reference: Baseline, Times: 1, Plus: 1 << 20},
		{Key: "image", Line: 13, Metric: ImageSize, Plus: 4 << 20},
		{Key: "symbols", Line: 14, Metric: Symbols, Plus: 99.5},
	}
	if diff := cmp.Diff(want, f.Limits, cmpopts.IgnoreFields(Limit{}, "Text"), cmpopts.EquateApprox(1e-12, 0)); diff != "" {
		t.Error(diff)
	}
	if f.Limits[3].Text != "<= baseline + 3%" || !f.Uses(Floor) || !f.Limiting(Symbols) || f.Limiting(PSS) {
		t.Errorf("%+v", f)
	}
}

func TestParseShort(t *testing.T) {
	f, err := Parse("b.yaml", []byte("instructions: 1.6M\nmemory: [8M, baseline]\nsymbols: baseline - 1%"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Limit{
		{Key: "instructions", Line: 1, Text: "1.6M", Metric: Instructions, Plus: 1.6e6},
		{Key: "memory", Line: 2, Text: "8M", Metric: Touched, Plus: 8 << 20},
		{Key: "memory", Line: 2, Text: "baseline", Metric: Touched, Reference: Baseline, Times: 1},
		{Key: "symbols", Line: 3, Text: "baseline - 1%", Metric: Symbols, Reference: Baseline, Times: 1, Plus: -1},
	}
	if diff := cmp.Diff(want, f.Limits); diff != "" {
		t.Error(diff)
	}
}

// badFiles are files that are refused, with what is said of them.
var badFiles = []struct{ file, says string }{
	{"", "b.yaml: it has no limit"},
	{"# nothing\n", "b.yaml: it has no limit"},
	{"phases: {}", "b.yaml: it has no limit"},
	{"total: []", "b.yaml: it has no limit"},
	{"- total", "b.yaml:1: the file must be a mapping"},
	{"total: 1s\ntotl: 250ms", `b.yaml:2: unknown key "totl"; did you mean "total"? known are total, phases, instructions, memory, image, symbols`},
	{"phases:\n  firmware: 5ms\n  kernal: 5ms", `b.yaml:3: unknown key "phases.kernal"; did you mean "phases.kernel"?`},
	{"instructions: {totals: 5}", `unknown key "instructions.totals"; did you mean "instructions.total"?`},
	{"xyzzy: 1", `unknown key "xyzzy"; known are total`},
	{"total: 250ms\ntotal: 3ms", `b.yaml:2: mapping key "total" already defined`},
	{"total: 250", `b.yaml:1: total: "250" has no unit; want as 250ms or 250s`},
	{"total: 8M", `total: "8M" is no length of time; want as 250ms, or relative as floor * 3 or baseline + 3%`},
	{"total: -1ms", "is no length of time"},
	{"total: 0ms", "is no length of time"},
	{"total: 25h", "is no length of time"},
	{"total: NaN", "is no length of time"},
	{"total:", "b.yaml:1: total: want a limit, as 250ms"},
	{"total: {max: 3ms}", "total: want a limit"},
	{"total: [[3ms]]", "total: want a limit"},
	{"total: true", "total: want a limit"},
	{"total: basline + 3%", "is no length of time"},
	{"total: floor * 3x", "is no length of time"},
	{"total: floor * -3", "is no length of time"},
	{"total: floor * 0", `"floor * 0" is nothing or less`},
	{"total: floor * 1e9", "is no length of time"},
	{"total: baseline - 100%", "is nothing or less"},
	{"total: baseline + 3", "is no length of time"},
	{"total: baseline + 8M", "is no length of time"},
	{"total: baseline +", "is no length of time"},
	{`total: ">= 250ms"`, "want <= here"},
	{"instructions: 250ms", `"250ms" is no number of instructions; want as 1600000 or 1.6M`},
	{"instructions: floor * 2", "the floor is a time"},
	{"instructions: 0", "is no number of instructions"},
	{"instructions: 0x10", "is no number of instructions"},
	{"instructions: 99999999999G", "is no number of instructions"},
	{"memory: 8 ms", `"8 ms" is no size; want as 8M`},
	{"memory: {touched: 99%}", "is no size"},
	{"memory: floor + 1M", "the floor is a time"},
	{"symbols: 101%", `"101%" is no share; want as 99%, or relative as baseline - 1%`},
	{"symbols: 0.99", "is no share"},
	{"symbols: >= 99%", `in quotes, as ">= 99%"`},
	{"symbols: <= 99%", "want >= here"},
	{"total: &x 3ms", "total: want a limit"},
	{"total: !!str 3ms", "total: want a limit"},
	{"<<: {total: 3ms}", "unknown key"},
	{"total: 3ms\n---\ntotal: 3ms", "more than one YAML document"},
	{"total: [3ms", "b.yaml:1: "},
	{"\x00", "b.yaml"},
	{strings.Repeat("#", MaxFile+1), "longer than"},
}

func TestParseBad(t *testing.T) {
	for _, tt := range badFiles {
		f, err := Parse("b.yaml", []byte(tt.file))
		var e *Error
		if f != nil || !errors.As(err, &e) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40q: %v, want %q", tt.file, err, tt.says)
		}
	}
	many := "total: [" + strings.Repeat("1s,", maxLimits) + "1s]"
	if _, err := Parse("b.yaml", []byte(many)); err == nil || !strings.Contains(err.Error(), "more than 256 limits") {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range badFiles {
		f.Add([]byte(tt.file))
	}
	seed := []byte("total: [250ms, floor * 3]\nphases: {kernel: baseline + 10%}\ninstructions: 1.6M\nmemory: {rss: 8M}\nimage: 4M\nsymbols: 99%")
	if _, err := Parse("b", seed); err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse("b", b)
		if err != nil {
			if file != nil || errors.As(err, new(*Error)) != true {
				t.Fatalf("%v, %v", file, err)
			}
			return
		}
		for _, l := range file.Limits {
			if l.Line < 1 || l.Text == "" || l.Reference == None && l.Plus <= 0 || l.Reference != None && l.Times <= 0 {
				t.Errorf("%+v", l)
			}
			again := Limit{Metric: l.Metric}
			if err := again.setText(l.Text); err != nil || again.Times != l.Times || again.Plus != l.Plus {
				t.Errorf("%+v read again: %+v, %v", l, again, err)
			}
		}
	})
}
