// Package symbols turns addresses into functions, files and lines. It reads ELF symbol tables, DWARF, Go's pclntab, separate
// debug files, and the kallsyms tables inside stripped Linux kernels. It says which of them it used, and what it left out.
package symbols

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Frame is a function that an address lies in, or that was inlined there.
type Frame struct {
	Function  string // demangled, without parameters
	System    string // as the symbol table has it
	File      string // of the source; "" if unknown
	Line      int    // at the address, or of the call to the frame before; 0 if unknown
	StartLine int    // at which the function starts; 0 if unknown
	Start     uint64 // link-time address of the function's entry; for an inlined one, of the function that it was inlined into
}

// Range is a range of link-time addresses and where in the file its bytes are.
type Range struct{ Start, Limit, Offset uint64 }

// Options say where else to look for symbols.
type Options struct {
	// DebugDirs hold separate debug files, by build ID or by path; nil stands for /usr/lib/debug, an empty list for none.
	DebugDirs []string
}

// What a FormatError wraps.
var (
	ErrFormat      = errors.New("damaged")
	ErrUnsupported = errors.New("not supported")
	ErrTooLarge    = errors.New("too large")
)

// FormatError says which part of a file cannot be read.
type FormatError struct {
	Format string // of the file or table: "ELF", "bzImage", "kallsyms", "pclntab", "DWARF"
	Offset int64  // in the file, or in the table if it was compressed
	Field  string
	Err    error
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s: %s at offset %d: %v", e.Format, e.Field, e.Offset, e.Err)
}

func (e *FormatError) Unwrap() error { return e.Err }

// Object is what one file says about its addresses. Its methods may be called at the same time.
type Object struct {
	name    string
	elf     *elfFile
	buildID string
	table   *table
	pclntab *pclntab

	debugFile *elfFile // that has the DWARF; nil: none has
	readDWARF func() *debugInfo

	mu      sync.Mutex // guards what follows
	files   []io.Closer
	sources []string
	notices []string
}

// Open reads the symbols of a file, which is an ELF executable, shared library or kernel, a Linux bzImage, or one of our own
// images. The file stays open until Close.
func Open(path string, o Options) (*Object, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &os.PathError{Op: "read symbols of", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	obj, err := New(f, st.Size(), path, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	obj.files = append(obj.files, f)
	return obj, nil
}

// New is like Open for a file of size bytes that r reads; r must stay readable. Debug files are looked for beside name too.
func New(r io.ReaderAt, size int64, name string, o Options) (*Object, error) {
	obj, err := newObject(r, size, name, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return obj, nil
}

func newObject(r io.ReaderAt, size int64, name string, options Options) (o *Object, err error) {
	head := make([]byte, min(4096, max(size, 0)))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
	case isBzImage(head):
		b, err := unpackBzImage(r, size, head)
		if err != nil {
			return nil, err
		}
		r, size = bytes.NewReader(b), int64(len(b))
	default:
		return nil, &FormatError{"ELF", 0, "magic", fmt.Errorf("%w: neither an ELF file nor a Linux bzImage", ErrUnsupported)}
	}
	o = &Object{name: name}
	if o.elf, err = openELF(r, size); err != nil {
		return nil, err
	}
	o.buildID = o.elf.buildID()

	symbols, err := o.elf.symbolTable(elf.SHT_SYMTAB)
	if err != nil {
		o.notice("%v", err)
	}
	if len(symbols) > 0 {
		o.sources = append(o.sources, "symtab")
	}
	if o.elf.hasDWARF() {
		o.debugFile = o.elf
	}
	if len(symbols) == 0 || o.debugFile == nil {
		if debug := o.findDebugFile(options); debug != nil {
			if more, err := debug.symbolTable(elf.SHT_SYMTAB); err != nil {
				o.notice("%v", err)
			} else if len(symbols) == 0 && len(more) > 0 {
				symbols = more
				o.sources = append(o.sources, "symtab")
			}
			if o.debugFile == nil && debug.hasDWARF() {
				o.debugFile = debug
			}
		}
	}
	stripped := len(symbols) == 0
	if stripped {
		if symbols, err = o.elf.symbolTable(elf.SHT_DYNSYM); err != nil {
			o.notice("%v", err)
		}
		if len(symbols) > 0 {
			o.sources = append(o.sources, "dynsym")
		}
		if o.elf.Section(".gnu_debugdata") != nil {
			o.notice("%s: its .gnu_debugdata is compressed with xz, which is not supported; its debug file may be installed instead", name)
		}
	}
	symbols = append(symbols, o.elf.pltSymbols()...)
	if o.pclntab, err = loadPclntab(o.elf); err != nil {
		o.notice("%v", err)
	}
	if o.pclntab != nil {
		o.sources = append(o.sources, "pclntab")
		if stripped {
			symbols = append(symbols, o.pclntab.symbols()...)
		}
	} else if stripped {
		more, err := o.elf.kallsyms()
		if err != nil {
			o.notice("%v", err)
		}
		if len(more) > 0 {
			symbols = append(symbols, more...)
			o.sources = append(o.sources, "kallsyms")
		}
	}
	o.table = newTable(symbols)
	if o.debugFile != nil {
		o.sources = append(o.sources, "dwarf")
	}
	o.readDWARF = sync.OnceValue(func() *debugInfo {
		if o.debugFile == nil {
			return nil
		}
		d, err := loadDWARF(o.debugFile)
		if err != nil {
			o.notice("%s: no lines: %v", name, err)
			return nil
		}
		return d
	})
	return o, nil
}

// kallsyms reads the tables of a Linux kernel, whose addresses are in the upper half; nil without error if there are none.
func (e *elfFile) kallsyms() ([]symbol, error) {
	var first error
	for _, s := range e.segments {
		if s.Start < 1<<63 || s.Limit-s.Start > maxKernel {
			continue
		}
		b := e.bytesAt(s.Start, s.Limit-s.Start)
		if b == nil {
			continue
		}
		symbols, err := kallsyms(b, s.Start, e.executable)
		if err != nil && first == nil {
			first = err
		}
		if symbols == nil {
			continue
		}
		for i := range symbols {
			sym := &symbols[i]
			sym.limit = sym.addr
			for _, s := range e.segments {
				if s.Start <= sym.addr && sym.addr < s.end {
					sym.limit = s.end
				}
			}
		}
		return symbols, nil
	}
	return nil, first
}

// findDebugFile opens the separate debug file, by build ID or by the name that .gnu_debuglink gives; nil if there is none. What
// does not match is told, not used.
func (o *Object) findDebugFile(options Options) *elfFile {
	dirs := options.DebugDirs
	if dirs == nil {
		dirs = []string{"/usr/lib/debug"}
	}
	type candidate struct {
		path string
		link bool // named by .gnu_debuglink
	}
	var candidates []candidate
	if len(o.buildID) > 2 {
		for _, dir := range dirs {
			candidates = append(candidates, candidate{filepath.Join(dir, ".build-id", o.buildID[:2], o.buildID[2:]+".debug"), false})
		}
	}
	link, crc, ok := o.elf.debugLink()
	if ok && link == filepath.Base(link) {
		dir := filepath.Dir(o.name)
		candidates = append(candidates, candidate{filepath.Join(dir, link), true}, candidate{filepath.Join(dir, ".debug", link), true})
		if dir, err := filepath.Abs(dir); err == nil {
			for _, d := range dirs {
				candidates = append(candidates, candidate{filepath.Join(d, dir, link), true})
			}
		}
	}
	self, _ := os.Stat(o.name)
	for _, c := range candidates {
		f, err := os.Open(c.path)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				o.notice("debug file: %v", err)
			}
			continue
		}
		st, err := f.Stat()
		if err != nil || !st.Mode().IsRegular() || os.SameFile(st, self) {
			f.Close()
			continue
		}
		e, err := openELF(f, st.Size())
		if err != nil {
			o.notice("debug file %s: %v", c.path, err)
			f.Close()
			continue
		}
		switch id := e.buildID(); {
		case id != "" && o.buildID != "" && id != o.buildID, id == "" && !c.link:
			o.notice("debug file %s has build ID %s, %s has %s: not used", c.path, orNone(id), o.name, orNone(o.buildID))
		case id == o.buildID && id != "":
			o.files = append(o.files, f)
			o.sources = append(o.sources, "debug file "+c.path)
			return e
		default:
			// Neither build ID can be compared, so the checksum has to tell.
			sum := crc32.NewIEEE()
			if _, err := io.Copy(sum, io.NewSectionReader(f, 0, st.Size())); err != nil {
				o.notice("debug file: %v", err)
			} else if sum.Sum32() != crc {
				o.notice("debug file %s has CRC-32 %08x, %s asks for %08x: not used", c.path, sum.Sum32(), o.name, crc)
			} else {
				o.files = append(o.files, f)
				o.sources = append(o.sources, "debug file "+c.path)
				return e
			}
		}
		f.Close()
	}
	return nil
}

func orNone(id string) string {
	if id == "" {
		return "(none)"
	}
	return id
}

// Close closes the files that are open. Lookup then finds no lines that it has not read before.
func (o *Object) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, f := range o.files {
		errs = append(errs, f.Close())
	}
	o.files = nil
	return errors.Join(errs...)
}

// Name is the name that Open or New was given.
func (o *Object) Name() string { return o.name }

// Lookup returns what is at a link-time address, the innermost inlined function first and the one that was called last. It
// returns nil if no symbol covers the address.
func (o *Object) Lookup(addr uint64) []Frame {
	if o.pclntab != nil {
		if frames := o.pclntab.lookup(addr); frames != nil {
			return frames
		}
	}
	symbol := o.table.at(addr)
	var frames []Frame
	var start uint64
	if d := o.readDWARF(); d != nil {
		var err error
		if frames, start, err = d.lookup(addr); err != nil {
			o.notice("%s: lines are missing: %v", o.name, err)
		}
	}
	if symbol == nil {
		if len(frames) == 0 || frames[len(frames)-1].Function == "" {
			return nil
		}
	} else {
		if len(frames) == 0 {
			frames = make([]Frame, 1)
		}
		// The table names the parts of a function that a compiler has split, and DWARF does not.
		f := &frames[len(frames)-1]
		f.System, f.Function = symbol.name, demangled(symbol.name)
		start = symbol.addr
	}
	for i := range frames {
		frames[i].Start = start
	}
	return frames
}

// Find returns where a symbol is, by its name in the symbol table or its demangled one. The size of a symbol that does not say
// it reaches to the next symbol.
func (o *Object) Find(name string) (addr, size uint64, ok bool) {
	s := o.table.find(name)
	if s == nil {
		return 0, 0, false
	}
	return s.addr, o.table.sizeOf(s), true
}

// Names returns the symbols whose names start with prefix, sorted.
func (o *Object) Names(prefix string) []string { return o.table.withPrefix(prefix) }

// BuildID is the GNU build ID in hexadecimal, or else Go's build ID, its text in hexadecimal; "" if there is neither.
func (o *Object) BuildID() string { return o.buildID }

// Sources lists the tables that are used: symtab, dynsym, dwarf, pclntab, kallsyms, and "debug file PATH".
func (o *Object) Sources() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.sources)
}

// Notices lists what was left out and why, such as a debug file of another build.
func (o *Object) Notices() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.notices)
}

// Text returns the executable segments, in the order of their addresses, without what the file holds no bytes of. Offsets are
// those of the file, and of the unpacked kernel for a bzImage.
func (o *Object) Text() []Range {
	var text []Range
	for _, s := range o.elf.segments {
		if s.exec && s.Start < s.Limit {
			text = append(text, s.Range)
		}
	}
	return text
}

// Fixed tells whether the object is a program that runs at its link-time addresses only.
func (o *Object) Fixed() bool { return o.elf.Type == elf.ET_EXEC }

// Code copies the bytes at a link-time address, before any relocation, and returns how many there are.
func (o *Object) Code(addr uint64, p []byte) int { return o.elf.code(addr, p) }

// notice adds a notice, once.
func (o *Object) notice(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := strings.TrimSpace(fmt.Sprintf(format, args...)); !slices.Contains(o.notices, s) && len(o.notices) < 100 {
		o.notices = append(o.notices, s)
	}
}
