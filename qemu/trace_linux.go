package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firstlight-boot/firstlight/qemu/blockio"
)

// maxTrace bounds a trace in bytes of the host's memory: some hundred thousand requests.
const maxTrace = 64 << 20

// maxClockStep is how far the host's calendar, by which QEMU tells the time, may be set during a boot.
const maxClockStep = time.Millisecond

// traceFile returns the file that QEMU is to write its trace to.
func traceFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("firstlight-trace", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd for a trace: %w", err)
	}
	return os.NewFile(uintptr(fd), "firstlight-trace"), nil
}

// boundTrace keeps a trace from growing beyond maxTrace, if the guest asks for a lot: QEMU then cannot write to it, and does not mind.
func (vm *VM) boundTrace(trace *os.File) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-vm.done:
			return
		case <-tick.C:
		}
		info, err := trace.Stat()
		if err != nil {
			return // it is closed
		}
		if info.Size() >= maxTrace {
			// It fails if it was done before only.
			_, _ = unix.FcntlInt(trace.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_GROW)
			return
		}
	}
}

// readTrace reads the trace of a VM that has ended.
func (vm *VM) readTrace(trace *os.File) (*blockio.Trace, error) {
	info, err := trace.Stat()
	if err != nil {
		return nil, err
	}
	t, err := blockio.Decode(io.NewSectionReader(trace, 0, info.Size()), blockio.MaxRequests)
	if err != nil {
		return nil, err
	}
	if t.Cut = info.Size() >= maxTrace; t.Disks == 0 {
		return nil, errors.New("QEMU wrote no trace of its disks: it was built without the log backend of trace events")
	}
	now, t0 := time.Now(), vm.t0.UnixNano()
	if step := time.Duration(now.UnixNano()-t0) - now.Sub(vm.t0); step.Abs() > maxClockStep {
		return nil, fmt.Errorf("the host's clock was set by %v during the boot, so the times of its disk requests are unknown; repeat it", step.Round(time.Millisecond))
	}
	for i := range t.Requests {
		q := &t.Requests[i]
		q.StartNanos -= t0
		if q.EndNanos != 0 {
			q.EndNanos -= t0
		}
	}
	return t, nil
}
