package bootprof

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// linuxInitrd makes an initial RAM disk of testdata/linux/init.c, linked by the given flags, and of the libraries that it has.
func linuxInitrd(t *testing.T, flags ...string) string {
	t.Helper()
	needs.Tool(t, "cc", "gcc")
	dir := t.TempDir()
	program, initrd := filepath.Join(dir, "init"), filepath.Join(dir, "initrd")
	if msg, err := exec.Command("cc", append(flags, "-O1", "-Wall", "-o", program, "testdata/linux/init.c")...).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, msg)
	}
	records := []cpio.Record{cpio.Directory("dev", 0o755), cpio.CharDev("dev/console", 0o600, 5, 1)}
	file := func(name, path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(name); i++ {
			if name[i] == '/' {
				records = append(records, cpio.Directory(name[:i], 0o755))
			}
		}
		records = append(records, cpio.StaticFile(name, string(b), 0o755))
	}
	file("init", program)
	libraries, _ := exec.Command("ldd", program).Output() // which fails for a static program
	for word := range strings.FieldsSeq(string(libraries)) {
		if strings.HasPrefix(word, "/") {
			file(word[1:], word)
		}
	}
	var archive bytes.Buffer
	w := cpio.Newc.Writer(&archive)
	for _, r := range append(records, cpio.TrailerRecord) {
		if err := w.WriteRecord(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(initrd, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return initrd
}

// TestLinuxBoot profiles Debian's kernel, which announces nothing and has no symbols but kallsyms.
func TestLinuxBoot(t *testing.T) {
	needQEMU(t)
	kernel, initrd := fsmodtest.LinuxKernel(t), linuxInitrd(t, "-static")
	code, o, stderr := boot(t, "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 panic=-1 "+fsmodtest.LinuxBusy, "--memory", "256M",
		"--until", "exit", "--profile", "exact", "--mark", "vfs=vfs_caches_init")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	rec, err := boottrace.Open(o.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	var labels []string
	initcalls := 0
	run := rec.Of(boottrace.Counting)[0]
	for _, m := range run.Marks {
		if strings.HasPrefix(m.Name, boottrace.InitcallPrefix) {
			initcalls++
			continue
		}
		labels = append(labels, m.Label())
	}
	want := "reset entry unpack unpacked start_kernel vfs rest_init kernel_init early initcalls done initcalls done run_init_process app output"
	if got := strings.Join(labels, " "); got != want {
		t.Errorf("marks %s\nwant  %s", got, want)
	}
	if initcalls < 300 {
		t.Errorf("%d initcalls", initcalls)
	}
	p := rec.Exact
	if p == nil || p.Instructions() != run.Instructions {
		t.Fatalf("the profile does not have the %d instructions of the boot", run.Instructions)
	}
	self, stacks := byFunction(p, "/init")
	if named := run.Instructions - self["?"] - self["root"]; float64(named) < 0.98*float64(run.Instructions) {
		t.Errorf("only %d of %d instructions are in functions with a name", named, run.Instructions)
	}
	var work uint64
	for stack, n := range stacks {
		if strings.HasSuffix(stack, "main;work") {
			work += n
		}
	}
	if work < 4_000_000 || work > 6_000_000 {
		t.Errorf("main;work executed %d instructions, of %v in %+v", work, stacks, p.Mappings)
	}
	// The kernel says when it did what by its own clock, and the host saw it say so.
	timed := rec.Of(boottrace.Timed)[0]
	if len(timed.Messages) < 50 || timed.Messages[0].HostNanos == 0 {
		t.Errorf("%d messages with a time", len(timed.Messages))
	}
	if timed.End == nil || timed.End.How != abi.EndExited {
		t.Errorf("end %v", timed.End)
	}
	if !slices.ContainsFunc(timed.Told(), func(m boottrace.Told) bool { return m.Mark != "" && m.MarkNanos > 0 }) {
		t.Error("no message is told beside a mark")
	}
	if i := strings.Index(string(timed.Output), "hello from init: "); i < 0 {
		t.Errorf("output %.200q", timed.Output)
	}
}

// TestCPUs profiles a guest with four virtual CPUs, all of which do something, and a program with libraries.
func TestCPUs(t *testing.T) {
	needQEMU(t)
	kernel, initrd := fsmodtest.LinuxKernel(t), linuxInitrd(t)
	code, o, stderr := boot(t, "--kernel", kernel, "--initrd", initrd, "--append", "console=ttyS0 quiet panic=-1 "+fsmodtest.LinuxBusy, "--memory", "256M",
		"--machine", "q35", "--smp", "4", "-n", "0", "--until", "exit", "--profile", "exact")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if !strings.Contains(stderr, "with 4 CPUs") {
		t.Errorf("it is not said that counts depend on the turns of the CPUs:\n%s", stderr)
	}
	rec, err := boottrace.Open(o.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	run := rec.Of(boottrace.Counting)[0]
	if rec.Exact.Instructions() != run.Instructions {
		t.Errorf("%d instructions in the profile, %d in the boot", rec.Exact.Instructions(), run.Instructions)
	}
	self, _ := byFunction(rec.Exact, "/init")
	if n := self["work"]; n < 5_000_000 || n > 5_000_010 {
		t.Errorf("work executed %d instructions", n)
	}
	for _, name := range []string{"/init", "libc.so.6", "ld-linux-x86-64.so.2"} {
		if !slices.ContainsFunc(rec.Exact.Mappings, func(m boottrace.Mapping) bool { return strings.HasSuffix(m.Name, name) }) {
			t.Errorf("%s is not in the profile: %+v", name, rec.Exact.Mappings)
		}
	}
	byCPU := map[int]uint64{}
	for _, s := range rec.Exact.Samples {
		byCPU[s.CPU] += s.Instructions
	}
	for cpu := range 4 {
		if byCPU[cpu] < 10_000 {
			t.Errorf("CPU %d executed %d instructions, of %v", cpu, byCPU[cpu], byCPU)
		}
	}
}
