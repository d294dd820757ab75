package boottrace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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
// Section "BOOT", the first, is the Recording without its runs, and each section "RUN." is one Run, both as JSON. What later
// versions measure by the million gets sections of its own.
const (
	version     = 1
	headerSize  = 16
	sectionSize = 24

	// maxRaw bounds a section's decompressed length, and with it what a hostile file can make a reader allocate.
	maxRaw = 4 << 20
	// maxRatio is DEFLATE's: no stream expands further.
	maxRatio = 1032
)

var (
	magic   = [8]byte([]byte("FLRECORD"))
	tagBoot = [4]byte([]byte("BOOT"))
	tagRun  = [4]byte([]byte("RUN."))
	tagEnd  = [4]byte([]byte("END."))

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// What a FormatError wraps.
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
