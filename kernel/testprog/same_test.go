package testprog

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/kernel/abi"
)

var record = flag.Bool("record", false, "TestSameAsLinux first writes what the host's Linux answers into same/*.linux")

// TestSameAsLinux runs programs in the guest, which have to print the lines that they printed under Linux (see same/README.md for which).
// They print nothing that may differ between two machines: no times, addresses or process numbers. In the guest time follows the
// instructions, so that nothing of what they sleep, wait and spend depends on how busy the host is; with -cpus it cannot.
func TestSameAsLinux(t *testing.T) {
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
			recorded := filepath.Join("same", name+".linux")
			if *record {
				out, err := exec.CommandContext(limited(t), prog).Output()
				if err != nil {
					t.Fatalf("on the host: %v\n%s", err, out)
				}
				if err := os.WriteFile(recorded, out, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(recorded)
			if err != nil {
				t.Fatalf("%v: record it on a Linux host with AVX: go test ./kernel/testprog -run TestSameAsLinux -record", err)
			}
			cpu := ""
			if name == "avx" {
				cpu = "max"
			}
			e := boot(t, vmSpec{dir: dir, args: []string{"/" + name}, cpu: cpu, counting: *numCPUs == 1})
			if e.how != abi.EndExited || e.code != 0 {
				t.Errorf("in the guest: how %d, code %d", e.how, e.code)
			}
			if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(e.console, "\n")); d != "" {
				t.Errorf("-Linux +guest:\n%s", d)
			}
		})
	}
}
