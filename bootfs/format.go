// Package bootfs reads and writes BootFS, the archive that OSv's kernel carries and unpacks into its first root.
//
// # Layout
//
// A record of 128 bytes for each file, then one of zeros, then the contents with nothing between them. All integers are little
// endian.
//
//	 0  u64  size in bytes
//	 8  u64  offset of the content, from the archive's start
//	16  i8   type: 0 file or directory, 1 symbolic link
//	17  111  name, NUL-terminated
//
// A symbolic link's content is its target and a NUL, which the size counts. A directory has the size 0 and a name that ends in
// a slash; those that something else lies in need no record. Modes, owners, times and attributes are not stored; there are no
// check codes, and no magic number either: an archive is known by its first record.
//
// Source: scripts/mkbootfs.py and unpack_bootfs in fs/vfs/main.cc of github.com/cloudius-systems/osv at 0e34e4dc.
package bootfs

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/firstlight-boot/firstlight/tree"
)

const (
	// MaxName is the longest path in bytes, with the slash before it and, of a directory, the one behind it.
	MaxName = nameSize - 1

	recordSize = 128
	nameAt     = 17
	nameSize   = recordSize - nameAt

	typeFile = 0
	typeLink = 1
)

// What a *FormatError wraps. A failing device is none of these: its own error comes back as it is.
var (
	ErrFormat      = errors.New("malformed")
	ErrTruncated   = errors.New("truncated")
	ErrUnsupported = errors.New("BootFS cannot hold it")
)

// FormatError says where an archive is wrong.
type FormatError = tree.FormatError

func corrupt(off int64, field string, err error) error {
	return &FormatError{Format: "bootfs", Offset: off, Field: field, Err: err}
}

// record is a record as stored.
type record [recordSize]byte

func (r *record) size() uint64   { return binary.LittleEndian.Uint64(r[0:]) }
func (r *record) offset() uint64 { return binary.LittleEndian.Uint64(r[8:]) }
func (r *record) typ() byte      { return r[16] }

// end tells whether this is the record after the last.
func (r *record) end() bool { return r[nameAt] == 0 }

// name returns the name, and whether it ends as it should: in nothing but zeros.
func (r *record) name() (string, bool) {
	name, rest, ok := bytes.Cut(r[nameAt:], []byte{0})
	return string(name), ok && len(bytes.Trim(rest, "\x00")) == 0
}

func newRecord(size, offset int64, typ byte, name string) *record {
	var r record
	binary.LittleEndian.PutUint64(r[0:], uint64(size))
	binary.LittleEndian.PutUint64(r[8:], uint64(offset))
	r[16] = typ
	copy(r[nameAt:nameAt+MaxName], name)
	return &r
}

// Probe tells from header, of which 128 bytes are enough, whether an archive of size bytes begins with it. An archive without
// files is 128 zeros and nothing else.
func Probe(header []byte, size int64) bool {
	if len(header) < recordSize {
		return false
	}
	r := (*record)(header)
	if r.end() {
		return size == recordSize && *r == record{}
	}
	name, ok := r.name()
	return ok && name[0] == '/' && len(name) > 1 && r.typ() <= typeLink && r.offset() >= 2*recordSize && r.offset() <= uint64(size) && r.offset()%recordSize == 0
}
