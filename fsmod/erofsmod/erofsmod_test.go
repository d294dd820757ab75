package erofsmod_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/erofsmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/tree"
)

func module(t *testing.T) fsmod.Module {
	t.Helper()
	needs.Tool(t, "mkfs.erofs", "erofs-utils")
	m, err := fsmod.Lookup("erofs")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// features are what a file system holds that is extracted again by this user.
func features() fsmodtest.Feature {
	has := fsmodtest.All &^ fsmodtest.LongNames
	if os.Getuid() != 0 {
		has &^= fsmodtest.Owners | fsmodtest.Devices
	}
	return has
}

func forget(e *tree.Entry) {
	if os.Getuid() != 0 {
		e.UID, e.GID = 0, 0
	}
}

// TestFsck has fsck.erofs extract what it can: of version 1.5, no hard links, extended attributes and special bits.
func TestFsck(t *testing.T) {
	m := module(t)
	want := fsmodtest.Awkward(t, features()&^(fsmodtest.Xattrs|fsmodtest.Hard))
	for _, o := range []fsmod.Options{{}, {Codec: "lz4"}, {Codec: "lz4hc", Level: 9, ClusterSize: 64 << 10}} {
		b := fsmodtest.Write(t, m, want, o)
		if p, err := fsmod.Probe(bytes.NewReader(b), int64(len(b))); err != nil || p == nil || p.Name() != "erofs" {
			t.Errorf("probe: %v, %v", p, err)
		}
		got := fsmodtest.Extracted(t, b, func(img, dir string) *exec.Cmd {
			return exec.Command("fsck.erofs", "--extract="+dir, "--overwrite", img)
		})
		fsmodtest.Compare(t, got, want, func(e *tree.Entry) {
			forget(e)
			e.Mode &^= fs.ModeSetuid | fs.ModeSticky
		})
		if problems, err := m.Check(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || len(problems) > 0 {
			t.Errorf("%+v: check: %v, %v", o, problems, err)
		}
		if o.Codec != "" {
			if _, err := m.Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, fsmod.ErrUnsupported) {
				t.Errorf("%+v: open: %v", o, err)
			}
		}
		b = bytes.Clone(b)
		b[1024+100] ^= 1 // in the superblock, which has a check code
		if problems, err := m.Check(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || len(problems) == 0 {
			t.Errorf("%+v: check of a damaged one: %v, %v", o, problems, err)
		}
	}
}

// TestReadBack reads all of it by go-erofs.
func TestReadBack(t *testing.T) {
	m := module(t)
	want := fsmodtest.Awkward(t, features()&^fsmodtest.Bytes)
	b := fsmodtest.Write(t, m, want, fsmod.Options{})
	fsys, err := m.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := fsys.Tree()
	if err != nil {
		t.Fatal(err)
	}
	fsmodtest.Compare(t, got, want, forget)
}

func TestRefused(t *testing.T) {
	m := module(t)
	tr := fsmodtest.Awkward(t, 0)
	for want, o := range map[string]fsmod.Options{
		"lzo": {Codec: "lzo"}, "cluster size 5000": {Codec: "lz4", ClusterSize: 5000}, "level": {Codec: "lz4", Level: 3}, "level 13 of lz4hc": {Codec: "lz4hc", Level: 13}, "level -1 of lz4hc": {Codec: "lz4hc", Level: -1}, "hot": {Hot: func(string) bool { return true }},
	} {
		if _, err := m.Write(t.Context(), &fsmodtest.Memory{}, tr, o); !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := m.Write(t.Context(), &fsmodtest.Memory{}, fsmodtest.Awkward(t, fsmodtest.LongNames), fsmod.Options{}); !errors.Is(err, fsmod.ErrUnsupported) {
		t.Errorf("a name of 255 bytes: %v", err)
	}
	if _, err := m.Write(t.Context(), &fsmodtest.Failing{Left: 100}, tr, fsmod.Options{}); !errors.Is(err, fsmodtest.ErrFull) {
		t.Errorf("failing writer: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Write(ctx, &fsmodtest.Memory{}, tr, fsmod.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	t.Setenv("PATH", "")
	_, err := m.Write(t.Context(), &fsmodtest.Memory{}, tr, fsmod.Options{})
	if !errors.Is(err, hosttool.ErrMissing) || !strings.Contains(err.Error(), "apt-get install erofs-utils") {
		t.Errorf("without a PATH: %v", err)
	}
}

// FuzzOpen changes bytes of a file system.
func FuzzOpen(f *testing.F) {
	needs.Tool(f, "mkfs.erofs", "erofs-utils")
	m, err := fsmod.Lookup("erofs")
	if err != nil {
		f.Fatal(err)
	}
	small, err := tree.New(
		tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, tree.Entry{Path: "d", Mode: fs.ModeDir | 0o755}, fsmodtest.File("d/f", strings.Repeat("abc", 3000), 0o644),
		tree.Entry{Path: "l", Mode: fs.ModeSymlink | 0o777, Link: "d/f"})
	if err != nil {
		f.Fatal(err)
	}
	seed := fsmodtest.Write(f, m, small, fsmod.Options{})
	seed[1024+8] &^= 1 // no check code, so that changes get further
	if _, err := m.Open(bytes.NewReader(seed), int64(len(seed))); err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte{})
	f.Add(uint32(1024), []byte{1, 2, 3})
	f.Add(uint32(1263), []byte("00\xb3(")) // folders in themselves
	f.Fuzz(func(t *testing.T, off uint32, change []byte) {
		b := bytes.Clone(seed)
		copy(b[int(off)%len(b):], change)
		fsys, err := m.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		tr, err := fsys.Tree()
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}
