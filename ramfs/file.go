package ramfs

// leafPages is how many pages of a file a leaf is for.
const leafPages = 512

// leaf finds pages; its table is as long as the last page in it needs.
type leaf struct {
	pages []Page
	kept  *[leafPages / 64]uint64 // pages that an older state owns; nil: none
}

// leafAt is a leaf and its place: at times leafPages pages into the file.
type leafAt struct {
	at uint64
	*leaf
	kept bool // an older state owns the leaf, with its pages
}

func (l *leaf) isKept(i int) bool { return l.kept != nil && l.kept[i/64]>>(i%64)&1 != 0 }

// findLeaf returns where the leaf at is, or would be.
func (s *state) findLeaf(at uint64) (int, bool) {
	if at < uint64(len(s.leaves)) && s.leaves[at].at == at { // always, in a file without large holes
		return int(at), true
	}
	low, high := 0, len(s.leaves)
	for low < high {
		if mid := (low + high) / 2; s.leaves[mid].at < at {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < len(s.leaves) && s.leaves[low].at == at
}

// page returns page n of the file, 0 when it is a hole or in the base.
func (s *state) page(n uint64) Page {
	if i, ok := s.findLeaf(n / leafPages); ok {
		if l := s.leaves[i].leaf; n%leafPages < uint64(len(l.pages)) {
			return l.pages[n%leafPages]
		}
	}
	return 0
}

// tail returns the bytes of the base from page n on.
func (s *state) tail(n *Node, page uint64) []byte {
	if page < (s.baseLen+PageSize-1)/PageSize {
		return n.base[page*PageSize : s.baseLen]
	}
	return nil
}

// table returns the leaf for page as one that may be changed, and the page's index in it.
func (n *Node) table(page uint64) (*leaf, int) {
	at := page / leafPages
	i, ok := n.findLeaf(at)
	if !ok {
		n.leaves = append(n.leaves, leafAt{})
		copy(n.leaves[i+1:], n.leaves[i:])
		n.leaves[i] = leafAt{at: at, leaf: new(leaf)}
	}
	e := &n.leaves[i]
	if e.kept {
		c := &leaf{pages: append(make([]Page, 0, cap(e.pages)), e.pages...), kept: new([leafPages / 64]uint64)}
		for k, p := range c.pages {
			if p != 0 {
				c.kept[k/64] |= 1 << (k % 64)
			}
		}
		e.leaf, e.kept = c, false
	}
	k := int(page % leafPages)
	if k >= len(e.pages) {
		if k >= cap(e.pages) {
			e.pages = append(make([]Page, 0, min(max(k+1, 2*len(e.pages)), leafPages)), e.pages...)
		}
		e.pages = e.pages[:k+1]
	}
	return e.leaf, k
}

// own gives the file a page of its own for page, with what was there; whole says that all of it will be overwritten.
func (n *Node) own(page uint64, whole bool) (Page, Errno) {
	i, ok := n.findLeaf(page / leafPages)
	if ok && !n.leaves[i].kept {
		l, k := n.leaves[i].leaf, int(page%leafPages)
		if k < len(l.pages) && l.pages[k] != 0 && !l.isKept(k) {
			return l.pages[k], 0
		}
	}
	heap := uint64(0)
	if !ok { // a leaf, and a longer table of leaves
		heap = 8*leafPages + 64*uint64(len(n.leaves))
	}
	if err := n.fs.room(1, 0); err != 0 || !n.fs.mem.Room(int(heap)) {
		return 0, ENOSPC
	}
	was, base := n.page(page), n.tail(n, page)
	if was != 0 {
		base = n.fs.mem.Bytes(was)
	}
	p := Page(0)
	if was == 0 && len(base) >= PageSize && n.old == nil && n.backing != nil {
		p = n.backing.Adopt(base[:PageSize])
	}
	if p == 0 {
		if p = n.fs.mem.Alloc(whole || len(base) >= PageSize); p == 0 {
			return 0, ENOSPC
		}
		if !whole {
			copy(n.fs.mem.Bytes(p), base)
		}
	}
	l, k := n.table(page)
	l.pages[k] = p
	if l.kept != nil {
		l.kept[k/64] &^= 1 << (k % 64)
	}
	if was == 0 {
		n.held++
	}
	n.fs.pages++
	return p, 0
}

// ReadAt reads at off. A short count is the end of the file.
func (n *Node) ReadAt(p []byte, off uint64) (int, Errno) { return n.state.readAt(n, p, off) }

func (s *state) readAt(n *Node, p []byte, off uint64) (int, Errno) {
	switch {
	case s.is(TypeDir):
		return 0, EISDIR
	case !s.is(TypeReg):
		return 0, EINVAL
	case off >= s.attr.Size:
		return 0, 0
	}
	if left := s.attr.Size - off; uint64(len(p)) > left {
		p = p[:left]
	}
	for done := 0; done < len(p); {
		at := int(off % PageSize)
		c := min(PageSize-at, len(p)-done)
		var from []byte
		if page := s.page(off / PageSize); page != 0 {
			from = n.fs.mem.Bytes(page)
		} else {
			from = s.tail(n, off/PageSize)
		}
		k := 0
		if at < len(from) {
			k = copy(p[done:done+c], from[at:])
		}
		clear(p[done+k : done+c])
		done += c
		off += uint64(c)
	}
	return len(p), 0
}

// WriteAt writes all of p at off, or nothing.
func (n *Node) WriteAt(p []byte, off uint64) (int, Errno) {
	switch {
	case n.is(TypeDir):
		return 0, EISDIR
	case !n.is(TypeReg):
		return 0, EINVAL
	case len(p) == 0:
		return 0, 0
	case off > n.fs.max || uint64(len(p)) > n.fs.max-off:
		return 0, EFBIG
	}
	n.touch()
	end := off + uint64(len(p))
	first, last := off/PageSize, (end-1)/PageSize
	var err Errno
	if last > first { // find out early
		missing := uint64(0)
		for page := first; page <= last; page++ {
			if n.page(page) == 0 {
				missing++
			}
		}
		err = n.fs.room(missing, 0)
	}
	for page := first; page <= last && err == 0; page++ {
		_, err = n.own(page, page*PageSize >= off && (page+1)*PageSize <= end && n.blank(page))
	}
	if err != 0 {
		n.cut((n.attr.Size + PageSize - 1) / PageSize)
		return 0, err
	}
	for done := 0; done < len(p); {
		c := copy(n.fs.mem.Bytes(n.page(off / PageSize))[off%PageSize:], p[done:])
		done += c
		off += uint64(c)
	}
	n.attr.Size = max(n.attr.Size, end)
	n.changed()
	return len(p), 0
}

// blank reports whether page lies behind the end of the file: what comes there needs no care if it cannot be completed.
func (n *Node) blank(page uint64) bool { return page*PageSize >= n.attr.Size }

// Truncate sets the size. What is added reads as zeros.
func (n *Node) Truncate(size uint64) Errno {
	switch {
	case n.is(TypeDir):
		return EISDIR
	case !n.is(TypeReg):
		return EINVAL
	case size > n.fs.max:
		return EFBIG
	}
	n.touch()
	if size < n.attr.Size {
		if at := size % PageSize; at != 0 && n.page(size/PageSize) != 0 {
			p, err := n.own(size/PageSize, false)
			if err != 0 {
				return err
			}
			clear(n.fs.mem.Bytes(p)[at:])
		}
		n.cut((size + PageSize - 1) / PageSize)
		n.baseLen = min(n.baseLen, size)
		n.dropBase()
	}
	n.attr.Size = size
	n.changed()
	return 0
}

// cut frees the pages from page keep on.
func (n *Node) cut(keep uint64) {
	i, ok := n.findLeaf(keep / leafPages)
	if k := int(keep % leafPages); ok && k > 0 {
		if k < len(n.leaves[i].pages) {
			l, _ := n.table(keep - 1)
			n.freePages(l, k)
			clear(l.pages[k:])
			l.pages = l.pages[:k]
		}
		i++
	}
	for j := i; j < len(n.leaves); j++ {
		if e := &n.leaves[j]; e.kept {
			for _, p := range e.pages {
				if p != 0 {
					n.held--
				}
			}
		} else {
			n.freePages(e.leaf, 0)
		}
	}
	clear(n.leaves[i:])
	n.leaves = n.leaves[:i]
	if keep == 0 {
		n.leaves = nil
		n.baseLen = 0
		n.dropBase()
	}
}

// freePages frees the pages of a leaf from the k-th on.
func (n *Node) freePages(l *leaf, k int) {
	for ; k < len(l.pages); k++ {
		n.freePage(l, k)
	}
}

// freePage frees the k-th page of a leaf, if there is one. Its entry stays.
func (n *Node) freePage(l *leaf, k int) {
	if p := l.pages[k]; p != 0 {
		n.held--
		if !l.isKept(k) {
			n.fs.mem.Free(p)
			n.fs.pages--
		}
	}
}

// Punch makes zeros of size bytes at off, as far as they lie before the end of the file. Pages with nothing else go; they must not be
// mapped any more.
func (n *Node) Punch(off, size uint64) Errno {
	if n.Type() != TypeReg {
		return EINVAL
	}
	n.touch()
	if off < n.attr.Size {
		n.changed()
	}
	end := off + min(size, ^uint64(0)-off)
	for at, ok := n.NextData(off); ok && at < end; at, ok = n.NextData(at) {
		page, from := at/PageSize, at%PageSize
		to := min(PageSize, end-page*PageSize)
		whole := from == 0 && to == PageSize
		if whole && n.tail(n, page) == nil {
			l, k := n.table(page)
			n.freePage(l, k)
			l.pages[k] = 0
		} else {
			p, err := n.own(page, whole)
			if err != 0 {
				return err
			}
			clear(n.fs.mem.Bytes(p)[from:to])
		}
		at = (page + 1) * PageSize
	}
	return 0
}

// Allocate gives the file pages for size bytes at off, so that these can be written however full the file system gets. The file ends
// behind them, unless it was longer.
func (n *Node) Allocate(off, size uint64) Errno {
	switch {
	case n.Type() != TypeReg:
		return EINVAL
	case size > n.fs.limit:
		return ENOSPC
	case off > n.fs.max || size > n.fs.max-off:
		return EFBIG
	case size == 0:
		return 0
	}
	n.touch()
	first, last := off/PageSize, (off+size-1)/PageSize
	missing := uint64(0)
	for page := first; page <= last; page++ {
		if n.page(page) == 0 && n.tail(n, page) == nil {
			missing++
			if err := n.fs.room(missing, 0); err != 0 {
				return err
			}
		}
	}
	for page := first; page <= last; page++ {
		if n.tail(n, page) != nil {
			continue
		}
		if _, err := n.own(page, false); err != 0 {
			n.cut((n.attr.Size + PageSize - 1) / PageSize)
			return err
		}
	}
	n.attr.Size = max(n.attr.Size, off+size)
	n.changed()
	return 0
}

// NextData returns the first offset from off on that is data, NextHole the first that is a hole or the end of the file.
// ok is false when there is none, or off is behind the end.
func (n *Node) NextData(off uint64) (uint64, bool) { return n.next(off, true) }

// NextHole is described with NextData.
func (n *Node) NextHole(off uint64) (uint64, bool) { return n.next(off, false) }

func (n *Node) next(off uint64, data bool) (uint64, bool) {
	if off >= n.attr.Size {
		return 0, false
	}
	for page := off / PageSize; page*PageSize < n.attr.Size; {
		i, ok := n.findLeaf(page / leafPages)
		isData := n.page(page) != 0 || n.tail(n, page) != nil
		switch {
		case isData == data:
			return max(off, page*PageSize), true
		case !ok && page*PageSize >= n.baseLen: // no leaf: on to the next
			if i == len(n.leaves) {
				return n.attr.Size, !data
			}
			page = n.leaves[i].at * leafPages
		default:
			page++
		}
	}
	return n.attr.Size, !data
}
