package squashfsmod_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	_ "github.com/firstlight-boot/firstlight/fsmod/squashfsmod"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/tree"
)

func module(t *testing.T) fsmod.Module {
	t.Helper()
	needs.Tool(t, "mksquashfs", "squashfs-tools")
	m, err := fsmod.Lookup("squashfs")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// features are what a file system holds that is extracted again by this user.
func features() fsmodtest.Feature {
	has := fsmodtest.All &^ fsmodtest.FineMtime
	if os.Getuid() != 0 {
		has &^= fsmodtest.Owners | fsmodtest.Devices
	}
	return has
}

// forget is what unsquashfs does not restore for a user who is not root: owners, and the special bits of others' files.
func forget(e *tree.Entry) {
	if os.Getuid() != 0 {
		e.UID, e.GID = 0, 0
		e.Mode &^= fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	}
}

func TestUnsquashfs(t *testing.T) {
	m := module(t)
	want := fsmodtest.Awkward(t, features())
	for _, o := range []fsmod.Options{{}, {Codec: "gzip"}, {Codec: "lz4", ClusterSize: 4096}, {Codec: "lz4hc"}, {Codec: "zstd", Level: 3, ClusterSize: 1 << 20}, {Codec: "xz"}} {
		b := fsmodtest.Write(t, m, want, o)
		if p, err := fsmod.Probe(bytes.NewReader(b), int64(len(b))); err != nil || p == nil || p.Name() != "squashfs" {
			t.Errorf("probe: %v, %v", p, err)
		}
		got := fsmodtest.Extracted(t, b, func(img, dir string) *exec.Cmd {
			return exec.Command("unsquashfs", "-quiet", "-no-progress", "-force", "-dest", dir, img)
		})
		fsmodtest.Compare(t, got, want, forget)
		if o.Codec != "zstd" {
			continue
		}
		fsys, err := m.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err = fsys.Tree(); err != nil {
			t.Fatal(err)
		}
		fsmodtest.Compare(t, got, want, forget)
		if problems, err := m.Check(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || len(problems) > 0 {
			t.Errorf("check: %v, %v", problems, err)
		}
		b = bytes.Clone(b)
		for i := 200; i < len(b)/2; i++ {
			b[i] = 0xa5
		}
		if problems, err := m.Check(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || len(problems) == 0 {
			t.Errorf("check of a damaged one: %v, %v", problems, err)
		}
	}
}

// TestOldTimes has times before 1970 become the nearest that squashfs has.
func TestOldTimes(t *testing.T) {
	m := module(t)
	for _, at := range []time.Time{time.Unix(-100, 0), time.Unix(-100, 5e8), time.Unix(0, -1)} {
		f, link := fsmodtest.File("f", "x", 0o644), tree.Entry{Path: "l", Mode: fs.ModeSymlink | 0o777, Link: strings.Repeat("/x", 100)}
		f.ModTime, link.ModTime = at, at
		old, err := tree.New(tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755, ModTime: at}, f, link)
		if err != nil {
			t.Fatal(err)
		}
		b := fsmodtest.Write(t, m, old, fsmod.Options{})
		got := fsmodtest.Extracted(t, b, func(img, dir string) *exec.Cmd {
			return exec.Command("unsquashfs", "-quiet", "-no-progress", "-force", "-dest", dir, img)
		})
		fsmodtest.Compare(t, got, old, func(e *tree.Entry) {
			forget(e)
			e.ModTime = time.Unix(max(e.ModTime.Unix(), 0), 0).UTC()
		})
	}
}

func TestRefused(t *testing.T) {
	m := module(t)
	tr := fsmodtest.Awkward(t, 0)
	for want, o := range map[string]fsmod.Options{
		"lzo": {Codec: "lzo"}, "cluster size 5000": {ClusterSize: 5000}, "level": {Codec: "lz4", Level: 3}, "level 10 of gzip": {Codec: "gzip", Level: 10}, "level 23 of zstd": {Codec: "zstd", Level: 23}, "hot": {Hot: func(string) bool { return true }},
	} {
		if _, err := m.Write(t.Context(), &fsmodtest.Memory{}, tr, o); !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := m.Write(t.Context(), &fsmodtest.Failing{Left: 100}, tr, fsmod.Options{}); !errors.Is(err, fsmodtest.ErrFull) {
		t.Errorf("failing writer: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Write(ctx, &fsmodtest.Memory{}, tr, fsmod.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	future := fsmodtest.File("f", "x", 0o644)
	future.ModTime = time.Now().Add(time.Hour)
	late, err := tree.New(tr.Entries[0], future)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Write(t.Context(), &fsmodtest.Memory{}, late, fsmod.Options{}); !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), "future") {
		t.Errorf("a file of the future: %v", err)
	}
	t.Setenv("PATH", "")
	_, err = m.Write(t.Context(), &fsmodtest.Memory{}, tr, fsmod.Options{})
	if !errors.Is(err, hosttool.ErrMissing) || !strings.Contains(err.Error(), "apt-get install squashfs-tools") {
		t.Errorf("without a PATH: %v", err)
	}
}
