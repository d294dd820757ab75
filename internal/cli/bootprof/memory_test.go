package bootprof

import (
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
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
	before, _ := look("--", "0", "0")
	after, owners := look("--", "4", "3")
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
	t.Logf("%v", owners)
}
