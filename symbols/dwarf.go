package symbols

import (
	"cmp"
	"debug/dwarf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
)

// Bounds on what a damaged file can make of itself. The Linux kernel has 40 M rows in 4000 units; a file's largest unit has some
// hundred thousand.
const (
	maxDebugData  = 2 << 30 // bytes of all sections, decompressed
	maxRows       = 1 << 24 // of a unit
	maxFunctions  = 1 << 22
	maxOrigins    = 16 // from an inlined call to what has its name
	maxEntryDepth = 512
)

// debugInfo finds lines and inlined functions in a file's DWARF. Units are read when an address in them is looked up.
type debugInfo struct {
	data  *dwarf.Data
	units []*debugUnit
	index []unitRange // by low; of overlapping ones any

	mu    sync.Mutex // guards all below, and the units
	names map[dwarf.Offset]originName
}

type unitRange struct {
	low, high uint64
	unit      int32
}

// debugUnit is what a compilation unit says of its addresses.
type debugUnit struct {
	offset dwarf.Offset
	read   bool

	rows  []lineRow // by address
	files []string
	funcs []codeRange // by low; of subprograms
}

// lineRow is a row of the line table. It holds up to the next one.
type lineRow struct {
	addr uint64
	file int32 // index in files; -1: a sequence ends here
	line int32
}

// codeRange is a range of addresses of a function, or of one that was inlined in it.
type codeRange struct {
	low, high uint64
	function  *codeFunction
}

type codeFunction struct {
	origin dwarf.Offset // of what has the name
	entry  uint64
	calls  []inlineCall // all that were inlined in it, outer ones first
}

// inlineCall is a range of addresses of a function that was inlined.
type inlineCall struct {
	low, high uint64
	origin    dwarf.Offset
	depth     int
	file      int32 // of the call; index in files, -1 if unknown
	line      int32
}

type originName struct {
	name, system string
	line         int
}

// loadDWARF reads the headers of a file's DWARF.
func loadDWARF(e *elfFile) (d *debugInfo, err error) {
	defer recovered("DWARF", &err)
	var total uint64
	for _, s := range e.Sections {
		if !strings.HasPrefix(s.Name, ".debug_") && !strings.HasPrefix(s.Name, ".zdebug_") {
			continue
		}
		// Size is that of the decompressed section, which zlib and zstd make at most 1000 times as large.
		if s.Size > maxDebugData || s.Size > 1032*s.FileSize+1<<16 || s.FileSize > uint64(e.size) {
			return nil, &FormatError{"DWARF", int64(s.Offset), "section " + s.Name, fmt.Errorf("%w: %d bytes", ErrTooLarge, s.Size)}
		}
		total += s.Size
	}
	if total > maxDebugData {
		return nil, &FormatError{"DWARF", 0, "sections", fmt.Errorf("%w: %d bytes", ErrTooLarge, total)}
	}
	data, err := e.DWARF()
	if err != nil {
		return nil, dwarfError("sections", err)
	}
	info := e.Section(".debug_info")
	if info == nil {
		info = e.Section(".zdebug_info")
	}
	if info == nil {
		return nil, dwarfError("sections", errors.New("no .debug_info"))
	}
	d = &debugInfo{data: data, names: map[dwarf.Offset]originName{}}
	if err := d.readUnits(info.Open(), int64(info.Size), e.executable); err != nil {
		return nil, err
	}
	return d, nil
}

func dwarfError(field string, err error) error {
	var off int64
	var bad dwarf.DecodeError
	if errors.As(err, &bad) {
		off = int64(bad.Offset)
	}
	if !errors.Is(err, ErrFormat) {
		err = fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return &FormatError{"DWARF", off, field, err}
}

// readUnits reads the header and the first entry of each unit. package dwarf would walk through all entries to find the next
// unit.
func (d *debugInfo) readUnits(info io.ReadSeeker, size int64, executable func(uint64) bool) error {
	r := d.data.Reader()
	le := binary.LittleEndian
	var h [12]byte
	for off := int64(0); off+12 <= size; {
		if _, err := io.ReadFull(info, h[:]); err != nil {
			return dwarfError(".debug_info", err)
		}
		length, header := int64(le.Uint32(h[:])), int64(4)
		rest := h[4:]
		if length == 0xffffffff {
			length, header, rest = int64(le.Uint64(h[4:])), 12, nil
			var more [8]byte
			if _, err := io.ReadFull(info, more[:]); err != nil {
				return dwarfError(".debug_info", err)
			}
			rest = more[:]
		}
		if length < 8 || length > size-off-header {
			return dwarfError(".debug_info", fmt.Errorf("a unit of %d bytes at %d of %d", length, off, size))
		}
		offsetSize := int64(4)
		if header == 12 {
			offsetSize = 8
		}
		entry := off + header
		switch version := le.Uint16(rest); {
		case version >= 2 && version <= 4:
			entry += 2 + offsetSize + 1
		case version == 5:
			entry += 2 + 1 + 1 + offsetSize
			switch kind := rest[2]; kind {
			case 1, 3: // compile, partial
			case 4: // skeleton, with an ID
				entry += 8
			default:
				entry = -1
			}
		default:
			entry = -1
		}
		if entry >= 0 {
			if err := d.addUnit(r, dwarf.Offset(entry), executable); err != nil {
				return err
			}
		}
		off += header + length
		if _, err := info.Seek(off, io.SeekStart); err != nil {
			return dwarfError(".debug_info", err)
		}
	}
	slices.SortStableFunc(d.index, func(a, b unitRange) int { return cmp.Compare(a.low, b.low) })
	return nil
}

func (d *debugInfo) addUnit(r *dwarf.Reader, off dwarf.Offset, executable func(uint64) bool) error {
	r.Seek(off)
	e, err := r.Next()
	if err != nil {
		return dwarfError(".debug_info", err)
	}
	if e == nil || e.Tag != dwarf.TagCompileUnit {
		return nil
	}
	ranges, err := d.data.Ranges(e)
	if err != nil {
		return dwarfError(".debug_ranges", err)
	}
	d.units = append(d.units, &debugUnit{offset: off})
	for _, x := range ranges {
		// What the linker threw away lies at 0 or another place where there is no code.
		if x[0] < x[1] && executable(x[0]) {
			d.index = append(d.index, unitRange{x[0], x[1], int32(len(d.units) - 1)})
		}
	}
	return nil
}

// lookup returns the frames at an address; nil if no unit covers it. The last frame, of the function itself, may have no name.
// start is the address of the function's entry, 0 if it is not known.
func (d *debugInfo) lookup(addr uint64) (frames []Frame, start uint64, err error) {
	defer recovered("DWARF", &err)
	i := sort.Search(len(d.index), func(i int) bool { return d.index[i].low > addr }) - 1
	// Units hardly ever overlap.
	for n := 0; i >= 0 && n < 8 && d.index[i].high <= addr; n++ {
		i--
	}
	if i < 0 || d.index[i].high <= addr {
		return nil, 0, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.units[d.index[i].unit]
	if !u.read {
		u.read = true // and if it is damaged, then what was read of it stands
		if err := d.readUnit(u); err != nil {
			return nil, 0, err
		}
	}

	file, line := u.place(addr)
	var fn *codeFunction
	if j := sort.Search(len(u.funcs), func(j int) bool { return u.funcs[j].low > addr }) - 1; j >= 0 && addr < u.funcs[j].high {
		fn = u.funcs[j].function
	}
	if fn == nil {
		return []Frame{{File: file, Line: line}}, 0, nil
	}
	// Outer calls come first: a call's depth is that of the frames it is in.
	var calls []inlineCall
	for _, c := range fn.calls {
		if c.low <= addr && addr < c.high {
			for len(calls) > 0 && calls[len(calls)-1].depth >= c.depth {
				calls = calls[:len(calls)-1]
			}
			calls = append(calls, c)
		}
	}
	for i := len(calls) - 1; i >= 0; i-- {
		c := calls[i]
		name := d.name(c.origin)
		frames = append(frames, Frame{Function: demangled(name.system), System: name.system, File: file, Line: line, StartLine: name.line})
		file, line = u.file(c.file), int(c.line)
	}
	name := d.name(fn.origin)
	frames = append(frames, Frame{Function: demangled(name.system), System: name.system, File: file, Line: line, StartLine: name.line})
	return frames, fn.entry, nil
}

func (u *debugUnit) file(i int32) string {
	if i < 0 || int(i) >= len(u.files) {
		return ""
	}
	return u.files[i]
}

// place looks an address up in the line table.
func (u *debugUnit) place(addr uint64) (file string, line int) {
	i := sort.Search(len(u.rows), func(i int) bool { return u.rows[i].addr > addr }) - 1
	if i < 0 || u.rows[i].file < 0 {
		return "", 0
	}
	return u.file(u.rows[i].file), int(u.rows[i].line)
}

// name follows an entry to what has its name. An inlined call refers to the function, and that to its declaration in a class.
func (d *debugInfo) name(off dwarf.Offset) originName {
	if n, ok := d.names[off]; ok {
		return n
	}
	var n originName
	r := d.data.Reader()
	at := off
	for range maxOrigins {
		r.Seek(at)
		e, err := r.Next()
		if err != nil || e == nil {
			break
		}
		if s, ok := e.Val(dwarf.AttrLinkageName).(string); ok && n.system == "" {
			n.system = s
		}
		if s, ok := e.Val(dwarf.AttrName).(string); ok && n.name == "" {
			n.name = s
		}
		if l, ok := e.Val(dwarf.AttrDeclLine).(int64); ok && n.line == 0 && l > 0 && l <= 1<<31 {
			n.line = int(l)
		}
		next, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
		if !ok {
			next, ok = e.Val(dwarf.AttrSpecification).(dwarf.Offset)
		}
		if !ok {
			break
		}
		at = next
	}
	if n.system == "" {
		n.system = n.name
	}
	d.names[off] = n
	return n
}

// readUnit reads the lines and functions of a unit.
func (d *debugInfo) readUnit(u *debugUnit) error {
	r := d.data.Reader()
	r.Seek(u.offset)
	unit, err := r.Next()
	if err != nil || unit == nil {
		return dwarfError(".debug_info", fmt.Errorf("unit at %#x: %w", u.offset, err))
	}
	if err := d.readLines(u, unit); err != nil {
		return err
	}
	err = d.readFunctions(u, r, unit)
	slices.SortStableFunc(u.funcs, func(a, b codeRange) int { return cmp.Compare(a.low, b.low) })
	return err
}

func (d *debugInfo) readLines(u *debugUnit, unit *dwarf.Entry) error {
	lines, err := d.data.LineReader(unit)
	if err != nil || lines == nil {
		if err != nil {
			err = dwarfError(".debug_line", err)
		}
		return err
	}
	dir, _ := unit.Val(dwarf.AttrCompDir).(string)
	index := map[*dwarf.LineFile]int32{}
	addFile := func(f *dwarf.LineFile) {
		name := ""
		if f != nil {
			// Names of DWARF 5 are relative to the folder in which the compiler was run.
			if name = f.Name; !path.IsAbs(name) {
				name = path.Join(dir, name)
			}
			index[f] = int32(len(u.files))
		}
		u.files = append(u.files, name)
	}
	for _, f := range lines.Files() {
		addFile(f)
	}
	var e dwarf.LineEntry
	for {
		if err := lines.Next(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return dwarfError(".debug_line", err)
		}
		if len(u.rows) == maxRows {
			return dwarfError(".debug_line", fmt.Errorf("%w: more than %d rows", ErrTooLarge, maxRows))
		}
		row := lineRow{addr: e.Address, file: -1, line: int32(max(0, min(e.Line, 1<<30)))}
		if !e.EndSequence {
			if i, ok := index[e.File]; ok {
				row.file = i
			} else if e.File != nil {
				// The program defines files as it goes.
				row.file = int32(len(u.files))
				addFile(e.File)
			}
		}
		u.rows = append(u.rows, row)
	}
	// One sequence may start where another ends. Of several rows at an address the last one holds.
	slices.SortStableFunc(u.rows, func(a, b lineRow) int {
		if c := cmp.Compare(a.addr, b.addr); c != 0 {
			return c
		}
		switch {
		case a.file < 0 && b.file >= 0:
			return -1
		case a.file >= 0 && b.file < 0:
			return 1
		}
		return 0
	})
	return nil
}

// readFunctions walks all entries of a unit.
func (d *debugInfo) readFunctions(u *debugUnit, r *dwarf.Reader, unit *dwarf.Entry) error {
	if !unit.Children {
		return nil
	}
	type level struct {
		function *codeFunction // that the entries at this level are in, nil if in none
		inlines  int           // how many calls they are in
		skip     bool
	}
	levels := []level{{}}
	count := 0
	for len(levels) > 0 {
		e, err := r.Next()
		if err != nil {
			return dwarfError(".debug_info", err)
		}
		if e == nil {
			return nil
		}
		if e.Tag == 0 {
			levels = levels[:len(levels)-1]
			continue
		}
		now := levels[len(levels)-1]
		tag := e.Tag
		if now.skip {
			tag = 0
		}
		switch tag {
		case dwarf.TagCompileUnit:
			return nil // the next one: this one has no end
		case dwarf.TagSubprogram:
			now = level{}
			ranges, err := d.data.Ranges(e)
			if err != nil {
				return dwarfError(".debug_ranges", err)
			}
			if len(ranges) > 0 {
				now.function = &codeFunction{origin: e.Offset, entry: ranges[0][0]}
				if low, ok := e.Val(dwarf.AttrLowpc).(uint64); ok && low != 0 {
					now.function.entry = low
				}
				for _, x := range ranges {
					if x[0] < x[1] && x[0] != 0 {
						u.funcs = append(u.funcs, codeRange{x[0], x[1], now.function})
						count++
					}
				}
			}
		case dwarf.TagInlinedSubroutine:
			origin, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
			if !ok || now.function == nil {
				break
			}
			ranges, err := d.data.Ranges(e)
			if err != nil {
				return dwarfError(".debug_ranges", err)
			}
			c := inlineCall{origin: origin, depth: now.inlines, file: -1}
			if v, ok := e.Val(dwarf.AttrCallFile).(int64); ok && v >= 0 && v < int64(len(u.files)) {
				c.file = int32(v)
			}
			if v, ok := e.Val(dwarf.AttrCallLine).(int64); ok && v > 0 && v <= 1<<30 {
				c.line = int32(v)
			}
			for _, x := range ranges {
				c.low, c.high = x[0], x[1]
				now.function.calls = append(now.function.calls, c)
				count++
			}
			now.inlines++
		case dwarf.TagLexDwarfBlock, dwarf.TagTryDwarfBlock, dwarf.TagCatchDwarfBlock,
			dwarf.TagNamespace, dwarf.TagModule, dwarf.TagClassType, dwarf.TagStructType, dwarf.TagUnionType:
		default:
			// Nothing with code is in other entries. Reader.SkipChildren recurses as deep as the file says.
			now.skip = true
			if next, ok := e.Val(dwarf.AttrSibling).(dwarf.Offset); ok && e.Children && next > e.Offset {
				r.Seek(next)
				continue
			}
		}
		if count > maxFunctions {
			return dwarfError(".debug_info", fmt.Errorf("%w: more than %d functions", ErrTooLarge, maxFunctions))
		}
		if e.Children {
			if len(levels) == maxEntryDepth {
				return dwarfError(".debug_info", fmt.Errorf("%w: entries more than %d deep", ErrTooLarge, maxEntryDepth))
			}
			levels = append(levels, now)
		}
	}
	return nil
}
