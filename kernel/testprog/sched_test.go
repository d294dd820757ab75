package testprog

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
)

// TestScheduling runs where a nanosecond is an instruction and a halted processor's time passes at once: what the program
// checks about time is exact, however busy the host is.
func TestScheduling(t *testing.T) {
	dir := t.TempDir()
	compileC(t, 0, "sched", filepath.Join(dir, "sched"))
	e := boot(t, vmSpec{dir: dir, args: []string{"/sched"}, counting: true})
	if e.how != abi.EndExited || e.code != 0 {
		t.Error(e)
	}
	const want = "sleep idle alone vdso shares wakers signals storm adds"
	if got := strings.Join(okLines(e.console), " "); got != want {
		t.Errorf("passed %q, want %q\n%v", got, want, e)
	}
}

// A Go program reads the clock without the kernel too.
func TestGoClock(t *testing.T) {
	dir := t.TempDir()
	run(t, "go", "build", "-trimpath", "-o", filepath.Join(dir, "gosuite"), "./gosuite")
	e := boot(t, vmSpec{dir: dir, args: []string{"/gosuite", "clock"}, counting: true})
	if e.how != abi.EndExited || e.code != 0 {
		t.Error(e)
	}
}

// TestFrames returns from signals that nobody sent, by frames of the program's making.
func TestFrames(t *testing.T) {
	dir := t.TempDir()
	compileC(t, 0, "frames", filepath.Join(dir, "frames"))
	for _, cpu := range []string{"", "max"} { // without and with extended state
		e := boot(t, vmSpec{dir: dir, args: []string{"/frames"}, cpu: cpu})
		if e.how != abi.EndExited || e.code != 0 || strings.Join(okLines(e.console), " ") != "frames" {
			t.Error(e)
		}
	}
}

// TestStorm has threads wake each other in all ways while timers interrupt them: as fast as an exact machine does, then as the host lets it.
func TestStorm(t *testing.T) {
	dir := t.TempDir()
	compileC(t, 0, "storm", filepath.Join(dir, "storm"))
	for _, s := range []vmSpec{
		{dir: dir, args: []string{"/storm", "1", "exact"}, counting: true},
		{dir: dir, args: []string{"/storm"}},
	} {
		e := boot(t, s)
		if e.how != abi.EndExited || e.code != 0 || strings.Join(okLines(e.console), " ") != "storm" {
			t.Errorf("%v: %v", s.args, e)
		}
	}
}

// TestParallel runs threads on several CPUs at once; on one, what of it that can do.
func TestParallel(t *testing.T) {
	dir := t.TempDir()
	compileC(t, 0, "parallel", filepath.Join(dir, "parallel"))
	img := makeImage(t, vmSpec{dir: dir, args: []string{"/parallel"}})
	q := emulator(t)
	for _, b := range []struct {
		cpus   int
		append string
		want   string
	}{
		{1, "", "1-cpus futex wake-op signals cpu-time"},
		{2, "", "2-cpus at-once away copies futex wake-op signals cpu-time"},
		{4, "cpus=3", "3-cpus at-once away copies futex wake-op signals cpu-time"},
		{4, "cpus=1", "1-cpus futex wake-op signals cpu-time"},
	} {
		e, err := runImage(t.Context(), q, qemu.Config{Kernel: img, Disks: []string{img}, CPUs: b.cpus, Append: b.append}, 0)
		if err != nil {
			t.Fatalf("%d CPUs, %s: %v", b.cpus, b.append, err)
		}
		if got := strings.Join(okLines(e.console), " "); e.how != abi.EndExited || e.code != 0 || got != b.want {
			t.Errorf("%d CPUs, %s: passed %q, want %q\n%v", b.cpus, b.append, got, b.want, e)
		}
	}
}

// TestBusy makes calls about much at once. Their time is counted in instructions, so the bounds are exact.
func TestBusy(t *testing.T) {
	dir := t.TempDir()
	compileC(t, 0, "busy", filepath.Join(dir, "busy"))
	e := boot(t, vmSpec{dir: dir, args: []string{"/busy"}, counting: true})
	if got := strings.Join(okLines(e.console), " "); e.how != abi.EndExited || e.code != 0 || got != "mincore maps" {
		t.Error(e)
	}
}
