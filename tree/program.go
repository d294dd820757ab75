//go:build unix

package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// FromELF makes a tree of the ELF file at path, which gets its own base name in the root and mode 0755. Whether the kernel can
// run it is ELF.Runnable's to say.
func FromELF(path string, o Options) (*Tree, error) {
	name := filepath.Base(path)
	// A symbolic link gives the program its name, what it leads to its content.
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(target)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: %w", path, ErrUnsupported)
	}
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f, err := openFile(target, identify(info))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := ReadELF(f, info.Size()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	uid, gid := o.owner(info)
	e := Entry{
		Path: name, Mode: 0o755, UID: uid, GID: gid, ModTime: o.time(info.ModTime()), Size: info.Size(),
		Source: func() (io.ReadCloser, error) { return openFile(target, identify(info)) },
	}
	return New(rootOf(e), e)
}

// FromGoPackage builds the main package pkg, as a command line names it in the directory dir ("" is the current one), with
// the go command for linux/amd64 without cgo, and makes a tree of the program: /NAME with mode 0755, NAME being what go build
// calls it. The symbol table stays in, since profiles need it. The program lies in memory; nothing is left on disk.
//
// -trimpath and -buildvcs=false keep the path and the state of the checkout out of it, and its time is the epoch, so that the
// same source and toolchain give the same tree. What else the go command's environment says holds: GOFLAGS, GOAMD64.
func FromGoPackage(ctx context.Context, pkg, dir string, o Options) (*Tree, error) {
	tmp, err := os.MkdirTemp("", "firstlight-go-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	// With a directory for -o, go build names the program, and refuses what is not a main package.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", tmp+"/", "--", pkg)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	// On an interrupt the go command stops its compilers and removes its own temporary files.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("building %s needs the go command, which is not on the PATH: %w", pkg, err)
	case err != nil:
		return nil, fmt.Errorf("go build %s: %w\n%s", pkg, err, bytes.TrimRight(out, "\n"))
	}
	built, err := os.ReadDir(tmp)
	if err != nil {
		return nil, err
	}
	if len(built) != 1 {
		var names []string
		for _, b := range built {
			names = append(names, b.Name())
		}
		return nil, fmt.Errorf("go build %s: one main package is wanted, it names %d: %s", pkg, len(built), strings.Join(names, " "))
	}
	content, err := os.ReadFile(filepath.Join(tmp, built[0].Name()))
	if err != nil {
		return nil, err
	}
	e := Entry{
		Path: built[0].Name(), Mode: 0o755, UID: o.UID, GID: o.GID, ModTime: o.time(time.Unix(0, 0).UTC()), Size: int64(len(content)),
		Source: func() (io.ReadCloser, error) { return memory{bytes.NewReader(content)}, nil },
	}
	return New(rootOf(e), e)
}

// rootOf makes the root directory of a tree that holds the one file e.
func rootOf(e Entry) Entry {
	return Entry{Path: ".", Mode: fs.ModeDir | 0o755, UID: e.UID, GID: e.GID, ModTime: e.ModTime}
}

// memory is content that is an io.ReaderAt too.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }
