package vdsobuild_test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/kernel/vdso"
	"github.com/firstlight-boot/firstlight/kernel/vdso/vdsobuild"
)

var functions = []string{"__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_getcpu"}

func TestImageIsCurrent(t *testing.T) {
	want, err := vdsobuild.Build()
	if err != nil {
		t.Fatal(err)
	}
	if vdso.Image != string(want) {
		t.Error("the image is not what the code makes: go generate ./kernel/vdso")
	}
	src, err := os.ReadFile("../image.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(src, vdsobuild.Source(want)) {
		t.Error("image.go is not what the code makes: go generate ./kernel/vdso")
	}
}

// imageFile writes the image as the kernel maps it, a page of it, and returns its name.
func imageFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "vdso.so")
	if err := os.WriteFile(name, append([]byte(vdso.Image), make([]byte, vdso.PageSize-len(vdso.Image))...), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// The tools of others understand the image.
func TestForeignReaders(t *testing.T) {
	needs.Tool(t, "readelf", "binutils")
	needs.Tool(t, "objdump", "binutils")
	name := imageFile(t)
	headers := output(t, "readelf", "-aW", name)
	for _, bad := range []string{"Warning", "Error", "<corrupt", "unknown"} {
		// The letter for unknown is explained in any case.
		if strings.Contains(strings.ReplaceAll(headers, "x (unknown)", ""), bad) {
			t.Errorf("readelf says %s:\n%s", bad, headers)
		}
	}
	symbols := output(t, "objdump", "-T", name)
	code := output(t, "objdump", "-d", name)
	for _, f := range functions {
		if !strings.Contains(headers, f+"@@LINUX_2.6") || !strings.Contains(symbols, f) || !strings.Contains(code, "<"+f+"@@LINUX_2.6>:") {
			t.Errorf("%s is not there for readelf or objdump", f)
		}
	}
	if strings.Contains(code, "(bad)") {
		t.Errorf("objdump cannot read all of the code:\n%s", code)
	}
	if n := strings.Count(code, "# fffffffffffff0"); n != 3*7+1 { // RIP-relative: all on the page before
		t.Errorf("%d references to the data:\n%s", n, code)
	}
}

// The code computes what it has to, on this processor.
func TestCode(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the host is not Linux on x86-64")
	}
	needs.Tool(t, "gcc", "gcc libc6-dev")
	name := imageFile(t)
	f, err := elf.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{name}
	for _, fn := range functions {
		for _, s := range symbols {
			if s.Name == fn {
				args = append(args, fmt.Sprint(s.Value))
			}
		}
	}
	if len(args) != 1+len(functions) {
		t.Fatalf("%v of %v", args, symbols)
	}
	prog := filepath.Join(t.TempDir(), "call")
	output(t, "gcc", "-O1", "-w", "-o", prog, filepath.Join("testdata", "call.c"))
	if out := output(t, prog, args...); out != "ok\n" {
		t.Error(out)
	}
}
