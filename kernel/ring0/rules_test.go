package ring0_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const kernel = "github.com/firstlight-boot/firstlight/kernel/"

// contextPackages hold code that runs in kernel context.
var contextPackages = []string{kernel + "ring0", kernel + "mem", kernel + "cpu"}

// compile returns what the compiler prints about the packages with the given flag; they are compiled as for the kernel. overlay
// replaces files, by their path here.
func compile(t *testing.T, flag string, overlay map[string]string) string {
	t.Helper()
	// The go command prints again what the compiler said of a package that it has in its cache.
	args := []string{"build"}
	if overlay != nil {
		replace := map[string]string{}
		dir := t.TempDir()
		for name, text := range overlay {
			from, err := filepath.Abs(name)
			to := filepath.Join(dir, filepath.Base(name))
			if err == nil {
				err = os.WriteFile(to, []byte(text), 0o666)
			}
			if err != nil {
				t.Fatal(err)
			}
			replace[from] = to
		}
		b, _ := json.Marshal(map[string]any{"Replace": replace})
		file := filepath.Join(dir, "overlay.json")
		if err := os.WriteFile(file, b, 0o666); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-overlay="+file)
	}
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
	textLine  = regexp.MustCompile(`^(\S+) STEXT .*locals=0x([0-9a-f]+) `)
	callLine  = regexp.MustCompile(`\t(?:CALL|JMP)\t(\S+?)\(SB\)`)
	indirect  = regexp.MustCompile(`\tCALL\t[^\t]*$`)
	roots     = []string{"kernelStart", "kernelSyscall", "kernelTrap", "kernelUserInterrupt", "kernelFaulted"}
	assembled = []string{"ring0.mark", "ring0.kernelCR2", "ring0.entryPoints", "ring0.cpuPoints", "ring0.setRuntimeClock"}
	// Leaves: they touch neither g nor m. The stack check of a prologue never fails on the fake g.
	leaves = []string{"runtime.memmove", "runtime.memclrNoHeapPointers", "runtime.duffzero", "runtime.duffcopy", "runtime.morestack_noctxt"}
	// It looks into tables, and uses no g.
	trace = []string{"runtime.findfunc"}
)

// function is what the compiler's listing tells of one.
type function struct {
	frame    int // bytes of stack, with the return address and the saved BP
	calls    []string
	indirect int // calls of what is not known
}

// functions reads a listing, as compile makes it with -S.
func functions(listing string) map[string]*function {
	all := map[string]*function{}
	var f *function
	for line := range strings.Lines(listing) {
		line = strings.TrimRight(line, "\n")
		if m := textLine.FindStringSubmatch(line); m != nil {
			locals, _ := strconv.ParseInt(m[2], 16, 64)
			f = &function{frame: int(locals) + 16}
			all[strings.TrimPrefix(m[1], kernel)] = f
		} else if m := callLine.FindStringSubmatch(line); m != nil && f != nil {
			f.calls = append(f.calls, strings.TrimPrefix(m[1], kernel))
		} else if f != nil && indirect.MatchString(line) {
			f.indirect++
		}
	}
	return all
}

// violations follows the calls from the functions that the entry code calls. Nothing but this code and leaves of the runtime may be
// reached: no allocation, no write barrier, no bounds check, no blocking, no function value and no method of an interface. It returns what is
// wrong, how many functions were reached, and the bytes of stack that the deepest calls need.
func violations(all map[string]*function) (wrong []string, reached, stack int) {
	const unknown = -1
	depths := map[string]int{}
	var visit func(name, from string) int
	visit = func(name, from string) int {
		if d, ok := depths[name]; ok {
			if d == unknown {
				wrong = append(wrong, fmt.Sprintf("%s calls %s, which is a recursion", from, name))
				return 0
			}
			return d
		}
		f, ok := all[name]
		switch {
		case slices.Contains(leaves, name) || strings.HasPrefix(name, "cpu.") || slices.Contains(assembled, name):
			return 256 // more than any of them has
		case from == "ring0.kernelFrame" && slices.Contains(trace, name):
			return 512
		case !ok:
			wrong = append(wrong, fmt.Sprintf("%s calls %s, which kernel context must not", from, name))
			return 0
		case f.indirect > 0:
			wrong = append(wrong, fmt.Sprintf("%s calls a function by value, which kernel context must not", name))
		}
		depths[name] = unknown
		deepest := 0
		for _, c := range f.calls {
			deepest = max(deepest, visit(c, name))
		}
		depths[name] = f.frame + deepest
		return depths[name]
	}
	for _, root := range roots {
		depth := visit("ring0."+root, "the entry code")
		if root == "kernelFaulted" && depth > 3<<10 { // of 4, of which a double fault's frame has some
			wrong = append(wrong, fmt.Sprintf("%s needs %d bytes of the second stack", root, depth))
		}
		stack = max(stack, depth)
	}
	return wrong, len(depths), stack
}

func TestKernelContextCalls(t *testing.T) {
	wrong, reached, stack := violations(functions(compile(t, "-S", nil)))
	for _, w := range wrong {
		t.Error(w)
	}
	if reached < 40 {
		t.Errorf("only %d functions were reached: is the compiler's listing still understood?", reached)
	}
	// 32 KiB, of which up to two pages are the guard.
	if stack > 24<<10 || stack < 200 {
		t.Errorf("the deepest calls need %d bytes of stack, want at most 24 KiB", stack)
	}
	t.Logf("%d functions, %d bytes of stack", reached, stack)
}

// Each rule is broken in a copy of the code, and the break has to be found.
func TestKernelContextRulesAreChecked(t *testing.T) {
	const where = "kernelclock.go"
	source, err := os.ReadFile(where)
	if err != nil {
		t.Fatal(err)
	}
	const hook = "func kernelTimer() {\n"
	if !strings.Contains(string(source), hook) {
		t.Fatal("kernelTimer is not there any more: break another function")
	}
	breaks := []struct{ name, body, want string }{
		{"Allocate", "sink = new([64]byte)", "runtime.newobject"},
		{"Append", "slice = append(slice, 1)", "runtime.growslice"},
		{"Index", "numbers[variable] = 1", "runtime.panicBounds"},
		{"Slice", "number = len(slice[variable:])", "runtime.panicBounds"},
		{"Divide", "number = 7 / number", "runtime.panicdivide"},
		{"Shift", "number = 7 << number", "runtime.panicshift"},
		{"Map", "table[1] = 2", "runtime.map"},
		{"Channel", "channel <- 1", "runtime.chansend1"},
		{"Go", "go kernelTimer()", "runtime.newproc"},
		{"Defer", "defer kernelTimer(); number = 7 / number", "runtime.deferreturn"},
		{"Print", "println()", "runtime.printlock"},
		{"Panic", "panic(1)", "runtime.gopanic"},
		{"Concatenate", "text += text", "runtime.concatstring"},
		{"Box", "boxed = number", "runtime.convT64"},
		{"Barrier", "sink = other", "runtime.gcWriteBarrier"},
		{"Value", "value()", "by value"},
		{"Method", "method.Error()", "by value"},
		{"Recursion", "kernelTimer()", "recursion"},
	}
	var calls, broken strings.Builder
	for _, b := range breaks {
		fmt.Fprintf(&calls, "\tbreak%s()\n", b.name)
		fmt.Fprintf(&broken, "//go:noinline\nfunc break%s() { %s }\n", b.name, b.body)
	}
	broken.WriteString(`
var (
	sink, other      *[64]byte
	slice            []int
	numbers          [4]int
	number, variable int
	table            map[int]int
	channel          chan int
	text             string
	boxed            any
	value            func()
	method           error
)
`)
	text := strings.Replace(string(source), hook, hook+calls.String(), 1) + broken.String()
	wrong, _, _ := violations(functions(compile(t, "-S", map[string]string{where: text})))
	for _, b := range breaks {
		if !slices.ContainsFunc(wrong, func(w string) bool {
			return strings.HasPrefix(w, "ring0.break"+b.name+" ") && strings.Contains(w, b.want)
		}) {
			t.Errorf("%s is not found: %s", b.name, b.body)
		}
	}
	if t.Failed() {
		t.Logf("found:\n%s", strings.Join(wrong, "\n"))
	}
	barrier := compile(t, "-d=wb", map[string]string{where: text})
	if !strings.Contains(barrier, "write barrier") {
		t.Error("the compiler names no write barrier")
	}
}

// TestNoWriteBarriers holds for the packages as a whole: their state has no pointers.
func TestNoWriteBarriers(t *testing.T) {
	for line := range strings.Lines(compile(t, "-d=wb", nil)) {
		if strings.Contains(line, "write barrier") {
			t.Error(strings.TrimSpace(line))
		}
	}
}

// TestNoEscapes names what of these packages is allocated: only in functions for ordinary Go.
func TestNoEscapes(t *testing.T) {
	for line := range strings.Lines(compile(t, "-m", nil)) {
		if strings.Contains(line, "escapes to heap") || strings.Contains(line, "moved to heap") {
			if strings.Contains(line, "/ring0.go") && (strings.Contains(line, "new(Context)") || strings.Contains(line, "msg escapes")) {
				continue
			}
			t.Error(strings.TrimSpace(line))
		}
	}
}
