// Package format is the layout of a version 2 ROFS image: sizes, limits, and one getter and one setter a field. It is
// specified in docs/rofs-v2.md. Kernel and host share it, so it imports nothing and initialises nothing.
//
// All integers are little-endian.
//
//	block 0        superblock (256 bytes, then zeros)
//	blocks 1…      inode table, dirent table, strings, cluster table: each a run of metadata blocks
//	DataOff…       stored bytes of clusters
//	ImageLen       a multiple of BlockSize
package format

// Sizes in bytes, and limits.
const (
	Magic   = "FL-ROFS\x02"
	Version = 2

	BlockLog       = 12
	BlockSize      = 1 << BlockLog // of a metadata block
	HeaderSize     = 16            // of a metadata block's header
	PayloadSize    = BlockSize - HeaderSize
	SuperblockSize = 256
	InodeSize      = 80
	DirentSize     = 16
	ClusterSize    = 16 // of an entry of the cluster table

	MinClusterLog = 12 // a cluster decodes to 4 KiB …
	MaxClusterLog = 20 // … to 1 MiB
	MaxName       = 255
	MaxLink       = 4095
	MaxXattrs     = 1 << 20 // bytes of all the extended attributes of one inode
	MaxInline     = PayloadSize

	InodeMagic = 0x32694c46 // "FLi2": in each inode

	RootIno = 1 // inode numbers count from 1; 0 is no inode
)

// Features that a reader must know to read an image at all, and those it may ignore. None is defined yet.
const (
	KnownIncompat = 0
	KnownCompat   = 0
)

// Kinds of the root digest, which docs/rofs-v2.md defines.
const (
	DigestNone   = 0
	DigestSHA256 = 1

	DigestPiece = 1 << 20 // bytes of the image that are digested by themselves
)

// Data layouts of a regular file.
const (
	LayoutClusters = 0 // a run of records of the cluster table
	LayoutTail     = 1 // the same for whole clusters; what is left lies in a cluster together with other files' tails
	LayoutInline   = 2 // a string
)

// Codecs of a cluster.
const (
	CodecHole = 0 // zeros, nothing stored: an entry of the cluster table that is all zero
	CodecRaw  = 1
	CodecLZ4  = 2 // one LZ4 block, which decodes to exactly the cluster's length
	CodecZstd = 3 // one Zstandard frame, which decodes to exactly the cluster's length, with a window of no more

	KnownCodecs = 1<<CodecHole | 1<<CodecRaw | 1<<CodecLZ4 | 1<<CodecZstd
)

// The tables, in the order in which they lie in the image.
const (
	Inodes = iota
	Dirents
	Strings
	Clusters
	NumTables
)

// TableShape is what one table is made of.
type TableShape struct {
	Magic    uint32 // of its blocks
	Size     uint32 // of a record in bytes
	PerBlock uint32 // records in a block
}

// Shapes has the shape of each table. A record of Strings is a whole payload, addressed by the byte.
var Shapes = [NumTables]TableShape{
	Inodes:   {0x32696652, InodeSize, PayloadSize / InodeSize},     // "Rfi2"
	Dirents:  {0x32646652, DirentSize, PayloadSize / DirentSize},   // "Rfd2"
	Strings:  {0x32736652, PayloadSize, 1},                         // "Rfs2"
	Clusters: {0x32636652, ClusterSize, PayloadSize / ClusterSize}, // "Rfc2"
}

// Blocks returns how many metadata blocks count records of table t take.
func Blocks(t int, count uint32) uint32 {
	per := Shapes[t].PerBlock
	n := count / per
	if count%per != 0 {
		n++
	}
	return n
}

// The compiler makes one load or store of each of these.

func le16(b []byte) uint16 { _ = b[1]; return uint16(b[0]) | uint16(b[1])<<8 }

func le32(b []byte) uint32 {
	_ = b[3]
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func le64(b []byte) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

func put16(b []byte, v uint16) { _ = b[1]; b[0], b[1] = byte(v), byte(v>>8) }

func put32(b []byte, v uint32) {
	_ = b[3]
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
}

func put64(b []byte, v uint64) {
	_ = b[7]
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	b[4], b[5], b[6], b[7] = byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56)
}

// Superblock is the first 256 bytes of an image.
//
//	off size
//	  0    8  magic "FL-ROFS\x02"
//	  8    2  version: 2
//	 10    2  minor version: 0; a reader accepts any
//	 12    2  size of the superblock: 256
//	 14    1  log2 of the metadata block size: 12
//	 15    1  log2 of the largest cluster size of any file, 12…20
//	 16    8  incompatible features
//	 24    8  compatible features
//	 32    8  length of the image
//	 40    8  start of the data area, which ends the metadata
//	 48   32  tables: 4 × (first block uint32, records uint32)
//	 80    4  codecs in use, bit 1<<codec
//	 84    4  kind of the root digest: 0 is none
//	 88   32  root digest
//	120   16  UUID, or zeros
//	136    8  sum of the sizes of all regular files
//	144  108  zero; the digest does not cover them
//	252    4  CRC-32C of bytes 0…251
type Superblock [SuperblockSize]byte

func (s *Superblock) Version() uint16          { return le16(s[8:]) }
func (s *Superblock) SetVersion(v uint16)      { put16(s[8:], v) }
func (s *Superblock) Minor() uint16            { return le16(s[10:]) }
func (s *Superblock) SetMinor(v uint16)        { put16(s[10:], v) }
func (s *Superblock) Size() uint16             { return le16(s[12:]) }
func (s *Superblock) SetSize(v uint16)         { put16(s[12:], v) }
func (s *Superblock) BlockLog() uint8          { return s[14] }
func (s *Superblock) SetBlockLog(v uint8)      { s[14] = v }
func (s *Superblock) MaxClusterLog() uint8     { return s[15] }
func (s *Superblock) SetMaxClusterLog(v uint8) { s[15] = v }
func (s *Superblock) Incompat() uint64         { return le64(s[16:]) }
func (s *Superblock) SetIncompat(v uint64)     { put64(s[16:], v) }
func (s *Superblock) Compat() uint64           { return le64(s[24:]) }
func (s *Superblock) SetCompat(v uint64)       { put64(s[24:], v) }
func (s *Superblock) ImageLen() uint64         { return le64(s[32:]) }
func (s *Superblock) SetImageLen(v uint64)     { put64(s[32:], v) }
func (s *Superblock) DataOff() uint64          { return le64(s[40:]) }
func (s *Superblock) SetDataOff(v uint64)      { put64(s[40:], v) }
func (s *Superblock) Codecs() uint32           { return le32(s[80:]) }
func (s *Superblock) SetCodecs(v uint32)       { put32(s[80:], v) }
func (s *Superblock) DigestKind() uint32       { return le32(s[84:]) }
func (s *Superblock) SetDigestKind(v uint32)   { put32(s[84:], v) }
func (s *Superblock) Digest() (d [32]byte)     { copy(d[:], s[88:]); return }
func (s *Superblock) SetDigest(d [32]byte)     { copy(s[88:], d[:]) }
func (s *Superblock) UUID() (u [16]byte)       { copy(u[:], s[120:]); return }
func (s *Superblock) SetUUID(u [16]byte)       { copy(s[120:], u[:]) }
func (s *Superblock) FileBytes() uint64        { return le64(s[136:]) }
func (s *Superblock) SetFileBytes(v uint64)    { put64(s[136:], v) }
func (s *Superblock) CRC() uint32              { return le32(s[252:]) }
func (s *Superblock) SetCRC()                  { put32(s[252:], s.Sum()) }
func (s *Superblock) Sum() uint32              { return Checksum(s[:252]) }
func (s *Superblock) SetMagic()                { copy(s[:], Magic) }
func (s *Superblock) Reserved() []byte         { return s[144:252] }
func (s *Superblock) Start(table int) uint32   { return le32(s[48+8*table:]) }
func (s *Superblock) Count(table int) uint32   { return le32(s[52+8*table:]) }
func (s *Superblock) SetStart(t int, v uint32) { put32(s[48+8*t:], v) }
func (s *Superblock) SetCount(t int, v uint32) { put32(s[52+8*t:], v) }

// Probe reports whether an image begins with header, of which 8 bytes are enough.
func Probe(header []byte) bool {
	return len(header) >= len(Magic) && string(header[:len(Magic)]) == Magic
}

// Header begins each metadata block.
//
//	off size
//	  0    4  CRC-32C of bytes 4…15 and the payload in use
//	  4    4  magic of the table
//	  8    4  number of the block within its table
//	 12    2  bytes of payload in use, 1…4080; the others are zero
//	 14    2  zero
type Header [HeaderSize]byte

func (h *Header) CRC() uint32       { return le32(h[0:]) }
func (h *Header) SetCRC(v uint32)   { put32(h[0:], v) }
func (h *Header) Magic() uint32     { return le32(h[4:]) }
func (h *Header) SetMagic(v uint32) { put32(h[4:], v) }
func (h *Header) Index() uint32     { return le32(h[8:]) }
func (h *Header) SetIndex(v uint32) { put32(h[8:], v) }
func (h *Header) Used() uint16      { return le16(h[12:]) }
func (h *Header) SetUsed(v uint16)  { put16(h[12:], v) }
func (h *Header) Reserved() uint16  { return le16(h[14:]) }

// File types, as in the mode of an inode and the d_type of Linux's directory entries (mode >> 12).
const (
	TypeMask  = 0xf000
	TypeFifo  = 0x1000
	TypeChar  = 0x2000
	TypeDir   = 0x4000
	TypeBlock = 0x6000
	TypeFile  = 0x8000
	TypeLink  = 0xa000
)

// Inode is one record of the inode table; inode number i is record i-1.
//
//	off size
//	  0    2  mode as Linux's st_mode
//	  2    1  log2 of the cluster size (regular files, else 0)
//	  3    1  data layout (regular files, else 0)
//	  4    4  number of links
//	  8    4  uid
//	 12    4  gid
//	 16    8  size: of a file's content, of a link's target; 0 of all others
//	 24    8  modification time, seconds since 1970 (signed)
//	 32    4  modification time, nanoseconds, < 1e9
//	 36    4  device node: number as Linux's new_encode_dev: minor & 0xff | major << 8 | (minor &^ 0xff) << 12;
//	          file with a packed tail: the tail's record in the cluster table; else 0
//	 40    8  first record in the cluster table (file) or dirent table (directory), or string address (link, inline file)
//	 48    4  number of records: of clusters, of dirents; what lies in a file after its last cluster is a hole
//	 52    4  inode of the directory that holds the first name; the root's is itself
//	 56    8  string address of the extended attributes
//	 64    4  length of the extended attributes, 0 for none
//	 68    4  magic "FLi2"
//	 72    4  number of this inode
//	 76    4  file with a packed tail: byte of the decoded cluster where it begins; else 0
type Inode [InodeSize]byte

func (n *Inode) Mode() uint16          { return le16(n[0:]) }
func (n *Inode) SetMode(v uint16)      { put16(n[0:], v) }
func (n *Inode) ClusterLog() uint8     { return n[2] }
func (n *Inode) SetClusterLog(v uint8) { n[2] = v }
func (n *Inode) Layout() uint8         { return n[3] }
func (n *Inode) SetLayout(v uint8)     { n[3] = v }
func (n *Inode) Nlink() uint32         { return le32(n[4:]) }
func (n *Inode) SetNlink(v uint32)     { put32(n[4:], v) }
func (n *Inode) UID() uint32           { return le32(n[8:]) }
func (n *Inode) SetUID(v uint32)       { put32(n[8:], v) }
func (n *Inode) GID() uint32           { return le32(n[12:]) }
func (n *Inode) SetGID(v uint32)       { put32(n[12:], v) }
func (n *Inode) Size() uint64          { return le64(n[16:]) }
func (n *Inode) SetSize(v uint64)      { put64(n[16:], v) }
func (n *Inode) MtimeSec() int64       { return int64(le64(n[24:])) }
func (n *Inode) SetMtimeSec(v int64)   { put64(n[24:], uint64(v)) }
func (n *Inode) MtimeNsec() uint32     { return le32(n[32:]) }
func (n *Inode) SetMtimeNsec(v uint32) { put32(n[32:], v) }
func (n *Inode) SetRdev(v uint32)      { put32(n[36:], v) }
func (n *Inode) First() uint64         { return le64(n[40:]) }
func (n *Inode) SetFirst(v uint64)     { put64(n[40:], v) }
func (n *Inode) Count() uint32         { return le32(n[48:]) }
func (n *Inode) SetCount(v uint32)     { put32(n[48:], v) }
func (n *Inode) Parent() uint32        { return le32(n[52:]) }
func (n *Inode) SetParent(v uint32)    { put32(n[52:], v) }
func (n *Inode) XattrAddr() uint64     { return le64(n[56:]) }
func (n *Inode) SetXattrAddr(v uint64) { put64(n[56:], v) }
func (n *Inode) XattrLen() uint32      { return le32(n[64:]) }
func (n *Inode) SetXattrLen(v uint32)  { put32(n[64:], v) }
func (n *Inode) Magic() uint32         { return le32(n[68:]) }
func (n *Inode) SetMagic(v uint32)     { put32(n[68:], v) }
func (n *Inode) Ino() uint32           { return le32(n[72:]) }
func (n *Inode) SetIno(v uint32)       { put32(n[72:], v) }
func (n *Inode) Tail() uint32          { return le32(n[36:]) }
func (n *Inode) SetTail(v uint32)      { put32(n[36:], v) }
func (n *Inode) TailOff() uint32       { return le32(n[76:]) }
func (n *Inode) SetTailOff(v uint32)   { put32(n[76:], v) }

// Type returns the type bits of the mode.
func (n *Inode) Type() uint16 { return n.Mode() & TypeMask }

// Rdev returns a device node's number, and 0 for a regular file, which has Tail there.
func (n *Inode) Rdev() uint32 {
	if n.Type() == TypeFile {
		return 0
	}
	return le32(n[36:])
}

// Dev returns a device node's numbers as one rdev, and back.
func Dev(major, minor uint32) uint32 { return minor&0xff | major<<8 | minor&^0xff<<12 }

func DevMajor(dev uint32) uint32 { return dev >> 8 & 0xfff }
func DevMinor(dev uint32) uint32 { return dev&0xff | dev>>12&0xfff00 }

// Dirent is one record of the dirent table. Those of a directory are sorted by (hash, name).
//
//	off size
//	  0    4  hash of the name: Hash
//	  4    4  inode
//	  8    6  string address of the name, which lies in one block
//	 14    1  length of the name, 1…255
//	 15    1  type, mode >> 12
type Dirent [DirentSize]byte

func (d *Dirent) Hash() uint32     { return le32(d[0:]) }
func (d *Dirent) SetHash(v uint32) { put32(d[0:], v) }
func (d *Dirent) Ino() uint32      { return le32(d[4:]) }
func (d *Dirent) SetIno(v uint32)  { put32(d[4:], v) }
func (d *Dirent) Name() (addr uint64, length int) {
	v := le64(d[8:])
	return v & (1<<48 - 1), int(v >> 48 & 0xff)
}
func (d *Dirent) SetName(addr uint64, length int) {
	put64(d[8:], addr|uint64(length)<<48|uint64(d[15])<<56)
}
func (d *Dirent) Type() uint8     { return d[15] }
func (d *Dirent) SetType(v uint8) { d[15] = v }

// Hash is FNV-1a over the bytes of a name.
func Hash(name string) uint32 {
	h := uint32(2166136261)
	for i := 0; i < len(name); i++ {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return h
}

// Cluster is one record of the cluster table. A hole's is all zero.
//
//	off size
//	  0    8  offset of the stored bytes in the image (43 bits), length of the decoded cluster << 43 (21 bits)
//	  8    3  length of the stored bytes, at most that of the decoded cluster
//	 11    1  codec
//	 12    4  CRC-32C of the stored bytes
type Cluster [ClusterSize]byte

const offBits = 43

// MaxOff is the largest offset of stored bytes.
const MaxOff = 1<<offBits - 1

func (c *Cluster) Off() uint64      { return le64(c[0:]) & MaxOff }
func (c *Cluster) SetOff(v uint64)  { put64(c[0:], le64(c[0:])&^MaxOff|v) }
func (c *Cluster) Size() uint32     { return uint32(le64(c[0:]) >> offBits) }
func (c *Cluster) SetSize(v uint32) { put64(c[0:], le64(c[0:])&MaxOff|uint64(v)<<offBits) }
func (c *Cluster) Len() uint32      { return le32(c[8:]) & 0xffffff }
func (c *Cluster) SetLen(v uint32)  { put32(c[8:], le32(c[8:])&^0xffffff|v) }
func (c *Cluster) Codec() uint8     { return c[11] }
func (c *Cluster) SetCodec(v uint8) { c[11] = v }
func (c *Cluster) CRC() uint32      { return le32(c[12:]) }
func (c *Cluster) SetCRC(v uint32)  { put32(c[12:], v) }

// A string address is the number of a block in the strings table << 12 | the byte within that block, header included. A
// string that does not end in its block goes on after the header of the next one.

// Advance returns the string address n bytes after addr.
func Advance(addr uint64, n int) uint64 {
	b, pos := addr>>BlockLog, addr&(BlockSize-1)-HeaderSize+uint64(n)
	return (b+pos/PayloadSize)<<BlockLog | (HeaderSize + pos%PayloadSize)
}

// The extended attributes of an inode are records of name length (1 byte, > 0), value length (4 bytes), name, value; sorted
// by name, end to end.

// AppendXattr appends one attribute's record to b.
func AppendXattr(b []byte, name string, value []byte) []byte {
	b = append(b, byte(len(name)), 0, 0, 0, 0)
	put32(b[len(b)-4:], uint32(len(value)))
	return append(append(b, name...), value...)
}

// NextXattr takes the first record off b. It returns !ok where b is empty or malformed.
func NextXattr(b []byte) (name, value, rest []byte, ok bool) {
	if len(b) < 5 || b[0] == 0 {
		return nil, nil, nil, false
	}
	n, v := uint64(b[0]), uint64(le32(b[1:]))
	if 5+n+v > uint64(len(b)) {
		return nil, nil, nil, false
	}
	return b[5 : 5+n], b[5+n : 5+n+v], b[5+n+v:], true
}
