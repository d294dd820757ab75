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
	"github.com/firstlight-boot/firstlight/kernel/link"
	"github.com/firstlight-boot/firstlight/qemu"
)

// TestBoot boots this command as a kernel: every check passes, and the panic at its end has a trace with names.
func TestBoot(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
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
	want := "ok channels\nok locked-threads\nok collector\nok faults\nok recursion\nok free-memory\nok timers\nok clock\nok idle\nok ring3\nok turns\nok loops\nok two-spaces\nok isolation\nok page-tables\nok supervisor\nok segments\nok floating-point\nok bss\n" +
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
