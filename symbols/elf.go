package symbols

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxTable bounds a symbol table, string table, pclntab or note in a file, in bytes.
const maxTable = 1 << 30

// elfFile is an ELF file for a 64-bit little-endian machine. The layout is that of the System V gABI.
type elfFile struct {
	*elf.File
	r        io.ReaderAt
	size     int64
	segments []segment // PT_LOAD, by address
}

// segment is a PT_LOAD, as far as the file holds its bytes.
type segment struct {
	Range
	exec  bool
	end   uint64 // of its memory, which may go on beyond Limit with zeros
	write bool
}

// openELF reads the headers of an ELF file.
func openELF(r io.ReaderAt, size int64) (e *elfFile, err error) {
	// debug/elf is "not designed to be hardened against adversarial inputs", as its documentation says; neither is debug/dwarf.
	defer recovered("ELF", &err)
	var ident [20]byte
	if _, err := r.ReadAt(ident[:], 0); err != nil {
		return nil, fromRead("ELF", 0, "header", err)
	}
	if ident[elf.EI_CLASS] != byte(elf.ELFCLASS64) || ident[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
		return nil, &FormatError{"ELF", elf.EI_CLASS, "header", fmt.Errorf("%w: not a 64-bit little-endian file", ErrUnsupported)}
	}
	f, err := elf.NewFile(io.NewSectionReader(r, 0, size))
	if err != nil {
		var bad *elf.FormatError
		if errors.As(err, &bad) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: %w", ErrFormat, err)
		}
		return nil, &FormatError{"ELF", 0, "headers", err}
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, &FormatError{"ELF", 16, "type", fmt.Errorf("%w: %v, want an executable or a shared library", ErrUnsupported, f.Type)}
	}
	e = &elfFile{File: f, r: r, size: size}
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Memsz == 0 {
			continue
		}
		if p.Vaddr+p.Memsz-1 < p.Vaddr || p.Filesz > p.Memsz {
			return nil, &FormatError{"ELF", int64(p.Off), "segment", fmt.Errorf("%w: %#x bytes at %#x", ErrFormat, p.Memsz, p.Vaddr)}
		}
		// A file cut short keeps its first segments' symbols, and a debug file has no bytes at all.
		have := p.Filesz
		if p.Off > uint64(size) {
			have = 0
		} else if have > uint64(size)-p.Off {
			have = uint64(size) - p.Off
		}
		e.segments = append(e.segments, segment{
			Range: Range{p.Vaddr, p.Vaddr + have, p.Off}, end: p.Vaddr + p.Memsz,
			exec: p.Flags&elf.PF_X != 0, write: p.Flags&elf.PF_W != 0,
		})
	}
	slices.SortStableFunc(e.segments, func(a, b segment) int {
		switch {
		case a.Start < b.Start:
			return -1
		case a.Start > b.Start:
			return 1
		}
		return 0
	})
	return e, nil
}

// recovered turns a panic into an error.
func recovered(format string, err *error) {
	if p := recover(); p != nil {
		*err = &FormatError{format, 0, "structure", fmt.Errorf("%w: %v", ErrFormat, p)}
	}
}

// fromRead tells a file that ends early from one that cannot be read.
func fromRead(format string, off int64, field string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: %w", ErrFormat, io.ErrUnexpectedEOF)
	}
	return &FormatError{format, off, field, err}
}

// readRange reads n bytes at off of a file of size bytes.
func readRange(r io.ReaderAt, size int64, off, n uint64, format, field string) ([]byte, error) {
	if off > uint64(size) || n > uint64(size)-off {
		return nil, fromRead(format, int64(min(off, 1<<62)), field, io.ErrUnexpectedEOF)
	}
	if n > maxTable {
		return nil, &FormatError{format, int64(off), field, fmt.Errorf("%w: %d bytes", ErrTooLarge, n)}
	}
	b := make([]byte, n) // which the file has
	if _, err := r.ReadAt(b, int64(off)); err != nil && !(errors.Is(err, io.EOF) && n == 0) {
		return nil, fromRead(format, int64(off), field, err)
	}
	return b, nil
}

// data reads a section's bytes; nil if it is not there or has none.
func (e *elfFile) data(s *elf.Section) ([]byte, error) {
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	if s.Flags&elf.SHF_COMPRESSED != 0 {
		return nil, &FormatError{"ELF", int64(s.Offset), "section " + s.Name, fmt.Errorf("%w: compressed", ErrUnsupported)}
	}
	return readRange(e.r, e.size, s.Offset, s.FileSize, "ELF", "section "+s.Name)
}

// code copies the bytes at an address.
func (e *elfFile) code(addr uint64, p []byte) int {
	n := 0
	for n < len(p) {
		at := addr + uint64(n)
		i := slices.IndexFunc(e.segments, func(s segment) bool { return s.Start <= at && at < s.Limit })
		if i < 0 {
			break
		}
		s := &e.segments[i]
		m := int(min(uint64(len(p)-n), s.Limit-at))
		got, _ := e.r.ReadAt(p[n:n+m], int64(s.Offset+at-s.Start))
		n += got
		if got < m {
			break
		}
	}
	return n
}

// bytesAt returns n bytes at an address, nil if they are not in one segment.
func (e *elfFile) bytesAt(addr, n uint64) []byte {
	for _, s := range e.segments {
		if s.Start <= addr && addr < s.Limit && n <= s.Limit-addr && n <= maxTable {
			b := make([]byte, n)
			if _, err := e.r.ReadAt(b, int64(s.Offset+addr-s.Start)); err != nil {
				return nil
			}
			return b
		}
	}
	return nil
}

// executable tells whether an address is in an executable segment, in the part that a file need not hold included.
func (e *elfFile) executable(addr uint64) bool {
	for _, s := range e.segments {
		if s.exec && s.Start <= addr && addr < s.end {
			return true
		}
	}
	return false
}

// symbolTable reads .symtab or .dynsym; nil if there is none.
func (e *elfFile) symbolTable(kind elf.SectionType) ([]symbol, error) {
	i := slices.IndexFunc(e.Sections, func(s *elf.Section) bool { return s.Type == kind })
	if i < 0 {
		return nil, nil
	}
	s := e.Sections[i]
	entries, err := e.data(s)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	if s.Link == 0 || int(s.Link) >= len(e.Sections) {
		return nil, &FormatError{"ELF", int64(s.Offset), "section " + s.Name, fmt.Errorf("%w: no string table %d", ErrFormat, s.Link)}
	}
	b, err := e.data(e.Sections[s.Link])
	if err != nil {
		return nil, err
	}
	names := string(b) // which the symbols' names share

	le := binary.LittleEndian
	symbols := make([]symbol, 0, len(entries)/elf.Sym64Size)
	for ; len(entries) >= elf.Sym64Size; entries = entries[elf.Sym64Size:] {
		sym := elf.Sym64{
			Name: le.Uint32(entries), Info: entries[4], Shndx: le.Uint16(entries[6:]),
			Value: le.Uint64(entries[8:]), Size: le.Uint64(entries[16:]),
		}
		typ, bind := elf.ST_TYPE(sym.Info), elf.ST_BIND(sym.Info)
		switch typ {
		case elf.STT_NOTYPE, elf.STT_OBJECT, elf.STT_FUNC, elf.STT_GNU_IFUNC:
		default:
			continue
		}
		index := elf.SectionIndex(sym.Shndx)
		if index == elf.SHN_UNDEF || index == elf.SHN_ABS || index == elf.SHN_COMMON || uint64(sym.Name) >= uint64(len(names)) {
			continue
		}
		name := names[sym.Name:]
		if end := strings.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		// Local labels and the marks of other architectures' assemblers name no function.
		if name == "" || name[0] == '$' || strings.HasPrefix(name, ".L") {
			continue
		}
		out := symbol{addr: sym.Value, size: sym.Size, name: name}
		if int(sym.Shndx) < len(e.Sections) {
			sec := e.Sections[sym.Shndx]
			if sec.Flags&elf.SHF_TLS != 0 || sec.Flags&elf.SHF_ALLOC == 0 {
				continue
			}
			if end := sec.Addr + sec.Size; end >= sec.Addr && sym.Value >= sec.Addr {
				out.limit = end
			}
		}
		switch typ {
		case elf.STT_FUNC:
			out.rank = 8
		case elf.STT_GNU_IFUNC: // the code here chooses the function, and mostly has a name of its own
			out.rank = 4
		}
		switch bind {
		case elf.STB_GLOBAL:
			out.rank += 2
		case elf.STB_WEAK:
			out.rank++
		}
		symbols = append(symbols, out)
	}
	return symbols, nil
}

// procedure linkage table -----------------------------------------------------------------------------------------------

// pltSymbols names the stubs through which calls to other libraries go: NAME@plt, as debuggers do.
func (e *elfFile) pltSymbols() []symbol {
	if e.Machine != elf.EM_X86_64 {
		return nil
	}
	imports, err := e.DynamicSymbols()
	if err != nil {
		return nil
	}
	le := binary.LittleEndian
	slots := map[uint64]string{} // of the global offset table
	for _, s := range e.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		b, err := e.data(s)
		if err != nil {
			continue
		}
		for ; len(b) >= 24; b = b[24:] {
			info := le.Uint64(b[8:])
			typ, sym := elf.R_X86_64(info&0xffffffff), info>>32
			if (typ == elf.R_X86_64_JMP_SLOT || typ == elf.R_X86_64_GLOB_DAT) && sym >= 1 && sym <= uint64(len(imports)) {
				slots[le.Uint64(b)] = imports[sym-1].Name
			}
		}
	}
	var symbols []symbol
	for _, s := range e.Sections {
		if !strings.HasPrefix(s.Name, ".plt") || s.Flags&elf.SHF_EXECINSTR == 0 {
			continue
		}
		b, err := e.data(s)
		if err != nil {
			continue
		}
		const entry = 8 // the smallest of the three kinds; the others are twice as large
		for off := 0; off+entry <= len(b); off += entry {
			// endbr64 and bnd may come before jmp *DISP(%rip).
			code := b[off:]
			code = bytes.TrimPrefix(code, []byte{0xf3, 0x0f, 0x1e, 0xfa})
			code = bytes.TrimPrefix(code, []byte{0xf2})
			if len(code) < 6 || code[0] != 0xff || code[1] != 0x25 {
				continue
			}
			next := s.Addr + uint64(len(b)-len(code)+6)
			name := slots[next+uint64(int64(int32(le.Uint32(code[2:]))))]
			if name == "" {
				continue
			}
			size := uint64(16)
			if s.Name == ".plt.got" && len(code) == len(b)-off {
				size = 8
			}
			symbols = append(symbols, symbol{addr: s.Addr + uint64(off), size: size, name: name + "@plt"})
		}
	}
	return symbols
}

// notes -----------------------------------------------------------------------------------------------------------------

// buildID returns the GNU build ID, or else Go's.
func (e *elfFile) buildID() string {
	goID := ""
	scan := func(off, size uint64) (gnu string) {
		b, err := readRange(e.r, e.size, off, min(size, 1<<20), "ELF", "notes")
		if err != nil {
			return ""
		}
		le := binary.LittleEndian
		for len(b) >= 12 {
			nameSize, descSize, kind := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
			b = b[12:]
			descOff := (nameSize + 3) &^ 3
			next := descOff + (descSize+3)&^3
			if descOff+descSize > uint64(len(b)) {
				return ""
			}
			name, desc := string(b[:nameSize]), b[descOff:descOff+descSize]
			switch {
			case name == "GNU\x00" && kind == 3 && len(desc) > 0:
				return hex.EncodeToString(desc)
			case name == "Go\x00\x00" && kind == 4 && len(desc) > 0 && goID == "":
				goID = hex.EncodeToString(desc)
			}
			b = b[min(next, uint64(len(b))):]
		}
		return ""
	}
	// Of a debug file the sections are right, of a stripped file there may be segments only.
	for _, s := range e.Sections {
		if s.Type == elf.SHT_NOTE {
			if id := scan(s.Offset, s.FileSize); id != "" {
				return id
			}
		}
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_NOTE {
			if id := scan(p.Off, p.Filesz); id != "" {
				return id
			}
		}
	}
	return goID
}

// debugLink returns what .gnu_debuglink names: a file's name and its CRC-32.
func (e *elfFile) debugLink() (name string, crc uint32, ok bool) {
	b, err := e.data(e.Section(".gnu_debuglink"))
	if err != nil {
		return "", 0, false
	}
	end := bytes.IndexByte(b, 0)
	if end <= 0 {
		return "", 0, false
	}
	at := (end + 4) &^ 3
	if at+4 > len(b) {
		return "", 0, false
	}
	return string(b[:end]), binary.LittleEndian.Uint32(b[at:]), true
}

func (e *elfFile) hasDWARF() bool {
	return e.Section(".debug_info") != nil || e.Section(".zdebug_info") != nil
}
