package testprog

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/kernel/abi"
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
	const want = "sleep idle alone vdso shares wakers signals adds"
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

// TestStorm has threads wake each other in all ways while timers interrupt them.
func TestStorm(t *testing.T) {
	dir := t.TempDir()
	compileC(t, 0, "storm", filepath.Join(dir, "storm"))
	e := boot(t, vmSpec{dir: dir, args: []string{"/storm"}})
	if e.how != abi.EndExited || e.code != 0 || strings.Join(okLines(e.console), " ") != "storm" {
		t.Error(e)
	}
}
