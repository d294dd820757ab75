package hyperkit

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/internal/needs"
)

// standIn makes a program that behaves as hyperkit does: the guest's serial port is its standard output.
func standIn(t *testing.T, script string) string {
	t.Helper()
	needs.Tool(t, "sh", "dash")
	path := filepath.Join(t.TempDir(), "hyperkit")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		script  string
		end     End
		status  int
		console string
		says    string // "" unless it is an error
	}{
		{`echo hello; exit 0`, PowerOff, 0, "hello\n", ""},
		{`printf 'a\r\nb'; exit 2`, Reset, 2, "a\r\nb", ""},
		{`exit 3`, TripleFault, 3, "", ""},
		{`echo 'Unable to create VM (-85377018)' >&2; exit 1`, Failed, 1, "", "Unable to create VM (-85377018)"},
		{`exit 64`, Failed, 64, "", "did not take its command line"},
		{`exit 100`, Failed, 100, "", "does not know how the guest ended"},
		{`exit 7`, Failed, 7, "", "status 7"},
		{`echo 'kexec: failed to load kernel k' >&2; kill -ABRT $$`, Failed, -1, "", "SIGABRT), as it does when it cannot load a kernel or emulate an instruction\nhyperkit said:\nkexec: failed to load kernel k"},
		{`kill -KILL $$`, Failed, -1, "", "killed"},
		{`printf '%s|' "$@"; exit 2`, Reset, 2, "-A|-u|-c|1|-m|64M|-s|0:0,hostbridge|-s|31,lpc|-l|com1,stdio|-f|kexec,k,, |", ""},
		{`if [ -p /dev/stdin ]; then echo pipe; fi; exit 2`, Reset, 2, "pipe\n", ""},
	} {
		var out bytes.Buffer
		var last time.Duration
		r, err := Run(t.Context(), standIn(t, tt.script), Config{Kernel: "k"}, func(at time.Duration, p []byte) {
			if at < last {
				t.Errorf("%s: time goes back", tt.script)
			}
			last = at
			out.Write(p)
		})
		if r == nil || r.End != tt.end || r.Status != tt.status || out.String() != tt.console || r.Wall < last {
			t.Errorf("%s: %+v, %v, console %q", tt.script, r, err, out.String())
		}
		var run *RunError
		if tt.says == "" && err != nil || tt.says != "" && (!errors.As(err, &run) || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %v, want %q", tt.script, err, tt.says)
		}
	}
}

func TestRunDeadline(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	path := standIn(t, "echo up; exec sleep 1000")
	r, err := Run(ctx, path, Config{Kernel: "k"}, func(time.Duration, []byte) { cancel(nil) })
	var run *RunError
	if r != nil || !errors.As(err, &run) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %+v, %v", r, err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if r, err = Run(ctx, path, Config{Kernel: "k"}, nil); r != nil || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "still running after") {
		t.Errorf("deadline: %+v, %v", r, err)
	}
	if _, err := Run(t.Context(), path, Config{}, nil); !errors.Is(err, ErrConfig) {
		t.Errorf("bad configuration: %v", err)
	}
	if _, err := Run(t.Context(), filepath.Join(t.TempDir(), "none"), Config{Kernel: "k"}, nil); !errors.As(err, &run) {
		t.Errorf("no program: %v", err)
	}
}

func TestFind(t *testing.T) {
	path := standIn(t, "exit 0")
	t.Setenv(EnvBinary, path)
	if got, err := Find(); err != nil || got != path {
		t.Errorf("Find() = %q, %v; want %q", got, err, path)
	}
	t.Setenv(EnvBinary, path+"-none")
	if _, err := Find(); !errors.Is(err, ErrNotFound) {
		t.Errorf("a name that is not there: %v", err)
	}
	t.Setenv(EnvBinary, "")
	if _, err := Find(); runtime.GOOS != "darwin" && (!errors.Is(err, ErrSystem) || !strings.Contains(err.Error(), "--dry-run")) {
		t.Errorf("on %s: %v", runtime.GOOS, err)
	}
}
