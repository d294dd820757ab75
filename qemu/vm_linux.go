package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firstlight-boot/firstlight/qemu/plugin"
	"github.com/firstlight-boot/firstlight/qemu/qmp"
)

// stopGrace is how long Stop lets QEMU end in order.
const stopGrace = 5 * time.Second

// VM is a running virtual machine. Its methods may be called from any goroutine.
type VM struct {
	t0      time.Time
	t0Mono  int64 // CLOCK_MONOTONIC at t0, nanoseconds
	process *os.Process
	ram     *os.File    // memfd that backs the guest's RAM, or nil
	size    int64       // of it
	low     int64       // of that, below the hole for devices
	release func() bool // stops watching the context

	dialed  chan struct{} // closed when monitor or dialErr is there
	monitor *qmp.Client
	dialErr error

	done   chan struct{} // closed when result and err are there
	result *Result
	err    error

	mu      sync.Mutex
	ended   bool  // the process has been waited for: its id may be another's
	stopped bool  // by Stop
	cause   error // why we killed it
}

// tail keeps the last TailSize bytes of a stream.
type tail struct {
	buf  []byte
	some bool
}

func (t *tail) add(p []byte) {
	t.some = t.some || len(p) > 0
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - TailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
}

// closers closes what a failing Start has opened so far.
type closers []*os.File

func (c closers) Close() {
	for _, f := range c {
		f.Close()
	}
}

// memfd returns an anonymous file of the given size.
func memfd(name string, size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, fmt.Errorf("memfd %s: %w", name, err)
	}
	return f, nil
}

// socketPair returns our end and QEMU's.
func socketPair(name string) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair %s: %w", name, err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that closing it ends a read
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, fmt.Errorf("socket pair %s: %w", name, err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// Start boots c. The VM lives until the guest ends it, Stop, Kill or Close is called, or ctx is done; so ctx carries the
// deadline. A nil error means that the process runs, not that the guest does: errors of QEMU itself come from Wait.
func (q *QEMU) Start(ctx context.Context, c Config, ev Events) (_ *VM, err error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	var ours, theirs closers
	defer func() {
		theirs.Close()
		if err != nil {
			ours.Close()
		}
	}()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	theirs = append(theirs, null)
	files := []*os.File{null}
	give := func(f *os.File) (fd int) {
		files = append(files, f)
		return len(files) - 1
	}
	pipe := func() (r *os.File, err error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		ours, theirs = append(ours, r), append(theirs, w)
		give(w)
		return r, nil
	}
	pair := func(name string) (f *os.File, fd int, err error) {
		f, t, err := socketPair(name)
		if err != nil {
			return nil, 0, err
		}
		ours, theirs = append(ours, f), append(theirs, t)
		return f, give(t), nil
	}

	w := wires{console: 1}
	console, err := pipe()
	if err != nil {
		return nil, err
	}
	// A guest that does not ask whether the port is ready loses bytes when the pipe is full, so it is as large as any user's may be.
	if raw, err := console.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 1<<20) })
	}
	stderr, err := pipe()
	if err != nil {
		return nil, err
	}
	var ram *os.File
	if !c.AnonymousRAM {
		if ram, err = memfd("firstlight-ram", c.MemoryBytes); err != nil {
			return nil, err
		}
		ours = append(ours, ram)
		w.ram = give(ram)
	}
	var marks, monitor, counts, points *os.File
	if marks, w.marks, err = pair("marks"); err != nil {
		return nil, err
	}
	ports := make([]*os.File, len(c.Ports))
	w.ports = make([]int, len(c.Ports))
	for i := range c.Ports {
		if ports[i], w.ports[i], err = pair("port"); err != nil {
			return nil, err
		}
	}
	if c.Monitor {
		if monitor, w.monitor, err = pair("monitor"); err != nil {
			return nil, err
		}
	}
	if c.KernelImage != nil {
		kernel, err := memfd("firstlight-kernel", 0)
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, kernel)
		if _, err := kernel.Write(c.KernelImage); err != nil {
			return nil, err
		}
		w.kernel = give(kernel)
	}
	if pc, ok := c.plugin(); ok {
		path, err := plugin.Build(ctx, q.CacheDir, plugin.API(q.Version.Major))
		if err != nil {
			return nil, err
		}
		if counts, err = memfd("firstlight-counts", 0); err != nil {
			return nil, err
		}
		ours = append(ours, counts)
		liveFD := 0
		if ev.Point != nil {
			if points, err = pipe(); err != nil {
				return nil, err
			}
			liveFD = len(files) - 1
		}
		if c.WatchPorts {
			for range 1 + len(c.Ports) {
				log, err := memfd("firstlight-log", 0)
				if err != nil {
					return nil, err
				}
				theirs = append(theirs, log)
				w.logs = append(w.logs, give(log))
			}
		}
		if !q.Version.Less(physicalVersion) {
			pc.LowRAM = c.lowRAM()
		}
		w.plugin = pc.Arg(path, give(counts), w.ram, liveFD, w.logs...)
	}

	var trace *os.File
	if c.TraceDisks && len(c.Disks) > 0 {
		if trace, err = traceFile(); err != nil {
			return nil, err
		}
		ours = append(ours, trace)
		w.trace = give(trace)
	}

	vm := &VM{ram: ram, size: c.MemoryBytes, low: c.lowRAM(), done: make(chan struct{})}
	argv := append([]string{q.Path}, c.args(w)...)
	started := make(chan error)
	exited := make(chan exit, 1)
	go func() {
		// Pdeathsig is sent when the thread that forked ends, not the process: so the thread stays until QEMU is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var p *os.Process
		spawn := func() (err error) {
			vm.t0 = time.Now()
			vm.t0Mono = monotonic()
			p, err = os.StartProcess(argv[0], argv, &os.ProcAttr{Files: files, Sys: &syscall.SysProcAttr{
				Setpgid:   true, // a terminal's Ctrl-C is for the supervisor
				Pdeathsig: syscall.SIGKILL,
			}})
			return err
		}
		var err error
		if ram != nil && sharedHugePages() {
			err = withoutHugePages(spawn)
		} else {
			err = spawn()
		}
		if err != nil && p != nil {
			_ = p.Kill() // it runs with settings that could not be put back
			_, _ = p.Wait()
		}
		vm.process = p
		started <- err
		if err != nil {
			return
		}
		state, err := p.Wait()
		exited <- exit{state, err, time.Since(vm.t0)}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	vm.release = context.AfterFunc(ctx, func() {
		err := ctx.Err()
		if cause := context.Cause(ctx); !errors.Is(cause, err) {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		vm.kill(err)
	})
	// QEMU has its own copies by now; as long as we hold ours, the streams would not end.
	theirs.Close()
	theirs = nil

	var consoleTail, marksTail, stderrTail tail
	var streams sync.WaitGroup
	stream := func(f *os.File, t *tail, event func(time.Duration, []byte)) {
		streams.Go(func() {
			defer f.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := f.Read(buf)
				at := time.Since(vm.t0)
				if n > 0 {
					if t != nil {
						t.add(buf[:n])
					}
					if event != nil {
						event(at, buf[:n])
					}
				}
				if err != nil {
					return // the end of QEMU is the end of the stream
				}
			}
		})
	}
	stream(console, &consoleTail, ev.Console)
	stream(marks, &marksTail, ev.Mark)
	for i, port := range c.Ports {
		stream(ports[i], nil, func(at time.Duration, p []byte) {
			if ev.Port != nil {
				ev.Port(at, port, p)
			}
		})
	}
	stream(stderr, &stderrTail, func(time.Duration, []byte) {
		// After this QEMU would sit still until the deadline: it stops the guest and waits for a debugger.
		if bytes.Contains(stderrTail.buf, []byte("KVM internal error")) {
			vm.kill(fmt.Errorf("%w: KVM could not go on", ErrFailed))
		}
	})

	if points != nil {
		streams.Go(func() {
			defer points.Close()
			var b [plugin.LiveSize]byte
			for {
				if _, err := io.ReadFull(points, b[:]); err != nil {
					return
				}
				m := plugin.DecodeLive(b)
				m.Nanos -= vm.t0Mono
				ev.Point(m)
			}
		})
	}

	if trace != nil {
		go vm.boundTrace(trace)
	}
	go func() {
		e := <-exited
		vm.mu.Lock()
		vm.ended = true
		vm.mu.Unlock()
		vm.release()
		streams.Wait()
		vm.finish(e, &consoleTail, &stderrTail, consoleTail.some || marksTail.some, counts, trace)
	}()

	// The negotiation takes part in no boot's time: nobody waits for it but Monitor.
	vm.dialed = make(chan struct{})
	if monitor == nil {
		vm.dialErr = fmt.Errorf("%w: the VM was started without a monitor", ErrConfig)
		close(vm.dialed)
	} else {
		go func() {
			defer close(vm.dialed)
			vm.monitor, vm.dialErr = qmp.Dial(ctx, monitor, ev.Monitor)
		}()
	}
	return vm, nil
}

// monotonic reads CLOCK_MONOTONIC in nanoseconds.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // which every Linux has
	return ts.Nano()
}

// sinceT0 turns the times of marks from the plugin's clock to times since t0.
func (vm *VM) sinceT0(marks []plugin.Mark) {
	for i := range marks {
		marks[i].Nanos -= vm.t0Mono
	}
}

// toPhysical turns the offsets of pages to physical addresses.
func (vm *VM) toPhysical(t *plugin.Tree) {
	if t == nil || vm.low == vm.size {
		return
	}
	const pageSize = 4096
	for i := range t.Firsts {
		f := &t.Firsts[i]
		physical(vm.low, int64(f.Page)*pageSize, pageSize, func(addr, _ int64) { f.Page = uint32(addr / pageSize) })
	}
}

// exit is the end of the process.
type exit struct {
	state *os.ProcessState
	err   error
	wall  time.Duration
}

// finish turns the end of the process into the result. spoke says whether the guest has written anything.
func (vm *VM) finish(e exit, console, stderr *tail, spoke bool, counts, trace *os.File) {
	defer close(vm.done)
	if counts != nil {
		defer counts.Close()
	}
	if trace != nil {
		defer trace.Close()
	}
	vm.mu.Lock()
	cause, stopped := vm.cause, vm.stopped
	vm.mu.Unlock()
	r := &Result{Wall: e.wall, Status: -1, Console: console.buf, Stderr: string(stderr.buf), spoke: spoke}
	vm.result = r
	fail := func(err error) {
		vm.err = &RunError{After: e.wall, Console: r.Console, Stderr: r.Stderr, Err: err}
	}
	if e.err != nil {
		fail(fmt.Errorf("%w: waiting for it: %w", ErrFailed, e.err))
		return
	}
	r.Status = e.state.ExitCode()
	if ws, ok := e.state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		r.Signal = unix.SignalName(ws.Signal())
	}
	_, guest := r.GuestExit()
	switch {
	case guest || r.Status == 0:
		// It ended of its own or in order, whatever we wanted from it at that moment.
	case cause != nil:
		fail(cause)
		return
	case stopped:
		if counts != nil {
			fail(fmt.Errorf("%w: it did not end in order in %v", ErrFailed, stopGrace))
		}
		return
	case r.Signal != "":
		fail(fmt.Errorf("%w: killed by %s", ErrFailed, r.Signal))
		return
	default:
		fail(fmt.Errorf("%w with exit status %d", ErrFailed, r.Status))
		return
	}
	if counts != nil {
		info, err := counts.Stat()
		if err == nil {
			r.Counts, err = plugin.Decode(counts, info.Size())
		}
		if err == nil {
			vm.sinceT0(r.Counts.Marks)
			vm.toPhysical(r.Counts.Tree)
		}
		if err != nil {
			fail(fmt.Errorf("%w: %w", ErrFailed, err))
		}
	}
	if trace != nil {
		r.Disks, r.DisksErr = vm.readTrace(trace)
	}
}

// PID returns QEMU's process id.
func (vm *VM) PID() int { return vm.process.Pid }

// T0 returns the instant before QEMU was spawned, with its monotonic reading: the zero of Events' times and Result.Wall.
func (vm *VM) T0() time.Time { return vm.t0 }

// Wait waits for the end of the VM, after which no function of Events is called any more. The Result is there with every
// error; the error, if any, is a *RunError. A guest that exits with whatever value is no error.
func (vm *VM) Wait() (*Result, error) {
	<-vm.done
	return vm.result, vm.err
}

// Done is closed when Wait would return at once.
func (vm *VM) Done() <-chan struct{} { return vm.done }

// signal sends s unless the process is gone.
func (vm *VM) signal(s syscall.Signal) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if !vm.ended {
		// It fails only if the process has ended since, which is what was wanted.
		_ = vm.process.Signal(s)
	}
}

func (vm *VM) kill(cause error) {
	vm.mu.Lock()
	if vm.cause == nil {
		vm.cause = cause
	}
	vm.mu.Unlock()
	vm.signal(syscall.SIGKILL)
}

// Stop ends a VM that has served its purpose and waits for its end. QEMU ends in order, so that a counting boot still
// reports; Wait then returns no error.
func (vm *VM) Stop() {
	vm.mu.Lock()
	vm.stopped = true
	vm.mu.Unlock()
	vm.signal(syscall.SIGTERM)
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-vm.done:
	case <-grace.C:
		vm.signal(syscall.SIGKILL)
		<-vm.done
	}
}

// Kill ends the VM at once. Wait then returns a *RunError that wraps context.Canceled.
func (vm *VM) Kill() { vm.kill(context.Canceled) }

// Close kills the VM if it runs, waits for its end and frees the guest's memory.
func (vm *VM) Close() error {
	vm.Kill()
	<-vm.done
	var err error
	<-vm.dialed
	if vm.monitor != nil {
		err = vm.monitor.Close()
	}
	if vm.ram != nil {
		if cerr := vm.ram.Close(); !errors.Is(cerr, os.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	return err
}

// errAnonymous is the answer to questions about the memory of a VM that has it to itself.
var errAnonymous = fmt.Errorf("%w: the guest's RAM is anonymous", ErrUnsupported)

// extents calls f for each allocated range of the guest's backing file.
func (vm *VM) extents(f func(off, size int64)) error {
	if vm.ram == nil {
		return errAnonymous
	}
	for off := int64(0); off < vm.size; {
		data, err := vm.ram.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("guest memory: %w", err)
		}
		hole, err := vm.ram.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("guest memory: %w", err)
		}
		f(data, hole-data)
		off = hole
	}
	return nil
}

// TouchedBytes returns how much of the guest's RAM was ever touched, by QEMU's loader or by the guest: the allocated
// ranges of its backing file, in whole pages. It works until Close, also after the end of the VM.
func (vm *VM) TouchedBytes() (int64, error) {
	var total int64
	err := vm.extents(func(_, size int64) { total += size })
	return total, err
}

// Touched calls f for each touched range of the guest's physical memory, in order.
func (vm *VM) Touched(f func(addr, size int64)) error {
	return vm.extents(func(off, size int64) { physical(vm.low, off, size, f) })
}

// ReadAt reads the guest's physical memory up to the hole for devices, or above it. It works until Close, also after the end.
func (vm *VM) ReadAt(p []byte, addr int64) (int, error) {
	if vm.ram == nil {
		return 0, errAnonymous
	}
	off, room := inFile(vm.low, vm.size, addr)
	if room == 0 {
		return 0, io.EOF
	}
	short := int64(len(p)) > room
	if short {
		p = p[:room]
	}
	n, err := vm.ram.ReadAt(p, off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// SetSizes returns the proportional and the resident set size of the VMM in bytes, the guest's touched memory included, as /proc says
// them now. It fails once the process is gone; a counting boot reports the figures of its end in Counts.
func (vm *VM) SetSizes() (pss, rss int64, err error) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.ended {
		return 0, 0, os.ErrProcessDone
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(vm.process.Pid) + "/smaps_rollup")
	if err != nil {
		return 0, 0, err
	}
	sizes := make(map[string]int64)
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "Pss" && name != "Rss" {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 40)
		if err != nil {
			return 0, 0, fmt.Errorf("smaps_rollup: %w", err)
		}
		sizes[name] = kib << 10
	}
	if len(sizes) < 2 {
		return 0, 0, fmt.Errorf("smaps_rollup of process %d has no sizes: it is ending", vm.process.Pid)
	}
	return sizes["Pss"], sizes["Rss"], nil
}

// AllocatedBytes returns how much of the guest's RAM is allocated on the host now. It is TouchedBytes in all but its cost, which is
// that of one fstat.
func (vm *VM) AllocatedBytes() (int64, error) {
	if vm.ram == nil {
		return 0, errAnonymous
	}
	info, err := vm.ram.Stat()
	if err != nil {
		return 0, fmt.Errorf("guest memory: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%w: the size of the guest's memory", ErrUnsupported)
	}
	return st.Blocks * 512, nil
}

// Monitor returns the QMP client of a VM whose Config asked for one, once the monitor has been greeted.
func (vm *VM) Monitor(ctx context.Context) (*qmp.Client, error) {
	select {
	case <-vm.dialed:
		return vm.monitor, vm.dialErr
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the monitor: %w", ctx.Err())
	}
}
