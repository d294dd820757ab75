package qemu

import (
	"context"
	"time"

	"github.com/firstlight-boot/firstlight/qemu/qmp"
)

// VM is a running virtual machine. Its methods may be called from any goroutine.
type VM struct {
	t0 time.Time
}

// Start boots c. The VM lives until the guest ends it, Stop, Kill or Close is called, or ctx is done; so ctx carries the
// deadline. A nil error means that the process runs, not that the guest does: errors of QEMU itself come from Wait.
func (q *QEMU) Start(ctx context.Context, c Config, ev Events) (*VM, error) {
	return nil, ErrUnsupported
}

// PID returns QEMU's process id.
func (vm *VM) PID() int { return 0 }

// T0 returns the instant before QEMU was spawned, with its monotonic reading: the zero of Events' times and Result.Wall.
func (vm *VM) T0() time.Time { return vm.t0 }

// Wait waits for the end of the VM, after which no function of Events is called any more. The Result is there with every
// error; the error, if any, is a *RunError. A guest that exits with whatever value is no error.
func (vm *VM) Wait() (*Result, error) { return nil, nil }

// Done is closed when Wait would return at once.
func (vm *VM) Done() <-chan struct{} { return nil }

// Stop ends a VM that has served its purpose, in order, so that a counting boot still reports; Wait then returns no error.
func (vm *VM) Stop() {}

// Kill ends the VM at once. Wait then returns a *RunError that wraps context.Canceled.
func (vm *VM) Kill() {}

// Close kills the VM if it runs and frees the guest's memory.
func (vm *VM) Close() error { return nil }

// TouchedBytes returns how much of the guest's RAM was ever touched, by QEMU's loader or by the guest: the allocated
// ranges of its backing file, in whole pages. It works until Close, also after the end of the VM.
func (vm *VM) TouchedBytes() (int64, error) { return 0, nil }

// Touched calls f for each touched range of the guest's physical memory below 2 GiB, in order.
func (vm *VM) Touched(f func(addr, size int64)) error { return nil }

// ReadAt reads the guest's physical memory, which is known below 2 GiB only. It works until Close, also after the end.
func (vm *VM) ReadAt(p []byte, addr int64) (int, error) { return 0, nil }

// PSS returns the proportional set size of the VMM in bytes, the guest's touched memory included, as /proc says it now.
// It fails once the process is gone; a counting boot reports the figure of its end in Counts.
func (vm *VM) PSS() (int64, error) { return 0, nil }

// Monitor returns the QMP client of a VM whose Config asked for one.
func (vm *VM) Monitor() *qmp.Client { return nil }
