package testprog

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A real QEMU's disk that is of version 1, or cannot be read: the boot ends with a line that says so. If only a place within a file cannot
// be read, the program gets EIO there, and lives.
func TestDiskErrors(t *testing.T) {
	emulator(t)
	dir := t.TempDir()
	compileC(t, 0, "eio", filepath.Join(dir, "eio"))
	big := make([]byte, 1<<20) // which no codec can pack
	rand.NewChaCha8([32]byte{1}).Read(big)
	write(t, filepath.Join(dir, "big"), big, 0o644)
	img := makeImage(t, vmSpec{dir: dir, args: []string{"/eio"}})
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, big[1<<19:1<<19+4096])
	if at < 0 {
		t.Fatal("the file is not in the image as it is")
	}
	blkdebug := "driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename=" + img +
		",file.inject-error.0.event=read_aio,file.inject-error.0.errno=5"
	for _, c := range []struct{ name, legacy, drive, says string }{
		{"legacy", "true", "driver=raw,file.driver=file,file.filename=" + img,
			"firstlight: cannot mount the root: virtio-mmio at 0xfeb00e00 is a legacy device: start QEMU with -global virtio-mmio.force-legacy=false\n"},
		{"all", "false", blkdebug, "firstlight: cannot mount the root: virtio-mmio at 0xfeb00e00: read error at sector 0x"},
		{"a place", "false", fmt.Sprintf("%s,file.inject-error.0.sector=%d", blkdebug, at/512), "\nfd 3 errors 1 other 0 first 1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(limited(t), "qemu-system-x86_64", "-M", "microvm,acpi=off,pit=off,pic=off,rtc=off", "-m", "64", "-bios", "qboot.rom",
				"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", img,
				"-device", "isa-debug-exit,iobase=0x501,iosize=0x04", "-global", "virtio-mmio.force-legacy="+c.legacy,
				"-blockdev", "node-name=d,read-only=on,"+c.drive, "-device", "virtio-blk-device,drive=d,werror=report,rerror=report")
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			err := cmd.Run()
			if got := strings.ReplaceAll(out.String(), "\r", ""); !strings.Contains(got, c.says) {
				t.Errorf("%v: the console says %q, %s; want %q", err, got, errs.String(), c.says)
			}
		})
	}
}
