package qemu

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestWithoutHugePages(t *testing.T) {
	enabled := func(status []byte) string {
		_, rest, ok := strings.Cut(string(status), "THP_enabled:")
		if !ok {
			t.Skip("this kernel does not say THP_enabled in /proc/PID/status")
		}
		value, _, _ := strings.Cut(rest, "\n")
		return strings.TrimSpace(value)
	}
	own := func() string {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		return enabled(status)
	}
	before := own() // 0 where the kernel has no huge pages, or whoever runs this has none
	var child []byte
	err := withoutHugePages(func() (err error) {
		child, err = exec.Command("cat", "/proc/self/status").Output()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := enabled(child); got != "0" {
		t.Errorf("the child has THP_enabled %s", got)
	}
	if got := own(); got != before {
		t.Errorf("we are left with THP_enabled %s, had %s", got, before)
	}
}
