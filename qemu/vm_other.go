//go:build !linux

package qemu

import (
	"context"
	"time"

	"github.com/firstlight-boot/firstlight/qemu/qmp"
)

// VM is a running virtual machine; there are none on this system, whose kernel lacks what supervision relies on.
type VM struct{}

// Start fails with ErrUnsupported.
func (q *QEMU) Start(ctx context.Context, c Config, ev Events) (*VM, error) {
	return nil, ErrUnsupported
}

func (vm *VM) PID() int                                     { return 0 }
func (vm *VM) T0() time.Time                                { return time.Time{} }
func (vm *VM) Wait() (*Result, error)                       { return nil, ErrUnsupported }
func (vm *VM) Done() <-chan struct{}                        { return nil }
func (vm *VM) Stop()                                        {}
func (vm *VM) Kill()                                        {}
func (vm *VM) Close() error                                 { return nil }
func (vm *VM) TouchedBytes() (int64, error)                 { return 0, ErrUnsupported }
func (vm *VM) Touched(f func(addr, size int64)) error       { return ErrUnsupported }
func (vm *VM) ReadAt(p []byte, addr int64) (int, error)     { return 0, ErrUnsupported }
func (vm *VM) SetSizes() (pss, rss int64, err error)        { return 0, 0, ErrUnsupported }
func (vm *VM) AllocatedBytes() (int64, error)               { return 0, ErrUnsupported }
func (vm *VM) Monitor(context.Context) (*qmp.Client, error) { return nil, ErrUnsupported }
