package sample

import (
	"context"
	"debug/elf"
	"errors"
	"math"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/qemu"
)

func find(t testing.TB) *qemu.QEMU {
	t.Helper()
	q, err := qemu.Find(t.Context(), "")
	if errors.Is(err, qemu.ErrNotFound) {
		needs.Missing(t, "qemu-system-x86_64 is not installed: apt-get install qemu-system-x86")
	}
	if err != nil {
		t.Fatal(err)
	}
	q.CacheDir = t.TempDir()
	return q
}

// loops builds the guest of testdata/loops.S.
func loops(t testing.TB, defs ...string) (path string, function func(addr uint64) string) {
	t.Helper()
	needs.Tool(t, "cc", "gcc")
	path = filepath.Join(t.TempDir(), "loops")
	args := append([]string{"-nostdlib", "-static", "-no-pie", "-Wl,-Ttestdata/loops.ld", "-Wl,--build-id=none", "-Wl,-e,start", "-Wl,-z,noexecstack", "-o", path, "testdata/loops.S"}, defs...)
	if msg, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, msg)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	return path, func(addr uint64) string {
		for _, s := range symbols {
			if elf.ST_TYPE(s.Info) == elf.STT_FUNC && addr >= s.Value && addr < s.Value+s.Size {
				return s.Name
			}
		}
		return "entry"
	}
}

// TestShares samples a guest whose shares of time are known, with four and with five levels of page tables.
func TestShares(t *testing.T) {
	for _, levels := range []struct {
		name, cpu string
		defs      []string
	}{
		{"four levels", "", []string{"-DROUNDS=6000"}},
		{"five levels", qemu.TCGCPU + ",+la57", []string{"-DROUNDS=4000", "-DLA57"}},
	} {
		t.Run(levels.name, func(t *testing.T) {
			q := find(t)
			kernel, function := loops(t, levels.defs...)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			count := make(map[string]float64)
			total := 0.0
			var at []time.Duration
			s := &Sampler{Period: MinPeriod, Rand: rand.New(rand.NewPCG(1, 1)), Each: func(s Sample) {
				if len(s.Stacks) != 1 {
					t.Errorf("%d CPUs", len(s.Stacks))
				}
				at = append(at, s.Running)
				st := s.Stacks[0]
				leaf := function(st.CPU.PC)
				if leaf == "entry" || leaf == "main" || leaf == "caller" {
					return // firmware, entry and the few instructions between the loops
				}
				total++
				names := []string{leaf}
				for _, c := range st.Callers {
					names = append(names, function(c.Return-1))
				}
				if leaf == "bare" && (function(st.Near[0].Target) != "bare" || function(st.Near[0].Return-1) != "caller") {
					t.Errorf("the call to bare is not seen near: %#v", st.Near)
				}
				chain := strings.Join(names, " ")
				count[chain]++
				if !st.Whole || !st.CPU.Long || !st.CPU.Privileged || len(st.Code) != CodeBytes {
					t.Errorf("%s: %+v", chain, st)
				}
			}}
			vm, err := q.Start(ctx, qemu.Config{Kernel: kernel, CPU: levels.cpu, Monitor: true, Paused: true}, qemu.Events{Monitor: s.Event})
			if err != nil {
				t.Fatal(err)
			}
			defer vm.Close()
			stats, err := s.Run(ctx, vm)
			if err != nil {
				t.Fatal(err)
			}
			r, err := vm.Wait()
			if err != nil {
				t.Fatal(err)
			}
			if v, ok := r.GuestExit(); !ok || v != 20 {
				t.Errorf("the guest ended with %d, %v: %s", v, ok, r.Stderr)
			}
			t.Logf("%v in %d samples of %v; %v stopped; %v", count, stats.Samples, stats.Running, stats.Stopped, r.Wall)
			if stats.Samples != len(at) || total < 20 || stats.Running > r.Wall || stats.Stopped > r.Wall {
				t.Errorf("%+v, %d samples seen, %v of them in the loops; wall time %v", stats, len(at), total, r.Wall)
			}
			for i := range at[1:] {
				if at[i] > at[i+1] {
					t.Errorf("sample %d at %v, the next at %v", i, at[i], at[i+1])
				}
			}
			// The rare samples in a prologue or epilogue show the caller near.
			near := 0.0
			for chain, n := range count {
				switch chain {
				case "half caller main entry", "third main entry", "bare main entry": // bare has no frame, so its caller's is not seen
				case "half main entry", "third entry":
					near += n
				default:
					t.Errorf("stack %s", chain)
				}
			}
			if near > 0.02*total+4 {
				t.Errorf("%v of %v samples without caller", near, total)
			}
			for leaf, share := range map[string]float64{"half": 0.5, "third": 0.3, "bare": 0.2} {
				n := 0.0
				for chain, c := range count {
					if strings.HasPrefix(chain, leaf) {
						n += c
					}
				}
				if limit := 4 * math.Sqrt(share*(1-share)/total); math.Abs(n/total-share) > limit {
					t.Errorf("%s has %.3f of %v samples, want %.3f ± %.3f", leaf, n/total, total, share, limit)
				}
			}
		})
	}
}

// TestMonitor samples machines that do not tell what they should, or end meanwhile.
func TestMonitor(t *testing.T) {
	q := find(t)
	whole, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	ctx := whole
	run := func(c qemu.Config, wired bool, s *Sampler, during func(*qemu.VM)) (Stats, error) {
		t.Helper()
		s.Rand = rand.New(rand.NewPCG(1, 1))
		var ev qemu.Events
		if wired {
			ev.Monitor = s.Event
		}
		vm, err := q.Start(whole, c, ev)
		if err != nil {
			t.Fatal(err)
		}
		defer vm.Close()
		s.Each = func(Sample) {
			if during != nil {
				during(vm)
			}
		}
		return s.Run(ctx, vm)
	}
	kernel, _ := loops(t, "-DROUNDS=100000000")
	good := qemu.Config{Kernel: kernel, Monitor: true, Paused: true}
	if _, err := run(good, false, &Sampler{Period: MinPeriod}, nil); !errors.Is(err, ErrMonitor) {
		t.Errorf("without events: %v", err)
	}
	if _, err := run(qemu.Config{Kernel: kernel}, false, &Sampler{Period: MinPeriod}, nil); !errors.Is(err, qemu.ErrConfig) {
		t.Errorf("without a monitor: %v", err)
	}
	if _, err := run(good, true, &Sampler{Period: MinPeriod - 1}, nil); err == nil {
		t.Error("2 kHz")
	}
	anonymous := good
	anonymous.AnonymousRAM = true
	if _, err := run(anonymous, true, &Sampler{Period: MinPeriod}, nil); !errors.Is(err, qemu.ErrUnsupported) {
		t.Errorf("without its memory: %v", err)
	}
	if stats, err := run(good, true, &Sampler{Period: MinPeriod, Max: 3}, nil); err != nil || stats.Samples != 3 {
		t.Errorf("at most three: %+v, %v", stats, err)
	}
	if stats, err := run(good, true, &Sampler{Period: MinPeriod}, (*qemu.VM).Kill); err != nil || stats.Samples != 1 {
		t.Errorf("killed while it was stopped: %+v, %v", stats, err)
	}
	until := make(chan struct{})
	close(until)
	if stats, err := run(good, true, &Sampler{Period: time.Hour, Until: until}, nil); err != nil || stats.Samples != 0 {
		t.Errorf("until: %+v, %v", stats, err)
	}
	// The floor guest ends at its first act, whatever the sampler does at that moment.
	for range 5 {
		if _, err := run(qemu.Config{KernelImage: qemu.FloorKernel(), Monitor: true, Paused: true}, true, &Sampler{Period: MinPeriod}, nil); err != nil {
			t.Errorf("the floor: %v", err)
		}
	}
	ctx, cancel = context.WithTimeout(whole, 100*time.Millisecond)
	defer cancel()
	if _, err := run(good, true, &Sampler{Period: MinPeriod}, nil); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a deadline: %v", err)
	}
}
