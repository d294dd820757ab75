package qemu

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firstlight-boot/firstlight/qemu/plugin"
)

// TestMain is also the supervisor that TestSupervisorDies ends: a process that boots a hanging guest, prints the process
// id of QEMU, and stops the guest on SIGTERM and SIGINT.
func TestMain(m *testing.M) {
	if os.Getenv("FIRSTLIGHT_TEST_SUPERVISE") == "" {
		os.Exit(m.Run())
	}
	if err := supervise(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func supervise() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	q, err := Find(ctx, "")
	if err != nil {
		return err
	}
	var pid int
	booted := make(chan struct{})
	vm, err := q.Start(ctx, Config{KernelImage: guest(say(0x3f8, "up\n"), hang)}, Events{Console: func(_ time.Duration, p []byte) {
		<-booted
		fmt.Println(pid)
	}})
	if err != nil {
		return err
	}
	defer vm.Close()
	pid = vm.PID()
	close(booted)
	if _, err := vm.Wait(); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the guest ended with %w", err)
	}
	return nil
}

// processEnd returns a function that fails the test unless the process pid ends within a few seconds.
func processEnd(t *testing.T, pid int) func() {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	return func() {
		t.Helper()
		defer unix.Close(fd)
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(fds, 10_000)
			if err == unix.EINTR {
				continue
			}
			if err != nil || n != 1 {
				t.Errorf("QEMU (process %d) is still there: %v", pid, err)
			}
			return
		}
	}
}

// noLitter makes the test's temporary directory private and returns a function that fails the test if anything is in it.
func noLitter(t *testing.T) (dir string, check func()) {
	t.Helper()
	dir = t.TempDir()
	t.Setenv("TMPDIR", dir)
	return dir, func() {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

func TestSupervisorDies(t *testing.T) {
	find(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			dir, check := noLitter(t)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "FIRSTLIGHT_TEST_SUPERVISE=1", "TMPDIR="+dir)
			cmd.Stderr = t.Output()
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var pid int
			if _, err := fmt.Fscan(bufio.NewReader(out), &pid); err != nil {
				t.Fatal(err)
			}
			ended := processEnd(t, pid)
			// To the whole group, as a terminal does: QEMU must not be in it.
			if pgid, err := unix.Getpgid(pid); err != nil || pgid != pid {
				t.Errorf("QEMU's process group is %d, %v; want its own, %d", pgid, err, pid)
			}
			if err := syscall.Kill(-cmd.Process.Pid, sig); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			if sig != syscall.SIGKILL && err != nil {
				t.Errorf("the supervisor: %v", err)
			}
			ended()
			check()
		})
	}
}

func TestDeadline(t *testing.T) {
	q := find(t)
	_, check := noLitter(t)
	for limit := 2 * time.Second; ; limit *= 4 { // of which a busy host takes a good part to the output
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		vm, err := q.Start(ctx, Config{KernelImage: guest(say(0x3f8, "waiting for the moon\n"), spin)}, Events{})
		if err != nil {
			t.Fatal(err)
		}
		ended := processEnd(t, vm.PID())
		_, err = vm.Wait()
		var run *RunError
		said := err != nil && strings.Contains(err.Error(), "waiting for the moon")
		if !errors.As(err, &run) || !errors.Is(err, context.DeadlineExceeded) || !said && limit > time.Minute {
			t.Errorf("got %v", err)
		}
		ended()
		if err := vm.Close(); err != nil {
			t.Error(err)
		}
		if said || t.Failed() {
			break
		}
	}
	check()
}

func TestEndings(t *testing.T) {
	q := find(t)
	_, check := noLitter(t)
	endings := []struct {
		name string
		end  func(cancel func(), vm *VM)
		err  error
	}{
		{"cancel", func(cancel func(), vm *VM) { cancel() }, context.Canceled},
		{"kill", func(_ func(), vm *VM) { vm.Kill() }, context.Canceled},
		{"stop", func(_ func(), vm *VM) { vm.Stop() }, nil},
		{"stop twice", func(_ func(), vm *VM) { vm.Stop(); vm.Stop() }, nil},
		{"stop then cancel", func(cancel func(), vm *VM) { vm.Stop(); cancel() }, nil},
		{"close", func(_ func(), vm *VM) { vm.Close() }, context.Canceled},
	}
	for _, e := range endings {
		t.Run(e.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			up := make(chan struct{})
			vm, err := q.Start(ctx, Config{KernelImage: guest(say(0x3f8, "u"), hang)}, Events{Console: func(time.Duration, []byte) { close(up) }})
			if err != nil {
				t.Fatal(err)
			}
			ended := processEnd(t, vm.PID())
			<-up
			if pss, rss, err := vm.SetSizes(); err != nil || pss < 1<<20 || pss > rss || rss > 1<<30 {
				t.Errorf("PSS %d, RSS %d, %v", pss, rss, err)
			}
			e.end(cancel, vm)
			r, err := vm.Wait()
			if !errors.Is(err, e.err) || (err == nil) != (e.err == nil) {
				t.Errorf("got %v, want %v", err, e.err)
			}
			if r == nil || string(r.Console) != "u" {
				t.Errorf("result %+v", r)
			}
			ended()
			if _, _, err := vm.SetSizes(); !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("PSS after the end: %v", err)
			}
			if err := vm.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	check()
}

func TestStopCounting(t *testing.T) {
	q := find(t)
	up := make(chan struct{})
	vm, err := q.Start(limited(t), Config{KernelImage: guest(say(0x3f8, "u"), hang), Counting: &Counting{}, Points: []plugin.Point{{Addr: guestEntry}}},
		Events{Console: func(time.Duration, []byte) { close(up) }})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	<-up
	vm.Stop()
	r, err := vm.Wait()
	if err != nil || r.Counts == nil || len(r.Counts.Marks) != 1 {
		t.Errorf("result %+v, %v", r, err)
	}
}

func TestNothingLeaks(t *testing.T) {
	q := find(t)
	_, check := noLitter(t)
	count := func() (fds, goroutines int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries), runtime.NumGoroutine()
	}
	boot := func() {
		run(t, q, Config{KernelImage: FloorKernel(), Monitor: true, Counting: &Counting{}})
		vm, err := q.Start(limited(t), Config{Kernel: filepath.Join(t.TempDir(), "none")}, Events{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := vm.Wait(); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "none") {
			t.Errorf("without a kernel: %v", err)
		}
		vm.Close()
		broken := *q
		broken.Path = "/nonexistent/qemu"
		if _, err := broken.Start(limited(t), Config{KernelImage: FloorKernel(), Monitor: true}, Events{}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("without QEMU: %v", err)
		}
	}
	boot()
	fds, goroutines := count()
	for range 5 {
		boot()
	}
	// A goroutine that has done all its work may still be about to end; one that leaks never does.
	f, g := count()
	for deadline := time.Now().Add(time.Minute); g > goroutines && time.Now().Before(deadline); f, g = count() {
		runtime.Gosched()
	}
	if f != fds || g > goroutines {
		t.Errorf("%d descriptors and %d goroutines, were %d and %d", f, g, fds, goroutines)
	}
	check()
}

func TestQEMUFails(t *testing.T) {
	q := find(t)
	for want, c := range map[string]Config{
		"none.img": {KernelImage: FloorKernel(), Disks: []string{"/nonexistent/none.img"}},
		"no-such":  {KernelImage: FloorKernel(), CPU: "no-such"},
		"kernel":   {KernelImage: []byte("not a kernel")},
	} {
		c.Monitor = false
		vm, err := q.Start(limited(t), c, Events{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := vm.Wait()
		if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if _, ok := r.GuestExit(); ok {
			t.Errorf("%s: the guest is said to have exited", want)
		}
		vm.Close()
		c.Monitor = true
		vm, err = q.Start(limited(t), c, Events{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := vm.Wait(); !errors.Is(err, ErrFailed) {
			t.Errorf("%s with a monitor: %v", want, err)
		}
		if err := vm.Close(); err != nil {
			t.Error(err)
		}
	}
}

// disk writes a file of 1 MiB whose name needs all the quoting there is, and returns its path.
func disk(t *testing.T) string {
	path := filepath.Join(t.TempDir(), `a, b,,c='"$x.img`)
	if err := os.WriteFile(path, bytes.Repeat([]byte("firstlgt"), 1<<17), 0o444); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTwoOnOneImage(t *testing.T) {
	q := find(t)
	path := disk(t)
	for _, machine := range []Machine{MicroVM, Q35} {
		var vms []*VM
		for range 2 {
			up := make(chan struct{})
			vm, err := q.Start(limited(t), Config{Machine: machine, KernelImage: guest(say(0x3f8, "u"), hang), Disks: []string{path, path}, Monitor: true},
				Events{Console: func(time.Duration, []byte) { close(up) }})
			if err != nil {
				t.Fatal(err)
			}
			defer vm.Close()
			select {
			case <-up:
			case <-vm.Done():
				_, err := vm.Wait()
				t.Fatal(err)
			}
			vms = append(vms, vm)
		}
		for _, vm := range vms {
			var nodes []struct {
				Name  string `json:"node-name"`
				RO    bool   `json:"ro"`
				Image struct {
					Filename string
					Size     int64 `json:"virtual-size"`
				}
			}
			monitor, err := vm.Monitor(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := monitor.Execute(t.Context(), "query-named-block-nodes", map[string]bool{"flat": true}, &nodes); err != nil {
				t.Fatal(err)
			}
			seen := 0
			for _, n := range nodes {
				if !n.RO || n.Image.Filename != path || n.Image.Size != 1<<20 {
					t.Errorf("%s: node %+v", machine, n)
				}
				seen++
			}
			if seen < 2 {
				t.Errorf("%s: %d block nodes", machine, seen)
			}
		}
	}
}

func TestKernelName(t *testing.T) {
	q := find(t)
	path := filepath.Join(t.TempDir(), "k,er nel'")
	if err := os.WriteFile(path, guest(say(0x3f8, "hi"), exitWith(0)), 0o444); err != nil {
		t.Fatal(err)
	}
	for _, firmware := range []Firmware{QBoot, SeaBIOS} {
		r, console, _ := run(t, q, Config{Firmware: firmware, Kernel: path, Append: "a=1,2 b", Initrd: path})
		if v, ok := r.GuestExit(); v != 0 || !ok || console != "hi" {
			t.Errorf("%s: exit %d %v, console %q", firmware, v, ok, console)
		}
	}
}

func TestDryRun(t *testing.T) {
	q := find(t)
	path := filepath.Join(t.TempDir(), "k,er nel'")
	if err := os.WriteFile(path, guest(say(0x3f0, "\x01"), say(0x3f8, "hello from the shell\n"), exitWith(3)), 0o444); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Config{
		{},
		{Machine: Q35},
		{Machine: PC, Firmware: QBoot},
		{Monitor: true, Counting: &Counting{}, Points: []plugin.Point{{Addr: 1}}, Append: "it's $HOME `date` \\ \"x\""},
	} {
		c.Kernel, c.Disks = path, []string{disk(t)}
		line, err := q.CommandLine(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		out, err := exec.CommandContext(ctx, "sh", "-c", line).Output()
		cancel()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 7 || string(out) != "hello from the shell\n" {
			t.Errorf("%s\nprinted %q, %v", line, out, err)
		}
	}
	if _, err := q.CommandLine(Config{KernelImage: FloorKernel()}); !errors.Is(err, ErrConfig) {
		t.Errorf("a kernel in memory: %v", err)
	}
}

func TestMemory(t *testing.T) {
	q := find(t)
	boot := func(c Config) (*VM, int64) {
		t.Helper()
		vm, err := q.Start(limited(t), c, Events{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { vm.Close() })
		if _, err := vm.Wait(); err != nil {
			t.Fatal(err)
		}
		n, err := vm.TouchedBytes()
		if err != nil {
			t.Fatal(err)
		}
		return vm, n
	}
	for _, machine := range []Machine{MicroVM, Q35, PC} {
		_, few := boot(Config{Machine: machine, KernelImage: guest(touch(0x400000, 1), exitWith(0))})
		vm, many := boot(Config{Machine: machine, KernelImage: guest(touch(0x400000, 701), exitWith(0))})
		if many-few != 700*4096 {
			t.Errorf("%s: 700 more pages are %d more bytes (%d and %d)", machine, many-few, few, many)
		}
		var b [5]byte
		if n, err := vm.ReadAt(b[:], 0x401000); n != 5 || err != nil || b != [5]byte{0x5a} {
			t.Errorf("%s: read %x, %d, %v", machine, b, n, err)
		}
		if n, err := vm.ReadAt(b[:], DefaultMemory-2); n != 2 || err != io.EOF {
			t.Errorf("%s: read at the end: %d, %v", machine, n, err)
		}
		if n, err := vm.ReadAt(b[:], DefaultMemory); n != 0 || err != io.EOF {
			t.Errorf("%s: read behind the end: %d, %v", machine, n, err)
		}
		found := false
		err := vm.Touched(func(addr, size int64) { found = found || addr == 0x400000 && size == 701*4096 })
		if err != nil || !found {
			t.Errorf("%s: the pages are not among the touched ones; %v", machine, err)
		}
		t.Logf("%s: %d KiB before the guest's own", machine, few>>10)
	}
	vm, err := q.Start(limited(t), Config{KernelImage: FloorKernel(), AnonymousRAM: true}, Events{})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if r, err := vm.Wait(); err != nil || r.Status != 2*FloorExit+1 {
		t.Errorf("anonymous: %+v, %v", r, err)
	}
	if _, err := vm.TouchedBytes(); !errors.Is(err, ErrUnsupported) {
		t.Errorf("anonymous: %v", err)
	}
}

func TestTripleFault(t *testing.T) {
	q := find(t)
	for _, machine := range []Machine{MicroVM, Q35} {
		r, _, _ := run(t, q, Config{Machine: machine, KernelImage: guest(tripleFault)})
		if _, ok := r.GuestExit(); ok || r.Status != 0 {
			t.Errorf("%s: %+v", machine, r)
		}
	}
}

// TestRandom shows that a counting boot has the same random numbers each time, and a timed one has not.
func TestRandom(t *testing.T) {
	q := find(t)
	kernel := guest([]byte{
		0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0x0f, 0xc7, 0xf0, // rdrand eax
		0xee,          // out dx, al
		0xc1, 0xe8, 8, // shr eax, 8
		0xee,          // out dx, al
		0xc1, 0xe8, 8, // shr eax, 8
		0xee, // out dx, al
	}, exitWith(1))
	draw := func(counting *Counting) string {
		_, console, _ := run(t, q, Config{KernelImage: kernel, Counting: counting})
		if len(console) != 3 {
			t.Fatalf("console %q", console)
		}
		return console
	}
	if a, b := draw(&Counting{}), draw(&Counting{}); a != b {
		t.Errorf("counting boots drew %x and %x", a, b)
	}
	if a, b := draw(nil), draw(nil); a == b && a == draw(nil) {
		t.Errorf("three timed boots drew %x", a)
	}
}

func TestMegabyte(t *testing.T) {
	q := find(t)
	n := 0
	vm, err := q.Start(limited(t), Config{KernelImage: guest([]byte{
		0xb9, 0, 0, 0x10, 0, // mov ecx, 1<<20
		0x66, 0xba, 0xfd, 0x03, // l: mov dx, 0x3fd
		0xec,       // p: in al, dx
		0xa8, 0x20, // test al, 0x20: a byte that is written while the last one waits is lost
		0x74, 0xfb, // jz p
		0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0x88, 0xc8, // mov al, cl
		0xee,       // out dx, al
		0xe2, 0xee, // loop l
	}, exitWith(0))}, Events{Console: func(_ time.Duration, p []byte) {
		for _, c := range p {
			if c != byte(1<<20-n) {
				t.Errorf("byte %d is %#x", n, c)
			}
			n++
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	r, err := vm.Wait()
	if err != nil || n != 1<<20 || len(r.Console) != TailSize {
		t.Errorf("%d bytes, a tail of %d, %v", n, len(r.Console), err)
	}
	t.Logf("%v", r.Wall)
}

func TestNoCompiler(t *testing.T) {
	q := find(t)
	t.Setenv("PATH", t.TempDir())
	_, err := q.Start(limited(t), Config{KernelImage: FloorKernel(), Counting: &Counting{}}, Events{})
	if !errors.Is(err, plugin.ErrNoCompiler) || !strings.Contains(err.Error(), "apt-get install") {
		t.Errorf("got %v", err)
	}
}
