package read

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/firstlight-boot/firstlight/zfsmod/format"
	"github.com/firstlight-boot/firstlight/zfsmod/nvlist"
	"github.com/firstlight-boot/firstlight/zfsmod/zap"
)

// FS is a file system, or a snapshot of one.
type FS struct {
	*Objset
	RootDir uint64 // object of the root directory

	sa      bool
	layouts map[int][]attr
}

// attr is an attribute of a layout.
type attr struct {
	name   string
	length int // bytes; 0: it varies
}

// Stat is what is known of a file.
type Stat struct {
	Mode          uint32 // as st_mode
	Size          int64
	UID, GID      uint32
	Links         uint64
	Sec, Nsec     int64 // time of the last change of the content
	Parent        uint64
	Rdev          uint64 // as the system that made it stores device numbers
	Xattr         uint64 // object of the folder of extended attributes, 0 if there is none
	Link          string // target
	InlineXattrs  nvlist.List
	linkInContent bool
}

// FileSystem opens a dataset.
func (p *Pool) FileSystem(d Dataset) (*FS, error) {
	f, err := p.fileSystem(d)
	if err != nil {
		return nil, fmt.Errorf("dataset %s: %w", d.Name, err)
	}
	return f, nil
}

func (p *Pool) fileSystem(d Dataset) (*FS, error) {
	set, err := p.objset(&d.bp)
	if err != nil {
		return nil, err
	}
	f := &FS{Objset: set}
	master, err := f.Object(1, format.TypeMasterNode)
	if err != nil {
		return nil, err
	}
	var version, sa uint64
	for _, n := range []struct {
		name string
		to   *uint64
	}{{"VERSION", &version}, {"ROOT", &f.RootDir}, {"SA_ATTRS", &sa}} {
		v, _, err := zap.Lookup(master, n.name)
		if err != nil {
			return nil, err
		}
		*n.to, _ = v.Uint64()
	}
	if version == 0 || version > 5 {
		return nil, unsupported("version %d of the file system", version)
	}
	if sa != 0 {
		f.sa = true
		if err := f.attributes(sa); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// attributes reads which attributes there are and how they follow each other.
func (f *FS) attributes(object uint64) error {
	table := func(o *Object, name string) (*Object, error) {
		v, ok, err := zap.Lookup(o, name)
		if err != nil {
			return nil, err
		}
		n, _ := v.Uint64()
		if !ok {
			return nil, damaged("there is no table of %s", name)
		}
		return f.Object(n)
	}
	master, err := f.Object(object)
	if err != nil {
		return err
	}
	registry, err := table(master, "REGISTRY")
	if err != nil {
		return err
	}
	known := map[uint16]attr{}
	err = zap.Each(registry, func(name string, v zap.Value) error {
		n, ok := v.Uint64()
		if !ok {
			return damaged("attribute %s has no number", name)
		}
		known[uint16(n)] = attr{name, int(n >> 24 & 0xffff)}
		return nil
	})
	if err != nil {
		return err
	}
	layouts, err := table(master, "LAYOUTS")
	if err != nil {
		return err
	}
	f.layouts = map[int][]attr{}
	return zap.Each(layouts, func(name string, v zap.Value) error {
		n, err := strconv.Atoi(name)
		if err != nil || v.IntLen != 2 {
			return damaged("layout %q of attributes", name)
		}
		var l []attr
		for i := 0; i+2 <= len(v.Data); i += 2 {
			a, ok := known[binary.BigEndian.Uint16(v.Data[i:])]
			if !ok {
				return damaged("layout %q has an attribute that is not registered", name)
			}
			l = append(l, a)
		}
		f.layouts[n] = l
		return nil
	})
}

// File returns an object of a file with what is known of it.
func (f *FS) File(number uint64) (*Object, Stat, error) {
	var s Stat
	o, err := f.Object(number, format.TypePlainFile, format.TypeDirectory)
	if err != nil {
		return nil, s, err
	}
	switch o.BonusType() {
	case format.TypeZnode:
		err = s.old(o.Bonus()[:o.BonusLen()])
	case format.TypeSA:
		err = f.sysAttrs(&s, o)
	default:
		err = damaged("object %d has a bonus of type %d", number, o.BonusType())
	}
	if err == nil && s.linkInContent {
		s.Link, err = o.text(s.Size)
	}
	if err == nil && s.Size < 0 {
		err = damaged("object %d has a size of %d", number, s.Size)
	}
	return o, s, err
}

// maxLink bounds a link's target: PATH_MAX of Linux.
const maxLink = 4096

// text reads the first bytes of an object's content.
func (o *Object) text(size int64) (string, error) {
	if size < 0 || size > maxLink || size > int64(o.BlockSize()) {
		return "", damaged("a link's target of %d bytes", size)
	}
	b, err := o.Block(0)
	if err != nil {
		return "", err
	}
	return string(b[:size]), nil
}

// old reads a znode_phys_t.
func (s *Stat) old(b []byte) error {
	const size = 264
	if len(b) < size {
		return damaged("attributes of %d bytes", len(b))
	}
	s.Sec, s.Nsec = int64(word(b, 2)), int64(word(b, 3))
	s.Mode, s.Size, s.Parent, s.Links = uint32(word(b, 9)), int64(word(b, 10)), word(b, 11), word(b, 12)
	s.Xattr, s.Rdev = word(b, 13), word(b, 14)
	s.UID, s.GID = uint32(word(b, 16)), uint32(word(b, 17))
	if s.Mode>>12 == 0o12 {
		if s.Size >= 0 && s.Size <= int64(len(b)-size) {
			s.Link = string(b[size:][:s.Size])
		} else {
			s.linkInContent = true
		}
	}
	return nil
}

// sysAttrs reads the attributes of the bonus, and those of the block where there was no room for all.
func (f *FS) sysAttrs(s *Stat, o *Object) error {
	if n := o.BonusLen(); n > 0 {
		if err := f.attrs(s, o.Bonus()[:n]); err != nil {
			return err
		}
	}
	if o.Flags()&format.DnodeSpill == 0 {
		return nil
	}
	bp := (*format.BP)(o.Dnode[format.DnodeSize-format.BPSize:])
	if bp.IsHole() {
		return nil
	}
	b, err := o.pool.block(bp)
	if err != nil {
		return err
	}
	return f.attrs(s, b)
}

func (f *FS) attrs(s *Stat, b []byte) error {
	if len(b) < 8 || binary.LittleEndian.Uint32(b) != 0x2F505A {
		return damaged("attributes that start with %x", b[:min(len(b), 4)])
	}
	info := binary.LittleEndian.Uint16(b[4:])
	header := int(info>>10) * 8
	layout, ok := f.layouts[int(info&1023)]
	if !ok || header < 8 || header > len(b) {
		return damaged("attributes of layout %d", info&1023)
	}
	lengths := b[6:header]
	at := header
	for _, a := range layout {
		n := a.length
		if n == 0 {
			if len(lengths) < 2 {
				return damaged("attributes without the length of %s", a.name)
			}
			n = int(binary.LittleEndian.Uint16(lengths))
			lengths = lengths[2:]
		}
		if n > len(b)-at {
			return damaged("attributes that end in %s", a.name)
		}
		if err := s.set(a.name, b[at:at+n]); err != nil {
			return err
		}
		at = min((at+n+7)&^7, len(b))
	}
	return nil
}

func (s *Stat) set(name string, v []byte) error {
	if len(v) >= 8 {
		w := word(v, 0)
		switch name {
		case "ZPL_MODE":
			s.Mode = uint32(w)
		case "ZPL_SIZE":
			s.Size = int64(w)
		case "ZPL_UID":
			s.UID = uint32(w)
		case "ZPL_GID":
			s.GID = uint32(w)
		case "ZPL_LINKS":
			s.Links = w
		case "ZPL_PARENT":
			s.Parent = w
		case "ZPL_RDEV":
			s.Rdev = w
		case "ZPL_XATTR":
			s.Xattr = w
		case "ZPL_MTIME":
			if len(v) >= 16 {
				s.Sec, s.Nsec = int64(w), int64(word(v, 1))
			}
		}
	}
	switch name {
	case "ZPL_SYMLINK":
		s.Link = string(v)
	case "ZPL_DXATTR":
		l, err := nvlist.Unpack(v)
		if err != nil {
			return damaged("extended attributes: %v", err)
		}
		s.InlineXattrs = l
	}
	return nil
}

// Names calls each for the entries of a directory: name, object and type, which is st_mode's upper four bits of 16.
func (f *FS) Names(dir *Object, each func(name string, object uint64, typ uint32) error) error {
	if dir.Type() != format.TypeDirectory {
		return damaged("a directory is an object of type %d", dir.Type())
	}
	return zap.Each(dir, func(name string, v zap.Value) error {
		n, ok := v.Uint64()
		if !ok {
			return damaged("the entry %q of a directory has no number", name)
		}
		return each(name, n&(1<<48-1), uint32(n>>60))
	})
}

// Lookup finds an entry of a directory; 0 is none.
func (f *FS) Lookup(dir *Object, name string) (uint64, error) {
	if dir.Type() != format.TypeDirectory {
		return 0, nil
	}
	v, _, err := zap.Lookup(dir, name)
	n, _ := v.Uint64()
	return n & (1<<48 - 1), err
}
