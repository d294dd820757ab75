package testprog

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// A machine that is too small for the kernel itself says so, and how much there is and is needed.
func TestTooSmall(t *testing.T) {
	dir := t.TempDir()
	compileC(t, 2, "ending", filepath.Join(dir, "ending"))
	for mib := int64(2); mib <= 5; mib++ {
		e := boot(t, vmSpec{dir: dir, args: []string{"/ending", "return"}, memory: mib << 20})
		var ends, need int64
		_, err := fmt.Sscanf(e.console, "firstlight: out of memory: RAM ends at %d KiB, and the kernel alone takes it up to %d KiB. The program is not started: give the machine more --memory\n", &ends, &need)
		const enomem = 12
		switch fits := err != nil; {
		case fits && (mib < 5 || e.how != abi.EndExited || e.code != 0):
			t.Errorf("%d MiB: %v", mib, e)
		case !fits && (ends != mib<<10 || need <= ends || need > 8<<10 || e.how != abi.EndNotStart || e.code != enomem || strings.Count(e.console, "\n") != 1):
			t.Errorf("%d MiB: %v", mib, e)
		}
	}
}

// Every page of RAM has one owner, on machines of all sizes: at the start of a program, amid all kinds of use, with nothing left, at
// the end. What page tables and lists show is what is counted, and the boot record tells the host the same.
func TestOwners(t *testing.T) {
	dir := t.TempDir()
	compileC(t, 0, "owners", filepath.Join(dir, "owners"))
	for _, c := range []struct {
		mib  int64
		args []string
		want string
	}{
		{64, nil, "start bss mid end"},
		{6, []string{"1", "1"}, "start full end"},
		{40, []string{"30", "1"}, "start full end"},
		{5120, []string{"4096", "4096"}, "start full end"},
	} {
		t.Run(fmt.Sprintf("%dM", c.mib), func(t *testing.T) {
			e := boot(t, vmSpec{dir: dir, args: append([]string{"/owners"}, c.args...), memory: c.mib << 20})
			if got := strings.Join(okLines(e.console), " "); e.how != abi.EndExited || e.code != 0 || got != c.want {
				t.Fatalf("want %q, got %v", c.want, e)
			}
			// All but 384 KiB of the first MiB, and there the firmware's page.
			if line := fmt.Sprintf("%d MiB\n", c.mib-1); c.args != nil && !strings.Contains(e.console, line) {
				t.Errorf("want %q, got %v", line, e)
			}
		})
	}
}

// Memory that runs out is said in one line and ends the program as SIGKILL does, or fails the call: on small machines and larger ones it
// is never the kernel's own end, nor a thread that waits for ever.
func TestOutOfMemory(t *testing.T) {
	dir := t.TempDir()
	compileC(t, 0, "ending", filepath.Join(dir, "ending"))
	for _, mib := range []int64{6, 8, 12, 40} {
		for _, arg := range []string{"memory", "pipes"} {
			if arg == "pipes" && mib == 40 {
				continue // as much fits
			}
			t.Run(fmt.Sprintf("%s in %dM", arg, mib), func(t *testing.T) {
				e := boot(t, vmSpec{dir: dir, args: []string{"/ending", arg}, memory: mib << 20})
				lines := strings.Count(e.console, "firstlight: ")
				killed := e.how == abi.EndKilled && e.code == 9 && lines == 1 && strings.Contains(e.console, "\nfirstlight: out of memory: ")
				// A write that fails leaves the program to go on, as far as it needs no page more.
				failed := arg == "pipes" && e.how == abi.EndExited && e.code == 5 && lines == 0
				if !killed && !failed {
					t.Errorf("not one line and SIGKILL: %v", e)
				}
			})
		}
	}
}
