package bootprof

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/fsmod/rofs1mod"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/osvtest"
)

// The command line that imgbuild put on the disk is the kernel's, and tells that the kernel is OSv's.
func TestOSvDisk(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "app.img")
	o := image.OSv{CommandLine: "--rootfs=rofs /hello 'from disk'"}
	if _, err := image.WriteOSvFile(t.Context(), disk, o, image.Spec{Tree: osvtest.Tree(t), Module: rofs1mod.Ordered(nil)}); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := boot(t, disk); code != exitUsage || !strings.Contains(stderr, "boot it with --kernel loader-stripped.elf --flavour osv --disk "+disk) {
		t.Errorf("a disk without a kernel: exit code %d\n%s", code, stderr)
	}
	needQEMU(t)
	kernel := osvKernel(t)
	for _, tt := range []struct {
		want string
		args []string
	}{
		{o.CommandLine, nil},
		{o.CommandLine + ` "and more"`, []string{"--flavour", "osv", "--", "and more"}},
		{"--rootfs=rofs /other", []string{"--append", "--rootfs=rofs /other", "--machine", "q35"}},
	} {
		code, out, stderr := boot(t, append([]string{"--kernel", kernel, "--disk", disk, "--counting", "0", "--no-floor"}, tt.args...)...)
		if code != 0 {
			t.Fatalf("exit code %d\n%s", code, stderr)
		}
		rec, err := boottrace.Open(out.Files[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := string(rec.Of(boottrace.Timed)[0].Output); out.Flavour != "osv" || !strings.Contains(got, "\n"+tt.want+" virtio_mmio") && !strings.Contains(got, "\n"+tt.want+"\n") {
			t.Errorf("%q: flavour %s, command line in %q", tt.args, out.Flavour, got)
		}
	}
}
