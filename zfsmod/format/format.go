// Package format is the layout of a ZFS pool on disk: labels, block pointers, dnodes, object sets, checksums and compression.
//
// Everything is little endian; pools written on machines of the other byte order are refused by their readers. Sources: "ZFS
// On-Disk Specification", Sun Microsystems, draft of 2006; include/sys/{spa,dmu,dnode,dsl_dir,dsl_dataset,zio,uberblock_impl,
// vdev_impl}.h and module/zfs of OpenZFS 2.1, by the names given.
package format

import "encoding/binary"

// Of a vdev (vdev_impl.h). Each begins with two labels and an area for boot loaders, and ends with two more labels.
const (
	LabelSize     = 256 << 10
	DataStart     = 4 << 20 // where offset 0 of a DVA lies (VDEV_LABEL_START_SIZE)
	DataEnd       = 2 * LabelSize
	ConfigOffset  = 16 << 10 // of the packed configuration in a label
	ConfigSize    = 112 << 10
	RingOffset    = 128 << 10 // of the uberblocks in a label
	RingSize      = 128 << 10
	MinVdevSize   = 64 << 20 // SPA_MINDEVSIZE: what is less cannot be imported
	EmbeddedMagic = 0x210da7ab10c7a11
	EmbeddedSize  = 40 // of the check code at the end of a label's parts (zio_eck_t)
	MaxAshift     = 16
)

// An uberblock (uberblock_impl.h), in bytes from its start.
const (
	UberMagic     = 0x00bab10c
	UberVersion   = 8
	UberTxg       = 16
	UberGUIDSum   = 24
	UberTimestamp = 32
	UberRootBP    = 40
	UberSoftware  = 168
)

// UberblockSize returns the size of a slot of the ring (VDEV_UBERBLOCK_SHIFT).
func UberblockSize(ashift uint) int { return 1 << min(max(ashift, 10), 13) }

// Types of objects (dmu_object_type_t, dmu.h).
const (
	TypeNone = iota
	TypeObjectDirectory
	TypeObjectArray
	TypePackedNvlist
	TypePackedNvlistSize
	TypeBpobj
	TypeBpobjHeader
	TypeSpaceMapHeader
	TypeSpaceMap
	TypeIntentLog
	TypeDnode
	TypeObjset
	TypeDSLDir
	TypeDSLDirChildMap
	TypeDSLDatasetSnapMap
	TypeDSLProps
	TypeDSLDataset
	TypeZnode
	TypeOldACL
	TypePlainFile
	TypeDirectory
	TypeMasterNode
	TypeUnlinkedSet
	TypeZvol
	TypeZvolProp
	TypePlainOther
	TypeUint64Other
	TypeZapOther
	TypeErrorLog
	TypeHistory
	TypeHistoryOffsets
	TypePoolProps
	TypeDSLPerms
	TypeACL
	TypeSysACL
	TypeFUID
	TypeFUIDSize
	TypeNextClones
	TypeScanQueue
	TypeUserGroupUsed
	TypeUserGroupQuota
	TypeUserRefs
	TypeDDTZap
	TypeDDTStats
	TypeSA
	TypeSAMasterNode
	TypeSAAttrRegistration
	TypeSAAttrLayouts
	TypeScanXlate
	TypeDedup
	TypeDeadlist
	TypeDeadlistHeader
	TypeDSLClones
	TypeBpobjSubobj
)

// TypeZapMetadata is a table that has no type of its own (DMU_OTN_ZAP_METADATA).
const TypeZapMetadata = 0xc4

// Kinds of object sets (dmu_objset_type_t).
const (
	ObjsetMeta = 1
	ObjsetZFS  = 2
)

// Flags of a dnode.
const (
	DnodeUsedBytes     = 1 << 0
	DnodeUserAccounted = 1 << 1
	DnodeSpill         = 1 << 2
)

const (
	SectorShift = 9
	BPSize      = 128
	DnodeSize   = 512
	ObjsetSize  = 2048
	// Of an object set: the dnode of its dnodes is first.
	ObjsetIntentLog = 512
	ObjsetType      = 704
	ObjsetFlags     = 712
	ObjsetUserUsed  = 1024
	ObjsetGroupUsed = 1536
	// DnodeHeader is what comes before a dnode's block pointers.
	DnodeHeader = 64
	MaxBonus    = DnodeSize - DnodeHeader - BPSize
	MaxBlock    = 16 << 20 // SPA_MAXBLOCKSIZE
)

// DVA is where a copy of a block is.
type DVA struct {
	Vdev   uint32
	Offset int64 // in bytes from DataStart
	Size   int64 // that is allocated, in bytes
	Gang   bool
}

// BP is a block pointer (blkptr_t) of 128 bytes. That of a hole is zero, but perhaps for its birth.
type BP [BPSize]byte

func (b *BP) word(i int) uint64       { return binary.LittleEndian.Uint64(b[8*i:]) }
func (b *BP) setWord(i int, v uint64) { binary.LittleEndian.PutUint64(b[8*i:], v) }

// DVA returns copy i of three; one that is not there is zero.
func (b *BP) DVA(i int) DVA {
	w, o := b.word(2*i), b.word(2*i+1)
	return DVA{Vdev: uint32(w >> 32), Size: int64(w&(1<<24-1)) << SectorShift, Offset: int64(o&(1<<63-1)) << SectorShift, Gang: o>>63 != 0}
}

// SetDVA says where copy i is, on the first vdev.
func (b *BP) SetDVA(i int, offset, size int64) {
	b.setWord(2*i, uint64(size)>>SectorShift)
	b.setWord(2*i+1, uint64(offset)>>SectorShift)
}

// The properties. Sizes are in bytes.

func (b *BP) Embedded() bool       { return b.word(6)>>39&1 != 0 }
func (b *BP) LogicalSize() int     { return (int(b.word(6)&0xffff) + 1) << SectorShift }
func (b *BP) PhysicalSize() int    { return (int(b.word(6)>>16&0xffff) + 1) << SectorShift }
func (b *BP) Compression() int     { return int(b.word(6) >> 32 & 0x7f) }
func (b *BP) Checksum() int        { return int(b.word(6) >> 40 & 0xff) }
func (b *BP) Type() int            { return int(b.word(6) >> 48 & 0xff) }
func (b *BP) Level() int           { return int(b.word(6) >> 56 & 0x1f) }
func (b *BP) Encrypted() bool      { return b.word(6)>>61&1 != 0 }
func (b *BP) LittleEndian() bool   { return b.word(6)>>63 != 0 }
func (b *BP) Birth() uint64        { return b.word(10) }
func (b *BP) Fill() uint64         { return b.word(11) }
func (b *BP) Sum() (s Sum)         { s.get(b[96:]); return s }
func (b *BP) IsHole() bool         { return !b.Embedded() && b.word(0)|b.word(1) == 0 }
func (b *BP) EmbeddedLogical() int { return int(b.word(6)&(1<<25-1)) + 1 }
func (b *BP) EmbeddedPhysical() int {
	return int(b.word(6)>>25&0x7f) + 1
}
func (b *BP) EmbeddedType() int { return int(b.word(6) >> 40 & 0xff) } // 0: data

// EmbeddedData returns the bytes that an embedded block pointer holds instead of addresses.
func (b *BP) EmbeddedData() []byte {
	p := make([]byte, 0, 112)
	p = append(p, b[:48]...)
	p = append(p, b[56:80]...)
	return append(p, b[88:]...)
}

// Props are what a block pointer says of its block.
type Props struct {
	Logical, Physical int // in bytes
	Compression       int
	Checksum          int
	Type, Level       int
	Birth, Fill       uint64
	Sum               Sum
}

// Set sets all but where the block is.
func (b *BP) Set(p Props) {
	b.setWord(6, uint64(p.Logical>>SectorShift-1)|uint64(p.Physical>>SectorShift-1)<<16|uint64(p.Compression)<<32|
		uint64(p.Checksum)<<40|uint64(p.Type)<<48|uint64(p.Level)<<56|1<<63)
	b.setWord(10, p.Birth)
	b.setWord(11, p.Fill)
	p.Sum.put(b[96:])
}

// Dnode is the header of an object (dnode_phys_t), of 512 bytes.
type Dnode [DnodeSize]byte

func (d *Dnode) Type() int          { return int(d[0]) }
func (d *Dnode) IndirectShift() int { return int(d[1]) }
func (d *Dnode) Levels() int        { return int(d[2]) }
func (d *Dnode) Pointers() int      { return int(d[3]) }
func (d *Dnode) BonusType() int     { return int(d[4]) }
func (d *Dnode) Flags() int         { return int(d[7]) }
func (d *Dnode) BlockSize() int {
	return int(binary.LittleEndian.Uint16(d[8:])) << SectorShift
}
func (d *Dnode) BonusLen() int      { return int(binary.LittleEndian.Uint16(d[10:])) }
func (d *Dnode) ExtraSlots() int    { return int(d[12]) }
func (d *Dnode) MaxBlock() uint64   { return binary.LittleEndian.Uint64(d[16:]) }
func (d *Dnode) Used() uint64       { return binary.LittleEndian.Uint64(d[24:]) }
func (d *Dnode) SetUsed(v uint64)   { binary.LittleEndian.PutUint64(d[24:], v) }
func (d *Dnode) SetLevels(n int)    { d[2] = byte(n) }
func (d *Dnode) SetFlags(flags int) { d[7] = byte(flags) }

// Pointer returns block pointer i, which a reader has to know to be there.
func (d *Dnode) Pointer(i int) *BP { return (*BP)(d[DnodeHeader+i*BPSize:]) }

// Bonus is what comes behind the pointers, at most to the end of this slot.
func (d *Dnode) Bonus() []byte { return d[min(DnodeHeader+d.Pointers()*BPSize, DnodeSize):] }

// Init makes an object of the type with blocks of so many bytes, no content, and a bonus of that type that is copied.
func (d *Dnode) Init(typ, blockSize, indirectShift int, bonusType int, bonus []byte) {
	*d = Dnode{}
	d[0], d[1], d[2], d[3] = byte(typ), byte(indirectShift), 1, 3
	binary.LittleEndian.PutUint16(d[8:], uint16(blockSize>>SectorShift))
	d[5], d[6] = ChecksumInherit, CompressInherit
	d[7] = DnodeUsedBytes
	if bonusType != TypeNone {
		// As dnode_allocate counts: what the bonus leaves, but one with attributes, which may grow.
		d[3] = 1
		if bonusType != TypeSA {
			d[3] += byte((MaxBonus - len(bonus)) / BPSize)
		}
		d[4] = byte(bonusType)
		binary.LittleEndian.PutUint16(d[10:], uint16(len(bonus)))
		copy(d.Bonus(), bonus)
	}
}

// SetMaxBlock says which block is the last.
func (d *Dnode) SetMaxBlock(n uint64) { binary.LittleEndian.PutUint64(d[16:], n) }
