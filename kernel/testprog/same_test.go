package testprog

import (
	"errors"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// TestSameAsLinux runs programs under the host's Linux and in the guest: they have to print the same lines. They print nothing
// that may differ between two machines: no times, addresses or process numbers.
func TestSameAsLinux(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the host is not Linux on x86-64")
	}
	needs.Tool(t, "gcc", "gcc libc6-dev")
	sources, err := filepath.Glob("same/*.c")
	if err != nil || len(sources) == 0 {
		t.Fatal(sources, err)
	}
	for _, src := range sources {
		name := filepath.Base(src[:len(src)-len(".c")])
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			prog := filepath.Join(dir, name)
			run(t, "gcc", "-static", "-O1", "-w", "-pthread", "-o", prog, src, "-lm")
			cpu := ""
			if name == "avx" {
				cpu = "max"
			}
			want, err := exec.CommandContext(t.Context(), prog).Output()
			if exit := new(exec.ExitError); errors.As(err, &exit) && string(want) == "no AVX\n" {
				t.Skip("the host's CPU has no AVX")
			}
			if err != nil {
				t.Fatalf("on the host: %v\n%s", err, want)
			}
			e := boot(t, vmSpec{dir: dir, args: []string{"/" + name}, cpu: cpu})
			if e.how != abi.EndExited || e.code != 0 {
				t.Errorf("in the guest: how %d, code %d", e.how, e.code)
			}
			if d := cmp.Diff(string(want), e.console); d != "" {
				t.Errorf("-Linux +guest:\n%s", d)
			}
		})
	}
}
