package bootprof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
)

// plan is what to boot, and how.
type plan struct {
	q       *qemu.QEMU
	target  *target
	config  qemu.Config
	until   string // a ready condition; "" is the default: the first output or the exit, and the app runs to its end
	timeout time.Duration
	profile profiles
	io      bool          // record disk requests, in counting boots too
	mustIO  bool          // and fail if that cannot be done
	disks   []os.FileInfo // of a plan with io, as they were before the boots
	request uint64        // address of the kernel's function that makes a disk request; 0: not known

	milestones []milestone // seen under TCG only
	portMarks  []customMark

	exact *boottrace.Profile // of the first counting boot, if it was asked for
	notes []string           // on the profile and the memory, for the user

	contents *contents // of the guest's files; nil before they are needed
}

// outcome is a run with what is not recorded of it.
type outcome struct {
	boottrace.Run
	tail   []byte // the console's end
	counts *plugin.Counts

	memory   *survey // nil if it was not to be seen
	rssBytes uint64  // of the VMM
	balloon  map[string]uint64
}

// boot makes one run. A boot that did not get to its end is an error; an app that failed is not.
func (p *plan) boot(ctx context.Context, kind boottrace.Kind) (*outcome, error) {
	o, err := p.bootOnly(ctx, kind)
	if err == nil && o.counts != nil && o.counts.Tree != nil && p.exact == nil {
		var notes []string
		p.exact, notes, err = p.exactProfile(o)
		for _, n := range notes {
			p.note(n)
		}
		o.counts, o.memory = nil, nil
	}
	return o, err
}

// bootOnly makes one run, without what the host works out of it later.
func (p *plan) bootOnly(ctx context.Context, kind boottrace.Kind) (*outcome, error) {
	c := p.config
	w := &watcher{until: p.until, flavour: p.target.flavour, portMarks: p.portMarks, ready: make(chan struct{}), again: make(chan struct{})}
	switch kind {
	case boottrace.Floor:
		c.Kernel, c.KernelImage, c.Initrd, c.Append = "", qemu.FloorKernel(), "", ""
		w.until = boottrace.UntilExit
	case boottrace.Counting:
		c.Accel, c.CPU = qemu.TCG, "" // whatever the timed boots run on
		c.Counting = &qemu.Counting{Tree: p.profile.exact, Memory: p.profile.memory}
		c.TraceDisks = p.io
	case boottrace.Traced:
		c.TraceDisks = true
	}
	request := -1 // index of the point for disk requests
	events := qemu.Events{Console: w.console, Mark: w.marks, Port: w.port}
	if kind != boottrace.Floor && c.Accel != qemu.KVM {
		for _, m := range p.milestones {
			c.Points = append(c.Points, m.point)
		}
		if len(p.milestones) > 0 {
			w.milestones = p.milestones
			events.Point = w.point
		}
		// Where marks are not written by an instruction that is known, each is looked for.
		c.WatchPorts = p.target.flavour == flavourOSv || len(p.portMarks) > 0 || kind == boottrace.Counting && p.target.mark == 0
		if kind == boottrace.Counting && p.target.mark != 0 {
			c.Points = append(c.Points, plugin.Point{Addr: p.target.mark, Phase: plugin.PhaseEach})
		}
		if kind == boottrace.Counting && p.request != 0 {
			request = len(c.Points)
			c.Points = append(c.Points, plugin.Point{Addr: p.request})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()

	// The garbage collector would take its time from the boot. What a boot allocates is bounded.
	gc := debug.SetGCPercent(-1)
	defer debug.SetGCPercent(gc)
	began, beganTSC := time.Now(), rdtsc()
	vm, err := p.q.Start(ctx, c, events)
	if err != nil {
		return nil, err
	}
	defer vm.Close()
	w.watch(vm)
	o := &outcome{Run: boottrace.Run{Kind: kind}}
	stopped := false
	ready := w.ready
	if w.until == "" || w.until == boottrace.UntilExit {
		ready = nil // the guest ends of its own
	}
	if c.Balloon && kind != boottrace.Floor {
		o.balloon = p.balloon(ctx, vm, w)
	}
	select {
	case <-ready: // a server never exits, so it ends here
		if pss, rss, err := vm.SetSizes(); err == nil && kind == boottrace.Timed {
			o.PSSBytes, o.rssBytes = uint64(pss), uint64(rss)
		}
		vm.Stop()
		stopped = true
	case <-w.again:
		vm.Stop()
	case <-vm.Done():
	}
	result, err := vm.Wait()
	if err != nil {
		return nil, p.explain(err, w)
	}
	if ticks, d := rdtsc()-beganTSC, time.Since(began); d >= time.Millisecond {
		o.HostTSCHz = uint64(float64(ticks) / d.Seconds())
	}
	o.tail = result.Console
	o.Marks, o.End = w.stream.Marks, w.stream.End
	o.Output, o.OutputBytes = w.output, w.outputBytes
	if kind == boottrace.Timed {
		o.SetMessages(w.arrived)
	}
	again, rebooted := w.rebooted()
	switch {
	case stopped:
	case rebooted:
		o.ExitNanos = again.Nanos
	default:
		o.ExitNanos = result.Wall.Nanoseconds()
	}
	if kind == boottrace.Floor {
		o.Until, o.ReadyNanos = boottrace.UntilExit, o.ExitNanos
		if v, ok := result.GuestExit(); !ok || v != qemu.FloorExit {
			return nil, failure(result, "the floor guest did not exit as it should (QEMU's status %d)", result.Status)
		}
		return o, nil
	}
	debug.SetGCPercent(gc) // the guest is gone
	p.setMemory(o, vm)
	if p.target.record != 0 {
		page := make([]byte, abi.RecordSize)
		if _, err := vm.ReadAt(page, p.target.record); err == nil {
			if r, err := boottrace.ParseRecord(page); err == nil {
				o.SetRecord(r)
			}
		}
	}
	switch {
	case w.readyNanos > 0:
		o.Until = w.kind()
		o.SetReady(w.readyNanos)
	case w.until == "" || w.until == boottrace.UntilExit:
		o.Until = boottrace.UntilExit
		o.SetReady(o.ExitNanos)
	}
	if v, ok := result.GuestExit(); ok && o.End == nil && w.foreign() && !rebooted {
		o.End = &boottrace.End{How: abi.EndExited, Code: uint32(v)}
	}
	if o.End == nil && p.target.appends { // the image's app is the first program, and free to end
		o.End = initEnd(w.output)
	}
	if o.End == nil && p.target.flavour == image.FlavourLinux && linuxPanicked(w.output) {
		o.End = &boottrace.End{How: abi.EndPanic}
	}
	if err := p.setRequests(o, result); err != nil {
		return nil, err
	}
	if counts := result.Counts; counts != nil && c.WatchPorts {
		p.setPortTimes(w, c, counts)
		o.Marks = w.stream.Marks
	}
	o.AddMarks(w.onPorts)
	if counts := result.Counts; counts != nil && len(p.milestones) > 0 {
		o.AddMarks(p.milestoneMarks(counts.Marks))
	}
	if counts := result.Counts; counts != nil && kind == boottrace.Counting {
		o.counts = counts
		if counts.Tree == nil { // which takes far more memory than a boot
			o.PSSBytes, o.rssBytes = uint64(counts.PSS), uint64(counts.RSS)
		}
		p.setCounts(o, w, counts)
		if request >= 0 {
			o.countRequests(counts, request)
		}
	}
	o.setOverTime(w)
	switch {
	case o.End != nil && (o.End.How != abi.EndExited && o.End.How != abi.EndKilled):
		return nil, failure(result, "%s", o.End)
	case p.target.flavour == flavourOSv && !stopped && !slices.ContainsFunc(o.Marks, func(m boottrace.Mark) bool { return m.ID == boottrace.MarkOSv }):
		return nil, failure(result, "the guest ended after %v and never wrote the mark of an OSv that has booted; too little --memory does that", result.Wall.Round(time.Millisecond))
	case o.ReadyNanos == 0 && rebooted:
		return nil, failure(result, "the guest rebooted after %v and was never ready (--until %s)", time.Duration(again.Nanos).Round(time.Millisecond), w.until)
	case o.ReadyNanos == 0:
		return nil, failure(result, "the guest ended after %v and was never ready (--until %s)", result.Wall.Round(time.Millisecond), w.until)
	case o.End == nil && !stopped && !w.foreign():
		return nil, failure(result, "the guest reset after %v, before the app's end; a triple fault does that, and so does too little --memory", result.Wall.Round(time.Millisecond))
	}
	return o, nil
}

// setPortTimes gives the marks that were seen as bytes on ports the times and counts of the instructions that wrote those.
func (p *plan) setPortTimes(w *watcher, c qemu.Config, counts *plugin.Counts) {
	written := make([][]plugin.Mark, 1+len(c.Ports)) // by log
	for _, m := range counts.Marks {
		if i := m.Point - len(c.Points); i >= 0 && i < len(written) {
			written[i] = append(written[i], m)
		}
	}
	set := func(m *boottrace.Mark, log, at int) {
		if at < len(written[log]) {
			was := m.HostNanos
			m.HostNanos, m.Instructions = max(written[log][at].Nanos, 1), written[log][at].Instructions
			if w.readyNanos == was {
				w.readyNanos = m.HostNanos
			}
		}
	}
	for i := range w.stream.Marks {
		set(&w.stream.Marks[i], 0, w.stream.First[i])
	}
	for i := range w.onPorts {
		set(&w.onPorts[i], 1+slices.Index(c.Ports, w.portsAt[i].port), w.portsAt[i].offset)
	}
}

// setCounts gives the run and the marks that the guest wrote their numbers of instructions.
func (p *plan) setCounts(o *outcome, w *watcher, counts *plugin.Counts) {
	var written []uint64 // instructions before each byte that the guest wrote to the mark port
	for _, m := range counts.Marks {
		if m.Point == len(p.milestones) && p.target.mark != 0 {
			written = append(written, m.Instructions)
		}
	}
	next := 0
	for i := range o.Marks {
		if o.Marks[i].Instructions == 0 && next < len(w.stream.First) && p.target.mark != 0 { // else it is a milestone, or of the boot record alone
			if at := w.stream.First[next]; at < len(written) {
				o.Marks[i].Instructions = written[at]
			}
			next++
		}
	}
	if o.Until == boottrace.UntilExit {
		o.Instructions = counts.Total
		if again, ok := w.rebooted(); ok {
			o.Instructions = again.Instructions
		}
		return
	}
	for _, m := range o.Marks {
		if m.IsReady(o.Until) {
			o.Instructions = m.Instructions
			return
		}
	}
}

// bootError is a boot that failed: its text has the end of the console.
type bootError struct{ error }

func failure(r *qemu.Result, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if s := strings.TrimSpace(string(r.Console)); s != "" {
		text += "\nthe console ended with:\n" + s
	} else {
		text += "\nthe console stayed empty"
	}
	if s := strings.TrimSpace(r.Stderr); s != "" {
		text += "\nQEMU said:\n" + s
	}
	return &exitError{exitFailed, bootError{errors.New(text)}}
}

// explain says what an error of the VMM means for the boot.
func (p *plan) explain(err error, w *watcher) error {
	if errors.Is(err, context.DeadlineExceeded) {
		what := "never became ready"
		if w.until == boottrace.UntilExit {
			what = "did not exit"
		}
		advice := "a hang, or give it more with --timeout"
		if w.readyNanos > 0 {
			what = fmt.Sprintf("was ready after %.2f ms (%s) but did not exit", float64(w.readyNanos)/1e6, w.kind())
			advice = "if it is a server, end the boot there with --until " + w.kind()
		}
		return &exitError{exitFailed, bootError{fmt.Errorf("the guest %s within %v: %s\n%w", what, p.timeout, advice, err)}}
	}
	return err
}

// watcher takes what the guest says while it runs. Console and marks come on goroutines of their own.
type watcher struct {
	until   string
	flavour string // of the kernel
	ready   chan struct{}

	mu          sync.Mutex
	milestones  []milestone
	spotter     *spotter      // of milestones; made by the first point
	entries     []plugin.Mark // executions of the kernel's entry
	again       chan struct{} // closed at the second of them
	readyNanos  int64
	stream      boottrace.MarkStream
	portMarks   []customMark
	onPorts     []boottrace.Mark // of portMarks
	portsAt     []portByte       // which bytes those were
	portBytes   map[uint16]int   // that were written so far
	output      []byte
	outputBytes uint64
	arrivals    []arrival // of output
	memory      memoryWatch
}

// arrival is when the host saw the bytes of the output from an offset on.
type arrival struct {
	offset int
	nanos  int64
}

// arrived returns when the host saw the byte at an offset of the output.
func (w *watcher) arrived(offset int) int64 {
	i := sort.Search(len(w.arrivals), func(i int) bool { return w.arrivals[i].offset > offset })
	if i == 0 {
		return 0
	}
	return w.arrivals[i-1].nanos
}

// seesOutput tells whether one of the milestones is the app's first output.
func (w *watcher) seesOutput() bool {
	return slices.ContainsFunc(w.milestones, func(m milestone) bool { return m.mark.ID == abi.MarkOutput })
}

// foreign tells whether the kernel is not ours.
func (w *watcher) foreign() bool { return w.flavour != image.FlavourNative }

// kind is what the guest is being ready for.
func (w *watcher) kind() string {
	switch {
	case w.until != "":
		return w.until
	case w.flavour == flavourOSv: // whose kernel writes to the console too
		return boottrace.UntilMark + boottrace.Mark{ID: boottrace.MarkOSv}.Label()
	}
	return boottrace.UntilOutput
}

func (w *watcher) setReady(at time.Duration) {
	if w.readyNanos == 0 {
		w.memory.look(at, true)
		w.readyNanos = max(at.Nanoseconds(), 1)
		close(w.ready)
	}
}

func (w *watcher) console(at time.Duration, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.foreign() && !w.seesOutput() && w.kind() == boottrace.UntilOutput {
		w.setReady(at)
	}
	if len(w.output) < boottrace.MaxOutput {
		w.memory.look(at, false)
		w.arrivals = append(w.arrivals, arrival{len(w.output), max(at.Nanoseconds(), 1)})
	}
	w.outputBytes += uint64(len(p))
	w.output = append(w.output, p[:min(len(p), boottrace.MaxOutput-len(w.output))]...)
}

// port takes bytes that the guest wrote to a port. The first of each value that was asked for is a mark.
func (w *watcher) port(at time.Duration, port uint16, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written(at, port, p)
}

// portByte is one of the bytes that were written to a port.
type portByte struct {
	port   uint16
	offset int // among them
}

func (w *watcher) written(at time.Duration, port uint16, p []byte) {
	if w.portBytes == nil {
		w.portBytes = make(map[uint16]int)
	}
	before := w.portBytes[port]
	w.portBytes[port] += len(p)
	for _, c := range w.portMarks {
		i := bytes.IndexByte(p, c.value)
		if c.port != port || i < 0 || slices.ContainsFunc(w.onPorts, func(m boottrace.Mark) bool { return m.Name == c.name }) {
			continue
		}
		w.portsAt = append(w.portsAt, portByte{port, before + i})
		m := boottrace.Mark{ID: abi.MarkNamed, Name: c.name, HostNanos: max(at.Nanoseconds(), 1)}
		w.onPorts = append(w.onPorts, m)
		if m.IsReady(w.kind()) {
			w.setReady(at)
		}
	}
}

func (w *watcher) marks(at time.Duration, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.memory.look(at, false)
	w.written(at, abi.PortMark, p)
	for _, m := range w.stream.Write(at.Nanoseconds(), p) {
		if m.IsReady(w.kind()) {
			w.setReady(at)
		}
	}
}

// point takes the execution of a milestone.
func (w *watcher) point(m plugin.Mark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.spotter == nil {
		w.spotter = newSpotter(w.milestones)
	}
	if mark, ok := w.spotter.take(m); ok && mark.IsReady(w.kind()) {
		w.setReady(time.Duration(m.Nanos))
	}
	if m.Point < len(w.milestones) && w.milestones[m.Point].mark.ID == abi.MarkEntry {
		if w.entries = append(w.entries, m); len(w.entries) == 2 {
			close(w.again)
		}
	}
}

// rebooted tells when the kernel was entered for the second time. A guest can restart its firmware without a reset, which would
// end QEMU.
func (w *watcher) rebooted() (again plugin.Mark, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.entries) < 2 {
		return again, false
	}
	return w.entries[1], true
}
