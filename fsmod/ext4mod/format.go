// Package ext4mod makes images with ext4 available: written without a journal, with every block in use, for a root that is only
// read. Import it for its effect on fsmod's registry. docs/linux-images.md says why it is written here.
//
// Source: Linux, Documentation/filesystems/ext4, and fs/ext4/ext4.h and xattr.h.
package ext4mod

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/firstlight-boot/firstlight/fsmod"
)

// Layout, in blocks: 0 the superblock at byte 1024; the group descriptors; the groups' block bitmaps, then their inode bitmaps, then
// their inode tables, one behind the other, which feature flex_bg allows; what the files hold. There are no backups of the superblock,
// which feature sparse_super2 allows. Little endian throughout.
const (
	blockSize      = 4096
	blocksPerGroup = 8 * blockSize
	inodeSize      = 256
	inodesPerBlock = blockSize / inodeSize
	descSize       = 32

	superOff  = 1024
	superSize = 1024
	magic     = 0xef53
)

// Offsets in the superblock.
const (
	sbInodes      = 0
	sbBlocks      = 4
	sbFreeBlocks  = 12
	sbFreeInodes  = 16
	sbFirstData   = 20
	sbLogBlock    = 24
	sbLogCluster  = 28
	sbPerGroup    = 32
	sbClPerGroup  = 36
	sbInoPerGroup = 40
	sbMaxMounts   = 54
	sbMagic       = 56
	sbState       = 58
	sbErrors      = 60
	sbRevision    = 76
	sbFirstIno    = 84
	sbInodeSize   = 88
	sbCompat      = 92
	sbIncompat    = 96
	sbROCompat    = 100
	sbUUID        = 104
	sbHashSeed    = 236
	sbHashVersion = 252
	sbDescSize    = 254
	sbMinExtra    = 348
	sbWantExtra   = 350
	sbFlags       = 352
	sbLogFlex     = 372
)

// Features.
const (
	compatXattr        = 0x8
	compatSparseSuper2 = 0x200

	incompatFileType = 0x2
	incompatRecover  = 0x4
	incompatExtents  = 0x40
	incompat64Bit    = 0x80
	incompatMMP      = 0x100
	incompatFlexBG   = 0x200
	incompatCsumSeed = 0x2000
	incompatLargeDir = 0x4000
	incompatKnown    = incompatFileType | incompatExtents | incompat64Bit | incompatMMP | incompatFlexBG | incompatCsumSeed | incompatLargeDir

	roLargeFile  = 0x2
	roDirNlink   = 0x20
	roExtraIsize = 0x40
)

// Inodes with a fixed number.
const (
	rootIno  = 2
	lostIno  = 11 // lost+found, the first that is free to use
	firstIno = 12
)

// Offsets in an inode.
const (
	inMode       = 0
	inUID        = 2
	inSize       = 4
	inAtime      = 8
	inCtime      = 12
	inMtime      = 16
	inGID        = 24
	inLinks      = 26
	inBlocks     = 28
	inFlags      = 32
	inBlock      = 40
	inACL        = 104
	inSizeHigh   = 108
	inBlocksHigh = 116
	inACLHigh    = 118
	inUIDHigh    = 120
	inGIDHigh    = 122
	inExtra      = 128
	inCtimeExtra = 132
	inMtimeExtra = 136
	inAtimeExtra = 140
	inBaseSize   = 128
	extraSize    = 32

	blockArea = 60 // bytes of inBlock

	flagExtents = 0x80000
	flagInline  = 0x10000000
)

// Extents: a header of magic, entries, room and depth, and entries of 12 bytes.
const (
	extentMagic   = 0xf30a
	extentSize    = 12
	inodeExtents  = (blockArea - extentSize) / extentSize
	blockExtents  = (blockSize - extentSize) / extentSize
	maxExtent     = 32768 // blocks
	maxFileBlocks = inodeExtents * blockExtents * maxExtent
)

// Extended attributes: a block's header, and its entries.
const (
	xattrMagic  = 0xea020000
	xattrHeader = 32
	xattrEntry  = 16
)

// xattrPrefixes are the namespaces by their numbers.
var xattrPrefixes = []struct {
	index  byte
	prefix string
}{{1, "user."}, {4, "trusted."}, {6, "security."}}

const maxLinks = 65000 // EXT4_LINK_MAX; folders with more have 1, by feature dir_nlink

var le = binary.LittleEndian

// FormatError says what is wrong with a file system, and where. It wraps fsmod.ErrDamaged or fsmod.ErrUnsupported.
type FormatError struct {
	Format string // "ext4"
	Offset int64  // in bytes from the file system's start
	Field  string
	Err    error
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s: byte %d: %s: %v", e.Format, e.Offset, e.Field, e.Err)
}

func (e *FormatError) Unwrap() error { return e.Err }

func bad(off int64, field, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if !errors.Is(err, fsmod.ErrUnsupported) {
		err = fmt.Errorf("%w: %w", fsmod.ErrDamaged, err)
	}
	return &FormatError{"ext4", off, field, err}
}
