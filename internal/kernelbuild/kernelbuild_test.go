package kernelbuild

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/image"
)

// fakeGo puts a go command on the PATH that does what the script says.
func fakeGo(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
}

// The kernel is built from this checkout, is one that an image can hold, and comes out the same each time.
func TestBuild(t *testing.T) {
	dir, version := source()
	if dir == "" || version != "" {
		t.Skipf("the tests were built without their source's place (%q, %q)", dir, version)
	}
	a, err := Build(t.Context(), dir, "v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := image.CheckKernel(a); err != nil {
		t.Error(err)
	}
	if !bytes.Contains(a, []byte("version=v1\n")) {
		t.Error("the kernel does not say its version")
	}
	b, err := load(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Build(t.Context(), dir, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, c) {
		t.Error("two builds of the kernel differ")
	}
}

func TestFind(t *testing.T) {
	k, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := image.CheckKernel(b); err != nil {
		t.Errorf("the kernel %s: %v", k.Origin, err)
	}
}

func TestGoVersions(t *testing.T) {
	for v, ok := range map[string]bool{
		"go1.26": true, "go1.26.0": true, "go1.26.8": true,
		"go1.25.9": false, "go1.27": false, "go1.27.1": false, "go1.260": false, "go1.26rc1": false, "devel go1.26-abc": false, "go2.0": false,
	} {
		fakeGo(t, "echo "+v)
		_, err := checkGo(t.Context(), "")
		if (err == nil) != ok {
			t.Errorf("%s: %v", v, err)
		}
		if err != nil && !(strings.Contains(err.Error(), v) && strings.Contains(err.Error(), testedGo)) {
			t.Errorf("%s: the error does not name it and the tested one: %v", v, err)
		}
	}
}

func TestNoGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := checkGo(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "go command") {
		t.Errorf("without a go command: %v", err)
	}
	fakeGo(t, "echo 'no space left' >&2; exit 1")
	if _, err := checkGo(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("a failing go command: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := checkGo(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// A release's kernel comes from the cache, apart for each version and toolchain.
func TestCache(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(user, "firstlight", "kernel-v1.2.3-go1.26.8-abi1.elf")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(name, []byte("kernel")); err != nil {
		t.Fatal(err)
	}
	fakeGo(t, `[ "$1" = env ] && echo go1.26.8 || { echo "$@" >&2; exit 1; }`)
	if b, err := load(t.Context(), "", "v1.2.3"); string(b) != "kernel" || err != nil {
		t.Errorf("from the cache: %q, %v", b, err)
	}
	// Another version is not there: the go command is asked for it.
	if _, err := load(t.Context(), "", "v1.2.4"); err == nil || !strings.Contains(err.Error(), module+"@v1.2.4") {
		t.Errorf("another version: %v", err)
	}
}

func TestWriteFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "k")
	for _, text := range []string{"one", "two", "two"} {
		if err := WriteFile(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(name); string(b) != text || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	}
	if err := WriteFile(filepath.Join(name, "x"), nil); err == nil {
		t.Error("a file below a file is no error")
	}
	if list, err := os.ReadDir(filepath.Dir(name)); len(list) != 1 || err != nil {
		t.Errorf("left behind: %v, %v", list, err)
	}
}
