package bootprof

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/boottrace/tracetest"
	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// recorded returns a recording with everything in it, whose boots took so many times as long and as many instructions.
func recorded(times float64) *boottrace.Recording {
	r := &boottrace.Recording{
		Image: "app.img", Flavour: "native", VMM: "QEMU 7.2.22", Accel: "tcg", Machine: "microvm", Firmware: "qboot",
		MemoryBytes: 64 << 20, TimeNanos: 1_790_000_000e9, Exact: tracetest.Profile(5000),
	}
	var n uint64
	for i := range r.Exact.Samples {
		s := &r.Exact.Samples[i]
		s.Instructions = uint64(float64(s.Instructions) * times)
		n += s.Instructions
	}
	for i := range 12 {
		ms := int64((100 + float64(i)) * times * 1e6)
		r.Runs = append(r.Runs,
			boottrace.Run{Kind: boottrace.Floor, Until: boottrace.UntilExit, ReadyNanos: 30e6 + int64(i)*1e5, ExitNanos: 30e6},
			boottrace.Run{
				Kind: boottrace.Timed, Until: boottrace.UntilOutput, ReadyNanos: ms, ExitNanos: ms + 1e6,
				Marks: []boottrace.Mark{
					{ID: abi.MarkEntry, HostNanos: ms / 4}, {ID: abi.MarkApp, HostNanos: ms / 2}, {ID: abi.MarkOutput, HostNanos: ms},
				},
				End: &boottrace.End{How: abi.EndExited}, TouchedBytes: 3 << 20, IO: tracetest.IO(20), IOTotal: 20,
				Regions: []boottrace.Region{{Name: "kernel image", TouchedBytes: 1 << 20}, {Name: "app", TouchedBytes: 1 << 20}},
				Memory:  &boottrace.Memory{ZeroBytes: 8192, OverTime: []boottrace.Touched{{Nanos: ms / 2, Bytes: 1 << 20}, {Nanos: ms, Bytes: 3 << 20}}},
			})
	}
	r.Runs = append(r.Runs, boottrace.Run{Kind: boottrace.Counting, Until: boottrace.UntilOutput, Instructions: n, Marks: []boottrace.Mark{
		{ID: abi.MarkEntry, Instructions: n / 100}, {ID: abi.MarkApp, Instructions: n / 2}, {ID: abi.MarkOutput, Instructions: n},
	}})
	return r
}

// save writes a recording to a folder, and returns the folder.
func save(t testing.TB, r *boottrace.Recording) string {
	t.Helper()
	var b bytes.Buffer
	dir := t.TempDir()
	if err := errors.Join(boottrace.Write(&b, r), os.WriteFile(filepath.Join(dir, fileRecording), b.Bytes(), 0o666)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestReportFormats(t *testing.T) {
	dir := save(t, recorded(1))
	total := recorded(1).Exact.Instructions()
	for _, rec := range []string{dir, filepath.Join(dir, fileRecording)} {
		for _, f := range reportFormats {
			file := filepath.Join(t.TempDir(), "out")
			code, stdout, stderr := bootprof(t, "report", rec, "--format", f.name)
			if code != 0 || stdout == "" || stderr != "" {
				t.Errorf("%s: exit code %d\n%s", f.name, code, stderr)
			}
			code, said, stderr := bootprof(t, "report", rec, "--format="+f.name, "-o", file)
			data, _ := os.ReadFile(file)
			if code != 0 || said != "" || stderr != "" || string(data) != stdout {
				t.Errorf("%s: exit code %d, the file differs from the standard output: %v\n%s", f.name, code, string(data) != stdout, stderr)
			}
			switch f.name {
			case "json":
				var o struct {
					Image   string
					Profile struct{ Total uint64 }
					IO      struct{ Requests int }
				}
				if err := json.Unmarshal(data, &o); err != nil || o.Image != "app.img" || o.Profile.Total != total || o.IO.Requests != 20 {
					t.Errorf("json: %+v, %v", o, err)
				}
			case "perfetto":
				var o struct{ TraceEvents []struct{ Name string } }
				if err := json.Unmarshal(data, &o); err != nil || len(o.TraceEvents) < 5000 {
					t.Errorf("perfetto: %d events, %v", len(o.TraceEvents), err)
				}
			case "pprof":
				if p, err := profile.ParseData(data); err != nil || len(p.SampleType) != 4 {
					t.Errorf("pprof: %v", err)
				}
			case "html":
				if !strings.HasPrefix(stdout, "<!DOCTYPE html>") || !strings.Contains(stdout, "<h1>app.img</h1>") || !strings.Contains(stdout, "default-src 'none'") {
					t.Errorf("html begins with %.200q", stdout)
				}
			case "junit":
				if err := xml.Unmarshal(data, new(struct{})); err != nil {
					t.Errorf("junit: %v", err)
				}
			case "layout":
				if first, _, _ := strings.Cut(stdout, "\n"); !strings.HasPrefix(first, "/lib/file 0\t32768\t") {
					t.Errorf("layout begins with %q", first)
				}
			case "table":
				if !strings.Contains(stdout, "phase kernel") || !strings.Contains(stdout, "kernel image") || !strings.Contains(stdout, "/lib/file 0") {
					t.Errorf("table:\n%s", stdout)
				}
			}
		}
	}
}

func TestReportBadInput(t *testing.T) {
	good, err := os.ReadFile(filepath.Join(save(t, recorded(1)), fileRecording))
	if err != nil {
		t.Fatal(err)
	}
	changed := func(at int, b byte) []byte {
		data := bytes.Clone(good)
		data[at] = b
		return data
	}
	file := func(data []byte) string {
		path := filepath.Join(t.TempDir(), "bad.fl")
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bare := save(t, &boottrace.Recording{Image: "a"})
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{file(good[:len(good)/2])}, "truncated"},
		{[]string{file(changed(len(good)/2, good[len(good)/2]^1))}, "check code is wrong"},
		{[]string{file(changed(0, 'X'))}, "not a Firstlight recording"},
		{[]string{file(nil)}, "truncated"},
		{[]string{file([]byte("FLRECORD\x09\x00\x00\x00\x19\x8f\xcc\x28"))}, ""},
		{[]string{t.TempDir()}, "holds no recording.fl"},
		{[]string{filepath.Join(t.TempDir(), "none.fl")}, "no such file"},
		{[]string{""}, "is empty"},
		{nil, "want a recording"},
		{[]string{bare, bare}, "one argument too many"},
		{[]string{bare, "--format", "pdf"}, `--format "pdf": want table, json`},
		{[]string{bare, "--format", "pprof"}, "nothing for a profile"},
		{[]string{bare, "--format", "folded"}, "no instructions"},
		{[]string{bare, "--format", "folded", "--metric", "joy"}, `--metric "joy"`},
		{[]string{bare, "--format", "layout"}, "no disk requests"},
		{[]string{bare, "--sample", "exact"}, "has no such profile"},
		{[]string{bare, "--sample", "both"}, `--sample "both"`},
		{[]string{bare, "-o", filepath.Join(t.TempDir(), "no", "folder")}, "cannot write the report"},
	} {
		code, stdout, stderr := bootprof(t, append([]string{"report"}, tt.args...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, tt.says) {
			t.Errorf("report %q: exit code %d, want %d and %q; %d bytes of output\n%s", tt.args, code, exitUsage, tt.says, len(stdout), stderr)
		}
	}
	if code, stdout, _ := bootprof(t, "report", bare); code != 0 || !strings.Contains(stdout, "a") {
		t.Errorf("a recording of nothing: exit code %d\n%s", code, stdout)
	}
}

func TestReportCompletion(t *testing.T) {
	_, stdout, _ := bootprof(t, "__complete", "report", "x", "--format", "")
	for _, name := range formatNames() {
		if !slices.Contains(strings.Split(stdout, "\n"), name) {
			t.Errorf("--format is not completed by %s: %q", name, stdout)
		}
	}
	if _, stdout, _ := bootprof(t, "__complete", "report", ""); !strings.HasPrefix(stdout, "fl\n") {
		t.Errorf("recordings are not completed: %q", stdout)
	}
}
