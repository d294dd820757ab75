package fsmodtest_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/erofsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/ext4mod"
	_ "github.com/firstlight-boot/firstlight/fsmod/fatmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	_ "github.com/firstlight-boot/firstlight/fsmod/isomod"
	_ "github.com/firstlight-boot/firstlight/fsmod/ramfsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/squashfsmod"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/tree"
)

// mounts are the disks that Linux mounts.
var mounts = []struct {
	module, linux string // names of the file system
	options       fsmod.Options
	has           fsmodtest.Feature
	tools         []string // program, package
}{
	{"ext4", "ext4", fsmod.Options{}, fsmodtest.All, nil},
	{"erofs", "erofs", fsmod.Options{}, fsmodtest.All &^ fsmodtest.LongNames, []string{"mkfs.erofs", "erofs-utils"}},
	{"erofs", "erofs", fsmod.Options{Codec: "lz4hc", ClusterSize: 64 << 10}, fsmodtest.All &^ fsmodtest.LongNames, []string{"mkfs.erofs", "erofs-utils"}},
	{"squashfs", "squashfs", fsmod.Options{Codec: "zstd", ClusterSize: 1 << 20}, fsmodtest.All &^ fsmodtest.FineMtime, []string{"mksquashfs", "squashfs-tools"}},
	{"squashfs", "squashfs", fsmod.Options{Codec: "lz4", ClusterSize: 4096}, fsmodtest.All &^ fsmodtest.FineMtime, []string{"mksquashfs", "squashfs-tools"}},
	{"iso", "iso9660", fsmod.Options{}, fsmodtest.All &^ (fsmodtest.Xattrs | fsmodtest.FineMtime | fsmodtest.LongNames | fsmodtest.Minors), []string{"xorriso", "xorriso"}},
	{"fat", "vfat", fsmod.Options{}, fsmodtest.LongNames, []string{"mcopy", "mtools"}},
}

// TestLinuxMounts has a real Linux mount what each module writes, and compare all that it sees with what was to be written.
func TestLinuxMounts(t *testing.T) {
	needs.Tool(t, "qemu-system-x86_64", "qemu-system-x86")
	kernel := fsmodtest.LinuxKernel(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	q, err := qemu.Find(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	c := qemu.Config{Machine: qemu.Q35, Accel: qemu.TCG, Kernel: kernel, Append: "console=ttyS0 panic=-1 quiet " + fsmodtest.LinuxBusy, MemoryBytes: 256 << 20}
	dir := t.TempDir()
	var lists []tree.Entry
	for i, m := range mounts {
		if m.tools != nil {
			needs.Tool(t, m.tools[0], m.tools[1])
		}
		if os.Getuid() != 0 {
			m.has &^= fsmodtest.Owners | fsmodtest.Devices
		}
		module, err := fsmod.Lookup(m.module)
		if err != nil {
			t.Fatal(err)
		}
		tr := fsmodtest.Awkward(t, m.has)
		img := filepath.Join(dir, fmt.Sprint(i, ".img"))
		b := fsmodtest.Write(t, module, tr, m.options)
		if err := os.WriteFile(img, append(b, make([]byte, -len(b)&511)...), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Disks = append(c.Disks, img)
		lists = append(lists, fsmodtest.File(fmt.Sprintf("want/vd%c.%s", 'a'+i, m.linux), seen(t, tr, m.module), 0o644))
	}
	ramfs, err := fsmod.Lookup("ramfs")
	if err != nil {
		t.Fatal(err)
	}
	c.Initrd = fsmodtest.LinuxInitrd(t, ramfs, fsmodtest.LinuxDrivers, lists...)
	var console strings.Builder
	vm, err := q.Start(ctx, c, qemu.Events{Console: func(_ time.Duration, p []byte) { console.Write(p) }})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if _, err := vm.Wait(); err != nil {
		t.Error(err)
	}
	text := strings.ReplaceAll(console.String(), "\r", "")
	ok := strings.Contains(text, "init: done\n")
	for i := range lists {
		ok = ok && strings.Contains(text, fmt.Sprintf("init: /%s: %d lines, 0 wrong\n", lists[i].Path, strings.Count(fsmodtest.Content(t, &lists[i]), "\n")-1))
	}
	if !ok || strings.Contains(text, "entries, want") {
		t.Errorf("what Linux says:\n%s", text)
	}
}

// seen says what Linux sees of a tree in a file system of this module, as testdata/init.c says it; - is what the format has not.
func seen(t *testing.T, tr *tree.Tree, module string) string {
	names, first := map[string]int{}, map[string]*tree.Entry{}
	for i := range tr.Entries {
		e := &tr.Entries[i]
		names[target(e)]++
		if e.HardLink == "" {
			first[e.Path] = e
		}
	}
	total := len(tr.Entries)
	if module == "ext4" {
		total++ // /lost+found
	}
	var b strings.Builder
	fmt.Fprintln(&b, total)
	for i := range tr.Entries {
		e := tr.Entries[i]
		h, attributes := fnv.New64a(), uint64(0)
		h.Write([]byte(fsmodtest.Content(t, first[target(&e)]) + e.Link))
		for _, x := range e.Xattrs {
			h := fnv.New64a()
			h.Write(append([]byte(x.Name+"\x00"), x.Value...))
			attributes += h.Sum64()
		}
		mode, owner, links, size := fmt.Sprintf("%o", tree.UnixMode(e.Mode)), fmt.Sprint(e.UID, " ", e.GID), fmt.Sprint(names[target(&e)]), fmt.Sprint(e.Size+int64(len(e.Link)))
		mtime := fmt.Sprintf("%d.%09d", e.ModTime.Unix(), e.ModTime.Nanosecond())
		if e.Mode.IsDir() {
			links, size = "-", "-"
		}
		if os.Getuid() != 0 {
			owner = "- -"
		}
		switch module {
		case "iso":
			links = "-" // files of their own
		case "fat":
			mode, owner = "-", "- -"
			if e.Path == "." {
				mtime = "-" // which is nowhere
			}
		}
		fmt.Fprintf(&b, "%x %s %s %s %s %s %d:%d %016x %016x\n", e.Path, mode, owner, links, size, mtime, e.Major, e.Minor, h.Sum64(), attributes)
	}
	return b.String()
}

// target is the path of the file of which e is a name.
func target(e *tree.Entry) string {
	if e.HardLink != "" {
		return e.HardLink
	}
	return e.Path
}
