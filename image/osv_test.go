package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/rofs1mod"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/internal/osvtest"
)

// osvLoaderParts makes a boot.bin and an lzloader.elf that have what is looked at.
func osvLoaderParts(n int) (boot, lzloader []byte) {
	boot = bytes.Repeat([]byte{0xf4}, 512)
	clear(boot[osvTable:])
	copy(boot[0x1b8:], "VSO\x00\x00\x00")
	boot[510], boot[511] = 0x55, 0xaa
	lzloader = bytes.Repeat([]byte{0xcc}, n)
	copy(lzloader, "\x7fELF\x01")
	return boot, lzloader
}

func writeOSvDisk(t *testing.T, o OSv) (string, []byte, *Result) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "app.img")
	res, err := WriteOSvFile(t.Context(), name, o, Spec{Tree: osvtest.Tree(t), Module: rofs1mod.Ordered(osvtest.Order())})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if res.Bytes != int64(len(b)) {
		t.Errorf("%d bytes, told %d", len(b), res.Bytes)
	}
	return name, b, res
}

func TestOSvDisk(t *testing.T) {
	boot, lzloader := osvLoaderParts(100_000)
	loader, err := OSvLoader(boot, lzloader)
	if err != nil {
		t.Fatal(err)
	}
	const line = `--rootfs=rofs /hello "big world"`
	for _, tt := range []struct {
		name   string
		loader []byte
		root   int64
	}{
		{"without loader", nil, 0x8000},
		{"with loader", loader, 2 << 20},
	} {
		name, b, res := writeOSvDisk(t, OSv{CommandLine: line, Loader: tt.loader})
		if got := res.Partitions[len(res.Partitions)-1]; got.Offset != tt.root || got.Length != int64(len(osvtest.ROFS)) {
			t.Errorf("%s: root %+v", tt.name, got)
		}
		if !bytes.Equal(b[tt.root:], osvtest.ROFS) {
			t.Errorf("%s: the root is not the vector", tt.name)
		}
		if got := b[0x1ce:0x1de]; binary.LittleEndian.Uint32(got[8:]) != uint32(tt.root/512) || got[2]&63 == 0 || got[4] != 0x83 {
			t.Errorf("%s: entry % x", tt.name, got)
		}
		if tt.loader == nil {
			// LBA 64 is head 1, sector 2; the end, LBA 425, is head 6, sector 48.
			if want := []byte{0, 1, 2, 0, 0x83, 6, 48, 0, 64, 0, 0, 0, 0x69, 1, 0, 0}; !bytes.Equal(b[0x1ce:0x1de], want) {
				t.Errorf("%s: entry % x, want % x", tt.name, b[0x1ce:0x1de], want)
			}
		} else {
			if n := binary.LittleEndian.Uint16(b[0x10:]); n != 4 {
				t.Errorf("the boot sector loads %d units of 32 KiB, want 4", n)
			}
			binary.LittleEndian.PutUint16(b[0x10:], 0xf4f4)
			if !bytes.Equal(b[:0x1be], boot[:0x1be]) || !bytes.Equal(b[0x10000:][:len(lzloader)], lzloader) {
				t.Error("the loader is not the one given")
			}
		}
		if got, _, _ := strings.Cut(string(b[512:]), "\x00"); got != line {
			t.Errorf("%s: command line %q", tt.name, got)
		}

		img, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer img.Close()
		if img.Params != nil || img.OSv == nil || img.OSv.CommandLine != line || img.OSv.LoaderBytes != int64(map[bool]int{true: 131072}[tt.loader != nil]) {
			t.Errorf("%s: %+v", tt.name, img.OSv)
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
		if list, err := VerifyFile(t.Context(), name); err != nil || len(list) > 0 {
			t.Errorf("%s: verify: %v, %v", tt.name, list, err)
		}
		for _, off := range []int64{700, tt.root - 1, tt.root + 100} {
			_, again, _ := writeOSvDisk(t, OSv{CommandLine: line, Loader: tt.loader})
			again[off] = 7
			if list, err := Verify(t.Context(), bytes.NewReader(again), int64(len(again))); err != nil || len(list) != 1 || list[0].Offset != off {
				t.Errorf("%s: byte %d: %v, %v", tt.name, off, list, err)
			}
		}
		sfdisk(t, name, tt.root)
	}
}

// sfdisk has a foreign program read the table.
func sfdisk(t *testing.T, name string, root int64) {
	t.Helper()
	path := needs.Tool(t, "sfdisk", "fdisk")
	out, err := exec.Command(path, "--dump", name).CombinedOutput()
	if err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	last := strings.Join(strings.Fields(lines[len(lines)-1]), "")
	want := "img2:start=" + strconv.FormatInt(root/512, 10) + ",size=361,type=83"
	if !strings.HasSuffix(last, want) || strings.Contains(string(out), "img1") || strings.Contains(string(out), "img3") || !strings.Contains(string(out), "label: dos") {
		t.Errorf("sfdisk reads\n%s\nwant %s alone", out, want)
	}
	if out, err := exec.Command(path, "--verify", name).CombinedOutput(); err != nil {
		t.Errorf("sfdisk --verify: %v\n%s", err, out)
	}
}

func TestOSvRefuses(t *testing.T) {
	boot, lzloader := osvLoaderParts(100)
	for name, parts := range map[string][2][]byte{
		"short boot sector":   {boot[:511], lzloader},
		"no boot sector":      {make([]byte, 512), lzloader},
		"no loader":           {boot, nil},
		"no ELF file":         {boot, make([]byte, 100)},
		"a 64-bit ELF file":   {boot, append([]byte("\x7fELF\x02"), make([]byte, 100)...)},
		"larger than allowed": {boot, make([]byte, MaxKernel)},
	} {
		if _, err := OSvLoader(parts[0], parts[1]); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	name := filepath.Join(t.TempDir(), "img")
	rofs, err := fsmod.Lookup("rofs")
	if err != nil {
		t.Fatal(err)
	}
	m := rofs1mod.Ordered(nil)
	for what, tt := range map[string]struct {
		o OSv
		m fsmod.Module
	}{
		"version 2 of ROFS": {OSv{}, rofs}, "long line": {OSv{CommandLine: strings.Repeat("x", 32256)}, m}, "NUL": {OSv{CommandLine: "\x00"}, m}, "bad loader": {OSv{Loader: boot}, m},
	} {
		if _, err := WriteOSvFile(t.Context(), name, tt.o, Spec{Tree: osvtest.Tree(t), Module: tt.m}); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a file was left", what)
		}
	}
	if b, err := writeOSvBytes(t, strings.Repeat("x", 32255)); err != nil || len(b) == 0 {
		t.Errorf("the longest line: %v", err)
	}
}

func writeOSvBytes(t *testing.T, line string) ([]byte, error) {
	_, b, _ := writeOSvDisk(t, OSv{CommandLine: line})
	img, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err == nil && img.OSv.CommandLine != line {
		err = errors.New("the command line is another")
	}
	return b, err
}

// A disk as OSv's tools make it without a loader begins the root in sector 1, and its entry may be longer than the disk.
func TestReadOSvToolsDisk(t *testing.T) {
	b := make([]byte, 512)
	copy(b[0x1ce:], osvEntry(512, 1<<30))
	b[510], b[511] = 0x55, 0xaa
	b = append(b, osvtest.ROFS...)
	img, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if img.OSv == nil || img.OSv.CommandLine != "" || img.OSv.Root.Length != int64(len(osvtest.ROFS)) {
		t.Errorf("%+v", img.OSv)
	}
	if list, err := Verify(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || len(list) > 0 {
		t.Errorf("verify: %v, %v", list, err)
	}
	b[0x1ce+2] = 0 // OSv's kernel sees no partition now
	if _, err := NewReader(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrFormat) {
		t.Errorf("sector 0: %v", err)
	}
}

func FuzzOSvDisk(f *testing.F) {
	b := make([]byte, 1024)
	copy(b[0x1ce:], osvEntry(1024, 2048))
	copy(b[512:], "/hello")
	b[510], b[511] = 0x55, 0xaa
	seed := append(b, osvtest.ROFS[:2048]...)
	f.Add(seed)
	if img, err := NewReader(bytes.NewReader(seed), int64(len(seed))); err != nil || img.OSv == nil || img.OSv.CommandLine != "/hello" {
		f.Fatalf("the seed is no OSv disk: %v", err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		img, err := NewReader(r, r.Size())
		if err != nil || img.OSv == nil {
			return
		}
		if p := img.OSv.Root; p.Offset < 0 || p.Length <= 0 || p.Offset+p.Length > r.Size() {
			t.Fatalf("root %+v of %d bytes", p, r.Size())
		}
		if _, err := Verify(t.Context(), r, r.Size()); err != nil {
			t.Fatal(err)
		}
	})
}
