package bootprof

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/firstlight-boot/firstlight/internal/needs"
)

// archive makes a newc archive of files of that content, by name.
func archive(t testing.TB, content string, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := cpio.Newc.Writer(&b)
	for _, name := range names {
		if err := w.WriteRecord(cpio.StaticFile(name, content, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteRecord(cpio.TrailerRecord); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func programNames(t testing.TB, initrd []byte) ([]string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(path, initrd, 0o600); err != nil {
		t.Fatal(err)
	}
	var names []string
	err := initrdPrograms(path, func(name string, content []byte) error {
		names = append(names, name)
		return nil
	})
	return names, err
}

func TestInitrd(t *testing.T) {
	const elf = "\x7fELF and more"
	plain := archive(t, elf, "init", "bin/sh")
	want := []string{"/init", "/bin/sh"}
	check := func(what string, initrd []byte, want []string) {
		t.Helper()
		names, err := programNames(t, initrd)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("plain", plain, want)
	check("text", archive(t, "#!/bin/sh", "init"), nil)
	for _, c := range []struct{ tool, pkg, flags string }{
		{"gzip", "gzip", "-c"}, {"zstd", "zstd", "-c"}, {"lz4", "lz4", "-lc"}, {"lz4", "lz4", "-c"}, {"bzip2", "bzip2", "-c"},
	} {
		needs.Tool(t, c.tool, c.pkg)
		cmd := exec.Command(c.tool, c.flags)
		cmd.Stdin = bytes.NewReader(plain)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		check(c.tool, packed, want)
		// Microcode comes first, and is not compressed.
		micro := append(archive(t, elf, "kernel/x86/microcode"), make([]byte, 512)...)
		check(c.tool+" after another", append(micro, packed...), append([]string{"/kernel/x86/microcode"}, want...))
		if _, err := programNames(t, packed[:len(packed)/2]); err == nil {
			t.Errorf("%s, cut short: no error", c.tool)
		}
	}
	if _, err := programNames(t, []byte("\xfd7zXZ\x00 and so on")); err == nil || !strings.Contains(err.Error(), "neither a newc archive") {
		t.Errorf("xz: %v", err)
	}
}

func FuzzInitrd(f *testing.F) {
	f.Add(archive(f, "\x7fELF", "init"))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		_, _ = programNames(t, b)
	})
}
