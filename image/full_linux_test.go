package image_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/firstlight-boot/firstlight/image"
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
	name := filepath.Join(dir, "app.img")
	if err := os.WriteFile(name, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := spec(t)
	s.Tree.Entries[1].Size = 1 << 20
	s.Tree.Entries[1].Source = content(strings.Repeat("x", 1<<20))
	s.Options.Codec = ""
	_, err := image.WriteFile(t.Context(), name, s)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), ".tmp") {
		t.Errorf("error %v; want that there is no space left for %s", err, name)
	}
	if got := readFile(t, name); string(got) != "old" {
		t.Errorf("the old file is now %d bytes", len(got))
	}
	noLitter(t, dir, "app.img")
}
