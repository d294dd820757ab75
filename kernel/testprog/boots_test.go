package testprog

import (
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
)

var numBoots = flag.Int("boots", 3, "boots that TestBoots makes; scripts/boots makes more")

// TestBoots boots programs in turn, each of which must print and return what it always does. Some boots have little memory.
func TestBoots(t *testing.T) {
	q := emulator(t)
	dir := t.TempDir()
	data(t, filepath.Join(dir, "data"))
	type program struct {
		line, want string
		code       byte
		memory     int64
	}
	var programs []program
	for _, c := range checks {
		if c.program == "churn" || c.program == "hostile" {
			continue // which take seconds, and are run by TestC
		}
		for i, f := range flavours {
			name := c.program + "-" + f.name
			compileC(t, i, c.program, filepath.Join(dir, name))
			line := "init=/" + name + " env=EMPTY= env=KEY=a\\ value"
			for _, a := range c.args {
				line += " arg=" + strings.ReplaceAll(a, " ", "\\ ")
			}
			programs = append(programs, program{line, "ok " + strings.ReplaceAll(c.want, " ", "\nok ") + "\n", c.code, c.small})
		}
	}
	run(t, "go", "build", "-trimpath", "-o", filepath.Join(dir, "gosuite"), "./gosuite")
	programs = append(programs, program{"init=/gosuite env=KEY=a\\ value", "ok args\n", 42, 0})
	img := makeImage(t, vmSpec{dir: dir, args: []string{"/none"}})
	boots := *numBoots
	type result struct {
		i   int
		err error
	}
	work, results := make(chan int), make(chan result)
	for range max(1, runtime.NumCPU()/2) {
		go func() {
			for i := range work {
				p := programs[i%len(programs)]
				c := qemu.Config{Kernel: img, Disks: []string{img}, Append: p.line}
				if i/len(programs)%2 == 1 {
					c.MemoryBytes = p.memory
				}
				e, err := runImage(t.Context(), q, c, 0)
				if err == nil && (e.how != abi.EndExited || e.code != p.code || !strings.Contains(e.console, p.want)) {
					err = fmt.Errorf("want exit %d after %q, got %v", p.code, p.want, e)
				}
				results <- result{i, err}
			}
		}()
	}
	go func() {
		for i := range boots {
			work <- i
		}
		close(work)
	}()
	failed := 0
	for range boots {
		if r := <-results; r.err != nil {
			t.Errorf("boot %d, %s: %v", r.i, programs[r.i%len(programs)].line, r.err)
			failed++
		}
	}
	t.Logf("%d boots of %d programs, %d failed", boots, len(programs), failed)
}
