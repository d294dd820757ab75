package linux

import "github.com/firstlight-boot/firstlight/kernel/vfs"

// pageSize and the bounds of the program's addresses. The lowest page is never mapped, so that a nil pointer faults.
const (
	pageSize = 4096
	userMin  = 0x10000
	userEnd  = 0x7ffffffff000

	maxAreas = 65530 // as Linux's default vm.max_map_count
)

// Protection and kind of an area; the first three are PROT_READ, PROT_WRITE and PROT_EXEC of mmap.
const (
	protRead   = 1
	protWrite  = 2
	protExec   = 4
	areaShared = 8  // writes go to the file
	areaHeap   = 16 // brk's
	areaStack  = 32
	areaGrows  = 64  // downwards, as what is below it is touched
	areaLocked = 128 // mlock'ed. Its pages are as any, since none is ever swapped, but may not be dropped
	protMask   = protRead | protWrite | protExec
)

// area is a run of pages with one protection and one origin (Linux: vm_area_struct).
type area struct {
	start, end uint64
	kind       uint32
	file       *vfs.File // nil: anonymous. Each area holds a reference
	off        uint64    // byte of the file at start, a multiple of pageSize
}

// growthGap is what lies between an area that grows and what is below it, and what mmap keeps free: stack_guard_gap of Linux.
const growthGap = 256 * pageSize

// low returns where the addresses that are the area's begin: those into which it may grow are.
func (a *area) low() uint64 {
	if a.kind&areaGrows != 0 {
		return a.start - min(growthGap, a.start)
	}
	return a.start
}

// page returns the number of the file's page at va.
func (a *area) page(va uint64) uint64 { return (a.off + va - a.start) / pageSize }

// joins reports whether b continues a.
func (a *area) joins(b *area) bool {
	return a.end == b.start && a.kind == b.kind && a.file == b.file &&
		(a.file == nil || a.off+(a.end-a.start) == b.off)
}

// areas are sorted by address and do not overlap.
type areas []area

// at returns the index of the first area that ends above va.
func (l areas) at(va uint64) int {
	lo, hi := 0, len(l)
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); l[mid].end <= va {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// find returns the area that va lies in, or nil.
func (l areas) find(va uint64) *area {
	if i := l.at(va); i < len(l) && l[i].start <= va {
		return &l[i]
	}
	return nil
}

// free reports whether nothing is in [start, end).
func (l areas) free(start, end uint64) bool {
	i := l.at(start)
	return i == len(l) || l[i].start >= end
}

// covered reports whether every page of [start, end) is in some area.
func (l areas) covered(start, end uint64) bool {
	for i := l.at(start); start < end; i++ {
		if i == len(l) || l[i].start > start {
			return false
		}
		start = l[i].end
	}
	return true
}

// room reports whether nothing is in [start, end), nor may grow into it.
func (l areas) room(start, end uint64) bool {
	i := l.at(start)
	return i == len(l) || l[i].low() >= end
}

// hole returns the first address of [start, end) that is in no area; end if all are.
func (l areas) hole(start, end uint64) uint64 {
	for i := l.at(start); start < end && i < len(l) && l[i].start <= start; i++ {
		start = l[i].end
	}
	return min(start, end)
}

// gap returns the highest start of size free bytes within [low, high), 0 when there is none.
func (l areas) gap(size, low, high uint64) uint64 {
	if size > high-low {
		return 0
	}
	for i := l.at(high - 1); ; i-- {
		if i < len(l) {
			high = min(high, l[i].low())
		}
		below := low
		if i > 0 {
			below = max(below, l[i-1].end)
		}
		if high > below && high-below >= size {
			return high - size
		}
		if i == 0 || l[i-1].end <= low {
			return 0
		}
	}
}

func (l *areas) insertAt(i int, a area) {
	*l = append(*l, area{})
	s := *l
	copy(s[i+1:], s[i:])
	s[i] = a
}

func (l *areas) removeAt(i int) {
	s := *l
	if s[i].file != nil {
		s[i].file.Release()
	}
	copy(s[i:], s[i+1:])
	s[len(s)-1] = area{}
	*l = s[:len(s)-1]
}

// split makes va a boundary between areas, if it is inside one.
func (l *areas) split(va uint64) {
	i := l.at(va)
	if i == len(*l) || (*l)[i].start >= va {
		return
	}
	a := &(*l)[i]
	b := *a
	b.start = va
	if b.file != nil {
		b.off += va - a.start
		b.file.Retain()
	}
	a.end = va
	l.insertAt(i+1, b)
}

// join merges the areas at i-1 and i, if they fit.
func (l *areas) join(i int) {
	s := *l
	if i <= 0 || i >= len(s) || !s[i-1].joins(&s[i]) {
		return
	}
	s[i-1].end = s[i].end
	l.removeAt(i)
}

// add inserts a, whose range must be free, and takes over its reference to the file.
func (l *areas) add(a area) {
	i := l.at(a.start)
	l.insertAt(i, a)
	l.join(i + 1)
	l.join(i)
}

// remove drops [start, end), splitting what reaches over its ends.
func (l *areas) remove(start, end uint64) {
	l.split(start)
	l.split(end)
	s, i := *l, l.at(start)
	j := i
	for ; j < len(s) && s[j].start < end; j++ { // and all of them at once: a program may have 65,530
		if s[j].file != nil {
			s[j].file.Release()
		}
	}
	n := i + copy(s[i:], s[j:])
	clear(s[n:])
	*l = s[:n]
}

// protect gives all areas within [start, end) the protection prot.
func (l *areas) protect(start, end uint64, prot uint32) { l.change(start, end, protMask, prot) }

// change sets bits of the kind, those in mask, of all areas within [start, end).
func (l *areas) change(start, end uint64, mask, bits uint32) {
	l.split(start)
	l.split(end)
	i := l.at(start)
	first := i
	for ; i < len(*l) && (*l)[i].start < end; i++ {
		(*l)[i].kind = (*l)[i].kind&^mask | bits
	}
	// Those that fit their neighbour now join it, from the one before first to the one at i.
	s := *l
	w, r := max(first, 1), max(first, 1) // the next place, and the next to place
	for ; r < min(i+1, len(s)); r++ {
		if s[w-1].joins(&s[r]) {
			s[w-1].end = s[r].end
			if s[r].file != nil {
				s[r].file.Release()
			}
			continue
		}
		s[w] = s[r]
		w++
	}
	if w < r {
		n := w + copy(s[w:], s[r:])
		clear(s[n:])
		*l = s[:n]
	}
}
