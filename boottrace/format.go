package boottrace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The file `recording.fl`. Numbers are little endian, check codes are CRC-32C.
//
//	header, 16 bytes
//	  0   8  magic "FLRECORD"
//	  8   4  version
//	 12   4  check code of bytes 0 to 11
//	section, any number
//	  0   4  tag; a tag that begins with a lower-case letter may be skipped by a reader that does not know it
//	  4   4  check code of bytes 0 to 3, 8 to 23 and the stored bytes
//	  8   8  length of the stored bytes
//	 16   8  length of them decompressed
//	 24      stored bytes: a DEFLATE stream
//	the last section is "END.", with nothing in it and nothing after it
//
// Section "BOOT", the first, is the Recording without its runs, and each section "RUN." is one Run, both as JSON. Since version 2
// what there may be millions of is in sections of rows, which belong to the last "RUN." or "PROF" before them; the latter starts a
// profile. Each has a count of rows, and then a column after the other with a number for each row: unsigned LEB128, a delta to
// the row before (D) in zigzag form. Strings are indices into the rows of STRS of the same run or profile so far.
//
//	STRS  length; then the bytes of all of them
//	IORQ  op, disk, offset D, length, start in ns D, ns, instructions D, number of parts; then for all parts of all rows: path, what,
//	      offset, length
//	PROF  kind (string: length and bytes), period in ns, number of phases, the phases (strings)
//	FUNC  name, system name, file, line
//	MAPS  name, build ID, start, limit, offset
//	LOCS  mapping + 1, address D, number of lines; then for all lines of all rows: function, line
//	STKS  own index - parent, location + 1 D, first D
//	SMPS  stack D, phase + 1, CPU, user (0 or 1), instructions, touched bytes, ns, count
const (
	version     = 2
	oldest      = 1 // the first version that is still read
	headerSize  = 16
	sectionSize = 24

	// maxRaw bounds a section's decompressed length, and with it what a hostile file can make a reader allocate.
	maxRaw = 4 << 20
	// maxRatio is DEFLATE's: no stream expands further.
	maxRatio = 1032
	// maxTotal bounds the decompressed length of all sections.
	maxTotal = 1 << 30
	// chunkSize is about how long a section of rows is, decompressed.
	chunkSize = 1 << 20
)

// Bounds of a recording. What is counted by the million is bounded so that a hostile file of a few KB cannot fill the memory.
const (
	MaxStacks    = 1 << 22
	MaxSamples   = 1 << 22
	MaxLocations = 1 << 21
	MaxFunctions = 1 << 20
	MaxMappings  = 1 << 16
	MaxPhases    = 1 << 10
	MaxInlined   = 1 << 8 // functions of one location
	MaxName      = 1 << 16
	MaxParts     = 1 << 18 // of all disk requests of a run
	maxStrings   = 3*MaxFunctions + 2*MaxMappings
	maxText      = 1 << 28 // bytes of all strings of a run or a profile
)

var (
	magic   = [8]byte([]byte("FLRECORD"))
	tagBoot = [4]byte([]byte("BOOT"))
	tagRun  = [4]byte([]byte("RUN."))
	tagEnd  = [4]byte([]byte("END."))

	tagRequests  = [4]byte([]byte("IORQ"))
	tagProfile   = [4]byte([]byte("PROF"))
	tagStrings   = [4]byte([]byte("STRS"))
	tagFunctions = [4]byte([]byte("FUNC"))
	tagMappings  = [4]byte([]byte("MAPS"))
	tagLocations = [4]byte([]byte("LOCS"))
	tagStacks    = [4]byte([]byte("STKS"))
	tagSamples   = [4]byte([]byte("SMPS"))

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// What a FormatError wraps; the writer's errors wrap ErrTooLarge too.
var (
	ErrFormat      = errors.New("not a Firstlight recording")
	ErrUnsupported = errors.New("made by a newer version of Firstlight")
	ErrChecksum    = errors.New("check code is wrong")
	ErrTruncated   = errors.New("file is truncated")
	ErrTooLarge    = errors.New("too large")
)

// FormatError says what is wrong with a recording, and where.
type FormatError struct {
	Offset int64  // of the field in the file
	Field  string // what was being read
	Err    error  // wraps one of the sentinels above
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("recording: %s at byte %d: %v", e.Field, e.Offset, e.Err)
}

func (e *FormatError) Unwrap() error { return e.Err }

type header [headerSize]byte

func (h *header) magic() [8]byte      { return [8]byte(h[0:8]) }
func (h *header) setMagic()           { copy(h[0:8], magic[:]) }
func (h *header) version() uint32     { return binary.LittleEndian.Uint32(h[8:12]) }
func (h *header) setVersion(v uint32) { binary.LittleEndian.PutUint32(h[8:12], v) }
func (h *header) check() uint32       { return binary.LittleEndian.Uint32(h[12:16]) }
func (h *header) setCheck(c uint32)   { binary.LittleEndian.PutUint32(h[12:16], c) }
func (h *header) sum() uint32         { return crc32.Checksum(h[0:12], castagnoli) }

type section [sectionSize]byte

func (s *section) tag() [4]byte       { return [4]byte(s[0:4]) }
func (s *section) setTag(t [4]byte)   { copy(s[0:4], t[:]) }
func (s *section) check() uint32      { return binary.LittleEndian.Uint32(s[4:8]) }
func (s *section) setCheck(c uint32)  { binary.LittleEndian.PutUint32(s[4:8], c) }
func (s *section) stored() uint64     { return binary.LittleEndian.Uint64(s[8:16]) }
func (s *section) setStored(n uint64) { binary.LittleEndian.PutUint64(s[8:16], n) }
func (s *section) rawLen() uint64     { return binary.LittleEndian.Uint64(s[16:24]) }
func (s *section) setRawLen(n uint64) { binary.LittleEndian.PutUint64(s[16:24], n) }

// sum is the check code of the section with these stored bytes.
func (s *section) sum(stored []byte) uint32 {
	c := crc32.Checksum(s[0:4], castagnoli)
	c = crc32.Update(c, castagnoli, s[8:24])
	return crc32.Update(c, castagnoli, stored)
}

// checkWritable says why a profile cannot go into a recording, in the place of the given kind. There may be none.
func (p *Profile) checkWritable(kind ProfileKind) error {
	if p == nil {
		return nil
	}
	if p.Kind != kind {
		return fmt.Errorf("recording: a profile of kind %q in the place of the %s one", p.Kind, kind)
	}
	if err := errors.Join(p.checkSize(), p.CheckValid()); err != nil {
		return fmt.Errorf("recording: %s profile: %w", kind, err)
	}
	return nil
}

// checkIO says what of the disk requests cannot be in a recording.
func (run *Run) checkIO() error {
	parts := 0
	for i, q := range run.IO {
		if q.Disk < 0 || q.Disk > math.MaxInt32 || q.StartNanos < 0 || q.StartNanos > maxNanos || q.Nanos < 0 || q.Nanos > maxNanos {
			return fmt.Errorf("disk request %d: disk %d, start_ns %d, ns %d", i, q.Disk, q.StartNanos, q.Nanos)
		}
		if q.Length > math.MaxUint64-q.Offset {
			return fmt.Errorf("disk request %d: %d bytes at %d", i, q.Length, q.Offset)
		}
		if len(q.Op) > MaxName {
			return fmt.Errorf("%w: disk request %d: an operation of %d bytes", ErrTooLarge, i, len(q.Op))
		}
		for _, part := range q.Parts {
			if len(part.Path) > MaxName || len(part.What) > MaxName {
				return fmt.Errorf("%w: disk request %d: a path of %d bytes", ErrTooLarge, i, len(part.Path))
			}
			if part.Length > math.MaxUint64-part.Offset {
				return fmt.Errorf("disk request %d: %d bytes at %d of %s", i, part.Length, part.Offset, part.Path)
			}
		}
		if parts += len(q.Parts); parts > MaxParts {
			return fmt.Errorf("%w: disk requests of more than %d parts", ErrTooLarge, MaxParts)
		}
	}
	return nil
}

// checkSize says what of a profile is too large for a recording.
func (p *Profile) checkSize() error {
	for _, n := range []struct {
		what      string
		have, max int
	}{
		{"stacks", len(p.Stacks), MaxStacks}, {"samples", len(p.Samples), MaxSamples}, {"locations", len(p.Locations), MaxLocations},
		{"functions", len(p.Functions), MaxFunctions}, {"mappings", len(p.Mappings), MaxMappings}, {"phases", len(p.Phases), MaxPhases},
	} {
		if n.have > n.max {
			return fmt.Errorf("%w: %d %s; at most %d are kept", ErrTooLarge, n.have, n.what, n.max)
		}
	}
	long := func(what string, i int, names ...string) error {
		for _, name := range names {
			if len(name) > MaxName {
				return fmt.Errorf("%w: %s %d has a name of %d bytes", ErrTooLarge, what, i, len(name))
			}
		}
		return nil
	}
	for i, name := range p.Phases {
		if err := long("phase", i, name); err != nil {
			return err
		}
	}
	for i, f := range p.Functions {
		if err := long("function", i, f.Name, f.System, f.File); err != nil {
			return err
		}
		if f.Line < 0 || f.Line > math.MaxInt32 {
			return fmt.Errorf("function %d starts at line %d", i, f.Line)
		}
	}
	for i, m := range p.Mappings {
		if err := long("mapping", i, m.Name, m.BuildID); err != nil {
			return err
		}
	}
	for i, l := range p.Locations {
		if len(l.Lines) > MaxInlined {
			return fmt.Errorf("%w: location %d has %d functions inlined", ErrTooLarge, i, len(l.Lines))
		}
		for _, line := range l.Lines {
			if line.Line < 0 || line.Line > math.MaxInt32 {
				return fmt.Errorf("location %d: line %d", i, line.Line)
			}
		}
	}
	for i, s := range p.Samples {
		if s.CPU > math.MaxInt32 {
			return fmt.Errorf("sample %d: CPU %d", i, s.CPU)
		}
	}
	return nil
}
