package newc

import "github.com/firstlight-boot/firstlight/ramfs"

// dir returns the directory of path and the last component, "" for the root itself. Directories that are not there are made.
func (l *loader) dir(path string) (*ramfs.Node, string, error) {
	cut := 0
	for i := range len(path) {
		if path[i] == '/' {
			cut = i + 1
		}
	}
	if l.last != nil && path[:cut] == l.path {
		if name := path[cut:]; name != "" && name != "." && name != ".." {
			return l.last, name, nil
		}
	}
	d, name := l.root, ""
	levels := 0
	for rest := path; rest != ""; {
		n := 0
		for n < len(rest) && rest[n] != '/' {
			n++
		}
		part := rest[:n]
		for n < len(rest) && rest[n] == '/' {
			n++
		}
		rest = rest[n:]
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			return nil, "", &Error{Text: path + " leads out of a folder"}
		case name != "":
			next, err := d.Lookup(name)
			if err == ramfs.ENOENT {
				next, err = d.Create(name, ramfs.TypeDir|0o755, 0)
			}
			if err != 0 {
				return nil, "", bad(path, err)
			}
			if next.Type() != ramfs.TypeDir {
				return nil, "", &Error{Text: path + " lies in what is no folder"}
			}
			d = next
		}
		name = part
		if levels++; levels > maxLevels {
			return nil, "", &Error{Text: "a name has more than 256 folders"}
		}
	}
	l.last, l.path = nil, ""
	if len(path)-len(name) == cut {
		l.last, l.path = d, path[:cut]
	}
	return d, name, nil
}

// bad is the error for an entry that cannot be made: of the archive, or, when the file system is full, of that.
func bad(path string, err ramfs.Errno) error {
	if err == ramfs.ENOSPC {
		return err
	}
	return &Error{Text: path + ": " + err.Error()}
}

// entry makes the file of the current header.
func (l *loader) entry(path string, data []byte) error {
	h := &l.field
	mode := h[fieldMode] & (ramfs.TypeMask | ramfs.PermMask)
	kind := mode & ramfs.TypeMask
	d, name, err := l.dir(path)
	if err != nil {
		return err
	}
	mtime := int64(h[fieldMtime]) * 1e9
	key := linkKey{h[fieldMajor], h[fieldMinor], h[fieldIno]}
	var n *ramfs.Node
	if name == "" {
		if kind != ramfs.TypeDir {
			return &Error{Text: "the root is no folder"}
		}
		n = d
	} else {
		old, _ := d.Lookup(name)
		linked := l.links[key]
		if h[fieldNlink] < 2 || kind == ramfs.TypeDir {
			linked = nil
		}
		if old != nil && old == linked {
			return nil
		}
		// An entry takes the place of an earlier one of the name.
		if old != nil && (old.Type() != ramfs.TypeDir || kind != ramfs.TypeDir) {
			if err := d.Remove(name, old.Type() == ramfs.TypeDir); err != 0 {
				return bad(path, err)
			}
			old = nil
		}
		var err ramfs.Errno
		switch {
		case old != nil:
			n = old
		case linked != nil && linked.Attr().Nlink > 0 && linked.Type() == kind:
			if err = d.Link(name, linked); err == 0 && len(data) > 0 && linked.Attr().Size == 0 {
				err = l.contents(linked, data)
				linked.SetTimes(mtime, mtime)
			}
			if err != 0 {
				return bad(path, err)
			}
			return nil // its attributes are those of the first name
		case kind == ramfs.TypeLink:
			n, err = d.Symlink(name, string(data))
		default:
			n, err = d.Create(name, mode, uint64(makeDev(h[fieldRdevMajor], h[fieldRdevMinor])))
		}
		if err != 0 {
			return bad(path, err)
		}
		if kind == ramfs.TypeReg && len(data) > 0 {
			if err := l.contents(n, data); err != 0 {
				return bad(path, err)
			}
		}
		if h[fieldNlink] > 1 && kind != ramfs.TypeDir {
			if l.links == nil {
				l.links = make(map[linkKey]*ramfs.Node)
			}
			l.links[key] = n
		}
	}
	n.SetMode(mode)
	n.SetOwner(h[fieldUID], h[fieldGID])
	n.SetTimes(mtime, mtime)
	if kind == ramfs.TypeDir {
		l.dirs = append(l.dirs, dirTime{n, mtime})
	}
	return nil
}

func (l *loader) contents(n *ramfs.Node, data []byte) ramfs.Errno {
	l.mem.Use(data)
	return n.SetBase(data, l.mem)
}

// makeDev returns a device number as stat has it (include/linux/kdev_t.h, new_encode_dev).
func makeDev(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}
