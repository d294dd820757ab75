// Package newc fills a ramfs from an initial RAM disk: cpio archives of the format newc, one behind the other, each of which
// may be compressed, as Linux takes them. Files keep their contents where the archive has them (ramfs.Node.SetBase). It is for
// the kernel, so it imports next to nothing.
//
// Sources: Linux, Documentation/driver-api/early-userspace/buffer-format.rst, init/initramfs.c.
package newc

import "github.com/firstlight-boot/firstlight/ramfs"

// Error is a fault of an archive.
type Error struct {
	Offset int    // in bytes from the start of the initial RAM disk, or of what it is unpacked
	Packed bool   // Offset counts in what was unpacked
	Text   string // what is wrong there
}

func (e *Error) Error() string {
	where := "at byte "
	if e.Packed {
		where = "at byte of the unpacked archive "
	}
	return where + decimal(e.Offset) + ": " + e.Text
}

func decimal(n int) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = '0' + byte(n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

// Memory is where archives lie. Its Backing gets back what Use was called with, in the same pieces.
type Memory interface {
	// Make returns memory for n bytes that are to be unpacked, with undefined contents; nil means that there is none.
	Make(n int) []byte
	// Cut says that of what Make returned only the first n bytes are in use.
	Cut(b []byte, n int)
	// Use says that b is the contents of a file, which keeps it until Release.
	Use(b []byte)
	ramfs.Backing
}

// Heap is the Memory of a Go program: the number of bytes that it makes at most, at once.
type Heap int

// Make implements Memory.
func (h Heap) Make(n int) []byte {
	if n > int(h) {
		return nil
	}
	return make([]byte, n)
}

// Cut, and the rest, do nothing.
func (Heap) Cut([]byte, int)         {}
func (Heap) Use([]byte)              {}
func (Heap) Release([]byte)          {}
func (Heap) Adopt([]byte) ramfs.Page { return 0 }

// A header is 110 bytes: a magic number and 13 numbers of eight hexadecimal digits.
const (
	magicLen  = 6
	headerLen = magicLen + 13*8

	fieldIno = iota - 2
	fieldMode
	fieldUID
	fieldGID
	fieldNlink
	fieldMtime
	fieldSize
	fieldMajor
	fieldMinor
	fieldRdevMajor
	fieldRdevMinor
	fieldNameLen
	fieldCheck
	numFields
)

const (
	magicPlain = "070701"
	magicCheck = "070702" // the last field is the sum of a regular file's bytes
	trailer    = "TRAILER!!!"
	pathMax    = 4096 // with the final NUL
	maxLevels  = 256  // of folders
)

// Load fills f from the initial RAM disk b. The error is an *Error, or a ramfs.Errno when f is full. f has then part of it.
func Load(f *ramfs.FS, b []byte, m Memory) error {
	l := loader{root: f.Root(), mem: m}
	if err := l.all(b, false); err != nil {
		return err
	}
	for i := range l.dirs {
		d := &l.dirs[i]
		d.n.SetTimes(d.mtime, d.mtime)
	}
	return nil
}

type loader struct {
	root  *ramfs.Node
	mem   Memory
	links map[linkKey]*ramfs.Node
	dirs  []dirTime   // a directory's time is set when nothing is added any more
	last  *ramfs.Node // directory of the last entry
	path  string      // of last
	check bool
	field [numFields]uint32
}

type linkKey struct{ major, minor, ino uint32 }

type dirTime struct {
	n     *ramfs.Node
	mtime int64
}

// all loads the archives in b, with zeros between them.
func (l *loader) all(b []byte, packed bool) error {
	found := false
	for pos := 0; ; {
		for pos < len(b) && b[pos] == 0 {
			pos++
		}
		if pos == len(b) {
			if !found {
				return &Error{0, packed, "there is no archive"}
			}
			return nil
		}
		found = true
		rest := b[pos:]
		if len(rest) >= magicLen && (string(rest[:magicLen]) == magicPlain || string(rest[:magicLen]) == magicCheck) {
			n, err := l.archive(rest)
			if err != nil {
				if e, ok := err.(*Error); ok {
					e.Offset += pos
					e.Packed = packed
				}
				return err
			}
			pos += n
			continue
		}
		if packed {
			return &Error{pos, packed, "neither an entry of a cpio archive in format newc nor zeros"}
		}
		in, out, text := Measure(rest)
		if text != "" {
			return &Error{pos, packed, text}
		}
		dst := l.mem.Make(out)
		if dst == nil {
			return ramfs.ENOSPC
		}
		n := Unpack(dst, rest[:in])
		if n < 0 {
			return &Error{pos, packed, "the compressed archive is damaged"}
		}
		l.mem.Cut(dst, n)
		if err := l.all(dst[:n:n], true); err != nil {
			return err
		}
		pos += in
	}
}

// archive loads the archive that b begins with and returns its length.
func (l *loader) archive(b []byte) (int, error) {
	l.links = nil
	for pos := 0; ; {
		fail := func(text string) (int, error) { return 0, &Error{Offset: pos, Text: text} }
		if len(b)-pos < headerLen {
			return fail("the archive ends without its trailer: is it cut short?")
		}
		h := b[pos : pos+headerLen]
		switch string(h[:magicLen]) {
		case magicPlain:
			l.check = false
		case magicCheck:
			l.check = true
		default:
			return fail("no entry of a cpio archive in format newc")
		}
		for i := range l.field {
			v, ok := hex(h[magicLen+8*i:])
			if !ok {
				return fail("a number in the entry's header is not hexadecimal")
			}
			l.field[i] = v
		}
		// All sizes are below 4 GiB, so int holds the sums.
		nameLen := int(l.field[fieldNameLen])
		if nameLen < 2 || nameLen > pathMax || nameLen > len(b)-pos-headerLen {
			return fail("the entry's name is empty, too long or cut short")
		}
		name := b[pos+headerLen : pos+headerLen+nameLen]
		end := 0
		for end < nameLen && name[end] != 0 {
			end++
		}
		if end == nameLen || end == 0 {
			return fail("the entry's name is empty or does not end")
		}
		start := align(pos + headerLen + nameLen)
		size := int(l.field[fieldSize])
		if string(name[:end]) == trailer {
			return min(start, len(b)), nil
		}
		if start > len(b) || size > len(b)-start {
			return fail("the contents of " + string(name[:end]) + " are cut short")
		}
		data := b[start : start+size : start+size]
		if l.check && l.field[fieldMode]&ramfs.TypeMask == ramfs.TypeReg && sum(data) != l.field[fieldCheck] {
			return fail("the contents of " + string(name[:end]) + " do not have their sum")
		}
		if err := l.entry(string(name[:end]), data); err != nil {
			if e, ok := err.(*Error); ok {
				e.Offset = pos
			}
			return 0, err
		}
		pos = align(start + size)
	}
}

func align(n int) int { return (n + 3) &^ 3 }

func sum(b []byte) (s uint32) {
	for _, c := range b {
		s += uint32(c)
	}
	return s
}

// hex reads eight digits.
func hex(b []byte) (v uint32, ok bool) {
	for _, c := range b[:8] {
		var d byte
		switch {
		case c >= '0' && c <= '9':
			d = c - '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			d = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		v = v<<4 | uint32(d)
	}
	return v, true
}
