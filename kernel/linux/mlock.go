package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// Nothing is ever swapped, so a lock is that pages are there and stay. More than RAM has room for is refused before any page is
// brought in: Linux would look for a process to kill.

// lockLimit returns how many bytes t may have locked.
func (p *process) lockLimit(t *thread) uint64 {
	if t.caps.effective>>capIPCLock&1 != 0 {
		return ^uint64(0)
	}
	return p.limits[rlimitMemlock][0]
}

// copies reports whether populate makes the program's own pages in a, which it may write, rather than map the file's.
func (a *area) copies() bool { return a.kind&(protWrite|areaShared) == protWrite }

// fits tells whether there is room for the pages of [start, end) that populate would bring in: ENOMEM says that RAM is too small for
// them, EAGAIN that it has too little room now.
func (p *process) fits(start, end uint64) vfs.Errno {
	m := &p.mm
	total, _ := mem.Stats()
	missing := uint64(0)
	for a := m.areas.within(start, end); a != nil; a = m.areas.within(a.end, end) {
		if a.kind&protMask == 0 || a.kind&(areaLazy|areaGuard) != 0 {
			continue
		}
		for va := max(a.start, start); va < min(a.end, end); va += pageSize {
			if _, _, there := m.space.Lookup(va); there || a.file != nil && !a.copies() && a.file.Node.Cached(a.page(va)) != 0 {
				continue
			}
			if missing++; missing > total {
				return vfs.ENOMEM
			}
		}
	}
	if missing > 0 && !vfs.Room(int(missing)) {
		return vfs.EAGAIN
	}
	return 0
}

// populate brings in the pages of [start, end) that the program may access, for writing where that makes a copy. It ends at the first
// that cannot be had; when all is set it goes on with the next area, unless memory has run out.
func (p *process) populate(start, end uint64, all bool) vfs.Errno {
	for a := p.mm.areas.within(start, end); a != nil; a = p.mm.areas.within(a.end, end) {
		if a.kind&areaLazy != 0 {
			continue
		}
		access := uint32(protRead)
		if a.copies() {
			access = protWrite
		}
		for va := max(a.start, start); va < min(a.end, end); va += pageSize {
			if f := p.mm.touch(va, access); f == oomFault {
				return vfs.EAGAIN
			} else if f.sig != 0 && !all {
				return vfs.ENOMEM
			} else if f.sig != 0 {
				break
			}
		}
	}
	return 0
}

// populateNew is for a call that succeeds all the same when there is no room for the pages.
func (p *process) populateNew(start, end uint64) {
	if p.fits(start, end) == 0 {
		p.populate(start, end, true)
	}
}

// populateLocked is populateNew for the locked areas of [start, end).
func (p *process) populateLocked(start, end uint64) {
	if p.mm.areas.locked == 0 {
		return
	}
	for a := p.mm.areas.within(start, end); a != nil; a = p.mm.areas.within(a.end, end) {
		if a.kind&areaLocked != 0 {
			p.populateNew(max(a.start, start), min(a.end, end))
		}
	}
}

// mlock is mlock2(2), and mlock(2) without flags.
func (p *process) mlock(t *thread, addr, size, flags uint64) int64 {
	const onFault = 1
	if flags&^uint64(onFault) != 0 {
		return -int64(vfs.EINVAL)
	}
	limit := p.lockLimit(t)
	if limit == 0 {
		return -int64(vfs.EPERM)
	}
	start, size := pageDown(addr), pageUp(size+addr%pageSize)
	m := &p.mm
	pages := m.areas.locked/pageSize + size/pageSize // as Linux counts, so that no size overflows
	if limit != ^uint64(0) && pages > limit/pageSize && pages-m.lockedIn(start, start+size)/pageSize > limit/pageSize {
		return -int64(vfs.ENOMEM)
	}
	bits := uint32(areaLocked)
	if flags == 0 {
		if err := p.fits(start, start+size); err != 0 {
			return -int64(err)
		}
	} else {
		bits |= areaLazy
	}
	if err := m.lock(start, size, bits); err != 0 || flags != 0 {
		return -int64(err)
	}
	return -int64(p.populate(start, start+size, false))
}

// lockedIn returns how many bytes of [start, end) are locked.
func (m *memory) lockedIn(start, end uint64) (n uint64) {
	for a := m.areas.within(start, end); a != nil; a = m.areas.within(a.end, end) {
		if a.kind&areaLocked != 0 {
			n += min(a.end, end) - max(a.start, start)
		}
	}
	return n
}

// lock sets the bits areaLocked and areaLazy of what is mapped of the pages, up to a hole.
func (m *memory) lock(start, size uint64, bits uint32) vfs.Errno {
	end := start + size
	switch {
	case end < start:
		return vfs.EINVAL
	case size == 0:
		return 0
	case start >= userEnd:
		return vfs.ENOMEM
	}
	stop := m.areas.hole(start, min(end, userEnd))
	if !m.areas.mayChange(start, stop, areaLocked|areaLazy, bits) {
		return vfs.ENOMEM
	}
	m.areas.change(start, stop, areaLocked|areaLazy, bits)
	if stop != end {
		return vfs.ENOMEM
	}
	return 0
}

func (p *process) munlock(addr, size uint64) int64 {
	return -int64(p.mm.lock(pageDown(addr), pageUp(size+addr%pageSize), 0))
}

func (p *process) mlockall(t *thread, flags uint64) int64 {
	const current, future, onFault = 1, 2, 4
	if flags&^uint64(current|future|onFault) != 0 || flags&^uint64(onFault) == 0 {
		return -int64(vfs.EINVAL)
	}
	m := &p.mm
	limit := p.lockLimit(t)
	if limit == 0 {
		return -int64(vfs.EPERM)
	}
	if size, _ := m.memoryStats(); flags&current != 0 && size > limit/pageSize {
		return -int64(vfs.ENOMEM)
	}
	bits := uint32(areaLocked)
	if flags&onFault != 0 {
		bits |= areaLazy
	}
	if flags&(current|onFault) == current {
		if err := p.fits(0, userEnd); err != 0 {
			return -int64(err)
		}
	}
	if m.future = 0; flags&future != 0 {
		m.future = bits
	}
	if flags&current != 0 {
		m.areas.change(0, userEnd, areaLocked|areaLazy, bits)
		if p.populate(0, userEnd, true) != 0 {
			return -int64(vfs.EAGAIN)
		}
	}
	return 0
}

func (p *process) munlockall() int64 {
	p.mm.future = 0
	p.mm.areas.change(0, userEnd, areaLocked|areaLazy, 0)
	return 0
}
