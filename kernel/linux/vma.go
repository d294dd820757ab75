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
	areaLazy   = 256 // locked, but pages still come as they are touched: MLOCK_ONFAULT
	areaGuard  = 512 // every access faults, whatever the protection: MADV_GUARD_INSTALL
	protMask   = protRead | protWrite | protExec
)

// area is a run of pages with one protection and one origin (Linux: vm_area_struct), and a node of the tree of areas.
type area struct {
	start, end uint64
	kind       uint32
	height     uint32    // of the tree below it, itself counted
	file       *vfs.File // nil: anonymous. Each area holds a reference
	off        uint64    // byte of the file at start, a multiple of pageSize

	left, right     *area
	lowest, highest uint64 // where the first area of the tree below it begins, as low has it, and where the last one ends
	gap             uint64 // the most room between two neighbours of that tree
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

// lockedBytes returns the area's size if it is locked.
func (a *area) lockedBytes() uint64 {
	if a.kind&areaLocked != 0 {
		return a.end - a.start
	}
	return 0
}

// page returns the number of the file's page at va.
func (a *area) page(va uint64) uint64 { return (a.off + va - a.start) / pageSize }

// joins reports whether b continues a.
func (a *area) joins(b *area) bool {
	return a.end == b.start && a.kind == b.kind && a.file == b.file &&
		(a.file == nil || a.off+(a.end-a.start) == b.off)
}

// areas do not overlap. They are an AVL tree by address, in which each subtree knows its largest gap, so that nothing a program does
// with its 65,530 areas costs more than some paths from the root (G. Adelson-Velsky, E. Landis: An algorithm for the organization of
// information, 1962). An area stays where it is in memory as long as it exists; whoever changes its bounds calls refresh.
type areas struct {
	root  *area
	n     int      // how many there are
	spare *area    // some that are not used, linked by right
	kept  int      // how many those are
	few   [24]area // as many as a small program has
	taken int      // how many of them were ever used

	locked uint64 // bytes in those that are
}

// maxSpare is how many areas that are gone are kept for the next ones, so that a program that maps and unmaps makes no garbage.
const maxSpare = 16

// rise computes what a knows of the tree below it.
func (a *area) rise() {
	h, low, high, gap := uint32(0), a.low(), a.end, uint64(0)
	if r := a.right; r != nil {
		h, high = r.height, r.highest
		gap = max(r.gap, between(a.end, r.lowest))
	}
	if l := a.left; l != nil {
		h = max(h, l.height)
		gap = max(gap, l.gap, between(l.highest, low))
		low = l.lowest
	}
	a.height, a.lowest, a.highest, a.gap = h+1, low, high, gap
}

// between returns how many bytes there are from end to low; none if what grows may grow over end.
func between(end, low uint64) uint64 {
	if low > end {
		return low - end
	}
	return 0
}

func height(a *area) uint32 {
	if a == nil {
		return 0
	}
	return a.height
}

// balanced returns the root of the tree below a, whose subtrees are balanced and differ in height by two at most.
func balanced(a *area) *area {
	switch l, r := height(a.left), height(a.right); {
	case l > r+1:
		if height(a.left.left) < height(a.left.right) {
			a.left = a.left.turnLeft()
		}
		return a.turnRight()
	case r > l+1:
		if height(a.right.right) < height(a.right.left) {
			a.right = a.right.turnRight()
		}
		return a.turnLeft()
	}
	a.rise()
	return a
}

func (a *area) turnLeft() *area {
	b := a.right
	a.right, b.left = b.left, a
	a.rise()
	b.rise()
	return b
}

func (a *area) turnRight() *area {
	b := a.left
	a.left, b.right = b.right, a
	a.rise()
	b.rise()
	return b
}

// with returns the tree t with b in it.
func with(t, b *area) *area {
	if t == nil {
		b.rise()
		return b
	}
	if b.start < t.start {
		t.left = with(t.left, b)
	} else {
		t.right = with(t.right, b)
	}
	return balanced(t)
}

// joined returns a tree of l, b and r, which lie in this order and may differ in height by any number.
func joined(l, b, r *area) *area {
	switch hl, hr := height(l), height(r); {
	case hl > hr+1:
		l.right = joined(l.right, b, r)
		return balanced(l)
	case hr > hl+1:
		r.left = joined(l, b, r.left)
		return balanced(r)
	}
	b.left, b.right = l, r
	b.rise()
	return b
}

// takeFirst takes the first area out of the tree t.
func takeFirst(t *area) (a, rest *area) {
	if t.left == nil {
		return t, t.right
	}
	a, t.left = takeFirst(t.left)
	return a, balanced(t)
}

// without returns the tree t less its areas that have any of [start, end), which are dropped.
func (l *areas) without(t *area, start, end uint64) *area {
	switch {
	case t == nil:
		return nil
	case t.end <= start:
		return joined(t.left, t, l.without(t.right, start, end))
	case t.start >= end:
		return joined(l.without(t.left, start, end), t, t.right)
	}
	left, right := l.without(t.left, start, end), l.without(t.right, start, end)
	l.drop(t)
	if left == nil {
		return right
	}
	if right == nil {
		return left
	}
	a, right := takeFirst(right)
	return joined(left, a, right)
}

// grow makes a begin at start, below where it did.
func (l *areas) grow(a *area, start uint64) {
	l.locked -= a.lockedBytes()
	a.start = start
	l.locked += a.lockedBytes()
	l.refresh(a)
}

// refresh is called when a's bounds are others, in the same order among the areas.
func (l *areas) refresh(a *area) { l.root.refresh(a) }

func (t *area) refresh(a *area) {
	if a.start < t.start {
		t.left.refresh(a)
	} else if a != t {
		t.right.refresh(a)
	}
	t.rise()
}

// insert puts a copy of a among the areas. Its range must be free.
func (l *areas) insert(a *area) {
	b := l.spare
	switch {
	case b != nil:
		l.spare = b.right
		l.kept--
	case l.taken < len(l.few):
		b = &l.few[l.taken]
		l.taken++
	default:
		b = new(area)
	}
	*b = area{start: a.start, end: a.end, kind: a.kind, file: a.file, off: a.off}
	l.root = with(l.root, b)
	l.n++
}

// drop gives back what an area holds that is in the tree no longer.
func (l *areas) drop(a *area) {
	l.n--
	l.locked -= a.lockedBytes()
	if a.file != nil {
		a.file.Release()
	}
	if l.kept < maxSpare {
		*a = area{right: l.spare}
		l.spare = a
		l.kept++
	}
}

// discard drops the areas that have any of [start, end).
func (l *areas) discard(start, end uint64) { l.root = l.without(l.root, start, end) }

// at returns the first area that ends above va, nil if none does.
func (l *areas) at(va uint64) (first *area) {
	for a := l.root; a != nil; {
		if a.end <= va {
			a = a.right
			continue
		}
		if first = a; a.start <= va {
			break
		}
		a = a.left
	}
	return first
}

// before returns the last area that ends at or below va, nil if none does.
func (l *areas) before(va uint64) (last *area) {
	for a := l.root; a != nil; {
		if a.end <= va {
			last, a = a, a.right
		} else {
			a = a.left
		}
	}
	return last
}

// within returns the first area that has any of [start, end), nil if none has.
func (l *areas) within(start, end uint64) *area {
	if a := l.at(start); a != nil && a.start < end {
		return a
	}
	return nil
}

// find returns the area that va lies in, or nil.
func (l *areas) find(va uint64) *area {
	if a := l.at(va); a != nil && a.start <= va {
		return a
	}
	return nil
}

// free reports whether nothing is in [start, end).
func (l *areas) free(start, end uint64) bool { return l.within(start, end) == nil }

// covered reports whether every page of [start, end) is in some area.
func (l *areas) covered(start, end uint64) bool { return l.hole(start, end) >= end }

// room reports whether nothing is in [start, end), nor may grow into it.
func (l *areas) room(start, end uint64) bool {
	a := l.at(start)
	return a == nil || a.low() >= end
}

// hole returns the first address of [start, end) that is in no area; end if all are.
func (l *areas) hole(start, end uint64) uint64 {
	for start < end {
		a := l.find(start)
		if a == nil {
			return start
		}
		start = a.end
	}
	return end
}

// place returns the highest start of size free bytes within [low, high), 0 when there is none.
func (l *areas) place(size, low, high uint64) uint64 {
	if size > high-low {
		return 0
	}
	return l.root.place(size, low, low, high, high)
}

// place looks in the tree below a, which lies between below and above, where its neighbours or the ends of the search are.
func (a *area) place(size, low, below, above, high uint64) uint64 {
	if a == nil {
		if between(below, above) >= size {
			return above - size
		}
		return 0
	}
	if max(a.gap, between(below, a.lowest), between(a.highest, above)) < size {
		return 0
	}
	if a.end < high {
		if at := a.right.place(size, low, max(a.end, low), above, high); at != 0 {
			return at
		}
	}
	if a.start > low {
		return a.left.place(size, low, below, min(a.low(), high), high)
	}
	return 0
}

// split makes va a boundary between areas, if it is inside one.
func (l *areas) split(va uint64) {
	a := l.find(va)
	if a == nil || a.start == va {
		return
	}
	b := *a
	b.start = va
	if b.file != nil {
		b.off += va - a.start
		b.file.Retain()
	}
	a.end = va
	l.insert(&b) // behind a, so its path leads by a
}

// add inserts a, whose range must be free, and takes over its reference to the file.
func (l *areas) add(a area) {
	l.locked += a.lockedBytes()
	prev, next := l.before(a.start), l.at(a.start)
	if prev == nil || !prev.joins(&a) {
		if next == nil || !a.joins(next) {
			l.insert(&a)
			return
		}
		next.start, next.off = a.start, a.off
		prev = next
	} else if prev.end = a.end; next != nil && a.joins(next) {
		l.append(prev, next)
	}
	l.refresh(prev)
	if a.file != nil {
		a.file.Release()
	}
}

// remove drops [start, end), splitting what reaches over its ends.
func (l *areas) remove(start, end uint64) {
	l.split(start)
	l.split(end)
	l.discard(start, end)
}

// append makes next, which a joins, part of a, whose bounds then are others.
func (l *areas) append(a, next *area) {
	end := next.end
	l.locked += next.lockedBytes() // which discard takes off
	l.discard(next.start, end)
	a.end = end
}

// protect gives all areas within [start, end) the protection prot.
func (l *areas) protect(start, end uint64, prot uint32) { l.change(start, end, protMask, prot) }

// splits reports whether taking [start, end) out would leave two pieces of one area, and those be one area more than a program may have.
func (l *areas) splits(start, end uint64) bool {
	a := l.find(start)
	return l.n >= maxAreas && a != nil && a.start < start && end < a.end
}

// mayChange reports whether change would leave no more areas than a program may have.
func (l *areas) mayChange(start, end uint64, mask, bits uint32) bool {
	n := l.n
	for _, va := range [...]uint64{start, end} {
		if a := l.find(va); a != nil && a.start < va && a.kind&mask != bits {
			n++
		}
	}
	return n == l.n || n <= maxAreas
}

// change sets bits of the kind, those in mask, of all areas within [start, end). Those that then fit their neighbours join them.
func (l *areas) change(start, end uint64, mask, bits uint32) {
	l.split(start)
	l.split(end)
	a := l.within(start, end)
	for b := a; b != nil; b = l.within(b.end, end) {
		l.locked -= b.lockedBytes()
		b.kind = b.kind&^mask | bits
		l.locked += b.lockedBytes()
	}
	if a == nil {
		return
	}
	if prev := l.before(a.start); prev != nil {
		a = prev
	}
	for a.end <= end {
		next := l.at(a.end)
		if next == nil {
			break
		}
		if !a.joins(next) {
			a = next
			continue
		}
		l.append(a, next)
		l.refresh(a)
	}
}
