package budget

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// host is a noisy host: how long a boot takes there, over how long it takes at best.
type host struct {
	rnd   *rand.Rand
	sigma float64 // of the boots' own noise
	skew  float64 // how often a boot is held up
	busy  float64 // how often a burst begins, which slows all boots until it ends
	slow  float64 // 0: no burst
}

// noise is a boot's own.
func (h *host) noise() float64 {
	n := math.Exp(h.sigma * h.rnd.NormFloat64())
	if h.rnd.Float64() < h.skew {
		n += h.rnd.ExpFloat64() / 2
	}
	return n
}

// pair is a floor run and a timed run, which take that many milliseconds on a quiet host.
func (h *host) pair(r *boottrace.Recording, floor, boot float64) {
	switch {
	case h.slow == 0 && h.rnd.Float64() < h.busy:
		h.slow = 0.2 + h.rnd.ExpFloat64()
	case h.rnd.Float64() < 0.1: // of about ten boots
		h.slow = 0
	}
	run := func(kind boottrace.Kind, ms float64) {
		r.Runs = append(r.Runs, boottrace.Run{Kind: kind, Until: boottrace.UntilExit, ReadyNanos: int64(ms * 1e6 * (1 + h.slow) * h.noise())})
	}
	run(boottrace.Floor, floor)
	run(boottrace.Timed, boot)
}

func (h *host) recording(boots int, ms float64) *boottrace.Recording {
	r := new(boottrace.Recording)
	for range boots {
		h.pair(r, 24, ms)
	}
	return r
}

// gate is a gate as bootprof makes it: boots are added until all limits are decided.
func (h *host) gate(f *File, base *boottrace.Recording, ms float64) []Result {
	r := new(boottrace.Recording)
	looks := Looks(64)
	for _, n := range looks {
		for len(r.Runs) < 2*n {
			h.pair(r, 24, ms)
		}
		if all := f.Judge(NewSide(r), NewSide(base), len(looks)); n == looks[len(looks)-1] || !MoreWouldTell(all) {
			return all
		}
	}
	return nil
}

// hosts are the models. The first has the noise of two recordings of 150 boots each on a shared host with two cores.
var hosts = []host{
	{sigma: 0.10, skew: 0.02, busy: 0.02},
	{sigma: 0.02},
	{sigma: 0.05, skew: 0.10, busy: 0.05},
	{sigma: 0.15, skew: 0.20, busy: 0.10},
}

// verdicts makes gates and counts the verdicts of each limit.
func (h *host) verdicts(f *File, gates int, ms float64) map[string]int {
	count := make(map[string]int)
	for range gates {
		for _, r := range h.gate(f, h.recording(20, 64), ms) {
			count[r.Text+" "+string(r.Verdict)]++
		}
	}
	return count
}

// TestUnchanged makes gates of a boot that did not change: none fails. Limits in milliseconds are left out on hosts where bursts
// last longer than a gate.
func TestUnchanged(t *testing.T) {
	for i, h := range hosts {
		h.rnd = rand.New(rand.NewPCG(uint64(i), 11))
		limits := "baseline + 3%, baseline + 2ms, floor * 2.75"
		if i < 2 {
			limits += ", floor + 50ms, 80ms"
		}
		f, err := Parse("b", []byte("total: ["+limits+"]"))
		if err != nil {
			t.Fatal(err)
		}
		count := h.verdicts(f, 200, 64)
		t.Log(i, count)
		for verdict, n := range count {
			if strings.HasSuffix(verdict, string(Fail)) {
				t.Errorf("host %d: %s in %d of 200 gates", i, verdict, n)
			}
		}
	}
}

// TestErrors makes gates of boots that take just what the limits allow, where errors are likeliest, and counts them.
func TestErrors(t *testing.T) {
	const gates = 600
	f, err := Parse("b", []byte(fmt.Sprintf("total: [baseline, floor * %.6f]", 64.0/24)))
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range hosts {
		h.rnd = rand.New(rand.NewPCG(uint64(i), 13))
		count := h.verdicts(f, gates, 64)
		t.Log(i, count)
		for _, l := range f.Limits {
			if n := count[l.Text+" "+string(Fail)]; float64(n) > 4*gates*FalseAlarm {
				t.Errorf("host %d: %s fails in %d of %d gates", i, l.Text, n, gates)
			}
			if n := count[l.Text+" "+string(Pass)]; float64(n) > 1.2*gates*FalsePass {
				t.Errorf("host %d: %s passes in %d of %d gates", i, l.Text, n, gates)
			}
		}
	}
}

// TestSlower makes gates of a boot that takes a quarter more: hardly any limit passes, and on quiet hosts all fail.
func TestSlower(t *testing.T) {
	f, err := Parse("b", []byte("total: [baseline + 3%, baseline + 2ms, floor * 2.75, floor + 43ms, 70ms]"))
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range hosts {
		h.rnd = rand.New(rand.NewPCG(uint64(i), 12))
		count := h.verdicts(f, 40, 80)
		t.Log(i, count)
		for _, l := range f.Limits {
			if n := count[l.Text+" "+string(Pass)]; n > 2 {
				t.Errorf("host %d: %s passes %d of 40 gates", i, l.Text, n)
			}
			if n := count[l.Text+" "+string(Fail)]; i == 1 && n < 40 {
				t.Errorf("host %d: %s fails in %d of 40 gates", i, l.Text, n)
			}
		}
	}
}

// TestFewBoots judges recordings with few boots, of a boot that did not change against a baseline with as few.
func TestFewBoots(t *testing.T) {
	f, err := Parse("b", []byte("total: [baseline + 3%, baseline + 2ms, floor * 2.75]"))
	if err != nil {
		t.Fatal(err)
	}
	h := hosts[0]
	h.rnd = rand.New(rand.NewPCG(5, 5))
	for _, n := range []int{1, 2, 3, 5, 8, 12, 20} {
		failed := 0
		for range 300 {
			for _, r := range f.Judge(NewSide(h.recording(n, 64)), NewSide(h.recording(n, 64)), 1) {
				if r.Verdict == Fail {
					failed++
					t.Log(n, r.Sentence())
				}
			}
		}
		if failed > 1 {
			t.Errorf("%d boots: %d verdicts of 900 are a false alarm", n, failed)
		}
	}
	// What is far beyond a limit or within it is seen in one boot.
	for text, want := range map[string]Verdict{"total: 10ms": Fail, "total: 10s": Pass, "total: 50ms": Undecided, "total: baseline * 5": Pass} {
		f, err := Parse("b", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		h := hosts[1]
		h.rnd = rand.New(rand.NewPCG(6, 6))
		if r := f.Judge(NewSide(h.recording(1, 64)), NewSide(h.recording(1, 64)), 1)[0]; r.Verdict != want {
			t.Errorf("%s in one boot: %s", text, r.Sentence())
		}
	}
}
