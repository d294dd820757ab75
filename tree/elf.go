package tree

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"
)

// ErrNotELF says that a file does not start as an ELF file does.
var ErrNotELF = errors.New("not an ELF file")

var (
	errTruncated = errors.New("it lies beyond the end of the file")
	errTooLarge  = errors.New("too large")
	errValue     = errors.New("impossible value")
)

// FormatError says what is wrong with a file and where.
type FormatError struct {
	Format string // "ELF"
	Offset int64  // in bytes from the file's start
	Field  string
	Err    error
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("damaged %s file: %s at offset %#x: %v", e.Format, e.Field, e.Offset, e.Err)
}

func (e *FormatError) Unwrap() error { return e.Err }

// ELFKind is what an ELF file is for.
type ELFKind int

const (
	ELFOther       ELFKind = iota // core dump, or a type of some system's own
	ELFStatic                     // program at fixed addresses, complete
	ELFStaticPIE                  // program at any address, complete
	ELFDynamic                    // program that needs a dynamic linker
	ELFShared                     // shared object
	ELFRelocatable                // object file
)

func (k ELFKind) String() string {
	switch k {
	case ELFStatic:
		return "static program"
	case ELFStaticPIE:
		return "static-PIE program"
	case ELFDynamic:
		return "dynamically linked program"
	case ELFShared:
		return "shared object"
	case ELFRelocatable:
		return "object file"
	}
	return "ELF file of another type"
}

// ELF is what the headers of an ELF file say about how it is run.
type ELF struct {
	Machine elf.Machine
	Class   elf.Class
	Data    elf.Data
	Kind    ELFKind
	Interp  string // path of the dynamic linker that an ELFDynamic asks for
}

// IsProgram reports whether the file is one to be run, on whatever machine.
func (e ELF) IsProgram() bool {
	return e.Kind == ELFStatic || e.Kind == ELFStaticPIE || e.Kind == ELFDynamic
}

// Runnable returns nil if the kernel can run the file with nothing else in the image. Otherwise its error goes on after the file's
// name and says why not and what to do: "is dynamically linked (needs …); link it with -static, …".
func (e ELF) Runnable() error {
	switch {
	case e.Machine != elf.EM_X86_64:
		return fmt.Errorf("is for another machine, %s; the kernel runs x86-64 programs: build it for linux/amd64", machineName(e.Machine))
	case e.Class != elf.ELFCLASS64 || e.Data != elf.ELFDATA2LSB:
		return errors.New("is not a 64-bit program (x32?); build it for linux/amd64")
	case e.Kind == ELFDynamic:
		return fmt.Errorf("is dynamically linked (needs %s); link it with -static, or CGO_ENABLED=0 for Go, or pack a folder that has that file and the libraries too", e.Interp)
	case e.Kind == ELFShared:
		return errors.New("is a shared object, not a program")
	case e.Kind == ELFRelocatable:
		return errors.New("is an object file, not yet linked to a program")
	case !e.IsProgram():
		return errors.New("is an ELF file, but not a program")
	}
	return nil
}

// Runnable returns nil if the kernel can run a program of t, whose dynamic linker, if it needs one, is in t; whether t has the
// libraries as well is the linker's to say. Otherwise its error is as ELF.Runnable's.
func (t *Tree) Runnable(e ELF) error {
	if e.Kind == ELFDynamic {
		info, err := t.Stat(strings.TrimPrefix(path.Clean(e.Interp), "/"))
		if err == nil && info.Mode().IsRegular() {
			e.Kind = ELFStatic
		}
	}
	return e.Runnable()
}

// machineName spells a machine with its number, which is all there is of one that has no name here: "AARCH64 (183)".
func machineName(m elf.Machine) string {
	name := m.String()
	if strings.Contains(name, "+") { // the nearest that has one, and the distance
		return fmt.Sprintf("number %d", uint16(m))
	}
	return fmt.Sprintf("%s (%d)", strings.TrimPrefix(name, "EM_"), uint16(m))
}

// Limits of what is read into memory. Linux takes program headers of up to 64 KiB (load_elf_phdrs in fs/binfmt_elf.c) and an
// interpreter of up to PATH_MAX bytes. A dynamic section has one entry for each needed library and some thirty others.
const (
	maxProgs   = 64 << 10
	maxInterp  = 4096
	maxDynamic = 1 << 20
)

// ReadELF reads the ELF and program headers of r, of size bytes, as a kernel does: section headers may be stripped. What does
// not start as an ELF file is ErrNotELF; a damaged or truncated one is a *FormatError. Nothing is executed. Sources: System V
// ABI, chapters 4 and 5; DF_1_PIE: include/elf/common.h of GNU binutils.
func ReadELF(r io.ReaderAt, size int64) (ELF, error) {
	p := elfReader{r: r, size: size}
	ident, err := p.bytes("identification", 0, elf.EI_NIDENT, elf.EI_NIDENT)
	if err != nil || string(ident[:4]) != elf.ELFMAG {
		var format *FormatError
		if err != nil && !errors.As(err, &format) {
			return ELF{}, err
		}
		return ELF{}, ErrNotELF
	}
	e := ELF{Class: elf.Class(ident[elf.EI_CLASS]), Data: elf.Data(ident[elf.EI_DATA])}
	switch e.Data {
	case elf.ELFDATA2LSB:
		p.order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		p.order = binary.BigEndian
	default:
		return ELF{}, elfError("byte order", elf.EI_DATA, errValue)
	}
	var h elf.Header64
	switch e.Class {
	case elf.ELFCLASS64:
		err = p.record("header", 0, &h)
	case elf.ELFCLASS32:
		var h32 elf.Header32
		err = p.record("header", 0, &h32)
		h = elf.Header64{Type: h32.Type, Machine: h32.Machine, Phoff: uint64(h32.Phoff), Phentsize: h32.Phentsize, Phnum: h32.Phnum}
	default:
		err = elfError("class", elf.EI_CLASS, errValue)
	}
	if err != nil {
		return ELF{}, err
	}
	e.Machine = elf.Machine(h.Machine)
	if elf.Type(h.Type) == elf.ET_REL {
		e.Kind = ELFRelocatable
		return e, nil
	}
	progs, err := p.progs(e.Class, &h)
	if err != nil {
		return ELF{}, err
	}
	var interp string
	var dyn dynamic
	loads := 0
	for _, prog := range progs {
		switch elf.ProgType(prog.Type) {
		case elf.PT_LOAD:
			loads++
			err = p.within("segment to load", prog.Off, prog.Filesz)
		case elf.PT_INTERP:
			interp, err = p.interp(prog)
		case elf.PT_DYNAMIC:
			dyn, err = p.dynamic(e.Class, prog)
		}
		if err != nil {
			return ELF{}, err
		}
	}
	e.Kind = elfKind(elf.Type(h.Type), interp, dyn)
	if e.Kind == ELFDynamic {
		e.Interp = interp
	}
	if e.IsProgram() && loads == 0 {
		return ELF{}, elfError("program headers", h.Phoff, errors.New("there is no segment to load"))
	}
	return e, nil
}

// elfKind tells programs from libraries, which share the type ET_DYN. The linker marks a program with DF_1_PIE; one from
// before that mark (binutils 2.26) has an interpreter and no name of its own, whereas libc.so.6, a library that can also be
// run, has both.
func elfKind(typ elf.Type, interp string, dyn dynamic) ELFKind {
	switch {
	case typ == elf.ET_EXEC && interp == "":
		return ELFStatic
	case typ == elf.ET_EXEC:
		return ELFDynamic
	case typ != elf.ET_DYN:
		return ELFOther
	case interp != "" && (dyn.pie || !dyn.soname):
		return ELFDynamic
	case interp == "" && dyn.pie:
		return ELFStaticPIE
	}
	return ELFShared
}

type elfReader struct {
	r     io.ReaderAt
	size  int64
	order binary.ByteOrder
}

func elfError(field string, off uint64, err error) error {
	return &FormatError{Format: "ELF", Offset: int64(min(off, math.MaxInt64)), Field: field, Err: err}
}

// within fails unless the n bytes at off lie in the file.
func (p *elfReader) within(field string, off, n uint64) error {
	if size := uint64(max(p.size, 0)); off > size || n > size-off {
		return elfError(field, off, errTruncated)
	}
	return nil
}

// bytes reads n bytes at off, limit at most. An I/O failure stays one.
func (p *elfReader) bytes(field string, off, n, limit uint64) ([]byte, error) {
	if err := p.within(field, off, n); err != nil {
		return nil, err
	}
	if n > limit {
		return nil, elfError(field, off, fmt.Errorf("%w: %d bytes, %d at most", errTooLarge, n, limit))
	}
	b := make([]byte, n)
	if m, err := p.r.ReadAt(b, int64(off)); m < len(b) {
		if err == io.EOF {
			return nil, elfError(field, off, errTruncated)
		}
		return nil, err
	}
	return b, nil
}

// record reads the fixed-size structure v at off.
func (p *elfReader) record(field string, off uint64, v any) error {
	n := uint64(binary.Size(v))
	b, err := p.bytes(field, off, n, n)
	if err != nil {
		return err
	}
	_, err = binary.Decode(b, p.order, v)
	return err
}

func (p *elfReader) progs(class elf.Class, h *elf.Header64) ([]elf.Prog64, error) {
	want := binary.Size(elf.Prog64{})
	if class == elf.ELFCLASS32 {
		want = binary.Size(elf.Prog32{})
	}
	if h.Phnum == 0 {
		return nil, nil
	}
	if int(h.Phentsize) != want {
		return nil, elfError("program headers", h.Phoff, fmt.Errorf("%w: %d bytes each instead of %d", errValue, h.Phentsize, want))
	}
	b, err := p.bytes("program headers", h.Phoff, uint64(h.Phnum)*uint64(h.Phentsize), maxProgs)
	if err != nil {
		return nil, err
	}
	progs := make([]elf.Prog64, h.Phnum)
	if class == elf.ELFCLASS64 {
		_, err = binary.Decode(b, p.order, progs)
		return progs, err
	}
	progs32 := make([]elf.Prog32, h.Phnum)
	_, err = binary.Decode(b, p.order, progs32)
	for i, q := range progs32 {
		progs[i] = elf.Prog64{Type: q.Type, Off: uint64(q.Off), Filesz: uint64(q.Filesz)}
	}
	return progs, err
}

func (p *elfReader) interp(prog elf.Prog64) (string, error) {
	b, err := p.bytes("interpreter", prog.Off, prog.Filesz, maxInterp)
	if err != nil {
		return "", err
	}
	name, _, _ := bytes.Cut(b, []byte{0})
	if len(name) == 0 {
		return "", elfError("interpreter", prog.Off, errors.New("it is empty"))
	}
	return string(name), nil
}

// dynamic is what the dynamic section tells about a file of type ET_DYN.
type dynamic struct{ pie, soname bool }

func (p *elfReader) dynamic(class elf.Class, prog elf.Prog64) (dynamic, error) {
	b, err := p.bytes("dynamic section", prog.Off, prog.Filesz, maxDynamic)
	if err != nil {
		return dynamic{}, err
	}
	word, size := func(b []byte) uint64 { return uint64(p.order.Uint32(b)) }, 4
	if class == elf.ELFCLASS64 {
		word, size = p.order.Uint64, 8
	}
	var dyn dynamic
	for ; len(b) >= 2*size; b = b[2*size:] {
		switch elf.DynTag(word(b)) {
		case elf.DT_NULL:
			return dyn, nil
		case elf.DT_SONAME:
			dyn.soname = true
		case elf.DT_FLAGS_1:
			dyn.pie = elf.DynFlag1(word(b[size:]))&elf.DF_1_PIE != 0
		}
	}
	return dyn, nil
}

// Executable is an ELF program found in a tree.
type Executable struct {
	Path string
	ELF  ELF
	// Err says why the kernel cannot run it: it is damaged, for another machine or lacks its dynamic linker. Its text goes on after
	// the path.
	Err error
}

// Executables returns the ELF programs of t in its order: the regular files with an execute permission that are neither
// shared objects nor object files; a damaged ELF file counts as a program. Further names of one file are not repeated. The
// error is a failure to read.
func Executables(t *Tree) ([]Executable, error) {
	var list []Executable
	for i := range t.Entries {
		e := &t.Entries[i]
		if !e.Mode.IsRegular() || e.Mode&0o111 == 0 || e.HardLink != "" {
			continue
		}
		x := Executable{Path: e.Path}
		var err error
		x.ELF, err = t.ReadELF(e)
		var format *FormatError
		switch {
		case errors.Is(err, ErrNotELF), err == nil && !x.ELF.IsProgram():
			continue
		case errors.As(err, &format):
			x.Err = fmt.Errorf("cannot be run: %w", err)
		case err != nil:
			return nil, err
		default:
			x.Err = t.Runnable(x.ELF)
		}
		list = append(list, x)
	}
	return list, nil
}

// ReadELF is the function ReadELF for the content of an entry of t.
func (t *Tree) ReadELF(e *Entry) (ELF, error) {
	if !e.Mode.IsRegular() {
		return ELF{}, ErrNotELF
	}
	r, err := t.open(e)
	if err != nil {
		return ELF{}, err
	}
	defer r.Close()
	if at, ok := r.(io.ReaderAt); ok {
		return ReadELF(at, e.Size)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return ELF{}, err
	}
	return ReadELF(bytes.NewReader(b), int64(len(b)))
}
