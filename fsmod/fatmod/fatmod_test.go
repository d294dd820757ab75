package fatmod_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/fatmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/tree"
)

func module(t *testing.T) fsmod.Module {
	t.Helper()
	needs.Tool(t, "mkfs.fat", "dosfstools")
	needs.Tool(t, "mcopy", "mtools")
	m, err := fsmod.Lookup("fat")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func fsck(t *testing.T, b []byte) {
	t.Helper()
	img := filepath.Join(t.TempDir(), "img")
	if err := os.WriteFile(img, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.Command("/sbin/fsck.fat", "-n", img).CombinedOutput(); err != nil {
		t.Errorf("fsck.fat: %v\n%s", err, msg)
	}
}

// forget what FAT does not have.
func forget(e *tree.Entry) {
	e.Mode, e.UID, e.GID, e.ModTime = e.Mode.Type(), 0, 0, e.ModTime.Truncate(2*time.Second)
	if e.Mode.IsDir() {
		e.ModTime = time.Time{}
	}
}

func TestMcopy(t *testing.T) {
	m := module(t)
	want := fsmodtest.Awkward(t, fsmodtest.LongNames)
	b := fsmodtest.Write(t, m, want, fsmod.Options{})
	fsck(t, b)
	if p, err := fsmod.Probe(bytes.NewReader(b), int64(len(b))); err != nil || p == nil || p.Name() != "fat" {
		t.Errorf("probe: %v, %v", p, err)
	}
	fsys, err := m.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := fsys.Tree()
	if err != nil {
		t.Fatal(err)
	}
	fsmodtest.Compare(t, got, want, forget)
	if problems, err := m.Check(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || len(problems) > 0 {
		t.Errorf("check: %v, %v", problems, err)
	}
}

// TestTypes has sizes that make FAT12, FAT16 and FAT32, which is not what mkfs.fat would choose there by itself.
func TestTypes(t *testing.T) {
	m := module(t)
	for _, mib := range []int{1, 17, 256} {
		b := strings.Repeat("0123456789abcdef", mib<<16)
		tr, err := tree.New(tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, fsmodtest.File("f", b, 0o644))
		if err != nil {
			t.Fatal(err)
		}
		var img fsmodtest.Memory
		res, err := m.Write(t.Context(), &img, tr, fsmod.Options{})
		if err != nil {
			t.Fatalf("%d MiB: %v", mib, err)
		}
		if res.Bytes > int64(mib)<<20+4<<20 && mib != 256 {
			t.Errorf("%d MiB in %d bytes", mib, res.Bytes)
		}
		fsck(t, img.B)
	}
}

func TestRefused(t *testing.T) {
	m := module(t)
	root := tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}
	for want, list := range map[string][]tree.Entry{
		"symbolic link":          {{Path: "x", Mode: fs.ModeSymlink | 0o777, Link: "y"}},
		"hard link, to /a":       {{Path: "a", Mode: 0o644}, {Path: "b", Mode: 0o644, HardLink: "a"}},
		"of type p":              {{Path: "x", Mode: fs.ModeNamedPipe | 0o644}},
		"the character ':'":      {{Path: "a:b", Mode: 0o644}},
		"not UTF-8":              {{Path: "a\xff", Mode: 0o644}},
		"ends in a dot":          {{Path: "a.", Mode: 0o644}},
		"in case only":           {{Path: "A", Mode: 0o644}, {Path: "a", Mode: 0o644}},
		"the most is 4294967295": {{Path: "x", Mode: 0o644, Size: 1 << 32, Source: fsmodtest.Text("")}},
		"extended attribute":     {{Path: "x", Mode: 0o644, Xattrs: []tree.Xattr{{Name: "user.x"}}}},
	} {
		tr, err := tree.New(append(list, root)...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Write(t.Context(), &fsmodtest.Memory{}, tr, fsmod.Options{}); !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	tr := fsmodtest.Awkward(t, 0)
	if _, err := m.Write(t.Context(), &fsmodtest.Failing{Left: 100}, tr, fsmod.Options{}); !errors.Is(err, fsmodtest.ErrFull) {
		t.Errorf("failing writer: %v", err)
	}
	t.Setenv("PATH", "")
	if _, err := m.Write(t.Context(), &fsmodtest.Memory{}, tr, fsmod.Options{}); !errors.Is(err, hosttool.ErrMissing) || !strings.Contains(err.Error(), "dosfstools") {
		t.Errorf("without a PATH: %v", err)
	}
}
