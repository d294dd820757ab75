package qemu

import (
	"context"
	"fmt"
	"math"

	"github.com/firstlight-boot/firstlight/qemu/qmp"
)

// balloonID is the balloon's name among QEMU's devices.
const balloonID = "balloon"

// maxBalloonStats bounds the statistics of a balloon.
const maxBalloonStats = 64

// Balloon returns the statistics that the guest's driver has told of its memory, by QEMU's names, in bytes or counts, with "actual",
// the guest's RAM without what the balloon holds. Those that it did not tell are left out; told is false if it told none, having no
// driver for a balloon or one that tells when it is asked only (QEMU, docs/interop/virtio-balloon-stats.rst).
func Balloon(ctx context.Context, monitor *qmp.Client) (stats map[string]uint64, told bool, err error) {
	var balloon struct{ Actual uint64 }
	if err := monitor.Execute(ctx, "query-balloon", nil, &balloon); err != nil {
		return nil, false, fmt.Errorf("the balloon: %w", err)
	}
	var guest struct {
		Stats  map[string]uint64
		Update int64 `json:"last-update"` // seconds since 1970; 0: never
	}
	get := map[string]string{"path": "/machine/peripheral/" + balloonID, "property": "guest-stats"}
	if err := monitor.Execute(ctx, "qom-get", get, &guest); err != nil {
		return nil, false, fmt.Errorf("the balloon's statistics: %w", err)
	}
	if len(guest.Stats) > maxBalloonStats {
		return nil, false, fmt.Errorf("%w: %d statistics of the balloon", ErrFailed, len(guest.Stats))
	}
	stats = map[string]uint64{"actual": balloon.Actual}
	for name, n := range guest.Stats {
		if n != math.MaxUint64 { // which stands for none
			stats[name] = n
			told = true
		}
	}
	return stats, told, nil
}
