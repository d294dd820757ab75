package link

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
)

// goKernel builds the kernel's main package as Link wants it.
func goKernel(t *testing.T) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "kernel")
	args, env := GoBuildArgs(nil)
	cmd := exec.Command("go", append(args, "-o", out, Package)...)
	cmd.Env = append(os.Environ(), env...)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLink(t *testing.T) {
	in := goKernel(t)
	out, err := Link(in, "version=test")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Link(in, "version=test")
	if err != nil || !bytes.Equal(out, again) {
		t.Fatalf("a second link differs (%v)", err)
	}
	f, err := elf.NewFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Progs) > abi.MaxDiskSegments {
		t.Errorf("%d program headers, want at most %d", len(f.Progs), abi.MaxDiskSegments)
	}
	loads := 0
	for _, p := range f.Progs {
		if p.Off < abi.KernelHeaderSize {
			t.Errorf("segment at offset %#x, within the headers", p.Off)
		}
		if p.Type != elf.PT_LOAD {
			continue
		}
		loads++
		if p.Off%4096 != p.Paddr%4096 {
			t.Errorf("offset %#x does not fit physical address %#x", p.Off, p.Paddr)
		}
		if p.Memsz != p.Filesz {
			t.Errorf("segment at %#x: a loader would clear %d bytes", p.Paddr, p.Memsz-p.Filesz)
		}
		if p.Vaddr >= layout.KernelBase && p.Flags&elf.PF_W != 0 && p.Flags&elf.PF_X != 0 {
			t.Errorf("segment at %#x is writable and executable", p.Vaddr)
		}
	}
	if loads != 4 {
		t.Errorf("%d segments are loaded, want 4", loads)
	}
	notes := f.Progs[len(f.Progs)-1]
	if notes.Type != elf.PT_NOTE || notes.Paddr+24 != layout.ParamsPhys {
		t.Errorf("notes at %#x: the guest looks for its parameters at %#x", notes.Paddr, layout.ParamsPhys)
	}
	b := make([]byte, notes.Filesz)
	if _, err := notes.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("abi=1\ngo=go1.")) || !bytes.Contains(b, []byte("version=test\n")) {
		t.Error("the build note lacks abi, go or version")
	}
}

// TestPageTables walks the tables that the kernel starts with: nothing is writable and executable, text and data are where
// they belong, guards are not mapped.
func TestPageTables(t *testing.T) {
	const guard = layout.KernelPhys + 5*4096
	low := lowSegment(0, 0, []segment{
		{Virt: layout.KernelPhys, Phys: layout.KernelPhys, Size: 3 * 4096, Exec: true},
		{Virt: layout.KernelPhys + 3*4096, Phys: layout.KernelPhys + 3*4096, Size: 2 * 4096, Write: true},
		{Virt: layout.KernelPhys + 6*4096, Phys: layout.KernelPhys + 5*4096, Size: 4096, Write: true},
		{Virt: layout.KernelPhys + 40<<20, Phys: layout.KernelPhys + 6*4096, Size: 4096, Write: true},
	})
	table := func(phys uint64) []byte { return low[phys-layout.LowPhys:][:4096] }
	const frame = 0x000ffffffffff000
	walk := func(va uint64) (phys uint64, write, exec, ok bool) {
		at, write, exec := uint64(layout.RootPhys), true, true
		for shift := 39; ; shift -= 9 {
			e := binary.LittleEndian.Uint64(table(at)[va>>shift&511*8:])
			if e&layout.Present == 0 {
				return 0, false, false, false
			}
			write = write && e&layout.Writable != 0
			exec = exec && e&layout.NoExec == 0
			size := uint64(1) << shift
			if shift == 12 || e&layout.Large != 0 {
				return e&frame&^(size-1) | va&(size-1), write, exec, true
			}
			at = e & frame
		}
	}
	for _, c := range []struct {
		name            string
		va, phys        uint64
		write, exec, ok bool
	}{
		{"text", layout.KernelBase + layout.KernelPhys + 5, layout.KernelPhys + 5, false, true, true},
		{"data", layout.KernelBase + layout.KernelPhys + 4*4096, layout.KernelPhys + 4*4096, true, false, true},
		{"guard", layout.KernelBase + guard, 0, false, false, false},
		{"behind it", layout.KernelBase + guard + 4096, guard, true, false, true},
		{"far away", layout.KernelBase + layout.KernelPhys + 40<<20, guard + 4096, true, false, true},
		{"after the kernel", layout.KernelBase + layout.KernelPhys + 7*4096, 0, false, false, false},
		{"direct map", layout.DirectMap + 0x12345678, 0x12345678, true, false, true},
		{"local APIC", layout.DirectMap + 0xfee00390, 0xfee00390, true, false, true},
		{"trampoline", layout.LowPhys, layout.LowPhys, true, true, true}, // until the guest drops it
		{"user", 0x40000000, 0, false, false, false},
		{"heap", layout.HeapBase, 0, false, false, false},
	} {
		phys, write, exec, ok := walk(c.va)
		if phys != c.phys || write != c.write || exec != c.exec || ok != c.ok {
			t.Errorf("%s at %#x: got %#x write %v exec %v mapped %v", c.name, c.va, phys, write, exec, ok)
		}
	}
}

// TestTrampoline has binutils read the hand-encoded instructions back.
func TestTrampoline(t *testing.T) {
	low := lowSegment(0xffffffff80212345, 0, []segment{{Virt: layout.KernelPhys, Phys: layout.KernelPhys, Size: 0x3000}})
	got := disassemble(t, "i386", low[:offLong]) + "\n" + disassemble(t, "i386:x86-64", low[offLong:len(trampoline)]) +
		"\n\n" + disassemble(t, "i386", low[offTooSmall:][:len(tooSmall)])
	want := `cli
cld
rdtsc
mov %eax,%esi
mov %edx,%edi
cmpl $0x336ec578,(%ebx)
jne 0x55
mov 0x28(%ebx),%eax
mov 0x30(%ebx),%ecx
xor %ebp,%ebp
sub $0x1,%ecx
jb 0x200
cmpl $0x1,0x10(%eax)
jne 0x50
cmpl $0x0,0x4(%eax)
jne 0x50
mov (%eax),%edx
cmp $0x200000,%edx
ja 0x50
add 0x8(%eax),%edx
jb 0x55
cmpl $0x0,0xc(%eax)
jne 0x55
cmp $0x203000,%edx
jae 0x55
cmp %ebp,%edx
jb 0x50
mov %edx,%ebp
add $0x18,%eax
jmp 0x18
mov $0x104000,%eax
mov %eax,%cr3
mov $0x6a0,%eax
mov %eax,%cr4
mov $0xc0000080,%ecx
xor %edx,%edx
mov $0x901,%eax
wrmsr
mov $0x80010033,%eax
mov %eax,%cr0
lgdtl 0x100180
ljmp $0x8,$0x100089
mov $0x10,%eax
mov %eax,%ss
xor %eax,%eax
mov %eax,%ds
mov %eax,%es
mov %eax,%fs
mov %eax,%gs
movabs $0xffffffff80212345,%rax
jmp *%rax

mov $0x101000,%esp
mov $0x3ff,%edx
mov $0x5a,%al
out %al,(%dx)
in (%dx),%al
cmp $0x5a,%al
jne 0x53
mov $0x100300,%esi
xor %edx,%edx
lods %ds:(%esi),%al
mov $0x3,%dh
mov %al,%dl
lods %ds:(%esi),%al
out %al,(%dx)
cmp $0xfc,%dl
jne 0x17
call 0x76
shr $0xa,%ebp
mov %ebp,%eax
mov $0xa,%ecx
push $0x0
xor %edx,%edx
div %ecx
add $0x30,%edx
push %edx
test %eax,%eax
jne 0x36
pop %eax
test %eax,%eax
je 0x4e
call 0x82
jmp 0x42
call 0x76
mov $0x3f0,%edx
mov $0x6,%al
out %al,(%dx)
mov $0x4,%al
out %al,(%dx)
mov $0xc,%al
out %al,(%dx)
mov $0x501,%edx
mov $0x7f,%al
out %al,(%dx)
mov $0xfe,%al
out %al,$0x64
push $0x0
push $0x0
lidtl (%esp)
int3
lods %ds:(%esi),%al
test %al,%al
je 0x9b
call 0x82
jmp 0x76
mov %al,%ah
mov $0x3fd,%edx
mov $0x100000,%ecx
in (%dx),%al
test $0x20,%al
loope 0x8e
mov $0x3f8,%edx
mov %ah,%al
out %al,(%dx)
ret`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if len(trampoline) > layout.GdtOff || len(tooSmall) > offSmallText-offTooSmall || len(smallText(maxKernelEnd)) > layout.NotesOff-offSmallText-256 {
		t.Error("the code of the low segment does not fit into its places, or leaves less than 256 bytes for a stack")
	}
}

// disassemble has objdump read code, one instruction a line.
func disassemble(t *testing.T, arch string, code []byte) string {
	t.Helper()
	needs.Tool(t, "objdump", "binutils")
	file := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(file, code, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("objdump", "-D", "-b", "binary", "-m", arch, "--no-show-raw-insn", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for line := range strings.Lines(string(out)) {
		if _, insn, ok := strings.Cut(line, ":\t"); ok {
			text = append(text, strings.Join(strings.Fields(insn), " "))
		}
	}
	return strings.Join(text, "\n")
}

// TestBzImageCode has binutils read the code of the bzImage's two entries back.
func TestBzImageCode(t *testing.T) {
	for _, tt := range []struct {
		arch, want string
		code       []byte
	}{
		{"i8086", `cld
xor %ebx,%ebx
mov $0x2d0,%di
mov $0xe820,%eax
mov $0x534d4150,%edx
mov $0x14,%ecx
int $0x15
jb 0x38
cmp $0x534d4150,%eax
jne 0x38
add $0x14,%di
incb 0x1e8
cmpb $0x80,0x1e8
jae 0x38
test %ebx,%ebx
jne 0x7
cli
xor %esi,%esi
mov %ds,%si
shl $0x4,%esi
lea 0xd50(%esi),%eax
mov %eax,0xd72
lgdtl 0xd70
mov %cr0,%eax
or $0x1,%al
mov %eax,%cr0
ljmpl $0x10,$0x100000`, setup16},
		{"i386", `mov $0x18,%eax
mov %eax,%ds
mov %eax,%es
mov %eax,%ss
cld
mov 0x228(%esi),%ebx
movzbl 0x1e8(%esi),%edx
mov %edx,0x0
mov 0x218(%esi),%eax
mov %eax,0x0
mov 0x21c(%esi),%eax
mov %eax,0x0
lea 0x2d0(%esi),%esi
mov $0x0,%edi
dec %edx
js 0x4d
mov $0x5,%ecx
rep movsl %ds:(%esi),%es:(%edi)
scas %es:(%edi),%eax
jmp 0x40
test %ebx,%ebx
je 0x5f
mov %ebx,%esi
mov $0x0,%edi
mov $0x3ff,%ecx
rep movsl %ds:(%esi),%es:(%edi)
mov $0x0,%edi
mov $0x0,%ecx
xor %eax,%eax
rep stos %eax,%es:(%edi)
movl $0x0,0x100000
movb $0x0,0x100004
mov $0x0,%ebx
mov $0x100000,%eax
jmp *%eax`, bridge32},
	} {
		if got := disassemble(t, tt.arch, tt.code); got != tt.want {
			t.Errorf("got\n%s\nwant\n%s", got, tt.want)
		}
	}
}

func TestLinkRefuses(t *testing.T) {
	if _, err := Link([]byte("not an ELF file at all")); err == nil {
		t.Error("noise was linked")
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	if _, err := Link(self); err == nil {
		t.Error("an ordinary program was linked")
	}
}

// What would need a loader that relocates, or C's start-up code, is refused by name.
func TestLinkRefusesRelocations(t *testing.T) {
	in := goKernel(t)
	f, err := elf.NewFile(bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	const relative = elf.R_X86_64_RELATIVE
	section := func(b []byte, name string, kind elf.SectionType) {
		for i, s := range f.Sections {
			if s.Name == name {
				at := binary.LittleEndian.Uint64(b[40:]) + uint64(i)*64
				binary.LittleEndian.PutUint32(b[at+4:], uint32(kind))
				binary.LittleEndian.PutUint64(b[s.Offset+8:], uint64(relative))
				return
			}
		}
		t.Fatalf("no section %s", name)
	}
	for _, c := range []struct {
		name, want string
		edit       func(b []byte)
	}{
		{"relocations", "section .itablink has relocations, the first of type R_X86_64_RELATIVE", func(b []byte) { section(b, ".itablink", elf.SHT_RELA) }},
		{"dynamic", "dynamically linked", func(b []byte) { section(b, ".itablink", elf.SHT_DYNAMIC) }},
		{"interpreter", "dynamically linked", func(b []byte) { binary.LittleEndian.PutUint32(b[64:], uint32(elf.PT_INTERP)) }},
		{"cgo", "built with cgo", func(b []byte) { copy(b, bytes.ReplaceAll(b, []byte("CGO_ENABLED=0"), []byte("CGO_ENABLED=1"))) }},
	} {
		b := bytes.Clone(in)
		c.edit(b)
		if _, err := Link(b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}
