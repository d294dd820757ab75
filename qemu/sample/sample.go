// Package sample takes samples of a running virtual machine: where its virtual CPUs are, and by which calls they got there.
//
// The machine is stopped for each sample, under every accelerator: under TCG because registers are stale while the guest runs, and
// everywhere because a stack that changes while it is read shows calls that were never made. Its clocks stand still meanwhile,
// and so do a Sample's.
package sample

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/qmp"
)

// ErrMonitor is a monitor that does not tell what sampling needs to know.
var ErrMonitor = errors.New("QEMU's monitor cannot be sampled with")

// MinPeriod is the shortest time between samples: 1 kHz.
const MinPeriod = time.Millisecond

// Sample is a machine at an instant.
type Sample struct {
	Running time.Duration // how long the guest had run, the time in which it was stopped left out
	Stacks  []Stack       // of each virtual CPU
}

// Sampler samples one machine, which must be started with Config.Monitor and Config.Paused, and the sampler's Event as
// Events.Monitor.
type Sampler struct {
	Period time.Duration // mean time between samples; at least MinPeriod
	Max    int           // how many samples at most; 0 stands for any number
	// Rand moves each sample by up to half a period, so that nothing in the guest can be in step with them.
	Rand *rand.Rand
	// Each is called with each sample while the guest is stopped. s is the callee's.
	Each func(s Sample)
	// Until ends the sampling when it is closed, with the guest running. It may be nil.
	Until <-chan struct{}

	mu      sync.Mutex
	changes []change
}

// change is an instant at which the guest was started or stopped.
type change struct {
	at      time.Time // on the server's clock
	stopped bool
	ran     time.Duration // how long the guest had run by then
}

// Event takes an event of the monitor.
func (s *Sampler) Event(e qmp.Event) {
	if e.Name != "STOP" && e.Name != "RESUME" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, change{e.Time, e.Name == "STOP", s.running(e.Time)})
}

// Running returns how long the guest had run by an instant.
func (s *Sampler) Running(at time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running(at.Round(0)) // without its monotonic reading, which the server's times do not have
}

func (s *Sampler) running(at time.Time) time.Duration {
	for _, c := range slices.Backward(s.changes) {
		if c.at.After(at) {
			continue
		}
		if c.stopped {
			return c.ran
		}
		return c.ran + at.Sub(c.at)
	}
	return 0
}

// Stats tell what sampling took.
type Stats struct {
	Samples int
	Running time.Duration // of the guest between the start and the last sample
	Stopped time.Duration // in which it stood still for us
}

// Run starts the machine and takes samples until its end, or until Max or Until say so; then the machine runs on. A machine that ends,
// whatever it was doing, is no error.
func (s *Sampler) Run(ctx context.Context, vm *qemu.VM) (stats Stats, err error) {
	if s.Period < MinPeriod {
		return stats, fmt.Errorf("a period of %v: want %v or more", s.Period, MinPeriod)
	}
	if _, err := vm.ReadAt(make([]byte, pageSize), 0); err != nil {
		return stats, fmt.Errorf("sampling: the guest's memory cannot be read: %w", err)
	}
	memory := newMemory(vm)
	monitor, err := vm.Monitor(ctx)
	if err != nil {
		return stats, s.ended(vm, err)
	}
	if err := monitor.Execute(ctx, "cont", nil, nil); err != nil {
		return stats, s.ended(vm, err)
	}
	resumed, err := s.last(false)
	if err != nil {
		return stats, err
	}
	// How much later than asked for the guest stops, on the average.
	var lag time.Duration
	wait := time.Duration(s.Rand.Int64N(int64(s.Period)))
	for {
		if done, err := s.wait(ctx, vm, wait); done || err != nil {
			return stats, err
		}
		if err := monitor.Execute(ctx, "stop", nil, nil); err != nil {
			return stats, s.ended(vm, err)
		}
		stopped, err := s.last(true)
		if err != nil {
			return stats, err
		}
		var text string
		if err := monitor.Execute(ctx, "human-monitor-command", map[string]string{"command-line": "info registers -a"}, &text); err != nil {
			return stats, s.ended(vm, err)
		}
		cpus, err := ParseRegisters(text)
		if err != nil {
			return stats, err
		}
		memory.forget()
		sample := Sample{Running: s.Running(stopped)}
		for _, c := range cpus {
			sample.Stacks = append(sample.Stacks, memory.stack(c))
		}
		stats.Samples++
		stats.Running = sample.Running
		s.Each(sample)
		if err := monitor.Execute(ctx, "cont", nil, nil); err != nil {
			return stats, s.ended(vm, err)
		}
		ran := stopped.Sub(resumed)
		if resumed, err = s.last(false); err != nil {
			return stats, err
		}
		stats.Stopped += resumed.Sub(stopped)
		if stats.Samples == s.Max {
			return stats, nil
		}
		// The lag never takes away from the jitter: with none, samples would be in step with the guest.
		lag += (min(ran-wait, s.Period/2) - lag) / 8
		wait = s.Period/2 - lag + time.Duration(s.Rand.Int64N(int64(s.Period)))
	}
}

// wait lets the guest run for a while, and tells whether there is nothing more to do.
func (s *Sampler) wait(ctx context.Context, vm *qemu.VM, d time.Duration) (done bool, err error) {
	coarse := max(d-2*MinPeriod, 0) // which has an end that can come sooner
	timer := time.NewTimer(coarse)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.Until:
		return true, nil
	case <-vm.Done():
		return true, nil
	case <-ctx.Done():
		return true, s.ended(vm, ctx.Err())
	}
	nap(d - coarse)
	return false, nil
}

// ended is the error of a command that failed with err: none if the machine has come to its end.
func (s *Sampler) ended(vm *qemu.VM, err error) error {
	if errors.Is(err, qmp.ErrClosed) {
		<-vm.Done() // Wait says how it ended
		return nil
	}
	return fmt.Errorf("sampling: %w", err)
}

// last returns when the guest was stopped, or started, which was the last thing that happened to it. The event comes before the
// answer to the command that causes it.
func (s *Sampler) last(stopped bool) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.changes); n > 0 && s.changes[n-1].stopped == stopped {
		return s.changes[n-1].at, nil
	}
	name := "RESUME"
	if stopped {
		name = "STOP"
	}
	return time.Time{}, fmt.Errorf("%w: there was no event %s", ErrMonitor, name)
}

// Weights returns how much of the time up to end each of the samples stands for, which were taken at the given times, in order: up to
// half way to its neighbours. The weights add up to end, if there is a sample before it.
func Weights(at []time.Duration, end time.Duration) []time.Duration {
	weights := make([]time.Duration, len(at))
	from := time.Duration(0)
	for i := range at {
		to := end
		if i+1 < len(at) {
			to = min(at[i]+(at[i+1]-at[i])/2, end)
		}
		weights[i] = max(to-from, 0)
		from = max(to, from)
	}
	return weights
}
