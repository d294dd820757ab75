package plugin

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

//go:embed c/counter.c
var source []byte

// ErrNoCompiler is a host without a C compiler.
var ErrNoCompiler = errors.New("there is no C compiler for the counting plugin: apt-get install gcc libc6-dev")

const buildTimeout = time.Minute

// MaxAddrs is how many addresses a boot can log.
const MaxAddrs = 64

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
		return "", fmt.Errorf("%s --version: %w", cc, err)
	}
	flags := []string{"-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror=implicit-function-declaration",
		"-DPLUGIN_API=" + strconv.Itoa(api)}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q", source, version, flags)
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
	cmd := exec.CommandContext(ctx, cc, append(flags, "-x", "c", "-", "-o", built)...)
	cmd.Stdin = bytes.NewReader(source)
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

// Arg returns the value of QEMU's -plugin option for the plugin at path, which reports to descriptor fd of QEMU.
func Arg(path string, fd int, addrs []uint64) string {
	arg := "file=" + string(bytes.ReplaceAll([]byte(path), []byte(","), []byte(",,"))) + ",out=" + strconv.Itoa(fd)
	for _, addr := range addrs {
		arg += fmt.Sprintf(",addr=%#x", addr)
	}
	return arg
}
