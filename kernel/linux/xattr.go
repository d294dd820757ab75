package linux

import "github.com/firstlight-boot/firstlight/kernel/vfs"

// Limits of extended attributes (include/uapi/linux/limits.h).
const (
	maxXattrName  = 255
	maxXattrValue = 1 << 16
)

// xattr serves the calls 188 to 199: set, get, list and remove, each by path, by path without following a link at its end, and
// by descriptor. A file system that has no extended attributes has none to get, and takes none.
func (p *process) xattr(nr, file, a, b, size, flags uint64) int64 {
	const set, get, list, remove = 0, 1, 2, 3
	op, by := (nr-188)/3, (nr-188)%3
	var l *vfs.Loc
	var err vfs.Errno
	if by == 2 {
		f := p.file(file)
		if f == nil || f.Flags&vfs.OPath != 0 {
			return -int64(vfs.EBADF)
		}
		l = f.Loc
	} else if l, err = p.existing(cwdFD, file, by == 0); err != 0 {
		return -int64(err)
	}
	name := ""
	if op != list {
		if name, err = p.mm.str(a, maxXattrName+1, vfs.ERANGE); err != 0 {
			return -int64(err)
		}
		if name == "" {
			return -int64(vfs.ERANGE)
		}
	}
	n, ok := l.Node.(vfs.Xattrs)
	switch {
	case !ok && op == get:
		return -int64(vfs.ENODATA)
	case !ok:
		return -int64(vfs.EOPNOTSUPP)
	case op == list:
		var all []byte
		for _, name := range n.XattrNames() {
			all = append(append(all, name...), 0)
		}
		return p.xattrOut(all, a, b)
	}
	var attr vfs.Attr
	l.Node.Attr(&attr)
	kind := attr.Mode & vfs.TypeMask
	switch {
	case prefix(name, "user."):
		if kind != vfs.TypeReg && kind != vfs.TypeDir {
			if op == get {
				return -int64(vfs.ENODATA)
			}
			return -int64(vfs.EPERM)
		}
	case !prefix(name, "trusted.") && !prefix(name, "security."):
		return -int64(vfs.EOPNOTSUPP)
	}
	switch op {
	case get:
		value, ok := n.Xattr(name)
		if !ok {
			return -int64(vfs.ENODATA)
		}
		return p.xattrOut(value, b, size)
	case remove:
		return -int64(n.RemoveXattr(name))
	}
	const create, replace = 1, 2
	if flags&^(create|replace) != 0 {
		return -int64(vfs.EINVAL)
	}
	if size > maxXattrValue {
		return -int64(vfs.E2BIG)
	}
	if !vfs.Room(int(size / pageSize)) {
		return -int64(vfs.ENOSPC)
	}
	value := make([]byte, size)
	if !p.mm.copyIn(value, b) {
		return -int64(vfs.EFAULT)
	}
	return -int64(n.SetXattr(name, value, int(flags)))
}

// xattrOut gives the program b, or with no room at all, how much that is.
func (p *process) xattrOut(b []byte, addr, size uint64) int64 {
	switch {
	case size == 0:
	case uint64(len(b)) > size:
		return -int64(vfs.ERANGE)
	case !p.mm.copyOut(addr, b):
		return -int64(vfs.EFAULT)
	}
	return int64(len(b))
}

func prefix(s, p string) bool { return len(s) > len(p) && s[:len(p)] == p }
