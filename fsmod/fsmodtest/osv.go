package fsmodtest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/internal/osvtest"
	"github.com/firstlight-boot/firstlight/tree"
)

// OSv tests a module of one of OSv's formats. ordered is the module that writes in the order of osvtest's manifest, and golden what
// OSv's own tool makes of that.
func OSv(t *testing.T, ordered fsmod.Module, golden []byte) {
	m, err := fsmod.Lookup(ordered.Name())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res, err := ordered.Write(t.Context(), f, osvtest.Tree(t), fsmod.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(f.Name()); !bytes.Equal(got, golden) || res.Bytes != int64(len(got)) {
		t.Errorf("%d bytes, told %d, want what OSv's tool writes", len(got), res.Bytes)
	}
	if found, err := fsmod.Probe(f, res.Bytes); err != nil || found == nil || found.Name() != m.Name() {
		t.Errorf("Probe: %v, %v", found, err)
	}
	if list, err := m.Check(t.Context(), f, res.Bytes); err != nil || len(list) > 0 {
		t.Errorf("Check: %v, %v", list, err)
	}
	fsys, err := m.Open(f, res.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	got, err := fsys.Tree()
	if err != nil {
		t.Fatal(err)
	}
	osvtest.Same(t, got, osvtest.Tree(t))
	if a := fsmod.Uses(got); a != 0 {
		t.Errorf("a tree that was read uses %v", a)
	}
	var bytes int64
	if err := fsys.(fsmod.Mapper).Extents(func(e fsmod.Extent) { bytes += e.Length }); err != nil || bytes < res.ContentBytes {
		t.Errorf("extents of %d bytes, %v", bytes, err)
	}
	if _, err := m.Open(f, res.Bytes-1); !errors.Is(err, fsmod.ErrDamaged) {
		t.Errorf("truncated: %v", err)
	}
	if _, err := m.Write(t.Context(), f, osvtest.Tree(t), fsmod.Options{Codec: "lz4"}); !errors.Is(err, fsmod.ErrUnsupported) {
		t.Errorf("compressed: %v", err)
	}
	device, err := tree.New(tree.Entry{Path: ".", Mode: os.ModeDir}, tree.Entry{Path: "null", Mode: os.ModeDevice | os.ModeCharDevice})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.(fsmod.Lacker).CanHold(&device.Entries[1]); !errors.Is(err, fsmod.ErrUnsupported) || fsmod.Uses(device)&m.(fsmod.Lacker).Lacks() == 0 {
		t.Errorf("device nodes: %v", err)
	}
}

// Reduced writes a tree, and wants it back without what the module lacks.
func Reduced(t *testing.T, m fsmod.Module, want *tree.Tree) {
	t.Helper()
	r := bytes.NewReader(Write(t, m, want, fsmod.Options{}))
	if list, err := m.Check(t.Context(), r, r.Size()); err != nil || len(list) > 0 {
		t.Errorf("Check: %v, %v", list, err)
	}
	fsys, err := m.Open(r, r.Size())
	if err != nil {
		t.Fatal(err)
	}
	got, err := fsys.Tree()
	if err != nil {
		t.Fatal(err)
	}
	Compare(t, got, fsmod.Reduce(want, fsmod.Lacks(m)), nil)
}
