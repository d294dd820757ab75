package ramfs

// Backing is memory that files have their contents in without a copy (SetBase).
type Backing interface {
	// Release gets back what a file had. Pages that Adopt gave away are no longer part of it.
	Release(b []byte)
	// Adopt turns PageSize bytes into a page of the file system's Memory; 0 says that it cannot.
	Adopt(b []byte) Page
}

// SetBase makes b the contents of an empty file without a copy of them. The file reads b until a page of it is written or
// owned; b must not change. When the file needs none of it any more, and no snapshot does, from gets it back; it may be nil.
func (n *Node) SetBase(b []byte, from Backing) Errno {
	if n.Type() != TypeReg || n.attr.Size != 0 || n.base != nil {
		return EINVAL
	}
	n.touch()
	n.base, n.backing = b, from
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
	if n.backing != nil {
		n.backing.Release(b)
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
