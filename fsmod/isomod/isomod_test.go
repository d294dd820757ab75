package isomod_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	_ "github.com/firstlight-boot/firstlight/fsmod/isomod"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/tree"
)

func module(t *testing.T) fsmod.Module {
	t.Helper()
	needs.Tool(t, "xorriso", "xorriso")
	m, err := fsmod.Lookup("iso")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestXorriso(t *testing.T) {
	m := module(t)
	has := fsmodtest.All &^ (fsmodtest.Xattrs | fsmodtest.FineMtime | fsmodtest.LongNames | fsmodtest.Minors)
	if os.Getuid() != 0 {
		has &^= fsmodtest.Owners | fsmodtest.Devices
	}
	want := fsmodtest.Awkward(t, has)
	b := fsmodtest.Write(t, m, want, fsmod.Options{})
	if p, err := fsmod.Probe(bytes.NewReader(b), int64(len(b))); err != nil || p == nil || p.Name() != "iso" {
		t.Errorf("probe: %v, %v", p, err)
	}
	fsys, err := m.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := fsys.Tree()
	if err != nil {
		t.Fatal(err)
	}
	for i := range want.Entries { // files of their own
		if e := &want.Entries[i]; e.HardLink != "" {
			e.Source, e.HardLink = want.Lookup(e.HardLink).Source, ""
		}
	}
	fsmodtest.Compare(t, got, want, func(e *tree.Entry) {
		if e.Mode.Type() == fs.ModeSymlink { // whose times xorriso does not set on a disk
			e.ModTime = time.Time{}
		}
		if os.Getuid() != 0 {
			e.UID, e.GID = 0, 0
		}
	})
	if problems, err := m.Check(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || len(problems) > 0 {
		t.Errorf("check: %v, %v", problems, err)
	}
}

func TestRefused(t *testing.T) {
	m := module(t)
	if _, err := m.Write(t.Context(), &fsmodtest.Memory{}, fsmodtest.Awkward(t, fsmodtest.Xattrs), fsmod.Options{}); !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), "user.a") {
		t.Errorf("extended attributes: %v", err)
	}
	slash, err := tree.New(tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, tree.Entry{Path: "l", Mode: fs.ModeSymlink | 0o777, Link: "a/"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Write(t.Context(), &fsmodtest.Memory{}, slash, fsmod.Options{}); !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), "slashes") {
		t.Errorf("link: %v", err)
	}
	for want, e := range map[string]tree.Entry{
		"a name of 254 bytes":  {Path: strings.Repeat("n", 254), Mode: 0o644},
		"the device 254:70000": {Path: "d", Mode: fs.ModeDevice | 0o600, Major: 254, Minor: 70000},
		"a path of 1024 bytes": {Path: "l", Mode: fs.ModeSymlink | 0o777, Link: strings.Repeat("/x", 512)},
		"a name is longer":     {Path: "l", Mode: fs.ModeSymlink | 0o777, Link: "a/" + strings.Repeat("x", 256)},
	} {
		tr, err := tree.New(tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Write(t.Context(), &fsmodtest.Memory{}, tr, fsmod.Options{}); !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	tr := fsmodtest.Awkward(t, 0)
	if _, err := m.Write(t.Context(), &fsmodtest.Failing{Left: 100}, tr, fsmod.Options{}); !errors.Is(err, fsmodtest.ErrFull) {
		t.Errorf("failing writer: %v", err)
	}
	t.Setenv("PATH", "")
	if _, err := m.Write(t.Context(), &fsmodtest.Memory{}, tr, fsmod.Options{}); !errors.Is(err, hosttool.ErrMissing) || !strings.Contains(err.Error(), "apt-get install xorriso") {
		t.Errorf("without a PATH: %v", err)
	}
}
