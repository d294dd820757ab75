package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// Flags of mmap(2) and mremap(2).
const (
	mapShared         = 1
	mapPrivate        = 2
	mapSharedValidate = 3
	mapTypeMask       = 15
	mapFixed          = 0x10
	mapAnonymous      = 0x20
	mapPopulate       = 0x8000
	mapFixedNoReplace = 0x100000

	remapMayMove = 1
	remapFixed   = 2
)

// checkProt refuses memory that is writable and executable at once: no program gets that here. One that generates code
// writes it first and then makes it executable.
func checkProt(prot uint64) vfs.Errno {
	const growsDown, growsUp, sem = 0x01000000, 0x02000000, 8
	if prot&^uint64(protMask|sem) != 0 {
		return vfs.EINVAL
	}
	if prot&(protWrite|protExec) == protWrite|protExec {
		return vfs.EACCES
	}
	return 0
}

// place finds room for size bytes, at hint if that is free.
func (m *memory) place(hint, size uint64) uint64 {
	hint = pageDown(hint)
	if hint >= userMin && hint < userEnd && size <= userEnd-hint && m.areas.free(hint, hint+size) {
		return hint
	}
	if at := m.areas.gap(size, userMin, mapTop); at != 0 {
		return at
	}
	return 0
}

func (p *process) mmap(addr, size, prot, flags, fd, off uint64) int64 {
	m := &p.mm
	if off%pageSize != 0 || size == 0 {
		return -int64(vfs.EINVAL)
	}
	size = pageUp(size)
	if size == 0 || size > userEnd || off+size < off {
		return -int64(vfs.ENOMEM)
	}
	if err := checkProt(prot); err != 0 {
		return -int64(err)
	}
	a := area{kind: uint32(prot) & protMask}
	switch flags & mapTypeMask {
	case mapPrivate:
	case mapShared, mapSharedValidate:
		a.kind |= areaShared
	default:
		return -int64(vfs.EINVAL)
	}
	if flags&mapAnonymous == 0 {
		f := p.file(fd)
		if f == nil {
			return -int64(vfs.EBADF)
		}
		if !f.CanRead() || a.kind&areaShared != 0 && prot&protWrite != 0 && !f.CanWrite() {
			return -int64(vfs.EACCES)
		}
		switch {
		case f.Kind == vfs.TypeReg:
			a.file, a.off = f, off
		case f.Kind == vfs.TypeChar && isZeroDevice(f): // memory by its old name
			a.kind &^= areaShared
		default:
			return -int64(vfs.ENODEV)
		}
	} else {
		a.kind &^= areaShared // without fork nobody shares it
	}
	if len(m.areas) >= maxAreas {
		return -int64(vfs.ENOMEM)
	}
	if flags&(mapFixed|mapFixedNoReplace) != 0 {
		if addr%pageSize != 0 {
			return -int64(vfs.EINVAL)
		}
		if addr < userMin {
			return -int64(vfs.EPERM)
		}
		if !userRange(addr, size) {
			return -int64(vfs.ENOMEM)
		}
		if flags&mapFixedNoReplace != 0 {
			if !m.areas.free(addr, addr+size) {
				return -int64(vfs.EEXIST)
			}
		} else {
			m.unmap(addr, addr+size)
		}
		a.start = addr
	} else if a.start = m.place(addr, size); a.start == 0 {
		return -int64(vfs.ENOMEM)
	}
	a.end = a.start + size
	if a.file != nil {
		a.file.Retain()
	}
	m.areas.add(a)
	if flags&mapPopulate != 0 && prot&protMask != 0 {
		p.populate(a.start, a.end, uint32(prot))
	}
	return int64(a.start)
}

func isZeroDevice(f *vfs.File) bool {
	var a vfs.Attr
	f.Node.Attr(&a)
	return a.Rdev == 1<<8|5
}

// populate brings pages in as far as memory goes.
func (p *process) populate(start, end uint64, prot uint32) {
	access := uint32(protRead)
	if prot&protWrite != 0 {
		access = protWrite
	}
	for va := start; va < end; va += pageSize {
		if p.mm.touch(va, access).sig != 0 {
			return
		}
	}
}

// span checks the arguments of a call on a range of pages.
func pageRange(addr, size uint64) (end uint64, err vfs.Errno) {
	if addr%pageSize != 0 {
		return 0, vfs.EINVAL
	}
	n := pageUp(size)
	if size != 0 && n == 0 || !userRange(addr, n) {
		return 0, vfs.ENOMEM
	}
	return addr + n, 0
}

func (p *process) munmap(addr, size uint64) int64 {
	end, err := pageRange(addr, size)
	if err != 0 || end == addr {
		return -int64(vfs.EINVAL)
	}
	p.mm.unmap(addr, end)
	return 0
}

func (p *process) mprotect(addr, size, prot uint64) int64 {
	end, err := pageRange(addr, size)
	if err != 0 {
		return -int64(err)
	}
	if err := checkProt(prot); err != 0 {
		return -int64(err)
	}
	if addr == end {
		return 0
	}
	m := &p.mm
	if !m.areas.covered(addr, end) || len(m.areas) >= maxAreas {
		return -int64(vfs.ENOMEM)
	}
	if prot&protWrite != 0 {
		for i := m.areas.at(addr); i < len(m.areas) && m.areas[i].start < end; i++ {
			if a := &m.areas[i]; a.file != nil && a.kind&areaShared != 0 && !a.file.CanWrite() {
				return -int64(vfs.EACCES)
			}
		}
	}
	m.protect(addr, end, uint32(prot)&protMask)
	return 0
}

func (p *process) brkTo(addr uint64) int64 {
	m := &p.mm
	b := &m.brk
	if addr < b.start || addr > mapTop {
		return int64(b.end)
	}
	old, end := pageUp(b.end), pageUp(addr)
	switch {
	case end > old:
		if !m.areas.free(old, end+pageSize) || len(m.areas) >= maxAreas {
			return int64(b.end)
		}
		m.areas.add(area{start: old, end: end, kind: protRead | protWrite | areaHeap})
	case end < old:
		m.unmap(end, old)
	}
	b.end = addr
	return int64(addr)
}

func (p *process) mremap(addr, oldSize, newSize, flags, to uint64) int64 {
	m := &p.mm
	if flags&^uint64(remapMayMove|remapFixed) != 0 || addr%pageSize != 0 || newSize == 0 || oldSize == 0 ||
		flags&remapFixed != 0 && flags&remapMayMove == 0 {
		return -int64(vfs.EINVAL)
	}
	oldSize, newSize = pageUp(oldSize), pageUp(newSize)
	if oldSize == 0 || newSize == 0 || !userRange(addr, oldSize) || newSize > userEnd {
		return -int64(vfs.EINVAL)
	}
	a := m.areas.find(addr)
	if a == nil || a.end < addr+oldSize { // areas of one origin are one area
		return -int64(vfs.EFAULT)
	}
	end := addr + oldSize
	if flags&remapFixed == 0 {
		if newSize <= oldSize {
			if newSize < oldSize {
				m.unmap(addr+newSize, end)
			}
			return int64(addr)
		}
		if end == a.end && userRange(addr, newSize) && addr+newSize <= mapTop && m.areas.free(end, addr+newSize) {
			b := *a
			if b.file != nil {
				b.off += end - b.start
				b.file.Retain()
			}
			b.start, b.end = end, addr+newSize
			m.areas.add(b)
			return int64(addr)
		}
		if flags&remapMayMove == 0 {
			return -int64(vfs.ENOMEM)
		}
		if to = m.place(0, newSize); to == 0 {
			return -int64(vfs.ENOMEM)
		}
	} else {
		if to%pageSize != 0 || to < userMin || !userRange(to, newSize) || to < end && addr < to+newSize {
			return -int64(vfs.EINVAL)
		}
		m.unmap(to, to+newSize)
		if newSize < oldSize {
			m.unmap(addr+newSize, end)
			oldSize, end = newSize, addr+newSize
		}
	}
	if len(m.areas) >= maxAreas {
		return -int64(vfs.ENOMEM)
	}
	b := *m.areas.find(addr)
	if b.file != nil {
		b.off += addr - b.start
		b.file.Retain()
	}
	b.start, b.end = to, to+newSize
	m.areas.add(b)
	for va := addr; ; {
		at, ok := m.space.Next(va, end)
		if !ok {
			break
		}
		f, fl, _ := m.space.Lookup(at)
		if !m.space.Map(to+at-addr, f, fl) {
			vfs.Reclaim(64)
			if !m.space.Map(to+at-addr, f, fl) {
				p.outOfMemory()
			}
		}
		m.space.Unmap(at)
		va = at + pageSize
	}
	m.areas.remove(addr, end)
	return int64(to)
}

// Advice of madvise(2).
const (
	adviseDontneed      = 4
	adviseFree          = 8
	adviseRemove        = 9
	advisePopulateRead  = 22
	advisePopulateWrite = 23
	adviseCollapse      = 25
)

func (p *process) madvise(addr, size, advice uint64) int64 {
	end, err := pageRange(addr, size)
	if err != 0 {
		return -int64(vfs.EINVAL)
	}
	m := &p.mm
	switch {
	case advice <= adviseDontneed, advice == adviseFree, advice >= 10 && advice <= 21:
	case advice == advisePopulateRead || advice == advisePopulateWrite:
		access := uint32(protRead)
		if advice == advisePopulateWrite {
			access = protWrite
		}
		for va := addr; va < end; va += pageSize {
			switch f := m.touch(va, access); {
			case f == oomFault, f.code == segvMapErr && f.sig == sigSegv:
				return -int64(vfs.ENOMEM)
			case f.sig != 0:
				return -int64(vfs.EFAULT)
			}
		}
		return 0
	default:
		return -int64(vfs.EINVAL)
	}
	if advice == adviseDontneed {
		m.zap(addr, end)
	}
	if !m.areas.covered(addr, end) {
		return -int64(vfs.ENOMEM)
	}
	return 0
}

func (p *process) mincore(addr, size, vec uint64) int64 {
	if addr%pageSize != 0 {
		return -int64(vfs.EINVAL)
	}
	end, err := pageRange(addr, size)
	if err != 0 || !p.mm.areas.covered(addr, end) {
		return -int64(vfs.ENOMEM)
	}
	if !userRange(vec, (end-addr)/pageSize) {
		return -int64(vfs.EFAULT)
	}
	for va := addr; va < end; va += pageSize {
		var b [1]byte
		if _, _, ok := p.mm.space.Lookup(va); ok {
			b[0] = 1
		} else if a := p.mm.areas.find(va); a.file != nil && a.file.Node.Cached(a.page(va)) != 0 {
			b[0] = 1
		}
		if !p.mm.copyOut(vec, b[:]) {
			return -int64(vfs.EFAULT)
		}
		vec++
	}
	return 0
}

// covered serves the calls that have nothing to do here but to find the range mapped: mlock, msync.
func (p *process) covered(addr, size uint64) int64 {
	end, err := pageRange(pageDown(addr), size+addr%pageSize)
	if err != 0 || !p.mm.areas.covered(pageDown(addr), end) {
		return -int64(vfs.ENOMEM)
	}
	return 0
}

func (p *process) msync(addr, size, flags uint64) int64 {
	if addr%pageSize != 0 || flags&^uint64(7) != 0 || flags&5 == 5 {
		return -int64(vfs.EINVAL)
	}
	return p.covered(addr, size)
}

// memoryStats are the sizes that /proc/self/statm and status tell, in pages.
func (m *memory) memoryStats() (size, resident uint64) {
	for i := range m.areas {
		size += (m.areas[i].end - m.areas[i].start) / mem.PageSize
	}
	return size, m.pages
}
