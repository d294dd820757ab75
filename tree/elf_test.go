//go:build unix

package tree

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/internal/needs"
)

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// TestReadELFOfRealLinkers classifies what the system's own toolchains make of one program.
func TestReadELFOfRealLinkers(t *testing.T) {
	needs.Tool(t, "gcc", "gcc libc6-dev")
	needs.Tool(t, "musl-gcc", "musl-tools")
	d := t.TempDir()
	write(t, d+"/main.c", "int main(void) { return 0; }\nint f(void) { return 1; }\n", 0o644)
	const glibc, musl = "/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"
	for _, c := range []struct {
		name   string
		cc     string
		kind   ELFKind
		interp string
	}{
		{"static", "gcc -static", ELFStatic, ""},
		{"static-pie", "gcc -static-pie", ELFStaticPIE, ""},
		{"pie", "gcc -pie -fPIE", ELFDynamic, glibc},
		{"no-pie", "gcc -no-pie", ELFDynamic, glibc},
		{"musl-static", "musl-gcc -static", ELFStatic, ""},
		{"musl-dynamic", "musl-gcc", ELFDynamic, musl},
		{"shared", "gcc -shared -fPIC", ELFShared, ""},
		{"shared-soname", "gcc -shared -fPIC -Wl,-soname,libx.so", ELFShared, ""},
		{"runnable-shared", "gcc -shared -fPIC -Wl,-soname,libx.so -Wl,--dynamic-linker=" + glibc, ELFShared, ""},
		{"object", "gcc -c", ELFRelocatable, ""},
	} {
		path := filepath.Join(d, c.name)
		cc := strings.Fields(c.cc)
		run(t, d, cc[0], append(cc[1:], "-o", path, "main.c")...)
		b, err := os.ReadFile(path)
		must(t, err)
		want := ELF{Machine: elf.EM_X86_64, Class: elf.ELFCLASS64, Data: elf.ELFDATA2LSB, Kind: c.kind, Interp: c.interp}
		if got, err := ReadELF(bytes.NewReader(b), int64(len(b))); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, want)
		}
		// Stripped of its section headers, a linked file is still what it was.
		if c.kind != ELFRelocatable {
			copy(b[0x28:0x30], make([]byte, 8))
			copy(b[0x3a:0x40], make([]byte, 6))
			if got, err := ReadELF(bytes.NewReader(b), int64(len(b))); err != nil || got != want {
				t.Errorf("%s without sections: %+v, %v, want %+v", c.name, got, err, want)
			}
		}
	}
	libc, err := exec.Command("gcc", "-print-file-name=libc.so.6").Output()
	must(t, err)
	for _, path := range []string{strings.TrimSpace(string(libc)), glibc} {
		b, err := os.ReadFile(path)
		must(t, err)
		if got, err := ReadELF(bytes.NewReader(b), int64(len(b))); err != nil || got.Kind != ELFShared {
			t.Errorf("%s: %+v, %v, want a shared object", path, got, err)
		}
	}
}

// tinyELF makes a program of headers alone: one segment to load, and an interpreter and a dynamic section if they are given.
func tinyELF(class elf.Class, order binary.ByteOrder, typ elf.Type, machine elf.Machine, interp string, dyn []uint64) []byte {
	type segment struct {
		typ  elf.ProgType
		data []byte
	}
	segments := []segment{{elf.PT_LOAD, []byte("code")}}
	if interp != "" {
		segments = append(segments, segment{elf.PT_INTERP, append([]byte(interp), 0)})
	}
	if dyn != nil {
		var b bytes.Buffer
		for _, v := range dyn {
			if class == elf.ELFCLASS64 {
				binary.Write(&b, order, v)
			} else {
				binary.Write(&b, order, uint32(v))
			}
		}
		segments = append(segments, segment{elf.PT_DYNAMIC, b.Bytes()})
	}
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(class), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}
	if order == binary.ByteOrder(binary.BigEndian) {
		ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}
	var head, data bytes.Buffer
	ehsize, phsize := 64, 56
	if class == elf.ELFCLASS32 {
		ehsize, phsize = 52, 32
		binary.Write(&head, order, elf.Header32{Ident: ident, Type: uint16(typ), Machine: uint16(machine), Version: 1,
			Phoff: uint32(ehsize), Ehsize: uint16(ehsize), Phentsize: uint16(phsize), Phnum: uint16(len(segments))})
	} else {
		binary.Write(&head, order, elf.Header64{Ident: ident, Type: uint16(typ), Machine: uint16(machine), Version: 1,
			Phoff: uint64(ehsize), Ehsize: uint16(ehsize), Phentsize: uint16(phsize), Phnum: uint16(len(segments))})
	}
	for _, s := range segments {
		off, n := ehsize+phsize*len(segments)+data.Len(), len(s.data)
		if class == elf.ELFCLASS32 {
			binary.Write(&head, order, elf.Prog32{Type: uint32(s.typ), Off: uint32(off), Filesz: uint32(n), Memsz: uint32(n)})
		} else {
			binary.Write(&head, order, elf.Prog64{Type: uint32(s.typ), Off: uint64(off), Filesz: uint64(n), Memsz: uint64(n)})
		}
		data.Write(s.data)
	}
	return append(head.Bytes(), data.Bytes()...)
}

var (
	pieFlags = []uint64{uint64(elf.DT_FLAGS_1), uint64(elf.DF_1_PIE), 0, 0}
	tinies   = []struct {
		name string
		file []byte
		kind ELFKind
		why  string // part of Runnable's error; none if it is empty
	}{
		{"static", tinyELF(elf.ELFCLASS64, binary.LittleEndian, elf.ET_EXEC, elf.EM_X86_64, "", nil), ELFStatic, ""},
		{"static-PIE", tinyELF(elf.ELFCLASS64, binary.LittleEndian, elf.ET_DYN, elf.EM_X86_64, "", pieFlags), ELFStaticPIE, ""},
		{"dynamic", tinyELF(elf.ELFCLASS64, binary.LittleEndian, elf.ET_DYN, elf.EM_X86_64, "/lib/ld.so", pieFlags), ELFDynamic,
			"is dynamically linked (needs /lib/ld.so); link it with -static, or CGO_ENABLED=0 for Go, or pack a folder that has that file and the libraries too"},
		{"dynamic of old", tinyELF(elf.ELFCLASS64, binary.LittleEndian, elf.ET_DYN, elf.EM_X86_64, "/lib/ld.so", []uint64{}), ELFDynamic, "dynamically linked"},
		{"shared", tinyELF(elf.ELFCLASS64, binary.LittleEndian, elf.ET_DYN, elf.EM_X86_64, "", nil), ELFShared, "shared object"},
		{"core", tinyELF(elf.ELFCLASS64, binary.LittleEndian, elf.ET_CORE, elf.EM_X86_64, "", nil), ELFOther, "not a program"},
		{"object", tinyELF(elf.ELFCLASS64, binary.LittleEndian, elf.ET_REL, elf.EM_X86_64, "", nil), ELFRelocatable, "object file"},
		{"arm64", tinyELF(elf.ELFCLASS64, binary.LittleEndian, elf.ET_DYN, elf.EM_AARCH64, "", pieFlags), ELFStaticPIE, "another machine, AARCH64 (183)"},
		{"i386", tinyELF(elf.ELFCLASS32, binary.LittleEndian, elf.ET_EXEC, elf.EM_386, "", nil), ELFStatic, "another machine, 386 (3)"},
		{"x32", tinyELF(elf.ELFCLASS32, binary.LittleEndian, elf.ET_DYN, elf.EM_X86_64, "", pieFlags), ELFStaticPIE, "x32"},
		{"s390x", tinyELF(elf.ELFCLASS64, binary.BigEndian, elf.ET_DYN, elf.EM_S390, "/lib/ld64.so.1", pieFlags), ELFDynamic, "another machine, S390 (22)"},
		{"mips", tinyELF(elf.ELFCLASS32, binary.BigEndian, elf.ET_DYN, elf.EM_MIPS, "/lib/ld.so.1", pieFlags), ELFDynamic, "another machine, MIPS (8)"},
		{"unheard of", tinyELF(elf.ELFCLASS64, binary.LittleEndian, elf.ET_EXEC, 0xfedc, "", nil), ELFStatic, "another machine, number 65244"},
	}
)

func TestReadELF(t *testing.T) {
	for _, c := range tinies {
		e, err := ReadELF(bytes.NewReader(c.file), int64(len(c.file)))
		if err != nil || e.Kind != c.kind {
			t.Errorf("%s: %+v, %v, want a %v", c.name, e, err, c.kind)
			continue
		}
		if err := e.Runnable(); c.why == "" && err != nil || c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
			t.Errorf("%s: Runnable: %v, want one of %q", c.name, err, c.why)
		}
	}
}

func TestReadELFDamaged(t *testing.T) {
	whole := tinies[2].file
	for n := range whole {
		_, err := ReadELF(bytes.NewReader(whole[:n]), int64(n))
		var format *FormatError
		switch {
		case n < elf.EI_NIDENT:
			if !errors.Is(err, ErrNotELF) {
				t.Errorf("first %d bytes: %v, want ErrNotELF", n, err)
			}
		case !errors.As(err, &format) || format.Offset > int64(len(whole)):
			t.Errorf("first %d bytes: %v, want a FormatError", n, err)
		}
		// A size that promises more than there is.
		if _, err := ReadELF(bytes.NewReader(whole[:n]), 1<<40); err == nil {
			t.Errorf("first %d bytes of 1 TiB: no error", n)
		}
	}
	for name, c := range map[string]struct {
		off  int
		put  []byte
		want string
	}{
		"class":           {4, []byte{3}, "class at offset 0x4"},
		"byte order":      {5, []byte{3}, "byte order at offset 0x5"},
		"header size":     {54, []byte{57, 0}, "57 bytes each instead of 56"},
		"many headers":    {56, []byte{0xff, 0xff}, "program headers at offset 0x40"},
		"headers far":     {32, bytes.Repeat([]byte{0xff}, 8), "beyond the end"},
		"segment far":     {64 + 8, bytes.Repeat([]byte{0xff}, 8), "segment to load at offset 0x7fffffffffffffff"},
		"segment long":    {64 + 32, bytes.Repeat([]byte{0xff}, 8), "segment to load at offset"},
		"interp long":     {64 + 56 + 32, bytes.Repeat([]byte{0xff}, 8), "interpreter at offset"},
		"interp empty":    {64 + 56 + 32, make([]byte, 8), "it is empty"},
		"dynamic section": {64 + 2*56 + 32, bytes.Repeat([]byte{0xff}, 8), "dynamic section at offset"},
	} {
		b := bytes.Clone(whole)
		copy(b[c.off:], c.put)
		_, err := ReadELF(bytes.NewReader(b), int64(len(b)))
		var format *FormatError
		if !errors.As(err, &format) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want a FormatError with %q", name, err, c.want)
		}
	}
	b := bytes.Clone(tinies[0].file)
	copy(b[56:], []byte{0, 0})
	if _, err := ReadELF(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), "no segment to load") {
		t.Errorf("no program headers: %v", err)
	}
	for _, text := range []string{"", "#!", "#!/bin/sh\necho this is a script\n", "MZ and what follows it in a PE file"} {
		if _, err := ReadELF(strings.NewReader(text), int64(len(text))); !errors.Is(err, ErrNotELF) {
			t.Errorf("%q: %v, want ErrNotELF", text, err)
		}
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestReadELFFailure(t *testing.T) {
	broken := errors.New("disk on fire")
	if _, err := ReadELF(failing{broken}, 100); !errors.Is(err, broken) || errors.Is(err, ErrNotELF) {
		t.Errorf("a failing disk: %v", err)
	}
}

// FuzzReadELF looks for panics, and for files that debug/elf, which reads the same headers, sees differently.
func FuzzReadELF(f *testing.F) {
	for _, c := range tinies {
		f.Add(c.file)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ReadELF(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			var format *FormatError
			if !errors.Is(err, ErrNotELF) && !errors.As(err, &format) {
				t.Fatalf("error of an unknown kind: %v", err)
			}
			return
		}
		_ = e.Runnable()
		judge, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			return // it reads section headers too
		}
		if e.Machine != judge.Machine || e.Class != judge.Class || e.Data != judge.Data {
			t.Errorf("%+v, but debug/elf says %+v", e, judge.FileHeader)
		}
		hasInterp := false
		for _, p := range judge.Progs {
			hasInterp = hasInterp || p.Type == elf.PT_INTERP
		}
		if e.Kind == ELFDynamic && !hasInterp || hasInterp && (e.Kind == ELFStatic || e.Kind == ELFStaticPIE) {
			t.Errorf("a %v, but an interpreter is %v", e.Kind, hasInterp)
		}
	})
}

func TestExecutables(t *testing.T) {
	program := func(path string, mode fs.FileMode, b []byte) Entry {
		return Entry{Path: path, Mode: mode, Size: int64(len(b)), Source: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(b)), nil
		}}
	}
	app := program("bin/app", 0o755, tinies[0].file)
	hard := app
	hard.Path, hard.HardLink, hard.Source = "bin/hard", "bin/app", nil
	tr, err := New(dir("."), dir("bin"), app, hard, link("bin/link", "app"),
		program("bin/arm", 0o500, tinies[7].file), program("bin/dyn", 0o1, tinies[2].file), program("bin/data", 0o644, tinies[0].file),
		program("lib.so", 0o755, tinies[4].file), program("run.sh", 0o755, []byte("#!/bin/sh\n")), program("empty", 0o755, nil),
		program("cut", 0o755, tinies[0].file[:100]))
	must(t, err)
	list, err := Executables(tr)
	must(t, err)
	want := []struct{ path, why string }{
		{"bin/app", ""}, {"bin/arm", "is for another machine"}, {"bin/dyn", "is dynamically linked"}, {"cut", "cannot be run: damaged ELF file"},
	}
	if len(list) != len(want) {
		t.Fatalf("found %+v, want %+v", list, want)
	}
	for i, x := range list {
		if x.Path != want[i].path || (x.Err == nil) != (want[i].why == "") || x.Err != nil && !strings.HasPrefix(x.Err.Error(), want[i].why) {
			t.Errorf("found %s: %v, want %+v", x.Path, x.Err, want[i])
		}
	}
	// One with its dynamic linker, which may be behind a link, is as good as a static one.
	tr, err = New(dir("."), program("dyn", 0o755, tinies[2].file), link("lib", "usr/lib"), dir("usr"), dir("usr/lib"), program("usr/lib/ld.so", 0o755, tinies[4].file))
	must(t, err)
	if list, err := Executables(tr); err != nil || len(list) != 1 || list[0].Path != "dyn" || list[0].Err != nil {
		t.Errorf("a dynamic program with its linker: %+v, %v", list, err)
	}
	broken := errors.New("disk on fire")
	tr, err = New(dir("."), Entry{Path: "a", Mode: 0o755, Size: 1, Source: func() (io.ReadCloser, error) { return nil, broken }})
	must(t, err)
	if _, err := Executables(tr); !errors.Is(err, broken) {
		t.Errorf("a failing disk: %v", err)
	}
}

func TestFromELF(t *testing.T) {
	d := t.TempDir()
	write(t, d+"/hello", string(tinies[0].file), 0o600)
	must(t, os.Symlink("hello", d+"/alias"))
	for _, name := range []string{"hello", "alias"} {
		tr, err := FromELF(d+"/"+name, Options{})
		must(t, err)
		if len(tr.Entries) != 2 || tr.Entries[1].Path != name || tr.Entries[1].Mode != 0o755 || !tr.Entries[1].ModTime.Equal(stamp) {
			t.Errorf("%s: entries = %+v", name, tr.Entries)
		}
		if got, err := fs.ReadFile(tr, name); err != nil || !bytes.Equal(got, tinies[0].file) {
			t.Errorf("%s: content of %d bytes, %v", name, len(got), err)
		}
		if list, err := Executables(tr); err != nil || len(list) != 1 || list[0].Err != nil {
			t.Errorf("%s: Executables = %+v, %v", name, list, err)
		}
	}
	tr, err := FromELF(d+"/hello", Options{ClampTime: time.Unix(1, 0), UID: 5})
	must(t, err)
	for _, e := range tr.Entries {
		if !e.ModTime.Equal(time.Unix(1, 0)) || e.UID != 5 {
			t.Errorf("%s: time %v, owner %d", e.Path, e.ModTime, e.UID)
		}
	}
	must(t, os.Remove(d+"/hello"))
	if _, err := tr.Open("hello"); !errors.Is(err, ErrChanged) {
		t.Errorf("vanished: %v", err)
	}

	write(t, d+"/script", "#!/bin/sh\n", 0o755)
	for name, want := range map[string]error{"script": ErrNotELF, "nothing": fs.ErrNotExist, ".": ErrUnsupported} {
		if _, err := FromELF(d+"/"+name, Options{}); !errors.Is(err, want) || !strings.Contains(err.Error(), d) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// goModule writes a module with these files and returns its folder.
func goModule(t *testing.T, files map[string]string) string {
	t.Helper()
	d := t.TempDir()
	write(t, d+"/go.mod", "module example.org/m\n\ngo 1.26\n", 0o644)
	for name, content := range files {
		write(t, d+"/"+name, content, 0o644)
	}
	return d
}

func TestFromGoPackage(t *testing.T) {
	files := map[string]string{
		"cmd/foo/main.go": "package main\n\nfunc main() { println(\"hello\") }\n",
		"v2/main.go":      "package main\n\nfunc main() {}\n",
		"lib/lib.go":      "package lib\n",
		"broken/main.go":  "package main\n\nfunc main() { undefinedName() }\n",
	}
	// The program must not depend on where it was built, and nothing may stay behind.
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	var programs [][]byte
	for range 2 {
		d := goModule(t, files)
		tr, err := FromGoPackage(context.Background(), "./cmd/foo", d, Options{})
		must(t, err)
		if len(tr.Entries) != 2 || tr.Entries[1].Path != "foo" || tr.Entries[1].Mode != 0o755 || !tr.Entries[1].ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("entries = %+v", tr.Entries)
		}
		list, err := Executables(tr)
		if err != nil || len(list) != 1 || list[0].Err != nil || list[0].ELF.Kind != ELFStatic {
			t.Errorf("Executables = %+v, %v", list, err)
		}
		b, err := fs.ReadFile(tr, "foo")
		must(t, err)
		programs = append(programs, b)
	}
	if !bytes.Equal(programs[0], programs[1]) {
		t.Error("the same source in two folders gave two programs")
	}

	d := goModule(t, files)
	for pkg, want := range map[string]string{
		"./lib": "no main packages", "./broken": "undefinedName", "./nothing": "directory not found", "./...": "undefinedName",
		"-x": "malformed import path",
	} {
		_, err := FromGoPackage(context.Background(), pkg, d, Options{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "go build "+pkg) {
			t.Errorf("%s: %v, want one with %q", pkg, err, want)
		}
	}
	must(t, os.RemoveAll(d+"/broken"))
	if _, err := FromGoPackage(context.Background(), "./...", d, Options{}); err == nil || !strings.Contains(err.Error(), "it names 2: foo m") {
		t.Errorf("two programs: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := FromGoPackage(ctx, "./cmd/foo", d, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// Our own folders; what belongs to the test's stays.
	left, err := filepath.Glob(tmp + "/firstlight-*")
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	t.Setenv("PATH", "/nonexistent")
	if _, err := FromGoPackage(context.Background(), "./cmd/foo", d, Options{}); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("without the go command: %v", err)
	}
}
