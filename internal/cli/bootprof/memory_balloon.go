package bootprof

import (
	"context"

	"github.com/firstlight-boot/firstlight/qemu"
)

// balloon asks for the statistics of the guest's balloon once the guest is ready; nil if it ends before.
func (p *plan) balloon(ctx context.Context, vm *qemu.VM, w *watcher) map[string]uint64 {
	const missed = "the balloon's statistics were not to be had: "
	select {
	case <-w.ready:
	case <-w.again:
		return nil
	case <-vm.Done():
		p.note(missed + "the guest ended before it was ready; --until output or mark:NAME stops it there")
		return nil
	}
	var stats map[string]uint64
	var told bool
	monitor, err := vm.Monitor(ctx)
	if err == nil {
		stats, told, err = qemu.Balloon(ctx, monitor)
	}
	switch {
	case err != nil:
		p.note(missed + err.Error())
	case !told:
		p.note("the guest has told nothing of its balloon: it has no driver for one, or not yet")
	}
	return stats
}
