package symbols

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// The table of functions that every Go program carries, as Go 1.18 and later write it: runtime/symtab.go (pcHeader, moduledata),
// runtime/runtime2.go (_func), runtime/symtabinl.go (inlinedCall), internal/abi/symtab.go (numbers). All offsets are of 64-bit
// little-endian machines.
const (
	go118Magic = 0xfffffff0 // Go 1.18 and 1.19
	go120Magic = 0xfffffff1 // Go 1.20 and later

	// pcHeader
	pcMagic     = 0
	pcMinLC     = 6
	pcPtrSize   = 7
	pcNumFuncs  = 8
	pcFuncNames = 32
	pcUnits     = 40
	pcFiles     = 48
	pcTables    = 56
	pcFuncs     = 64
	pcSize      = 72

	// _func
	fnEntry   = 0
	fnName    = 4
	fnFileTab = 20
	fnLineTab = 24
	fnNumData = 28
	fnUnit    = 32
	fnLine    = 36 // Go 1.20 and later
	fnSize    = 44
	fnSize118 = 40 // without fnLine

	// inlinedCall
	inlName   = 4
	inlParent = 8
	inlLine   = 12
	inlSize   = 16
	// in Go 1.18 and 1.19, with file and line of the call in it
	inlName118   = 12
	inlParent118 = 16
	inlSize118   = 20

	pcdataInlTree   = 2
	funcdataInlTree = 3

	// moduledata, in words
	modMinPC     = 20
	modMaxPC     = 21
	modText      = 22
	modGoFunc118 = 38
	modGoFunc    = 40
	modWords     = 41

	maxInlineDepth = 128
)

// pclntab is a Go program's table of functions.
type pclntab struct {
	go118  bool
	quanta uint64 // minimal instruction size
	text   uint64 // address that entries are relative to
	n      int    // functions

	names, units, files, tables, funcs []byte

	// inlines returns the bytes at an offset of what funcdata offsets are relative to; nil if that is not known.
	inlines func(off, n uint64) []byte
}

// parsePclntab reads the header. text is the address of the program's text, as moduledata has it.
func parsePclntab(b []byte, text uint64) (*pclntab, error) {
	bad := func(off int64, field string, err error) (*pclntab, error) {
		return nil, &FormatError{"pclntab", off, field, err}
	}
	if len(b) < pcSize {
		return bad(0, "header", fmt.Errorf("%w: %d bytes", ErrFormat, len(b)))
	}
	le := binary.LittleEndian
	magic := le.Uint32(b)
	if magic != go118Magic && magic != go120Magic {
		return bad(pcMagic, "magic", fmt.Errorf("%w: %#x, Go 1.18 to 1.26 write %#x", ErrUnsupported, magic, uint32(go120Magic)))
	}
	t := &pclntab{go118: magic == go118Magic, quanta: uint64(b[pcMinLC]), text: text}
	if b[4] != 0 || b[5] != 0 || b[pcPtrSize] != 8 || t.quanta != 1 && t.quanta != 2 && t.quanta != 4 {
		return bad(4, "header", fmt.Errorf("%w: %x", ErrFormat, b[4:8]))
	}
	// The parts follow one another; each is read to the table's end, and its strings and tables end themselves.
	for _, p := range []struct {
		part  *[]byte
		field int
	}{{&t.names, pcFuncNames}, {&t.units, pcUnits}, {&t.files, pcFiles}, {&t.tables, pcTables}, {&t.funcs, pcFuncs}} {
		off := le.Uint64(b[p.field:])
		if off < pcSize || off > uint64(len(b)) {
			return bad(int64(p.field), "offset", fmt.Errorf("%w: %#x of %#x bytes", ErrFormat, off, len(b)))
		}
		*p.part = b[off:]
	}
	n := le.Uint64(b[pcNumFuncs:])
	if n == 0 || n > uint64(len(t.funcs))/8 {
		return bad(pcNumFuncs, "number of functions", fmt.Errorf("%w: %d in %d bytes", ErrFormat, n, len(t.funcs)))
	}
	t.n = int(n)
	if (t.n*8 + 4) > len(t.funcs) {
		return bad(pcNumFuncs, "number of functions", fmt.Errorf("%w: %d in %d bytes", ErrFormat, n, len(t.funcs)))
	}
	for i := range t.n {
		if t.entry(i) > t.entry(i+1) {
			return bad(int64(len(b)-len(t.funcs)+8*i), "functions", fmt.Errorf("%w: not in order", ErrFormat))
		}
	}
	return t, nil
}

// entry is the address of function i; that of function n is where the last one ends.
func (t *pclntab) entry(i int) uint64 {
	return t.text + uint64(binary.LittleEndian.Uint32(t.funcs[8*i:]))
}

// fn returns the _func of function i and what follows it, nil if it is damaged.
func (t *pclntab) fn(i int) []byte {
	off := uint64(binary.LittleEndian.Uint32(t.funcs[8*i+4:]))
	if off > uint64(len(t.funcs)) || uint64(len(t.funcs))-off < uint64(t.fnSize()) {
		return nil
	}
	return t.funcs[off:]
}

func (t *pclntab) fnSize() int {
	if t.go118 {
		return fnSize118
	}
	return fnSize
}

func cString(b []byte, off uint64) string {
	if off >= uint64(len(b)) {
		return ""
	}
	b = b[off:]
	if i := bytes.IndexByte(b[:min(len(b), 1<<16)], 0); i >= 0 {
		return string(b[:i])
	}
	return ""
}

// symbols returns all functions.
func (t *pclntab) symbols() []symbol {
	symbols := make([]symbol, 0, t.n)
	for i := range t.n {
		fn := t.fn(i)
		if fn == nil {
			continue
		}
		name := cString(t.names, uint64(binary.LittleEndian.Uint32(fn[fnName:])))
		if addr := t.entry(i); name != "" && t.entry(i+1) > addr {
			symbols = append(symbols, symbol{addr: addr, size: t.entry(i+1) - addr, name: name, rank: 8})
		}
	}
	return symbols
}

// value looks up the value at pc in one of the tables of pairs (value delta, pc delta) in variable-length integers; -1 if there
// is none.
func (t *pclntab) value(table uint32, entry, pc uint64) int32 {
	if table == 0 || uint64(table) >= uint64(len(t.tables)) {
		return -1
	}
	p := t.tables[table:]
	at, val := entry, int32(-1)
	for first := true; ; first = false {
		delta, n := binary.Uvarint(p[:min(len(p), 10)])
		if n <= 0 || delta == 0 && !first {
			return -1
		}
		p = p[n:]
		d := uint32(delta)
		val += int32(-(d & 1) ^ (d >> 1))
		delta, n = binary.Uvarint(p[:min(len(p), 10)])
		if n <= 0 {
			return -1
		}
		p = p[n:]
		at += uint64(uint32(delta)) * t.quanta
		if pc < at {
			return val
		}
	}
}

// lookup returns the frames at an address; nil if no function covers it.
func (t *pclntab) lookup(addr uint64) []Frame {
	i := sort.Search(t.n+1, func(i int) bool { return t.entry(i) > addr }) - 1
	if i < 0 || i >= t.n {
		return nil
	}
	fn := t.fn(i)
	if fn == nil {
		return nil
	}
	le := binary.LittleEndian
	entry, end := t.entry(i), t.entry(i+1)
	name := cString(t.names, uint64(le.Uint32(fn[fnName:])))
	if name == "" {
		return nil
	}
	place := func(pc uint64) (file string, line int) {
		n := t.value(le.Uint32(fn[fnFileTab:]), entry, pc)
		if unit := uint64(le.Uint32(fn[fnUnit:])); n >= 0 && unit != 0xffffffff {
			if at := 4 * (unit + uint64(n)); at+4 <= uint64(len(t.units)) {
				if off := le.Uint32(t.units[at:]); off != 0xffffffff {
					file = cString(t.files, uint64(off))
				}
			}
		}
		return file, max(0, int(t.value(le.Uint32(fn[fnLineTab:]), entry, pc)))
	}

	var frames []Frame
	pc := addr
	for range maxInlineDepth {
		inlined, ok := t.inlined(fn, entry, pc)
		if !ok || inlined.name == "" || entry+inlined.parent >= end {
			break
		}
		f := Frame{Function: inlined.name, System: inlined.name, StartLine: inlined.line, Start: entry}
		f.File, f.Line = place(pc)
		frames = append(frames, f)
		pc = entry + inlined.parent
	}
	f := Frame{Function: name, System: name, Start: entry}
	if !t.go118 {
		f.StartLine = max(0, int(int32(le.Uint32(fn[fnLine:]))))
	}
	f.File, f.Line = place(pc)
	return append(frames, f)
}

type inlinedCall struct {
	name   string
	parent uint64 // offset in the function of an instruction where the call was
	line   int
}

// inlined returns the innermost call that was inlined at pc.
func (t *pclntab) inlined(fn []byte, entry, pc uint64) (inlinedCall, bool) {
	le := binary.LittleEndian
	npcdata, nfuncdata := uint64(le.Uint32(fn[fnNumData:])), uint64(fn[t.fnSize()-1])
	if t.inlines == nil || npcdata <= pcdataInlTree || nfuncdata <= funcdataInlTree {
		return inlinedCall{}, false
	}
	at := uint64(t.fnSize()) + 4*(npcdata+funcdataInlTree)
	if at+4 > uint64(len(fn)) {
		return inlinedCall{}, false
	}
	tree := le.Uint32(fn[at:])
	index := t.value(le.Uint32(fn[t.fnSize()+4*pcdataInlTree:]), entry, pc)
	if tree == 0xffffffff || index < 0 {
		return inlinedCall{}, false
	}
	size, nameAt, parentAt := uint64(inlSize), inlName, inlParent
	if t.go118 {
		size, nameAt, parentAt = inlSize118, inlName118, inlParent118
	}
	b := t.inlines(uint64(tree)+size*uint64(index), size)
	if uint64(len(b)) != size {
		return inlinedCall{}, false
	}
	c := inlinedCall{name: cString(t.names, uint64(le.Uint32(b[nameAt:]))), parent: uint64(le.Uint32(b[parentAt:]))}
	if !t.go118 {
		c.line = max(0, int(int32(le.Uint32(b[inlLine:]))))
	}
	return c, true
}

// loadPclntab finds and reads a Go program's table of functions; nil without error if there is none.
func loadPclntab(e *elfFile) (*pclntab, error) {
	var first error
	found := func(addr, size uint64) *pclntab {
		b := e.bytesAt(addr, size)
		if b == nil {
			return nil
		}
		m := findModule(e, addr)
		if m == nil {
			// Without moduledata, as in a file cut short, the text section's start is a good guess and needs proof.
			s := e.Section(".text")
			if s == nil {
				return nil
			}
			m = &module{text: s.Addr}
		}
		t, err := parsePclntab(b, m.text)
		if err != nil {
			if first == nil {
				first = err
			}
			return nil
		}
		// The first and last function lie in code, or this is not a table, or not of this text.
		if !e.executable(t.entry(0)) || !e.executable(t.entry(t.n)-1) ||
			m.gofunc != 0 && (t.entry(0) != m.minPC || t.entry(t.n) != m.maxPC) {
			if first == nil {
				first = &FormatError{"pclntab", 0, "functions", fmt.Errorf("%w: they do not lie in code", ErrFormat)}
			}
			return nil
		}
		if m.gofunc != 0 {
			t.inlines = func(off, n uint64) []byte { return e.bytesAt(m.gofunc+off, n) }
			// Most often the inline trees follow the table: then they are at hand.
			if m.gofunc >= addr && m.gofunc-addr < size {
				tree := b[m.gofunc-addr:]
				t.inlines = func(off, n uint64) []byte {
					if off > uint64(len(tree)) || n > uint64(len(tree))-off {
						return nil
					}
					return tree[off : off+n]
				}
			}
		}
		return t
	}
	for _, s := range e.Sections {
		if strings.HasSuffix(s.Name, ".gopclntab") && s.Type != elf.SHT_NOBITS {
			return found(s.Addr, s.FileSize), first
		}
	}
	// A file without section headers, as our kernel: look for the magic. A file with them has its table in a section.
	if len(e.Sections) > 0 && e.Section(".go.buildinfo") == nil && e.Section(".note.go.buildid") == nil {
		return nil, nil
	}
	for _, s := range e.segments {
		t := findMagic(e, s, func(addr uint64) *pclntab { return found(addr, s.Limit-addr) })
		if t != nil {
			return t, nil
		}
	}
	// What looked like a table was none.
	return nil, nil
}

// findMagic calls found with each address in a segment that may be a pclntab's header, until it returns one.
func findMagic(e *elfFile, s segment, found func(addr uint64) *pclntab) *pclntab {
	const window = 1 << 20
	patterns := [][]byte{{0xf1, 0xff, 0xff, 0xff, 0, 0}, {0xf0, 0xff, 0xff, 0xff, 0, 0}}
	buf := make([]byte, window+pcSize)
	for at := s.Start; at < s.Limit; at += window {
		b := buf[:min(uint64(len(buf)), s.Limit-at)]
		b = b[:e.code(at, b)]
		for _, pattern := range patterns {
			for off := 0; ; {
				i := bytes.Index(b[off:], pattern)
				if i < 0 {
					break
				}
				off += i
				if head := b[off:]; off%8 == 0 && off < window && len(head) >= pcSize && head[pcPtrSize] == 8 && head[pcMinLC] <= 4 {
					if t := found(at + uint64(off)); t != nil {
						return t
					}
				}
				off++
			}
		}
	}
	return nil
}

// module is what the runtime's moduledata says of the place of things.
type module struct {
	text, minPC, maxPC uint64
	gofunc             uint64 // 0: not found
}

// findModule finds the moduledata whose pclntab is at an address: it starts with that address.
func findModule(e *elfFile, pclntab uint64) *module {
	le := binary.LittleEndian
	relocated := e.relative()
	magic := e.bytesAt(pclntab, 4)
	if magic == nil {
		return nil
	}
	gofunc := modGoFunc
	if le.Uint32(magic) == go118Magic {
		gofunc = modGoFunc118
	}
	try := func(addr uint64) *module {
		b := e.bytesAt(addr, modWords*8)
		if b == nil {
			return nil
		}
		word := func(i int) uint64 {
			if v, ok := relocated[addr+uint64(8*i)]; ok {
				return v
			}
			return le.Uint64(b[8*i:])
		}
		m := &module{text: word(modText), minPC: word(modMinPC), maxPC: word(modMaxPC), gofunc: word(gofunc)}
		if word(0) != pclntab || m.text > m.minPC || m.minPC >= m.maxPC || !e.executable(m.text) || !e.executable(m.maxPC-1) {
			return nil
		}
		if e.bytesAt(m.gofunc, 1) == nil {
			m.gofunc = 0
		}
		return m
	}
	var places []uint64
	for addr, v := range relocated {
		if v == pclntab {
			places = append(places, addr)
		}
	}
	slices.Sort(places)
	for _, addr := range places {
		if m := try(addr); m != nil {
			return m
		}
	}
	var want [8]byte
	le.PutUint64(want[:], pclntab)
	const window = 1 << 20
	buf := make([]byte, window+8)
	for _, s := range e.segments {
		if s.exec && !s.write && len(e.segments) > 1 {
			continue
		}
		for at := s.Start; at < s.Limit; at += window {
			b := buf[:min(uint64(len(buf)), s.Limit-at)]
			b = b[:e.code(at, b)]
			for off := 0; ; off++ {
				i := bytes.Index(b[off:], want[:])
				if i < 0 {
					break
				}
				off += i
				if (at+uint64(off))%8 == 0 {
					if m := try(at + uint64(off)); m != nil {
						return m
					}
				}
			}
		}
	}
	return nil
}

// relative returns the words that a position-independent file's relocations set, by address: the file may hold zeros there.
func (e *elfFile) relative() map[uint64]uint64 {
	if e.Type != elf.ET_DYN || e.Machine != elf.EM_X86_64 {
		return nil
	}
	words := map[uint64]uint64{}
	le := binary.LittleEndian
	for _, s := range e.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		b, err := e.data(s)
		if err != nil {
			continue
		}
		for ; len(b) >= 24; b = b[24:] {
			if elf.R_X86_64(le.Uint64(b[8:])&0xffffffff) == elf.R_X86_64_RELATIVE {
				words[le.Uint64(b)] = le.Uint64(b[16:])
			}
		}
	}
	return words
}
