package imgbuild

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// QEMU boots the image itself as its kernel, the kernel finds the root in it and the app its arguments, environment and
// working directory.
func TestBoot(t *testing.T) {
	needs.Tool(t, "qemu-system-x86_64", "qemu-system-x86")
	needs.Tool(t, "gcc", "gcc libc6-dev")
	app := folder(t, map[string]string{"sub/file": "from the working directory\n", "main.c": `
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
	char line[80] = "";
	for (int i = 0; i < argc; i++) printf("arg <%s>\n", argv[i]);
	printf("env <%s>\n", getenv("GREETING"));
	FILE *f = fopen("file", "r");
	if (f) fgets(line, sizeof line, f);
	printf("file <%s", line);
	return 7;
}`})
	if out, err := exec.Command("gcc", "-static", "-o", filepath.Join(app, "app"), filepath.Join(app, "main.c")).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	img := filepath.Join(t.TempDir(), "odd, name.img")
	imgbuild(t, 0, "--compress", "--cmd", `app "two words"`, "--env", "GREETING=hi there", "--cwd", "/sub", "--raw", "app", "-o", img, app)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "microvm,acpi=off", "-cpu", "max", "-m", "64", "-nodefaults", "-no-user-config", "-no-reboot",
		"-display", "none", "-serial", "stdio", "-global", "virtio-mmio.force-legacy=false", "-kernel", img,
		"-drive", "if=none,id=root,format=raw,readonly=on,file="+strings.ReplaceAll(img, ",", ",,"), "-device", "virtio-blk-device,drive=root",
		"-device", "isa-debug-exit,iobase=0x501")
	out, err := cmd.CombinedOutput()
	text := strings.ReplaceAll(string(out), "\r", "")
	if want := "arg </app>\narg <two words>\nenv <hi there>\nfile <from the working directory\n"; !strings.Contains(text, want) {
		t.Errorf("the app did not print %q (%v):\n%s", want, err, text)
	}
	if code := cmd.ProcessState.ExitCode(); code != 2*7+1 {
		t.Errorf("QEMU's exit code is %d, want 15: the app's 7 at port %#x (%v)", code, abi.PortExit, err)
	}
}
