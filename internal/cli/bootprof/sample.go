package bootprof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/sample"
	"github.com/firstlight-boot/firstlight/symbols"
)

// Sampling boots are made until there are enough samples, or there have been enough boots.
const (
	enoughSamples = 300
	enoughBoots   = 20
	maxBoots      = 1000 // of --profile-runs
)

// Frames of a sampled profile that are not functions.
const (
	frameHalted  = "[halted]"        // waits for an interrupt
	frameUnknown = "[stack unknown]" // the callers that cannot be seen
)

// snapshot is a sample with what else was known at that moment.
type snapshot struct {
	sample.Sample
	phase int // index of samplePhases
	nanos int64
}

// samplePhases are the phases of a boot that samples can be in.
var samplePhases = []string{"firmware", "kernel", "app"}

// samplePhaseNames returns what those are called in a recording, whose timed boots may not tell them all apart.
func samplePhaseNames(rec *boottrace.Recording) []string {
	names := slices.Clone(samplePhases)
	for _, p := range rec.Phases() {
		for i, name := range samplePhases {
			if slices.Contains(strings.Split(p.Name, "+"), name) {
				names[i] = p.Name
			}
		}
	}
	return names
}

// phaseAfter returns the phase that a mark begins, or phase.
func phaseAfter(phase int, m boottrace.Mark) int {
	switch m.ID {
	case abi.MarkEntry:
		return max(phase, 1)
	case abi.MarkApp, boottrace.MarkOSv:
		return 2
	}
	return phase
}

// sampled makes sampling boots, as many as runs says or as it takes if that is 0, and returns the profile of a boot: the mean of
// those, their stops left out.
func (p *plan) sampled(ctx context.Context, rec *boottrace.Recording, runs int, tell *teller) (*boottrace.Profile, error) {
	boots := runs
	if runs == 0 {
		boots = enoughBoots
	}
	var all []snapshot
	var total sample.Stats
	n := 0
	for ; n < boots && (runs > 0 || total.Samples < enoughSamples); n++ {
		tell.progress("sampling boot %d of at most %d", n+1, boots)
		taken, stats, err := p.sampleBoot(ctx, rand.New(rand.NewPCG(uint64(n), 0)))
		if err != nil {
			return nil, fmt.Errorf("sampling boot %d: %w", n+1, err)
		}
		all = append(all, taken...)
		total.Samples += stats.Samples
		total.Running += stats.Running
		total.Stopped += stats.Stopped
	}
	tell.clear()
	if total.Samples == 0 {
		return nil, errors.New("no sample was taken: the boots were too short; make more with --profile-runs")
	}
	count := time.Duration(total.Samples)
	tell.note("%d samples in %d boots that were not timed: one every %.2f ms, and the guest stood still for %.2f ms each", total.Samples, n, millis(total.Running/count), millis(total.Stopped/count))
	return p.sampledProfile(all, samplePhaseNames(rec), n, int64(total.Running/count))
}

func millis(d time.Duration) float64 { return float64(d) / 1e6 }

// sampleBoot makes one sampling boot up to ready and returns its samples, in order.
func (p *plan) sampleBoot(ctx context.Context, random *rand.Rand) ([]snapshot, sample.Stats, error) {
	w := &watcher{until: p.until, flavour: p.target.flavour, portMarks: p.portMarks, ready: make(chan struct{}), again: make(chan struct{}), milestones: p.milestones}
	c := p.config
	c.Monitor, c.Paused = true, true
	events := qemu.Events{Console: w.console, Mark: w.marks, Port: w.port}
	if c.Accel != qemu.KVM && len(p.milestones) > 0 {
		for _, m := range p.milestones {
			c.Points = append(c.Points, m.point)
		}
		events.Point = w.point
	}
	var vm *qemu.VM
	var taken []snapshot
	readyAt := time.Duration(-1) // of the first sample after ready, by the guest's own record
	s := &sample.Sampler{Period: sample.MinPeriod, Rand: random, Until: w.ready, Each: func(s sample.Sample) {
		phase := 0
		for _, m := range p.recorded(vm) {
			phase = phaseAfter(phase, m)
			if m.IsReady(w.kind()) && readyAt < 0 {
				readyAt = s.Running
			}
		}
		taken = append(taken, snapshot{Sample: s, phase: phase})
	}}
	events.Monitor = s.Event

	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	vm, err := p.q.Start(ctx, c, events)
	if err != nil {
		return nil, sample.Stats{}, err
	}
	defer vm.Close()
	stats, err := s.Run(ctx, vm)
	if err == nil {
		select {
		case <-w.ready:
			vm.Stop()
		case <-w.again:
			vm.Stop()
		case <-vm.Done():
		}
	} else {
		vm.Kill() // if it was not killed before, whose cause counts
	}
	result, waitErr := vm.Wait()
	if err == nil || errors.Is(waitErr, context.DeadlineExceeded) {
		err = waitErr
	}
	if err != nil {
		return nil, stats, p.explain(err, w)
	}
	marks := slices.Concat(w.stream.Marks, w.onPorts)
	if result.Counts != nil {
		marks = append(marks, p.milestoneMarks(result.Counts.Marks)...)
	}
	if w.readyNanos == 0 && w.until != "" && w.until != boottrace.UntilExit {
		return nil, stats, failure(result, "the guest ended after %v and was never ready (--until %s)", result.Wall.Round(time.Millisecond), w.until)
	}
	ran := func(hostNanos int64) time.Duration { return s.Running(vm.T0().Add(time.Duration(hostNanos))) }
	end := result.Wall.Nanoseconds()
	for _, m := range marks {
		if m.ID == abi.MarkEnd {
			end = min(end, m.HostNanos)
		}
	}
	if w.readyNanos > 0 {
		end = min(end, w.readyNanos)
	}
	until := ran(end)
	if readyAt >= 0 {
		until = min(until, readyAt)
	}
	taken = slices.DeleteFunc(taken, func(s snapshot) bool { return s.Running >= until })
	p.setPhases(taken, marks, ran)
	at := make([]time.Duration, len(taken))
	for i := range taken {
		at[i] = taken[i].Running
	}
	for i, d := range sample.Weights(at, until) {
		taken[i].nanos = d.Nanoseconds()
	}
	stats.Samples, stats.Running = len(taken), until
	return taken, stats, nil
}

// recorded returns the marks that our kernel has noted in its boot record so far.
func (p *plan) recorded(vm *qemu.VM) []boottrace.Mark {
	if p.target.record == 0 {
		return nil
	}
	page := make([]byte, abi.RecordSize)
	if _, err := vm.ReadAt(page, p.target.record); err != nil {
		return nil
	}
	r, err := boottrace.ParseRecord(page)
	if err != nil {
		return nil // it is not there yet
	}
	return r.Marks
}

// setPhases finds out the phases of samples whose guest keeps no record: by the marks that the host saw, at times on the clock of ran;
// or where there are none by the CPU's mode. Firmware does not use 64-bit mode.
func (p *plan) setPhases(taken []snapshot, marks []boottrace.Mark, ran func(hostNanos int64) time.Duration) {
	if p.target.record != 0 {
		return
	}
	type begin struct {
		phase int
		at    time.Duration
	}
	var begins []begin
	var entry, app bool
	for _, m := range marks {
		if phase := phaseAfter(0, m); phase > 0 && m.HostNanos > 0 {
			begins = append(begins, begin{phase, ran(m.HostNanos)})
			entry, app = entry || phase == 1, app || phase == 2
		}
	}
	phase := 0
	for i := range taken {
		for _, b := range begins {
			if b.at <= taken[i].Running {
				phase = max(phase, b.phase)
			}
		}
		for _, s := range taken[i].Stacks {
			if !entry && s.CPU.Long {
				phase = max(phase, 1)
			}
			if !app && !s.CPU.Privileged {
				phase = 2
			}
		}
		taken[i].phase = phase
	}
}

// sampledProfile turns the samples of a number of boots into a profile.
func (p *plan) sampledProfile(taken []snapshot, phases []string, boots int, periodNanos int64) (*boottrace.Profile, error) {
	// What was executed, to find out what was mapped where. Code of a kernel's own in the lower half is no program's.
	const piece = 16
	known := make(map[uint64]bool)
	var seen []symbols.Seen
	for i := range taken {
		for _, s := range taken[i].Stacks {
			if taken[i].phase == 0 || s.CPU.Privileged && s.CPU.PC < upperHalf && p.target.flavour == image.FlavourLinux {
				continue
			}
			for off := 0; off+piece <= len(s.Code); off += piece {
				if addr := s.CPU.PC + uint64(off); !known[addr] {
					known[addr] = true
					seen = append(seen, symbols.Seen{Addr: addr, Code: s.Code[off : off+piece]})
				}
			}
		}
	}
	space, err := p.openSpace(seen)
	if err != nil {
		return nil, err
	}
	defer space.close()
	for _, n := range space.notes {
		if !slices.Contains(p.notes, n) {
			p.notes = append(p.notes, n)
		}
	}

	b := boottrace.NewBuilder(boottrace.Sampled, space.mappings(), space.lookup)
	for i, name := range phases {
		if slices.ContainsFunc(taken, func(s snapshot) bool { return s.phase == i }) {
			b.Phase(name)
		}
	}
	for _, t := range taken {
		for _, s := range t.Stacks {
			node := 0
			if t.phase == 0 {
				node = b.Named(0, frameFirmware, 0)
			} else {
				addrs, whole := space.unwind(s)
				if !whole {
					node = b.Named(0, frameUnknown, 0)
				}
				for _, addr := range slices.Backward(addrs) {
					node = b.Child(node, addr, 0)
				}
			}
			if s.CPU.Halted {
				node = b.Named(node, frameHalted, 0)
			}
			b.Add(boottrace.Sample{
				Stack: node, Phase: b.Phase(phases[t.phase]), CPU: s.CPU.Index, User: !s.CPU.Privileged,
				Nanos: t.nanos / int64(boots), Count: 1,
			})
		}
	}
	profile := b.Profile()
	profile.PeriodNanos = periodNanos
	return profile, nil
}

// unwind returns the addresses of a stack, the innermost first and those of callers in the calls. whole tells that none is missing at
// the outer end. Callers count as far as they are known code.
func (s *space) unwind(stack sample.Stack) (addrs []uint64, whole bool) {
	addrs = []uint64{stack.CPU.PC}
	if !stack.CPU.Long {
		return addrs, true // entry code, which nothing calls
	}
	callers := stack.Callers
	if near, ok := s.near(stack); ok {
		callers = slices.Concat([]sample.Call{near}, callers)
	}
	for _, c := range callers {
		site := c.Return - 1
		if mapping, _ := s.Lookup(site); mapping < 0 {
			return addrs, false
		}
		addrs = append(addrs, site)
	}
	return addrs, stack.Whole && (len(stack.Callers) > 0 || s.keepsFrames(stack.CPU.PC))
}

// keepsFrames tells whether the code at an address keeps frame pointers for certain, as all Go code does.
func (s *space) keepsFrames(addr uint64) bool {
	mapping, _ := s.Lookup(addr)
	if mapping < 0 {
		return false
	}
	o := s.Mappings()[mapping].Object
	return o != nil && slices.Contains(o.Sources(), "pclntab")
}

// near returns the call that a function without a frame of its own was reached by. The chain of frame pointers goes on with its
// caller's caller.
func (s *space) near(stack sample.Stack) (c sample.Call, ok bool) {
	mapping, frames := s.Lookup(stack.CPU.PC)
	if len(frames) == 0 {
		return c, false
	}
	entry := frames[len(frames)-1].Start + s.Mappings()[mapping].Bias
	code := string(stack.Code)
	switch {
	case stack.CPU.PC == entry, strings.HasPrefix(code, "\x55"), strings.HasPrefix(code, "\xc3"): // push %rbp and ret
		c = stack.Near[0]
	case strings.HasPrefix(code, "\x48\x89\xe5"): // mov %rsp, %rbp
		c = stack.Near[1]
	case len(stack.Callers) > 0 && stack.Callers[0].Target == entry:
	case stack.Near[0].Target == entry:
		c = stack.Near[0]
	}
	return c, c != sample.Call{}
}
