package bootprof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/kernel/abi"
)

func TestMinmem(t *testing.T) {
	needQEMU(t)
	img := appImage(t)
	code, stdout, stderr := bootprof(t, "minmem", img, "--accel", "tcg", "--max", "32M", "--json")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	var m leastMemory
	if err := json.Unmarshal([]byte(stdout), &m); err != nil {
		t.Fatal(err)
	}
	// The kernel itself ends above 4 MiB.
	if mib := m.MinimumBytes >> 20; mib < 5 || mib > 8 || m.Confirmed != 3 || m.MaxBytes != 32<<20 || m.Until != "exit" && m.Until != "output" {
		t.Errorf("%s", stdout)
	}
	if m.Below == nil || m.Below.MemoryBytes != m.MinimumBytes-1<<20 || m.Below.Boots != 2 || m.Below.Failed != 2 || m.Below.Reason == "" {
		t.Errorf("one step below: %+v", m.Below)
	}
	ready := 0
	for _, a := range m.Attempts {
		if (a.Failed == "") != (a.MemoryBytes >= m.MinimumBytes) {
			t.Errorf("%d MiB: %q", a.MemoryBytes>>20, a.Failed)
		}
		if a.MemoryBytes == m.MinimumBytes {
			ready++
		}
	}
	if ready != 3 {
		t.Errorf("%d boots with the minimum, want 3", ready)
	}

	// The minimum that was found is one, and what fails with all the memory is no matter of memory.
	size := fmt.Sprintf("%dM", m.MinimumBytes>>20)
	if code, _, stderr := boot(t, img, "--counting", "0", "--memory", size); code != 0 {
		t.Errorf("with %s: exit code %d\n%s", size, code, stderr)
	}
	code, stdout, stderr = bootprof(t, "minmem", img, "--accel", "tcg", "--max", "3M", "--timeout", "5s")
	if code != 1 || stdout != "" || !strings.Contains(stderr, "with 3 MiB, the most that --max allows: ") {
		t.Errorf("too little for a start: exit code %d\n%s%s", code, stdout, stderr)
	}
}

func TestMinmemText(t *testing.T) {
	needQEMU(t)
	code, stdout, stderr := bootprof(t, "minmem", "--kernel", guest(t), "--accel", "tcg", "--max", "8M", "--step", "2M", "--confirm", "1")
	if code != 0 || stdout != "2 MiB (confirmed by 1 boot; no less was tried)\n" {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// TestSearch runs the search on boots that are made up.
func TestSearch(t *testing.T) {
	for _, tt := range []struct {
		name    string
		max     int64                        // MiB
		enough  func(mib int64, n int) error // of the n-th boot with that memory, from 0 on
		want    string
		wantErr string
	}{
		{"plain", 64, func(mib int64, n int) error { return atLeast(mib, 7) }, "7 MiB (confirmed by 3 boots; 6 MiB failed: needs 7)", ""},
		{"all of it", 5, func(mib int64, n int) error { return atLeast(mib, 5) }, "5 MiB (confirmed by 3 boots; 4 MiB failed: needs 5)", ""},
		{"one", 64, func(mib int64, n int) error { return nil }, "1 MiB (confirmed by 3 boots; no less was tried)", ""},
		{"never", 64, func(mib int64, n int) error { return atLeast(mib, 65) }, "", "with 64 MiB, the most that --max allows: needs 65"},
		{"6 is enough at first", 64, func(mib int64, n int) error {
			if n == 0 {
				return atLeast(mib, 6)
			}
			return atLeast(mib, 7)
		}, "7 MiB (confirmed by 3 boots; 6 MiB failed in 1 of 2 boots: needs 7)", ""},
		{"5 is enough the second time", 64, func(mib int64, n int) error { return atLeast(mib+int64(min(n, 1)), 6) },
			"6 MiB (confirmed by 3 boots; 5 MiB failed in 1 of 2 boots: needs 6)", ""},
		{"never always", 8, func(mib int64, n int) error { return atLeast(mib-int64(n), 8) }, "", "with 8 MiB, the most that --max allows, it is not always ready: needs 8"},
		{"killed", 64, func(mib int64, n int) error {
			if mib < 9 {
				return errKilled
			}
			return nil
		}, "9 MiB (confirmed by 3 boots; 8 MiB failed: the app was killed by SIGKILL)", ""},
	} {
		p := new(plan)
		seen := make(map[int64]int)
		s := search{
			p: p, result: &leastMemory{StepBytes: 1 << 20, MaxBytes: tt.max << 20}, progress: func(string, ...any) {},
			boot: func(context.Context, boottrace.Kind) (*outcome, error) {
				mib := p.config.MemoryBytes >> 20
				err := tt.enough(mib, seen[mib])
				seen[mib]++
				o := &outcome{Run: boottrace.Run{ReadyNanos: 1e6, End: &boottrace.End{How: abi.EndExited}}}
				if errors.Is(err, errKilled) {
					o.End = &boottrace.End{How: abi.EndKilled, Code: 9}
					return o, nil
				}
				if err != nil {
					return nil, bootError{err}
				}
				return o, nil
			},
		}
		err := s.run(t.Context(), 3)
		switch {
		case tt.wantErr != "":
			if err == nil || !strings.HasPrefix(err.Error(), tt.wantErr) {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.wantErr)
			}
		case err != nil || s.result.String() != tt.want:
			t.Errorf("%s: %v, %v; want %q", tt.name, s.result, err, tt.want)
		}
	}
}

var errKilled = errors.New("killed")

func atLeast(mib, need int64) error {
	if mib < need {
		return fmt.Errorf("needs %d\nand this is not shown", need)
	}
	return nil
}

func TestMinmemUsage(t *testing.T) {
	img := "no.img"
	for _, tt := range []struct {
		args []string
		says string
	}{
		{nil, "want an image"},
		{[]string{""}, "the image's name is empty"},
		{[]string{img, img}, "one argument too many"},
		{[]string{img, "--kernel", "k"}, "want one of the two"},
		{[]string{img, "--initrd", "i"}, "--initrd goes with --kernel"},
		{[]string{img}, "no such file"},
		{[]string{img, "--step", "1000"}, "want whole MiB"},
		{[]string{img, "--confirm", "0"}, "want 1 to 1000 boots"},
		{[]string{img, "--max", "8M", "--memory", "8M"}, "want one of them"},
		{[]string{img, "--max", "lots"}, "lots"},
	} {
		code, _, stderr := bootprof(t, append([]string{"minmem"}, tt.args...)...)
		if code != 2 || !strings.Contains(stderr, tt.says) {
			t.Errorf("%v: exit code %d, want 2 and %q\n%s", tt.args, code, tt.says, stderr)
		}
	}
}
