package ring0_test

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const kernel = "github.com/firstlight-boot/firstlight/kernel/"

// contextPackages hold code that runs in kernel context.
var contextPackages = []string{kernel + "ring0", kernel + "mem", kernel + "cpu"}

// compile returns what the compiler prints about the packages with the given flag; they are compiled as for the kernel.
func compile(t *testing.T, flag string) string {
	t.Helper()
	// The go command prints again what the compiler said of a package that it has in its cache.
	args := []string{"build"}
	for _, p := range contextPackages {
		args = append(args, "-gcflags="+p+"="+flag)
	}
	cmd := exec.Command("go", append(args, contextPackages...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out.String())
	}
	return out.String()
}

var (
	textLine = regexp.MustCompile(`^(\S+) STEXT `)
	callLine = regexp.MustCompile(`\t(?:CALL|JMP)\t(\S+?)\(SB\)`)
)

// TestKernelContextCalls follows the calls from the functions that the entry code calls. Nothing but this code and leaves of
// the runtime may be reached: no allocation, no write barrier, no bounds check that is not known, no blocking.
func TestKernelContextCalls(t *testing.T) {
	calls := map[string][]string{}
	function := ""
	for line := range strings.Lines(compile(t, "-S")) {
		if m := textLine.FindStringSubmatch(line); m != nil {
			function = strings.TrimPrefix(m[1], kernel)
			calls[function] = []string{}
		}
		if m := callLine.FindStringSubmatch(line); m != nil {
			calls[function] = append(calls[function], strings.TrimPrefix(strings.TrimSuffix(m[1], "(SB)"), kernel))
		}
	}
	// Leaves: they touch neither g nor m. The stack check of a prologue never fails on the fake g.
	leaves := []string{"runtime.memmove", "runtime.memclrNoHeapPointers", "runtime.duffzero", "runtime.duffcopy", "runtime.morestack_noctxt"}
	// After a fault that ends the machine, the names of functions are worth a risk.
	trace := []string{"runtime.FuncForPC", "runtime.(*Func).Name"}

	seen := map[string]bool{}
	var visit func(fn, from string)
	visit = func(fn, from string) {
		if seen[fn] {
			return
		}
		seen[fn] = true
		if slices.Contains(leaves, fn) || strings.HasPrefix(fn, "cpu.") {
			return
		}
		if from == "ring0.kernelTrace" && slices.Contains(trace, fn) {
			delete(seen, fn)
			return
		}
		if fn == "ring0.mark" || fn == "ring0.kernelCR2" || fn == "ring0.entryPoints" {
			return // assembly
		}
		callees, ok := calls[fn]
		if !ok {
			t.Errorf("%s calls %s, which kernel context must not", from, fn)
			return
		}
		for _, c := range callees {
			visit(c, fn)
		}
	}
	for _, root := range []string{"kernelStart", "kernelSyscall", "kernelTrap", "kernelUserInterrupt"} {
		visit("ring0."+root, "the entry code")
	}
	if len(seen) < 40 {
		t.Errorf("only %d functions were reached: is the compiler's listing still understood?", len(seen))
	}
}

// TestNoWriteBarriers holds for the packages as a whole: their state has no pointers.
func TestNoWriteBarriers(t *testing.T) {
	for line := range strings.Lines(compile(t, "-d=wb")) {
		if strings.Contains(line, "write barrier") {
			t.Error(strings.TrimSpace(line))
		}
	}
}

// TestNoEscapes names what of these packages is allocated: only in functions for ordinary Go.
func TestNoEscapes(t *testing.T) {
	for line := range strings.Lines(compile(t, "-m")) {
		if strings.Contains(line, "escapes to heap") || strings.Contains(line, "moved to heap") {
			if strings.Contains(line, "/ring0.go") && (strings.Contains(line, "new(Context)") || strings.Contains(line, "msg escapes")) {
				continue
			}
			t.Error(strings.TrimSpace(line))
		}
	}
}
