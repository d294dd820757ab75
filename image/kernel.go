package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// ELF64, after the System V gABI, chapters 4 and 5: sizes and field offsets that this file needs.
const (
	elfHeaderSize = 64
	progSize      = 56

	ehType      = 16
	ehMachine   = 18
	ehPhoff     = 32
	ehShoff     = 40
	ehPhentsize = 54
	ehPhnum     = 56
	ehShentsize = 58
	ehShnum     = 60
	ehShstrndx  = 62

	phType   = 0
	phOffset = 8
	phPaddr  = 24
	phFilesz = 32

	ptLoad = 1
	ptNote = 4
)

// nativeKernel is a kernel file of the native flavour, as docs/guest-abi.md describes it.
type nativeKernel struct {
	file             []byte // the file, or as much of its start as is at hand
	progs            [][]byte
	paramsOffset     int64 // of the parameter area in the file
	noteOff, noteLen int64
}

// parseNative checks the headers of a kernel file of size bytes that starts with head.
func parseNative(head []byte, size int64) (*nativeKernel, error) {
	bad := func(off int64, field, format string, args ...any) (*nativeKernel, error) {
		return nil, &FormatError{"kernel", off, field, fmt.Errorf(format, args...)}
	}
	le := binary.LittleEndian
	if len(head) < elfHeaderSize || !bytes.HasPrefix(head, []byte("\x7fELF")) {
		return bad(0, "ELF header", "%w: not an ELF file", ErrFormat)
	}
	if head[4] != 2 || head[5] != 1 || le.Uint16(head[ehMachine:]) != 62 {
		return bad(4, "ELF header", "%w: not a 64-bit x86 file", ErrUnsupported)
	}
	if t := le.Uint16(head[ehType:]); t != 2 {
		return bad(ehType, "ELF type", "%w: %d, a kernel has 2 (EXEC)", ErrUnsupported, t)
	}
	n := int(le.Uint16(head[ehPhnum:]))
	off := le.Uint64(head[ehPhoff:])
	if n < 1 || n > abi.MaxDiskSegments || le.Uint16(head[ehPhentsize:]) != progSize {
		return bad(ehPhnum, "program headers", "%w: %d of %d bytes; a kernel has 1 to %d of %d", ErrUnsupported, n, le.Uint16(head[ehPhentsize:]), abi.MaxDiskSegments, progSize)
	}
	if off > uint64(len(head)) || uint64(n*progSize) > uint64(len(head))-off {
		return bad(ehPhoff, "program headers", "%w: they do not lie in the first %d bytes", ErrUnsupported, abi.KernelHeaderSize)
	}
	k := &nativeKernel{file: head}
	for i := range n {
		p := head[int(off)+i*progSize:][:progSize]
		po, fs := le.Uint64(p[phOffset:]), le.Uint64(p[phFilesz:])
		if po > uint64(size) || fs > uint64(size)-po {
			return bad(int64(off)+int64(i*progSize)+phOffset, "segment", "%w: bytes %d + %d lie beyond the file's end at %d", ErrDamaged, po, fs, size)
		}
		switch le.Uint32(p[phType:]) {
		case ptLoad:
			if po < abi.KernelHeaderSize || (po-le.Uint64(p[phPaddr:]))%Align != 0 {
				return bad(int64(off)+int64(i*progSize)+phOffset, "segment", "%w: offset %#x does not fit a disk (see docs/guest-abi.md)", ErrUnsupported, po)
			}
		case ptNote:
			k.noteOff, k.noteLen = int64(po), int64(fs)
		}
		k.progs = append(k.progs, p)
	}
	if k.noteLen == 0 {
		return bad(int64(off), "program headers", "%w: no notes; is this a kernel made by kernel/link?", ErrUnsupported)
	}
	return k, nil
}

// findParams finds the parameter area of a whole kernel file.
func (k *nativeKernel) findParams() error {
	bad := func(off int64, field, format string, args ...any) error {
		return &FormatError{"kernel", off, field, fmt.Errorf(format, args...)}
	}
	le := binary.LittleEndian
	b := k.file[k.noteOff:][:k.noteLen]
	at := k.noteOff
	pvh := false
	for len(b) >= 12 {
		nameLen, descLen, typ := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
		descAt := 12 + (nameLen+3)&^3
		next := descAt + (descLen+3)&^3
		if descAt+descLen > uint64(len(b)) {
			return bad(at, "note", "%w: it is longer than its segment", ErrDamaged)
		}
		name := strings.TrimRight(string(b[12:12+nameLen]), "\x00")
		desc := b[descAt:][:descLen]
		switch {
		case name == abi.XenNoteName && typ == abi.XenNotePhys32:
			pvh = true
		case name == abi.NoteName && typ == abi.NoteParams:
			if descLen != abi.ParamsSize {
				return bad(at, "parameter area", "%w: %d bytes, want %d", ErrUnsupported, descLen, abi.ParamsSize)
			}
			k.paramsOffset = at + int64(descAt)
		case name == abi.NoteName && typ == abi.NoteBuild:
			for line := range strings.Lines(string(desc)) {
				if v, ok := strings.CutPrefix(strings.TrimSpace(line), "abi="); ok && v != strconv.Itoa(abi.Version) {
					return bad(at, "build note", "%w: the kernel's abi is %s, this program's %d", ErrUnsupported, v, abi.Version)
				}
			}
		}
		next = min(next, uint64(len(b)))
		b, at = b[next:], at+int64(next)
	}
	switch {
	case !pvh:
		return bad(k.noteOff, "notes", "%w: no PVH entry", ErrUnsupported)
	case k.paramsOffset == 0:
		return bad(k.noteOff, "notes", "%w: no parameter area", ErrUnsupported)
	}
	return nil
}

// bootSector fills in bytes 0-445 of sector 0 for a kernel that lies at offset on the disk.
func (k *nativeKernel) bootSector(sector []byte, offset int64) {
	le := binary.LittleEndian
	copy(sector, k.file[:elfHeaderSize])
	le.PutUint64(sector[ehPhoff:], elfHeaderSize)
	le.PutUint64(sector[ehShoff:], 0)
	le.PutUint16(sector[ehShentsize:], 0)
	le.PutUint16(sector[ehShnum:], 0)
	le.PutUint16(sector[ehShstrndx:], 0)
	for i, p := range k.progs {
		q := sector[elfHeaderSize+i*progSize:][:progSize]
		copy(q, p)
		le.PutUint64(q[phOffset:], le.Uint64(p[phOffset:])+uint64(offset))
	}
}

// parseKernel checks a whole kernel file and finds its parameter area.
func parseKernel(file []byte) (*nativeKernel, error) {
	k, err := parseNative(file[:min(len(file), abi.KernelHeaderSize)], int64(len(file)))
	if err != nil {
		return nil, err
	}
	k.file = file
	return k, k.findParams()
}

// CheckKernel tells whether a kernel file of the native flavour is one that an image can hold.
func CheckKernel(file []byte) error {
	_, err := parseKernel(file)
	return err
}

// ClearParams fills the parameter area of a kernel file of the native flavour with zeros: what is left is the kernel as it
// was built.
func ClearParams(file []byte) error {
	k, err := parseKernel(file)
	if err != nil {
		return err
	}
	clear(file[k.paramsOffset:][:abi.ParamsSize])
	return nil
}

// guestParams returns the parameter area of a kernel that boots p.
func guestParams(p *Params) ([]byte, error) {
	root, _ := p.find(PartRoot)
	var words []string
	for _, a := range p.Args {
		words = append(words, "arg="+a)
	}
	for _, e := range p.Env {
		words = append(words, "env="+e)
	}
	if p.Cwd != "" {
		words = append(words, "cwd="+p.Cwd)
	}
	words = append(words, fmt.Sprintf("root=%s:%d:%d", p.Root.Module, root.Offset, root.Length))
	area := make([]byte, 0, abi.ParamsSize)
	for _, w := range words {
		if strings.ContainsRune(w, 0) {
			return nil, fmt.Errorf("parameter %q contains a NUL byte", w)
		}
		area = append(append(area, w...), 0)
	}
	if len(area) >= abi.ParamsSize {
		return nil, fmt.Errorf("arguments and environment: %w: they take %d bytes, the kernel has room for %d", ErrTooLarge, len(area), abi.ParamsSize-1)
	}
	return area[:abi.ParamsSize], nil
}
