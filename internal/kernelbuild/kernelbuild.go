// Package kernelbuild provides the kernel: embedded by make, or built on first use by the user's own Go toolchain.
package kernelbuild

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/link"
)

const module = "github.com/firstlight-boot/firstlight"

// The kernel relies on what a Go release does inside (its system calls, ABIInternal, stack checks, the linker's -E), which
// the next one may change. Only releases that it was tested with may build it.
const testedGo = "go1.26"

var goVersion = regexp.MustCompile(`^` + regexp.QuoteMeta(testedGo) + `(\.\d+)?$`)

// The directory holds a committed README, so that this compiles without a kernel.
//
//go:embed embed
var embedded embed.FS

// Kernel is a kernel at hand, or a way to it.
type Kernel struct {
	// Origin says for people where the kernel comes from.
	Origin string
	// Load returns the kernel file. It may take a while: the kernel may have to be built.
	Load func(context.Context) ([]byte, error)
}

// Find chooses the kernel: the embedded one; else one built from the source that this program was built from, which is
// cached if that is a release.
func Find() (Kernel, error) {
	b, err := embedded.ReadFile("embed/kernel.elf")
	if err == nil {
		return Kernel{"built in", func(context.Context) ([]byte, error) { return b, nil }}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return Kernel{}, err
	}
	dir, version := source()
	if dir == "" && version == "" {
		return Kernel{}, errors.New("no kernel is built into this imgbuild, and its source is not at hand: build imgbuild by make in a checkout, or name a kernel by --kernel")
	}
	what := version
	if what == "" {
		what = "this checkout"
	}
	return Kernel{
		"built from " + what + " by the go command",
		func(ctx context.Context) ([]byte, error) { return load(ctx, dir, version) },
	}, nil
}

// source tells where this program's source is: a directory on this machine, or "", and the version if it is a release.
func source() (dir, version string) {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Path == module {
		// A version with a plus sign or in parentheses was made up for a checkout.
		if v := info.Main.Version; strings.HasPrefix(v, "v") && !strings.Contains(v, "+") {
			version = v
		}
	}
	// Built without -trimpath, the program knows its source, which go install leaves in the module cache.
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		root := filepath.Dir(filepath.Dir(filepath.Dir(file)))
		if mod, err := os.ReadFile(filepath.Join(root, "go.mod")); err == nil && bytes.HasPrefix(mod, []byte("module "+module+"\n")) {
			dir = root
		}
	}
	if !strings.HasSuffix(dir, "@"+version) && dir != "" {
		version = "" // a checkout, whatever its version was: the go command knows whether it changed
	}
	return dir, version
}

// load returns the kernel of a release from the user's cache, or builds it.
func load(ctx context.Context, dir, version string) ([]byte, error) {
	v, err := checkGo(ctx, dir)
	if err != nil {
		return nil, err
	}
	cached := ""
	if version != "" {
		if cache, err := os.UserCacheDir(); err == nil {
			cached = filepath.Join(cache, "firstlight", fmt.Sprintf("kernel-%s-%s-abi%d.elf", version, v, abi.Version))
			if b, err := os.ReadFile(cached); err == nil {
				return b, nil
			}
		}
	}
	if dir == "" {
		if dir, err = download(ctx, version); err != nil {
			return nil, err
		}
	}
	b, err := Build(ctx, dir, version, nil)
	if err != nil {
		return nil, err
	}
	if cached != "" {
		// A kernel that cannot be cached is built again next time.
		if os.MkdirAll(filepath.Dir(cached), 0o777) == nil {
			_ = WriteFile(cached, b)
		}
	}
	return b, nil
}

// checkGo returns the go command's version if the kernel was tested with it.
func checkGo(ctx context.Context, dir string) (string, error) {
	out, err := goCommand(ctx, dir, nil, "env", "GOVERSION")
	if err != nil {
		return "", err
	}
	v := strings.TrimSpace(string(out))
	if !goVersion.MatchString(v) {
		return "", fmt.Errorf("the kernel cannot be built by %s: it is tested with %s only; install that, or set GOTOOLCHAIN=%s.0 or a later %s release", v, testedGo, testedGo, testedGo)
	}
	return v, nil
}

// download has the go command fetch a release of this module and returns its directory.
func download(ctx context.Context, version string) (string, error) {
	out, err := goCommand(ctx, "", nil, "mod", "download", "-json", module+"@"+version)
	if err != nil {
		return "", err
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		return "", fmt.Errorf("go mod download: %w", err)
	}
	return m.Dir, nil
}

// Build builds the kernel from this module's source in the directory dir ("" is the current one), with these build tags,
// and returns the bootable file, which says that it is of this version.
func Build(ctx context.Context, dir, version string, tags []string) ([]byte, error) {
	if _, err := checkGo(ctx, dir); err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "firstlight-kernel-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "kernel")
	args, env := link.GoBuildArgs(tags)
	args = append(args, "-o", out, link.Package)
	if _, err := goCommand(ctx, dir, env, args...); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	return link.Link(b, "version="+version, "modules="+strings.Join(tags, ","))
}

// goCommand runs the go command in dir and returns its standard output.
func goCommand(ctx context.Context, dir string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), env...)
	// On an interrupt the go command stops its compilers and removes its own temporary files.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("no kernel is built into this imgbuild, and to build one it needs the go command (%s): %w", testedGo, err)
	case err != nil:
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// WriteFile writes a kernel file beside name and renames it into place, unless name already holds these bytes.
func WriteFile(name string, b []byte) error {
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, b) {
		return nil // an unchanged time spares what is built from it
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".kernel-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o644)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
