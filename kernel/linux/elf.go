package linux

import "github.com/firstlight-boot/firstlight/kernel/vfs"

// Sizes and constants of ELF64 for x86-64 (System V ABI, gabi 4.1, chapters 4 and 5).
const (
	elfHeaderSize = 64
	progSize      = 56
	maxProgs      = 64
	maxInterp     = 4096 // PATH_MAX

	elfExec = 2
	elfDyn  = 3

	progLoad   = 1
	progInterp = 3
	progTLS    = 7

	segExec  = 1
	segWrite = 2
	segRead  = 4
)

// A badELF says why a program cannot be loaded; the text completes "PATH: ".
type badELF struct {
	err  vfs.Errno
	text string
}

func (b badELF) failed() bool { return b.err != 0 }

func notExec(text string) badELF { return badELF{vfs.ENOEXEC, text} }

// elfHeader is what loading needs of the file's header.
type elfHeader struct {
	pie    bool
	entry  uint64
	progAt uint64 // file offset of the program headers
	progs  int
}

// parseHeader checks the first bytes of a program; b has fewer than elfHeaderSize only if the file has.
func parseHeader(b []byte) (h elfHeader, bad badELF) {
	if len(b) >= 2 && b[0] == '#' && b[1] == '!' {
		return h, notExec("is a script; name its interpreter as the program instead")
	}
	if len(b) < elfHeaderSize || b[0] != 0x7f || b[1] != 'E' || b[2] != 'L' || b[3] != 'F' {
		return h, notExec("is not an ELF program")
	}
	const (
		class64, little, amd64 = 2, 1, 62
	)
	if b[4] != class64 || b[5] != little || le16(b[18:]) != amd64 {
		return h, notExec("is for another machine, not 64-bit x86")
	}
	typ := le16(b[16:])
	if typ != elfExec && typ != elfDyn {
		return h, notExec("is an ELF file but not a program")
	}
	h = elfHeader{pie: typ == elfDyn, entry: le64(b[24:]), progAt: le64(b[32:]), progs: int(le16(b[56:]))}
	if le16(b[54:]) != progSize || h.progs == 0 || h.progs > maxProgs || h.progAt > 1<<40 {
		return h, notExec("has malformed program headers")
	}
	return h, bad
}

// segment is one PT_LOAD. Addresses are as in the file.
type segment struct {
	va, memSize   uint64
	off, fileSize uint64
	kind          uint32 // protRead…
}

// elfLayout is a checked program: segments in ascending order that do not overlap, and whose ends do not overflow.
type elfLayout struct {
	segs      [maxProgs]segment
	n         int
	low, high uint64 // page-aligned bounds of the segments
	phdrs     uint64 // address of the program headers in memory, 0 if no segment holds them

	interpOff, interpSize uint64 // the dynamic linker's path and its zero in the file, 2 to maxInterp bytes; size 0 is none
}

// parseSegments checks the program headers p against the header and the size of the file.
func (l *elfLayout) parseSegments(h *elfHeader, p []byte, size uint64) badELF {
	for ; len(p) >= progSize; p = p[progSize:] {
		switch le32(p) {
		case progInterp:
			if l.interpSize != 0 {
				continue // Linux takes the first
			}
			l.interpOff, l.interpSize = le64(p[8:]), le64(p[32:])
			if l.interpSize < 2 || l.interpSize > maxInterp || l.interpOff > size || l.interpSize > size-l.interpOff {
				return notExec("has a malformed path of its dynamic linker")
			}
			continue
		case progLoad:
		default:
			continue
		}
		flags := le32(p[4:])
		s := segment{off: le64(p[8:]), va: le64(p[16:]), fileSize: le64(p[32:]), memSize: le64(p[40:])}
		if s.memSize == 0 {
			continue
		}
		if s.fileSize > s.memSize || s.off%pageSize != s.va%pageSize {
			return notExec("has a malformed segment")
		}
		if s.off > size || s.fileSize > size-s.off {
			return notExec("is cut short: a segment lies behind the end of the file")
		}
		limit := uint64(clockBase) // from there on others have their place: the clock's pages, the stack
		if h.pie {
			limit -= pieBase
		}
		if s.va >= limit || s.memSize > limit-s.va || !h.pie && s.va < userMin {
			return notExec("has a segment outside the address space of programs")
		}
		if l.n > 0 {
			if prev := &l.segs[l.n-1]; s.va < prev.va+prev.memSize {
				return notExec("has overlapping segments")
			}
		}
		if flags&segRead != 0 {
			s.kind |= protRead
		}
		if flags&segWrite != 0 {
			s.kind |= protWrite
		}
		if flags&segExec != 0 {
			s.kind |= protExec
		}
		if s.kind&(protWrite|protExec) == protWrite|protExec {
			return badELF{vfs.EACCES, "has a segment that is writable and executable, which is not allowed here"}
		}
		if l.n == 0 {
			l.low = pageDown(s.va)
		}
		l.high = pageUp(s.va + s.memSize)
		if h.progAt >= s.off && h.progAt+uint64(h.progs)*progSize <= s.off+s.fileSize {
			l.phdrs = s.va + h.progAt - s.off
		}
		l.segs[l.n] = s
		l.n++
	}
	if l.n == 0 {
		return notExec("has nothing to load")
	}
	if h.entry < l.low || h.entry >= l.high {
		return notExec("starts at an address where nothing is loaded")
	}
	return badELF{}
}
