package isomod

import (
	"encoding/binary"
	"io"
	"time"

	"github.com/firstlight-boot/firstlight/tree"
)

// Offsets in the primary volume descriptor and in a directory record (ECMA-119, sections 8.4 and 9.1).
const (
	volumeDescriptor = 16 * 2048
	pvdRoot          = 156 // the root folder's directory record
	recordExtent     = 2   // the first sector of the folder, whose first record is the folder's own
	recordNameLength = 32
)

const maxSystemUse = 2048 // bytes of one area of Rock Ridge's entries: they do not leave their sector

// setRoot sets what xorriso does not give to the folder that it extracts to: mode, owner and modification time of the root folder, from
// the Rock Ridge entries PX and TF of the folder's own record. What has no entry stays as it is.
func setRoot(r io.ReaderAt, e *tree.Entry) {
	read := func(off int64, n int) []byte {
		b := make([]byte, n)
		n, _ = r.ReadAt(b, off)
		return b[:n]
	}
	root := read(volumeDescriptor+pvdRoot, 34)
	if len(root) < 34 {
		return
	}
	record := read(2048*int64(binary.LittleEndian.Uint32(root[recordExtent:])), 256)
	if len(record) <= recordNameLength || int(record[0]) > len(record) {
		return
	}
	record = record[:record[0]]
	start := recordNameLength + 1
	if len(record) < start {
		return
	}
	start += int(record[recordNameLength])
	start += start & 1 // records are padded to even places
	if start > len(record) {
		return
	}
	areas := 2 // the record's, and one elsewhere; a chain of them may have no end
	for area := record[start:]; len(area) >= 4 && areas > 0; {
		n := int(area[2])
		if n < 4 || n > len(area) {
			return
		}
		entry := area[:n]
		area = area[n:]
		switch tag := string(entry[:2]); {
		case tag == "TF" && n >= 5:
			if at, ok := modified(entry[4], entry[5:]); ok {
				e.ModTime = at
			}
		case tag == "PX" && n >= 36: // mode, links, owner, group, each in both byte orders
			le := binary.LittleEndian
			if m, ok := tree.FileMode(le.Uint32(entry[4:])); ok && m.IsDir() {
				e.Mode, e.UID, e.GID = m, le.Uint32(entry[20:]), le.Uint32(entry[28:])
			}
		case tag == "CE" && n >= 28: // the rest is elsewhere: sector, byte, length, each in both byte orders
			areas--
			le := binary.LittleEndian
			area = read(2048*int64(le.Uint32(entry[4:]))+int64(le.Uint32(entry[12:])), int(min(le.Uint32(entry[20:]), maxSystemUse)))
		}
	}
}

// modified returns the modification time of a TF entry, the second of those whose flags are set if there is a creation time. Its form
// is 7 bytes: year from 1900, month, day, hour, minute, second, and quarters of hours east of Greenwich.
func modified(flags byte, times []byte) (time.Time, bool) {
	const creation, modification, long = 1, 2, 0x80
	if flags&modification == 0 || flags&long != 0 {
		return time.Time{}, false
	}
	if flags&creation != 0 {
		times = times[min(7, len(times)):]
	}
	if len(times) < 7 {
		return time.Time{}, false
	}
	t := time.Date(1900+int(times[0]), time.Month(times[1]), int(times[2]), int(times[3]), int(times[4]), int(times[5]), 0, time.UTC)
	return t.Add(-15 * time.Minute * time.Duration(int8(times[6]))), true
}
