package plugin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed c
var source embed.FS

var sources = []string{"counter.c", "tree.c", "counter.h"} // what is compiled, and what that includes

// ErrNoCompiler is a host without a C compiler, or with one that does not work.
var ErrNoCompiler = errors.New("there is no C compiler that works for the counting plugin: apt-get install gcc libc6-dev")

const buildTimeout = time.Minute

// MaxPoints is how many points a boot can have.
const MaxPoints = 256

// MaxCode is how much code a point can be told by, in bytes.
const MaxCode = 16

// Point is an instruction whose executions are logged.
type Point struct {
	// Addr is its virtual address. Where Mask is not 0, only the bits in it are compared: a kernel that is moved by multiples
	// of 2 MiB has its functions at the same addresses under a mask of 0x1fffff.
	Addr, Mask uint64
	// Code is what must stand there, up to MaxCode bytes; empty for whatever does.
	Code []byte
	// Phase makes executions begin a phase of a Tree: the first one, or each.
	Phase PointPhase
}

// PointPhase says which executions of a point begin a phase.
type PointPhase int

const (
	PhaseNever PointPhase = iota
	PhaseFirst
	PhaseEach
)

// Config is what a plugin does in a boot.
type Config struct {
	Points []Point
	Count  bool // guest instructions
	Tree   bool // keep them by calling context; with Count only
	Memory bool // keep which context touched a page first; with Tree only
	// LowRAM is how much RAM in bytes lies below the hole for devices, for a QEMU that tells plugins physical addresses, from 8.2 on;
	// 0 for one that tells offsets in RAM. With Memory only.
	LowRAM int64
}

// Check says what of a Config the plugin cannot do.
func (c Config) Check() error {
	switch {
	case len(c.Points) > MaxPoints:
		return fmt.Errorf("%d points: %d are the most", len(c.Points), MaxPoints)
	case c.Tree && !c.Count:
		return errors.New("calling contexts without counting")
	case c.Memory && !c.Tree:
		return errors.New("memory by function without calling contexts")
	}
	for i, p := range c.Points {
		if len(p.Code) > MaxCode {
			return fmt.Errorf("point %d: %d bytes of code: %d are the most", i, len(p.Code), MaxCode)
		}
	}
	return nil
}

// API returns the version of the plugin API to use with a QEMU of this major version (QEMU, include/qemu/qemu-plugin.h:
// version 2 came with 9.0 and took the inline operations of version 1 away).
func API(qemuMajor int) int {
	if qemuMajor < 9 {
		return 1
	}
	return 2
}

// Build returns the path of the plugin for the given API version. It is compiled by the host's cc once and kept in
// cacheDir, named after its source and its compiler.
func Build(ctx context.Context, cacheDir string, api int) (string, error) {
	if cacheDir == "" {
		return "", errors.New("the counting plugin needs a cache directory: set HOME or XDG_CACHE_HOME")
	}
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	cc, err := exec.LookPath("cc")
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrNoCompiler, err)
	}
	version, err := exec.CommandContext(ctx, cc, "--version").Output()
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("%w (%s --version: %w)", ErrNoCompiler, cc, err)
	}
	var files [][]byte
	for _, name := range sources {
		b, err := source.ReadFile("c/" + name)
		if err != nil {
			return "", err
		}
		files = append(files, b)
	}
	flags := []string{"-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-parentheses", "-Werror=implicit-function-declaration",
		"-DPLUGIN_API=" + strconv.Itoa(api)}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q", files, version, flags)
	path := filepath.Join(cacheDir, "counter-"+hex.EncodeToString(h.Sum(nil)[:12])+".so")
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
		return path, nil
	}

	if err := os.MkdirAll(cacheDir, 0o700); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(cacheDir, "build-*") // beside the target, so that the rename is atomic
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	built := filepath.Join(dir, "counter.so")
	for i, name := range sources {
		if err := os.WriteFile(filepath.Join(dir, name), files[i], 0o600); err != nil {
			return "", err
		}
		if filepath.Ext(name) == ".c" {
			flags = append(flags, filepath.Join(dir, name))
		}
	}
	cmd := exec.CommandContext(ctx, cc, append(flags, "-o", built)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compiling the counting plugin: %s: %w\n%s\nA C library's headers may be missing: apt-get install libc6-dev",
			cc, err, bytes.TrimSpace(out))
	}
	if err := os.Rename(built, path); err != nil {
		return "", err
	}
	return path, nil
}

// Arg returns the value of QEMU's -plugin option for the plugin at path, which reports to descriptor fd of QEMU. Descriptor
// ram is the file that backs the guest's RAM, and live is where executions of points are written to at once, as in the report;
// 0 if there is none.
func (c Config) Arg(path string, fd, ram, live int, logs ...int) string {
	arg := "file=" + strings.ReplaceAll(path, ",", ",,") + ",out=" + strconv.Itoa(fd)
	if live != 0 {
		arg += ",live=" + strconv.Itoa(live)
	}
	if !c.Count {
		arg += ",count=off"
	}
	if c.Tree {
		arg += ",tree=on"
	}
	if c.Memory {
		arg += ",memory=on"
		if ram != 0 {
			arg += ",ram=" + strconv.Itoa(ram)
			if c.LowRAM != 0 {
				arg += ",low=" + strconv.FormatInt(c.LowRAM, 10)
			}
		}
	}
	for _, log := range logs {
		arg += ",log=" + strconv.Itoa(log)
	}
	for _, p := range c.Points {
		mask := p.Mask
		if mask == 0 {
			mask = 1<<64 - 1
		}
		arg += fmt.Sprintf(",point=%#x:%#x:%x:%s", p.Addr, mask, p.Code, [...]string{PhaseNever: "", PhaseFirst: "p", PhaseEach: "P"}[p.Phase])
	}
	return arg
}
