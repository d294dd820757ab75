package qemu

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestBoundTrace fills a trace: what writes to it, by a file of its own as QEMU does, is stopped at the limit.
func TestBoundTrace(t *testing.T) {
	trace, err := traceFile()
	if err != nil {
		t.Fatal(err)
	}
	defer trace.Close()
	theirs, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", trace.Fd()), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	const event = "1@%d.000000:blk_co_preadv blk 0x10 bs 0x1 offset 0 bytes 512 flags 0x0\n"
	now := time.Now()
	fmt.Fprintf(theirs, event, now.Unix())
	if err := theirs.Truncate(maxTrace); err != nil {
		t.Fatal(err)
	}
	vm := &VM{t0: now, done: make(chan struct{})}
	vm.boundTrace(trace)
	if _, err := theirs.Seek(0, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.WriteString(strings.Repeat("x", 8192)); !errors.Is(err, unix.EPERM) {
		t.Errorf("writing beyond the limit: %v", err)
	}
	got, err := vm.readTrace(trace)
	if err != nil || !got.Cut || got.Disks != 1 {
		t.Errorf("%+v, %v", got, err)
	}

	close(vm.done)
	small, err := traceFile()
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	vm.boundTrace(small) // it ends with the VM
	if _, err := vm.readTrace(small); err == nil || !strings.Contains(err.Error(), "log backend") {
		t.Errorf("an empty trace: %v", err)
	}
	if _, err := small.WriteString("1@1.000000:blk_co_preadv blk here\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.readTrace(small); err == nil {
		t.Error("a damaged trace has no error")
	}
	if err := small.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := small.WriteAt(fmt.Appendf(nil, event, now.Unix()), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.readTrace(small); err != nil {
		t.Error(err)
	}
}
