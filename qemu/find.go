package qemu

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// EnvBinary names the environment variable that overrides the search of PATH.
const EnvBinary = "FIRSTLIGHT_QEMU"

const (
	binaryName = "qemu-system-x86_64"
	install    = "install it with: apt-get install qemu-system-x86"
)

// QEMU is an installed QEMU.
type QEMU struct {
	Path     string
	Version  Version
	CacheDir string // holds probe results and the compiled plugin; Find takes the user's cache directory
}

// Version is a QEMU version.
type Version struct{ Major, Minor, Micro int }

// MinVersion is the oldest QEMU that knows every option we pass: -plugin FILE,KEY=VALUE came last.
var MinVersion = Version{6, 1, 0}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro) }

// Less reports whether v is older than w.
func (v Version) Less(w Version) bool {
	if v.Major != w.Major {
		return v.Major < w.Major
	}
	if v.Minor != w.Minor {
		return v.Minor < w.Minor
	}
	return v.Micro < w.Micro
}

// Find returns the QEMU at path; if path is empty, the one that $FIRSTLIGHT_QEMU names; if that is empty too,
// qemu-system-x86_64 of PATH. The error wraps ErrNotFound or ErrTooOld and says what to install.
func Find(ctx context.Context, path string) (*QEMU, error) {
	name := path
	if name == "" {
		name = os.Getenv(EnvBinary)
	}
	if name == "" {
		name = binaryName
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("%w (%w): %s, or name it in $%s", ErrNotFound, err, install, EnvBinary)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, found, "--version")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s --version: %w; %s", ErrNotFound, found, err, install)
	}
	version, err := parseVersion(out)
	if err != nil {
		return nil, fmt.Errorf("%w: %s --version: %w; %s", ErrNotFound, found, err, install)
	}
	if version.Less(MinVersion) {
		return nil, fmt.Errorf("%w: %s is version %v, %v is needed; %s of a newer release", ErrTooOld, found, version, MinVersion, install)
	}
	q := &QEMU{Path: found, Version: version}
	if abs, err := filepath.Abs(found); err == nil {
		q.Path = abs
	}
	if dir, err := os.UserCacheDir(); err == nil {
		q.CacheDir = filepath.Join(dir, "firstlight")
	}
	return q, nil
}

// parseVersion reads the first line that --version prints, such as
// "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)".
func parseVersion(out []byte) (Version, error) {
	line, _, _ := bytes.Cut(out, []byte("\n"))
	_, rest, ok := strings.Cut(string(line), "QEMU emulator version ")
	if !ok {
		return Version{}, fmt.Errorf("%.60q is not QEMU's version", line)
	}
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	var v Version
	parts := strings.Split(number, ".")
	fields := []*int{&v.Major, &v.Minor, &v.Micro}
	if len(parts) < 2 {
		return Version{}, fmt.Errorf("%.60q is not a version", number)
	}
	for i, part := range parts[:min(len(parts), len(fields))] {
		digits := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if digits > 0 && i == 2 { // 9.2.0-rc1
			part = part[:digits]
		}
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return Version{}, fmt.Errorf("%.60q is not a version", number)
		}
		*fields[i] = int(n)
	}
	return v, nil
}
