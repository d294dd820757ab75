package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// mapped is an ELF file in the program's memory, at the addresses that it has there.
type mapped struct {
	base, high   uint64 // what is added to the file's addresses, and the page-aligned end
	entry, phdrs uint64
	progs        int
	interp       string // the dynamic linker that it asks for
}

// load maps the program at l, and the dynamic linker if it asks for one, and returns where it starts and its stack pointer.
func (p *process) load(l *vfs.Loc, path string) (entry, sp uint64, bad badELF) {
	prog, bad := p.mapELF(l, false)
	if bad.failed() {
		return 0, 0, bad
	}
	p.exe = l
	p.mm.brk.start = prog.high
	p.mm.brk.end = p.mm.brk.start
	p.mm.stack = stackSize
	p.mm.areas.add(area{start: stackTop - pageSize, end: stackTop, kind: protRead | protWrite | areaStack | areaGrows})
	clock := p.mapClock()
	entry = prog.entry
	var linker uint64
	if prog.interp != "" {
		needs := "needs the dynamic linker " + prog.interp + ", which "
		f, err := p.ns.Resolve(p.cwd, prog.interp, true)
		if err == 0 && f.Loc == nil {
			err = vfs.ENOENT
		}
		if err != 0 {
			return 0, 0, badELF{err, needs + "cannot be found"}
		}
		ld, bad := p.mapELF(f.Loc, true)
		if bad.failed() {
			return 0, 0, badELF{bad.err, needs + bad.text}
		}
		entry, linker = ld.entry, ld.base
	}
	sp, err := p.buildStack(path, &prog, linker, clock)
	if err == vfs.E2BIG {
		return 0, 0, badELF{err, "cannot be started: the arguments and the environment are too long"}
	}
	if err != 0 {
		return 0, 0, badELF{err, "cannot be started: out of memory"}
	}
	p.mm.area(sp - stackHave)
	return entry, sp, bad
}

// mapELF maps the segments of a program, or of a dynamic linker, which goes where mmap would put it and has none itself.
func (p *process) mapELF(l *vfs.Loc, linker bool) (m mapped, bad badELF) {
	var a vfs.Attr
	l.Node.Attr(&a)
	if a.Mode&vfs.TypeMask == vfs.TypeDir {
		return m, badELF{vfs.EISDIR, "is a directory"}
	}
	if a.Mode&vfs.TypeMask != vfs.TypeReg {
		return m, badELF{vfs.EACCES, "is not a regular file"}
	}
	if a.Mode&0o111 == 0 {
		return m, badELF{vfs.EACCES, "is not executable: its mode has no x bit"}
	}
	var hdr [elfHeaderSize]byte
	n, err := l.Node.ReadAt(hdr[:], 0)
	if err != 0 {
		return m, badELF{err, "cannot be read"}
	}
	h, bad := parseHeader(hdr[:n])
	if bad.failed() {
		return m, bad
	}
	progs := make([]byte, h.progs*progSize)
	if n, err := l.Node.ReadAt(progs, h.progAt); err != 0 || n != len(progs) {
		if err == 0 {
			err = vfs.ENOEXEC
		}
		return m, badELF{err, "cannot be read: its program headers lie behind the end of the file"}
	}
	lay := new(elfLayout)
	if bad := lay.parseSegments(&h, progs, a.Size); bad.failed() {
		return m, bad
	}
	switch {
	case linker && !h.pie:
		return m, notExec("is not position-independent")
	case linker:
		at := p.mm.place(0, lay.high-lay.low, 0)
		if at == 0 {
			return m, badELF{vfs.ENOMEM, "finds no room"}
		}
		m.base = at - lay.low
	case h.pie:
		m.base = pieBase - lay.low
	}
	if lay.interpSize != 0 && !linker {
		name := make([]byte, lay.interpSize)
		if n, err := l.Node.ReadAt(name, lay.interpOff); err != 0 || n != len(name) || name[n-1] != 0 {
			return m, notExec("has a malformed path of its dynamic linker")
		}
		n := 0
		for name[n] != 0 {
			n++
		}
		m.interp = string(name[:n])
	}
	f := vfs.NewFile(l, 0)
	for i := range lay.segs[:lay.n] {
		if bad := p.mapSegment(f, &lay.segs[i], m.base); bad.failed() {
			return m, bad
		}
	}
	f.Release()
	m.high, m.entry, m.progs = m.base+lay.high, m.base+h.entry, h.progs
	if lay.phdrs != 0 {
		m.phdrs = m.base + lay.phdrs
	}
	return m, bad
}

// mapSegment maps one PT_LOAD: pages of the file, then zeros.
func (p *process) mapSegment(f *vfs.File, s *segment, base uint64) badELF {
	m := &p.mm
	start := base + pageDown(s.va)
	fileEnd := base + s.va + s.fileSize
	end := pageUp(base + s.va + s.memSize)
	anon := start
	if s.fileSize > 0 {
		anon = pageUp(fileEnd)
		m.unmap(start, anon) // a page that the segment before shares is this one's
		f.Retain()
		m.areas.add(area{start: start, end: anon, kind: s.kind, file: f, off: pageDown(s.off)})
	}
	if anon < end {
		m.unmap(anon, end)
		m.areas.add(area{start: anon, end: end, kind: s.kind})
	}
	if s.memSize > s.fileSize && fileEnd != anon {
		// The file's last page goes on in BSS, which is zero.
		a := m.areas.find(fileEnd)
		if ft := m.private(a, pageDown(fileEnd)); ft.sig != 0 {
			if ft == oomFault {
				return badELF{vfs.ENOMEM, "cannot be started: out of memory"}
			}
			return badELF{vfs.EIO, "cannot be read"}
		}
		page, _, _ := m.space.Lookup(pageDown(fileEnd))
		clear(page.Bytes(pageSize)[fileEnd%pageSize:])
	}
	return badELF{}
}

// Entries of the auxiliary vector (include/uapi/linux/auxvec.h).
const (
	atNull     = 0
	atPhdr     = 3
	atPhent    = 4
	atPhnum    = 5
	atPagesz   = 6
	atBase     = 7
	atFlags    = 8
	atEntry    = 9
	atUID      = 11
	atEUID     = 12
	atGID      = 13
	atEGID     = 14
	atPlatform = 15
	atHwcap    = 16
	atClktck   = 17
	atSecure   = 23
	atRandom   = 25
	atHwcap2   = 26
	atExecfn   = 31
	atVDSO     = 33
	atMinStack = 51 // AT_MINSIGSTKSZ
)

// baselineFeatures are the bits of CPUID leaf 1, EDX, that every x86-64 CPU has. Programs ask CPUID themselves for more.
const baselineFeatures = 0x078bfbfd

const clockTick = 100 // USER_HZ: per second

// maxArgs bounds the bytes of arguments and environment: a quarter of the stack, as in Linux.
const maxArgs = stackSize / 4

// buildStack lays out what a program finds above its first stack pointer (System V ABI for x86-64, 3.4.1): argc, argv,
// envp, auxv, and above those the strings. linker is where the dynamic linker begins, 0 if there is none.
func (p *process) buildStack(path string, prog *mapped, linker, clock uint64) (sp uint64, err vfs.Errno) {
	size := len(path) + 1
	for _, s := range p.args {
		size += len(s) + 1
	}
	for _, s := range p.env {
		size += len(s) + 1
	}
	count := len(p.args) + len(p.env)
	if size > maxArgs || count > maxArgs/8 || size+8*count > maxArgs {
		return 0, vfs.E2BIG
	}
	var random [16]byte
	ring0.Random(random[:])

	// The strings, from the top down, so that argv and envp are contiguous as Linux has them.
	const platform = "x86_64"
	strs := make([]byte, 0, size+len(platform)+1+len(random))
	platformAt := len(strs)
	strs = append(append(strs, platform...), 0)
	randomAt := len(strs)
	strs = append(strs, random[:]...)
	argsAt := len(strs)
	for _, s := range p.args {
		strs = append(append(strs, s...), 0)
	}
	envAt := len(strs)
	for _, s := range p.env {
		strs = append(append(strs, s...), 0)
	}
	pathAt := len(strs)
	strs = append(append(strs, path...), 0)
	base := (stackTop - 8 - uint64(len(strs))) &^ 15
	p.argStart, p.argEnd = base+uint64(argsAt), base+uint64(envAt)
	p.envStart, p.envEnd = p.argEnd, base+uint64(pathAt)

	aux := [...]uint64{
		atVDSO, clock,
		atMinStack, maxFrame(fpStateSize()),
		atHwcap, baselineFeatures,
		atPagesz, pageSize,
		atClktck, clockTick,
		atPhdr, prog.phdrs,
		atPhent, progSize,
		atPhnum, uint64(prog.progs),
		atBase, linker,
		atFlags, 0,
		atEntry, prog.entry,
		atUID, 0,
		atEUID, 0,
		atGID, 0,
		atEGID, 0,
		atSecure, 0,
		atRandom, base + uint64(randomAt),
		atHwcap2, 0,
		atExecfn, base + uint64(pathAt),
		atPlatform, base + uint64(platformAt),
		atNull, 0,
	}
	words := make([]byte, 8*(1+len(p.args)+1+len(p.env)+1+len(aux)))
	sp = (base - uint64(len(words))) &^ 15
	w := words
	put := func(v uint64) {
		set64(w, v)
		w = w[8:]
	}
	put(uint64(len(p.args)))
	at := p.argStart
	for _, s := range p.args {
		put(at)
		at += uint64(len(s)) + 1
	}
	put(0)
	for _, s := range p.env {
		put(at)
		at += uint64(len(s)) + 1
	}
	put(0)
	auxAt := len(words) - len(w)
	for _, v := range aux {
		put(v)
	}
	p.auxv = words[auxAt:]
	if !p.mm.copyOut(base, strs) || !p.mm.copyOut(sp, words) {
		return 0, vfs.ENOMEM
	}
	return sp, 0
}
