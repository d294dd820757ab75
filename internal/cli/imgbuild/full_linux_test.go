package imgbuild

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small tmpfs")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("a tmpfs cannot be mounted: %v", err)
	}
	defer syscall.Unmount(dir, 0)
	big := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(big)
	_, stderr := imgbuild(t, 1, "--no-kernel", "-o", filepath.Join(dir, "x.img"), folder(t, map[string]string{"big": string(big)}))
	contains(t, "the error", stderr, "x.img", "no space left")
	if got := names(t, dir); len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
}
