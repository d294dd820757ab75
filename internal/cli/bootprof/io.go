package bootprof

import (
	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/blockio"
)

// setRequests adds the disk requests of a run whose disks were traced. Times mean nothing in a counting run.
func (o *outcome) setRequests(result *qemu.Result) {
	t := result.Disks
	if t == nil {
		return
	}
	o.IOTotal = t.Total
	for _, q := range t.Requests[:min(len(t.Requests), boottrace.MaxRequests)] {
		r := boottrace.Request{Op: q.Op, Disk: q.Disk, Offset: q.Offset, Length: q.Length}
		switch {
		case q.EndNanos == 0: // the guest ended first
			r.Op = "unfinished " + q.Op
			q.EndNanos = max(result.Wall.Nanoseconds(), q.StartNanos)
		case q.Status != blockio.StatusOK:
			r.Op = "failed " + q.Op
		}
		if o.Kind != boottrace.Counting {
			r.StartNanos, r.Nanos = max(q.StartNanos, 1), max(q.EndNanos-q.StartNanos, 1)
		}
		o.IO = append(o.IO, r)
	}
}
