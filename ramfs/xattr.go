package ramfs

// xattr is an extended attribute. The slice of a state's is replaced, never changed.
type xattr struct {
	name  string
	value []byte
}

func (s *state) xattrBytes() (sum uint64) {
	for _, x := range s.xattrs {
		sum += x.bytes()
	}
	return sum
}

func (x *xattr) bytes() uint64 { return nameBytes + uint64(len(x.name)+len(x.value)) }

func (s *state) xattr(name string) []byte {
	for _, x := range s.xattrs {
		if x.name == name {
			return x.value
		}
	}
	return nil
}

func (s *state) xattrNames() []string {
	names := make([]string, len(s.xattrs))
	for i, x := range s.xattrs {
		names[i] = x.name
	}
	return names
}

// Xattr returns the value of an extended attribute, which is not to be changed, and nil when there is none.
func (n *Node) Xattr(name string) []byte { return n.state.xattr(name) }

// Xattrs returns the names of the extended attributes.
func (n *Node) Xattrs() []string { return n.state.xattrNames() }

// Flags of SetXattr (include/uapi/linux/xattr.h).
const (
	XattrCreate  = 1 // EEXIST when it is there
	XattrReplace = 2 // ENODATA when it is not
)

// SetXattr sets an extended attribute.
func (n *Node) SetXattr(name string, value []byte, flags int) Errno {
	if name == "" || len(name) > NameMax {
		return ERANGE
	}
	if len(value) > XattrMax {
		return E2BIG
	}
	had := n.Xattr(name)
	switch {
	case had != nil && flags&XattrCreate != 0:
		return EEXIST
	case had == nil && flags&XattrReplace != 0:
		return ENODATA
	}
	x := xattr{name, append(make([]byte, 0, len(value)), value...)}
	if err := n.fs.room(0, x.bytes()); err != 0 {
		return err
	}
	n.setXattr(name, &x)
	return 0
}

// RemoveXattr removes an extended attribute.
func (n *Node) RemoveXattr(name string) Errno {
	if n.Xattr(name) == nil {
		return ENODATA
	}
	n.setXattr(name, nil)
	return 0
}

// setXattr puts x in the place of name.
func (n *Node) setXattr(name string, x *xattr) {
	n.touch()
	n.fs.meta -= n.xattrBytes()
	var all []xattr
	for _, have := range n.xattrs {
		if have.name == name {
			if x == nil {
				continue
			}
			have, x = *x, nil
		}
		all = append(all, have)
	}
	if x != nil {
		all = append(all, *x)
	}
	n.xattrs = all
	n.fs.meta += n.xattrBytes()
	n.attr.Ctime = n.fs.now()
}
