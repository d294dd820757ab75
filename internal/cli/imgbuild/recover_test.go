package imgbuild

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRecover recovers an image that is damaged in several ways, by the command.
func TestRecover(t *testing.T) {
	app := folder(t, map[string]string{"hello*": string(hello), "text": strings.Repeat("text ", 30000), "empty": ""})
	put(t, filepath.Join(app, "deep", "er", "file"), []byte("deep"), 0o600)
	if err := os.Symlink("../../outside", filepath.Join(app, "link")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	img, disk, bad := filepath.Join(dir, "a.rofs"), filepath.Join(dir, "a.img"), filepath.Join(dir, "bad.img")
	imgbuild(t, 0, "--no-kernel", "-q", "--compress", "-o", img, app)
	imgbuild(t, 0, "-q", "--compress", "--kernel", kernelFile(t), "--cmd", "/hello", "-o", disk, app)
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	bare, whole := read(img), read(disk)
	root := bytes.Index(whole, bare[:8])

	for name, b := range map[string][]byte{
		"nothing":             bare,
		"no superblock":       append(make([]byte, 4096), bare[4096:]...),
		"in a disk":           whole,
		"GPT gone":            append(append(make([]byte, 40*512), whole[40*512:len(whole)-33*512]...), make([]byte, 33*512)...),
		"all before the root": append(make([]byte, root+4096), whole[root+4096:]...),
		"start cut off":       whole[root+4096:],
	} {
		put(t, bad, b, 0o644)
		out := filepath.Join(dir, "out", name)
		if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
			t.Fatal(err)
		}
		imgbuild(t, 0, "recover", bad, out)
		imgbuild(t, 0, "diff", img, out)
	}

	// The data are gone: names are left, and the list says so.
	lost := bytes.Clone(bare)
	clear(lost[len(lost)-4096:])
	put(t, bad, lost, 0o644)
	out := filepath.Join(dir, "out", "lost")
	text, _ := imgbuild(t, 1, "recover", bad, out)
	contains(t, "recover", text, "/text: bytes 0-")
	if target, err := os.Readlink(filepath.Join(out, "link")); err != nil || target != "../../outside" {
		t.Errorf("the link is to %q, %v", target, err)
	}
	text, _ = imgbuild(t, 1, "recover", "--json", bad, filepath.Join(dir, "out", "json"))
	var report struct{ Lost []lossReport }
	if err := json.Unmarshal([]byte(text), &report); err != nil || !slices.ContainsFunc(report.Lost, func(l lossReport) bool { return l.Path == "/text" && l.Length == 150000 }) {
		t.Errorf("report of what is lost: %v, %s", err, text)
	}

	// A size that no host takes, in a damaged block, is one file's trouble only.
	huge := bytes.Clone(bare)
	huge[bytes.Index(huge, []byte{0xf0, 0x49, 0x02, 0, 0, 0, 0, 0})+7] = 0x20
	put(t, bad, huge, 0o644)
	out = filepath.Join(dir, "out", "huge")
	text, _ = imgbuild(t, 1, "recover", bad, out)
	contains(t, "recover", text, "/text: ", "block 0 of the inodes")
	if b, err := os.ReadFile(filepath.Join(out, "deep", "er", "file")); err != nil || string(b) != "deep" {
		t.Errorf("beside a file that is too large: %q, %v", b, err)
	}

	put(t, bad, make([]byte, 65536), 0o644)
	_, text = imgbuild(t, 2, "recover", bad, filepath.Join(dir, "out", "none"))
	contains(t, "recover", text, "no part of a ROFS image")
	if _, err := os.Stat(filepath.Join(dir, "out", "none")); err == nil {
		t.Error("a folder is made for nothing")
	}
	_, text = imgbuild(t, 2, "recover", img, app)
	contains(t, "recover", text, "not empty")
	imgbuild(t, 2, "recover", app, filepath.Join(dir, "out", "folder"))
	imgbuild(t, 2, "recover", filepath.Join(dir, "absent"), filepath.Join(dir, "out", "absent"))
}
