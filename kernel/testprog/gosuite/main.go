// Command gosuite tests the kernel from inside an unmodified Go program: goroutines, garbage collection, timers, panics,
// preemption, files. It prints "ok NAME" for each check that holds and ends with status 1 at the first that does not.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// exact says that time is counted in instructions: then nothing may take longer than it has to. Else the host may keep the machine waiting
// for as long as it likes, and only what does not come at all fails, by the limit of the boot.
var exact = os.Getenv("EXACT") != ""

func main() {
	if len(os.Args) > 1 {
		end(os.Args[1])
	}
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"args", args}, {"goroutines", goroutines}, {"gc", collect}, {"timers", timers}, {"panic", panics},
		{"nil", nilPointer}, {"preempt", preempt}, {"threads", threads}, {"files", files}, {"pipe", pipes}, {"signal", signals},
		{"stack", stack}, {"mmap", mmap},
	} {
		if err := c.run(); err != nil {
			fmt.Printf("FAIL %s: %v\n", c.name, err)
			os.Exit(1)
		}
		fmt.Println("ok", c.name)
	}
	os.Exit(42)
}

// end ends the program as the host asked.
func end(how string) {
	fmt.Println("ok", how)
	switch how {
	case "panic":
		panic("on purpose")
	case "nil":
		var p *int
		*p = 1
	case "deadlock":
		select {}
	case "clock":
		// To be run where an instruction takes 8 ns, and a system call 5 us.
		start := time.Now()
		for time.Since(start) < 200*time.Millisecond {
		}
		start = time.Now()
		var last time.Time
		for range 1000 {
			last = time.Now()
		}
		took := last.Sub(start)
		fmt.Println(took/1000, "for time.Now")
		if took > 1000*3000 {
			os.Exit(1)
		}
		os.Exit(0)
	case "exit":
		os.Exit(7)
	case "signal":
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
		time.Sleep(time.Hour)
	case "memory":
		for keep := make([][]byte, 0); len(keep) >= 0; {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			keep = append(keep, b)
		}
	}
	os.Exit(0)
}

func args() error {
	if len(os.Args) != 1 || os.Getenv("KEY") != "a value" {
		return fmt.Errorf("args %q, KEY %q", os.Args, os.Getenv("KEY"))
	}
	if exe, err := os.Executable(); err != nil || filepath.Base(exe) != filepath.Base(os.Args[0]) {
		return fmt.Errorf("executable %q, %v", exe, err)
	}
	host, err := os.Hostname()
	if err != nil || host != "firstlight" || runtime.NumCPU() != runtime.GOMAXPROCS(0) || os.Getpid() != 1 {
		return fmt.Errorf("host %q (%v), %d CPUs, pid %d", host, err, runtime.NumCPU(), os.Getpid())
	}
	return nil
}

func goroutines() error {
	const n, rounds = 100, 200
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	ch := make(chan int)
	for i := range n {
		wg.Go(func() {
			for range rounds {
				mu.Lock()
				total++
				mu.Unlock()
				runtime.Gosched()
			}
			ch <- i
		})
	}
	sum := 0
	for range n {
		sum += <-ch
	}
	wg.Wait()
	if total != n*rounds || sum != n*(n-1)/2 {
		return fmt.Errorf("total %d, sum %d", total, sum)
	}
	return nil
}

type tree struct{ left, right *tree }

func grow(depth int) *tree {
	if depth == 0 {
		return &tree{}
	}
	return &tree{grow(depth - 1), grow(depth - 1)}
}

func (t *tree) count() int {
	if t.left == nil {
		return 1
	}
	return 1 + t.left.count() + t.right.count()
}

func collect() error {
	keep := grow(12)
	for range 30 {
		grow(12)
	}
	runtime.GC()
	debug.FreeOSMemory()
	if n := keep.count(); n != 1<<13-1 {
		return fmt.Errorf("%d nodes", n)
	}
	b := make([]byte, 8<<20)
	for i, c := range b {
		if c != 0 {
			return fmt.Errorf("byte %d of fresh memory is %d", i, c)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.NumGC == 0 {
		return errors.New("no collection")
	}
	return nil
}

func timers() error {
	start := time.Now()
	time.Sleep(20 * time.Millisecond)
	if d := time.Since(start); d < 20*time.Millisecond || exact && d > 2*time.Second {
		return fmt.Errorf("slept %v", d)
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range 5 {
		<-tick.C
	}
	select {
	case <-time.After(5 * time.Millisecond):
	case <-make(chan int):
	}
	if y := time.Now().Year(); y < 1970 {
		return fmt.Errorf("year %d", y)
	}
	return nil
}

func panics() (err error) {
	defer func() {
		if r := recover(); fmt.Sprint(r) != "runtime error: index out of range [5] with length 3" {
			err = fmt.Errorf("recovered %v", r)
		}
	}()
	a, i := []int{1, 2, 3}, 5
	return fmt.Errorf("a[5] is %d", a[i])
}

func nilPointer() (err error) {
	for range 100 {
		if err := func() (err error) {
			defer func() {
				if _, ok := recover().(runtime.Error); !ok {
					err = errors.New("no runtime error")
				}
			}()
			var p *[100]int
			zero := 0
			if len(os.Args) > 5 {
				return fmt.Errorf("%d", 1/zero)
			}
			return fmt.Errorf("%d", p[50])
		}(); err != nil {
			return err
		}
	}
	defer func() {
		if r := recover(); fmt.Sprint(r) != "runtime error: integer divide by zero" {
			err = fmt.Errorf("recovered %v", r)
		}
	}()
	zero := len(os.Args) - 1
	return fmt.Errorf("%d", 1/zero)
}

// preempt needs SIGURG: the loops call nothing. They stop neither the collector nor a ticker, on one P or two.
func preempt() error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for procs := 1; procs <= 2; procs++ {
		runtime.GOMAXPROCS(procs)
		var stop atomic.Bool
		done := make(chan int)
		for range 2 {
			go func() {
				n := 0
				for !stop.Load() {
					n++
				}
				done <- n
			}()
		}
		runtime.Gosched()
		for range 3 {
			runtime.GC()
		}
		ticker := time.NewTicker(5 * time.Millisecond)
		start := time.Now()
		for range 4 {
			<-ticker.C
		}
		ticker.Stop()
		took := time.Since(start)
		stop.Store(true)
		if first, second := <-done, <-done; first == 0 || second == 0 {
			return errors.New("a loop had no turn")
		}
		if exact && took > 5*time.Second {
			return fmt.Errorf("four ticks of 5 ms took %v", took)
		}
	}
	return nil
}

func threads() error {
	var wg sync.WaitGroup
	ids := make(chan int, 20)
	for range 20 {
		wg.Go(func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			time.Sleep(time.Millisecond)
			ids <- syscall.Gettid()
		})
	}
	wg.Wait()
	close(ids)
	seen := map[int]bool{}
	for id := range ids {
		seen[id] = true
	}
	if len(seen) != 20 {
		return fmt.Errorf("%d threads", len(seen))
	}
	return nil
}

func files() error {
	b, err := os.ReadFile("/data/bytes")
	if err != nil || len(b) != 300000 {
		return fmt.Errorf("%d bytes, %v", len(b), err)
	}
	for i, c := range b {
		if c != byte(i*7+i/251) {
			return fmt.Errorf("byte %d is %d", i, c)
		}
	}
	n := 0
	err = fs.WalkDir(os.DirFS("/data"), ".", func(string, fs.DirEntry, error) error { n++; return nil })
	if err != nil || n < 1000 {
		return fmt.Errorf("walked %d, %v", n, err)
	}
	if _, err := os.Open("/none"); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile("/data/x", nil, 0o600); !errors.Is(err, syscall.EROFS) {
		return err
	}
	dir, err := os.MkdirTemp("", "go")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		return err
	}
	if err := os.Rename(name, name+"2"); err != nil {
		return err
	}
	c, err := os.ReadFile(name + "2")
	if err != nil || !bytes.Equal(b, c) {
		return fmt.Errorf("read back %d, %v", len(c), err)
	}
	in, err := os.Open("/data/bytes")
	if err != nil {
		return err
	}
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	if n, err := io.Copy(out, in); n != 300000 || err != nil { // copy_file_range, or what comes in its stead
		return fmt.Errorf("copied %d, %v", n, err)
	}
	if err := errors.Join(in.Close(), out.Close()); err != nil {
		return err
	}
	if c, err = os.ReadFile(name); err != nil || !bytes.Equal(b, c) {
		return fmt.Errorf("copy has %d, %v", len(c), err)
	}
	return os.RemoveAll(dir)
}

// pipes goes through the runtime's poller: epoll.
func pipes() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	go func() {
		for i := range 1000 {
			fmt.Fprintf(w, "line %d\n", i)
			if i%100 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		w.Write(make([]byte, 300000))
		w.Close()
	}()
	b, err := io.ReadAll(r)
	if err != nil || len(b) != 300000+8890 {
		return fmt.Errorf("%d bytes, %v", len(b), err)
	}
	if err := r.Close(); err != nil {
		return err
	}
	r, w, err = os.Pipe()
	if err != nil {
		return err
	}
	r.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	r.Close()
	if _, err := w.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		return err
	}
	return w.Close()
}

func signals() error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		return err
	}
	limit := time.Hour
	if exact {
		limit = 5 * time.Second
	}
	select {
	case <-c:
		return nil
	case <-time.After(limit):
		return errors.New("no signal")
	}
}

func stack() error {
	var deep func(int) int
	deep = func(n int) int {
		var pad [64]int
		if n == 0 {
			return pad[n]
		}
		return deep(n-1) + 1 + pad[n%64]
	}
	done := make(chan int)
	go func() { done <- deep(20000) }()
	if n := <-done; n != 20000 {
		return fmt.Errorf("depth %d", n)
	}
	return nil
}

func mmap() (err error) {
	f, err := os.Open("/data/bytes")
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := syscall.Mmap(int(f.Fd()), 0, 300000, syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		return err
	}
	if b[299999] != byte((299999*7+299999/251)%256) {
		return fmt.Errorf("last byte is %d", b[299999])
	}
	if err := syscall.Munmap(b); err != nil {
		return err
	}
	debug.SetPanicOnFault(true)
	defer func() {
		if recover() == nil {
			err = errors.New("no fault")
		}
	}()
	return fmt.Errorf("%d", b[0])
}
