package imgbuild

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/osvtest"
)

// osvFolder makes the vectors' sources, their manifest, a kernel file and the parts of a loader, and goes there.
func osvFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	osvtest.Dir(t, dir)
	t.Chdir(dir)
	put(t, "loader-stripped.elf", hello, 0o644)
	boot := bytes.Repeat([]byte{0x90}, 512)
	boot[510], boot[511] = 0x55, 0xaa
	put(t, "boot.bin", boot, 0o644)
	lz := append([]byte("\x7fELF\x01"), make([]byte, 40_000)...)
	put(t, "lzloader.elf", lz, 0o644)
	put(t, "loader.img", append(append(boot, make([]byte, 0x10000-512)...), lz...), 0o644)
	put(t, "app/hello", program(elf.EM_X86_64, "/lib64/ld-linux-x86-64.so.2"), 0o755)
	put(t, "app/etc/motd", []byte("hi"), 0o644)
	return dir
}

// The manifest of the vectors gives the vectors.
func TestManifestVectors(t *testing.T) {
	osvFolder(t)
	for _, tt := range []struct {
		want []byte
		args []string
	}{
		{osvtest.ROFS, []string{"--rofs", "--rofs-version", "1"}},
		{osvtest.ROFS, []string{"--fs", "rofs1"}},
		{osvtest.BootFS, []string{"--fs", "bootfs"}},
	} {
		imgbuild(t, 0, append(tt.args, "--no-kernel", "--manifest", "usr.manifest", "-o", "out")...)
		if got, err := os.ReadFile("out"); err != nil || !bytes.Equal(got, tt.want) {
			t.Errorf("%q: %d bytes, %v, want the vector's %d", tt.args, len(got), err, len(tt.want))
		}
	}
}

func TestManifestCommand(t *testing.T) {
	dir := osvFolder(t)
	t.Setenv("FROM_ENV", filepath.Join(dir, "tree/etc"))
	put(t, "m/my.manifest", []byte("[manifest]\n/a: %(WHERE)s/hello\n/h: %(FROM_ENV)s/hosts\n/lib/**: tree/usr/**\n/l: ->/a\n/d: tree/usr\n/a: tree/usr/lib/one\n"), 0o644)
	out, errs := imgbuild(t, 0, "--no-kernel", "--fs", "rofs1", "--manifest", "m/my.manifest", "--define", "WHERE=tree")
	if !strings.HasPrefix(out, "my.img: ") {
		t.Errorf("output %q", out)
	}
	for _, want := range []string{"imgbuild: m/my.manifest: line 6: /d: only the directory is packed", "line 7: /a from tree/usr/lib/one replaces that of line 2"} {
		if !strings.Contains(errs, want) {
			t.Errorf("stderr %q lacks %q", errs, want)
		}
	}
	if out, _ = imgbuild(t, 0, "ls", "-R", "my.img"); !strings.Contains(out, "/lib/lib/deep/deeper/leaf.txt\n") || strings.Contains(out, "/d/") {
		t.Errorf("ls: %s", out)
	}
	if out, _ = imgbuild(t, 0, "cat", "my.img", "l"); len(out) != 1 {
		t.Errorf("cat of a link: %q", out)
	}
	out, errs = imgbuild(t, 0, "--no-kernel", "--fs", "rofs1", "--json", "--quiet", "--manifest", "m/my.manifest", "--define", "WHERE=tree")
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Notes) != 2 || errs != "" {
		t.Errorf("%v, notes %q, stderr %q", err, r.Notes, errs)
	}
	// Sources are below the folder that is named, if one is.
	put(t, "elsewhere/src/x", []byte("x"), 0o644)
	put(t, "e.manifest", []byte("/x: src/x\n"), 0o644)
	imgbuild(t, 0, "--no-kernel", "--manifest", "e.manifest", "-o", "e.img", "elsewhere")
	for _, tt := range []struct {
		says string
		args []string
	}{
		{"src/x (line 1)", []string{"--manifest", "e.manifest"}},
		{"want VAR=VALUE", []string{"--manifest", "e.manifest", "--define", "X"}},
		{"no such file", []string{"--manifest", "none"}},
		{"not a folder", []string{"--manifest", "e.manifest", "boot.bin"}},
		{"at most the folder", []string{"--manifest", "e.manifest", "a", "b"}},
		{"--define for --manifest", []string{"--define", "A=b", "app"}},
		{"--exclude is for folders", []string{"--manifest", "e.manifest", "--exclude", "x"}},
		{"WHERE is not defined", []string{"--manifest", "m/my.manifest"}},
	} {
		if _, errs := imgbuild(t, 2, append(tt.args, "--no-kernel", "-o", "none.img")...); !strings.Contains(errs, tt.says) {
			t.Errorf("%q: %s", tt.args, errs)
		}
	}
	if _, err := os.Stat("none.img"); err == nil {
		t.Error("a build that failed left an image")
	}
}

func TestOSvImage(t *testing.T) {
	osvFolder(t)
	for _, tt := range []struct {
		args         []string
		line, boot   string
		root, loader int64
	}{
		{[]string{"--kernel", "loader-stripped.elf"}, "--rootfs=rofs /hello", "bootprof qemu --kernel loader-stripped.elf --flavour osv --machine q35 --disk app.img", 0x8000, 0},
		{[]string{"--kernel", "loader.img", "--cmd", "/hello 'big world' 'a;b'", "--env", "A=b c", "--cwd", "/etc", "--append", "--bootchart"},
			`--rootfs=rofs --bootchart --env=A=b\ c --cwd=/etc /hello "big world" "a;b"`, "qemu-system-x86_64 -M q35", 2 << 20, 65536},
		{[]string{"--kernel", "lzloader.elf", "--boot-sector", "boot.bin", "--append", "--rootfs=rofs --nopci"}, "--rootfs=rofs --nopci /hello", "qemu-system-x86_64", 2 << 20, 65536},
	} {
		out, _ := imgbuild(t, 0, append(tt.args, "--flavour", "osv", "--rofs", "-o", "app.img", "app")...)
		if !strings.Contains(out, "; command line "+tt.line+"\n") || !strings.Contains(out, "\nboot it by: "+tt.boot) {
			t.Errorf("%q: %s", tt.args, out)
		}
		img, err := image.Open("app.img")
		if err != nil {
			t.Fatal(err)
		}
		img.Close()
		if o := img.OSv; o == nil || o.CommandLine != tt.line || o.Root.Offset != tt.root || o.LoaderBytes != tt.loader {
			t.Errorf("%q: %+v", tt.args, o)
		}
		imgbuild(t, 0, "verify", "app.img")
		if out, _ := imgbuild(t, 0, "cat", "app.img", "/etc/motd"); out != "hi" {
			t.Errorf("cat: %q", out)
		}
		var in inspection
		out, _ = imgbuild(t, 0, "inspect", "--json", "app.img")
		if err := json.Unmarshal([]byte(out), &in); err != nil || in.Kind != "osv" || in.CommandLine != tt.line || in.Root.Module != "rofs1" {
			t.Errorf("inspect: %v, %s", err, out)
		}
		imgbuild(t, 0, "inspect", "app.img")
		imgbuild(t, 0, append(tt.args, "--flavour", "osv", "--dry-run", "app")...)
	}
	put(t, "two/a", hello, 0o755)
	put(t, "two/b", hello, 0o755)
	for _, tt := range []struct {
		says string
		args []string
	}{
		{"needs --kernel", []string{"app"}},
		{"version 1 of ROFS", []string{"--kernel", "loader-stripped.elf", "--rofs-version", "2", "app"}},
		{"linked into its kernel", []string{"--kernel", "loader-stripped.elf", "--ramfs", "app"}},
		{"does not compress", []string{"--kernel", "loader-stripped.elf", "--compress", "app"}},
		{"no place for --memory", []string{"--kernel", "loader-stripped.elf", "--memory", "64M", "app"}},
		{"needs --boot-sector", []string{"--kernel", "lzloader.elf", "app"}},
		{"no kernel of OSv", []string{"--kernel", "usr.manifest", "app"}},
		{"no such file", []string{"--kernel", "none", "app"}},
		{"want 512", []string{"--kernel", "lzloader.elf", "--boot-sector", "lzloader.elf", "app"}},
		{"not a file in app", []string{"--kernel", "loader-stripped.elf", "--cmd", "/none", "app"}},
		{"2 executables", []string{"--kernel", "loader-stripped.elf", "two"}},
		{"begins with $", []string{"--kernel", "loader-stripped.elf", "--cmd", "/hello '$HOME'", "app"}},
		{"begin with a dash", []string{"--kernel", "loader-stripped.elf", "--append", "quiet", "app"}},
		{"32255", []string{"--kernel", "loader-stripped.elf", "--cmd", "/hello " + strings.Repeat("x", 33000), "app"}},
	} {
		if _, errs := imgbuild(t, 2, append([]string{"--flavour", "osv", "-o", "bad.img"}, tt.args...)...); !strings.Contains(errs, tt.says) {
			t.Errorf("%q: %s", tt.args, errs)
		}
	}
	if _, errs := imgbuild(t, 2, "--boot-sector", "boot.bin", "-o", "bad.img", "app"); !strings.Contains(errs, "needs --flavour osv") {
		t.Error(errs)
	}
	if _, errs := imgbuild(t, 2, "--rofs-version", "1", "-o", "bad.img", "app"); !strings.Contains(errs, "only OSv has a driver") {
		t.Error(errs)
	}
	for _, args := range [][]string{{"--rofs-version", "3"}, {"--rofs-version", "1", "--fs", "bootfs"}} {
		imgbuild(t, 2, append(args, "--no-kernel", "-o", "bad.img", "app")...)
	}
	if _, err := os.Stat("bad.img"); err == nil {
		t.Error("a build that failed left an image")
	}
}
