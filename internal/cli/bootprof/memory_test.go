package bootprof

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/internal/needs"
)

// memoryOf returns the owners' bytes of a recording's first counting boot, which it checks, and the run.
func memoryOf(t *testing.T, recording string) (*boottrace.Recording, *boottrace.Run, map[string]uint64) {
	t.Helper()
	rec, err := boottrace.Open(recording)
	if err != nil {
		t.Fatal(err)
	}
	runs := rec.Of(boottrace.Counting)
	if len(runs) == 0 || runs[0].Memory == nil {
		t.Fatal("no counting boot has memory")
	}
	run := runs[0]
	owners := make(map[string]uint64)
	var sum uint64
	for _, r := range run.Regions {
		if owners[r.Name] != 0 || r.TouchedBytes == 0 || r.TouchedBytes%pageSize != 0 {
			t.Errorf("%s has %d bytes", r.Name, r.TouchedBytes)
		}
		owners[r.Name] = r.TouchedBytes
		sum += r.TouchedBytes
	}
	if sum != run.TouchedBytes {
		t.Errorf("the owners have %d bytes, %d were touched", sum, run.TouchedBytes)
	}
	if m := run.Memory; m.ZeroBytes+m.DuplicateBytes > run.TouchedBytes {
		t.Errorf("%d bytes of zeros, %d duplicate, %d touched", m.ZeroBytes, m.DuplicateBytes, run.TouchedBytes)
	}
	return rec, run, owners
}

// TestMemoryOwners boots a program whose pages are known.
func TestMemoryOwners(t *testing.T) {
	needQEMU(t)
	img := asmImage(t, "pages")
	look := func(args ...string) (*boottrace.Run, map[string]uint64) {
		code, o, stderr := boot(t, append([]string{img, "-n", "0", "--until", "exit"}, args...)...)
		if code != 0 {
			t.Fatalf("exit code %d\n%s", code, stderr)
		}
		_, run, owners := memoryOf(t, o.Files[0])
		return run, owners
	}
	before, was := look("--", "0", "0")
	after, owners := look("--", "4", "3")
	// When the disk answers depends on the host, and with it, rarely, what the kernel's heap takes: the app's pages are told from two boots
	// that agree in that.
	for n := 0; n < 20 && was["kernel heap"] != owners["kernel heap"]; n++ {
		before, was = look("--", "0", "0")
		after, owners = look("--", "4", "3")
	}
	if rss := after.Memory.RSSBytes; rss < after.PSSBytes || after.PSSBytes < after.TouchedBytes {
		t.Errorf("RSS %d, PSS %d, touched %d", rss, after.PSSBytes, after.TouchedBytes)
	}
	// All of the default 64 MiB but for the hole of the first.
	for _, run := range []*boottrace.Run{before, after} {
		ram := uint64(0)
		for _, o := range run.Guest.Owners {
			ram += o.Pages * pageSize
		}
		if ram > 64<<20-384<<10 || ram < 64<<20-512<<10 {
			t.Errorf("the kernel's owners add up to %d bytes: %v", ram, run.Guest.Owners)
		}
	}
	const pattern, zeros = 4 * 16 * pageSize, 3 * 16 * pageSize
	if got := after.Memory.ZeroBytes - before.Memory.ZeroBytes; got != zeros {
		t.Errorf("%d more bytes of zeros, want %d", got, zeros)
	}
	if got := after.Memory.DuplicateBytes - before.Memory.DuplicateBytes; got != pattern-pageSize {
		t.Errorf("%d more bytes are duplicate, want %d", got, pattern-pageSize)
	}
	for name, want := range map[string]uint64{
		"app text": 2 * pageSize, // all, which are decompressed at once
		"app bss":  pattern + zeros,
		"other":    pageSize, // the disk's queue
	} {
		if owners[name] != want {
			t.Errorf("%s: %d bytes, want %d", name, owners[name], want)
		}
	}
	for _, name := range []string{"page tables", "kernel text", "kernel rodata", "kernel data", "kernel bss", "kernel heap", "app stack"} {
		if owners[name] == 0 {
			t.Errorf("%s: no bytes", name)
		}
	}
	t.Logf("%v, before %v", owners, was)
}

// TestMemoryLinux boots Debian's kernel, which is found in memory by its code.
func TestMemoryLinux(t *testing.T) {
	needQEMU(t)
	code, o, stderr := boot(t, "--kernel", fsmodtest.LinuxKernel(t), "--initrd", linuxInitrd(t, "-static"), "--append", "console=ttyS0 panic=-1 quiet "+fsmodtest.LinuxBusy, "--memory", "128M",
		"--until", "exit", "-n", "0")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	_, run, owners := memoryOf(t, o.Files[0])
	// Bounds by what the kernel's own symbols say, and by the size of the program, which is some 750 KB.
	const mib = 1 << 20
	for name, bounds := range map[string][2]uint64{
		"kernel text":               {13 * mib, 15 * mib},
		"kernel rodata":             {8 * mib, 9 * mib},
		"kernel data":               {2 * mib, 7 * mib},
		"kernel bss":                {mib, 7 * mib},
		"compressed kernel":         {13 * mib, 28 * mib},
		"page tables":               {100 << 10, 2 * mib},
		"page structures":           {2 * mib, 2 * mib}, // 64 bytes for each page
		"kernel stacks and vmalloc": {mib, 16 * mib},
		"app text":                  {64 << 10, 600 << 10},
		"app rodata":                {16 << 10, 400 << 10},
		"app data":                  {4 << 10, 64 << 10},
		"app stack":                 {4 << 10, 64 << 10},
		"page cache":                {4 << 10, 750 << 10},
		"other":                     {0, run.TouchedBytes / 2},
	} {
		if n := owners[name]; n < bounds[0] || n > bounds[1] {
			t.Errorf("%s: %d bytes, want %d to %d", name, n, bounds[0], bounds[1])
		}
	}
	t.Logf("%v", owners)
}

// TestMemoryOfOthers boots guests that are no kernels that are known.
func TestMemoryOfOthers(t *testing.T) {
	needQEMU(t)
	needs.Tool(t, "cc", "gcc")
	build := func(defs ...string) string {
		kernel := filepath.Join(t.TempDir(), "long.elf")
		args := append([]string{"-s", "-nostdlib", "-static", "-no-pie", "-Wl,-T,testdata/guest.ld,--build-id=none", "-o", kernel, "testdata/long.S"}, defs...)
		if msg, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
			t.Fatalf("cc: %v\n%s", err, msg)
		}
		return kernel
	}
	code, o, stderr := boot(t, "--kernel", build(), "-n", "1", "--until", "exit")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	_, _, owners := memoryOf(t, o.Files[0])
	for name, want := range map[string]uint64{"page tables": 3 * pageSize, "kernel text and data": pageSize, "other": pageSize} {
		if owners[name] != want {
			t.Errorf("%s: %d bytes, want %d", name, owners[name], want)
		}
	}
	code, o, stderr = boot(t, "--kernel", build("-DEARLY"), "-n", "1", "--until", "exit")
	if code != 0 {
		t.Fatalf("a guest that dies early: exit code %d\n%s", code, stderr)
	}
	if _, _, owners := memoryOf(t, o.Files[0]); owners["page tables"] != 0 || owners["kernel text and data"] == 0 {
		t.Errorf("a guest that dies early: %v", owners)
	}
}

// TestMemoryOverTime boots the same program with its first touches logged.
func TestMemoryOverTime(t *testing.T) {
	needQEMU(t)
	code, o, stderr := boot(t, asmImage(t, "pages"), "-n", "1", "--profile", "exact,memory", "--until", "exit", "--", "4", "3")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	rec, run, _ := memoryOf(t, o.Files[0])
	byName := make(map[string]uint64) // bytes of the profile
	for _, s := range rec.Exact.Samples {
		if s.Stack == 0 {
			continue
		}
		if l := rec.Exact.Locations[rec.Exact.Stacks[s.Stack].Location]; len(l.Lines) > 0 {
			byName[rec.Exact.Functions[l.Lines[0].Function].Name] += s.TouchedBytes
		}
	}
	const filled = 7 * 16 * pageSize
	if n := byName["fill"]; n != filled {
		t.Errorf("the program's function touched %d bytes first, want %d", n, filled)
	}
	for _, g := range run.Regions {
		var sum uint64
		for _, f := range g.First {
			sum += f.Bytes
		}
		if sum == 0 || sum > g.TouchedBytes || g.Name == "app bss" && g.First[0] != (boottrace.Toucher{Function: "fill", Bytes: filled}) {
			t.Errorf("%s, %d bytes, was touched first by %v", g.Name, g.TouchedBytes, g.First)
		}
	}
	over := run.Memory.OverTime
	if len(over) < 10 || len(over) > maxTouched || over[0].Instructions != 0 || over[0].Bytes != byName[frameLoader] {
		t.Fatalf("%d instants, the first %+v; the VMM loaded %d bytes", len(over), over[0], byName[frameLoader])
	}
	for i := range over[1:] {
		if over[i+1].Instructions <= over[i].Instructions || over[i+1].Bytes < over[i].Bytes {
			t.Errorf("%+v comes after %+v", over[i+1], over[i])
		}
	}
	for i, o := range over {
		sum := uint64(0)
		for _, g := range run.Regions {
			sum += g.OverTime[i]
		}
		if sum != o.Bytes {
			t.Errorf("the owners had %d bytes at %+v", sum, o)
		}
	}
	if last := over[len(over)-1]; last.Bytes+byName[frameDevices] != run.TouchedBytes {
		t.Errorf("%d bytes in the end, %d by devices, %d in all", last.Bytes, byName[frameDevices], run.TouchedBytes)
	}
	at := make(map[string]uint64)
	for _, m := range run.Marks {
		i := slices.IndexFunc(over, func(o boottrace.Touched) bool { return o.Instructions == m.Instructions })
		if i < 0 {
			t.Fatalf("mark %s is no instant", m.Label())
		}
		at[m.Label()] = over[i].Bytes
	}
	if grown := at["end"] - at["app"]; grown < filled || grown > 2*filled {
		t.Errorf("the program touched %d bytes, want some more than %d", grown, filled)
	}
	var ready uint64
	for _, g := range run.Memory.Ready {
		ready += g.TouchedBytes
	}
	if m := run.Memory; ready != m.ReadyBytes || ready < at["end"] || ready > run.TouchedBytes {
		t.Errorf("%d bytes by owner when it was ready, %d in all, %d at the mark before", ready, m.ReadyBytes, at["end"])
	}
	timed := rec.Of(boottrace.Timed)[0]
	if m := timed.Memory; m == nil || len(m.OverTime) == 0 || m.OverTime[len(m.OverTime)-1].Bytes > timed.TouchedBytes || m.OverTime[0].Nanos == 0 {
		t.Errorf("a timed boot: %+v", m)
	}
}
