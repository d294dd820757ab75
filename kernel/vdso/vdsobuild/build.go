// Package vdsobuild makes the image of package vdso: a shared object of one page, as the ELF specification and the vDSO's
// conventions have it (Linux: Documentation/ABI/stable/vdso, vdso(7)).
package vdsobuild

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"

	"github.com/firstlight-boot/firstlight/kernel/vdso"
)

// function is a piece of the code, in bytes from its start.
type function struct {
	name        string
	start, size int
}

const (
	soname  = "linux-vdso.so.1"
	version = "LINUX_2.6"
)

// section is one of the image's sections, which all are in the one segment.
type section struct {
	name       string
	kind       elf.SectionType
	flags      elf.SectionFlag
	link, info uint32
	align      uint64
	entry      uint64
	data       []byte
	at         uint64
}

// hash is the ELF specification's.
func hash(name string) uint32 {
	h := uint32(0)
	for i := range len(name) {
		h = h<<4 + uint32(name[i])
		g := h & 0xf0000000
		h = (h ^ g>>24) &^ g
	}
	return h
}

// Numbers of the sections.
const (
	secHash = 1 + iota
	secSymbols
	secStrings
	secVersions
	secVersionDefs
	secDynamic
	secText
	secNames
	numSections
)

// Build returns the image, without the zeros that fill its page.
func Build() ([]byte, error) {
	le := binary.LittleEndian
	str := []byte{0}
	add := func(s string) uint32 {
		at := len(str)
		str = append(append(str, s...), 0)
		return uint32(at)
	}
	secs := [numSections]section{
		secHash:        {name: ".hash", kind: elf.SHT_HASH, flags: elf.SHF_ALLOC, link: secSymbols, align: 8, entry: 4},
		secSymbols:     {name: ".dynsym", kind: elf.SHT_DYNSYM, flags: elf.SHF_ALLOC, link: secStrings, info: 1, align: 8, entry: elf.Sym64Size},
		secStrings:     {name: ".dynstr", kind: elf.SHT_STRTAB, flags: elf.SHF_ALLOC, align: 1},
		secVersions:    {name: ".gnu.version", kind: elf.SHT_GNU_VERSYM, flags: elf.SHF_ALLOC, link: secSymbols, align: 2, entry: 2},
		secVersionDefs: {name: ".gnu.version_d", kind: elf.SHT_GNU_VERDEF, flags: elf.SHF_ALLOC, link: secStrings, info: 2, align: 8},
		secDynamic:     {name: ".dynamic", kind: elf.SHT_DYNAMIC, flags: elf.SHF_ALLOC, link: secStrings, align: 8, entry: 16},
		secText:        {name: ".text", kind: elf.SHT_PROGBITS, flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, align: 16},
		secNames:       {name: ".shstrtab", kind: elf.SHT_STRTAB, align: 1},
	}

	// What has a size that does not depend on a place, with zeros where places go.
	probe := &assembler{labels: map[string]int{}, jumps: map[int]string{}}
	funcs := probe.functions()
	symbols := make([]elf.Sym64, 1, 1+len(funcs))
	versions := []uint16{0}
	for _, f := range funcs {
		symbols = append(symbols, elf.Sym64{Name: add(f.name), Info: byte(elf.STB_GLOBAL)<<4 | byte(elf.STT_FUNC), Shndx: secText, Size: uint64(f.size)})
		versions = append(versions, 2)
	}
	so, ver := add(soname), add(version)
	n := uint32(len(symbols))
	table := make([]uint32, 2+2*n) // buckets, chains, heads, links
	table[0], table[1] = n, n
	for i := uint32(1); i < n; i++ {
		b := 2 + hash(funcs[i-1].name)%n
		table[2+n+i], table[b] = table[b], i
	}
	var defs []byte
	for i, d := range []struct {
		name  string
		at    uint32
		flags uint16
		next  uint32
	}{{soname, so, 1, 28}, {version, ver, 0, 0}} {
		defs = le.AppendUint16(defs, 1)
		defs = le.AppendUint16(defs, d.flags)
		defs = le.AppendUint16(defs, uint16(i+1))
		defs = le.AppendUint16(defs, 1) // names
		defs = le.AppendUint32(defs, hash(d.name))
		defs = le.AppendUint32(defs, 20)
		defs = le.AppendUint32(defs, d.next)
		defs = le.AppendUint32(defs, d.at)
		defs = le.AppendUint32(defs, 0)
	}
	dynamic := func() []elf.Dyn64 {
		return []elf.Dyn64{
			{Tag: int64(elf.DT_SONAME), Val: uint64(so)},
			{Tag: int64(elf.DT_HASH), Val: secs[secHash].at},
			{Tag: int64(elf.DT_STRTAB), Val: secs[secStrings].at},
			{Tag: int64(elf.DT_SYMTAB), Val: secs[secSymbols].at},
			{Tag: int64(elf.DT_STRSZ), Val: uint64(len(str))},
			{Tag: int64(elf.DT_SYMENT), Val: elf.Sym64Size},
			{Tag: int64(elf.DT_VERSYM), Val: secs[secVersions].at},
			{Tag: int64(elf.DT_VERDEF), Val: secs[secVersionDefs].at},
			{Tag: int64(elf.DT_VERDEFNUM), Val: 2},
			{},
		}
	}
	bytesOf := func(v any) []byte {
		var b bytes.Buffer
		_ = binary.Write(&b, le, v) // to memory, of fixed-size types
		return b.Bytes()
	}
	names := []byte{0}
	nameAt := [numSections]uint32{}
	for i := 1; i < numSections; i++ {
		nameAt[i] = uint32(len(names))
		names = append(append(names, secs[i].name...), 0)
	}
	secs[secHash].data = bytesOf(table)
	secs[secSymbols].data = bytesOf(symbols)
	secs[secStrings].data = str
	secs[secVersions].data = bytesOf(versions)
	secs[secVersionDefs].data = defs
	secs[secDynamic].data = bytesOf(dynamic())
	secs[secText].data = probe.code
	secs[secNames].data = names

	// Places.
	const headers = 64 + 2*56
	at := uint64(headers)
	for i := 1; i < numSections; i++ {
		s := &secs[i]
		at = (at + s.align - 1) &^ (s.align - 1)
		s.at = at
		at += uint64(len(s.data))
	}
	sectionsAt := (at + 7) &^ 7
	size := sectionsAt + numSections*64
	if size > vdso.PageSize {
		return nil, fmt.Errorf("vdso: %d bytes do not fit a page", size)
	}

	// What depends on them.
	a := &assembler{base: int(secs[secText].at), labels: map[string]int{}, jumps: map[int]string{}}
	funcs = a.functions()
	if err := a.link(); err != nil {
		return nil, err
	}
	for i, f := range funcs {
		symbols[1+i].Value = secs[secText].at + uint64(f.start)
	}
	secs[secText].data, secs[secSymbols].data, secs[secDynamic].data = a.code, bytesOf(symbols), bytesOf(dynamic())

	image := make([]byte, size)
	head := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: 64, Shoff: sectionsAt, Ehsize: 64, Phentsize: 56, Phnum: 2, Shentsize: 64, Shnum: numSections, Shstrndx: secNames,
	}
	dyn := &secs[secDynamic]
	progs := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Filesz: size, Memsz: size, Align: vdso.PageSize},
		{Type: uint32(elf.PT_DYNAMIC), Flags: uint32(elf.PF_R), Off: dyn.at, Vaddr: dyn.at, Paddr: dyn.at,
			Filesz: uint64(len(dyn.data)), Memsz: uint64(len(dyn.data)), Align: 8},
	}
	copy(image, bytesOf(head))
	copy(image[64:], bytesOf(progs))
	for i := 1; i < numSections; i++ {
		s := &secs[i]
		copy(image[s.at:], s.data)
		h := elf.Section64{Name: nameAt[i], Type: uint32(s.kind), Flags: uint64(s.flags), Off: s.at, Size: uint64(len(s.data)),
			Link: s.link, Info: s.info, Addralign: s.align, Entsize: s.entry}
		if s.flags&elf.SHF_ALLOC != 0 {
			h.Addr = s.at
		}
		copy(image[sectionsAt+uint64(i)*64:], bytesOf(h))
	}
	return image, nil
}

// Source returns the Go file that holds the image.
func Source(image []byte) []byte {
	var b bytes.Buffer
	b.WriteString("// Code generated by vdsobuild; DO NOT EDIT.\n\npackage vdso\n\n// Image is the shared object, without the zeros that fill its page.\nconst Image = \"\" +\n")
	const width = 32
	for i := 0; i < len(image); i += width {
		b.WriteString("\t\"")
		for _, c := range image[i:min(i+width, len(image))] {
			fmt.Fprintf(&b, "\\x%02x", c)
		}
		b.WriteByte('"')
		if i+width < len(image) {
			b.WriteString(" +")
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}
