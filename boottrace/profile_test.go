package boottrace_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	. "github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/boottrace/tracetest"
)

// profiled is a recording with everything that goes into sections of rows.
func profiled(stacks int) *Recording {
	sampled := tracetest.Profile(stacks / 2)
	sampled.Kind, sampled.PeriodNanos = Sampled, 1e6
	for i := range sampled.Samples {
		s := &sampled.Samples[i]
		s.Count, s.Nanos, s.Instructions, s.CPU, s.Phase = 1+s.Instructions%3, 1e6, 0, i%2, i%4-1
	}
	return &Recording{
		Image: "app.img",
		Runs: []Run{
			{Kind: Timed, Until: UntilExit, ReadyNanos: 5, IO: tracetest.IO(100), IOTotal: 100},
			{Kind: Counting, Until: UntilExit, Instructions: 12},
			{Kind: Timed, Until: UntilExit, ReadyNanos: 7, IO: tracetest.IO(3), Memory: &Memory{ZeroBytes: 4096, OverTime: []Touched{{1, 2, 3}}}},
		},
		Exact: tracetest.Profile(stacks), Sampled: sampled,
	}
}

func write(t testing.TB, r *Recording) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestProfileRoundTrip(t *testing.T) {
	for _, want := range []*Recording{profiled(20_000), {Exact: &Profile{Kind: Exact}}, {Sampled: &Profile{Kind: Sampled}}} {
		got, err := Read(bytes.NewReader(write(t, want)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("recording changed on its way through a file (-want +got):\n%s", diff)
		}
	}
	if a, b := write(t, profiled(20_000)), write(t, profiled(20_000)); !bytes.Equal(a, b) {
		t.Error("the same recording gave different bytes")
	}
}

func TestOpenRuns(t *testing.T) {
	want := profiled(1000)
	data := write(t, want)
	path := filepath.Join(t.TempDir(), "recording.fl")
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	got, err := OpenRuns(path)
	if err != nil {
		t.Fatal(err)
	}
	want.Exact, want.Sampled = nil, nil
	for i := range want.Runs {
		want.Runs[i].IO = nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := os.WriteFile(path, data[:len(data)-30], 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRuns(path); !errors.Is(err, ErrTruncated) || !strings.Contains(err.Error(), path) {
		t.Errorf("of a truncated file: %v", err)
	}
	if _, err := OpenRuns(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no file: %v", err)
	}
}

// TestLargeProfile writes and reads a profile as of a Linux boot, in less than 300 MB beyond what it makes of the profile itself.
func TestLargeProfile(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second or two")
	}
	want := &Recording{Exact: tracetest.Profile(1_000_000)}
	start := time.Now()
	data := write(t, want)
	wrote := time.Since(start)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start = time.Now()
	got, err := Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	read := time.Since(start)
	runtime.ReadMemStats(&after)
	t.Logf("%d bytes, written in %v, read in %v, which allocated %d MB", len(data), wrote, read, (after.TotalAlloc-before.TotalAlloc)>>20)
	if diff := cmp.Diff(want.Exact.Samples[999_000:], got.Exact.Samples[999_000:]); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(write(t, got), data) {
		t.Error("written again, the recording differs")
	}
}

func TestBadProfiles(t *testing.T) {
	long := strings.Repeat("x", MaxName+1)
	root := Stack{Location: -1}
	for name, tt := range map[string]struct {
		r    Recording
		want error // nil: any
	}{
		"wrong place":      {Recording{Exact: &Profile{Kind: Sampled}}, nil},
		"no kind":          {Recording{Exact: &Profile{}}, nil},
		"long name":        {Recording{Exact: &Profile{Kind: Exact, Functions: []Function{{Name: long}}}}, ErrTooLarge},
		"long phase":       {Recording{Exact: &Profile{Kind: Exact, Phases: []string{long}}}, ErrTooLarge},
		"many stacks":      {Recording{Exact: &Profile{Kind: Exact, Stacks: make([]Stack, MaxStacks+1)}}, ErrTooLarge},
		"much inlined":     {Recording{Exact: &Profile{Kind: Exact, Functions: []Function{{}}, Locations: []Location{{Lines: make([]Line, MaxInlined+1)}}}}, ErrTooLarge},
		"no such location": {Recording{Exact: &Profile{Kind: Exact, Stacks: []Stack{root, {Location: 0}}}}, nil},
		"line before 0":    {Recording{Exact: &Profile{Kind: Exact, Functions: []Function{{Line: -1}}}}, nil},
		"late request":     {Recording{Runs: []Run{{Kind: Timed, IO: []Request{{StartNanos: -1}}}}}, nil},
		"endless request":  {Recording{Runs: []Run{{Kind: Timed, IO: []Request{{Offset: 1, Length: 1<<64 - 1}}}}}, nil},
		"long path":        {Recording{Runs: []Run{{Kind: Timed, IO: []Request{{Parts: []Part{{Path: long}}}}}}}, ErrTooLarge},
		"many parts":       {Recording{Runs: []Run{{Kind: Timed, IO: []Request{{Parts: make([]Part, MaxParts+1)}}}}}, ErrTooLarge},
	} {
		if err := Write(new(bytes.Buffer), &tt.r); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
}

// TestProfileDamage changes bits and cuts, here and there.
func TestProfileDamage(t *testing.T) {
	good := write(t, profiled(300))
	var fe *FormatError
	for i := 0; i < len(good); i += 7 {
		if _, err := Read(bytes.NewReader(good[:i])); !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut to %d bytes: got %v, want %v", i, err, ErrTruncated)
		}
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if _, err := Read(bytes.NewReader(bad)); !errors.As(err, &fe) {
			t.Fatalf("byte %d changed: got %v, want a *FormatError", i, err)
		}
	}
}
