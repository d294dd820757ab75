// Package plugin is the TCG plugin that watches a guest: its C source, its compiler run, and the decoder of what it reports.
package plugin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Counts is what the plugin saw of a boot.
type Counts struct {
	Total  uint64 // guest instructions; 0 if they were not counted
	Blocks uint64 // blocks translated
	PSS    int64  // proportional set size of the VMM at its end, in bytes, the plugin's own included; 0 if unknown
	RSS    int64  // resident set size, likewise
	Marks  []Mark // in the order of execution
	Tree   *Tree  // nil unless it was asked for
}

// Mark is one execution of a point, or a byte that was written to a log.
type Mark struct {
	Point        int    // index in Config.Points; of a byte, their number and the log's index on top
	Addr         uint64 // virtual address
	Instructions uint64 // guest instructions executed before it, and the one that writes a byte; 0 if they were not counted
	// Nanos is when, by the plugin's clock: CLOCK_MONOTONIC as the plugin reports it, since t0 in what package qemu returns.
	Nanos int64
}

// The report, as c/counter.c writes it. All words are 64 bits, little endian.
//
//	 0  magic, written last: a report without it is of a run that did not end in order
//	 8  guest instructions
//	16  blocks translated
//	24  PSS in bytes
//	32  number of marks
//	40  1 if a tree follows the marks
//	48  RSS in bytes
//	56  marks: point, address, instructions, nanoseconds
//	    tree, as tree.go has it
const (
	magic      = "FLPLUG03"
	headerSize = 56
	markSize   = 32
	maxMarks   = 1 << 16 // c/counter.c drops later ones
)

// LiveSize is how many bytes an execution of a point has that is written at once.
const LiveSize = markSize

// DecodeLive reads such an execution.
func DecodeLive(b [LiveSize]byte) Mark {
	r := report(b[:])
	return Mark{int(r.word(0)), r.word(8), r.word(16), int64(r.word(24))}
}

// ErrFormat is a report that the plugin did not write, or not to its end. Every *FormatError wraps it.
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

// report is the bytes of a report.
type report []byte

func (r report) word(off int) uint64   { return binary.LittleEndian.Uint64(r[off:]) }
func (r report) short(off int) uint32  { return binary.LittleEndian.Uint32(r[off:]) }
func (r report) has(off, n int64) bool { return off >= 0 && n >= 0 && off+n <= int64(len(r)) }

func bad(off int, field, format string, args ...any) error {
	return &FormatError{int64(off), field, fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))}
}

// maxReport bounds a report: 4 GiB, far more than the plugin's own limits let it write of a boot.
const maxReport = 4 << 30

// Decode reads a report of size bytes.
func Decode(src io.ReaderAt, size int64) (*Counts, error) {
	if size < headerSize || size > maxReport {
		return nil, bad(0, "size", "%d bytes", size)
	}
	r := make(report, size)
	if n, err := src.ReadAt(r, 0); n < len(r) {
		return nil, fmt.Errorf("plugin report: %w", err)
	}
	if string(r[:8]) != magic {
		return nil, bad(0, "magic", "%q", r[:8])
	}
	c := &Counts{Total: r.word(8), Blocks: r.word(16), PSS: int64(r.word(24)), RSS: int64(r.word(48))}
	if c.PSS < 0 || c.RSS < 0 {
		return nil, bad(24, "pss", "%d bytes, and %d resident", c.PSS, c.RSS)
	}
	n := r.word(32)
	if n > maxMarks || !r.has(headerSize, int64(n)*markSize) {
		return nil, bad(32, "marks", "%d marks in %d bytes", n, size)
	}
	var last Mark
	off := headerSize
	for range n {
		m := Mark{int(r.word(off)), r.word(off + 8), r.word(off + 16), int64(r.word(off + 24))}
		if m.Instructions < last.Instructions || m.Instructions > c.Total || m.Nanos < last.Nanos || m.Point < 0 || m.Point >= MaxPoints {
			return nil, bad(off, "mark", "point %d, %d instructions after %d of %d, %d ns after %d", m.Point, m.Instructions, last.Instructions, c.Total, m.Nanos, last.Nanos)
		}
		last = m
		c.Marks = append(c.Marks, m)
		off += markSize
	}
	switch r.word(40) {
	case 0:
		if off != len(r) {
			return nil, bad(off, "end", "%d more bytes", len(r)-off)
		}
	case 1:
		t, err := decodeTree(r, off, c)
		if err != nil {
			return nil, err
		}
		c.Tree = t
	default:
		return nil, bad(40, "tree", "%d of them", r.word(40))
	}
	return c, nil
}
