package ramfs

// SetBase makes b the contents of an empty file without a copy of them. The file reads b until it is written, page by page;
// b must not change. When the file needs none of it any more, and no snapshot does, release gets it back; it may be nil.
func (n *Node) SetBase(b []byte, release func([]byte)) Errno {
	if n.Type() != TypeReg || n.attr.Size != 0 || n.base != nil {
		return EINVAL
	}
	n.touch()
	n.base, n.release = b, release
	n.baseLen, n.attr.Size = uint64(len(b)), uint64(len(b))
	n.dropBase()
	return 0
}

// dropBase gives the base back when nothing needs it.
func (n *Node) dropBase() {
	if n.base == nil || n.baseLen != 0 || n.old != nil {
		return
	}
	b := n.base
	n.base = nil
	if n.release != nil {
		n.release(b)
	}
}

// Own returns page i of a regular file as memory that is the file's from now on: a hole is filled with zeros, and what is in
// a base copied. That is what can be mapped.
func (n *Node) Own(i uint64) (Page, Errno) {
	if n.Type() != TypeReg || i >= (n.attr.Size+PageSize-1)/PageSize {
		return 0, EINVAL
	}
	n.touch()
	return n.own(i, false)
}

// Owned returns page i if the file has it in memory of its own, else 0.
func (n *Node) Owned(i uint64) Page { return n.page(i) }
