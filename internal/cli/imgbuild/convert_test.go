package imgbuild

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/internal/osvtest"
)

// From the vectors to every format, from there to every other, and back: the same files each time.
func TestConvert(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "rofs1", osvtest.ROFS, 0o644)
	put(t, "bootfs", osvtest.BootFS, 0o644)
	formats := []string{"rofs", "rofs1", "ramfs", "bootfs"}
	for _, to := range formats {
		imgbuild(t, 0, "convert", "rofs1", "once-"+to, "--to", to)
	}
	for _, from := range []string{"rofs1", "bootfs"} {
		for _, via := range formats {
			out, errs := imgbuild(t, 0, "convert", from, from+"-"+via, "--to", via)
			if errs != "" || !strings.Contains(out, via+", 20 entries") && !strings.Contains(out, via+", 21 entries") {
				t.Errorf("%s to %s: %s%s", from, via, out, errs)
			}
			imgbuild(t, 0, "verify", from+"-"+via)
			if out, errs := imgbuild(t, 0, "diff", from, from+"-"+via); out != "" || errs != "" {
				t.Errorf("%s and what it became as %s: %s%s", from, via, out, errs)
			}
			for _, to := range formats {
				name := from + "-" + via + "-" + to
				imgbuild(t, 0, "convert", from+"-"+via, name, "--to", to)
				img, err := image.Open(name)
				if err != nil {
					t.Fatal(err)
				}
				root, err := img.Root()
				if err != nil {
					t.Fatal(err)
				}
				tr, err := root.Tree()
				if err != nil {
					t.Fatal(err)
				}
				osvtest.Same(t, tr, osvtest.Tree(t))
				img.Close()
				// The bytes depend on the files alone, not on where they came from.
				a, _ := os.ReadFile(name)
				b, err := os.ReadFile("once-" + to)
				if err != nil || !bytes.Equal(a, b) {
					t.Errorf("%s is not what rofs1 becomes as %s at once", name, to)
				}
			}
		}
	}
	imgbuild(t, 0, "diff", "rofs1", "bootfs")
	needs.Tool(t, "cpio", "cpio")
	f, err := os.Open("bootfs-ramfs")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list := exec.Command("cpio", "-t", "--quiet")
	list.Stdin = f
	if got, err := list.CombinedOutput(); err != nil || !strings.Contains(string(got), "usr/lib/deep/deeper/leaf.txt\n") {
		t.Errorf("cpio: %v\n%s", err, got)
	}
}

// What has no place is said before anything is written.
func TestConvertTellsLoss(t *testing.T) {
	t.Chdir(t.TempDir())
	long := "dir/" + strings.Repeat("n", 120)
	put(t, "app/"+long, []byte("long"), 0o644)
	put(t, "app/dir/short", []byte("short"), 0o600)
	if err := os.Link("app/"+long, "app/zz"); err != nil {
		t.Fatal(err)
	}
	old := []byte("the old file")
	put(t, "out", old, 0o644)
	_, errs := imgbuild(t, 2, "convert", "app", "out", "--to", "bootfs")
	for _, want := range []string{"bootfs cannot hold /" + long + ": ", "the most is 110", "1 of 5 entries", "nothing was written: --skip"} {
		if !strings.Contains(errs, want) {
			t.Errorf("stderr lacks %q:\n%s", want, errs)
		}
	}
	if got, _ := os.ReadFile("out"); !bytes.Equal(got, old) {
		t.Error("the old file is gone")
	}
	stdout, errs := imgbuild(t, 0, "convert", "app", "out", "--to", "bootfs", "--skip", "--json")
	var c conversion
	if err := json.Unmarshal([]byte(stdout), &c); err != nil || len(c.LeftOut) != 1 || c.LeftOut[0] != "/"+long || c.From != "folder" || c.Entries != 4 || strings.Join(c.Lost, " ") != "modes times" {
		t.Errorf("%v: %s", err, stdout)
	}
	if !strings.Contains(errs, "bootfs has no place for modes, times: lost") {
		t.Error(errs)
	}
	if out, _ := imgbuild(t, 0, "cat", "out", "zz"); out != "long" {
		t.Errorf("the second name of what was left out: %q", out)
	}
	if _, errs := imgbuild(t, 0, "convert", "-q", "app", "full.rofs1", "--to", "rofs1"); errs != "" {
		t.Errorf("quiet: %s", errs)
	}
	// An image of a disk gives its root; the input may be the output.
	imgbuild(t, 0, "-q", "--kernel", kernelFile(t), "--cmd", "/x", "-o", "disk.img", folder(t, map[string]string{"x*": string(hello)}))
	imgbuild(t, 0, "convert", "disk.img", "disk.img", "--to", "ramfs", "--compress")
	if out, _ := imgbuild(t, 0, "ls", "disk.img"); out != "x\n" {
		t.Errorf("ls: %q", out)
	}
	for _, args := range [][]string{
		{"app", "none"}, {"app", "none", "--to", "zip"}, {"app", "none", "--to", "rofs1", "--compress"}, {"app", "none", "--to", "rofs", "--compress=zip"}, {"app", "none", "--to", "rofs", "--compress="}, {"app", "-", "--to", "rofs"},
		{"nothing", "none", "--to", "rofs"}, {"app", "app", "--to", "rofs"}, {"out", "none/none", "--to", "rofs"}, {"app"},
	} {
		imgbuild(t, 2, append([]string{"convert"}, args...)...)
	}
	if _, err := os.Stat("none"); err == nil {
		t.Error("a conversion that failed left a file")
	}
}

// Damage in the input is found before the output takes its name.
func TestConvertDamaged(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "in", osvtest.ROFS[:len(osvtest.ROFS)-512], 0o644)
	imgbuild(t, 2, "convert", "in", "out", "--to", "rofs")
	list, err := filepath.Glob(".*")
	if _, staterr := os.Stat("out"); staterr == nil || err != nil || len(list) > 0 {
		t.Errorf("left: %q, %v", list, err)
	}
}

// Folders and images of any format compare; what one side has no place for is named.
func TestDiffFormats(t *testing.T) {
	osvFolder(t)
	imgbuild(t, 0, "-q", "--no-kernel", "--fs", "rofs1", "-o", "app.rofs1", "app")
	imgbuild(t, 0, "-q", "--no-kernel", "--fs", "bootfs", "-o", "app.bootfs", "app")
	imgbuild(t, 0, "-q", "--no-kernel", "--ramfs", "-o", "app.cpio", "app")
	imgbuild(t, 0, "-q", "--no-kernel", "-o", "app.rofs", "app")
	imgbuild(t, 0, "-q", "--flavour", "osv", "--kernel", "loader.img", "-o", "app.osv", "app")
	sides := []string{"app", "app.rofs1", "app.bootfs", "app.cpio", "app.rofs", "app.osv"}
	for _, a := range sides {
		for _, b := range sides {
			if out, _ := imgbuild(t, 0, "diff", a, b); out != "" {
				t.Errorf("%s and %s: %s", a, b, out)
			}
		}
	}
	if _, errs := imgbuild(t, 0, "diff", "app", "app.rofs1"); errs != "imgbuild: not compared, because not both of folder and rofs1 have a place for it: modes, times\n" {
		t.Errorf("stderr: %q", errs)
	}
	imgbuild(t, 0, "-q", "--flavour", "osv", "--kernel", "loader-stripped.elf", "--append", "--verbose", "-o", "bare.osv", "app")
	if out, _ := imgbuild(t, 1, "diff", "app.osv", "bare.osv"); out != "~ params: command line \"--rootfs=rofs /hello\" → \"--rootfs=rofs --verbose /hello\"\n- kernel\n" {
		t.Errorf("two OSv disks: %s", out)
	}
	put(t, "app/etc/motd", []byte("ho"), fs.FileMode(0o644))
	put(t, "app/new", nil, 0o644)
	for _, b := range sides[1:] {
		out, _ := imgbuild(t, 1, "diff", b, "app")
		if !strings.Contains(out, "~ /etc/motd: ") || !strings.Contains(out, "content\n") || !strings.Contains(out, "+ /new\n") {
			t.Errorf("%s and a changed folder: %s", b, out)
		}
	}
}

// An image with a kernel that is not ours is the same as itself.
func TestDiffLinux(t *testing.T) {
	app := folder(t, map[string]string{"x*": string(hello)})
	t.Chdir(t.TempDir())
	imgbuild(t, 0, "-q", "--flavour", "linux", "--kernel", linuxKernelFile(t), "-o", "linux.img", app)
	if out, _ := imgbuild(t, 0, "diff", "linux.img", "linux.img"); out != "" {
		t.Error(out)
	}
}
