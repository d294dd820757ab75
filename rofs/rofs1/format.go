// Package rofs1 reads and writes version 1 of ROFS, the read-only file system that OSv's kernel mounts.
//
// # Layout
//
// All integers are little endian; a block is 512 bytes and block numbers count from the file system's start.
//
//	superblock, in block 0:
//	    0  u64  magic 0x00000000deadbead
//	    8  u64  version 1
//	   16  u64  block size 512
//	   24  u64  first block of the structure info
//	   32  u64  number of its blocks, not 0
//	   40  u64  number of directory entries
//	   48  u64  number of symbolic links
//	   56  u64  number of inodes
//	structure info, three tables with nothing between them:
//	    directory entry   u64 inode number, u16 length, name
//	    symbolic link     u16 length, target
//	    inode             u64 mode, u64 its number, u64 data, u64 count
//
// Inode n is at index n-1, and 1 is the root. A mode is the bare type. A file's data is its first block, its count its bytes;
// a directory's are its first entry's index and the number of its entries, which are consecutive; a link's are its index
// and 1. A file's content is contiguous and padded to whole blocks. Modes, owners, times and attributes are not stored, and
// there are no check codes.
//
// Source: fs/rofs/rofs.hh, fs/rofs/rofs_vfsops.cc and scripts/gen-rofs-img.py of github.com/cloudius-systems/osv at 0e34e4dc.
// docs/osv.md says where the bytes that are written here differ from those of OSv's own tools, and why.
package rofs1

import (
	"encoding/binary"
	"io"

	"github.com/firstlight-boot/firstlight/rofs/format"
)

const (
	// BlockSize is the size of a block in bytes: the kernel knows no other.
	BlockSize = 512
	// MaxPath is the longest path that is read or written, in bytes: PATH_MAX of OSv's <limits.h> less its NUL. The kernel
	// cannot open what is deeper.
	MaxPath = 4095

	magic   = 0xdeadbead
	version = 1

	superSize  = 64
	inodeSize  = 32
	direntHead = 10
	linkHead   = 2

	typeMask = 0xf000
	typeDir  = 0x4000
	typeFile = 0x8000
	typeLink = 0xa000

	rootIno = 1
)

// super is a superblock.
type super struct {
	firstBlock, blocks        uint64 // of the structure info
	dirents, symlinks, inodes uint64
}

func (s *super) encode() []byte {
	b := make([]byte, 0, BlockSize)
	for _, v := range []uint64{magic, version, BlockSize, s.firstBlock, s.blocks, s.dirents, s.symlinks, s.inodes} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b[:BlockSize]
}

// inode is an inode as stored, without its number.
type inode struct{ mode, data, count uint64 }

func (n *inode) typ() uint64 { return n.mode & typeMask }

func (n *inode) append(b []byte, ino uint64) []byte {
	for _, v := range []uint64{n.mode, ino, n.data, n.count} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// Probe tells whether a file system begins with header, of which 16 bytes are enough.
func Probe(header []byte) bool {
	return len(header) >= 16 && binary.LittleEndian.Uint64(header) == magic && binary.LittleEndian.Uint64(header[8:]) == version
}

func corrupt(off int64, field string, err error) error {
	return &format.FormatError{Format: "rofs1", Offset: off, Field: field, Err: err}
}

// blocks returns how many blocks n bytes take.
func blocks(n int64) int64 { return (n + BlockSize - 1) / BlockSize }

// device turns the end of a file, which Open was told is elsewhere, into an error that no reader takes for the end of its own.
type device struct{ r io.ReaderAt }

func (d device) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.r.ReadAt(p, off)
	if n < len(p) && (err == io.EOF || err == io.ErrUnexpectedEOF) {
		return n, corrupt(off+int64(n), "image", format.ErrTruncated)
	}
	if n == len(p) {
		err = nil
	}
	return n, err
}
