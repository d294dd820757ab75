package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// The GPT, after UEFI 2.10, section 5.3. Little endian.
//
//	header                              entry
//	0   8  "EFI PART"                   0   16  type GUID
//	8   4  revision 0x00010000          16  16  the partition's own GUID
//	12  4  header's size, 92            32   8  first LBA
//	16  4  CRC-32 of the header         40   8  last LBA
//	20  4  zero                         48   8  attributes
//	24  8  this header's LBA            56  72  name, UTF-16, zero-padded
//	32  8  the other header's LBA
//	40  8  first usable LBA
//	48  8  last usable LBA
//	56 16  disk GUID
//	72  8  first LBA of the entries
//	80  4  number of entries
//	84  4  size of an entry
//	88  4  CRC-32 of the entries
const (
	gptSignature  = "EFI PART"
	gptRevision   = 0x00010000
	gptHeaderSize = 92
	gptEntries    = 128
	gptEntrySize  = 128
	gptTableSize  = gptEntries * gptEntrySize
	gptFirstLBA   = 2 + gptTableSize/SectorSize // first usable
)

// guid is a GUID as it is stored: the first three groups little endian.
type guid [16]byte

// makeGUID makes a GUID of version 8 (RFC 9562, section 5.8) from the first 122 bits of data's SHA-256 digest that have
// room in it.
func makeGUID(data ...[]byte) guid {
	h := sha256.New()
	for _, d := range data {
		h.Write(d)
	}
	var g guid
	copy(g[:], h.Sum(nil))
	g[7] = g[7]&0x0f | 0x80
	g[8] = g[8]&0x3f | 0x80
	return g
}

func (g guid) String() string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08X-%04X-%04X-%X-%X", le.Uint32(g[0:]), le.Uint16(g[4:]), le.Uint16(g[6:]), g[8:10], g[10:16])
}

// partitionType is the type GUID of a partition by its name. The types are Firstlight's own, so that no desktop mounts
// an image's root because its type said Linux.
func partitionType(name string) guid { return makeGUID([]byte("firstlight partition type " + name)) }

// disk is what the partition tables say.
type disk struct {
	size  int64 // bytes
	id    guid
	parts []diskPart
}

type diskPart struct {
	name        string
	id          guid
	first, last int64 // LBA
}

// newDisk says what the tables of an image with these stored parameters hold.
func newDisk(params []byte, p *Params) *disk {
	d := &disk{id: makeGUID(params)}
	parts := append([]Partition{{Name: PartParams, Offset: firstPartition, Length: int64(len(params)), SHA256: digest(params)}}, p.Partitions...)
	for _, q := range parts {
		d.parts = append(d.parts, diskPart{q.Name, partitionGUID(q), q.Offset / SectorSize, q.end()/SectorSize - 1})
		d.size = diskSize(q.end())
	}
	return d
}

// entries returns the table of partition entries.
func (d *disk) entries() []byte {
	b := make([]byte, gptTableSize)
	for i, p := range d.parts {
		e := b[i*gptEntrySize:]
		t := partitionType(p.name)
		copy(e[0:], t[:])
		copy(e[16:], p.id[:])
		binary.LittleEndian.PutUint64(e[32:], uint64(p.first))
		binary.LittleEndian.PutUint64(e[40:], uint64(p.last))
		for j, c := range utf16.Encode([]rune(p.name)) {
			binary.LittleEndian.PutUint16(e[56+2*j:], c)
		}
	}
	return b
}

// header returns the sector of a GPT header at LBA self whose entries start at LBA table.
func (d *disk) header(self, other, table int64) []byte {
	b := make([]byte, SectorSize)
	le := binary.LittleEndian
	copy(b, gptSignature)
	le.PutUint32(b[8:], gptRevision)
	le.PutUint32(b[12:], gptHeaderSize)
	le.PutUint64(b[24:], uint64(self))
	le.PutUint64(b[32:], uint64(other))
	le.PutUint64(b[40:], gptFirstLBA)
	le.PutUint64(b[48:], uint64((d.size-backupSize)/SectorSize-1))
	copy(b[56:], d.id[:])
	le.PutUint64(b[72:], uint64(table))
	le.PutUint32(b[80:], gptEntries)
	le.PutUint32(b[84:], gptEntrySize)
	le.PutUint32(b[88:], crc32.ChecksumIEEE(d.entries()))
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:gptHeaderSize]))
	return b
}

// primary returns sectors 1 to 33.
func (d *disk) primary() []byte {
	return append(d.header(1, d.size/SectorSize-1, 2), d.entries()...)
}

// backup returns the disk's last 33 sectors.
func (d *disk) backup() []byte {
	last := d.size/SectorSize - 1
	return append(d.entries(), d.header(last, 1, last-gptTableSize/SectorSize)...)
}

// protectiveMBR fills in bytes 446-511 of sector 0.
func (d *disk) protectiveMBR(sector []byte) {
	e := sector[446:]
	copy(e[1:], []byte{0x00, 0x02, 0x00}) // CHS of LBA 1
	e[4] = 0xee
	copy(e[5:], []byte{0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(d.size/SectorSize-1, 0xffffffff)))
	sector[510], sector[511] = 0x55, 0xaa
}

// readGPT reads the header in sector lba and its entries, and checks both. It does not check that they are what this
// package would write: Verify does.
func readGPT(r io.ReaderAt, lba, size int64) (*disk, error) {
	off := lba * SectorSize
	bad := func(at int64, field string, err error) (*disk, error) {
		return nil, &FormatError{"GPT", at, field, err}
	}
	var h [gptHeaderSize]byte
	if err := readFull(r, h[:], off, size); err != nil {
		return bad(off, "header", err)
	}
	le := binary.LittleEndian
	if !bytes.HasPrefix(h[:], []byte(gptSignature)) {
		return bad(off, "signature", ErrFormat)
	}
	sum := le.Uint32(h[16:])
	le.PutUint32(h[16:], 0)
	if crc32.ChecksumIEEE(h[:]) != sum {
		return bad(off+16, "header's check code", ErrDamaged)
	}
	if v := le.Uint32(h[8:]); v != gptRevision {
		return bad(off+8, "revision", fmt.Errorf("%#x: %w", v, ErrUnsupported))
	}
	// A disk that was cut off still has this header; say so before anything is read that is gone.
	last := max(le.Uint64(h[24:]), le.Uint64(h[32:]))
	if last >= uint64(size/SectorSize) {
		return bad(off+32, "last sector", fmt.Errorf("%w: truncated: sector %d is the last, the file's %d bytes end before it", ErrDamaged, last, size))
	}
	if n, s := le.Uint32(h[80:]), le.Uint32(h[84:]); n != gptEntries || s != gptEntrySize {
		return bad(off+80, "entries", fmt.Errorf("%d of %d bytes: %w", n, s, ErrUnsupported))
	}
	lbaTable := le.Uint64(h[72:])
	if lbaTable > last {
		return bad(off+72, "first sector of the entries", fmt.Errorf("%w: %d is beyond the end", ErrDamaged, lbaTable))
	}
	table := make([]byte, gptTableSize)
	if err := readFull(r, table, int64(lbaTable)*SectorSize, size); err != nil {
		return bad(int64(lbaTable)*SectorSize, "entries", err)
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(h[88:]) {
		return bad(int64(lbaTable)*SectorSize, "check code of the entries", ErrDamaged)
	}
	d := &disk{size: size, id: guid(h[56:72])}
	for i := range gptEntries {
		e := table[i*gptEntrySize:][:gptEntrySize]
		if guid(e[:16]) == (guid{}) {
			continue
		}
		var name []uint16
		for j := 56; j < gptEntrySize; j += 2 {
			if c := le.Uint16(e[j:]); c != 0 {
				name = append(name, c)
			}
		}
		first, end := le.Uint64(e[32:]), le.Uint64(e[40:])
		if first > end || end > last {
			return bad(int64(lbaTable)*SectorSize+int64(i*gptEntrySize)+32, "partition's place",
				fmt.Errorf("%w: sectors %d to %d of %d", ErrDamaged, first, end, last+1))
		}
		d.parts = append(d.parts, diskPart{string(utf16.Decode(name)), guid(e[16:32]), int64(first), int64(end)})
	}
	return d, nil
}

// readFull fills b from offset off of the size bytes of r.
func readFull(r io.ReaderAt, b []byte, off, size int64) error {
	if off < 0 || off > size || int64(len(b)) > size-off {
		return fmt.Errorf("%w: truncated: bytes %d-%d lie beyond the end at %d", ErrDamaged, off, off+int64(len(b))-1, size)
	}
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
