package fsmodtest

import (
	"bytes"
	"debug/elf"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/tree"
)

//go:embed testdata/init.c
var linuxInit []byte

// LinuxDrivers are the modules that Debian's cloud kernel needs to mount a disk's file systems. ext4 is in the kernel itself; the
// last three are the character sets of fat.
var LinuxDrivers = []string{"virtio_mmio", "virtio_pci", "virtio_blk", "erofs", "squashfs", "isofs", "vfat", "nls_cp437", "nls_ascii", "nls_utf8"}

// linuxFile returns the path of something that scripts/linux-kernel makes.
func linuxFile(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(dir, "out", "linux", name)
	if _, err := os.Stat(path); err != nil {
		needs.Missing(t, path+" is not there: scripts/linux-kernel")
	}
	return path
}

// LinuxBusy is what a Linux needs on its command line to boot on a host that is busy and has no KVM: it counts the timer's interrupts while it
// believes that some milliseconds pass, and panics when the host kept QEMU waiting meanwhile ("IO-APIC + timer doesn't work").
const LinuxBusy = "no_timer_check"

// LinuxKernel returns the path of Debian's cloud kernel.
func LinuxKernel(t testing.TB) string {
	t.Helper()
	return linuxFile(t, "vmlinuz")
}

// LinuxInitrd writes an initial RAM disk by the file-system module ramfs, and returns its path. Its /init is testdata/init.c, which
// says what it does with the files that are added; it loads the drivers, and those that they need before them.
func LinuxInitrd(t testing.TB, ramfs fsmod.Module, drivers []string, files ...tree.Entry) string {
	t.Helper()
	needs.Tool(t, "cc", "gcc")
	dir := t.TempDir()
	source, program := filepath.Join(dir, "init.c"), filepath.Join(dir, "init")
	if err := os.WriteFile(source, linuxInit, 0o600); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.Command("cc", "-static", "-O1", "-Wall", "-Wno-parentheses", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, msg)
	}
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	folder := fs.ModeDir | fs.FileMode(0o755)
	entries := append([]tree.Entry{
		{Path: ".", Mode: folder}, {Path: "dev", Mode: folder}, {Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
		{Path: "modules", Mode: folder}, {Path: "want", Mode: folder}, File("init", string(b), 0o755),
	}, files...)
	modules, loaded := linuxFile(t, "modules"), map[string]bool{}
	var load func(name string)
	load = func(name string) {
		if loaded[name] {
			return
		}
		loaded[name] = true
		b, err := os.ReadFile(filepath.Join(modules, name+".ko"))
		if err != nil {
			t.Fatal(err)
		}
		depends, err := moduleDepends(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, d := range depends {
			load(d)
		}
		entries = append(entries, File(fmt.Sprintf("modules/%03d-%s.ko", len(entries), name), string(b), 0o644))
	}
	for _, name := range drivers {
		load(name)
	}
	tr, err := tree.New(entries...)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "initrd")
	if err := os.WriteFile(path, Write(t, ramfs, tr, fsmod.Options{}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// moduleDepends returns the names of the modules that a module of Linux needs, as its section .modinfo has them.
func moduleDepends(b []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("no section .modinfo")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for line := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(line, "depends="); ok {
			return strings.FieldsFunc(list, func(c rune) bool { return c == ',' }), nil
		}
	}
	return nil, nil
}
