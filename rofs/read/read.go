// Package read reads a version 2 ROFS image. Kernel and host share it: it imports only the layout and the decoder, starts
// nothing, initialises nothing, and allocates only in Open and where a larger cluster than before needs a buffer.
//
// What it reads it verifies: the superblock at Open, then each metadata block and each cluster that is touched.
package read

import (
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/rofs/lz4block"
	"github.com/firstlight-boot/firstlight/rofs/zstdblock"
)

// A Device is what an image lies on; io.ReaderAt's contract.
type Device interface {
	ReadAt(p []byte, off int64) (n int, err error)
}

// Options are for Open. The zero value is fine.
type Options struct {
	// SegmentSize is the length in bytes of the aligned pieces in which the device is read, a power of two from 4 KiB to
	// 128 KiB; 0 is 32 KiB.
	SegmentSize int
	// Cache is the memory that holds segments, at least one of them; what is beyond a multiple of SegmentSize is unused.
	// The FS owns it from then on. Nil: four segments are allocated.
	Cache []byte
	// Direct reads what is stored of each cluster by itself, so that segments are of metadata only: for a device whose
	// requests cost less than what else lies in a segment.
	Direct bool
	// Meta, if any, keeps metadata blocks instead of segments, for several FS at once.
	Meta Meta
}

// Block is a metadata block that was verified and is never written again.
type Block [format.BlockSize]byte

// Meta keeps metadata blocks by their number, the offset in the image over format.BlockSize. It may forget any.
type Meta interface {
	Get(number uint64) *Block // nil: not there
	Put(number uint64, b *Block)
}

// FS is an open image. It must not be used by two goroutines at once.
type FS struct {
	dev      Device
	size     uint64 // bytes that may be read
	segLog   uint
	direct   bool
	next     uint64 // where what was read last with direct ends
	ahead    []byte // what was read in one piece with it, from aheadOff on
	aheadOff uint64
	meta     Meta
	segs     []segment
	tick     uint32
	tables   [format.NumTables]table
	Super    format.Superblock // verified; read only
	packed   []byte            // stored bytes of a cluster that do not lie in one segment
	zstd     *zstdblock.Decoder
	decoded  []byte // last cluster that ReadAt had to decode whole
	decodedN uint64 // its record in the cluster table, plus one; 0 is none
	decodedL uint64 // its length
}

type segment struct {
	number   uint64 // offset >> segLog, plus one; 0 is empty
	verified uint32 // bit i: the metadata block at i<<12 is
	used     uint32 // tick of the last use
	mem      []byte
}

type table struct {
	start, count     uint32
	magic, size, per uint32
}

// Open reads the superblock of the image that begins at byte 0 of dev, where size bytes can be read.
func Open(dev Device, size int64, o Options) (*FS, error) {
	if o.SegmentSize == 0 {
		o.SegmentSize = 32 << 10
	}
	f := &FS{dev: dev, size: uint64(size), direct: o.Direct, meta: o.Meta}
	for 1<<f.segLog < o.SegmentSize {
		f.segLog++
	}
	if f.segLog < format.BlockLog || f.segLog > format.BlockLog+5 || 1<<f.segLog != o.SegmentSize {
		return nil, format.Corrupt(0, "segment size", format.ErrUnsupported)
	}
	if o.Cache == nil {
		o.Cache = make([]byte, 4*o.SegmentSize)
	}
	f.segs = make([]segment, len(o.Cache)>>f.segLog)
	if len(f.segs) == 0 {
		return nil, format.Corrupt(0, "cache", format.ErrTooLarge)
	}
	for i := range f.segs {
		f.segs[i].mem = o.Cache[i<<f.segLog : (i+1)<<f.segLog]
	}
	if size < format.BlockSize {
		return nil, format.Corrupt(size, "superblock", format.ErrTruncated)
	}
	g, err := f.segment(0)
	if err != nil {
		return nil, err
	}
	copy(f.Super[:], g.mem)
	return f, f.mount()
}

// mount checks the superblock and takes over what every read needs of it.
func (f *FS) mount() error {
	s := &f.Super
	if !format.Probe(s[:]) {
		return format.Corrupt(0, "magic", format.ErrFormat)
	}
	if s.CRC() != s.Sum() {
		return format.Corrupt(0, "superblock", format.ErrChecksum)
	}
	if s.Version() != format.Version {
		return format.Corrupt(8, "version", format.ErrUnsupported)
	}
	if s.Incompat()&^uint64(format.KnownIncompat) != 0 {
		return format.Corrupt(16, "feature flags", format.ErrUnsupported)
	}
	if s.Codecs()&^uint32(format.KnownCodecs) != 0 {
		return format.Corrupt(80, "codec", format.ErrUnsupported)
	}
	if s.Size() != format.SuperblockSize || s.BlockLog() != format.BlockLog ||
		s.MaxClusterLog() < format.MinClusterLog || s.MaxClusterLog() > format.MaxClusterLog {
		return format.Corrupt(12, "sizes", format.ErrFormat)
	}
	if s.ImageLen() > f.size {
		return format.Corrupt(int64(f.size), "image, which should be longer,", format.ErrTruncated)
	}
	f.size = s.ImageLen()
	next := uint64(1)
	for i := range f.tables {
		shape := &format.Shapes[i]
		t := table{s.Start(i), s.Count(i), shape.Magic, shape.Size, shape.PerBlock}
		if uint64(t.start) != next {
			return format.Corrupt(int64(48+8*i), "start of a table", format.ErrFormat)
		}
		next += uint64(format.Blocks(i, t.count))
		f.tables[i] = t
	}
	if next<<format.BlockLog > s.DataOff() || s.DataOff() > f.size || f.size&(format.BlockSize-1) != 0 ||
		f.tables[format.Inodes].count == 0 {
		return format.Corrupt(32, "lengths", format.ErrFormat)
	}
	return nil
}

// segment returns the segment with that number, reading it if need be.
func (f *FS) segment(number uint64) (*segment, error) {
	f.tick++
	old := &f.segs[0]
	for i := range f.segs {
		g := &f.segs[i]
		if g.number == number+1 {
			g.used = f.tick
			return g, nil
		}
		if f.tick-g.used > f.tick-old.used || g.number == 0 && old.number != 0 {
			old = g
		}
	}
	off := number << f.segLog
	n := uint64(len(old.mem))
	if n > f.size-off {
		n = f.size - off
	}
	old.number = 0
	if err := f.readFull(old.mem[:n], off); err != nil {
		return nil, err
	}
	old.number, old.verified, old.used = number+1, 0, f.tick
	return old, nil
}

// lookup returns the segment with that number if it is in memory.
func (f *FS) lookup(number uint64) *segment {
	for i := range f.segs {
		if f.segs[i].number == number+1 {
			return &f.segs[i]
		}
	}
	return nil
}

// readFull reads len(p) bytes, which the caller knows to lie within the image.
func (f *FS) readFull(p []byte, off uint64) error {
	n, err := f.dev.ReadAt(p, int64(off))
	if n == len(p) {
		return nil
	}
	if err == nil {
		err = format.Corrupt(int64(off)+int64(n), "image", format.ErrTruncated)
	}
	return err
}

// block returns block i of table t from its header to the end of its payload in use, valid until the next call.
func (f *FS) block(t *table, i uint32) ([]byte, error) {
	off := (uint64(t.start) + uint64(i)) << format.BlockLog
	if off >= f.size {
		return nil, format.Corrupt(int64(off), "metadata block", format.ErrFormat)
	}
	if f.meta != nil {
		m := f.meta.Get(off >> format.BlockLog)
		if m == nil {
			m = new(Block)
			if err := f.readFull(m[:], off); err != nil {
				return nil, err
			}
			if err := verify(m[:], t, i, off); err != nil {
				return nil, err
			}
			f.meta.Put(off>>format.BlockLog, m)
		}
		return m[:format.HeaderSize+(*format.Header)(m[:]).Used()], nil
	}
	g, err := f.segment(off >> f.segLog)
	if err != nil {
		return nil, err
	}
	pos := off & (1<<f.segLog - 1)
	b := g.mem[pos : pos+format.BlockSize]
	if bit := uint32(1) << (pos >> format.BlockLog); g.verified&bit == 0 {
		if err := verify(b, t, i, off); err != nil {
			return nil, err
		}
		g.verified |= bit
	}
	return b[:format.HeaderSize+(*format.Header)(b).Used()], nil
}

// verify checks the block b, which is block i of table t and lies at off.
func verify(b []byte, t *table, i uint32, off uint64) error {
	h := (*format.Header)(b)
	used := format.HeaderSize + uint32(h.Used())
	if used > format.BlockSize {
		return format.Corrupt(int64(off), "metadata block", format.ErrFormat)
	}
	if h.CRC() != format.Checksum(b[4:used]) {
		return format.Corrupt(int64(off), "metadata block", format.ErrChecksum)
	}
	if h.Magic() != t.magic || h.Index() != i {
		return format.Corrupt(int64(off), "metadata block", format.ErrFormat)
	}
	return nil
}

// record returns record i of a table, valid until the next call.
func (f *FS) record(t *table, i uint64) ([]byte, error) {
	if i >= uint64(t.count) {
		return nil, format.Corrupt(int64(t.start)<<format.BlockLog, "record number", format.ErrFormat)
	}
	n := uint32(i) / t.per
	b, err := f.block(t, n)
	if err != nil {
		return nil, err
	}
	pos := format.HeaderSize + (uint32(i)-n*t.per)*t.size
	if uint64(pos)+uint64(t.size) > uint64(len(b)) {
		return nil, format.Corrupt(int64(t.start+n)<<format.BlockLog, "metadata block", format.ErrFormat)
	}
	return b[pos : pos+t.size], nil
}

// str returns up to n bytes of the string at addr: those in its first block.
func (f *FS) str(addr uint64, n int) ([]byte, error) {
	t := &f.tables[format.Strings]
	i, pos := addr>>format.BlockLog, int(addr&(format.BlockSize-1))
	if i >= uint64(t.count) || pos < format.HeaderSize {
		return nil, format.Corrupt(int64(t.start)<<format.BlockLog, "string address", format.ErrFormat)
	}
	b, err := f.block(t, uint32(i))
	if err != nil {
		return nil, err
	}
	if pos >= len(b) {
		return nil, format.Corrupt(int64(t.start+uint32(i))<<format.BlockLog, "string address", format.ErrFormat)
	}
	b = b[pos:]
	if n < len(b) {
		b = b[:n]
	}
	return b, nil
}

// strings fills p with the string at addr.
func (f *FS) strings(p []byte, addr uint64) error {
	for len(p) > 0 {
		b, err := f.str(addr, len(p))
		if err != nil {
			return err
		}
		copy(p, b)
		p = p[len(b):]
		addr = (addr>>format.BlockLog+1)<<format.BlockLog | format.HeaderSize
	}
	return nil
}

// Inodes returns how many inodes there are; their numbers are 1 (the root directory) to that.
func (f *FS) Inodes() uint32 { return f.tables[format.Inodes].count }

// Inode reads inode number ino into n.
func (f *FS) Inode(ino uint32, n *format.Inode) error {
	b, err := f.record(&f.tables[format.Inodes], uint64(ino)-1)
	if err != nil {
		return err
	}
	*n = format.Inode(b)
	if n.Magic() != format.InodeMagic || n.Ino() != ino {
		return format.Corrupt(f.inodeOff(ino), "inode", format.ErrFormat)
	}
	if n.Type() == format.TypeFile {
		if !f.validFile(n) {
			return format.Corrupt(f.inodeOff(ino), "inode of a file", format.ErrFormat)
		}
	} else if n.Type() == format.TypeDir {
		if !f.has(format.Dirents, n) {
			return format.Corrupt(f.inodeOff(ino), "inode of a directory", format.ErrFormat)
		}
	} else if n.Type() == format.TypeLink && n.Size() > format.MaxLink {
		return format.Corrupt(f.inodeOff(ino), "length of a link", format.ErrTooLarge)
	}
	return nil
}

// validFile reports whether the fields that say where a file's content lies make sense.
func (f *FS) validFile(n *format.Inode) bool {
	log := n.ClusterLog()
	if log < format.MinClusterLog || log > f.Super.MaxClusterLog() || n.Size() > 1<<62 {
		return false
	}
	switch n.Layout() {
	case format.LayoutClusters:
		return f.has(format.Clusters, n)
	case format.LayoutTail:
		return f.has(format.Clusters, n) && uint64(n.Count()) == n.Size()>>log && n.Size()&(1<<log-1) != 0 &&
			n.Tail() < f.tables[format.Clusters].count && n.TailOff() < 1<<format.MaxClusterLog
	case format.LayoutInline:
		return n.Size() <= format.MaxInline && n.Count() == 0
	}
	return false
}

// has reports whether the records of n are within the table.
func (f *FS) has(t int, n *format.Inode) bool {
	count := uint64(f.tables[t].count)
	return n.First() <= count && uint64(n.Count()) <= count-n.First()
}

func (f *FS) inodeOff(ino uint32) int64 {
	t := &f.tables[format.Inodes]
	n := (ino - 1) / t.per
	return int64(t.start+n)<<format.BlockLog + format.HeaderSize + int64((ino-1-n*t.per)*t.size)
}

// Lookup returns the inode number that name has in the directory dir, 0 where there is no such name. It knows neither "."
// nor "..".
func (f *FS) Lookup(dir *format.Inode, name string) (uint32, error) {
	if dir.Type() != format.TypeDir {
		return 0, nil
	}
	want := format.Hash(name)
	lo := dir.First()
	hi := lo + uint64(dir.Count())
	for lo < hi {
		mid := (lo + hi) >> 1
		b, err := f.record(&f.tables[format.Dirents], mid)
		if err != nil {
			return 0, err
		}
		d := (*format.Dirent)(b)
		hash := d.Hash()
		if hash == want {
			ino := d.Ino()
			addr, n := d.Name()
			b, err = f.str(addr, n)
			if err != nil {
				return 0, err
			}
			if string(b) == name {
				return ino, nil
			}
			if string(b) < name {
				lo = mid + 1
			} else {
				hi = mid
			}
		} else if hash < want {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return 0, nil
}

// Dirent is one entry of a directory.
type Dirent struct {
	Ino  uint32
	Type uint8 // mode >> 12, which is Linux's d_type
	n    uint8
	name [format.MaxName]byte
}

// Name returns the entry's name, which d holds.
func (d *Dirent) Name() []byte { return d.name[:d.n] }

// ReadDir reads entry i of the directory dir into d; there are dir.Count() of them, in an order that never changes, without
// "." and "..".
func (f *FS) ReadDir(dir *format.Inode, i uint32, d *Dirent) error {
	if dir.Type() != format.TypeDir || i >= dir.Count() {
		return format.Corrupt(0, "directory entry", format.ErrFormat)
	}
	b, err := f.record(&f.tables[format.Dirents], dir.First()+uint64(i))
	if err != nil {
		return err
	}
	r := (*format.Dirent)(b)
	d.Ino, d.Type = r.Ino(), r.Type()
	addr, n := r.Name()
	b, err = f.str(addr, n)
	if err != nil {
		return err
	}
	if len(b) != n || n == 0 {
		return format.Corrupt(int64(f.tables[format.Strings].start)<<format.BlockLog, "name", format.ErrFormat)
	}
	d.n = uint8(copy(d.name[:], b))
	return nil
}

// Readlink copies the target of the link n into p and returns its length, which is at most format.MaxLink; a shorter p gets
// the target's start.
func (f *FS) Readlink(n *format.Inode, p []byte) (int, error) {
	if n.Type() != format.TypeLink {
		return 0, format.Corrupt(0, "link", format.ErrFormat)
	}
	if uint64(len(p)) > n.Size() {
		p = p[:n.Size()]
	}
	return len(p), f.strings(p, n.First())
}

// Xattrs copies the extended attributes of n into p, n.XattrLen() bytes for format.NextXattr, of which p must have room.
func (f *FS) Xattrs(n *format.Inode, p []byte) (int, error) {
	size := n.XattrLen()
	if uint64(size) > uint64(len(p)) || size > format.MaxXattrs {
		return 0, format.Corrupt(0, "extended attributes", format.ErrTooLarge)
	}
	return int(size), f.strings(p[:size], n.XattrAddr())
}

// Cluster reads the table's record of cluster index of the file n: where its stored bytes are, and how. That of a packed tail
// is the whole cluster's, in which n.TailOff() is where the tail begins. A cluster past those that the file has in the table is a
// hole; so it is in an inline file, which has none.
func (f *FS) Cluster(n *format.Inode, index uint64, c *format.Cluster) error {
	at, _, ok := Place(n, index)
	if !ok {
		*c = format.Cluster{}
		return nil
	}
	return f.Record(at, c)
}

// Place returns the record of the cluster table that has cluster index of the file n, and the byte of its decoded cluster
// where that begins, which is 0 unless it is a packed tail. A hole beyond the table, and an inline file's content, have none.
func Place(n *format.Inode, index uint64) (record uint64, from int, ok bool) {
	if n.Type() == format.TypeFile && index < uint64(n.Count()) {
		return n.First() + index, 0, true
	}
	if n.Type() == format.TypeFile && n.Layout() == format.LayoutTail && index == uint64(n.Count()) {
		return uint64(n.Tail()), int(n.TailOff()), true
	}
	return 0, 0, false
}

// Record reads a record of the cluster table, counted from 0.
func (f *FS) Record(record uint64, c *format.Cluster) error {
	b, err := f.record(&f.tables[format.Clusters], record)
	if err == nil {
		*c = format.Cluster(b)
	}
	return err
}

// Decode makes the cluster of which c is the record, c.Size() bytes, in dst, whose length that must be; a hole has the length
// of dst. When it fails, dst may hold anything.
func (f *FS) Decode(c *format.Cluster, dst []byte) error {
	if c.Codec() == format.CodecHole {
		clear(dst)
		return nil
	}
	return f.decode(c, dst)
}

// Start decodes the LZ4 cluster of which c is the record no further than its byte n takes, with Options.Direct, and returns what is
// up to there, valid until the next call. The stored bytes are verified, all of them. It returns nil where it cannot: Decode says
// why.
func (f *FS) Start(c *format.Cluster, n int) []byte {
	off, length, size := c.Off(), uint64(c.Len()), uint64(c.Size())
	if !f.direct || c.Codec() != format.CodecLZ4 || size > 1<<f.Super.MaxClusterLog() || uint64(n) > size ||
		off < f.Super.DataOff() || off > f.size || length > f.size-off || length > size {
		return nil
	}
	src := f.inAhead(off, length)
	if src == nil {
		if uint64(len(f.packed)) < length {
			f.packed = make([]byte, 1<<f.Super.MaxClusterLog())
		}
		src = f.packed[:length]
		if f.readFull(src, off) != nil {
			return nil
		}
	}
	f.decodedN = 0
	if uint64(len(f.decoded)) < size {
		f.decoded = make([]byte, 1<<f.Super.MaxClusterLog())
	}
	if format.Checksum(src) != c.CRC() || !lz4block.DecodeStart(f.decoded[:size], src, n) {
		return nil
	}
	return f.decoded[:n]
}

// ReadCluster decodes cluster index of the file n, 1<<n.ClusterLog() bytes or what is left of the file, to the start of dst,
// and zeroes what is then left of dst up to the cluster's size. When it fails, dst may hold anything.
func (f *FS) ReadCluster(n *format.Inode, index uint64, dst []byte) error {
	log := n.ClusterLog()
	if n.Type() != format.TypeFile || index >= 1<<(62-format.MaxClusterLog) || index<<log >= n.Size() {
		return format.Corrupt(0, "cluster number", format.ErrFormat)
	}
	if len(dst) > 1<<log {
		dst = dst[:1<<log]
	}
	want := n.Size() - index<<log
	if want > 1<<log {
		want = 1 << log
	}
	if uint64(len(dst)) < want {
		return format.Corrupt(0, "buffer for a cluster", format.ErrTooLarge)
	}
	if n.Layout() == format.LayoutInline {
		clear(dst[want:])
		return f.strings(dst[:want], n.First())
	}
	if index >= uint64(n.Count()) {
		if n.Layout() == format.LayoutTail {
			tail, err := f.tail(n)
			if err != nil {
				return err
			}
			dst = dst[copy(dst, tail):]
		}
		clear(dst)
		return nil
	}
	b, err := f.record(&f.tables[format.Clusters], n.First()+index)
	if err != nil {
		return err
	}
	c := format.Cluster(b)
	if c.Codec() == format.CodecHole {
		clear(dst)
		return nil
	}
	if err := f.decode(&c, dst[:want]); err != nil {
		return err
	}
	clear(dst[want:])
	return nil
}

// tail returns the packed tail of a file, valid until the next call.
func (f *FS) tail(n *format.Inode) ([]byte, error) {
	from, want := uint64(n.TailOff()), n.Size()&(1<<n.ClusterLog()-1)
	if id := uint64(n.Tail()) + 1; f.decodedN != id {
		b, err := f.record(&f.tables[format.Clusters], id-1)
		if err != nil {
			return nil, err
		}
		c := format.Cluster(b)
		size := uint64(c.Size())
		if c.Codec() == format.CodecHole || size > 1<<f.Super.MaxClusterLog() {
			return nil, format.Corrupt(int64(c.Off()), "cluster of tails", format.ErrFormat)
		}
		f.decodedN = 0
		if uint64(len(f.decoded)) < size {
			f.decoded = make([]byte, size)
		}
		if err := f.decode(&c, f.decoded[:size]); err != nil {
			return nil, err
		}
		f.decodedN, f.decodedL = id, size
	}
	if from+want > f.decodedL {
		return nil, format.Corrupt(0, "place of a tail", format.ErrFormat)
	}
	return f.decoded[from : from+want], nil
}

// decode makes the len(dst) bytes of a cluster that is not a hole.
func (f *FS) decode(c *format.Cluster, dst []byte) error {
	off, size := c.Off(), uint64(c.Len())
	if off < f.Super.DataOff() || off > f.size || size > f.size-off || size > uint64(len(dst)) || size == 0 || uint64(c.Size()) != uint64(len(dst)) {
		return format.Corrupt(int64(off), "place of a cluster", format.ErrFormat)
	}
	raw := c.Codec() == format.CodecRaw
	pos := off & (1<<f.segLog - 1)
	src := f.inAhead(off, size)
	// Page-aligned data goes straight to where it is wanted, which may be the page that is mapped, unless it is here already.
	straight := f.direct || raw && pos&(format.BlockSize-1) == 0 && f.lookup(off>>f.segLog) == nil
	switch {
	case src != nil:
	case pos+size <= 1<<f.segLog && !straight: // in one segment
		g, err := f.segment(off >> f.segLog)
		if err != nil {
			return err
		}
		src = g.mem[pos : pos+size]
	default:
		if raw {
			src = dst[:size]
		} else {
			if uint64(len(f.packed)) < size {
				f.packed = make([]byte, 1<<f.Super.MaxClusterLog())
			}
			src = f.packed[:size]
		}
		if err := f.gather(src, off, straight); err != nil {
			return err
		}
	}
	if format.Checksum(src) != c.CRC() {
		return format.Corrupt(int64(off), "cluster", format.ErrChecksum)
	}
	switch {
	case raw:
		if len(src) != len(dst) {
			return format.Corrupt(int64(off), "length of a raw cluster", format.ErrFormat)
		}
		if &src[0] != &dst[0] {
			copy(dst, src)
		}
	case c.Codec() == format.CodecLZ4:
		if lz4block.Decode(dst, src) != len(dst) {
			return format.Corrupt(int64(off), "LZ4 block", format.ErrFormat)
		}
	case c.Codec() == format.CodecZstd:
		if f.zstd == nil {
			f.zstd = &zstdblock.Decoder{}
		}
		if f.zstd.Decode(dst, src) != len(dst) {
			return format.Corrupt(int64(off), "Zstandard frame", format.ErrFormat)
		}
	default:
		return format.Corrupt(int64(off), "codec of a cluster", format.ErrUnsupported)
	}
	return nil
}

// aheadSize is how much is read at once, with Options.Direct, when what is stored is asked for in its order: it saves most of
// the requests, and half of what they cost, and stays in a processor's cache.
const aheadSize = 128 << 10

// inAhead returns size stored bytes at off if they were read together with others, or are now, else nil.
func (f *FS) inAhead(off, size uint64) []byte {
	if !f.direct {
		return nil
	}
	follows := off == f.next
	f.next = off + size
	if off < f.aheadOff || off+size > f.aheadOff+uint64(len(f.ahead)) {
		if !follows || size > aheadSize/2 {
			return nil
		}
		if cap(f.ahead) == 0 {
			f.ahead = make([]byte, aheadSize)
		}
		n := f.size - off
		if n > aheadSize {
			n = aheadSize
		}
		f.ahead, f.aheadOff = f.ahead[:n], off
		if f.readFull(f.ahead, off) != nil { // what is wanted may still be read by itself
			f.ahead = f.ahead[:0]
			return nil
		}
	}
	return f.ahead[off-f.aheadOff:][:size]
}

// gather fills p from off: straight from the device if so or if it is longer than a segment, else through the segments.
func (f *FS) gather(p []byte, off uint64, straight bool) error {
	if len(p) > 1<<f.segLog || straight {
		return f.readFull(p, off)
	}
	for len(p) > 0 {
		g, err := f.segment(off >> f.segLog)
		if err != nil {
			return err
		}
		// In pieces, because the runtime moves what is longer than 2 KiB and not aligned with REP MOVSB, which an emulator takes
		// a byte at a time.
		const piece = 2 << 10
		n := copy(p[:min(len(p), piece)], g.mem[off&(1<<f.segLog-1):])
		p, off = p[n:], off+uint64(n)
	}
	return nil
}

// Holds reports whether ReadAt has the cluster of that record in memory, as the last one of which it was asked for a part.
func (f *FS) Holds(record uint64) bool { return f.decodedN == record+1 }

// ReadAt reads from byte off of the file n into p and returns how many bytes it read: fewer than len(p) only at the end of
// the file, without an error, or with the error that stopped it.
func (f *FS) ReadAt(n *format.Inode, p []byte, off int64) (int, error) {
	if n.Type() != format.TypeFile || off < 0 {
		return 0, format.Corrupt(0, "file", format.ErrFormat)
	}
	if uint64(off) >= n.Size() {
		return 0, nil
	}
	if left := n.Size() - uint64(off); uint64(len(p)) > left {
		p = p[:left]
	}
	log := n.ClusterLog()
	done := 0
	for done < len(p) {
		at := uint64(off) + uint64(done)
		index, skip := at>>log, int(at&(1<<log-1))
		rest := p[done:]
		want := n.Size() - index<<log
		if want > 1<<log {
			want = 1 << log
		}
		if skip == 0 && uint64(len(rest)) >= want {
			if err := f.ReadCluster(n, index, rest[:want]); err != nil {
				return done, err
			}
			done += int(want)
			continue
		}
		if m := int(want) - skip; len(rest) > m {
			rest = rest[:m]
		}
		if n.Layout() == format.LayoutInline {
			if err := f.strings(rest, format.Advance(n.First(), skip)); err != nil {
				return done, err
			}
			done += len(rest)
			continue
		}
		if index >= uint64(n.Count()) {
			if n.Layout() == format.LayoutTail {
				tail, err := f.tail(n)
				if err != nil {
					return done, err
				}
				copy(rest, tail[skip:])
			} else {
				clear(rest)
			}
			done += len(rest)
			continue
		}
		if id := n.First() + index + 1; f.decodedN != id || f.decodedL != want {
			f.decodedN = 0
			if uint64(len(f.decoded)) < 1<<log {
				f.decoded = make([]byte, 1<<log)
			}
			if err := f.ReadCluster(n, index, f.decoded); err != nil {
				return done, err
			}
			f.decodedN, f.decodedL = id, want
		}
		done += copy(rest, f.decoded[skip:want])
	}
	return done, nil
}
