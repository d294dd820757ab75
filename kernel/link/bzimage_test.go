package link_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/cli/imgbuild"
	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/link"
	"github.com/firstlight-boot/firstlight/qemu"
)

// helloImage builds an image of a C program that greets, and returns its path and its kernel.
func helloImage(t *testing.T) (path string, kernel []byte) {
	t.Helper()
	needs.Tool(t, "cc", "gcc")
	dir := t.TempDir()
	app, source := filepath.Join(dir, "hello"), filepath.Join(dir, "hello.c")
	if err := os.WriteFile(source, []byte("#include <stdio.h>\nint main(int c, char **v) { printf(\"hello %s\\n\", v[1]); return c; }\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.Command("cc", "-static", "-O1", "-o", app, source).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, msg)
	}
	path = filepath.Join(dir, "hello.img")
	var out bytes.Buffer
	if code := imgbuild.Main([]string{"--cmd", "/hello disk", "-o", path, app}, &out, &out); code != 0 {
		t.Fatalf("imgbuild: exit code %d\n%s", code, out.String())
	}
	img, err := image.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	r, _ := img.Partition(image.PartKernel)
	if kernel, err = io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	return path, kernel
}

// boot boots a kernel with a disk and checks what the app writes, its marks and its exit code.
func boot(t *testing.T, c qemu.Config, console string) {
	t.Helper()
	needs.Tool(t, "qemu-system-x86_64", "qemu-system-x86")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	q, err := qemu.Find(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	var out, marks bytes.Buffer
	vm, err := q.Start(ctx, c, qemu.Events{
		Console: func(_ time.Duration, p []byte) { out.Write(p) },
		Mark:    func(_ time.Duration, p []byte) { marks.Write(p) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	result, err := vm.Wait()
	if err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	if got := strings.ReplaceAll(out.String(), "\r", ""); got != console {
		t.Errorf("the console says %q, want %q", got, console)
	}
	want := []byte{abi.MarkEntry, abi.MarkMain, abi.MarkRoot, abi.MarkApp, abi.MarkOutput, abi.MarkEnd, abi.EndExited, 2}
	if !bytes.Equal(marks.Bytes(), want) {
		t.Errorf("marks %v, want %v", marks.Bytes(), want)
	}
	if code, ok := result.GuestExit(); !ok || code != 2 {
		t.Errorf("exit code %d, %v; want 2", code, ok)
	}
}

// TestBzImageBoots boots a bzImage by both its entries: the 16-bit one from qboot and SeaBIOS, the 32-bit one as hyperkit
// enters it. 8 MiB is little enough that the place of everything matters.
func TestBzImageBoots(t *testing.T) {
	img, kernel := helloImage(t)
	bz, err := link.BzImage(kernel)
	if err != nil {
		t.Fatal(err)
	}
	again, err := link.BzImage(kernel)
	if err != nil || !bytes.Equal(bz, again) {
		t.Fatalf("a second bzImage differs (%v)", err)
	}
	needs.Tool(t, "cpio", "cpio")
	pack := exec.Command("cpio", "-o", "--quiet", "-H", "newc")
	pack.Dir, pack.Stdin = filepath.Dir(img), strings.NewReader("hello")
	disk, err := pack.Output()
	if err != nil {
		t.Fatalf("cpio: %v", err)
	}
	for _, tt := range []struct {
		name, console string
		c             qemu.Config
	}{
		{"qboot", "hello disk\n", qemu.Config{Machine: qemu.MicroVM, KernelImage: bz}},
		{"SeaBIOS", "hello disk\n", qemu.Config{Machine: qemu.MicroVM, Firmware: qemu.SeaBIOS, KernelImage: bz}},
		{"command line", "hello line\n", qemu.Config{Machine: qemu.MicroVM, KernelImage: bz, Append: "arg=line"}},
		{"as hyperkit does", "hello kexec\n", qemu.Config{Machine: qemu.MicroVM, KernelImage: kexec(t, bz, nil, "arg=kexec"), MemoryBytes: 16 << 20}},
		{"with a RAM disk", "hello ram\n", qemu.Config{Machine: qemu.MicroVM, KernelImage: kexec(t, bz, disk, "arg=ram"), MemoryBytes: 16 << 20}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.c.MemoryBytes == 0 {
				tt.c.MemoryBytes = 8 << 20
			}
			tt.c.Disks = []string{img}
			boot(t, tt.c, tt.console)
		})
	}
}

// kexec returns a PVH kernel that leaves the machine as hyperkit's kexec firmware does (src/lib/firmware/kexec.c): GDT at
// 0x2000, zero page at 0x3000, command line at 0x4000, the bzImage behind its setup at 1 MiB, the initial RAM disk where the
// kernel's memory ends; there it goes on. What hyperkit checks of the header is checked here.
func kexec(t *testing.T, bz, disk []byte, line string) []byte {
	t.Helper()
	const base, memory, loader = 0x2000, 16 << 20, 12 << 20
	le := binary.LittleEndian
	setup := (int(bz[0x1f1]) + 1) * 512
	initSize := uint64(le.Uint32(bz[0x260:]))
	switch {
	case bz[0x1f1] == 0, le.Uint16(bz[0x1fe:]) != 0xaa55, string(bz[0x202:0x206]) != "HdrS", le.Uint16(bz[0x206:]) < 0x20a, bz[0x211]&1 == 0:
		t.Fatal("hyperkit cannot boot this kernel")
	case len(bz) < setup+int(le.Uint32(bz[0x1f4:]))*16, bz[0x234] != 0, le.Uint64(bz[0x258:]) != 0x100000:
		t.Fatal("hyperkit would load it elsewhere")
	case uint64(len(bz)-setup) > initSize, 0x100000+initSize > loader, len(line)+1 > int(le.Uint32(bz[0x238:])):
		t.Fatal("hyperkit finds it too large")
	}
	low := make([]byte, 0x2000, 0x3000)
	le.PutUint64(low[0x10:], 0x00cf9a000000ffff)
	le.PutUint64(low[0x18:], 0x00cf92000000ffff)
	zero := low[0x1000:]
	copy(zero[0x1f1:], bz[0x1f1:0x268])
	le.PutUint32(zero[0x228:], 0x4000)
	diskAt := (0x100000 + initSize + 4095) &^ 4095
	if disk == nil {
		disk = []byte{0xff} // not told of
	} else {
		le.PutUint32(zero[0x218:], uint32(diskAt))
		le.PutUint32(zero[0x21c:], uint32(len(disk)))
	}
	zero[0x1e8] = 2
	le.PutUint64(zero[0x2d0+8:], 0x9fc00)
	le.PutUint32(zero[0x2d0+16:], 1)
	le.PutUint64(zero[0x2d0+20:], 0x100000)
	le.PutUint64(zero[0x2d0+28:], memory-0x100000)
	le.PutUint32(zero[0x2d0+36:], 1)
	low = append(append(low, line...), 0)

	code := make([]byte, 64)
	copy(code, []byte{
		0xfc,                 // cld
		0xbe, 64, 0, 0xc0, 0, // mov $low,%esi
		0xbf, 0, 0x20, 0, 0, // mov $0x2000,%edi
		0xb9, 0, 0, 0, 0, // mov $len(low),%ecx
		0xf3, 0xa4, // rep movsb
		0x0f, 0x01, 0x15, 56, 0, 0xc0, 0, // lgdt
		0xbe, 0, 0x30, 0, 0, // mov $0x3000,%esi
		0x31, 0xdb, // xor %ebx,%ebx
		0x31, 0xff, // xor %edi,%edi
		0xea, 0, 0, 0x10, 0, 0x10, 0, // ljmp $0x10,$0x100000
	})
	le.PutUint32(code[12:], uint32(len(low)))
	le.PutUint16(code[56:], 0x1f)
	le.PutUint32(code[58:], base)
	code = append(code, low...)

	payload := append(bytes.Clone(bz[setup:]), bytes.Repeat([]byte{0xff}, 4096)...) // a loader may leave anything behind it
	var b bytes.Buffer
	note := le.AppendUint64([]byte("\x04\x00\x00\x00\x08\x00\x00\x00\x12\x00\x00\x00Xen\x00"), loader)
	header := elf.Header64{Type: 2, Machine: uint16(elf.EM_X86_64), Version: 1, Entry: loader, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 4}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	diskOff := 4096 + uint64(len(payload)+len(code))
	diskOff += (diskAt - diskOff) % 4096 // places in file and memory agree
	progs := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: 7, Off: 4096, Vaddr: 0x100000, Paddr: 0x100000, Filesz: uint64(len(payload)), Memsz: uint64(len(payload)), Align: 4096},
		{Type: uint32(elf.PT_LOAD), Flags: 7, Off: 4096 + uint64(len(payload)), Vaddr: loader, Paddr: loader, Filesz: uint64(len(code)), Memsz: uint64(len(code)), Align: 4096},
		{Type: uint32(elf.PT_LOAD), Flags: 7, Off: diskOff, Vaddr: diskAt, Paddr: diskAt, Filesz: uint64(len(disk)), Memsz: uint64(len(disk)), Align: 4096},
		{Type: uint32(elf.PT_NOTE), Flags: 4, Off: 64 + 4*56, Vaddr: 64 + 4*56, Paddr: 64 + 4*56, Filesz: uint64(len(note)), Memsz: uint64(len(note)), Align: 4},
	}
	for _, v := range []any{header, progs, note} {
		if err := binary.Write(&b, le, v); err != nil {
			t.Fatal(err)
		}
	}
	b.Write(make([]byte, 4096-b.Len()))
	b.Write(payload)
	b.Write(code)
	b.Write(make([]byte, diskOff-uint64(b.Len())))
	b.Write(disk)
	return b.Bytes()
}

// TestBzImageHeader checks what loaders are told: how much there is, and how far BSS goes, which must hold nothing of
// theirs.
func TestBzImageHeader(t *testing.T) {
	_, kernel := helloImage(t)
	bz, err := link.BzImage(kernel)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	if want := len(bz) - 4096; le.Uint32(bz[0x1f4:])*16 != uint32(want) {
		t.Errorf("the header tells %d bytes of kernel, the file has %d", le.Uint32(bz[0x1f4:])*16, want)
	}
	if size := le.Uint32(bz[0x260:]); int(size) < len(bz)-4096 || size > 16<<20 || size%4096 != 0 {
		t.Errorf("init_size %#x", size)
	}
	if name := bz[0x200+int(le.Uint16(bz[0x20e:])):]; !bytes.HasPrefix(name, []byte("Firstlight\x00")) {
		t.Errorf("the kernel's name is %q", name[:16])
	}
	// But for the jump at its start, the low segment is the kernel's own, parameters included.
	f, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		t.Fatal(err)
	}
	low := kernel[f.Progs[0].Off:][:f.Progs[0].Filesz]
	if !bytes.Equal(low[5:], bz[4096+5:][:len(low)-5]) {
		t.Error("the low segment is not the kernel's")
	}
}

func TestBzImageRefuses(t *testing.T) {
	_, kernel := helloImage(t)
	le := binary.LittleEndian
	prog := func(b []byte, i int) []byte { return b[64+56*i:] }
	for name, edit := range map[string]func(b []byte) []byte{
		"nothing":           func(b []byte) []byte { return nil },
		"noise":             func(b []byte) []byte { return []byte("not a kernel at all, but some text of some length") },
		"cut short":         func(b []byte) []byte { return b[:len(b)-1] },
		"headers only":      func(b []byte) []byte { return b[:4096] },
		"other entry":       func(b []byte) []byte { b[24]++; return b },
		"a segment beyond":  func(b []byte) []byte { le.PutUint64(prog(b, 2)[24:], 1<<40); return b },
		"a segment too low": func(b []byte) []byte { le.PutUint64(prog(b, 1)[24:], 0x180000); return b },
		"segments overlap":  func(b []byte) []byte { le.PutUint64(prog(b, 2)[24:], 0x200000); return b },
		"BSS in a header":   func(b []byte) []byte { le.PutUint64(prog(b, 3)[40:], 1<<50); return b },
		"no low segment":    func(b []byte) []byte { le.PutUint32(prog(b, 0), 0); return b },
		"huge segment": func(b []byte) []byte {
			le.PutUint64(prog(b, 1)[32:], 1<<62)
			le.PutUint64(prog(b, 1)[40:], 1<<62)
			return b
		},
		"no page tables": func(b []byte) []byte { clear(b[4096+layout.TablesOff:][:(layout.PTKernel+2)*4096]); return b },
	} {
		if _, err := link.BzImage(edit(bytes.Clone(kernel))); !errors.Is(err, link.ErrNotKernel) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
