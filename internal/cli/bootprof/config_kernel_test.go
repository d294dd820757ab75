package bootprof

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKernel takes the kernel out of an image in both forms and boots them with the image as their disk.
func TestKernel(t *testing.T) {
	needQEMU(t)
	img := appImage(t)
	dir := t.TempDir()
	bz, elf := filepath.Join(dir, "app.bzImage"), filepath.Join(dir, "app.elf")
	if code, stdout, stderr := bootprof(t, "kernel", img, "-o", bz); code != 0 || stdout+stderr != "" {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if code, _, stderr := bootprof(t, "kernel", img, "--format", "elf", "-o", elf); code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("more was written than two files: %v", entries)
	}
	data, err := os.ReadFile(bz)
	if err != nil {
		t.Fatal(err)
	}
	if code, stdout, _ := bootprof(t, "kernel", img, "-o", "-"); code != 0 || !bytes.Equal([]byte(stdout), data) {
		t.Errorf("-o - gives %d bytes and exit code %d, the file has %d bytes", len(stdout), code, len(data))
	}
	for _, tt := range []struct {
		kernel string
		flags  []string
	}{
		{bz, nil},
		{bz, []string{"--firmware", "seabios"}},
		{elf, nil},
	} {
		code, o, stderr := boot(t, append([]string{"--kernel", tt.kernel, "--disk", img, "--counting", "0", "--until", "exit", "--append", "arg=env"}, tt.flags...)...)
		if code != 0 || o == nil || o.Output == nil || *o.Output != "good morning\n" {
			t.Errorf("%s %v: exit code %d, %+v\n%s", filepath.Base(tt.kernel), tt.flags, code, o, stderr)
		}
	}
}

func TestKernelUsage(t *testing.T) {
	img := imageOf(t, guest(t))
	dir := t.TempDir()
	link := filepath.Join(dir, "link.elf")
	if err := os.Symlink(img, link); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		says string
	}{
		{nil, "want an image"},
		{[]string{""}, "want an image"},
		{[]string{"a", "b"}, "one argument too many"},
		{[]string{img}, "want -o FILE"},
		{[]string{img, "-o", dir + "/x", "--format", "vmlinux"}, "want bzimage or elf"},
		{[]string{img, "--format", "elf", "-o", dir}, "no regular file"},
		{[]string{img, "--format", "elf", "-o", "/dev/null"}, "no regular file"},
		{[]string{img, "--format", "elf", "-o", img}, "would replace the image itself"},
		{[]string{img, "--format", "elf", "-o", link}, "would replace the image itself"},
		{[]string{img, "--format", "elf", "-o", filepath.Join(dir, "none", "x")}, "cannot write"},
		{[]string{img, "-o", dir + "/x"}, "not a kernel file of kernel/link"}, // the test's guest is another kind of kernel
		{[]string{dir + "/none", "-o", dir + "/x"}, "no such file"},
	} {
		code, stdout, stderr := bootprof(t, append([]string{"kernel"}, tt.args...)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, tt.says) {
			t.Errorf("bootprof kernel %q: exit code %d, want 2 and %q\n%s%s", tt.args, code, tt.says, stdout, stderr)
		}
	}
	if after, _ := os.ReadFile(img); !bytes.Equal(before, after) {
		t.Error("the image was changed")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("something was left behind: %v", entries)
	}
}
