package profile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/boottrace/tracetest"
)

// small is a profile that can be checked by hand: main calls parse, which calls itself, and an inlined copy.
func small() *boottrace.Profile {
	return &boottrace.Profile{
		Kind: boottrace.Exact, Phases: []string{"kernel", "app"},
		Functions: []boottrace.Function{
			{Name: "main", File: "main.c", Line: 10}, {Name: "parse", System: "_Z5parsev", File: "parse.c", Line: 5}, {Name: "copy", File: "copy.h", Line: 1},
		},
		Mappings: []boottrace.Mapping{{Name: "/app", BuildID: "abcd", Start: 0x400000, Limit: 0x500000}, {Name: "firmware", Start: 0xf0000, Limit: 0x100000}},
		Locations: []boottrace.Location{
			{Mapping: 1, Address: 0xfff00},
			{Mapping: 0, Address: 0x400010, Lines: []boottrace.Line{{Function: 0, Line: 12}}},
			{Mapping: 0, Address: 0x400100, Lines: []boottrace.Line{{Function: 1, Line: 7}}},
			{Mapping: 0, Address: 0x400110, Lines: []boottrace.Line{{Function: 2, Line: 2}, {Function: 1, Line: 8}}},
		},
		Stacks: []boottrace.Stack{
			{Location: -1},
			{Parent: 0, Location: 0},
			{Parent: 0, Location: 1, First: 100},
			{Parent: 2, Location: 2, First: 110},
			{Parent: 3, Location: 2, First: 150},
			{Parent: 4, Location: 3, First: 170},
		},
		Samples: []boottrace.Sample{
			{Stack: 0, Phase: -1, Instructions: 1},
			{Stack: 1, Phase: -1, Instructions: 99},
			{Stack: 2, Phase: 0, Instructions: 10, TouchedBytes: 8192},
			{Stack: 3, Phase: 0, Instructions: 40},
			{Stack: 4, Phase: 1, Instructions: 20, User: true},
			{Stack: 5, Phase: 1, Instructions: 30, User: true, CPU: 1, TouchedBytes: 4096},
		},
	}
}

// profiled is a recording with everything that can be recorded.
func profiled() *boottrace.Recording {
	r := recordings()["native"]
	r.Exact = small()
	for i := range r.Runs {
		switch run := &r.Runs[i]; run.Kind {
		case boottrace.Counting:
			run.Instructions = r.Exact.Instructions()
			for j := range run.Marks {
				run.Marks[j].Instructions = min(run.Marks[j].Instructions, run.Instructions)
			}
		case boottrace.Timed:
			run.IO, run.IOTotal = requests(), 6
			run.Memory = &boottrace.Memory{
				ZeroBytes: 8192, DuplicateBytes: 4096, RSSBytes: 1 << 20, Balloon: map[string]uint64{"stat-free-memory": 77},
				OverTime: []boottrace.Touched{{Nanos: 30 * ms, Bytes: 1 << 20}, {Nanos: 90 * ms, Bytes: 5 << 20}},
			}
		}
	}
	return r
}

func requests() []boottrace.Request {
	return []boottrace.Request{
		{Op: "read", Offset: 0, Length: 4096, StartNanos: 40 * ms, Nanos: ms, Parts: []boottrace.Part{{What: "superblock", Length: 4096}}},
		{Op: "read", Offset: 8192, Length: 8192, StartNanos: 50 * ms, Nanos: 4 * ms, Parts: []boottrace.Part{
			{Path: "/bin/app", What: "data", Offset: 0, Length: 12288}, {Path: "/etc/a b", What: "data", Offset: 0, Length: 4096}}},
		{Op: "read", Offset: 8192, Length: 8192, StartNanos: 52 * ms, Nanos: ms, Parts: []boottrace.Part{{Path: "/bin/app", What: "data", Offset: 12288, Length: 4096}}},
		{Op: "read", Offset: 65536, Length: 4096, StartNanos: 60 * ms, Nanos: ms, Parts: []boottrace.Part{
			{Path: "/bin/app", What: "data", Offset: 8192, Length: 16384}, {Path: "/odd\nname", What: "data", Offset: 4096, Length: 1}}},
		{Op: "flush", StartNanos: 70 * ms, Nanos: 2 * ms},
	}
}

func TestTop(t *testing.T) {
	want := &Top{
		Kind: boottrace.Exact, Unit: "instructions", Total: 200, Named: 100,
		Functions: []TopFunction{{"[firmware]", 99, 99}, {"parse", 60, 90}, {"copy", 30, 30}, {"main", 10, 100}},
		Phases: []TopPhase{
			{"kernel", 50, []TopFunction{{"parse", 40, 40}, {"main", 10, 50}}},
			{"app", 50, []TopFunction{{"copy", 30, 30}, {"parse", 20, 50}}},
		},
		Touched: []TopFunction{{"main", 8192, 12288}, {"copy", 4096, 4096}},
	}
	if diff := cmp.Diff(want, NewTop(small(), 10)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if NewTop(nil, 10) != nil {
		t.Error("functions of no profile")
	}
	if top := NewTop(&boottrace.Profile{Kind: boottrace.Exact}, 10); top.Total != 0 || top.Functions != nil {
		t.Errorf("functions of an empty profile: %+v", top)
	}
	// On a large one: what functions use themselves adds up, and none uses more than there is.
	p := tracetest.Profile(50_000)
	top := NewTop(p, len(p.Functions)+2)
	var sum uint64
	for _, f := range top.Functions {
		sum += f.Self
		if f.Total < f.Self || f.Total > top.Total {
			t.Fatalf("%+v of %d", f, top.Total)
		}
	}
	if sum != top.Total || sum != p.Instructions() {
		t.Errorf("functions used %d, the total is %d, the profile's %d", sum, top.Total, p.Instructions())
	}
}

// TestTopModel checks the totals of functions against their definition.
func TestTopModel(t *testing.T) {
	p := tracetest.Profile(3_000)
	for i := range p.Locations { // so few functions that there is much recursion
		for j := range p.Locations[i].Lines {
			p.Locations[i].Lines[j].Function %= 7
		}
	}
	want := make(map[string]uint64)
	for _, s := range p.Samples {
		seen := make(map[string]bool)
		for at := s.Stack; at != 0; at = p.Stacks[at].Parent {
			l := &p.Locations[p.Stacks[at].Location]
			for _, line := range l.Lines {
				seen[p.Functions[line.Function].Name] = true
			}
			if len(l.Lines) == 0 {
				seen["[firmware]"] = true
			}
		}
		for name := range seen {
			want[name] += s.Instructions
		}
	}
	for _, f := range NewTop(p, 100).Functions {
		if want[f.Name] != f.Total {
			t.Errorf("%s: total %d, want %d", f.Name, f.Total, want[f.Name])
		}
	}
}

func TestTable(t *testing.T) {
	r := profiled()
	var b bytes.Buffer
	if err := WriteTable(&b, r, r.Exact, Style{}); err != nil {
		t.Fatal(err)
	}
	golden(t, "profiled.txt", b.Bytes())
	sampled := recording(timed(100))
	sampled.Sampled = small()
	sampled.Sampled.Kind, sampled.Sampled.PeriodNanos = boottrace.Sampled, ms
	sampled.Sampled.Functions[0].Name = "\x1b[31mred"
	for i := range sampled.Sampled.Samples {
		s := &sampled.Sampled.Samples[i]
		s.Count, s.Instructions = s.Instructions, 0
	}
	b.Reset()
	if err := WriteTable(&b, sampled, sampled.Sampled, Style{}); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); strings.Contains(got, "\x1b") || !strings.Contains(got, "sampled; samples, 200 in all") {
		t.Error(got)
	}
	for name, r := range recordings() {
		if err := WriteTable(failingWriter{}, r, nil, Style{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: a writer that fails: %v", name, err)
		}
	}
}

func TestReport(t *testing.T) {
	r := profiled()
	var b bytes.Buffer
	if err := NewReport(r, r.Exact).WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "profiled.json", b.Bytes())
}

func TestDiskUse(t *testing.T) {
	u := NewDiskUse(profiled())
	if u.Requests != 5 || u.Dropped != 1 || u.ReadBytes != 4096+2*8192+4096 || u.DistinctBytes != 4096+8192+4096 || *u.BusyMS != 8 || *u.LatencyMS != 9 {
		t.Errorf("%+v, busy %v", u, *u.BusyMS)
	}
	if NewDiskUse(recording(timed(100))) != nil {
		t.Error("disk requests of a boot that made none")
	}
}

func TestLayoutLines(t *testing.T) {
	var b bytes.Buffer
	ok, err := WriteLayout(&b, profiled())
	want := "/bin/app\t0\t24576\n/etc/a b\t0\t4096\n\"/odd\\nname\"\t4096\t1\n"
	if !ok || err != nil || b.String() != want {
		t.Errorf("%v, %v, got\n%swant\n%s", ok, err, b.String(), want)
	}
	if ok, err := WriteLayout(&b, recording(timed(100))); ok || err != nil {
		t.Errorf("a boot without disk requests: %v, %v", ok, err)
	}
}

func TestExtents(t *testing.T) {
	var e extents
	for _, tt := range []struct {
		from, to uint64
		want     string
	}{
		{10, 20, "[[10 20]]"}, {10, 20, "[]"}, {12, 15, "[]"}, {30, 40, "[[30 40]]"}, {5, 12, "[[5 10]]"}, {18, 35, "[[20 30]]"},
		{0, 50, "[[0 5] [40 50]]"}, {60, 60, "[]"}, {50, 60, "[[50 60]]"},
	} {
		if got := fmt.Sprint(e.add(tt.from, tt.to)); got != tt.want {
			t.Errorf("add(%d, %d) = %s, want %s", tt.from, tt.to, got, tt.want)
		}
	}
	if len(e) != 1 {
		t.Errorf("the union of all is %v", e)
	}
}

func TestJUnit(t *testing.T) {
	r := recordings()["killed"]
	limit := uint64(1)
	cases := append(Cases(r, boottrace.Budget{MemoryBytes: &limit, Instructions: &limit}), Case{Name: "late <&>\x00", Skipped: "undecided", Nanos: 1})
	var b bytes.Buffer
	if err := WriteJUnit(&b, "suite", cases); err != nil {
		t.Fatal(err)
	}
	golden(t, "junit.xml", bytes.ReplaceAll(b.Bytes(), bytes.Repeat([]byte("x"), MaxOutput+1), []byte("x")))
	if err := WriteJUnit(failingWriter{}, "suite", cases); err == nil {
		t.Error("a writer that fails: no error")
	}
}

// TestExactProfile checks the pprof profile of a recording with stacks.
func TestExactProfile(t *testing.T) {
	r := profiled()
	total, frames := sums(parse(t, BootProfile(r)))
	if diff := cmp.Diff(map[string]int64{"time/nanoseconds": 110*ms + 3, "instructions/count": 200, "touched/bytes": 5 << 20, "io/nanoseconds": 9 * ms}, total); diff != "" {
		t.Errorf("sums (-want +got):\n%s", diff)
	}
	for frame, want := range map[string]int64{
		"time/nanoseconds kernel": 30 * ms, "instructions/count kernel": 0, "instructions/count main": 100, "touched/bytes main": 12288,
		"touched/bytes memory": 5<<20 - 12288, "io/nanoseconds disk": 9 * ms, "io/nanoseconds /bin/app": 4_999_939, "io/nanoseconds [superblock]": ms,
	} {
		if frames[frame] != want {
			t.Errorf("%s is %d, want %d", frame, frames[frame], want)
		}
	}
	// A sampled profile has the time of the phases that it has samples of.
	r.Sampled = small()
	r.Sampled.Kind, r.Sampled.Phases = boottrace.Sampled, []string{"kernel", "app"}
	for i := range r.Sampled.Samples {
		s := &r.Sampled.Samples[i]
		s.Nanos, s.Count, s.Instructions, s.TouchedBytes = 10*ms, 1, 0, 0
	}
	total, frames = sums(parse(t, BootProfile(r)))
	if total["time/nanoseconds"] != (20+10+60)*ms || frames["time/nanoseconds vmm"] != 20*ms || frames["time/nanoseconds main"] != 40*ms || total["instructions/count"] != 200 {
		t.Errorf("with a sampled profile: %v\n%v", total, frames)
	}
	// The instructions of another counting boot were more.
	r.Exact.Samples[0].Instructions--
	if total, frames := sums(parse(t, BootProfile(r))); total["instructions/count"] != 200 || frames["instructions/count boot"] != 1 {
		t.Errorf("a profile of less than the boot: %v", total)
	}
	if err := BootProfile(r).Write(failingWriter{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a writer that fails: %v", err)
	}
}

func TestFolded(t *testing.T) {
	r := profiled()
	for metric, want := range map[string]string{
		"instructions": "[firmware] 99\nmain 10\nmain;parse 40\nmain;parse;parse 20\nmain;parse;parse;parse;copy 30\n[unknown] 1\n",
		"io":           "disk;[superblock] 1000000\ndisk;/bin/app 4999939\ndisk;/etc/a b 1000000\ndisk;/odd\ufffdname 61\ndisk;[flush] 2000000\n",
	} {
		var b bytes.Buffer
		ok, err := WriteFolded(&b, r, metric)
		if diff := cmp.Diff(want, b.String()); !ok || err != nil || diff != "" {
			t.Errorf("%s: %v, %v\n%s", metric, ok, err, diff)
		}
	}
	var b bytes.Buffer
	if ok, err := WriteFolded(&b, recording(), "instructions"); ok || err != nil || b.Len() > 0 {
		t.Errorf("nothing measured: %v, %v", ok, err)
	}
	r.Exact = tracetest.Profile(20_000)
	if _, err := WriteFolded(&b, r, "instructions"); err != nil {
		t.Fatal(err)
	}
	var sum uint64
	seen := make(map[string]bool)
	for line := range strings.Lines(b.String()) {
		at := strings.LastIndexByte(line, ' ')
		n, err := strconv.ParseUint(strings.TrimSpace(line[at:]), 10, 64)
		if err != nil || seen[line[:at]] {
			t.Fatalf("line %q: %v, seen before: %v", line, err, seen[line[:at]])
		}
		seen[line[:at]] = true
		sum += n
	}
	if sum != r.Exact.Instructions() {
		t.Errorf("the stacks add up to %d, want %d", sum, r.Exact.Instructions())
	}
}

// pprofTool runs the pprof of the Go toolchain, which must not complain.
func pprofTool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"tool", "pprof"}, args...)...)
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil || complaints.Len() > 0 {
		t.Errorf("go tool pprof %s: %v\n%s", strings.Join(args, " "), err, complaints.String())
	}
	return string(out)
}

// TestPprofShows asks pprof what its users ask.
func TestPprofShows(t *testing.T) {
	write := func(name string, r *boottrace.Recording) string {
		path := filepath.Join(t.TempDir(), name)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(BootProfile(r).Write(f), f.Close()); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := write("boot.pb.gz", profiled())
	slower := profiled()
	slower.Exact.Samples[5].Instructions += 1000
	slower.Runs[len(slower.Runs)-1].Instructions += 1000
	diff := write("slower.pb.gz", slower)
	for _, tt := range []struct {
		args []string
		want []string
		not  string
	}{
		{[]string{"-top", "-sample_index=instructions", path}, []string{"File: hello-c.img", "Showing nodes accounting for 200, 100% of 200 total", "parse", "[firmware]"}, ""},
		{[]string{"-top", "-sample_index=instructions", "-tagfocus=phase=app", path}, []string{"50, 25.00% of 200 total", "copy", "parse"}, "[firmware]"},
		{[]string{"-top", "-sample_index=instructions", "-tagfocus=privilege=user", path}, []string{"50, 25.00%"}, "[firmware]"},
		{[]string{"-top", "-sample_index=instructions", "-tagfocus=cpu:1", path}, []string{"30, 15.00%", "copy"}, "[firmware]"},
		{[]string{"-top", "-lines", "-sample_index=instructions", path}, []string{"parse parse.c:7", "copy copy.h:2 (inline)"}, ""},
		{[]string{"-peek=copy", "-sample_index=instructions", path}, []string{"30   100% |   parse (inline)"}, ""},
		{[]string{"-tags", "-sample_index=instructions", path}, []string{"phase: Total 100", "privilege: Total 200", "cpu: Total 200"}, ""},
		{[]string{"-top", "-sample_index=instructions", "-diff_base=" + path, diff}, []string{"1000", "copy"}, ""},
		{[]string{"-top", "-sample_index=io", path}, []string{"/bin/app", "[flush]"}, ""},
		{[]string{"-top", "-nodefraction=0", "-sample_index=touched", path}, []string{"copy", "main"}, ""},
		{[]string{"-top", path}, []string{"Type: time", "110"}, ""},
		{[]string{"-raw", path}, []string{"/app abcd", "[FN]", "time/nanoseconds[dflt] instructions/count touched/bytes io/nanoseconds"}, ""},
	} {
		out := pprofTool(t, tt.args...)
		for _, want := range tt.want {
			if !strings.Contains(out, want) {
				t.Errorf("go tool pprof %s has no %q:\n%s", strings.Join(tt.args, " "), want, out)
			}
		}
		if tt.not != "" && strings.Contains(out, tt.not) {
			t.Errorf("go tool pprof %s has %q:\n%s", strings.Join(tt.args, " "), tt.not, out)
		}
	}
}

func TestGuestTimes(t *testing.T) {
	all := GuestTimes(told())
	want := []GuestTime{
		{Text: "Linux version 6.1", EntryMS: new(10.0), TotalMS: new(40.0)},
		{Text: "A text with more characters than a line has room for", GuestMS: 12.5, EntryMS: new(14.7), TotalMS: new(44.7)},
		{Text: "Run /init as init process", GuestMS: 31.25, EntryMS: new(41.0), TotalMS: new(71.0), Mark: "run_init_process"},
		{Text: "drivers loaded", GuestMS: 5.5},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	var b strings.Builder
	if err := WriteTimeline(&b, told(), Style{Marks: true}); err != nil || !strings.Contains(b.String(), "A text with more characters than a line has…") {
		t.Errorf("%v\n%s", err, b.String())
	}
	if got := NewReport(told(), nil).GuestTimes; len(got) != len(want) {
		t.Errorf("the report has %d of them", len(got))
	}
}
