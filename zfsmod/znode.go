package zfsmod

import (
	"encoding/binary"

	"github.com/firstlight-boot/firstlight/tree"
	"github.com/firstlight-boot/firstlight/zfsmod/format"
	"github.com/firstlight-boot/firstlight/zfsmod/zap"
)

// Attributes of files in system attributes (zpl_attr_t, zfs_sa.h), by number.
const (
	attrAtime = iota
	attrMtime
	attrCtime
	attrCrtime
	attrGen
	attrMode
	attrSize
	attrParent
	attrLinks
	attrXattr
	attrRdev
	attrFlags
	attrUID
	attrGID
	attrPad
	attrZnodeACL
	attrDACLCount
	attrSymlink
	attrScanstamp
	attrDACLACEs
	attrDXattr
)

// attributes are registered with names, lengths in bytes (0: they vary) and what their words are: 0 is 64 bits, 3 bytes, 4 an ACL
// (zfs_attr_table, zfs_sa.c).
var attributes = []struct {
	name   string
	length uint64
	words  uint64
}{
	attrAtime: {"ZPL_ATIME", 16, 0}, attrMtime: {"ZPL_MTIME", 16, 0}, attrCtime: {"ZPL_CTIME", 16, 0},
	attrCrtime: {"ZPL_CRTIME", 16, 0}, attrGen: {"ZPL_GEN", 8, 0}, attrMode: {"ZPL_MODE", 8, 0}, attrSize: {"ZPL_SIZE", 8, 0},
	attrParent: {"ZPL_PARENT", 8, 0}, attrLinks: {"ZPL_LINKS", 8, 0}, attrXattr: {"ZPL_XATTR", 8, 0},
	attrRdev: {"ZPL_RDEV", 8, 0}, attrFlags: {"ZPL_FLAGS", 8, 0}, attrUID: {"ZPL_UID", 8, 0}, attrGID: {"ZPL_GID", 8, 0},
	attrPad: {"ZPL_PAD", 32, 0}, attrZnodeACL: {"ZPL_ZNODE_ACL", 88, 3}, attrDACLCount: {"ZPL_DACL_COUNT", 8, 0},
	attrSymlink: {"ZPL_SYMLINK", 0, 3}, attrScanstamp: {"ZPL_SCANSTAMP", 32, 3}, attrDACLACEs: {"ZPL_DACL_ACES", 0, 4},
	attrDXattr: {"ZPL_DXATTR", 0, 3},
}

// The layouts that are used: which attributes follow each other in a bonus. GRUB takes the first ten, and a link's target, at
// fixed places.
const (
	layoutFile = iota + 2
	layoutXattr
	layoutDevice
	layoutDeviceXattr
	layoutLink
	layoutLinkXattr
	layoutSpill
)

var layouts = func() [][]int {
	start := []int{attrMode, attrSize, attrGen, attrUID, attrGID, attrParent, attrFlags, attrAtime, attrMtime, attrCtime, attrCrtime, attrLinks}
	with := func(more ...int) []int { return append(append([]int{}, start...), more...) }
	return [][]int{
		layoutFile:        with(attrDACLCount, attrDACLACEs),
		layoutXattr:       with(attrDACLCount, attrDACLACEs, attrXattr),
		layoutDevice:      with(attrRdev, attrDACLCount, attrDACLACEs),
		layoutDeviceXattr: with(attrRdev, attrDACLCount, attrDACLACEs, attrXattr),
		layoutLink:        with(attrDACLCount, attrDACLACEs, attrSymlink),
		layoutLinkXattr:   with(attrDACLCount, attrDACLACEs, attrSymlink, attrXattr),
		layoutSpill:       {attrSymlink},
	}
}()

// registry and layoutTable are the objects by which a reader finds attributes.
func registry() (list []zap.Entry) {
	for i, a := range attributes {
		list = append(list, zap.Number(a.name, uint64(i)|a.words<<16|a.length<<24))
	}
	return list
}

func layoutTable() (list []zap.Entry) {
	for i, attrs := range layouts {
		if attrs == nil {
			continue
		}
		e := zap.Entry{Name: string(rune('0' + i)), IntLen: 2}
		for _, a := range attrs {
			e.Ints = append(e.Ints, uint64(a))
		}
		list = append(list, e)
	}
	return list
}

// znode is the attributes of one file.
type znode struct {
	mode          uint64 // as st_mode
	size          uint64
	gen           uint64
	uid, gid      uint64
	parent, links uint64
	sec, nsec     uint64
	xattr         uint64 // object of the folder of extended attributes
	rdev          uint64
	flags         uint64
	link          string
}

// Flags of a znode (zfs_znode.h).
const (
	flagXattr      = 0x1
	flagACLTrivial = 0x4
	flagArchive    = 0x800000000
	flagModified   = 0x40000000000
)

// Types in st_mode, and in the top bits of a directory's entries without the last 12 bits.
const (
	modeFIFO = 0o010000
	modeChar = 0o020000
	modeDir  = 0o040000
	modeBlk  = 0o060000
	modeReg  = 0o100000
	modeLink = 0o120000
)

// devNumber is how a system's ZFS stores the numbers of a device: each as it has them itself.
type devNumber int

const (
	devSolaris devNumber = iota // and FreeBSD
	devLinux                    // a kernel's
	devFuse                     // a program's on Linux: makedev of the C library
)

func (d devNumber) number(major, minor uint32) uint64 {
	a, i := uint64(major), uint64(minor)
	switch d {
	case devLinux:
		return a<<20 | i
	case devFuse:
		return a&0xfff<<8 | a&^0xfff<<32 | i&0xff | i&^0xff<<12
	}
	return a<<32 | i
}

// devNumbers is the opposite, for a pool of that version: numbers above 32 bits are Solaris's, which all but 0 as major number
// are; of the others version 23 has zfs-fuse's and later ones have Linux's.
func devNumbers(v, version uint64) (major, minor uint32) {
	switch {
	case v>>32 != 0:
		return uint32(v >> 32), uint32(v)
	case version <= 23:
		return uint32(v >> 8 & 0xfff), uint32(v&0xff | v>>12&^0xff)
	}
	return uint32(v >> 20), uint32(v & 0xfffff)
}

func newZnode(e *tree.Entry, gen uint64, dev devNumber) znode {
	z := znode{
		mode: uint64(tree.UnixMode(e.Mode)), size: uint64(e.Size), gen: gen, uid: uint64(e.UID), gid: uint64(e.GID), links: 1,
		sec: uint64(e.ModTime.Unix()), nsec: uint64(e.ModTime.Nanosecond()),
		flags: flagACLTrivial | flagArchive | flagModified,
	}
	switch z.mode &^ 0o7777 {
	case modeLink:
		z.link, z.size = e.Link, uint64(len(e.Link))
	case modeChar, modeBlk:
		z.rdev = dev.number(e.Major, e.Minor)
	}
	return z
}

// acl is the list of access control that says what the mode says (acl_trivial_create): of entries of 8 bytes.
func (z *znode) acl() (list []byte) {
	const (
		read, write, exec = 1, 2 | 4, 0x20
		everyone          = 0x8 | 0x80 | 0x20000 | 0x100000   // read named attributes, attributes and the list, synchronize
		owner             = everyone | 0x10 | 0x100 | 0xc0000 // and write them, and the owner
		toOwner, toGroup  = 0x1000, 0x2000 | 0x40             // whom an entry is about
		toEveryone        = 0x4000                            //
		allow, deny       = 0, 1                              //
	)
	bits := func(m uint64) uint32 { // of three bits rwx
		v := uint32(0)
		for i, b := range []uint32{exec, write, read} {
			if m>>i&1 != 0 {
				v |= b
			}
		}
		return v
	}
	add := func(what, who uint16, mask uint32) {
		list = binary.LittleEndian.AppendUint16(list, what)
		list = binary.LittleEndian.AppendUint16(list, who)
		list = binary.LittleEndian.AppendUint32(list, mask)
	}
	u, g, o := z.mode>>6&7, z.mode>>3&7, z.mode&7
	if early := u &^ g & o; early != 0 { // the owner's, which a denial of the group would take
		add(allow, toOwner, bits(early))
	}
	if d := (g | o) &^ u; d != 0 {
		add(deny, toOwner, bits(d))
	}
	if d := o &^ g; d != 0 {
		add(deny, toGroup, bits(d))
	}
	add(allow, toOwner, owner|bits(u))
	add(allow, toGroup, everyone|bits(g))
	add(allow, toEveryone, everyone|bits(o))
	return list
}

// old returns the bonus of a file system before version 5 (znode_phys_t), and whether a link's target has room behind it.
func (z *znode) old() (bonus []byte, inside bool) {
	b := make([]byte, 0, format.MaxBonus)
	u64 := func(v ...uint64) {
		for _, w := range v {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
	}
	for range 4 {
		u64(z.sec, z.nsec)
	}
	u64(z.gen, z.mode, z.size, z.parent, z.links, z.xattr, z.rdev, z.flags, z.uid, z.gid, 0, 0, 0, 0)
	acl := z.acl()
	u64(0) // no object of its own
	b = binary.LittleEndian.AppendUint32(b, uint32(len(acl)))
	b = binary.LittleEndian.AppendUint16(b, 1) // entries name users by numbers that may stand for domains'
	b = binary.LittleEndian.AppendUint16(b, uint16(len(acl)/8))
	var aces [72]byte
	copy(aces[:], acl)
	b = append(b, aces[:]...)
	if len(b)+len(z.link) > format.MaxBonus {
		return b, false
	}
	return append(b, z.link...), true
}

// attrs returns the bonus of system attributes, and what goes into a block of its own because it does not fit, nil if all does.
func (z *znode) attrs() (bonus, spill []byte) {
	acl := z.acl()
	layout := layoutFile
	lengths := []int{len(acl)}
	switch z.mode &^ 0o7777 {
	case modeChar, modeBlk:
		layout = layoutDevice
	case modeLink:
		if 16+136+len(acl)+(len(z.link)+7)&^7+8 <= format.MaxBonus {
			layout = layoutLink
			lengths = append(lengths, len(z.link))
		} else {
			spill = z.encode(layoutSpill, nil, []int{len(z.link)})
		}
	}
	if z.xattr != 0 {
		layout++
	}
	return z.encode(layout, acl, lengths), spill
}

// encode writes the attributes of a layout behind their header (sa_hdr_phys_t), which has the lengths of those that vary.
func (z *znode) encode(layout int, acl []byte, lengths []int) []byte {
	header := (6 + 2*len(lengths) + 7) &^ 7
	b := make([]byte, header, format.MaxBonus)
	binary.LittleEndian.PutUint32(b, 0x2F505A)
	binary.LittleEndian.PutUint16(b[4:], uint16(layout|header/8<<10))
	for i, n := range lengths {
		binary.LittleEndian.PutUint16(b[6+2*i:], uint16(n))
	}
	for _, a := range layouts[layout] {
		switch a {
		case attrDACLACEs:
			b = append(b, acl...)
		case attrSymlink:
			b = append(b, z.link...)
			b = append(b, make([]byte, -len(b)&7)...)
		case attrAtime, attrMtime, attrCtime, attrCrtime:
			b = binary.LittleEndian.AppendUint64(b, z.sec)
			b = binary.LittleEndian.AppendUint64(b, z.nsec)
		default:
			b = binary.LittleEndian.AppendUint64(b, map[int]uint64{
				attrMode: z.mode, attrSize: z.size, attrGen: z.gen, attrUID: z.uid, attrGID: z.gid, attrParent: z.parent,
				attrFlags: z.flags, attrLinks: z.links, attrRdev: z.rdev, attrXattr: z.xattr, attrDACLCount: uint64(len(acl) / 8),
			}[a])
		}
	}
	return b
}
