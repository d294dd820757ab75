package fsmod_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/rofsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

// buffer is an io.WriterAt in memory.
type buffer struct{ b []byte }

func (w *buffer) WriteAt(p []byte, off int64) (int, error) {
	if n := int(off) + len(p); n > len(w.b) {
		w.b = append(w.b, make([]byte, n-len(w.b))...)
	}
	return copy(w.b[off:], p), nil
}

func TestRegistry(t *testing.T) {
	if got := fsmod.Names(); !slices.Equal(got, []string{"rofs"}) {
		t.Errorf("Names: %q", got)
	}
	if _, err := fsmod.Lookup("zfs"); !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), "available: rofs") {
		t.Errorf("Lookup of nothing: %v", err)
	}
	m, err := fsmod.Lookup("rofs")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("Register takes a name twice")
		}
	}()
	fsmod.Register(m)
}

// What every module that is linked in has to do, with each of its codecs.
func TestModules(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	in, err := tree.New(
		tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755, ModTime: now},
		tree.Entry{Path: "empty", Mode: 0o640, UID: 1, GID: 2, ModTime: now},
		tree.Entry{Path: "link", Mode: fs.ModeSymlink | 0o777, Link: "empty", ModTime: now},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range fsmod.Names() {
		m, err := fsmod.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, codec := range append(m.Codecs(), "") {
			var w buffer
			res, err := m.Write(t.Context(), &w, in, fsmod.Options{Codec: codec})
			if err != nil || res.Bytes != int64(len(w.b)) || res.Entries != 3 {
				t.Fatalf("%s %q: %+v, %v; %d bytes were written", name, codec, res, err, len(w.b))
			}
			r := bytes.NewReader(w.b)
			if found, err := fsmod.Probe(r, res.Bytes); found == nil || found.Name() != name || err != nil {
				t.Errorf("%s %q: Probe finds %v, %v", name, codec, found, err)
			}
			if problems, err := m.Check(t.Context(), r, res.Bytes); len(problems) > 0 || err != nil {
				t.Errorf("%s %q: Check: %v, %v", name, codec, problems, err)
			}
			fsys, err := m.Open(r, res.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if err := fstest.TestFS(fsys, "empty", "link"); err != nil {
				t.Errorf("%s %q: %v", name, codec, err)
			}
			out, err := fsys.Tree()
			if err != nil {
				t.Fatal(err)
			}
			if err := out.Validate(); err != nil || len(out.Entries) != 3 || out.Entries[1].UID != 1 || out.Entries[2].Link != "empty" {
				t.Errorf("%s %q: %+v, %v", name, codec, out.Entries, err)
			}
			if _, err := m.Open(r, res.Bytes-1); !errors.Is(err, fsmod.ErrDamaged) {
				t.Errorf("%s %q: Open of a truncated file system: %v", name, codec, err)
			}
		}
		if _, err := m.Write(t.Context(), new(buffer), in, fsmod.Options{ClusterSize: 12345}); !errors.Is(err, fsmod.ErrUnsupported) {
			t.Errorf("%s: a strange cluster size: %v", name, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := m.Write(ctx, new(buffer), in, fsmod.Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: interrupted: %v", name, err)
		}
	}
	if m, err := fsmod.Probe(strings.NewReader("x"), 1); m != nil || err != nil {
		t.Errorf("Probe of one byte: %v, %v", m, err)
	}
}
