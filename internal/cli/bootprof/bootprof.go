// Package bootprof is the command bootprof: it boots an image under a VMM and shows where the boot's time, instructions
// and memory went.
//
// Exit codes: 0 fine; 1 the boot failed, or the app did; 2 usage or bad input; 3 a budget was exceeded; 4 the host cannot
// do it; 128 plus the signal's number when interrupted.
package bootprof

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
)

// Exit codes.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
	exitBudget = 3
	exitHost   = 4
	exitSignal = 128
)

// exitError is an error that determines the exit code. Its text may be empty when all was said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func errorf(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

func usagef(format string, args ...any) error { return errorf(exitUsage, format, args...) }

// signalError is the cause of a context that a signal cancelled.
type signalError struct{ sig syscall.Signal }

func (e *signalError) Error() string { return "interrupted by " + unix.SignalName(e.sig) }

// Main runs the command with the process's signals, and returns its exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer close(signals) // ends the goroutine
	defer signal.Stop(signals)
	go func() {
		sig, ok := <-signals
		if !ok {
			return
		}
		cancel(&signalError{sig.(syscall.Signal)})
		// One request may come as two signals: timeout(1) sends one to the process and one to its group, others pass on what the
		// terminal sent already. A third ends the process in the usual way, should the first not do.
		<-signals
		signal.Stop(signals)
	}()
	return run(ctx, args, stdout, stderr)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitFine
	}
	var interrupt *signalError
	if ctx.Err() != nil && errors.As(context.Cause(ctx), &interrupt) {
		fmt.Fprintf(stderr, "bootprof: %v; the VM was stopped and nothing was written\n", interrupt)
		return exitSignal + int(interrupt.sig)
	}
	all := failures{err}
	errors.As(err, &all)
	for _, e := range all {
		fmt.Fprintf(stderr, "bootprof: %v\n", e)
	}
	return exitCode(err)
}

// failures is what was wrong with boots that came to their end, the worst first: each is told on a line of its own, and
// the first determines the exit code.
type failures []error

func (f failures) Error() string   { return errors.Join(f...).Error() }
func (f failures) Unwrap() []error { return f }

// exitCode returns the exit code for an error.
func exitCode(err error) int {
	var ee *exitError
	if errors.As(err, &ee) {
		return ee.code
	}
	for _, e := range []struct {
		is   error
		code int
	}{
		{qemu.ErrConfig, exitUsage},
		{qemu.ErrNotFound, exitHost},
		{qemu.ErrTooOld, exitHost},
		{qemu.ErrAccel, exitHost},
		{qemu.ErrUnsupported, exitHost},
		{plugin.ErrNoCompiler, exitHost},
	} {
		if errors.Is(err, e.is) {
			return e.code
		}
	}
	return exitFailed
}

func newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bootprof",
		Short: "Boot an image and show where the time of the boot went",
		Long: `Boot an image and show where the time, the instructions and the memory of the boot went: on the terminal, as JSON for
scripts, and as profiles for go tool pprof.

Exit codes: 0 fine; 1 the boot failed, or the app did; 2 usage or bad input; 3 a budget was exceeded; 4 the host cannot do
it (no QEMU, no usable accelerator, a budget that could not be measured); 128 plus the signal's number when interrupted.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("%q is not a command; see bootprof --help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return usagef("want a command, as qemu; see bootprof --help")
		},
	}
	cmd.Version = version()
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	cmd.AddCommand(qemuCommand(), floorCommand())
	cmd.AddCommand(reportCommand(), diffCommand(), listCommand())
	cmd.AddCommand(minmemCommand())
	cmd.AddCommand(kernelCommand(), hyperkitCommand(), configCommand(), doctorCommand())
	cmd.AddCommand(gateCommand())
	return cmd
}

// version is the version that the Go toolchain noted in the program.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return "bootprof " + info.Main.Version
	}
	return "bootprof (unknown version)"
}
