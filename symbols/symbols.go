// Package symbols turns addresses into functions, files and lines. It reads ELF symbol tables, DWARF, Go's pclntab, separate
// debug files, and the kallsyms tables inside stripped Linux kernels. It says which of them it used, and what it left out.
package symbols

import (
	"errors"
	"fmt"
	"io"
	"os"
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
	if err != nil {
		f.Close()
		return nil, err
	}
	obj, err := New(f, st.Size(), path, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	return obj, nil
}

// New is like Open for a file of size bytes that r reads; r must stay readable. Debug files are looked for beside name too.
func New(r io.ReaderAt, size int64, name string, o Options) (*Object, error) {
	return nil, fmt.Errorf("%s: %w", name, ErrUnsupported)
}

// Close closes the files that Open opened. Lookup then finds no more than was read before.
func (o *Object) Close() error { return nil }

// Name is the name that Open or New was given.
func (o *Object) Name() string { return o.name }

// Lookup returns what is at a link-time address, the innermost inlined function first and the one that was called last. It
// returns nil if no symbol covers the address.
func (o *Object) Lookup(addr uint64) []Frame { return nil }

// Find returns where a symbol is, by its name in the symbol table or its demangled one. The size of a symbol that does not say
// it reaches to the next symbol.
func (o *Object) Find(name string) (addr, size uint64, ok bool) { return 0, 0, false }

// Names returns the symbols whose names start with prefix, sorted.
func (o *Object) Names(prefix string) []string { return nil }

// BuildID is the GNU build ID in hexadecimal, or else Go's build ID, its text in hexadecimal; "" if there is neither.
func (o *Object) BuildID() string { return "" }

// Sources lists the tables that are used: symtab, dynsym, dwarf, pclntab, kallsyms, and "debug file PATH".
func (o *Object) Sources() []string { return o.sources }

// Notices lists what was left out and why, such as a debug file of another build.
func (o *Object) Notices() []string { return o.notices }

// Text returns the executable segments, in the order of their addresses, without what the file holds no bytes of. Offsets are
// those of the file, and of the unpacked kernel for a bzImage.
func (o *Object) Text() []Range { return nil }

// Code copies the bytes at a link-time address, before any relocation, and returns how many there are.
func (o *Object) Code(addr uint64, p []byte) int { return 0 }
