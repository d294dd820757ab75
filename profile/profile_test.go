package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/kernel/abi"
)

var update = flag.Bool("update", false, "write the expected outputs of testdata")

const ms = 1_000_000 // nanoseconds

func timed(total int64) boottrace.Run {
	return boottrace.Run{
		Kind: boottrace.Timed, Until: boottrace.UntilOutput, ReadyNanos: total*ms + 3, ExitNanos: (total + 10) * ms,
		Marks: []boottrace.Mark{
			{ID: abi.MarkEntry, HostNanos: 30 * ms, TSC: 20 * ms},
			{ID: abi.MarkMain, HostNanos: 40 * ms, TSC: 40 * ms},
			{ID: abi.MarkRoot, HostNanos: 52 * ms, TSC: 60 * ms},
			{ID: abi.MarkApp, HostNanos: 60 * ms, TSC: 80 * ms},
			{ID: abi.MarkOutput, HostNanos: total*ms + 3},
			{ID: abi.MarkEnd, HostNanos: (total + 5) * ms},
		},
		Guest:        &boottrace.Guest{TSCHz: 2e9},
		End:          &boottrace.End{How: abi.EndExited},
		TouchedBytes: 5 << 20,
		Regions:      []boottrace.Region{{Name: "kernel image", TouchedBytes: 2 << 20}},
		Output:       []byte("hello\n"), OutputBytes: 6,
	}
}

func counting() boottrace.Run {
	r := timed(300)
	r.Kind, r.Instructions, r.PSSBytes = boottrace.Counting, 612_345, 40<<20
	for i, n := range []uint64{4_766, 105_000, 205_000, 405_000, 612_345, 620_000} {
		r.Marks[i].Instructions = n
	}
	return r
}

func floor(total int64) boottrace.Run {
	return boottrace.Run{Kind: boottrace.Floor, Until: boottrace.UntilExit, ReadyNanos: total * ms, ExitNanos: total * ms}
}

func recording(runs ...boottrace.Run) *boottrace.Recording {
	return &boottrace.Recording{
		Image: "hello-c.img", Flavour: "native", VMM: "QEMU 7.2.22", Accel: "tcg", Machine: "microvm", Firmware: "qboot",
		MemoryBytes: 64 << 20, PrepareNanos: 15 * ms, TimeNanos: 1e18, Runs: runs,
	}
}

// foreign is a boot of a kernel that tells nothing.
func foreign() *boottrace.Recording {
	r := recording(boottrace.Run{Kind: boottrace.Timed, Until: boottrace.UntilExit, ReadyNanos: 50 * ms, ExitNanos: 50 * ms})
	r.Image, r.Flavour, r.PrepareNanos = "vmlinux", "linux", 0
	return r
}

// told is a boot of a kernel that says by its own clock what happened when.
func told() *boottrace.Recording {
	run := boottrace.Run{Kind: boottrace.Timed, Until: boottrace.UntilExit, ReadyNanos: 90 * ms, ExitNanos: 90 * ms,
		Marks: []boottrace.Mark{{ID: abi.MarkEntry, HostNanos: 30 * ms}, {ID: abi.MarkNamed, Name: "run_init_process", HostNanos: 71 * ms}}}
	run.Output = []byte("[    0.000000] Linux version 6.1\nnot a message\n[    0.012500] A text with more characters than a line has room for\n" +
		"[    0.031250] Run /init as init process\n\tdrivers loaded: 5.50ms, (+2.29ms)\n")
	run.OutputBytes = uint64(len(run.Output))
	run.SetMessages(func(offset int) int64 { return int64(40*ms + offset*ms/10) })
	r := recording(run)
	r.Image, r.Flavour, r.PrepareNanos = "vmlinux", "linux", 0
	return r
}

func recordings() map[string]*boottrace.Recording {
	return map[string]*boottrace.Recording{
		"native": recording(floor(35), timed(100), floor(30), timed(130), floor(40), timed(110), counting()),
		"single": recording(timed(100)),
		"killed": recording(func() boottrace.Run {
			r := timed(100)
			r.End = &boottrace.End{How: abi.EndKilled, Code: 11}
			r.Output, r.OutputBytes = bytes.Repeat([]byte("x"), MaxOutput+1), MaxOutput+1
			return r
		}()),
		"foreign": foreign(),
		"told":    told(),
		"counted": recording(counting()),
		"floor":   recording(floor(35), floor(30)),
		"empty":   recording(),
	}
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", name, diff)
	}
}

func TestJSON(t *testing.T) {
	for name, r := range recordings() {
		var b bytes.Buffer
		if err := NewObject(r, []string{"out/recording.fl"}).WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".json", b.Bytes())
		var o struct {
			Total  *Spread `json:"total_ms"`
			Phases []Phase
		}
		if err := json.Unmarshal(b.Bytes(), &o); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, p := range o.Phases {
			sum += p.MedianMS
		}
		if o.Total != nil && math.Abs(sum-o.Total.Median) > 1e-5 {
			t.Errorf("%s: phases add up to %v ms, the total is %v", name, sum, o.Total.Median)
		}
	}
	if err := NewObject(recording(), nil).WriteJSON(failingWriter{}); err == nil {
		t.Error("a writer that fails: no error")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestTimeline(t *testing.T) {
	for name, r := range recordings() {
		var plain bytes.Buffer
		if err := WriteTimeline(&plain, r, Style{Marks: true}); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", plain.Bytes())

		var color bytes.Buffer
		WriteTimeline(&color, r, Style{Marks: true, Color: true})
		if got := escapes.ReplaceAllString(color.String(), ""); got != plain.String() {
			t.Errorf("%s: colors changed the text:\n%s", name, cmp.Diff(plain.String(), got))
		}
		if !strings.Contains(color.String(), "\x1b[") || strings.Contains(plain.String(), "\x1b") {
			t.Errorf("%s: colors with Color %v, without %v", name, strings.Contains(color.String(), "\x1b["), strings.Contains(plain.String(), "\x1b"))
		}
		for _, width := range []int{20, 60, 100, 200} {
			var b bytes.Buffer
			WriteTimeline(&b, r, Style{Width: width})
			for line := range strings.Lines(b.String()) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); strings.ContainsAny(line, "█─") && n > width {
					t.Errorf("%s: a line of %d columns on a terminal of %d: %q", name, n, width, line)
				}
			}
		}
	}
	if err := WriteTimeline(failingWriter{}, recording(), Style{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a writer that fails: %v", err)
	}
}

// parse writes a profile, twice, and has the format's own package read and check it.
func parse(t testing.TB, p *Pprof) *profile.Profile {
	t.Helper()
	var a, b bytes.Buffer
	if err := errors.Join(p.Write(&a), p.Write(&b)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the same profile gave different bytes")
	}
	got, err := profile.ParseData(a.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := got.CheckValid(); err != nil {
		t.Error(err)
	}
	return got
}

// sums returns the sum of each sample type, and of one type by frame.
func sums(p *profile.Profile) (total map[string]int64, byFrame map[string]int64) {
	total, byFrame = make(map[string]int64), make(map[string]int64)
	for _, s := range p.Sample {
		for i, v := range s.Value {
			typ := p.SampleType[i].Type + "/" + p.SampleType[i].Unit
			total[typ] += v
			seen := make(map[string]bool)
			for _, l := range s.Location {
				for _, line := range l.Line {
					if name := line.Function.Name; !seen[name] {
						seen[name] = true
						byFrame[typ+" "+name] += v
					}
				}
			}
		}
	}
	return total, byFrame
}

func TestProfiles(t *testing.T) {
	r := recordings()["native"]
	boot, memory := parse(t, BootProfile(r)), parse(t, MemoryProfile(r))
	total, frames := sums(boot)
	if diff := cmp.Diff(map[string]int64{"time/nanoseconds": 110*ms + 3, "instructions/count": 612_345, "touched/bytes": 5 << 20}, total); diff != "" {
		t.Errorf("boot profile: sums (-want +got):\n%s", diff)
	}
	for frame, want := range map[string]int64{
		"time/nanoseconds boot":        110*ms + 3,
		"time/nanoseconds vmm":         20 * ms,
		"time/nanoseconds kernel":      30 * ms,
		"time/nanoseconds to root":     10 * ms,
		"instructions/count firmware":  4_766,
		"instructions/count kernel":    400_234,
		"touched/bytes memory":         5 << 20,
		"touched/bytes kernel image":   2 << 20,
		"instructions/count vmm":       0,
		"instructions/count to output": 0,
	} {
		if frames[frame] != want {
			t.Errorf("%s is %d, want %d", frame, frames[frame], want)
		}
	}
	total, _ = sums(memory)
	if diff := cmp.Diff(map[string]int64{"touched/bytes": 5 << 20, "pss/bytes": 40 << 20}, total); diff != "" {
		t.Errorf("memory profile: sums (-want +got):\n%s", diff)
	}

	if p := BootProfile(recording()); p != nil {
		t.Errorf("a boot profile of nothing: %v", p)
	}
	if p := MemoryProfile(foreign()); p != nil {
		t.Errorf("a memory profile of nothing: %v", p)
	}
	unsplit := foreign()
	unsplit.Runs = append(unsplit.Runs, boottrace.Run{Kind: boottrace.Counting, Until: boottrace.UntilOutput, Instructions: 77})
	if total, _ := sums(parse(t, BootProfile(unsplit))); total["instructions/count"] != 77 {
		t.Errorf("instructions that belong to no phase: %v", total)
	}
}

// TestPprofReads has the pprof tool of the Go toolchain read the profiles.
func TestPprofReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "boot.pb.gz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(BootProfile(recordings()["native"]).Write(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	for index, want := range map[string]string{"time": "kernel", "instructions": "to app", "touched": "kernel image"} {
		cmd := exec.Command("go", "tool", "pprof", "-top", "-sample_index="+index, path)
		cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
		var complaints strings.Builder
		cmd.Stderr = &complaints
		out, err := cmd.Output()
		if err != nil || complaints.Len() > 0 {
			t.Fatalf("%s: %v\n%s", index, err, complaints.String())
		}
		if !strings.Contains(string(out), "Type: "+index) || !strings.Contains(string(out), want) {
			t.Errorf("go tool pprof -top -sample_index=%s has no %q:\n%s", index, want, out)
		}
	}
}

func TestFloorObject(t *testing.T) {
	got := NewFloorObject(recordings()["floor"])
	if want := (&FloorObject{"tcg", "microvm", "qboot", 2, &Spread{30, 32.5, 35, 35}}); !cmp.Equal(got, want) {
		t.Errorf("floor object (-want +got):\n%s", cmp.Diff(want, got))
	}
}
