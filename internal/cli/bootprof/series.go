package bootprof

import (
	"context"
	"errors"
	"fmt"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
)

// series is how many runs of each kind to make.
type series struct {
	timed, counting int
	floor           bool // interleaved with the timed runs
	traced          bool // one run whose disk requests are recorded with their times
	mustCount       bool // that no counting boot can be made is an error, not a note
}

// run makes the runs and adds them to the recording. The console's end of each run is kept beside it. Notes are for the
// user.
func (s series) run(ctx context.Context, p *plan, rec *boottrace.Recording, tell *teller) (tails [][]byte, err error) {
	add := func(kind boottrace.Kind) error {
		o, err := p.boot(ctx, kind)
		if err != nil {
			return err
		}
		rec.Runs = append(rec.Runs, o.Run)
		tails = append(tails, o.tail)
		return nil
	}
	pace := newPace(s.timed)
	for i := range s.timed {
		tell.progress("boot %d of %d%s", i+1, s.timed, pace.left(i))
		if s.floor {
			if err := add(boottrace.Floor); err != nil {
				return nil, err
			}
		}
		if err := add(boottrace.Timed); err != nil {
			return nil, inSeries(err, "boot", i, s.timed)
		}
	}
	if s.traced {
		tell.progress("boot with disk trace")
		if err := add(boottrace.Traced); err != nil {
			return nil, fmt.Errorf("boot with disk trace: %w", err)
		}
	}
	pace = newPace(s.counting)
	for i := range s.counting {
		tell.progress("counting boot %d of %d%s", i+1, s.counting, pace.left(i))
		err := add(boottrace.Counting)
		switch {
		case err == nil:
		case s.mustCount || ctx.Err() != nil:
			return nil, inSeries(err, "counting boot", i, s.counting)
		case errors.Is(err, plugin.ErrNoCompiler):
			tell.note("instructions were not counted: %v", err)
			return tails, nil
		case errors.Is(err, context.DeadlineExceeded) && s.timed > 0:
			tell.note("instructions were not counted: a counting boot takes longer, and it was not ready within %v; see --timeout", p.timeout)
			return tails, nil
		default:
			return nil, inSeries(err, "counting boot", i, s.counting)
		}
	}
	return tails, nil
}

// inSeries says which run it was.
func inSeries(err error, what string, i, n int) error {
	if n == 1 && what == "boot" {
		return err
	}
	return fmt.Errorf("%s %d of %d: %w", what, i+1, n, err)
}
