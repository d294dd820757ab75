package imgmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"
)

// partition is a part of a disk.
type partition struct {
	name      string
	off, size int64 // in bytes
}

// sectorSize is the unit of partition tables. Disks with sectors of 4096 bytes are not read.
const sectorSize = 512

// Sizes of a GPT that are read: UEFI 2.10, section 5.3, asks for room for 128 entries, and there are hardly ever more.
const (
	gptSignature  = "EFI PART"
	gptHeaderSize = 92
	minEntrySize  = 128
	maxEntrySize  = 4096
	maxEntries    = 1024
)

// ErrDamaged is wrapped by errors about a partition table that cannot be right.
var ErrDamaged = errors.New("damaged partition table")

// partitions lists the partitions of a disk and its partition tables; none where it has no table.
func partitions(r io.ReaderAt, size int64) ([]partition, error) {
	b := make([]byte, 2*sectorSize)
	if n, err := r.ReadAt(b, 0); n < len(b) {
		if err == io.EOF {
			return nil, nil // too short for a table
		}
		return nil, fmt.Errorf("partition table: %w", err)
	}
	if string(b[sectorSize:sectorSize+len(gptSignature)]) == gptSignature {
		parts, err := gpt(r, size, b[sectorSize:])
		if err != nil {
			return nil, fmt.Errorf("GPT: %w", err)
		}
		return parts, nil
	}
	return mbr(size, b), nil
}

// gpt reads a GPT by its header. Its layout is in image/gpt.go.
func gpt(r io.ReaderAt, size int64, header []byte) ([]partition, error) {
	le := binary.LittleEndian
	headerSize := le.Uint32(header[12:])
	if headerSize < gptHeaderSize || headerSize > sectorSize {
		return nil, fmt.Errorf("%w: a header of %d bytes", ErrDamaged, headerSize)
	}
	header = append([]byte(nil), header[:headerSize]...)
	sum := le.Uint32(header[16:])
	le.PutUint32(header[16:], 0)
	if crc32.ChecksumIEEE(header) != sum {
		return nil, fmt.Errorf("%w: the header's check code is wrong", ErrDamaged)
	}
	first, count, entrySize := le.Uint64(header[72:]), le.Uint32(header[80:]), le.Uint32(header[84:])
	if count > maxEntries || entrySize < minEntrySize || entrySize > maxEntrySize || first > uint64(size)/sectorSize {
		return nil, fmt.Errorf("%w: %d entries of %d bytes from sector %d on", ErrDamaged, count, entrySize, first)
	}
	entries := make([]byte, count*entrySize)
	if n, err := r.ReadAt(entries, int64(first)*sectorSize); n < len(entries) {
		return nil, fmt.Errorf("entries: %w", err)
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(header[88:]) {
		return nil, fmt.Errorf("%w: the check code of the entries is wrong", ErrDamaged)
	}
	// The table reaches to the first sector that partitions may use; after the last one is its copy.
	usable, last := le.Uint64(header[40:]), le.Uint64(header[48:])
	sectors := uint64(size) / sectorSize
	if usable > last || last >= sectors {
		return nil, fmt.Errorf("%w: partitions from sector %d to %d on a disk of %d sectors", ErrDamaged, usable, last, sectors)
	}
	parts := []partition{{tableName, 0, int64(usable) * sectorSize}, {tableName, int64(last+1) * sectorSize, int64(sectors-last-1) * sectorSize}}
	for i := range int(count) {
		e := entries[i*int(entrySize):][:entrySize]
		if [16]byte(e) == [16]byte{} {
			continue
		}
		from, to := le.Uint64(e[32:]), le.Uint64(e[40:])
		if from < usable || from > to || to > last {
			return nil, fmt.Errorf("%w: entry %d has sectors %d to %d of %d to %d", ErrDamaged, i+1, from, to, usable, last)
		}
		parts = append(parts, partition{gptName(e[56:128], i), int64(from) * sectorSize, int64(to-from+1) * sectorSize})
	}
	return parts, nil
}

// gptName is the name of entry i, or its number.
func gptName(b []byte, i int) string {
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	name := strings.TrimSpace(string(utf16.Decode(units)))
	if name == "" || name == tableName || name == "data" { // which mean something else in a boottrace.Part
		return numbered(i)
	}
	return name
}

func numbered(i int) string { return fmt.Sprintf("partition %d", i+1) }

// mbr reads an MBR's four entries: status, 3 bytes, type, 3 bytes, first sector, number of sectors. A sector that merely ends like
// one, as the first of a FAT file system does, has entries that cannot be.
func mbr(size int64, sector []byte) []partition {
	if sector[510] != 0x55 || sector[511] != 0xaa {
		return nil
	}
	le := binary.LittleEndian
	parts := []partition{{tableName, 0, sectorSize}}
	for i := range 4 {
		e := sector[446+16*i:][:16]
		first, count := int64(le.Uint32(e[8:])), int64(le.Uint32(e[12:]))
		switch {
		case [16]byte(e) == [16]byte{}:
			continue
		case e[0]&0x7f != 0 || e[4] == 0 || first == 0 || count == 0 || first+count > size/sectorSize:
			return nil
		}
		parts = append(parts, partition{numbered(i), first * sectorSize, count * sectorSize})
	}
	if len(parts) == 1 {
		return nil
	}
	return parts
}
