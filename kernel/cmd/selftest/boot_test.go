package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/link"
	"github.com/firstlight-boot/firstlight/qemu"
)

// TestBoot boots this command as a kernel: every check passes, and the panic at its end has a trace with names.
func TestBoot(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	q, err := qemu.Find(ctx, "")
	if err != nil {
		needs.Missing(t, err.Error())
	}
	out := filepath.Join(t.TempDir(), "selftest")
	args, env := link.GoBuildArgs(nil)
	cmd := exec.CommandContext(ctx, "go", append(args, "-o", out, ".")...)
	cmd.Env = append(os.Environ(), env...)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := link.Link(b)
	if err != nil {
		t.Fatal(err)
	}
	// The default, the least that there is, all that QEMU has, UMIP among it, and AVX on a CPU that does not tell whether it is in use, and
	// that has XSAVE alone.
	for _, model := range []string{"", "qemu64", "max", "max,-xgetbv1", "max,-avx"} {
		t.Run("cpu="+model, func(t *testing.T) { boots(t, ctx, q, kernel, qemu.Config{CPU: model}, 63) })
	}
	for _, o := range oopses {
		t.Run("oops="+o.how, func(t *testing.T) { failsIn(t, ctx, q, kernel, o.how, o.says, o.trace) })
	}
	// Above 1 GiB; with a hole for devices below 4 GiB; above that. Of the first MiB 384 KiB are no RAM, nor is the firmware's part.
	for _, n := range []int{2, 4} {
		t.Run(fmt.Sprintf("cpus=%d", n), func(t *testing.T) { boots(t, ctx, q, kernel, qemu.Config{CPU: "max", CPUs: n}, 63) })
	}
	for _, mib := range []int64{2048, 3500, 5120} {
		t.Run(fmt.Sprintf("memory=%dM", mib), func(t *testing.T) {
			boots(t, ctx, q, kernel, qemu.Config{MemoryBytes: mib << 20}, mib-1)
		})
	}
}

// oopses are the ways in which the kernel can end that nobody foresaw: what the line says, and the functions in the trace, the innermost first.
var oopses = []struct{ how, says, trace string }{
	{"ordinary", "trap", "main.overflowTrap main.oops main.main runtime.main runtime.goexit"},
	{"call", "fault in kernel context", "main.faults1 main.faultsInCall ring0.syscallEntry"},
	{"trap", "fault in kernel context", "main.faults1 main.faultsInCall trap"},
	{"interrupt", "fault in kernel context", "main.faults1 main.faultsInInterrupt trap"},
	{"overflow", "stack overflow in kernel context", strings.Repeat("main.deeper ", 31) + "main.deeper"},
	{"wild", "fault in kernel context", "- main.jumps ring0.syscallEntry"},
	{"double", "double fault", "main.oops main.main runtime.main runtime.goexit"},
}

// frameLine is a line of a trace: an address, and the function's name if it has one.
var frameLine = regexp.MustCompile(`(?m)^  [0-9a-f]{16}(?: (\S+))?$`)

// failsIn has the kernel end in one of those ways: with one message, a whole trace, and the mark of a panic.
func failsIn(t *testing.T, ctx context.Context, q *qemu.QEMU, kernel []byte, how, says, trace string) {
	var console, marks bytes.Buffer
	vm, err := q.Start(ctx, qemu.Config{Accel: "tcg", KernelImage: kernel, Append: "oops=" + how, Counting: &qemu.Counting{}}, qemu.Events{
		Console: func(_ time.Duration, p []byte) { console.Write(p) },
		Mark:    func(_ time.Duration, p []byte) { marks.Write(p) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if _, err := vm.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	got := strings.ReplaceAll(console.String(), "\r", "")
	line := "firstlight: kernel: " + says + "\n"
	if !strings.HasPrefix(got, line) || !strings.HasSuffix(got, line) || strings.Count(got, "firstlight:") != 2 {
		t.Errorf("want %q, the registers, the trace and the line again; got\n%s", line, got)
	}
	var names []string
	for _, m := range frameLine.FindAllStringSubmatch(got, -1) {
		name := m[1][strings.LastIndex(m[1], "/")+1:]
		if name == "" {
			name = "-"
		}
		names = append(names, name)
	}
	if s := strings.Join(names, " "); s != trace {
		t.Errorf("the trace is\n%s, want\n%s\n%s", s, trace, got)
	}
	if end := marks.Bytes(); !bytes.HasSuffix(end, []byte{abi.MarkEnd, abi.EndPanic, 0}) {
		t.Errorf("the last marks are %v, want those of a panic", end)
	}
}

// cpuLine is what the self-test says of the machine's other CPUs.
var cpuLine = regexp.MustCompile(`(?m)^(?:CPUs|taking a page).*\n`)

func boots(t *testing.T, ctx context.Context, q *qemu.QEMU, kernel []byte, config qemu.Config, mib int64) {
	if config.CPUs < 2 {
		config.Counting = &qemu.Counting{} // whose clock goes by instructions: a busy host delays no timer
	}
	var console bytes.Buffer
	config.Accel, config.KernelImage = "tcg", kernel
	vm, err := q.Start(ctx, config, qemu.Events{Console: func(_ time.Duration, p []byte) { console.Write(p) }})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if _, err := vm.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, console.Bytes())
	}
	got := strings.ReplaceAll(console.String(), "\r", "")
	want := "ok channels\nok locked-threads\nok collector\nok faults\nok recursion\nok free-memory\nok timers\nok clock\nok idle\nok ring3\nok turns\nok loops\nok storm\nok two-spaces\nok isolation\nok page-tables\nok supervisor\nok segments\nok floating-point\nok bss\n" +
		fmt.Sprintf("RAM of %d MiB in ", mib)
	if config.CPUs > 1 {
		if got = cpuLine.ReplaceAllString(got, ""); !strings.HasPrefix(got, "ok cpus\npanic: the end of the self-test\n") {
			t.Errorf("the console says\n%s", console.Bytes())
		}
		t.Log(strings.Join(cpuLine.FindAllString(console.String(), -1), ""))
		return
	}
	wantEnd := "pieces\nok ram\nok cpus\n" +
		"panic: the end of the self-test\n"
	if !strings.HasPrefix(got, want) || !strings.Contains(got, wantEnd) {
		t.Errorf("the console says\n%s\nwant it to start with\n%s…%s", got, want, wantEnd)
	}
	if !strings.Contains(got, "main.theEnd(") || !strings.Contains(got, "selftest/main.go:") {
		t.Errorf("the trace has no names\n%s", got)
	}
}
