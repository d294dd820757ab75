package budget

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/boottrace/tracetest"
	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// counted is a recording of counting boots.
func counted(counts ...uint64) *boottrace.Recording {
	r := &boottrace.Recording{ImageBytes: 1000, Exact: tracetest.Profile(500)}
	for _, n := range counts {
		r.Runs = append(r.Runs, boottrace.Run{
			Kind: boottrace.Counting, Until: boottrace.UntilExit, Instructions: n, TouchedBytes: n, PSSBytes: n, Memory: &boottrace.Memory{RSSBytes: n},
			Marks: []boottrace.Mark{{ID: abi.MarkEntry, Instructions: n / 10}, {ID: abi.MarkApp, Instructions: n / 2}},
		})
	}
	return r
}

func TestCounts(t *testing.T) {
	for _, tt := range []struct {
		limit     string
		rec, base []uint64
		want      Verdict
		says      string
	}{
		{"instructions: 1M", []uint64{1e6}, nil, Pass, "instructions is within 1M: 1000000 (one boot)"},
		{"instructions: 1M", []uint64{1e6 + 1}, nil, Fail, "instructions is 1000001, beyond the limit 1M (one boot)"},
		{"instructions: 1M", []uint64{1e6 - 5, 1e6 - 5, 2e6}, nil, Pass, "(3 boots)"}, // by the median, as --max-instructions
		{"instructions: {phases: {kernel: 400k}}", []uint64{1e6}, nil, Pass, ""},
		{"instructions: {phases: {kernel: 399k}}", []uint64{1e6}, nil, Fail, ""},
		{"instructions: {phases: {firmware: 100k, app: 500k}}", []uint64{1e6}, nil, Pass, ""},
		{"instructions: {phases: {vmm: 1}}", []uint64{1e6}, nil, Unmeasured, "the counting boots have no phase vmm, but firmware, kernel, app"},
		{"instructions: 1M", nil, nil, Unmeasured, "there is no counting boot"},
		{"instructions: baseline + 1%", []uint64{103e4}, []uint64{1e6}, Fail, "instructions is baseline + 3.00 % (1030000), beyond the limit baseline + 1%"},
		{"instructions: baseline + 3.2%", []uint64{103e4}, []uint64{1e6}, Pass, ""},
		{"instructions: baseline + 3%", []uint64{103e4}, []uint64{1e6}, Undecided, "boots of the same image differ by as much (0.1 %)"},
		{"instructions: baseline", []uint64{1e6}, []uint64{1e6}, Undecided, ""},
		{"instructions: baseline - 5%", []uint64{1e6}, []uint64{1e6}, Fail, ""},
		{"instructions: baseline + 20k", []uint64{1010000}, []uint64{1e6}, Pass, ""},
		{"instructions: baseline + 20k", []uint64{1030000}, []uint64{1e6}, Fail, "instructions is baseline + 30000 (1030000)"},
		{"instructions: baseline + 1%", []uint64{1e6, 1030000}, []uint64{1e6}, Undecided, ""}, // they do not agree
		{"instructions: baseline + 1%", []uint64{1e6}, nil, Unmeasured, "the baseline has none: there is no counting boot"},
		{"memory: 1M", []uint64{1 << 20}, nil, Pass, "memory is within 1M: 1.00 MiB"},
		{"memory: {rss: baseline + 5%}", []uint64{1 << 20}, []uint64{1 << 20}, Pass, ""},
		{"memory: {pss: 1M}", []uint64{1<<20 + 1}, nil, Fail, ""},
		{"image: 1000", nil, nil, Pass, "image is within 1000: 1000 bytes"},
		{"image: 999", nil, nil, Fail, ""},
		{"image: baseline", nil, nil, Pass, ""},
		{"symbols: 90%", nil, nil, Pass, ""},
		{"symbols: 100%", nil, nil, Fail, "beyond the limit 100%"},
		{"symbols: baseline", nil, nil, Pass, ""},
		{"symbols: baseline - 1%", nil, nil, Pass, ""},
		{"total: 1s", []uint64{1e6}, nil, Unmeasured, "there is no timed boot"},
		{"total: floor * 2", nil, nil, Unmeasured, "there is no timed boot"},
	} {
		f, err := Parse("b", []byte(tt.limit))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range f.Judge(NewSide(counted(tt.rec...)), NewSide(counted(tt.base...)), 1) {
			if r.Verdict != tt.want || !strings.Contains(r.Sentence(), tt.says) {
				t.Errorf("%s of %v, baseline %v: %s %+v", tt.limit, tt.rec, tt.base, r.Sentence(), r)
			}
		}
	}
}

// TestKinds compares memory of boots of the same kind only.
func TestKinds(t *testing.T) {
	f, err := Parse("b", []byte("memory: baseline + 5%"))
	if err != nil {
		t.Fatal(err)
	}
	both := counted(1 << 20)
	both.Runs = append(both.Runs, boottrace.Run{Kind: boottrace.Timed, TouchedBytes: 2 << 20})
	timed := &boottrace.Recording{Runs: []boottrace.Run{{Kind: boottrace.Timed, TouchedBytes: 2 << 20}}}
	for i, sides := range [][2]*boottrace.Recording{{both, both}, {both, timed}, {timed, both}} {
		if r := f.Judge(NewSide(sides[0]), NewSide(sides[1]), 1)[0]; r.Verdict != Pass || r.Measured != 1 {
			t.Errorf("%d: %s", i, r.Sentence())
		}
	}
	if r := f.Judge(NewSide(counted(1<<20)), NewSide(timed), 1)[0]; r.Verdict != Unmeasured {
		t.Error(r.Sentence())
	}
}

// TestBusy judges boots that are slow as long as the floor is.
func TestBusy(t *testing.T) {
	f, err := Parse("b", []byte("total: [80ms, floor + 50ms, floor * 3]"))
	if err != nil {
		t.Fatal(err)
	}
	var r boottrace.Recording
	for i := range 60 {
		slow := int64(2)
		if i < 16 {
			slow = 1
		}
		r.Runs = append(r.Runs, boottrace.Run{Kind: boottrace.Floor, ReadyNanos: 24e6 * slow}, boottrace.Run{Kind: boottrace.Timed, ReadyNanos: 60e6 * slow})
	}
	all := f.Judge(NewSide(&r), nil, 1)
	for _, r := range all[:2] {
		if r.Verdict != Undecided || !strings.Contains(r.Why, "the host was busy: the floor took 24.0 to 48.0 ms") {
			t.Error(r.Sentence())
		}
	}
	if all[2].Verdict != Pass {
		t.Error(all[2].Sentence())
	}
	for i := range r.Runs {
		r.Runs[i].ReadyNanos = map[boottrace.Kind]int64{boottrace.Floor: 24e6, boottrace.Timed: 90e6}[r.Runs[i].Kind]
	}
	for _, r := range f.Judge(NewSide(&r), nil, 1) {
		if r.Verdict != Fail {
			t.Error(r.Sentence())
		}
	}
}

func TestLooks(t *testing.T) {
	for most, want := range map[int][]int{1: {1}, 8: {8}, 9: {8, 9}, 64: {8, 16, 32, 64}, 100: {8, 16, 32, 64, 100}} {
		if got := Looks(most); !slices.Equal(got, want) {
			t.Errorf("at most %d: %v, want %v", most, got, want)
		}
	}
}

// FuzzJudge judges one recording by another: whatever they hold, each limit has a verdict, and figures that can be printed.
func FuzzJudge(f *testing.F) {
	file, err := Parse("b", []byte("total: [1ms, floor * 2, floor + 1ms, baseline + 1%, baseline + 1ms]\nphases: {kernel: baseline + 1%, app: 5ms}\n"+
		"instructions: {total: [1M, baseline + 1%, baseline + 1k], phases: {kernel: baseline}}\nmemory: {touched: baseline, rss: 8M, pss: baseline + 1M}\nimage: baseline\nsymbols: baseline - 1%"))
	if err != nil {
		f.Fatal(err)
	}
	// fill makes runs of what there is in b: a kind, and numbers of nine bytes in all.
	fill := func(b []byte) *boottrace.Recording {
		r := &boottrace.Recording{ImageBytes: uint64(len(b))}
		for ; len(b) >= 9; b = b[9:] {
			n := binary.LittleEndian.Uint64(b[1:])
			run := boottrace.Run{
				Kind: []boottrace.Kind{boottrace.Timed, boottrace.Floor, boottrace.Counting}[b[0]%3], Until: boottrace.UntilExit,
				ReadyNanos: int64(n >> 12), Instructions: n, TouchedBytes: n >> 3, PSSBytes: n >> 5, Memory: &boottrace.Memory{RSSBytes: n},
				Marks: []boottrace.Mark{{ID: abi.MarkEntry, Instructions: n / 3, HostNanos: int64(n >> 13)}, {ID: abi.MarkApp, Instructions: n / 2, HostNanos: int64(n >> 13)}},
			}
			r.Runs = append(r.Runs, run)
		}
		return r
	}
	seed := bytes.Repeat([]byte{0, 1, 2, 3, 4, 5, 0, 0, 0, 1, 9, 2, 3, 4, 5, 0, 0, 0, 2, 1, 2, 3, 0, 0, 0, 0, 0}, 10)
	if r := fill(seed); len(r.Of(boottrace.Timed)) != 10 || r.CheckValid() != nil {
		f.Fatal(r.CheckValid())
	}
	f.Add(seed, seed[27:])
	f.Add(seed, []byte{})
	f.Add(bytes.Repeat([]byte{255}, 90), seed)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		rec, base := fill(a), fill(b)
		if rec.CheckValid() != nil || base.CheckValid() != nil {
			return
		}
		for _, r := range file.Judge(NewSide(rec), NewSide(base), 2) {
			if r.Verdict == "" || r.Sentence() == "" || r.Verdict != Unmeasured && (math.IsNaN(r.Measured) || math.IsNaN(r.Low) || math.IsNaN(r.High)) {
				t.Errorf("%+v", r)
			}
		}
	})
}
