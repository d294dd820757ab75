package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firstlight-boot/firstlight/internal/kernelbuild"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/qemu"
)

var update = flag.Bool("update", false, "write the trace of the Go runtime's system calls anew")

// startupCalls are the calls that the Go runtime may make before main, each with the arguments that are compared: of RDI, RSI, RDX and
// R10, counted from 0. The others are addresses.
var startupCalls = map[uint64]struct {
	name string
	args []int
}{
	unix.SYS_ARCH_PRCTL: {"arch_prctl", []int{0}}, unix.SYS_SCHED_GETAFFINITY: {"sched_getaffinity", []int{0, 1}},
	unix.SYS_OPENAT: {"openat", nil}, unix.SYS_CLOCK_GETTIME: {"clock_gettime", []int{0}}, unix.SYS_MMAP: {"mmap", []int{1, 2, 3}},
	unix.SYS_PRCTL: {"prctl", []int{0, 1}}, unix.SYS_MADVISE: {"madvise", []int{1, 2}}, unix.SYS_MUNMAP: {"munmap", []int{1}},
	unix.SYS_RT_SIGPROCMASK: {"rt_sigprocmask", []int{0, 3}}, unix.SYS_FCNTL: {"fcntl", []int{0, 1, 2}}, unix.SYS_SIGALTSTACK: {"sigaltstack", nil},
	unix.SYS_GETTID: {"gettid", nil}, unix.SYS_GETPID: {"getpid", nil}, unix.SYS_RT_SIGACTION: {"rt_sigaction", []int{0, 3}},
	unix.SYS_CLONE: {"clone", []int{0}}, unix.SYS_FUTEX: {"futex", []int{1, 2}}, unix.SYS_PRLIMIT64: {"prlimit64", []int{0, 1}},
	unix.SYS_READ: {"read", []int{0}}, unix.SYS_CLOSE: {"close", []int{0}}, unix.SYS_NANOSLEEP: {"nanosleep", nil}, unix.SYS_TGKILL: {"tgkill", []int{2}},
	unix.SYS_SCHED_YIELD: {"sched_yield", nil}, unix.SYS_EPOLL_CREATE1: {"epoll_create1", nil}, unix.SYS_EVENTFD2: {"eventfd2", nil},
	unix.SYS_EPOLL_CTL: {"epoll_ctl", []int{0, 1, 2}}, unix.SYS_EPOLL_PWAIT: {"epoll_pwait", []int{0, 2, 3}}, unix.SYS_MINCORE: {"mincore", nil},
	0x1010: {"fill the frame cache", nil}, 0x1012: {"frames in a row", []int{0}},
}

// startupTrace returns the system calls on the console of a kernel that is built to tell them, one a line. How often the runtime reads
// the clock until that has moved on is up to the clock.
func startupTrace(console string) string {
	var b strings.Builder
	last := ""
	for line := range strings.Lines(console) {
		words, ok := strings.CutPrefix(strings.TrimSpace(line), "call ")
		if !ok {
			continue
		}
		f := strings.SplitN(words, " ", 6)
		var v [5]uint64
		for i := range v {
			v[i], _ = strconv.ParseUint(f[i], 16, 64)
		}
		c, ok := startupCalls[v[0]]
		if !ok {
			c.name, c.args = fmt.Sprintf("call %d", v[0]), []int{0, 1, 2, 3}
		}
		call := c.name
		for _, a := range c.args {
			call += fmt.Sprintf(" %#x", v[1+a])
		}
		if len(f) == 6 && f[5] != "" {
			call += " " + f[5]
		}
		if call != last || v[0] != unix.SYS_CLOCK_GETTIME {
			b.WriteString(call + "\n")
		}
		last = call
	}
	return b.String()
}

// TestStartupCalls compares the system calls that the Go runtime makes before main with those of the release that package ring0 was
// written for. A release that makes others needs a look at each (docs/kernel.md), then go test -update.
func TestStartupCalls(t *testing.T) {
	needs.Tool(t, "qemu-system-x86_64", "qemu-system-x86")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	kernel, err := kernelbuild.Build(ctx, filepath.Join("..", "..", ".."), "test", []string{"firstlight_trace"})
	if err != nil {
		t.Fatal(err)
	}
	q, err := qemu.Find(ctx, "")
	if err != nil {
		needs.Missing(t, err.Error())
	}
	// A counting boot: clock and random numbers are the same each time.
	var console bytes.Buffer
	vm, err := q.Start(ctx, qemu.Config{Accel: "tcg", KernelImage: kernel, Counting: &qemu.Counting{}}, qemu.Events{Console: func(_ time.Duration, p []byte) { console.Write(p) }})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if _, err := vm.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, console.Bytes())
	}
	got := startupTrace(console.String())
	const golden = "testdata/startup.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(runtime.Version()+"\n"+got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	release, want, _ := strings.Cut(string(b), "\n")
	if diff := firstDifference(got, want); diff != "" {
		t.Errorf("the Go runtime of %s makes other system calls before main than that of %s: %s", runtime.Version(), release, diff)
	}
	if strings.Contains(console.String(), "is not there") {
		t.Errorf("a system call of the Go runtime is not there:\n%s", console.String())
	}
}

// firstDifference names the first line in which two traces differ, "" if none does.
func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		line := func(l []string) string {
			if i >= len(l) || l[i] == "" {
				return "(no more)"
			}
			return l[i]
		}
		if line(g) != line(w) {
			return fmt.Sprintf("call %d is %q, was %q", i+1, line(g), line(w))
		}
	}
	return ""
}

func TestFirstDifference(t *testing.T) {
	for _, c := range []struct{ got, want, diff string }{
		{"a\nb\n", "a\nb\n", ""},
		{"a\nc 1\n", "a\nb\n", `call 2 is "c 1", was "b"`},
		{"a\n", "a\nb\n", `call 2 is "(no more)", was "b"`},
		{"a\nb\nc\n", "a\nb\n", `call 3 is "c", was "(no more)"`},
	} {
		if d := firstDifference(c.got, c.want); d != c.diff {
			t.Errorf("%q against %q: %s, want %s", c.got, c.want, d, c.diff)
		}
	}
	const console = "call 000000000000010b 0 0 0 0 \r\ncall 0000000000000101 ffffffffffffff9c 1 0 0 /sys\r\n"
	if got := startupTrace(console); got != "call 267 0x0 0x0 0x0 0x0\nopenat /sys\n" {
		t.Errorf("trace %q", got)
	}
}
