package imgbuild

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/internal/needs"
)

// linuxKernelFile writes the least that passes for a Linux kernel.
func linuxKernelFile(t *testing.T) string {
	b := make([]byte, 5*512)
	b[0x1f1], b[0x1fe], b[0x1ff], b[0x207], b[0x211] = 4, 0x55, 0xaa, 2, 1
	b[0x206] = 15
	copy(b[0x202:], "HdrS")
	name := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRAMFS(t *testing.T) {
	needs.Tool(t, "cpio", "cpio")
	app := folder(t, map[string]string{"a/b": "x", "c*": "y"})
	out := filepath.Join(t.TempDir(), "x.cpio")
	imgbuild(t, 0, "--no-kernel", "--ramfs", "-o", out, app)
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("cpio", "-t", "--quiet")
	cmd.Stdin = f
	list, err := cmd.Output()
	if got := string(list); err != nil || got != ".\na\na/b\nc\n" {
		t.Errorf("cpio -t: %q, %v", got, err)
	}
	for _, codec := range []string{"", "=gzip", "=zstd", "=lz4"} {
		imgbuild(t, 0, "--no-kernel", "--ramfs", "--compress"+codec, "-o", out, app)
		imgbuild(t, 0, "verify", out)
		for i, want := range []string{"x", "y"} {
			got, _ := imgbuild(t, 0, "cat", out, []string{"a/b", "c"}[i])
			if got != want {
				t.Errorf("%q: content %q, want %q", codec, got, want)
			}
		}
	}
}

func TestLinuxFlavour(t *testing.T) {
	kernel := linuxKernelFile(t)
	img := filepath.Join(t.TempDir(), "x.img")
	build := func(code int, files map[string]string, args ...string) string {
		t.Helper()
		_, stderr := imgbuild(t, code, append([]string{"--kernel", kernel, "--flavour", "linux", "-o", img, folder(t, files)}, args...)...)
		return stderr
	}
	s := string(hello)
	build(0, map[string]string{"bin/app*": s}, "--ramfs", "--compress", "--append", "console=ttyS0 debug")
	imgbuild(t, 0, "verify", img)
	list, _ := imgbuild(t, 0, "ls", "-l", img)
	contains(t, "the root", list, "init -> /bin/app")
	list, _ = imgbuild(t, 0, "ls", "-l", img, "/dev")
	contains(t, "/dev", list, "crw-------", "console")
	text, _ := imgbuild(t, 0, "inspect", "--json", img)
	contains(t, "the parameters", text, `"append": "console=ttyS0 debug"`, `"/bin/app"`, `"linux"`)

	// The app's own /init comes first, and stays.
	build(0, map[string]string{"init*": "#!/bin/sh\n", "bin/sh*": s, "bin/app*": s})
	text, _ = imgbuild(t, 0, "inspect", "--json", img)
	contains(t, "the parameters", text, `"/init"`)
	list, _ = imgbuild(t, 0, "cat", img, "init")
	contains(t, "/init", list, "#!/bin/sh")

	dynamic := string(program(elf.EM_X86_64, "/lib64/ld.so"))
	build(0, map[string]string{"app*": dynamic, "lib64/ld.so*": s}, "--cmd", "/app")
	for name, c := range map[string]struct {
		files map[string]string
		args  []string
		want  string
	}{
		"library":     {map[string]string{"app*": dynamic}, nil, "needs /lib64/ld.so"},
		"interpreter": {map[string]string{"app*": "#!/bin/sh -e\n"}, []string{"--cmd", "app"}, "needs /bin/sh"},
		"machine":     {map[string]string{"app*": string(program(elf.EM_AARCH64, ""))}, nil, "another machine"},
		"rofs":        {map[string]string{"app*": s}, []string{"--rofs"}, "Linux cannot mount it"},
		"cwd":         {map[string]string{"app*": s, "d/x": ""}, []string{"--cwd", "/d"}, "working directory"},
		"kernel":      {map[string]string{"app*": s}, []string{"--kernel", os.Args[0]}, "kernel"},
	} {
		if stderr := build(2, c.files, c.args...); !strings.Contains(stderr, c.want) {
			t.Errorf("%s: %s", name, stderr)
		}
	}
	_, stderr := imgbuild(t, 2, "--append", "x", folder(t, map[string]string{"app*": s}))
	contains(t, "the error", stderr, "--append", "linux")
}

// TestForeignFileSystems makes an image of Linux with each file system that it mounts from a disk.
func TestForeignFileSystems(t *testing.T) {
	kernel := linuxKernelFile(t)
	for module, tools := range map[string][2]string{
		"ext4": {"e2fsck", "e2fsprogs"}, "erofs": {"mkfs.erofs", "erofs-utils"}, "squashfs": {"mksquashfs", "squashfs-tools"}, "iso": {"xorriso", "xorriso"}, "fat": {"mcopy", "mtools"},
	} {
		t.Run(module, func(t *testing.T) {
			needs.Tool(t, tools[0], tools[1])
			app := folder(t, map[string]string{"bin/app*": string(hello), "data": "content"})
			img := filepath.Join(t.TempDir(), "x.img")
			imgbuild(t, 0, "--kernel", kernel, "--flavour", "linux", "--fs", module, "-o", img, app)
			imgbuild(t, 0, "verify", img)
			list, _ := imgbuild(t, 0, "ls", img)
			contains(t, "the root", list, "bin", "data", "dev")
			if got, _ := imgbuild(t, 0, "cat", img, "data"); got != "content" {
				t.Errorf("data is %q", got)
			}
			imgbuild(t, 0, "--no-kernel", "--fs", module, "-o", img, app)
			if module == "ext4" {
				return
			}
			t.Setenv("PATH", "")
			_, stderr := imgbuild(t, 4, "--no-kernel", "--fs", module, "-o", img, app)
			contains(t, "the error", stderr, "is not installed", "apt-get install")
		})
	}
}

// TestInitrd puts an initial RAM disk into an image, and has it refused where it has no place.
func TestInitrd(t *testing.T) {
	kernel := linuxKernelFile(t)
	dir := t.TempDir()
	img, other, initrd := filepath.Join(dir, "x.img"), filepath.Join(dir, "y.img"), filepath.Join(dir, "initrd")
	if err := os.WriteFile(initrd, []byte("an archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	app := folder(t, map[string]string{"app*": string(hello)})
	linux := []string{"--kernel", kernel, "--flavour", "linux", "--fs", "ext4"}
	build := func(code int, out string, args ...string) string {
		t.Helper()
		_, stderr := imgbuild(t, code, append(args, "-o", out, app)...)
		return stderr
	}
	build(0, img, append(linux, "--initrd", initrd)...)
	imgbuild(t, 0, "verify", img)
	text, _ := imgbuild(t, 0, "inspect", img)
	contains(t, "inspect", text, "initrd")
	list, _ := imgbuild(t, 0, "ls", img)
	contains(t, "the root", list, "dev", "proc", "run", "sys")

	build(0, other, append(linux, "--initrd", initrd)...)
	imgbuild(t, 0, "diff", img, other)
	build(0, other, append(linux, "--initrd", kernel)...)
	text, _ = imgbuild(t, 1, "diff", img, other)
	contains(t, "diff", text, "initrd")
	build(0, other, linux...)
	text, _ = imgbuild(t, 1, "diff", img, other)
	contains(t, "diff", text, "initrd")

	contains(t, "no such file", build(2, img, append(linux, "--initrd", filepath.Join(dir, "none"))...), "--initrd", "none")
	contains(t, "a folder", build(2, img, append(linux, "--initrd", dir)...), "not a regular file")
	contains(t, "a RAMFS root", build(2, img, "--kernel", kernel, "--flavour", "linux", "--ramfs", "--initrd", initrd), "RAMFS root")
	contains(t, "our kernel", build(2, img, "--fs", "rofs", "--initrd", initrd), "flavour linux")
	contains(t, "no kernel", build(2, img, "--no-kernel", "--initrd", initrd), "--no-kernel")

	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(b), "an archive")
	if i < 0 || i%4096 != 0 {
		t.Fatalf("the initial RAM disk is at %d", i)
	}
	b[i] ^= 1
	if err := os.WriteFile(img, b, 0o644); err != nil {
		t.Fatal(err)
	}
	text, _ = imgbuild(t, 1, "verify", img)
	contains(t, "verify", text, "partition initrd")
}
