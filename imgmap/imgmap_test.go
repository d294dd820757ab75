package imgmap_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/imgmap"
	"github.com/firstlight-boot/firstlight/internal/cli/imgbuild"
	"github.com/firstlight-boot/firstlight/internal/needs"
)

// noise returns n bytes that do not compress, text n bytes that do.
func noise(n int, seed uint64) []byte {
	r, b := rand.New(rand.NewPCG(seed, 1)), make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func text(n int) []byte { return bytes.Repeat([]byte("so it goes on and on. "), n/22+1)[:n] }

// program returns the header of an ELF program that does nothing.
func program() []byte {
	const addr = 0x400000
	b, err := binary.Append(nil, binary.LittleEndian, struct {
		elf.Header64
		elf.Prog64
	}{
		elf.Header64{Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1,
			Entry: addr, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64},
		elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: 5, Vaddr: addr, Paddr: addr, Filesz: 4096, Memsz: 4096, Align: 4096},
	})
	if err != nil {
		panic(err) // of a constant
	}
	return b
}

// diskImage returns an image that imgbuild makes of files of many kinds.
func diskImage(t testing.TB, flags ...string) []byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "app")
	for name, data := range map[string][]byte{
		"app": append(program(), noise(300_000, 1)...), "etc/small": text(5000), "etc/smaller": text(4200), "etc/inline": text(10), "empty": {}, "text": text(200_000),
		"holes": append(append(noise(5000, 2), make([]byte, 300_000)...), text(5000)...),
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "test.img")
	var out bytes.Buffer
	if code := imgbuild.Main(append(flags, "--cmd", "/app", "-o", path, dir), &out, &out); code != 0 {
		t.Fatalf("imgbuild: exit code %d\n%s", code, out.String())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newMap(t testing.TB, b []byte) *imgmap.Map {
	t.Helper()
	m, err := imgmap.New(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestImage asks for an image's ranges, of every size, and judges the answers by the file system's reader.
func TestImage(t *testing.T) {
	for name, tt := range map[string]struct {
		flags []string
		raw   func(path string) bool
	}{
		"raw":            {nil, func(string) bool { return true }},
		"lz4":            {[]string{"--compress"}, func(string) bool { return false }},
		"small clusters": {[]string{"--compress", "--cluster-size=4096"}, func(string) bool { return false }},
		"some raw":       {[]string{"--compress", "--raw=etc/*", "--raw=app"}, func(path string) bool { return strings.HasPrefix(path, "/etc") || path == "/app" }},
	} {
		t.Run(name, func(t *testing.T) {
			b := diskImage(t, tt.flags...)
			m := newMap(t, b)
			img, err := image.NewReader(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			root, err := img.Root()
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range img.Partitions() {
				got := m.Parts(uint64(p.Offset), 1)
				want := boottrace.Part{What: p.Name, Length: 1}
				if p.Name == image.PartRoot {
					want.What = "superblock"
				}
				if len(got) != 1 || got[0] != want {
					t.Errorf("partition %s begins with %+v, want %+v", p.Name, got, want)
				}
			}
			if got := m.Parts(0, 1); len(got) != 1 || got[0].What != "partition table" {
				t.Errorf("the disk begins with %+v", got)
			}
			for _, step := range []uint64{1 << 9, 1 << 12, 1<<16 - 512, uint64(len(b))} {
				seen := make(map[string][]bool) // by path: which bytes of it were told
				for off := uint64(0); off < uint64(len(b)); off += step {
					n := min(step, uint64(len(b))-off)
					for _, p := range m.Parts(off, n) {
						if p.Path == "" {
							continue
						}
						data, err := fs.ReadFile(root, p.Path[1:])
						if err != nil || p.What != "data" || p.Offset+p.Length > uint64(len(data)) || p.Length == 0 {
							t.Fatalf("%d bytes at %d: %+v: file of %d bytes, %v", n, off, p, len(data), err)
						}
						// Content that is stored as it is has to be in the range.
						if tt.raw(p.Path) && !bytes.Contains(b[off:off+n], data[p.Offset:p.Offset+p.Length]) {
							t.Fatalf("%d bytes at %d: %+v: these bytes are not there", n, off, p)
						}
						if seen[p.Path] == nil {
							seen[p.Path] = make([]bool, len(data))
						}
						for i := range p.Length {
							seen[p.Path][p.Offset+i] = true
						}
					}
				}
				for _, path := range []string{"/app", "/etc/small", "/etc/smaller", "/text", "/holes"} {
					data, err := fs.ReadFile(root, path[1:])
					if err != nil {
						t.Fatal(err)
					}
					missing := 0
					for i, c := range data {
						if c != 0 && !(len(seen[path]) > i && seen[path][i]) {
							missing++
						}
					}
					if missing > 0 {
						t.Errorf("steps of %d: %d bytes of %s are nowhere", step, missing, path)
					}
				}
				if seen["/holes"][200_000] {
					t.Error("a hole is somewhere")
				}
			}
		})
	}
}

// TestForeignDisks maps disks that sfdisk made.
func TestForeignDisks(t *testing.T) {
	sfdisk := needs.Tool(t, "sfdisk", "fdisk")
	const size = 16 << 20
	img := diskImage(t)
	first, err := image.NewReader(bytes.NewReader(img), int64(len(img)))
	if err != nil {
		t.Fatal(err)
	}
	root, _ := first.Partition(image.PartRoot)
	rofs, err := io.ReadAll(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		script string
		at     uint64 // in sectors
		want   []boottrace.Part
	}{
		{"label: gpt\nstart=2048, size=2048, name=\"my home\"\nstart=8192, size=4096\n", 2050, []boottrace.Part{{What: "my home", Offset: 1024, Length: 512}}},
		{"label: gpt\nstart=2048, size=2048\nstart=8192, size=4096\n", 4095, []boottrace.Part{{What: "partition 1", Offset: 2047 * 512, Length: 512}}},
		{"label: gpt\nstart=2048, size=2048\n", 4096, nil},
		{"label: gpt\nstart=2048, size=2048\n", size/512 - 1, []boottrace.Part{{What: "partition table", Offset: 32 * 512, Length: 512}}},
		{"label: dos\nstart=2048, size=2048\nstart=8192, size=4096\n", 8192, []boottrace.Part{{What: "partition 2", Length: 512}}},
		{"label: dos\nstart=2048, size=2048\n", 0, []boottrace.Part{{What: "partition table", Length: 512}}},
		{"label: dos\nstart=2048, size=20000, type=linux\n", 2048, []boottrace.Part{{What: "superblock", Length: 256}}}, // with a ROFS
		{"", 5, []boottrace.Part{{What: "disk", Offset: 5 * 512, Length: 512}}},
	} {
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if tt.script != "" {
			cmd := exec.Command(sfdisk, path)
			cmd.Stdin = strings.NewReader(tt.script)
			if msg, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("sfdisk: %v\n%s", err, msg)
			}
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(tt.script, "linux") {
			copy(b[2048*512:], rofs)
		}
		m := newMap(t, b)
		if diff := cmp.Diff(tt.want, m.Parts(tt.at*512, 512)); diff != "" {
			t.Errorf("sector %d of %q (-want +got):\n%s", tt.at, tt.script, diff)
		}
	}
}

// TestDamage maps images with damage: what is left is right, and what was lost is said.
func TestDamage(t *testing.T) {
	b := diskImage(t, "--compress")
	img, err := image.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var root image.Partition
	for _, p := range img.Partitions() {
		if p.Name == image.PartRoot {
			root = p
		}
	}
	for _, tt := range []struct {
		name string
		do   func(b []byte) []byte
		err  bool
		at   int64
		want string
	}{
		{"superblock", func(b []byte) []byte { b[root.Offset+100] ^= 1; return b }, true, root.Offset, "root"},
		{"no file system", func(b []byte) []byte { b[root.Offset] ^= 1; return b }, false, root.Offset, "root"},
		{"inodes", func(b []byte) []byte { b[root.Offset+4096+50] ^= 1; return b }, true, root.Offset + 4096, "root"},
		{"entries", func(b []byte) []byte { b[1024+60] ^= 1; return b }, true, root.Offset, "disk"},
		{"header", func(b []byte) []byte { b[512+40] ^= 1; return b }, true, root.Offset, "disk"},
		{"cut short", func(b []byte) []byte { return b[:len(b)/2] }, true, 0, "disk"},
		{"cut very short", func(b []byte) []byte { return b[:100] }, false, 0, "disk"},
		{"a sector beyond the end", func(b []byte) []byte {
			header := b[512 : 512+92]
			binary.LittleEndian.PutUint64(header[48:], 1<<40)
			binary.LittleEndian.PutUint32(header[16:], 0)
			binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header))
			return b
		}, true, 0, "disk"},
	} {
		damaged := tt.do(bytes.Clone(b))
		m, err := imgmap.New(bytes.NewReader(damaged), int64(len(damaged)))
		if (err != nil) != tt.err {
			t.Errorf("%s: error %v", tt.name, err)
		}
		if got := m.Parts(uint64(tt.at), 1); len(got) != 1 || got[0].What != tt.want {
			t.Errorf("%s: at %d is %+v, want %s", tt.name, tt.at, got, tt.want)
		}
		if got := m.Parts(1<<63, 1<<63); got != nil {
			t.Errorf("%s: at the end of the world is %+v", tt.name, got)
		}
	}
	failure := errors.New("the disk broke")
	if _, err := imgmap.New(failing{failure}, 1<<20); !errors.Is(err, failure) {
		t.Errorf("of a disk that cannot be read: %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// gptHeader returns the first 40 sectors of a disk with a partition from there on, and a table of four entries.
func gptHeader(sectors int) []byte {
	le := binary.LittleEndian
	b := make([]byte, 40*512)
	e := b[1024:]
	e[0], e[16] = 1, 1
	le.PutUint64(e[32:], 40)
	le.PutUint64(e[40:], uint64(40+sectors-1))
	h := b[512:]
	copy(h, "EFI PART")
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[40:], 34)
	le.PutUint64(h[48:], uint64(40+sectors-1))
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 4)
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(e[:4*128]))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	return b
}

func FuzzNew(f *testing.F) {
	// A file system alone, and on the partition of a disk whose GPT is right.
	dir := f.TempDir()
	for name, data := range map[string][]byte{"a": text(6000), "b": noise(100, 1), "c/d": noise(5000, 2)} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777); err != nil {
			f.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			f.Fatal(err)
		}
	}
	path := filepath.Join(f.TempDir(), "small.rofs")
	var out bytes.Buffer
	if code := imgbuild.Main([]string{"--no-kernel", "--compress", "--cluster-size=4096", "-o", path, dir}, &out, &out); code != 0 {
		f.Fatalf("imgbuild: exit code %d\n%s", code, out.String())
	}
	small, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	disk := append(append(gptHeader(len(small)/512), small...), make([]byte, 512)...)
	for _, b := range [][]byte{small, disk} {
		if got := newMap(f, b).Parts(0, uint64(len(b))); len(got) < 8 {
			f.Fatalf("the seed is mapped as %+v", got)
		}
		f.Add(b, uint64(0), uint64(len(b)))
	}
	mbr := make([]byte, 4096)
	copy(mbr[446:], []byte{0, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0})
	mbr[510], mbr[511] = 0x55, 0xaa
	if got := fmt.Sprint(newMap(f, mbr).Parts(0, 4096)); !strings.Contains(got, "partition 1") {
		f.Fatalf("the seed is mapped as %s", got)
	}
	f.Add(mbr, uint64(0), uint64(4096))
	f.Fuzz(func(t *testing.T, b []byte, off, length uint64) {
		m, _ := imgmap.New(bytes.NewReader(b), int64(len(b))) // of damage it is the rest
		for _, p := range m.Parts(off, length) {
			if p.What == "" || p.Length == 0 || p.Offset+p.Length < p.Offset || off >= uint64(len(b)) {
				t.Errorf("at %d, %d bytes of an image of %d: %+v", off, length, len(b), p)
			}
		}
	})
}
