package hyperkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// EnvBinary names the environment variable that overrides the search of PATH. It also lets another program stand in for
// hyperkit on other systems than macOS.
const EnvBinary = "FIRSTLIGHT_HYPERKIT"

const install = "install it with: brew install hyperkit"

// Find returns the path of hyperkit: the one that $FIRSTLIGHT_HYPERKIT names, or else hyperkit of PATH. The error wraps
// ErrSystem or ErrNotFound.
func Find() (string, error) {
	name := os.Getenv(EnvBinary)
	if name == "" {
		if runtime.GOOS != "darwin" {
			return "", fmt.Errorf("%w, and this is %s; --dry-run prints its command line here too", ErrSystem, runtime.GOOS)
		}
		name = "hyperkit"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w (%w): %s, or name it in $%s", ErrNotFound, err, install, EnvBinary)
	}
	return filepath.Abs(path)
}

// End is how hyperkit ended, by its exit status (hyperkit.c, vmexit_suspend and main).
type End int

// The ends.
const (
	PowerOff    End = iota // the guest powered off or halted: status 0
	Reset                  // the guest reset itself, as our kernel does at its end: status 2
	TripleFault            // the guest crashed beyond what it could handle: status 3
	Failed                 // hyperkit's own failure: any other status, or a signal
)

func (e End) String() string {
	return [...]string{"powered off", "reset", "triple fault", "hyperkit failed"}[e]
}

// Result is how a virtual machine ended.
type Result struct {
	Wall   time.Duration // from T0 to the end of the process
	End    End
	Status int    // hyperkit's exit status; -1 when a signal ended it
	Stderr string // the last 4 KiB of hyperkit's own messages
}

// RunError is a virtual machine that did not come to an end of its own. Err wraps context.DeadlineExceeded or
// context.Canceled, or it is hyperkit's failure.
type RunError struct {
	After  time.Duration
	Stderr string // tail
	Err    error
}

func (e *RunError) Unwrap() error { return e.Err }

func (e *RunError) Error() string {
	text := e.Err.Error()
	switch {
	case errors.Is(e.Err, context.DeadlineExceeded):
		text = fmt.Sprintf("the guest was still running after %v", e.After.Round(time.Millisecond))
	case errors.Is(e.Err, context.Canceled):
		text = fmt.Sprintf("the boot was interrupted after %v", e.After.Round(time.Millisecond))
	}
	if s := strings.TrimSpace(e.Stderr); s != "" {
		text += "\nhyperkit said:\n" + s
	}
	return text
}

// Run runs the hyperkit at path until the machine ends or ctx does. What the guest writes to its serial port goes to console,
// from one goroutine, with the time since T0, the instant before the process was started; p is valid during the call only.
// The error of a machine that did not end by itself is a *RunError.
func Run(ctx context.Context, path string, c Config, console func(at time.Duration, p []byte)) (*Result, error) {
	args, err := c.Args()
	if err != nil {
		return nil, err
	}
	// hyperkit watches its standard input for the guest's: a pipe that nobody writes to can be watched, /dev/null cannot.
	in, inEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	defer inEnd.Close()
	tail := new(tailWriter)
	out := &consoleWriter{to: console}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, tail
	cmd.WaitDelay = time.Second // a child of hyperkit's may hold its pipes
	out.t0 = time.Now()
	if err := cmd.Start(); err != nil {
		return nil, &RunError{Err: fmt.Errorf("hyperkit could not be started: %w", err)}
	}
	err = cmd.Wait()
	wall := time.Since(out.t0)
	if ctx.Err() != nil {
		return nil, &RunError{After: wall, Stderr: tail.String(), Err: ctx.Err()}
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return nil, &RunError{After: wall, Stderr: tail.String(), Err: err}
	}
	r := &Result{Wall: wall, End: Failed, Status: cmd.ProcessState.ExitCode(), Stderr: tail.String()}
	switch r.Status {
	case 0:
		r.End = PowerOff
	case 2:
		r.End = Reset
	case 3:
		r.End = TripleFault
	default:
		return r, &RunError{After: wall, Stderr: r.Stderr, Err: failure(cmd.ProcessState)}
	}
	return r, nil
}

// failure says what a status of hyperkit's own means.
func failure(p *os.ProcessState) error {
	switch status := p.ExitCode(); status {
	case 1:
		return errors.New("hyperkit failed (exit status 1)")
	case 64: // EX_USAGE
		return errors.New("hyperkit did not take its command line (exit status 64)")
	case 100:
		return errors.New("hyperkit does not know how the guest ended (exit status 100)")
	case -1:
		if ws, ok := p.Sys().(syscall.WaitStatus); ok && ws.Signal() == syscall.SIGABRT {
			return errors.New("hyperkit gave up (SIGABRT), as it does when it cannot load a kernel or emulate an instruction")
		}
		return fmt.Errorf("hyperkit was ended: %v", p)
	default:
		return fmt.Errorf("hyperkit ended with status %d, which means nothing that is known", status)
	}
}

// consoleWriter passes on what the guest says. os/exec writes from one goroutine.
type consoleWriter struct {
	t0 time.Time
	to func(time.Duration, []byte)
}

func (w *consoleWriter) Write(p []byte) (int, error) {
	if w.to != nil {
		w.to(time.Since(w.t0), p)
	}
	return len(p), nil
}

// tailWriter keeps the end of what is written to it.
type tailWriter struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 4 << 10

func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, p...)
	if over := len(w.buf) - tailSize; over > 0 {
		w.buf = w.buf[over:]
	}
	return len(p), nil
}

func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(bytes.ToValidUTF8(w.buf, []byte("\ufffd")))
}
