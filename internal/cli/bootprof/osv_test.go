package bootprof

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/internal/needs"
)

// osvKernel builds testdata/osv.S, a stand-in for an OSv kernel, with the given definitions.
func osvKernel(t *testing.T, defs ...string) string {
	t.Helper()
	needs.Tool(t, "cc", "gcc")
	kernel := filepath.Join(t.TempDir(), "loader.elf")
	args := []string{"-nostdlib", "-static", "-no-pie", "-Wl,-T,testdata/guest.ld,--build-id=none", "-o", kernel, "testdata/osv.S"}
	for _, d := range defs {
		args = append(args, "-D"+d)
	}
	if msg, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, msg)
	}
	return kernel
}

func TestOSv(t *testing.T) {
	needQEMU(t)
	kernel := osvKernel(t)
	code, o, stderr := boot(t, "--kernel", kernel, "--flavour", "osv", "--append", "--rootfs=rofs --bootchart", "--profile", "exact", "--", "/hello", "big world")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	rec, err := boottrace.Open(o.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	run, timed := rec.Of(boottrace.Counting)[0], rec.Of(boottrace.Timed)[0]
	for _, r := range []*boottrace.Run{run, timed} {
		var labels []string
		for _, m := range r.Marks {
			labels = append(labels, m.Label())
		}
		if got, want := strings.Join(labels, " "), "reset entry premain main main_cont booted main thread"; got != want {
			t.Errorf("%s: marks %s, want %s", r.Kind, got, want)
		}
		if r.Kind == boottrace.Counting && (r.Instructions < 6_000_000 || r.Instructions > 6_010_000 || rec.Exact.Instructions() != r.Instructions) {
			t.Errorf("%d instructions, %d in the profile", r.Instructions, rec.Exact.Instructions())
		}
		if r.Until != "mark:booted" || r.ReadyNanos >= r.ExitNanos && r.Kind == boottrace.Timed {
			t.Errorf("%s: ready at %d (%s), exit at %d", r.Kind, r.ReadyNanos, r.Until, r.ExitNanos)
		}
	}
	if phaseNames(o) != "vmm firmware kernel" {
		t.Errorf("phases %s", phaseNames(o))
	}
	// What is before ready: premain, main and main_cont.
	self, _ := byFunction(rec.Exact, "kernel")
	for name, want := range map[string]uint64{"premain": 1_000_002, "main": 2_000_000, "main_cont": 3_000_000} {
		if got := self[name]; got < want || got > want+500 {
			t.Errorf("%s executed %d instructions, want %d or a few more; all: %v", name, got, want, self)
		}
	}
	if got := string(timed.Output); !strings.HasSuffix(got, "--rootfs=rofs --bootchart /hello \"big world\"\n") {
		t.Errorf("output %q", got)
	}
	told := timed.Told()
	i := slices.IndexFunc(told, func(m boottrace.Told) bool { return m.Text == "Total time" })
	if len(told) != 4 || i < 0 || told[i].GuestNanos != 12_340_000 || told[i].Mark != "booted" || told[i].MarkNanos == 0 {
		t.Errorf("the chart: %+v", told)
	}

	code, _, stderr = boot(t, "--kernel", osvKernel(t, "DEAD"), "--flavour", "osv", "--counting", "0")
	if code != exitFailed || !strings.Contains(stderr, "never wrote the mark") {
		t.Errorf("a guest that never boots: exit code %d\n%s", code, stderr)
	}
	for _, tt := range []struct{ flavour, says string }{{"native", "no Firstlight kernel"}, {"ovs", "want native, linux, osv, other"}} {
		if code, _, stderr := boot(t, "--kernel", kernel, "--flavour", tt.flavour); code != exitUsage || !strings.Contains(stderr, tt.says) {
			t.Errorf("--flavour %s: exit code %d\n%s", tt.flavour, code, stderr)
		}
	}
}
