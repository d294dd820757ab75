package bootprof

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"golang.org/x/sys/unix"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/internal/cli/imgbuild"
	"github.com/firstlight-boot/firstlight/internal/needs"
	bootview "github.com/firstlight-boot/firstlight/profile"
	"github.com/firstlight-boot/firstlight/qemu"
)

// TestMain gives all tests one cache, so that the plugin is compiled once.
func TestMain(m *testing.M) {
	if os.Getenv("BOOTPROF_TEST_MAIN") == "1" { // the test program stands in for the command
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	cache, err := os.MkdirTemp("", "bootprof-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if dir, err := os.UserCacheDir(); err == nil && os.Getenv("GOCACHE") == "" {
		os.Setenv("GOCACHE", filepath.Join(dir, "go-build")) // imgbuild may have to build a kernel
	}
	os.Setenv("XDG_CACHE_HOME", cache)
	code := m.Run()
	os.RemoveAll(cache)
	os.Exit(code)
}

func needQEMU(t testing.TB) {
	t.Helper()
	if os.Getenv(qemu.EnvBinary) == "" { // else a test has chosen one, and may have emptied PATH
		needs.Tool(t, "qemu-system-x86_64", "qemu-system-x86")
	}
}

var guests sync.Map // from definitions to *sync.Once-made ELF bytes

// guest builds testdata/guest.S with the given definitions, in the test's directory.
func guest(t testing.TB, defs ...string) string {
	t.Helper()
	needs.Tool(t, "cc", "gcc")
	build, _ := guests.LoadOrStore(strings.Join(defs, " "), sync.OnceValues(func() ([]byte, error) {
		out := filepath.Join(t.TempDir(), "guest.elf")
		args := []string{"-nostdlib", "-static", "-no-pie", "-Wl,-T,testdata/guest.ld,--build-id=none", "-o", out, "testdata/guest.S"}
		for _, d := range defs {
			args = append(args, "-D"+d)
		}
		if msg, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("cc %q: %w\n%s", args, err, msg)
		}
		return os.ReadFile(out)
	}))
	elf, err := build.(func() ([]byte, error))()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "guest.elf")
	if err := os.WriteFile(path, elf, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// bootprof runs the command.
func bootprof(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, &out, &err)
	return code, out.String(), err.String()
}

// boot runs bootprof qemu with JSON output, TCG, an output folder of its own and, unless args have another, a limit that no host reaches.
func boot(t testing.TB, args ...string) (code int, o *bootview.Object, stderr string) {
	t.Helper()
	needQEMU(t)
	full := append([]string{"qemu", "--json", "--accel", "tcg", "--timeout", "10m", "-o", filepath.Join(t.TempDir(), "out")}, args...)
	code, stdout, stderr := bootprof(t, full...)
	if stdout == "" {
		return code, nil, stderr
	}
	o = new(bootview.Object)
	if err := json.Unmarshal([]byte(stdout), o); err != nil {
		t.Fatalf("%v\n%s\n%s", err, stdout, stderr)
	}
	return code, o, stderr
}

func phaseNames(o *bootview.Object) string {
	var names []string
	for _, p := range o.Phases {
		names = append(names, p.Name)
	}
	return strings.Join(names, " ")
}

// checkSums checks that the phases add up to the totals.
func checkSums(t *testing.T, o *bootview.Object) {
	t.Helper()
	sum, instructions, all := 0.0, int64(0), true
	for _, p := range o.Phases {
		sum += p.MedianMS
		if p.Instructions != nil {
			instructions += *p.Instructions
		} else if p.Name != "vmm" {
			all = false
		}
	}
	if math.Abs(sum-o.TotalMS.Median) > 1e-5 {
		t.Errorf("phases add up to %v ms, the total is %v", sum, o.TotalMS.Median)
	}
	if all && instructions != o.Instructions.Median {
		t.Errorf("phases add up to %d instructions, the total is %d", instructions, o.Instructions.Median)
	}
}

func TestBoot(t *testing.T) {
	code, o, stderr := boot(t, "--kernel", guest(t))
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if o.Flavour != "native" || o.Accel != "tcg" || o.Machine != "microvm" || o.Firmware != "qboot" || o.Runs != 1 || o.Until != "output" || !o.Cold || o.FloorMS != nil {
		t.Errorf("the boot is said to be %+v", o)
	}
	if o.ExitCode == nil || *o.ExitCode != 0 || o.Output == nil || *o.Output != "hello from the guest\n" {
		t.Errorf("exit code %v, output %v", o.ExitCode, o.Output)
	}
	if got, want := phaseNames(o), "vmm firmware kernel app"; got != want {
		t.Fatalf("phases %s, want %s", got, want)
	}
	checkSums(t, o)
	for _, p := range o.Phases {
		if p.MedianMS <= 0 {
			t.Errorf("phase %s takes %v ms", p.Name, p.MedianMS)
		}
	}
	// The guest works for two million instructions twice before the app's entry and once after it.
	for i, want := range []int64{0, 0, 4_000_000, 2_000_000} {
		if n := o.Phases[i].Instructions; want > 0 && (n == nil || *n < want || *n > want+1000) {
			t.Errorf("phase %s has %v instructions, want some %d", o.Phases[i].Name, n, want)
		}
	}
	if m := o.Memory; m == nil || m.TouchedBytes == nil || *m.TouchedBytes < 16<<10 || *m.TouchedBytes > 1<<20 || m.VMMPSSBytes == nil || *m.VMMPSSBytes < 1<<20 {
		t.Errorf("memory %+v", o.Memory)
	}

	var names []string
	for _, path := range o.Files {
		names = append(names, filepath.Base(path))
	}
	if want := []string{"recording.fl", "boot.pb.gz", "memory.pb.gz"}; !slices.Equal(names, want) {
		t.Fatalf("files %v, want %v", names, want)
	}
	if entries, _ := os.ReadDir(filepath.Dir(o.Files[0])); len(entries) != 3 {
		t.Errorf("more was written than was said: %v", entries)
	}
	rec, err := boottrace.Open(o.Files[0])
	if err != nil || len(rec.Runs) != 2 {
		t.Fatalf("recording: %v", err)
	}
	for path, types := range map[string]string{
		o.Files[1]: "time/nanoseconds instructions/count touched/bytes", o.Files[2]: "touched/bytes pss/bytes",
	} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		p, err := profile.ParseData(data)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, st := range p.SampleType {
			got = append(got, st.Type+"/"+st.Unit)
		}
		if strings.Join(got, " ") != types {
			t.Errorf("%s has sample types %v, want %v", filepath.Base(path), got, types)
		}
	}
}

// TestClocks checks that host time, guest instructions and the guest's own marks agree.
func TestClocks(t *testing.T) {
	code, o, stderr := boot(t, "--kernel", guest(t), "-n", "5", "--no-floor", "--until", "exit", "--counting", "2")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	rec, err := boottrace.Open(o.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	order := ""
	agree, said := false, ""
	for _, run := range rec.Runs {
		var labels []string
		for i, m := range run.Marks {
			labels = append(labels, m.Label())
			if i == 0 {
				continue
			}
			before := run.Marks[i-1]
			if m.HostNanos < before.HostNanos || m.TSC <= before.TSC {
				t.Errorf("%s run: %s comes before %s: %+v, %+v", run.Kind, m.Label(), before.Label(), m, before)
			}
			if run.Kind == boottrace.Counting && m.Instructions <= before.Instructions {
				t.Errorf("%s executes no instruction after %s: %+v, %+v", m.Label(), before.Label(), m, before)
			}
		}
		if order == "" {
			order = strings.Join(labels, " ")
		}
		if got := strings.Join(labels, " "); got != order || got != "entry main root app output end" {
			t.Errorf("%s run has marks %s, the first run %s", run.Kind, got, order)
		}
		if run.Kind != boottrace.Timed {
			continue
		}
		// Host and guest: what lies between the same two marks is as long on both clocks, but for what the host was late, which a
		// busy one is by as much as it likes, but not in each run. Clocks that differ do so in each.
		hz, ok := run.TSCHz()
		if !ok {
			t.Fatal("the guest's clock is not known")
		}
		first, last := run.Marks[0], run.Marks[len(run.Marks)-1]
		host := float64(last.HostNanos - first.HostNanos)
		guest := float64(last.TSC-first.TSC) / hz * 1e9
		diff := math.Abs(host - guest)
		agree = agree || diff <= 0.2*guest || diff <= 20e6
		said += fmt.Sprintf("\nfrom %s to %s: %.3f ms on the host's clock, %.3f on the guest's", first.Label(), last.Label(), host/1e6, guest/1e6)
	}
	if !agree {
		t.Errorf("no run's clocks agree:%s", said)
	}
	if o.Instructions.Min != o.Instructions.Max {
		t.Errorf("counting boots of the same image give %d to %d instructions", o.Instructions.Min, o.Instructions.Max)
	}
}

func TestSeries(t *testing.T) {
	code, o, stderr := boot(t, "--kernel", guest(t), "-n", "3", "--counting", "0")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if o.Runs != 3 || o.FloorMS == nil || o.FloorMS.Median <= 0 || o.Instructions != nil {
		t.Errorf("got %+v, want 3 runs with a floor and no instructions", o)
	}
	checkSums(t, o)
	rec, err := boottrace.Open(o.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, run := range rec.Runs {
		kinds = append(kinds, string(run.Kind))
	}
	if got, want := strings.Join(kinds, " "), "floor timed floor timed floor timed"; got != want {
		t.Errorf("runs are %s, want %s", got, want)
	}
}

func TestUntil(t *testing.T) {
	server := guest(t, "NAMED=1", "HANG=1")
	finished := guest(t, "NAMED=1")
	for _, tt := range []struct {
		kernel, until, phases, last string
		exits                       bool
	}{
		{server, "entry", "vmm firmware kernel", "to app", false},
		{server, "output", "vmm firmware kernel app", "", false},
		{server, "mark:listening", "vmm firmware kernel app", "to listening", false},
		{finished, "exit", "vmm firmware kernel app", "to exit", true},
	} {
		code, o, stderr := boot(t, "--kernel", tt.kernel, "--until", tt.until)
		if code != 0 {
			t.Errorf("--until %s: exit code %d\n%s", tt.until, code, stderr)
			continue
		}
		if o.Until != tt.until || phaseNames(o) != tt.phases || (o.ExitCode != nil) != tt.exits {
			t.Errorf("--until %s: until %s, phases %s, exit code %v", tt.until, o.Until, phaseNames(o), o.ExitCode)
		}
		if o.Instructions == nil || o.Memory.VMMPSSBytes == nil {
			t.Errorf("--until %s: instructions %v, PSS %v", tt.until, o.Instructions, o.Memory.VMMPSSBytes)
		}
		checkSums(t, o)
		rec, err := boottrace.Open(o.Files[0])
		if err != nil {
			t.Fatal(err)
		}
		phases := rec.Phases()
		if steps := phases[len(phases)-1].Steps; tt.last != "" && (len(steps) == 0 || steps[len(steps)-1].Name != tt.last) {
			t.Errorf("--until %s: the last phase has steps %+v, want the last to be %s", tt.until, steps, tt.last)
		}
	}
}

func TestForeignKernel(t *testing.T) {
	for _, tt := range []struct {
		defs, args          []string
		until, phases       string
		exits, instructions bool
	}{
		{[]string{"NATIVE=0", "MARKS=0"}, nil, "output", "vmm firmware kernel", true, false},
		{[]string{"NATIVE=0", "MARKS=0"}, []string{"--until", "exit"}, "exit", "vmm firmware kernel+app", true, true},
		{[]string{"NATIVE=0", "MARKS=0", "SILENT=1"}, nil, "exit", "vmm firmware kernel+app", true, true},
		{[]string{"NATIVE=0", "MARKS=0", "HANG=1"}, []string{"--until", "output"}, "output", "vmm firmware kernel", false, false},
		{[]string{"NATIVE=0", "MARKS=0", "RESET=1"}, []string{"--until", "exit"}, "exit", "vmm firmware kernel+app", false, true},
		{[]string{"NATIVE=0"}, []string{"--until", "exit"}, "exit", "vmm firmware kernel app", true, true},
	} {
		code, o, stderr := boot(t, append([]string{"--kernel", guest(t, tt.defs...)}, tt.args...)...)
		if code != 0 {
			t.Errorf("%v %v: exit code %d\n%s", tt.defs, tt.args, code, stderr)
			continue
		}
		if o.Flavour != "other" || o.Until != tt.until || phaseNames(o) != tt.phases || (o.ExitCode != nil) != tt.exits || (o.Instructions != nil) != tt.instructions {
			t.Errorf("%v %v: %s, until %s, phases %s, exit code %v, instructions %v", tt.defs, tt.args, o.Flavour, o.Until, phaseNames(o), o.ExitCode, o.Instructions)
		}
	}
}

// TestFailures has guests fail, each in its way.
func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		defs, args []string
		exitCode   int // of the app; -1: there is no JSON
		says       []string
	}{
		{[]string{"CODE=7"}, nil, 7, []string{"the app exited with 7"}},
		{[]string{"CODE=7"}, []string{"-n", "2"}, 7, []string{"the app exited with 7"}},
		{[]string{"HOW=2", "CODE=11"}, nil, 139, []string{"the app was killed by SIGSEGV"}},
		{[]string{"HOW=3"}, nil, -1, []string{"the kernel panicked", "hello from the guest"}},
		{[]string{"HOW=4", "CODE=8"}, nil, -1, []string{"the app could not be started: not a program that this kernel can run"}},
		{[]string{"RESET=1"}, nil, -1, []string{"reset", "before the app's end", "hello from the guest"}},
		{[]string{"HANG=2"}, []string{"--timeout", "1s"}, -1, []string{"never became ready within 1s", "--timeout", "the console stayed empty"}},
		{[]string{"HANG=1"}, []string{"--timeout", "LIMIT"}, -1, []string{"was ready after", "did not exit", "--until output", "hello from the guest"}},
		{[]string{"HANG=1"}, []string{"--timeout", "LIMIT", "--until", "exit"}, -1, []string{"did not exit within LIMIT", "hello from the guest"}},
		{[]string{"NAMED=1"}, []string{"--until", "mark:other"}, -1, []string{"never ready (--until mark:other)"}},
		{[]string{"SILENT=1"}, []string{"--until", "output"}, -1, []string{"never ready (--until output)", "the console stayed empty"}},
		{[]string{"NATIVE=0", "MARKS=0", "CODE=3"}, nil, 3, []string{"the app exited with 3"}},
	} {
		out := filepath.Join(t.TempDir(), "out")
		limit, code, o, stderr := time.Second, 0, (*bootview.Object)(nil), ""
		for ; ; limit *= 4 {
			args := strings.Fields(strings.ReplaceAll(strings.Join(tt.args, " "), "LIMIT", limit.String()))
			code, o, stderr = boot(t, append([]string{"--kernel", guest(t, tt.defs...), "-o", out}, args...)...)
			// A busy host takes longer to where the guest hangs.
			if !slices.Contains(tt.args, "LIMIT") || strings.Contains(stderr, "hello from the guest") || limit > time.Minute {
				break
			}
		}
		if code != 1 {
			t.Errorf("%v %v: exit code %d, want 1\n%s", tt.defs, tt.args, code, stderr)
		}
		for _, s := range tt.says {
			if s = strings.ReplaceAll(s, "LIMIT", limit.String()); !strings.Contains(stderr, s) {
				t.Errorf("%v %v: the message has no %q:\n%s", tt.defs, tt.args, s, stderr)
			}
		}
		switch {
		case o == nil != (tt.exitCode < 0):
			t.Errorf("%v %v: JSON %+v", tt.defs, tt.args, o)
		case o != nil && (o.ExitCode == nil || *o.ExitCode != tt.exitCode):
			t.Errorf("%v %v: the JSON's exit code is %v, want %d", tt.defs, tt.args, o.ExitCode, tt.exitCode)
		case o == nil:
			if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%v %v: the output folder was left behind", tt.defs, tt.args)
			}
		}
	}
}

func TestMegabyteOfOutput(t *testing.T) {
	kernel := guest(t, "BYTES=1048576")
	code, o, stderr := boot(t, "--kernel", kernel, "--counting", "0")
	if code != 0 || o.Output != nil || o.ExitCode == nil {
		t.Errorf("exit code %d, output in the JSON: %v\n%s", code, o.Output != nil, stderr)
	}
	code, stdout, stderr := bootprof(t, "qemu", "--kernel", kernel, "--counting", "0", "--accel", "tcg", "-o", t.TempDir())
	if code != 0 || len(stdout) > 16<<10 || !strings.Contains(stdout, "hello from the guest\nxxx") || !strings.Contains(stdout, "bytes of output are not shown") {
		t.Errorf("exit code %d, %d bytes of text\n%.300s\n%s", code, len(stdout), stdout, stderr)
	}
}

func TestBudgets(t *testing.T) {
	kernel := guest(t)
	for _, tt := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"--max-boot", "1m", "--max-memory", "1M", "--max-instructions", "7000000"}, 0, nil},
		{[]string{"--max-boot", "1ms"}, 3, []string{"the boot took", "ms over max-boot 1ms"}},
		{[]string{"--max-memory", "4K"}, 3, []string{"bytes of guest memory were touched", "bytes over max-memory 4096"}},
		{[]string{"--max-instructions", "6000000"}, 3, []string{"guest instructions were executed (one boot)", "over max-instructions 6000000"}},
		{[]string{"--max-instructions", "9000000", "--counting", "0"}, 4, []string{"max-instructions could not be measured: there was no counting boot"}},
		{[]string{"--max-boot", "1s", "-n", "0"}, 4, []string{"max-boot could not be measured: there was no timed boot"}},
		{[]string{"--max-boot", "1ms", "--max-instructions", "1", "--counting", "0"}, 3, []string{"over max-boot", "max-instructions could not be measured"}},
	} {
		code, o, stderr := boot(t, append([]string{"--kernel", kernel}, tt.args...)...)
		if code != tt.code || o == nil {
			t.Errorf("%v: exit code %d, want %d, JSON %v\n%s", tt.args, code, tt.code, o != nil, stderr)
		}
		if got := strings.Count(stderr, "\n"); tt.says == nil != (got == 0) {
			t.Errorf("%v: %d lines of messages:\n%s", tt.args, got, stderr)
		}
		for _, s := range tt.says {
			if !strings.Contains(stderr, s) {
				t.Errorf("%v: the message has no %q:\n%s", tt.args, s, stderr)
			}
		}
	}
	code, _, stderr := boot(t, "--kernel", guest(t, "CODE=7"), "--max-boot", "1ms")
	if code != 1 || strings.Count(stderr, "bootprof: ") != 2 {
		t.Errorf("an app that failed, and a budget exceeded: exit code %d\n%s", code, stderr)
	}
	code, _, stderr = boot(t, "--kernel", guest(t, "NATIVE=0", "MARKS=0"), "--max-instructions", "9000000")
	if code != 4 || !strings.Contains(stderr, "--until exit") {
		t.Errorf("instructions to the output of a kernel without marks: exit code %d\n%s", code, stderr)
	}
}

func TestUsage(t *testing.T) {
	kernel := guest(t)
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	elf, err := os.ReadFile(kernel)
	if err != nil {
		t.Fatal(err)
	}
	arm := bytes.Clone(elf)
	arm[18] = 183 // EM_AARCH64
	noPVH := bytes.Replace(elf, []byte("Xen\x00"), []byte("Xan\x00"), 1)
	otherABI := bytes.Replace(elf, []byte("abi=1\n"), []byte("abi=9\n"), 1)
	img := imageOf(t, kernel)
	data, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	cut := file("cut.img", data[:len(data)/2])
	bare := filepath.Join(dir, "bare.rofs")
	var out bytes.Buffer
	if code := imgbuild.Main([]string{"--no-kernel", "-o", bare, kernel}, &out, &out); code != 0 {
		t.Fatalf("imgbuild --no-kernel: exit code %d\n%s", code, out.String())
	}
	for _, tt := range []struct {
		args string
		says string
	}{
		{"", "want a command"},
		{"boot", `"boot" is not a command`},
		{"qemu", "want an image, or --kernel"},
		{"qemu a b", `"b" is one argument too many`},
		{"qemu a --kernel b", "want one of the two"},
		{"qemu --colour", "unknown flag: --colour"},
		{"qemu " + dir + "/nothing.img", "no such file"},
		{"qemu " + dir, "directory"},
		{"qemu " + kernel, "is a kernel, not an image; boot it with --kernel"},
		{"qemu " + file("text", []byte("hello")), "imgbuild"},
		{"qemu " + file("empty", nil), "imgbuild"},
		{"qemu " + cut, "imgbuild verify"},
		{"qemu " + bare, "a file system without a kernel"},
		{"qemu " + img + " --initrd x", "--initrd goes with --kernel"},
		{"qemu " + img + " --disk " + dir + "/none", "no such file"},
		{"qemu --kernel " + dir, "is a folder"},
		{"qemu --kernel " + dir + "/nothing", "no such file"},
		{"qemu --kernel " + file("text", []byte("hello")), "no kernel that QEMU boots"},
		{"qemu --kernel " + file("cut.elf", elf[:100]), "no kernel that QEMU boots"},
		{"qemu --kernel " + file("cut2.elf", elf[:5000]), "truncated"},
		{"qemu --kernel " + file("arm.elf", arm), "EM_AARCH64"},
		{"qemu --kernel " + file("nopvh.elf", noPVH), "no PVH note"},
		{"qemu --kernel " + file("abi.elf", otherABI), "another version of the guest ABI"},
		{"qemu --kernel " + kernel + " --initrd " + dir + "/none", "no such file"},
		{"qemu --kernel " + kernel + " --until listen:80", "no network yet"},
		{"qemu --kernel " + kernel + " --until soon", "ready condition"},
		{"qemu --kernel " + guest(t, "NATIVE=0") + " --until entry", "not known where"},
		{"qemu --kernel " + kernel + " -n -1", "no negative number"},
		{"qemu --kernel " + kernel + " -n 0 --counting 0", "at least one boot"},
		{"qemu --kernel " + kernel + " --timeout 0s", "--timeout"},
		{"qemu --kernel " + kernel + " --memory 1M", "kernels begin at 1 MiB"},
		{"qemu --kernel " + kernel + " --memory 1025K", "whole MiB"},
		{"qemu --kernel " + kernel + " --memory lots", "no size"},
		{"qemu --kernel " + kernel + " --machine x", "microvm, q35 or pc"},
		{"qemu --kernel " + kernel + " --firmware x", "qboot or seabios"},
		{"qemu --kernel " + kernel + " --accel x", "auto, kvm or tcg"},
		{"qemu --kernel " + kernel + " --max-boot 0s", "--max-boot"},
		{"qemu --kernel " + kernel + " --max-boot soon", "--max-boot"},
		{"qemu --kernel " + kernel + " --max-memory 0", "no size"},
		{"qemu --kernel " + kernel + " --max-instructions -1", "--max-instructions"},
		{"qemu --kernel " + kernel + " -o " + kernel + "/out", "name another folder with -o"},
		{"floor x", "one argument too many"},
		{"floor -n 0", "at least one boot"},
		{"floor --machine x", "microvm, q35 or pc"},
	} {
		code, stdout, stderr := bootprof(t, strings.Fields(tt.args)...)
		if code != 2 || !strings.Contains(stderr, tt.says) || stdout != "" {
			t.Errorf("bootprof %s: exit code %d, want 2 and %q\n%s%s", tt.args, code, tt.says, stdout, stderr)
		}
	}
}

// imageOf builds an image with the given kernel and a root that the kernel does not look at.
func imageOf(t testing.TB, kernel string) string {
	t.Helper()
	app := t.TempDir()
	elf, err := os.ReadFile(kernel)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(app, "app"), elf, 0o777); err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(t.TempDir(), "app.img")
	var out bytes.Buffer
	if code := imgbuild.Main([]string{"--rofs", "--compress", "--kernel", kernel, "-o", img, app}, &out, &out); code != 0 {
		t.Fatalf("imgbuild: exit code %d\n%s", code, out.String())
	}
	return img
}

func TestImage(t *testing.T) {
	img := imageOf(t, guest(t))
	t.Chdir(t.TempDir())
	needQEMU(t)
	code, stdout, stderr := bootprof(t, "qemu", img, "--accel", "tcg")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	for _, want := range []string{"hello from the guest\n\n", "vmm ", "firmware ", "kernel ", "app ", "total ", "to output", "app.bootprof/boot.pb.gz"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the text has no %q:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "\x1b") {
		t.Error("there are colors, but no terminal")
	}
	if _, err := os.Stat("app.bootprof/recording.fl"); err != nil {
		t.Error(err)
	}
	before, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	// Two at once on one image, into one folder.
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if code, _, stderr := bootprof(t, "qemu", img, "--accel", "tcg", "-q"); code != 0 {
				t.Errorf("two at once: exit code %d\n%s", code, stderr)
			}
		})
	}
	both.Wait()
	if _, err := boottrace.Open("app.bootprof/recording.fl"); err != nil {
		t.Error(err)
	}
	if after, _ := os.ReadFile(img); !bytes.Equal(before, after) {
		t.Error("the image was changed")
	}
	if entries, _ := os.ReadDir("app.bootprof"); len(entries) != 3 {
		t.Errorf("more was written than three files: %v", entries)
	}
}

func TestDryRun(t *testing.T) {
	needQEMU(t)
	needs.Tool(t, "sh", "dash")
	code, stdout, stderr := bootprof(t, "qemu", imageOf(t, guest(t)), "--dry-run", "--accel", "tcg", "--", "a b", "c")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if !strings.Contains(stdout, `arg=a\ b arg=c`) {
		t.Errorf("the command line does not have the arguments: %s", stdout)
	}
	out, _ := exec.CommandContext(t.Context(), "sh", "-c", stdout).Output() // its exit code is the guest's, and QEMU's
	if string(out) != "hello from the guest\n" {
		t.Errorf("the command printed %q when it was pasted:\n%s", out, stdout)
	}
}

func TestFloor(t *testing.T) {
	needQEMU(t)
	code, stdout, stderr := bootprof(t, "floor", "-n", "2", "--accel", "tcg", "--json")
	var o bootview.FloorObject
	if err := json.Unmarshal([]byte(stdout), &o); code != 0 || err != nil || o.Runs != 2 || o.FloorMS == nil || o.FloorMS.Min <= 0 || o.Accel != "tcg" {
		t.Errorf("exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
	code, stdout, stderr = bootprof(t, "floor", "-n", "1", "--accel", "tcg")
	if code != 0 || !strings.Contains(stdout, "floor ") || strings.Contains(stdout, "in between") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// script writes a program that stands in for QEMU.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu-system-x86_64")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o777); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHostCannot(t *testing.T) {
	kernel := guest(t)
	for _, tt := range []struct{ name, qemu, says string }{
		{"missing", filepath.Join(t.TempDir(), "none"), "apt-get install"},
		{"too old", script(t, "echo QEMU emulator version 4.2.1"), "4.2.1"},
		{"not QEMU", script(t, "echo hello"), "hello"},
	} {
		t.Setenv(qemu.EnvBinary, tt.qemu)
		for _, args := range [][]string{{"qemu", "--kernel", kernel, "-o", t.TempDir()}, {"floor"}} {
			code, _, stderr := bootprof(t, args...)
			if code != 4 || !strings.Contains(stderr, tt.says) {
				t.Errorf("QEMU %s: exit code %d, want 4 and %q\n%s", tt.name, code, tt.says, stderr)
			}
		}
	}
}

func TestKVMUnusable(t *testing.T) {
	needQEMU(t)
	code, o, stderr := boot(t, "--kernel", guest(t), "--accel", "kvm")
	if code == 0 {
		t.Skip("KVM works here; boots under it are measured")
	}
	if code != 4 || !strings.Contains(stderr, "--accel tcg") || o != nil {
		t.Errorf("--accel kvm: exit code %d, want 4\n%s", code, stderr)
	}
	if code, o, stderr = boot(t, "--kernel", guest(t), "--accel", "auto"); code != 0 || o.Accel != "tcg" {
		t.Errorf("--accel auto: exit code %d\n%s", code, stderr)
	}
}

func TestNoCompiler(t *testing.T) {
	needQEMU(t)
	kernel := guest(t)
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(qemu.EnvBinary, path)
	t.Setenv("PATH", t.TempDir())
	code, o, stderr := boot(t, "--kernel", kernel)
	if code != 0 || o.Instructions != nil || !strings.Contains(stderr, "note: instructions were not counted") {
		t.Errorf("exit code %d, instructions %v\n%s", code, o.Instructions, stderr)
	}
	if code, _, stderr = boot(t, "--kernel", kernel, "-q"); code != 0 || stderr != "" {
		t.Errorf("-q: exit code %d\n%s", code, stderr)
	}
	if code, _, stderr = boot(t, "--kernel", kernel, "--counting", "1"); code != 4 || !strings.Contains(stderr, "apt-get install gcc") {
		t.Errorf("--counting 1: exit code %d, want 4\n%s", code, stderr)
	}
	if code, _, stderr = boot(t, "--kernel", kernel, "--max-instructions", "9000000"); code != 4 || !strings.Contains(stderr, "could not be measured") {
		t.Errorf("--max-instructions: exit code %d, want 4\n%s", code, stderr)
	}
}

// TestSignal interrupts the command, by two signals, in the middle of a boot that would never end.
func TestSignal(t *testing.T) {
	needQEMU(t)
	kernel := guest(t, "HANG=1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for sig, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		dir := t.TempDir()
		// QEMU by way of a script that says when it starts, with its process id.
		fifo := filepath.Join(t.TempDir(), "started")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv(qemu.EnvBinary, script(t, `[ "$1" = --version ] || echo $$ >`+fifo+`; exec qemu-system-x86_64 "$@"`))
		cmd := exec.CommandContext(t.Context(), self, "qemu", "--kernel", kernel, "--accel", "tcg")
		cmd.Env = append(os.Environ(), "BOOTPROF_TEST_MAIN=1")
		cmd.Dir = dir
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid, err := os.ReadFile(fifo)
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		// timeout(1) sends two. When the process has taken the first it may be gone before the second.
		for taken := false; !taken && t.Context().Err() == nil; runtime.Gosched() {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			taken = err != nil || bytes.Contains(b, []byte("ShdPnd:\t0000000000000000"))
		}
		if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != want || !strings.Contains(stderr.String(), "interrupted by "+unix.SignalName(sig)) || stdout.Len() > 0 {
			t.Errorf("%v: exit code %d, want %d\n%s%s", sig, got, want, stdout.String(), stderr.String())
		}
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			t.Errorf("%v: left behind: %v", sig, entries)
		}
		if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); err == nil {
			t.Errorf("%v: QEMU was left behind", sig)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, tt := range []struct{ args, says string }{
		{"--help", "Exit codes:"},
		{"qemu --help", "bootprof qemu app.img -n 20"},
		{"floor --help", "--machine"},
		{"--version", "bootprof "},
		{"completion bash", "bash completion"},
	} {
		code, stdout, stderr := bootprof(t, strings.Fields(tt.args)...)
		if code != 0 || !strings.Contains(stdout, tt.says) {
			t.Errorf("bootprof %s: exit code %d, want 0 and %q\n%s%s", tt.args, code, tt.says, stdout, stderr)
		}
	}
}

func TestAppendArgs(t *testing.T) {
	for _, tt := range []struct {
		flavour, line string
		args          []string
		want          string
	}{
		{"native", "", []string{"a", "b c", `d\`, ""}, `arg=a arg=b\ c arg=d\\ arg=`},
		{"native", "verbose=1", []string{"ü\n"}, "verbose=1 arg=ü\\\n"},
		{"linux", "console=ttyS0", []string{"a", "b c"}, `console=ttyS0 -- a "b c"`},
	} {
		if got := (&target{flavour: tt.flavour}).appendArgs(tt.line, tt.args); got != tt.want {
			t.Errorf("%s %q with %q: got %q, want %q", tt.flavour, tt.line, tt.args, got, tt.want)
		}
	}
}
