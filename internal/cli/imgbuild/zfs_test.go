package imgbuild

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TestZFS makes pools by flags and by imgbuild.yaml, and has every command read them.
func TestZFS(t *testing.T) {
	dir := t.TempDir()
	app := filepath.Join(dir, "app")
	if err := os.MkdirAll(filepath.Join(app, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"data/f": strings.Repeat("some text\n", 30000), "top": "top\n",
		"imgbuild.yaml": `rootfs:
  type: zfs
  compress: true
  zfs:
    compat: freebsd9
    pool: tank
    free: 20M
    bootfs: tank/data
    datasets:
      - name: tank
        properties: {mountpoint: /}
      - name: tank/data
        path: data
        properties: {atime: off}
`} {
		if err := os.WriteFile(filepath.Join(app, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	img := filepath.Join(dir, "tank.img")
	run := func(want int, args ...string) string {
		t.Helper()
		stdout, stderr := imgbuild(t, want, args...)
		return stdout + stderr
	}
	if out := run(0, "--no-kernel", "-o", img, app); !strings.Contains(out, "zfs, lzjb") {
		t.Error(out)
	}
	run(0, "verify", img)
	run(0, "diff", img, app)
	if out := run(0, "cat", img, "/data/f"); out != strings.Repeat("some text\n", 30000) {
		t.Errorf("%.200q", out)
	}
	contains(t, "inspect", run(0, "inspect", img), "tank: version 28, features in use: none", "bootfs   tank/data", "dataset  tank/data: ", "atime=off", "compression=lzjb mountpoint=/")
	contains(t, "inspect --json", run(0, "inspect", "--json", img), `"version": 28`, `"name": "tank/data"`, `"bootfs": "tank/data"`)
	if out := run(0, "ls", img, "/data"); !strings.Contains(out, "f") {
		t.Error(out)
	}
	out := filepath.Join(dir, "out")
	run(0, "extract", img, out)
	if b, err := os.ReadFile(filepath.Join(out, "data/f")); err != nil || string(b) != strings.Repeat("some text\n", 30000) {
		t.Errorf("%.200q, %v", b, err)
	}
	rofs := filepath.Join(dir, "tank.rofs")
	run(0, "convert", img, rofs, "--to", "rofs")
	run(0, "diff", img, rofs)
	theirs := fusePool(t, dir)
	contains(t, "inspect", run(0, "inspect", theirs), "small: version 23", "snapshot small/lzjb@then", "compression=lzjb")
	run(0, "verify", theirs)
	if out := run(0, "cat", theirs, "/clone/text"); out != "some text in lzjb" {
		t.Errorf("%.200q", out)
	}
	run(0, "--no-kernel", "--compress=off", "-o", filepath.Join(dir, "off.img"), app)
	if out := run(2, "--fs", "zfs", "-o", img, app); !strings.Contains(out, "has no driver for zfs") {
		t.Error(out)
	}
	if out := run(2, "--rofs", "--zfs-compat", "osv", "--no-kernel", "-o", img, app); !strings.Contains(out, "--zfs-compat") {
		t.Error(out)
	}
	if out := run(2, "--no-kernel", "--zfs-compat", "sun", "-o", img, app); !strings.Contains(out, "freebsd9, legacy-23") {
		t.Error(out)
	}
}

// TestOSvZFS makes a disk for OSv whose root is a pool as OSv has them.
func TestOSvZFS(t *testing.T) {
	osvFolder(t)
	out, _ := imgbuild(t, 0, "--kernel", "loader-stripped.elf", "--flavour", "osv", "--fs", "zfs", "--compress", "-o", "z.img", "app")
	if !strings.Contains(out, "; command line --rootfs=zfs /hello\n") {
		t.Error(out)
	}
	imgbuild(t, 0, "verify", "z.img")
	if out, _ := imgbuild(t, 0, "cat", "z.img", "/etc/motd"); out != "hi" {
		t.Errorf("%q", out)
	}
	if out, _ := imgbuild(t, 0, "inspect", "z.img"); !strings.Contains(out, "zfs: ") {
		t.Error(out)
	}
}

// fusePool unpacks the pool that zfs-fuse made.
func fusePool(t *testing.T, dir string) string {
	t.Helper()
	f, err := os.Open("../../../zfsmod/testdata/fuse.img.zst")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	name := filepath.Join(dir, "fuse.img")
	b, err := io.ReadAll(d)
	if err == nil {
		err = os.WriteFile(name, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}
