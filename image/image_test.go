package image_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/fsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/rofsmod"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/tree"
)

// testKernel makes the smallest file that docs/guest-abi.md calls a kernel. change, if not nil, spoils its headers.
func testKernel(change func(*elf.Header64, []elf.Prog64)) []byte {
	le := binary.LittleEndian
	note := func(name string, typ uint32, desc []byte) []byte {
		b := le.AppendUint32(nil, uint32(len(name)+1))
		b = le.AppendUint32(b, uint32(len(desc)))
		b = le.AppendUint32(b, typ)
		b = append(b, name...)
		b = append(b, make([]byte, 4-len(name)%4)...)
		return append(append(b, desc...), make([]byte, -len(desc)&3)...)
	}
	notes := slices.Concat(
		note(abi.XenNoteName, abi.XenNotePhys32, le.AppendUint64(nil, 0x100000)),
		note(abi.NoteName, abi.NoteBuild, []byte("abi=1\ngo=go1.26\n")),
		note(abi.NoteName, abi.NoteParams, make([]byte, abi.ParamsSize)),
	)
	h := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: 2, Machine: 62, Version: 1, Entry: 0x100000, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2, Shentsize: 64,
	}
	progs := []elf.Prog64{
		{Type: 1, Flags: 5, Off: 4096, Vaddr: 0x100000, Paddr: 0x100000, Filesz: uint64(len(notes)), Memsz: uint64(len(notes)), Align: 4096},
		{Type: 4, Flags: 4, Off: 4096, Vaddr: 0x100000, Paddr: 0x100000, Filesz: uint64(len(notes)), Memsz: uint64(len(notes)), Align: 4},
	}
	if change != nil {
		change(&h, progs)
	}
	var b bytes.Buffer
	for _, v := range []any{h, progs} {
		if err := binary.Write(&b, le, v); err != nil {
			panic(err)
		}
	}
	return append(append(b.Bytes(), make([]byte, 4096-b.Len())...), notes...)
}

func content(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

func spec(t testing.TB) image.Spec {
	t.Helper()
	now := time.Unix(1_700_000_000, 0)
	tr, err := tree.New(
		tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755, ModTime: now},
		tree.Entry{Path: "hello", Mode: 0o755, ModTime: now, Size: 5, Source: content("hello")},
		tree.Entry{Path: "link", Mode: fs.ModeSymlink | 0o777, ModTime: now, Link: "hello"},
	)
	if err != nil {
		t.Fatal(err)
	}
	m, err := fsmod.Lookup("rofs")
	if err != nil {
		t.Fatal(err)
	}
	return image.Spec{
		Params: image.Params{Tool: "test", Sources: []string{"app"}, Flavour: image.FlavourNative, Args: []string{"/hello", "a b"}, Env: []string{"K=V"}, Cwd: "/"},
		Kernel: testKernel(nil), Tree: tr, Module: m, Options: fsmod.Options{Codec: "lz4"},
	}
}

func write(t testing.TB, s image.Spec) (string, *image.Result) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "app.img")
	res, err := image.WriteFile(t.Context(), name, s)
	if err != nil {
		t.Fatal(err)
	}
	return name, res
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWriteAndOpen(t *testing.T) {
	s := spec(t)
	name, res := write(t, s)
	img, err := image.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if img.ID() != res.ID || img.Size() != res.Bytes || img.Size()%image.Align != 0 {
		t.Errorf("ID %s, size %d; the writer said %s, %d", img.ID(), img.Size(), res.ID, res.Bytes)
	}
	if d := cmp.Diff(s.Params.Args, img.Params.Args); d != "" {
		t.Errorf("args (-want +got):\n%s", d)
	}
	if d := cmp.Diff(res.Partitions, img.Partitions()); d != "" {
		t.Errorf("partitions (-written +read):\n%s", d)
	}
	for _, p := range img.Partitions() {
		r, ok := img.Partition(p.Name)
		b, err := io.ReadAll(r)
		sum := sha256.Sum256(b)
		if !ok || err != nil || hex.EncodeToString(sum[:]) != p.SHA256 || p.Offset%image.Align != 0 {
			t.Errorf("partition %s at %d: %d bytes, %v, digest %x, want %s", p.Name, p.Offset, len(b), err, sum, p.SHA256)
		}
	}
	kernel, _ := img.Partition(image.PartKernel)
	root, _ := img.Partition(image.PartRoot)
	_, rootOff, rootLen := root.Outer()
	b, err := io.ReadAll(kernel)
	if err != nil {
		t.Fatal(err)
	}
	area := "arg=/hello\x00arg=a b\x00env=K=V\x00cwd=/\x00root=rofs:" + itoa(rootOff) + ":" + itoa(rootLen) + "\x00\x00"
	if !bytes.Contains(b, []byte(area)) {
		t.Errorf("the kernel does not hold the parameters %q", area)
	}
	if err := image.ClearParams(b); err != nil || !bytes.Equal(b, s.Kernel) {
		t.Errorf("the kernel without parameters is not the one that went in (%v)", err)
	}
	fsys, err := img.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(fsys, "hello", "link"); err != nil {
		t.Error(err)
	}
	if b, err := fs.ReadFile(fsys, "link"); string(b) != "hello" || err != nil {
		t.Errorf("link: %q, %v", b, err)
	}
	if problems, err := image.VerifyFile(t.Context(), name); len(problems) > 0 || err != nil {
		t.Errorf("Verify: %v, %v", problems, err)
	}
}

func itoa(n int64) string { b, _ := json.Marshal(n); return string(b) }

// A loader sees the kernel's segments in the disk, at their places, with their content.
func TestDiskIsKernel(t *testing.T) {
	s := spec(t)
	name, _ := write(t, s)
	disk, err := elf.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	img, err := image.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	part, _ := img.Partition(image.PartKernel)
	kernel, err := elf.NewFile(part)
	if err != nil {
		t.Fatal(err)
	}
	_, off, _ := part.Outer()
	if disk.Entry != kernel.Entry || len(disk.Progs) != len(kernel.Progs) || len(disk.Sections) != 0 {
		t.Fatalf("disk: entry %#x, %d segments, %d sections", disk.Entry, len(disk.Progs), len(disk.Sections))
	}
	for i, p := range disk.Progs {
		want := kernel.Progs[i].ProgHeader
		want.Off += uint64(off)
		if p.ProgHeader != want {
			t.Errorf("segment %d: %+v, want %+v", i, p.ProgHeader, want)
		}
		a, err1 := io.ReadAll(p.Open())
		b, err2 := io.ReadAll(kernel.Progs[i].Open())
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("segment %d: content differs (%v, %v)", i, err1, err2)
		}
	}
}

func TestSameInputSameBytes(t *testing.T) {
	a, _ := write(t, spec(t))
	b, _ := write(t, spec(t))
	if !bytes.Equal(readFile(t, a), readFile(t, b)) {
		t.Error("two images of the same input differ")
	}
}

// The bytes of an image do not change unless somebody means it. The file system here is fixed, so rofs may change.
func TestGolden(t *testing.T) {
	s := spec(t)
	s.Module = fixed{}
	s.Options = fsmod.Options{}
	name, _ := write(t, s)
	const want = "9807f7e91a827578de70c7dc9a6cff67ef584c8d06c6badc18eaabd579952ee3"
	if got := sha256.Sum256(readFile(t, name)); hex.EncodeToString(got[:]) != want {
		t.Errorf("the image's SHA-256 is %x, was %s", got, want)
	}
}

// fixed is a module whose file systems always have the same content.
type fixed struct{ fsmod.Module }

func (fixed) Name() string { return "fixed" }

func (fixed) Write(_ context.Context, w io.WriterAt, _ *tree.Tree, _ fsmod.Options) (fsmod.Result, error) {
	b := bytes.Repeat([]byte("0123456789abcde\n"), 300)
	_, err := w.WriteAt(b, 0)
	return fsmod.Result{Bytes: int64(len(b))}, err
}

func (fixed) Probe(io.ReaderAt, int64) (bool, error) { return false, nil }

// Check finds nothing: the image's own digest has to.
func (fixed) Check(context.Context, io.ReaderAt, int64) ([]fsmod.Problem, error) { return nil, nil }

func init() { fsmod.Register(fixed{}) }

func TestForeignJudges(t *testing.T) {
	name, res := write(t, spec(t))
	t.Run("sgdisk", func(t *testing.T) {
		tool := needs.Tool(t, "sgdisk", "gdisk")
		out, err := exec.Command(tool, "-v", name).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("No problems found")) || bytes.Contains(out, []byte("Caution")) {
			t.Errorf("sgdisk -v: %v\n%s", err, out)
		}
		for i, p := range res.Partitions {
			out, err := exec.Command(tool, "-i", itoa(int64(i+1)), name).CombinedOutput()
			for _, want := range []string{"First sector: " + itoa(p.Offset/512) + " ", "Partition name: '" + p.Name + "'"} {
				if err != nil || !bytes.Contains(out, []byte(want)) {
					t.Errorf("sgdisk -i %d does not say %q: %v\n%s", i+1, want, err, out)
				}
			}
		}
	})
	t.Run("sfdisk", func(t *testing.T) {
		tool := needs.Tool(t, "sfdisk", "fdisk")
		if out, err := exec.Command(tool, "--verify", name).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("No errors detected")) {
			t.Errorf("sfdisk --verify: %v\n%s", err, out)
		}
		out, err := exec.Command(tool, "--json", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			PartitionTable struct {
				ID         string
				Partitions []struct {
					Start, Size int64
					Name        string
				}
			}
		}
		if err := json.Unmarshal(out, &v); err != nil {
			t.Fatal(err)
		}
		if v.PartitionTable.ID != res.ID || len(v.PartitionTable.Partitions) != len(res.Partitions) {
			t.Fatalf("sfdisk sees %+v", v)
		}
		for i, p := range v.PartitionTable.Partitions {
			if q := res.Partitions[i]; p.Start*512 != q.Offset || p.Name != q.Name || p.Size*512 < q.Length {
				t.Errorf("sfdisk sees %+v, want %+v", p, q)
			}
		}
	})
}

// One flipped bit, wherever it is, is noticed. The problem's range holds the bit, or the cause is one that covers it.
func TestVerifyEveryBit(t *testing.T) {
	s := spec(t)
	s.Module = fixed{}
	name, _ := write(t, s)
	good := readFile(t, name)
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			b := slices.Clone(good)
			for i := w; i < len(b); i += workers {
				for bit := range 8 {
					// All bits of what is parsed, and of the rest, where a digest or a comparison with zero decides, one a byte.
					if i >= 4*512 && i < len(b)-512 && bit != i%8 {
						continue
					}
					b[i] ^= 1 << bit
					problems, err := image.Verify(t.Context(), bytes.NewReader(b), int64(len(b)))
					if err != nil || len(problems) == 0 {
						t.Errorf("bit %d of byte %d: %v, %v", bit, i, problems, err)
					}
					b[i] ^= 1 << bit
				}
			}
		})
	}
	wg.Wait()
}

func TestVerifySaysWhere(t *testing.T) {
	name, res := write(t, spec(t))
	good := readFile(t, name)
	kernel, root := res.Partitions[1], res.Partitions[2]
	end := int64(len(good))
	for _, c := range []struct {
		at   int64
		want string
	}{
		{40, "boot sector"}, {445, "boot sector"}, {460, "protective MBR"}, {512 + 60, "GPT"}, {1024 + 60, "GPT"}, {18000, "padding"},
		{20490, "parameters"}, {kernel.Offset - 1, "padding"}, {kernel.Offset + 4096 + 100, "partition kernel"},
		{kernel.Offset + kernel.Length, "padding"}, {root.Offset + 4096, "partition root"}, {end - 100, "backup of the GPT header"}, {end - 1024, "backup of the GPT entries"},
	} {
		b := slices.Clone(good)
		b[c.at] ^= 0x10
		problems, err := image.Verify(t.Context(), bytes.NewReader(b), end)
		if err != nil || len(problems) == 0 {
			t.Errorf("byte %d: %v, %v", c.at, problems, err)
			continue
		}
		if !slices.ContainsFunc(problems, func(p image.Problem) bool {
			return strings.Contains(p.What, c.want) && p.Offset <= c.at && c.at < p.Offset+p.Length
		}) {
			t.Errorf("byte %d: no problem there says %q: %v", c.at, c.want, problems)
		}
	}
}

// Whatever is cut off, readers say so and do not read beyond the end.
func TestTruncated(t *testing.T) {
	name, _ := write(t, spec(t))
	good := readFile(t, name)
	for n := 0; n < len(good); n += 97 {
		r := bytes.NewReader(good[:n])
		if img, err := image.NewReader(r, int64(n)); err == nil {
			t.Errorf("NewReader of %d bytes of %d: %+v", n, len(good), img.Params)
		}
		problems, err := image.Verify(t.Context(), r, int64(n))
		if err == nil && len(problems) == 0 {
			t.Errorf("Verify of %d bytes of %d: nothing", n, len(good))
		}
		if err != nil && !errors.Is(err, image.ErrFormat) {
			t.Errorf("Verify of %d bytes of %d: %v", n, len(good), err)
		}
	}
	_, err := image.NewReader(bytes.NewReader(good[:len(good)-4096]), int64(len(good)-4096))
	if err == nil || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("NewReader of a truncated image: %v", err)
	}
	long := append(slices.Clone(good), make([]byte, 4096)...)
	if problems, err := image.Verify(t.Context(), bytes.NewReader(long), int64(len(long))); err == nil && len(problems) == 0 {
		t.Error("Verify takes an image with something behind it")
	}
}

func TestForeignFiles(t *testing.T) {
	for what, b := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "zeros": make([]byte, 100_000), "kernel": testKernel(nil),
	} {
		if _, err := image.NewReader(bytes.NewReader(b), int64(len(b))); !errors.Is(err, image.ErrFormat) {
			t.Errorf("NewReader of %s: %v, want ErrFormat", what, err)
		}
		if _, err := image.Verify(t.Context(), bytes.NewReader(b), int64(len(b))); !errors.Is(err, image.ErrFormat) {
			t.Errorf("Verify of %s: %v, want ErrFormat", what, err)
		}
	}
	if _, err := image.Open(t.TempDir()); !errors.Is(err, image.ErrFormat) {
		t.Errorf("Open of a directory: %v", err)
	}
	if _, err := image.Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of nothing: %v", err)
	}
}

// A GPT disk of another maker is not ours.
func TestForeignDisk(t *testing.T) {
	tool := needs.Tool(t, "sgdisk", "gdisk")
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, make([]byte, 4<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "-n", "1:2048:4095", name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := image.Open(name); !errors.Is(err, image.ErrFormat) {
		t.Errorf("Open: %v, want ErrFormat", err)
	}
	if _, err := image.VerifyFile(t.Context(), name); !errors.Is(err, image.ErrFormat) {
		t.Errorf("VerifyFile: %v, want ErrFormat", err)
	}
}

func TestBareFileSystem(t *testing.T) {
	name := filepath.Join(t.TempDir(), "root.rofs")
	res, err := image.WriteFSFile(t.Context(), name, spec(t))
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if img.Params != nil || img.ID() != "" || img.Size() != res.Bytes {
		t.Errorf("a bare file system has parameters %+v, ID %q, size %d", img.Params, img.ID(), img.Size())
	}
	fsys, err := img.Root()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(fsys, "hello"); string(b) != "hello" || err != nil {
		t.Errorf("hello: %q, %v", b, err)
	}
	if problems, err := image.VerifyFile(t.Context(), name); len(problems) > 0 || err != nil {
		t.Errorf("Verify: %v, %v", problems, err)
	}
	b := readFile(t, name)
	for i := 0; i < len(b); i += 31 { // rofs's own tests leave none out
		b[i] ^= 1 << (i % 8)
		if problems, err := image.Verify(t.Context(), bytes.NewReader(b), int64(len(b))); err == nil && len(problems) == 0 {
			t.Errorf("a flipped bit in byte %d is not noticed", i)
		}
		b[i] ^= 1 << (i % 8)
	}
}

func TestBadSpecs(t *testing.T) {
	for what, change := range map[string]func(*image.Spec){
		"no command":        func(s *image.Spec) { s.Params.Args = nil },
		"not UTF-8":         func(s *image.Spec) { s.Params.Args = []string{"/\xff"} },
		"NUL":               func(s *image.Spec) { s.Params.Env = []string{"A=\x00"} },
		"too large":         func(s *image.Spec) { s.Params.Args = append(s.Params.Args, strings.Repeat("x", abi.ParamsSize)) },
		"available: native": func(s *image.Spec) { s.Params.Flavour = "dos" },
		"not an ELF file":   func(s *image.Spec) { s.Kernel = []byte("MZ") },
		"64-bit x86":        func(s *image.Spec) { s.Kernel = testKernel(func(h *elf.Header64, _ []elf.Prog64) { h.Machine = 183 }) },
		"EXEC":              func(s *image.Spec) { s.Kernel = testKernel(func(h *elf.Header64, _ []elf.Prog64) { h.Type = 3 }) },
		"does not fit":      func(s *image.Spec) { s.Kernel = testKernel(func(_ *elf.Header64, p []elf.Prog64) { p[0].Paddr++ }) },
		"no notes":          func(s *image.Spec) { s.Kernel = testKernel(func(_ *elf.Header64, p []elf.Prog64) { p[1].Type = 0 }) },
		"program headers":   func(s *image.Spec) { s.Kernel = testKernel(func(h *elf.Header64, _ []elf.Prog64) { h.Phnum = 7 }) },
		"beyond": func(s *image.Spec) {
			s.Kernel = testKernel(func(_ *elf.Header64, p []elf.Prog64) { p[0].Filesz = 1 << 40 })
		},
		"longer than its segment": func(s *image.Spec) {
			s.Kernel = testKernel(nil)
			binary.LittleEndian.PutUint32(s.Kernel[4096+4:], 1<<31)
		},
		"abi is 2": func(s *image.Spec) { s.Kernel = bytes.Replace(testKernel(nil), []byte("abi=1"), []byte("abi=2"), 1) },
		"no PVH":   func(s *image.Spec) { s.Kernel = bytes.Replace(testKernel(nil), []byte("Xen"), []byte("Xem"), 1) },
	} {
		s := spec(t)
		change(&s)
		dir := t.TempDir()
		_, err := image.WriteFile(t.Context(), filepath.Join(dir, "x.img"), s)
		if err == nil || !errors.Is(err, image.ErrInput) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: error %v", what, err)
		}
		noLitter(t, dir)
	}
}

// noLitter checks that dir holds these names and nothing else.
func noLitter(t *testing.T, dir string, want ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

// An interrupted or failed write leaves the old file as it was, and no other.
func TestOldFileStays(t *testing.T) {
	errDisk := errors.New("disk on fire")
	for what, source := range map[string]func(cancel func()) error{
		"interrupted": func(cancel func()) error { cancel(); return nil },
		"failed":      func(func()) error { return errDisk },
	} {
		dir := t.TempDir()
		name := filepath.Join(dir, "app.img")
		if err := os.WriteFile(name, []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		s := spec(t)
		s.Tree.Entries[1].Source = func() (io.ReadCloser, error) {
			if err := source(cancel); err != nil {
				return nil, err
			}
			return content("hello")()
		}
		_, err := image.WriteFile(ctx, name, s)
		cancel()
		if !errors.Is(err, errDisk) && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v", what, err)
		}
		if got := readFile(t, name); string(got) != "old" {
			t.Errorf("%s: the old file is now %d bytes", what, len(got))
		}
		noLitter(t, dir, "app.img")
	}
}

// failing is a file whose n-th write fails, and all after it.
type failing struct {
	*os.File
	mu sync.Mutex
	n  int
}

var errWrite = errors.New("cannot write")

func (f *failing) WriteAt(b []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n--; f.n < 0 {
		return 0, errWrite
	}
	return f.File.WriteAt(b, off)
}

// Whichever write fails, the writer's error is that one's.
func TestFailingWriter(t *testing.T) {
	for n := 0; ; n++ {
		f, err := os.Create(filepath.Join(t.TempDir(), "x"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = image.Write(t.Context(), &failing{File: f, n: n}, spec(t))
		f.Close()
		if err == nil {
			if n < 5 {
				t.Errorf("an image takes %d writes", n)
			}
			return
		}
		if !errors.Is(err, errWrite) {
			t.Fatalf("write %d fails: %v", n, err)
		}
	}
}

func TestOutputs(t *testing.T) {
	dir := t.TempDir()
	if _, err := image.WriteFile(t.Context(), filepath.Join(dir, "none", "x.img"), spec(t)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into a folder that is not there: %v", err)
	}
	if _, err := image.WriteFile(t.Context(), dir, spec(t)); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("over a directory: %v", err)
	}
	if _, err := image.WriteFile(t.Context(), os.DevNull, spec(t)); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("over a device: %v", err)
	}
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(target, nil, 0o644), os.Symlink("target", link)); err != nil {
		t.Fatal(err)
	}
	if _, err := image.WriteFile(t.Context(), link, spec(t)); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the symbolic link was replaced: %v, %v", st, err)
	}
	if problems, err := image.VerifyFile(t.Context(), target); len(problems) > 0 || err != nil {
		t.Errorf("behind the link: %v, %v", problems, err)
	}
	long := filepath.Join(dir, strings.Repeat("n", 255))
	if _, err := image.WriteFile(t.Context(), long, spec(t)); err != nil {
		t.Errorf("a name of 255 bytes: %v", err)
	}
	noLitter(t, dir, "link", filepath.Base(long), "target")
}

func FuzzNewReader(f *testing.F) {
	name, _ := write(f, spec(f))
	good := readFile(f, name)
	if _, err := image.NewReader(bytes.NewReader(good), int64(len(good))); err != nil {
		f.Fatalf("the seed does not reach the end: %v", err)
	}
	f.Add(good)
	f.Add(good[:30000])
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		img, err := image.NewReader(r, int64(len(b)))
		if err == nil {
			for _, p := range img.Partitions() {
				sr, _ := img.Partition(p.Name)
				if _, err := io.Copy(io.Discard, sr); err != nil {
					t.Errorf("partition %+v of %d bytes: %v", p, len(b), err)
				}
			}
			if fsys, err := img.Root(); err == nil {
				_, _ = fsys.Tree()
			}
		}
		_, _ = image.Verify(t.Context(), r, int64(len(b)))
	})
}
