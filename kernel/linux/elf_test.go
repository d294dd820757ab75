package linux

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"strings"
	"testing"
)

// program makes an ELF file of these program headers; its size is size.
func program(typ elf.Type, entry uint64, progs ...elf.Prog64) []byte {
	h := elf.Header64{Type: uint16(typ), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: entry, Phoff: 64, Ehsize: 64,
		Phentsize: 56, Phnum: uint16(len(progs))}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, &h)
	for i := range progs {
		binary.Write(&b, binary.LittleEndian, &progs[i])
	}
	return b.Bytes()
}

func load(flags elf.ProgFlag, off, va, fileSize, memSize uint64) elf.Prog64 {
	return elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(flags), Off: off, Vaddr: va, Filesz: fileSize, Memsz: memSize, Align: 4096}
}

func interp(off, size uint64) elf.Prog64 {
	return elf.Prog64{Type: uint32(elf.PT_INTERP), Off: off, Filesz: size}
}

// parse does what load does with a file, as far as that needs no memory.
func parse(b []byte, size uint64) (elfHeader, *elfLayout, badELF) {
	lay := new(elfLayout)
	h, bad := parseHeader(b[:min(len(b), elfHeaderSize)])
	if bad.failed() {
		return h, lay, bad
	}
	end := h.progAt + uint64(h.progs)*progSize
	if end > uint64(len(b)) {
		return h, lay, notExec("has its program headers behind the end")
	}
	return h, lay, lay.parseSegments(&h, b[h.progAt:end], size)
}

const (
	r, w, x = elf.PF_R, elf.PF_W, elf.PF_X
	big     = 1 << 20
)

func TestSegments(t *testing.T) {
	text := load(r|x, 0, 0x400000, 0x1000, 0x1000)
	for _, c := range []struct {
		name, bad string
		file      []byte
	}{
		{"fine", "", program(elf.ET_EXEC, 0x400500, text, load(r|w, 0x1800, 0x402800, 0x100, 0x10000))},
		{"pie", "", program(elf.ET_DYN, 0x500, load(r|x, 0, 0, 0x1000, 0x1000))},
		{"empty segment", "", program(elf.ET_EXEC, 0x400500, text, load(r, 0, 0, 0, 0))},
		{"stack is executable", "", program(elf.ET_EXEC, 0x400500, text, elf.Prog64{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(r | w | x)})},
		{"none", "nothing to load", program(elf.ET_EXEC, 0x400500, elf.Prog64{Type: uint32(elf.PT_NOTE)})},
		{"no headers", "malformed program headers", program(elf.ET_EXEC, 0x400500)},
		{"interpreter", "", program(elf.ET_DYN, 0x500, load(r|x, 0, 0, 0x1000, 0x1000), interp(0x100, 28))},
		{"two interpreters", "", program(elf.ET_DYN, 0x500, load(r|x, 0, 0, 0x1000, 0x1000), interp(0x100, 28), interp(0, 0))},
		{"interpreter without a name", "path of its dynamic linker", program(elf.ET_DYN, 0x500, load(r|x, 0, 0, 0x1000, 0x1000), interp(0x100, 1))},
		{"long interpreter", "path of its dynamic linker", program(elf.ET_DYN, 0x500, load(r|x, 0, 0, 0x1000, 0x1000), interp(0x100, 4097))},
		{"interpreter over the end", "path of its dynamic linker", program(elf.ET_DYN, 0x500, load(r|x, 0, 0, 0x1000, 0x1000), interp(big-8, 9))},
		{"interpreter overflows", "path of its dynamic linker", program(elf.ET_DYN, 0x500, load(r|x, 0, 0, 0x1000, 0x1000), interp(1<<64-8, 28))},
		{"object", "not a program", program(elf.ET_REL, 0x400500, text)},
		{"core", "not a program", program(elf.ET_CORE, 0x400500, text)},
		{"file larger than memory", "malformed segment", program(elf.ET_EXEC, 0x400500, load(r|x, 0, 0x400000, 0x1001, 0x1000))},
		{"offset does not fit address", "malformed segment", program(elf.ET_EXEC, 0x400500, load(r|x, 0x10, 0x400000, 0x1000, 0x1000))},
		{"behind the end", "cut short", program(elf.ET_EXEC, 0x400500, load(r|x, big, 0x400000, 0x1000, 0x1000))},
		{"over the end", "cut short", program(elf.ET_EXEC, 0x400500, load(r|x, 0, 0x400000, big+1, big+1))},
		{"offset overflows", "cut short", program(elf.ET_EXEC, 0x400500, load(r|x, 1<<64-0x1000, 0x400000, 0x2000, 0x2000))},
		{"at zero", "outside the address space", program(elf.ET_EXEC, 0x500, load(r|x, 0, 0, 0x1000, 0x1000))},
		{"in the kernel", "outside the address space", program(elf.ET_EXEC, 0xffffffff80200000, load(r|x, 0, 0xffffffff80200000, 0x1000, 0x1000))},
		{"over the end of the program's half", "outside the address space", program(elf.ET_EXEC, 0x400500, load(r|x, 0, userEnd-0x1000, 0x1000, 0x1001))},
		{"over the stack", "outside the address space", program(elf.ET_EXEC, userEnd-0x1000, load(r|x, 0, userEnd-0x1000, 0x1000, 0x1000))},
		{"over the clock", "outside the address space", program(elf.ET_EXEC, 0x400500, text, load(r, 0, clockBase-0x1000, 0x1000, 0x1001))},
		{"up to the clock", "", program(elf.ET_EXEC, 0x400500, text, load(r, 0, clockBase-0x1000, 0x1000, 0x1000))},
		{"pie over the clock", "outside the address space", program(elf.ET_DYN, 0x500, load(r|x, 0, 0, 0x1000, clockBase-pieBase+1))},
		{"memory size overflows", "outside the address space", program(elf.ET_EXEC, 0x400500, load(r|x, 0, 0x400000, 0x1000, 1<<64-0x1000))},
		{"pie too far", "outside the address space", program(elf.ET_DYN, 0x500, load(r|x, 0, mapTop-pieBase, 0x1000, 0x1000))},
		{"overlap", "overlapping", program(elf.ET_EXEC, 0x400500, text, load(r|w, 0, 0x400000, 0x10, 0x10))},
		{"descending", "overlapping", program(elf.ET_EXEC, 0x400500, text, load(r|w, 0, 0x300000, 0x10, 0x10))},
		{"writable and executable", "writable and executable", program(elf.ET_EXEC, 0x400500, load(r|w|x, 0, 0x400000, 0x1000, 0x1000))},
		{"entry outside", "starts at an address", program(elf.ET_EXEC, 0x800000, text)},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, bad := parse(c.file, big)
			if c.bad == "" && bad.failed() || c.bad != "" && (!bad.failed() || !strings.Contains(bad.text, c.bad)) {
				t.Errorf("got %q (%v), want %q", bad.text, bad.err, c.bad)
			}
		})
	}
}

// The test's own program is a real ELF file.
func TestOwnProgram(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	h, lay, bad := parse(b, uint64(len(b)))
	if bad.failed() {
		t.Fatal(bad.text)
	}
	loads := 0
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		s := lay.segs[loads]
		if s.va != p.Vaddr || s.memSize != p.Memsz || s.off != p.Off || s.fileSize != p.Filesz {
			t.Errorf("segment %d is %+v, want %+v", loads, s, p.ProgHeader)
		}
		loads++
	}
	if loads != lay.n || h.entry != f.Entry || lay.phdrs == 0 {
		t.Errorf("%d segments, entry %#x, headers at %#x; want %d, %#x", lay.n, h.entry, lay.phdrs, loads, f.Entry)
	}
}

// checkLayout holds of whatever parseSegments lets through.
func checkLayout(t *testing.T, h elfHeader, l *elfLayout, size uint64) {
	base := uint64(0)
	if h.pie {
		base = pieBase - l.low
	}
	end := uint64(0)
	for _, s := range l.segs[:l.n] {
		va := base + s.va
		switch {
		case va < userMin, va+s.memSize < va, va+s.memSize > userEnd, pageUp(va+s.memSize) > userEnd:
			t.Fatalf("segment %+v leaves the program's addresses", s)
		case va < end:
			t.Fatalf("segment %+v overlaps the one before", s)
		case s.fileSize > s.memSize, s.off+s.fileSize < s.off, s.off+s.fileSize > size:
			t.Fatalf("segment %+v leaves the file of %d bytes", s, size)
		case s.kind&(protWrite|protExec) == protWrite|protExec:
			t.Fatalf("segment %+v is writable and executable", s)
		}
		end = va + s.memSize
	}
	if l.interpSize > maxInterp || l.interpSize != 0 && (l.interpOff > size || l.interpOff+l.interpSize > size) {
		t.Fatalf("interpreter at %#x, %d bytes, in a file of %d", l.interpOff, l.interpSize, size)
	}
}

func FuzzELF(f *testing.F) {
	text := load(r|x, 0, 0x400000, 0x1000, 0x1000)
	f.Add(program(elf.ET_EXEC, 0x400500, text, load(r|w, 0x1800, 0x402800, 0x100, 0x10000)), uint64(big))
	f.Add(program(elf.ET_DYN, 0x500, load(r|x, 0, 0, 0x1000, 0x1000)), uint64(0x1000))
	f.Add(program(elf.ET_DYN, 0x500, load(r|x, 0, 0, 0x1000, 0x1000), interp(0x100, 28)), uint64(0x1000))
	f.Add([]byte("#!/bin/sh"), uint64(9))
	f.Fuzz(func(t *testing.T, b []byte, size uint64) {
		h, lay, bad := parse(b, size%(1<<62))
		if !bad.failed() {
			checkLayout(t, h, lay, size%(1<<62))
		}
	})
}

// The fuzz target's seeds reach the end of the decoder.
func TestFuzzSeed(t *testing.T) {
	h, lay, bad := parse(program(elf.ET_EXEC, 0x400500, load(r|x, 0, 0x400000, 0x1000, 0x1000)), big)
	if bad.failed() || lay.n != 1 || lay.phdrs != 0x400040 {
		t.Fatalf("%+v, %q", lay.segs[0], bad.text)
	}
	checkLayout(t, h, lay, big)
}
