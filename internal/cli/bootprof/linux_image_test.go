package bootprof

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/cli/imgbuild"
	"github.com/firstlight-boot/firstlight/internal/needs"
)

// linuxApp makes a folder with a program that tells what it was given, and a file of data.
func linuxApp(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	app := filepath.Join(dir, "app")
	if err := os.MkdirAll(filepath.Join(app, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(dir, "main.c")
	if err := os.WriteFile(source, []byte(`#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
	char line[80] = "";
	for (int i = 0; i < argc; i++) dprintf(1, "arg <%s>\n", argv[i]);
	FILE *f = fopen("/data", "r");
	if (f) fgets(line, sizeof line, f);
	dprintf(1, "env <%s> pid %d data <%s>\n", getenv("GREETING"), getpid(), line);
	return 7;
}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.Command("cc", "-static", "-O1", "-o", filepath.Join(app, "bin", "hello"), source).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, msg)
	}
	if err := os.WriteFile(filepath.Join(app, "data"), []byte("in RAM"), 0o644); err != nil {
		t.Fatal(err)
	}
	return app
}

// TestLinuxImage boots an image with Debian's kernel and a RAMFS image, whose first program is the app.
func TestLinuxImage(t *testing.T) {
	needQEMU(t)
	kernel := fsmodtest.LinuxKernel(t)
	needs.Tool(t, "cc", "gcc")
	app, img := linuxApp(t), filepath.Join(t.TempDir(), "odd, name.img")
	var out bytes.Buffer
	if code := imgbuild.Main([]string{"--kernel", kernel, "--flavour", "linux", "--append", image.LinuxAppend + " " + fsmodtest.LinuxBusy, "--ramfs", "--compress=lz4", "--cmd", `hello "two words" x="a b"`, "--env", "GREETING=hi there", "-o", img, app}, &out, &out); code != 0 {
		t.Fatalf("imgbuild: exit code %d\n%s", code, out.String())
	}
	code, o, stderr := boot(t, img, "-n", "1", "--counting", "0", "--until", "exit", "--", "more")
	if o == nil || o.Output == nil {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	want := "arg </bin/hello>\narg <two words>\narg <x=a b>\narg <more>\nenv <hi there> pid 1 data <in RAM>\n"
	if text := strings.ReplaceAll(*o.Output, "\r", ""); !strings.Contains(text, want) {
		t.Errorf("the app did not print %q:\n%s", want, text)
	}
	if code != 1 || o.ExitCode == nil || *o.ExitCode != 7 || o.Flavour != "linux" {
		t.Errorf("exit code %d, of the app %v, flavour %s", code, o.ExitCode, o.Flavour)
	}
	// A dry run names no file that is gone when it is pasted.
	code, line, stderr := bootprof(t, "qemu", "--dry-run", "--accel", "tcg", img)
	if code != 0 || strings.Contains(line, "/proc/") || !strings.Contains(line, "dd if=") || !strings.Contains(line, "rdinit=/bin/hello") {
		t.Errorf("dry run: exit code %d\n%s%s", code, line, stderr)
	}
}

// TestLinuxDiskImage boots images whose root Debian's kernel mounts from the disk, by the drivers in an initial RAM disk. What
// Linux reads of each file system, fsmod/fsmodtest tests.
func TestLinuxDiskImage(t *testing.T) {
	needQEMU(t)
	kernel, app := fsmodtest.LinuxKernel(t), linuxApp(t)
	ramfs, err := fsmod.Lookup("ramfs")
	if err != nil {
		t.Fatal(err)
	}
	initrd := fsmodtest.LinuxInitrd(t, ramfs, fsmodtest.LinuxDrivers)
	for module, tool := range map[string][2]string{
		"ext4": {"cc", "gcc"}, "erofs": {"mkfs.erofs", "erofs-utils"}, "fat": {"mcopy", "mtools"},
	} {
		t.Run(module, func(t *testing.T) {
			t.Parallel()
			needs.Tool(t, tool[0], tool[1])
			img := filepath.Join(t.TempDir(), "x.img")
			var out bytes.Buffer
			if code := imgbuild.Main([]string{"--kernel", kernel, "--flavour", "linux", "--append", image.LinuxAppend + " " + fsmodtest.LinuxBusy, "--fs", module, "--initrd", initrd, "--cmd", "hello one", "--env", "GREETING=hi", "-o", img, app}, &out, &out); code != 0 {
				t.Fatalf("imgbuild: exit code %d\n%s", code, out.String())
			}
			if code := imgbuild.Main([]string{"verify", img}, &out, &out); code != 0 {
				t.Fatalf("verify: exit code %d\n%s", code, out.String())
			}
			_, o, stderr := boot(t, img, "--machine", "q35", "-n", "1", "--counting", "0", "--no-floor", "--until", "exit", "--", "more")
			if o == nil || o.Output == nil || o.ExitCode == nil {
				t.Fatalf("it did not boot\n%s", stderr)
			}
			want := "arg </bin/hello>\narg <one>\narg <more>\nenv <hi> pid 1 data <in RAM>\n"
			if text := strings.ReplaceAll(*o.Output, "\r", ""); !strings.Contains(text, want) || *o.ExitCode != 7 {
				t.Errorf("exit code %d; the app did not print %q:\n%s", *o.ExitCode, want, text)
			}
			code, line, stderr := bootprof(t, "qemu", "--dry-run", "--accel", "tcg", img)
			if code != 0 || strings.Contains(line, "/proc/") || strings.Count(line, "dd if=") != 2 || !strings.Contains(line, "-initrd x.initrd") {
				t.Errorf("dry run: exit code %d\n%s%s", code, line, stderr)
			}
		})
	}
}
