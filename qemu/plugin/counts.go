// Package plugin is the TCG plugin that counts guest instructions: its C source, its compiler run, and the decoder of
// what it reports.
package plugin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Counts is what a counting boot executed.
type Counts struct {
	Total  uint64 // guest instructions
	Blocks uint64 // blocks translated
	PSS    int64  // proportional set size of the VMM at its end, in bytes, the plugin's own included; 0 if unknown
	Marks  []Mark // in the order of execution
}

// Mark is one execution of an instruction that was to be logged.
type Mark struct {
	Addr         uint64 // its virtual address
	Instructions uint64 // guest instructions executed before it
}

// The report, as c/counter.c writes it. All words are 64 bits, little endian.
//
//	 0  magic, written last: a report without it is of a run that did not end in order
//	 8  guest instructions
//	16  blocks translated
//	24  PSS in bytes
//	32  number of marks
//	40  marks: address, instructions
const (
	magic      = "FLCOUNT1"
	headerSize = 40
	markSize   = 16
	maxMarks   = 1 << 16 // c/counter.c drops later ones
)

// ErrFormat is a report that c/counter.c did not write, or not to its end. Every *FormatError wraps it.
var ErrFormat = errors.New("not a report of the counting plugin")

// FormatError is what is wrong with a report, and where.
type FormatError struct {
	Offset int64
	Field  string
	Err    error
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("plugin report: %s at offset %d: %v", e.Field, e.Offset, e.Err)
}

func (e *FormatError) Unwrap() error { return e.Err }

// Decode reads a report of size bytes.
func Decode(r io.ReaderAt, size int64) (*Counts, error) {
	bad := func(off int64, field, format string, args ...any) error {
		return &FormatError{off, field, fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))}
	}
	if size < headerSize {
		return nil, bad(size, "header", "%d bytes", size)
	}
	if size > headerSize+maxMarks*markSize {
		return nil, bad(0, "size", "%d bytes", size)
	}
	b := make([]byte, size)
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("plugin report: %w", err)
	}
	word := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	if string(b[:8]) != magic {
		return nil, bad(0, "magic", "%q", b[:8])
	}
	c := &Counts{Total: word(8), Blocks: word(16), PSS: int64(word(24))}
	if c.PSS < 0 {
		return nil, bad(24, "pss", "%d bytes", c.PSS)
	}
	if n := word(32); n > maxMarks || headerSize+n*markSize != uint64(size) {
		return nil, bad(32, "marks", "%d marks in %d bytes", n, size)
	}
	var last uint64
	for off := headerSize; off < len(b); off += markSize {
		m := Mark{word(off), word(off + 8)}
		if m.Instructions < last || m.Instructions > c.Total {
			return nil, bad(int64(off)+8, "mark", "%d instructions after %d of %d", m.Instructions, last, c.Total)
		}
		last = m.Instructions
		c.Marks = append(c.Marks, m)
	}
	return c, nil
}
