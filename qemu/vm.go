package qemu

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/qemu/blockio"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
	"github.com/firstlight-boot/firstlight/qemu/qmp"
)

// Events receives what the guest says while it runs. Each function is called from one goroutine of its own, in order, with
// the host's time since T0 at which the bytes were read; p is valid during the call only. Nil functions are fine.
type Events struct {
	Console func(at time.Duration, p []byte)
	Mark    func(at time.Duration, p []byte)              // bytes written to abi.PortMark
	Port    func(at time.Duration, port uint16, p []byte) // bytes written to one of the Config's Ports
	Point   func(plugin.Mark)                             // an execution of one of the Config's Points
	Monitor func(qmp.Event)                               // of a Config with Monitor
}

// TailSize is how much of the console's end and of QEMU's own messages is kept for errors.
const TailSize = 4 << 10

// Result is how a virtual machine ended.
type Result struct {
	Wall    time.Duration  // from T0 to the end of the process
	Status  int            // exit status of QEMU; -1 when a signal ended it
	Signal  string         // name of that signal, or ""
	Console []byte         // the last TailSize bytes of the console
	Stderr  string         // the last TailSize bytes of QEMU's own messages
	Counts  *plugin.Counts // of a counting boot, or of one with points

	Disks    *blockio.Trace // of a boot with TraceDisks and a disk, or nil; its times are since T0
	DisksErr error          // why there is none

	spoke bool // the guest wrote to its console or to the mark port, so it ran
}

// GuestExit returns the value that the guest wrote to its exit port. ok is false when it wrote none: it reset or powered
// off (Status 0), or QEMU failed. QEMU's exit status is 2·value + 1, so a guest's 0 looks like QEMU's own failure at its
// start; that is told by its message and by a guest that never wrote a byte.
func (r *Result) GuestExit() (value int, ok bool) {
	if r.Status < 1 || r.Status%2 == 0 || r.Status == 1 && !r.spoke && firstComplaint(r.Stderr) != "" {
		return 0, false
	}
	return r.Status / 2, true
}

// firstComplaint returns the first of QEMU's messages that is no warning, or "".
func firstComplaint(stderr string) string {
	for line := range strings.Lines(stderr) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "warning:") {
			return line
		}
	}
	return ""
}

// RunError is a virtual machine that did not come to an end of its own: it was cancelled, ran into its deadline, or QEMU
// failed. Err wraps context.DeadlineExceeded, context.Canceled or ErrFailed.
type RunError struct {
	After   time.Duration
	Console []byte // tail
	Stderr  string // tail
	Err     error
}

// ErrFailed is QEMU's own failure, as opposed to the guest's.
var ErrFailed = errors.New("QEMU failed")

func (e *RunError) Unwrap() error { return e.Err }

func (e *RunError) Error() string {
	var b strings.Builder
	switch {
	case errors.Is(e.Err, context.DeadlineExceeded):
		fmt.Fprintf(&b, "the guest was still running after %v", e.After.Round(time.Millisecond))
	case errors.Is(e.Err, context.Canceled):
		fmt.Fprintf(&b, "the boot was interrupted after %v", e.After.Round(time.Millisecond))
	default:
		b.WriteString(e.Err.Error())
	}
	if s := strings.TrimSpace(e.Stderr); s != "" {
		b.WriteString("\nQEMU said:\n" + s)
	}
	if s := strings.TrimSpace(string(e.Console)); s != "" {
		b.WriteString("\nthe console ended with:\n" + s)
	} else {
		b.WriteString("\nthe console stayed empty")
	}
	return b.String()
}
