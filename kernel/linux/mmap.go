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
	map32Bit          = 0x40
	mapGrowsDown      = 0x100
	mapLocked         = 0x2000
	mapPopulate       = 0x8000
	mapNonblock       = 0x10000
	mapFixedNoReplace = 0x100000
	mapLegacy         = 0x40ff973 // what MAP_SHARED_VALIDATE knows

	protSem       = 8
	protGrowsDown = 0x01000000
	protGrowsUp   = 0x02000000

	remapMayMove   = 1
	remapFixed     = 2
	remapDontUnmap = 4
)

// bothWX reports whether memory would be writable and executable at once, which no program gets here. One that generates code
// writes it first and then makes it executable.
func bothWX(prot uint64) bool { return prot&(protWrite|protExec) == protWrite|protExec }

// place finds room for size bytes, at hint if that is free.
func (m *memory) place(hint, size, flags uint64) uint64 {
	hint = pageDown(hint)
	if hint >= userMin && hint < userEnd && size <= userEnd-hint && m.areas.room(hint, hint+size) {
		return hint
	}
	if flags&map32Bit != 0 {
		return m.areas.place(size, 1<<30, 1<<31)
	}
	if at := m.areas.place(size, userMin, mapTop); at != 0 {
		return at
	}
	return 0
}

func (p *process) mmap(t *thread, addr, size, prot, flags, fd, off uint64) int64 {
	m := &p.mm
	if off%pageSize != 0 || size == 0 {
		return -int64(vfs.EINVAL)
	}
	size = pageUp(size)
	if size == 0 || size > userEnd {
		return -int64(vfs.ENOMEM)
	}
	if off+size < off {
		return -int64(vfs.EOVERFLOW)
	}
	if bothWX(prot) {
		return -int64(vfs.EACCES)
	}
	a := area{kind: uint32(prot)&protMask | m.future}
	if flags&mapLocked != 0 {
		a.kind |= areaLocked
		if p.lockLimit(t) == 0 {
			return -int64(vfs.EPERM)
		}
	}
	if a.kind&areaLocked != 0 && m.areas.locked+size > p.lockLimit(t) {
		return -int64(vfs.EAGAIN)
	}
	switch flags & mapTypeMask {
	case mapPrivate:
	case mapShared:
		a.kind |= areaShared
	case mapSharedValidate:
		a.kind |= areaShared
		if flags&mapAnonymous != 0 {
			return -int64(vfs.EINVAL)
		}
		if flags&^uint64(mapLegacy) != 0 {
			return -int64(vfs.EOPNOTSUPP)
		}
	default:
		return -int64(vfs.EINVAL)
	}
	shared := false // memory that several mappings may show
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
			if int64(off+size) < 0 { // so that no offset in an area overflows, however mremap makes it longer
				return -int64(vfs.EOVERFLOW)
			}
			a.file, a.off = f, off
		case f.Kind == vfs.TypeChar && isZeroDevice(f): // memory by its old name
			shared = a.kind&areaShared != 0
		default:
			return -int64(vfs.ENODEV)
		}
	} else if shared = a.kind&areaShared != 0; flags&mapGrowsDown != 0 {
		if shared {
			return -int64(vfs.EINVAL)
		}
		a.kind |= areaGrows
	}
	if m.areas.n >= maxAreas {
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
	} else if a.start = m.place(addr, size, flags); a.start == 0 {
		return -int64(vfs.ENOMEM)
	}
	a.end = a.start + size
	if a.file != nil {
		a.file.Retain()
	} else if shared {
		f, err := memoryFile("/dev/zero (deleted)")
		if err == 0 {
			err = f.Node.Truncate(size)
		}
		if err != 0 {
			return -int64(vfs.ENOMEM)
		}
		a.file = f
	}
	m.areas.add(a)
	if a.kind&areaLocked != 0 || flags&(mapPopulate|mapNonblock) == mapPopulate {
		p.populateNew(a.start, a.end)
	}
	return int64(a.start)
}

func isZeroDevice(f *vfs.File) bool {
	var a vfs.Attr
	f.Node.Attr(&a)
	return a.Rdev == 1<<8|5
}

// pageRange checks the arguments of a call on a range of pages.
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
	if p.mm.areas.splits(addr, end) {
		return -int64(vfs.ENOMEM)
	}
	p.mm.unmap(addr, end)
	return 0
}

func (p *process) mprotect(addr, size, prot uint64) int64 {
	grows := prot & (protGrowsDown | protGrowsUp)
	if prot&^uint64(protMask|protSem|protGrowsDown|protGrowsUp) != 0 || grows == protGrowsDown|protGrowsUp {
		return -int64(vfs.EINVAL)
	}
	end, err := pageRange(addr, size)
	if err != 0 {
		return -int64(err)
	}
	if bothWX(prot) {
		return -int64(vfs.EACCES)
	}
	if addr == end {
		return 0
	}
	m := &p.mm
	if m.areas.n >= maxAreas {
		return -int64(vfs.ENOMEM)
	}
	if grows != 0 {
		a := m.areas.within(addr, end)
		if a == nil {
			return -int64(vfs.ENOMEM)
		}
		if grows == protGrowsUp || a.kind&areaGrows == 0 {
			return -int64(vfs.EINVAL)
		}
		addr = a.start
	}
	// What lies before an obstacle is changed.
	stop := m.areas.hole(addr, end)
	if stop != end {
		err = vfs.ENOMEM
	}
	if prot&protWrite != 0 {
		for a := m.areas.within(addr, stop); a != nil; a = m.areas.within(a.end, stop) {
			if a.file != nil && a.kind&areaShared != 0 && !a.file.CanWrite() {
				stop, err = max(a.start, addr), vfs.EACCES
			}
		}
	}
	if addr < stop {
		m.protect(addr, stop, uint32(prot)&protMask)
		if prot&protWrite != 0 {
			p.populateLocked(addr, stop)
		}
	}
	return -int64(err)
}

func (p *process) brkTo(t *thread, addr uint64) int64 {
	m := &p.mm
	b := &m.brk
	if addr < b.start || addr > mapTop {
		return int64(b.end)
	}
	old, end := pageUp(b.end), pageUp(addr)
	switch {
	case end > old:
		if !m.areas.room(old, end+pageSize) || m.areas.n >= maxAreas || m.future != 0 && m.areas.locked+end-old > p.lockLimit(t) {
			return int64(b.end)
		}
		m.areas.add(area{start: old, end: end, kind: protRead | protWrite | areaHeap | m.future})
		p.populateLocked(old, end)
	case end < old:
		m.unmap(end, old)
	}
	b.end = addr
	return int64(addr)
}

func (p *process) mremap(t *thread, addr, oldSize, newSize, flags, to uint64) int64 {
	m := &p.mm
	stays := flags&remapDontUnmap != 0 // what is moved leaves an empty area behind
	if flags&^uint64(remapMayMove|remapFixed|remapDontUnmap) != 0 || addr%pageSize != 0 || newSize == 0 ||
		(flags&remapFixed != 0 || stays) && flags&remapMayMove == 0 {
		return -int64(vfs.EINVAL)
	}
	twin := oldSize == 0 // the old mapping stays as it is, and another shows the same
	oldSize, newSize = pageUp(oldSize), pageUp(newSize)
	if oldSize == 0 && !twin || newSize == 0 || !userRange(addr, oldSize) || newSize > userEnd || stays && oldSize != newSize {
		return -int64(vfs.EINVAL)
	}
	end := addr + oldSize
	if flags&remapFixed != 0 && (to%pageSize != 0 || to < userMin || !userRange(to, newSize) || to < end && addr < to+newSize) {
		return -int64(vfs.EINVAL)
	}
	a := m.areas.find(addr)
	if a == nil || a.end < end { // areas of one origin are one area
		return -int64(vfs.EFAULT)
	}
	if twin && a.kind&areaShared == 0 {
		return -int64(vfs.EINVAL)
	}
	if a.kind&areaLocked != 0 && newSize > oldSize && m.areas.locked+newSize-oldSize > p.lockLimit(t) {
		return -int64(vfs.EAGAIN)
	}
	if flags&remapFixed == 0 {
		if stays || twin {
		} else if newSize <= oldSize {
			if newSize < oldSize {
				if m.areas.splits(addr+newSize, end) {
					return -int64(vfs.ENOMEM)
				}
				m.unmap(addr+newSize, end)
			}
			return int64(addr)
		} else if end == a.end && userRange(addr, newSize) && addr+newSize <= mapTop && m.areas.free(end, addr+newSize) {
			b := *a
			if b.file != nil {
				b.off += end - b.start
				b.file.Retain()
			}
			b.start, b.end = end, addr+newSize
			m.areas.add(b)
			p.populateLocked(end, addr+newSize)
			return int64(addr)
		}
		if flags&remapMayMove == 0 {
			return -int64(vfs.ENOMEM)
		}
		if to = m.place(0, newSize, 0); to == 0 {
			return -int64(vfs.ENOMEM)
		}
	} else {
		if m.areas.n >= maxAreas {
			return -int64(vfs.ENOMEM)
		}
		m.unmap(to, to+newSize)
		if !twin && newSize < oldSize {
			m.unmap(addr+newSize, end)
			oldSize, end = newSize, addr+newSize
		}
	}
	if m.areas.n >= maxAreas {
		return -int64(vfs.ENOMEM)
	}
	if a = m.areas.find(addr); a == nil { // a twin in its own place, which is cleared
		return -int64(vfs.EFAULT)
	}
	b := *a
	if b.file != nil {
		b.off += addr - b.start
		b.file.Retain()
	}
	b.start, b.end = to, to+newSize
	m.areas.add(b)
	if twin {
		return int64(to)
	}
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
	if stays {
		mem.Settle()
		m.areas.change(addr, end, areaLocked|areaLazy, 0)
		return int64(to)
	}
	m.areas.remove(addr, end)
	m.prune(addr, end)
	p.populateLocked(to+oldSize, to+newSize)
	return int64(to)
}

// Advice of madvise(2). What is not named up to 21 asks for nothing that there is here.
const (
	adviseDontneed       = 4
	adviseFree           = 8
	adviseRemove         = 9
	adviseWipeOnFork     = 18
	adviseCold           = 20
	advisePageout        = 21
	advisePopulateRead   = 22
	advisePopulateWrite  = 23
	adviseDontneedLocked = 24
	adviseGuard          = 102
	adviseNoGuard        = 103
)

func (p *process) madvise(addr, size, advice uint64) int64 {
	if advice > adviseDontneedLocked && advice != adviseGuard && advice != adviseNoGuard || advice > adviseDontneed && advice < adviseFree {
		return -int64(vfs.EINVAL)
	}
	end, err := pageRange(addr, size)
	if err != 0 {
		return -int64(vfs.EINVAL)
	}
	m := &p.mm
	if advice == advisePopulateRead || advice == advisePopulateWrite {
		return p.advisePopulate(addr, end, advice == advisePopulateWrite)
	}
	// What is wrong with an area ends the call; holes do not, but are told.
	stop := end
	for a := m.areas.within(addr, end); a != nil && err == 0; a = m.areas.within(a.end, end) {
		err = p.advise(a, max(addr, a.start), min(end, a.end), advice)
		if err != 0 {
			stop = max(addr, a.start)
		}
	}
	mem.Settle()
	guard := uint32(0)
	if advice == adviseGuard {
		guard = areaGuard
	}
	if (advice == adviseGuard || advice == adviseNoGuard) && !m.areas.mayChange(addr, stop, areaGuard, guard) {
		return -int64(vfs.ENOMEM)
	}
	switch advice {
	case adviseGuard:
		m.zap(addr, stop)
		mem.Settle()
		m.areas.change(addr, stop, areaGuard, areaGuard)
	case adviseNoGuard:
		m.areas.change(addr, stop, areaGuard, 0)
	}
	if err == 0 && !m.areas.covered(addr, end) {
		err = vfs.ENOMEM
	}
	return -int64(err)
}

// advise is madvise for the piece [start, end) of a, but for what changes areas.
func (p *process) advise(a *area, start, end, advice uint64) vfs.Errno {
	locked := a.kind&areaLocked != 0
	switch advice {
	case adviseWipeOnFork:
		if a.file != nil {
			return vfs.EINVAL
		}
	case adviseFree:
		if locked || a.file != nil {
			return vfs.EINVAL
		}
	case adviseCold, advisePageout, adviseGuard:
		if locked {
			return vfs.EINVAL
		}
	case adviseDontneed, adviseDontneedLocked:
		if locked && advice == adviseDontneed {
			return vfs.EINVAL
		}
		p.mm.zap(start, end)
	case adviseRemove:
		if locked || a.file == nil {
			return vfs.EINVAL
		}
		s, ok := a.file.Node.(vfs.Sparse)
		if !ok || a.kind&areaShared == 0 || !a.file.CanWrite() {
			return vfs.EACCES
		}
		return p.punch(a.file, s, a.off+(start-a.start), a.off+(end-a.start))
	}
	return 0
}

func (p *process) advisePopulate(addr, end uint64, write bool) int64 {
	access := uint32(protRead)
	if write {
		access = protWrite
	}
	for va := addr; va < end; va += pageSize {
		a := p.mm.areas.find(va)
		if a == nil {
			return -int64(vfs.ENOMEM)
		}
		if a.kind&access == 0 {
			return -int64(vfs.EINVAL)
		}
		switch f := p.mm.touch(va, access); {
		case f == oomFault:
			return -int64(vfs.ENOMEM)
		case f.sig != 0:
			return -int64(vfs.EFAULT)
		}
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
	m := &p.mm
	var b [512]byte // of what is not mapped nearly all is passed over
	for va := addr; va < end; {
		stop := min(end, va+uint64(len(b))*pageSize)
		clear(b[:])
		for at, ok := m.space.Next(va, stop); ok; at, ok = m.space.Next(at+pageSize, stop) {
			b[(at-va)/pageSize] = 1
		}
		for a := m.areas.within(va, stop); a != nil; a = m.areas.within(a.end, stop) {
			if a.file == nil {
				continue
			}
			for at := max(a.start, va); at < min(a.end, stop); at += pageSize {
				if a.file.Node.Cached(a.page(at)) != 0 {
					b[(at-va)/pageSize] = 1
				}
			}
		}
		n := (stop - va) / pageSize
		if !m.copyOut(vec, b[:n]) {
			return -int64(vfs.EFAULT)
		}
		vec += n
		va = stop
	}
	return 0
}

func (p *process) msync(addr, size, flags uint64) int64 {
	const async, invalidate, sync = 1, 2, 4
	if addr%pageSize != 0 || flags&^uint64(async|invalidate|sync) != 0 || flags&(async|sync) == async|sync {
		return -int64(vfs.EINVAL)
	}
	end, err := pageRange(addr, size)
	if err != 0 {
		return -int64(vfs.ENOMEM)
	}
	m := &p.mm
	if flags&invalidate != 0 {
		for a := m.areas.within(addr, end); a != nil; a = m.areas.within(a.end, end) {
			if a.kind&areaLocked != 0 {
				return -int64(vfs.EBUSY)
			}
		}
	}
	if !m.areas.covered(addr, end) {
		return -int64(vfs.ENOMEM)
	}
	return 0
}

// memoryStats are the sizes that /proc/self/statm and status tell, in pages.
func (m *memory) memoryStats() (size, resident uint64) {
	for a := m.areas.at(0); a != nil; a = m.areas.at(a.end) {
		size += (a.end - a.start) / mem.PageSize
	}
	return size, m.pages
}
