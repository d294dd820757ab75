// Package hosttool is what file-system modules share that have programs of the host do part of their work.
package hosttool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
)

// ErrMissing is wrapped by the error about a program that is not installed.
var ErrMissing = errors.New("is not installed")

// MissingError says which program is not there, and what to install.
type MissingError struct {
	Tool    string // its name
	Package string // Debian's
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s %v; on Debian: apt-get install %s", e.Tool, ErrMissing, e.Package)
}

func (e *MissingError) Unwrap() error { return ErrMissing }

// Cmd is a program of the host and its arguments.
type Cmd struct {
	Tool, Package string
	Args          []string
	Env           []string  // besides the few variables that every program gets
	Stdin         io.Reader // nil: nothing
	Dir           string
	OK            func(exitCode int) bool // nil: 0 alone is fine
}

// find looks for a program on the PATH, and where administrators have theirs.
func find(tool, pkg string) (string, error) {
	if p, err := exec.LookPath(tool); err == nil {
		return filepath.Abs(p)
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, tool)); err == nil && os.Getenv("PATH") != "" {
			return p, nil
		}
	}
	return "", &MissingError{tool, pkg}
}

// Run runs the program, in an environment in which it does the same everywhere, and returns what it printed. It ends with ctx.
func (c Cmd) Run(ctx context.Context) ([]byte, error) {
	name, err := find(c.Tool, c.Package)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, name, c.Args...)
	cmd.Env = append([]string{"LC_ALL=C.UTF-8", "TZ=UTC0", "PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}, c.Env...)
	cmd.Dir = c.Dir
	var out, msg bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, &out, &msg
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && c.OK != nil && c.OK(exit.ExitCode()) {
		err = nil
	}
	if err != nil {
		text := strings.TrimSpace(msg.String())
		if text == "" {
			text = strings.TrimSpace(out.String())
		}
		return out.Bytes(), fmt.Errorf("%s: %w: %s", c.Tool, err, start(text, 400))
	}
	return out.Bytes(), nil
}

// start returns the start of a text, of about n bytes, where programs say what is wrong before they explain how they are used.
func start(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// Scratch calls f with the name of an empty folder that is gone afterwards.
func Scratch(f func(dir string) error) (err error) {
	dir, err := os.MkdirTemp("", "firstlight-")
	if err != nil {
		return err
	}
	defer func() {
		if e := removeAll(dir); err == nil {
			err = e
		}
	}()
	return f(dir)
}

// removeAll is os.RemoveAll for folders whose own permissions are in the way, too.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(name, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// Copy copies the file called name to w, which is empty, leaves holes where it is zero, and returns its length.
func Copy(ctx context.Context, w io.WriterAt, name string) (int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := io.ReadFull(f, buf)
		if n == 0 && off > 0 { // a hole at the end has a length too
			if _, err := f.ReadAt(buf[:1], off-1); err != nil {
				return 0, err
			}
			if _, err := w.WriteAt(buf[:1], off-1); err != nil {
				return 0, err
			}
		}
		if n > 0 && (n < len(buf) || !bytes.Equal(buf, zero)) {
			if _, err := w.WriteAt(buf[:n], off); err != nil {
				return 0, err
			}
		}
		off += int64(n)
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return off, nil
		default:
			return 0, err
		}
	}
}

// Save writes the size bytes of r to the file called name.
func Save(ctx context.Context, name string, r io.ReaderAt, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, min(size, 256<<10))
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.ReadAt(buf[:min(int64(len(buf)), size-off)], off)
		if n == 0 && err != nil {
			return err
		}
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		off += int64(n)
	}
	return f.Close()
}

// Plain refuses the options about single files and their places, which a foreign program's file system called name has not.
func Plain(name string, o fsmod.Options) error {
	for _, x := range []struct {
		what string
		set  bool
	}{
		{"files stored raw", o.Raw != nil}, {"hot files", o.Hot != nil}, {"a layout", len(o.Layout) > 0},
		{"aligned executables", o.AlignExec != "" && o.AlignExec != "auto" && o.AlignExec != "none"},
	} {
		if x.set {
			return fmt.Errorf("%s: %w by %s", x.what, fsmod.ErrUnsupported, name)
		}
	}
	return nil
}

// Seconds spells a time as most of these file systems have it: whole seconds from 1970 to 2106. Others become the nearest of these.
func Seconds(t time.Time) string { return strconv.FormatInt(seconds(t), 10) }

func seconds(t time.Time) int64 { return min(max(t.Unix(), 0), 1<<32-1) }
