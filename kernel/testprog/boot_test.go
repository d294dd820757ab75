package testprog

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/rofsmod"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/kernelbuild"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/symbols"
	"github.com/firstlight-boot/firstlight/tree"
)

// theKernel is built from the source beside this test, not the one that some imgbuild has embedded.
var theKernel = sync.OnceValues(func() ([]byte, error) {
	return kernelbuild.Build(context.Background(), filepath.Join("..", ".."), "test", nil)
})

// data fills dir with what the programs expect to find in /data.
func data(t *testing.T, dir string) {
	t.Helper()
	many := filepath.Join(dir, "many")
	if err := os.MkdirAll(many, 0o755); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 300000)
	for i := range b {
		b[i] = byte(i*7 + i/251)
	}
	write(t, filepath.Join(dir, "bytes"), b, 0o640)
	for i := range 1000 {
		write(t, filepath.Join(many, fmt.Sprint(i)), []byte(fmt.Sprint(i)), 0o644)
	}
	for name, target := range map[string]string{"link": "bytes", "loop": "loop", "up": ".."} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, name string, b []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, b, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

// limit is how long a machine, or a program of the host, may take: far more than any needs, even on a host that is slow and busy. What takes
// longer hangs.
const limit = 10 * time.Minute

// limited is t's context with that limit.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(limited(t), name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// flavours are the ways in which a C program is built.
var flavours = []struct {
	name, tool, pkg string
	flags           []string
}{
	{"glibc", "gcc", "gcc libc6-dev", []string{"-static"}},
	{"pie", "gcc", "gcc libc6-dev", []string{"-static-pie"}},
	{"musl", "musl-gcc", "musl-tools", []string{"-static"}},
}

// compileC builds c/NAME.c as out.
func compileC(t *testing.T, flavour int, name, out string) {
	t.Helper()
	f := flavours[flavour]
	needs.Tool(t, f.tool, f.pkg)
	args := append([]string{"-O1", "-w", "-pthread", "-o", out, filepath.Join("c", name+".c")}, f.flags...)
	run(t, f.tool, append(args, "-lm")...)
}

// vmSpec is a boot.
type vmSpec struct {
	dir    string // becomes the root
	args   []string
	env    []string
	memory int64 // bytes; 0 is the default
	extra  string
	cpu    string // as QEMU's -cpu takes it; "" is the default
	align  string // as fsmod.Options.AlignExec

	counting bool // time is counted in instructions, so that all of it is exact
}

// ended is how a boot ended.
type ended struct {
	console   string
	how, code byte // as in abi's end mark
}

func (e ended) String() string {
	tail := e.console
	if len(tail) > 2000 {
		tail = "…" + tail[len(tail)-2000:]
	}
	return fmt.Sprintf("how %d, code %d, console:\n%s", e.how, e.code, tail)
}

// boot makes an image of s and runs it to its end.
func boot(t *testing.T, s vmSpec) ended {
	t.Helper()
	q := emulator(t)
	img := makeImage(t, s)
	cfg := qemu.Config{Kernel: img, Disks: []string{img}, MemoryBytes: s.memory, Append: s.extra, CPU: s.cpu}
	if s.counting {
		cfg.Counting = &qemu.Counting{}
	}
	e, err := runImage(t.Context(), q, cfg, 0)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func emulator(t *testing.T) *qemu.QEMU {
	t.Helper()
	needs.Tool(t, "qemu-system-x86_64", "qemu-system-x86")
	q, err := qemu.Find(t.Context(), "")
	if err != nil {
		needs.Missing(t, err.Error())
	}
	return q
}

// makeImage returns the path of an image of s.
func makeImage(t *testing.T, s vmSpec) string {
	t.Helper()
	ctx := t.Context()
	kernel, err := theKernel()
	if err != nil {
		t.Fatal(err)
	}
	root, err := tree.FromDir(ctx, s.dir, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := fsmod.Lookup("rofs")
	if err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(t.TempDir(), "app.img")
	if _, err := image.WriteFile(ctx, img, image.Spec{
		Params: image.Params{Tool: "test", Flavour: image.FlavourNative, Args: s.args, Env: s.env},
		Kernel: kernel, Tree: root, Module: m, Options: fsmod.Options{Codec: m.Codecs()[0], AlignExec: s.align},
	}); err != nil {
		t.Fatal(err)
	}
	return img
}

// errSpins says that a machine was stopped while its program ran, which would not have ended.
var errSpins = errors.New("the program spins, or sleeps")

// look looks at the registers of a machine that does not end, again and again. It returns nil if the machine ends after all, errSpins if
// ring 3 runs or the machine is idle at any time; if it is neither until ctx ends, the kernel hangs, and the error says in which functions.
func look(ctx context.Context, vm *qemu.VM) error {
	var where []string
	m, err := vm.Monitor(ctx)
	often := time.NewTicker(10 * time.Millisecond)
	defer often.Stop()
	for {
		var text string
		if err == nil {
			err = m.Execute(ctx, "human-monitor-command", map[string]string{"command-line": "info registers"}, &text)
		}
		if err != nil { // for it ended, or when ctx did
			<-vm.Done()
			switch {
			case ctx.Err() == nil:
				return nil
			case where == nil:
				return fmt.Errorf("the machine does not end, nor tell where it is: %w", err)
			}
			return fmt.Errorf("the kernel hangs, in %s", strings.Join(where, ", "))
		}
		if strings.Contains(text, "CPL=3") || strings.Contains(text, "HLT=1") {
			return errSpins
		}
		if _, rip, ok := strings.Cut(text, "RIP="); ok && len(where) < 100 {
			if f := kernelFunction(rip[:16]); !slices.Contains(where, f) {
				where = append(where, f)
			}
		}
		select {
		case <-often.C:
		case <-vm.Done():
		}
	}
}

// kernelFunction names the kernel's function at an address in hexadecimal.
func kernelFunction(address string) string {
	b, err := theKernel()
	if err != nil {
		return address
	}
	o, err := symbols.New(bytes.NewReader(b), int64(len(b)), "kernel", symbols.Options{DebugDirs: []string{}})
	if err != nil {
		return address
	}
	defer o.Close()
	at, _ := strconv.ParseUint(address, 16, 64)
	for _, f := range o.Lookup(at) {
		return fmt.Sprintf("%s %s:%d", f.Function, f.File, f.Line)
	}
	return address
}

var numCPUs = flag.Int("cpus", 1, "virtual CPUs of boots that do not count; TestSameAsLinux does not if there are several")

// runImage runs a machine to its end, of which it is an error not to be told. It is stopped after the limit; and, if limitApp is not 0, so
// long after the program was started, unless that is the kernel's fault.
func runImage(ctx context.Context, q *qemu.QEMU, c qemu.Config, limitApp time.Duration) (ended, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var console strings.Builder
	var marks []byte
	overtime := make(chan struct{}, 1)
	c.Accel, c.Monitor = "tcg", limitApp != 0
	if c.CPUs == 0 && c.Counting == nil {
		c.CPUs = *numCPUs
	}
	vm, err := q.Start(ctx, c, qemu.Events{
		Console: func(_ time.Duration, p []byte) { console.Write(p) },
		Mark: func(_ time.Duration, p []byte) {
			marks = append(marks, p...)
			if limitApp != 0 && bytes.IndexByte(p, abi.MarkApp) >= 0 {
				time.AfterFunc(limitApp, func() { overtime <- struct{}{} })
			}
		},
	})
	if err != nil {
		return ended{}, err
	}
	defer vm.Close()
	select {
	case <-vm.Done():
	case <-overtime:
		if err := look(ctx, vm); err != nil {
			return ended{console: console.String()}, err
		}
	}
	result, err := vm.Wait()
	e := ended{console: strings.ReplaceAll(console.String(), "\r", "")}
	if n := len(marks); n >= 3 && marks[n-3] == abi.MarkEnd {
		e.how, e.code = marks[n-2], marks[n-1]
		return e, nil
	}
	if err == nil {
		err = errors.New("the machine ended")
	}
	return e, fmt.Errorf("no end mark: %w, %+v, marks %x\n%v", err, result, marks, e)
}

// okLines returns the names that a program printed as "ok NAME".
func okLines(console string) []string {
	var names []string
	for line := range strings.Lines(console) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "ok "); ok {
			names = append(names, name)
		}
	}
	return names
}

// The checks that each C program makes, in order.
var checks = []struct {
	program, want string
	args          []string
	code          byte
	small         int64 // bytes: also with this little memory; 0 is not
}{
	{"start", "args env auxv bss uname malloc float", []string{"one two", ""}, 42, 0},
	{"memory", "unmap protect wx reserve hint dontneed mincore mremap file shared null stack brk", nil, 0, 0},
	{"threads", "mutex cond slice fpu timedwait sem robust many", nil, 0, 0},
	{"files", "read stat rofs dir cwd tmp dev proc fcntl", nil, 0, 8 << 20},
	{"events", "pipe big nonblock eventfd poll epoll sleep", nil, 0, 8 << 20},
	{"signals", "raise mask queue altstack faults edit fpu eintr alarm ignore", nil, 0, 0},
	{"wild", "efault random", nil, 0, 0},
	{"hostile", "bases stacks context robust sizes numbers sets", nil, 0, 0},
	// 200 MB of garbage in the kernel's heap: how much of that the heap keeps depends on when it is collected, and in 8 MiB it
	// is now and then all that there is.
	{"churn", "churn full memfd", nil, 0, 8 << 20},
}

func TestC(t *testing.T) {
	for _, c := range checks {
		for i, f := range flavours {
			if i > 0 && testing.Short() {
				continue
			}
			t.Run(c.program+"/"+f.name, func(t *testing.T) {
				dir := t.TempDir()
				data(t, filepath.Join(dir, "data"))
				compileC(t, i, c.program, filepath.Join(dir, c.program))
				sizes := []int64{0}
				if c.small != 0 {
					sizes = append(sizes, c.small)
				}
				for _, size := range sizes {
					e := boot(t, vmSpec{dir: dir, args: append([]string{"/" + c.program}, c.args...), env: []string{"EMPTY=", "KEY=a value"}, memory: size})
					if e.how != abi.EndExited || e.code != c.code {
						t.Errorf("memory %d: want exit %d, got %v", size, c.code, e)
					}
					if got := strings.Join(okLines(e.console), " "); got != c.want {
						t.Errorf("memory %d: passed %q, want %q", size, got, c.want)
					}
				}
			})
		}
	}
}

// Programs choose their code by what CPUID has, which is not all what the kernel serves: AVX-512 is hidden. The least CPU that there is, and
// all that QEMU has.
func TestCPUs(t *testing.T) {
	for _, c := range checks {
		if c.program != "start" && c.program != "threads" && c.program != "signals" {
			continue
		}
		dir := t.TempDir()
		data(t, filepath.Join(dir, "data"))
		compileC(t, 0, c.program, filepath.Join(dir, c.program))
		for _, cpu := range []string{"qemu64", "max"} {
			e := boot(t, vmSpec{dir: dir, args: append([]string{"/" + c.program}, c.args...), env: []string{"EMPTY=", "KEY=a value"}, cpu: cpu})
			if got := strings.Join(okLines(e.console), " "); e.how != abi.EndExited || e.code != c.code || got != c.want {
				t.Errorf("%s on %s: want exit %d after %q, got %v", c.program, cpu, c.code, c.want, e)
			}
		}
	}
}

// Who takes all that there is of something gets an error, or is killed for the memory: the kernel does not run out of its own.
func TestGreed(t *testing.T) {
	const sigkill = 9
	dir := t.TempDir()
	compileC(t, 2, "greed", filepath.Join(dir, "greed"))
	for _, what := range []string{"files", "dirs", "links", "xattrs", "pipes", "eventfds", "opens", "sets", "memfds", "timers", "signals", "tables", "areas", "threads", "depth"} {
		t.Run(what, func(t *testing.T) {
			e := boot(t, vmSpec{dir: dir, args: []string{"/greed", what}, memory: 16 << 20})
			told := e.how == abi.EndExited && e.code == 0 && strings.Contains(e.console, what+": ")
			killed := e.how == abi.EndKilled && e.code == sigkill && strings.Contains(e.console, "firstlight: out of memory")
			if !told && !killed {
				t.Errorf("got %v", e)
			}
			t.Log(strings.TrimSpace(e.console))
		})
	}
}

// Each way to end is reported as what it was.
func TestEndings(t *testing.T) {
	const sigill, sigabrt, sigfpe, sigkill, sigsegv, sigpipe, sigterm = 4, 6, 8, 9, 11, 13, 15
	dir := t.TempDir()
	compileC(t, 0, "ending", filepath.Join(dir, "ending"))
	for _, c := range []struct {
		arg       string
		how, code byte
		says      string
	}{
		{"return", abi.EndExited, 0, ""},
		{"exit", abi.EndExited, 300 & 0xff, ""},
		{"stdin", abi.EndExited, 3, ""},
		{"megabyte", abi.EndExited, 0, ""},
		{"thread-exit", abi.EndExited, 9, ""},
		{"main-leaves", abi.EndExited, 9, ""},
		{"abort", abi.EndKilled, sigabrt, "killed by SIGABRT at 0x"},
		{"segv", abi.EndKilled, sigsegv, "killed by SIGSEGV at 0x"},
		{"thread-segv", abi.EndKilled, sigsegv, "address 0x10\n"},
		{"kernel", abi.EndKilled, sigsegv, "address 0xffff800000200000\n"},
		{"stack", abi.EndKilled, sigsegv, "SIGSEGV"},
		{"badsp", abi.EndKilled, sigsegv, "SIGSEGV"},
		{"noncanonical", abi.EndKilled, sigsegv, "SIGSEGV"},
		{"hlt", abi.EndKilled, sigsegv, "SIGSEGV"},
		{"divide", abi.EndKilled, sigfpe, "killed by SIGFPE"},
		{"ud2", abi.EndKilled, sigill, "killed by SIGILL"},
		{"kill", abi.EndKilled, sigkill, ""},
		{"term", abi.EndKilled, sigterm, ""},
		{"sigpipe", abi.EndKilled, sigpipe, ""},
		{"deadlock", abi.EndKilled, sigkill, "firstlight: deadlock"},
		{"memory", abi.EndKilled, sigkill, "firstlight: out of memory"},
	} {
		t.Run(c.arg, func(t *testing.T) {
			e := boot(t, vmSpec{dir: dir, args: []string{"/ending", c.arg}})
			if e.how != c.how || e.code != c.code || !strings.Contains(e.console, c.says) || !strings.HasPrefix(e.console, "ok "+c.arg) {
				t.Errorf("want how %d, code %d, %q; got %v", c.how, c.code, c.says, e)
			}
			if c.arg == "megabyte" && len(e.console) != len("ok megabyte\n")+1<<20 {
				t.Errorf("%d bytes of output", len(e.console))
			}
		})
	}
}

// suite is what gosuite says of itself.
const suite = "ok args\nok goroutines\nok gc\nok timers\nok panic\nok nil\nok preempt\nok threads\nok files\nok pipe\nok signal\nok stack\nok mmap\n"

func TestGo(t *testing.T) {
	dir := t.TempDir()
	data(t, filepath.Join(dir, "data"))
	run(t, "go", "build", "-trimpath", "-o", filepath.Join(dir, "gosuite"), "./gosuite")
	for _, c := range []struct {
		args      []string
		how, code byte
		says      string
	}{
		{nil, abi.EndExited, 42, suite},
		{[]string{"panic"}, abi.EndExited, 2, "panic: on purpose\n\ngoroutine 1 [running]:"},
		{[]string{"nil"}, abi.EndExited, 2, "panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x"},
		{[]string{"deadlock"}, abi.EndExited, 2, "fatal error: all goroutines are asleep - deadlock!"},
		{[]string{"exit"}, abi.EndExited, 7, "ok exit"},
		{[]string{"signal"}, abi.EndKilled, 15, "ok signal"},
		{[]string{"memory"}, abi.EndKilled, 9, "firstlight: out of memory"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			e := boot(t, vmSpec{dir: dir, args: append([]string{"/gosuite"}, c.args...), env: []string{"KEY=a value"}})
			if e.how != c.how || e.code != c.code || !strings.Contains(e.console, c.says) {
				t.Errorf("want how %d, code %d, %q; got %v", c.how, c.code, c.says, e)
			}
		})
	}
	t.Run("exact", func(t *testing.T) {
		e := boot(t, vmSpec{dir: dir, args: []string{"/gosuite"}, env: []string{"KEY=a value", "EXACT=1"}, counting: true})
		if e.how != abi.EndExited || e.code != 42 || e.console != suite {
			t.Errorf("want exit 42, %q; got %v", suite, e)
		}
	})
}

// Programs that are built for a CPU with AVX2 run on one.
func TestV3(t *testing.T) {
	t.Setenv("GOAMD64", "v3")
	dir := t.TempDir()
	data(t, filepath.Join(dir, "data"))
	run(t, "go", "build", "-trimpath", "-o", filepath.Join(dir, "gosuite"), "./gosuite")
	if e := boot(t, vmSpec{dir: dir, args: []string{"/gosuite"}, env: []string{"KEY=a value"}, cpu: "max"}); e.how != abi.EndExited || e.code != 42 || e.console != suite {
		t.Errorf("Go: want exit 42, %q; got %v", suite, e)
	}
	const v2 = "This program can only be run on AMD64 processors with v3 microarchitecture support.\n"
	if e := boot(t, vmSpec{dir: dir, args: []string{"/gosuite"}, cpu: "max,-avx"}); e.how != abi.EndExited || e.code != 1 || e.console != v2 {
		t.Errorf("Go on a CPU without AVX: want exit 1, %q; got %v", v2, e)
	}
	needs.Tool(t, "gcc", "gcc libc6-dev")
	run(t, "gcc", "-static", "-O3", "-march=x86-64-v3", "-w", "-pthread", "-o", filepath.Join(dir, "threads"), "c/threads.c", "-lm")
	for _, c := range checks {
		if c.program == "threads" {
			e := boot(t, vmSpec{dir: dir, args: append([]string{"/threads"}, c.args...), cpu: "max"})
			if got := strings.Join(okLines(e.console), " "); e.how != abi.EndExited || e.code != c.code || got != c.want {
				t.Errorf("C: want exit %d after %q, got %v", c.code, c.want, e)
			}
		}
	}
}

// What cannot be started is said in one line, with the reason.
func TestNotStarted(t *testing.T) {
	const enoent, enoexec, eacces, enotdir, eisdir = 2, 8, 13, 20, 21
	dir := t.TempDir()
	prog := filepath.Join(dir, "prog")
	compileC(t, 0, "ending", prog)
	elf, err := os.ReadFile(prog)
	if err != nil {
		t.Fatal(err)
	}
	variant := func(name string, edit func(b []byte) []byte) {
		write(t, filepath.Join(dir, name), edit(append([]byte(nil), elf...)), 0o755)
	}
	variant("arm", func(b []byte) []byte { b[18] = 183; return b })
	variant("short", func(b []byte) []byte { return b[:len(b)/2] })
	variant("stub", func(b []byte) []byte { return b[:40] })
	variant("empty", func([]byte) []byte { return nil })
	variant("script", func([]byte) []byte { return []byte("#!/bin/sh\necho hi\n") })
	write(t, filepath.Join(dir, "plain"), elf, 0o644)
	run(t, "gcc", "-o", filepath.Join(dir, "dynamic"), filepath.Join("c", "ending.c"), "-w", "-pthread")
	for _, c := range []struct {
		arg, extra string
		errno      byte
		says       string
	}{
		{"/none", "", enoent, "/none cannot be found (no such file or directory)"},
		{"/prog/x", "", enotdir, "/prog/x cannot be found (not a directory)"},
		{"/", "", eisdir, "/ is a directory"},
		{"/plain", "", eacces, "/plain is not executable"},
		{"/dynamic", "", enoent, "/dynamic needs the dynamic linker /lib64/ld-linux-x86-64.so.2, which cannot be found (no such file or directory)"},
		{"/arm", "", enoexec, "/arm is for another machine"},
		{"/short", "", enoexec, "/short is cut short"},
		{"/stub", "", enoexec, "/stub is not an ELF program"},
		{"/empty", "", enoexec, "/empty is not an ELF program"},
		{"/script", "", enoexec, "/script is a script"},
		{"/prog", "cwd=/none", enoent, "/none cannot be the working directory"},
	} {
		t.Run(strings.TrimPrefix(c.arg, "/")+c.extra, func(t *testing.T) {
			e := boot(t, vmSpec{dir: dir, args: []string{c.arg}, extra: c.extra})
			if e.how != abi.EndNotStart || e.code != c.errno || !strings.Contains(e.console, "firstlight: "+c.says) {
				t.Errorf("want errno %d, %q; got %v", c.errno, c.says, e)
			}
		})
	}
}

// A call that is not there is named once, and only under verbose.
func TestVerbose(t *testing.T) {
	dir := t.TempDir()
	compileC(t, 0, "ending", filepath.Join(dir, "ending"))
	const line = "firstlight: system call rseq (334) is not there\n"
	for extra, want := range map[string]int{"": 0, "verbose=1": 1} {
		if e := boot(t, vmSpec{dir: dir, args: []string{"/ending"}, extra: extra}); strings.Count(e.console, line) != want {
			t.Errorf("%q: want the line %d times, got %v", extra, want, e)
		}
	}
}
