package ext4mod

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	"github.com/firstlight-boot/firstlight/tree"
)

func init() { fsmod.Register(module{}) }

type module struct{}

func (module) Name() string { return "ext4" }

func (module) Codecs() []string { return nil }

// Write writes t and, where there is none, an empty /lost+found. The UUID is made from what is written.
func (module) Write(ctx context.Context, w io.WriterAt, t *tree.Tree, o fsmod.Options) (fsmod.Result, error) {
	if err := hosttool.Uncompressed("ext4", o); err != nil {
		return fsmod.Result{}, err
	}
	if err := t.Validate(); err != nil {
		return fsmod.Result{}, err
	}
	p, err := makePlan(t)
	if err != nil {
		return fsmod.Result{}, err
	}
	e := &emitter{ctx: ctx, w: w, sum: sha256.New(), total: hosttool.Content(t), progress: o.Progress}
	e.write([]byte{0}, p.total*blockSize-1) // the file is as long as the file system, also where that ends in a hole
	for _, n := range p.nodes[1:] {
		if n != nil {
			e.content(n)
		}
	}
	e.tables(p)
	if e.err != nil {
		return fsmod.Result{}, e.err
	}
	return fsmod.Result{Bytes: p.total * blockSize, ContentBytes: e.total, StoredBytes: e.total, Entries: len(t.Entries)}, nil
}

// emitter writes and adds up; its first error sticks.
type emitter struct {
	ctx         context.Context
	w           io.WriterAt
	sum         hash.Hash // of all that is written
	done, total int64
	progress    func(done, total int64)
	err         error
	buf         []byte
}

func (e *emitter) write(b []byte, off int64) {
	if e.err == nil {
		e.err = e.ctx.Err()
	}
	if e.err == nil {
		e.sum.Write(b)
		_, e.err = e.w.WriteAt(b, off)
	}
}

// content writes a node's blocks.
func (e *emitter) content(n *node) {
	at := n.at * blockSize
	if n.xattr != nil {
		e.write(n.xattr, at)
		at += blockSize
	}
	if n.leaves > 0 {
		leaves := n.leafBlocks()
		e.write(leaves, at)
		at += int64(len(leaves))
	}
	if n.dirty != nil {
		e.write(n.dirty, at)
		return
	}
	if n.blocks == 0 || n.e.Source == nil || e.err != nil {
		return
	}
	r, err := n.e.Source()
	if err != nil {
		e.err = err
		return
	}
	defer r.Close()
	if e.buf == nil {
		e.buf = make([]byte, 256<<10)
	}
	for left := n.size; left > 0 && e.err == nil; {
		m, err := io.ReadFull(r, e.buf[:min(left, int64(len(e.buf)))])
		if err != nil {
			e.err = fmt.Errorf("/%s: %w", n.e.Path, err)
			return
		}
		e.write(e.buf[:m], at)
		at, left, e.done = at+int64(m), left-int64(m), e.done+int64(m)
		if e.progress != nil {
			e.progress(e.done, e.total)
		}
	}
	if _, err := r.Read(e.buf[:1]); e.err == nil && err != nil && err != io.EOF {
		e.err = err // as of a file that changed meanwhile
	}
}

// first is the first block of a node's content.
func (n *node) first() int64 { return n.at + n.all() - n.blocks }

func extentHeader(b []byte, entries, room, depth int64) {
	le.PutUint16(b, extentMagic)
	le.PutUint16(b[2:], uint16(entries))
	le.PutUint16(b[4:], uint16(room))
	le.PutUint16(b[6:], uint16(depth))
}

// putExtents fills b, which has room for room extents, with those from block on.
func (n *node) putExtents(b []byte, block, room int64) {
	count := int64(0)
	for ; count < room && block < n.blocks; count++ {
		x := b[extentSize*(1+count):]
		size := min(n.blocks-block, maxExtent)
		le.PutUint32(x, uint32(block))
		le.PutUint16(x[4:], uint16(size))
		le.PutUint32(x[8:], uint32(n.first()+block))
		block += size
	}
	extentHeader(b, count, room, 0)
}

func (n *node) leafBlocks() []byte {
	b := make([]byte, n.leaves*blockSize)
	for i := range n.leaves {
		n.putExtents(b[i*blockSize:][:blockSize], i*blockExtents*maxExtent, blockExtents)
	}
	return b
}

// inode returns a node's inode.
func (n *node) inode() []byte {
	b := make([]byte, inodeSize)
	mode, at := fs.ModeDir|0o700, time.Unix(0, 0)
	if n.e != nil {
		mode, at = n.e.Mode, n.e.ModTime
		le.PutUint16(b[inUID:], uint16(n.e.UID))
		le.PutUint16(b[inUIDHigh:], uint16(n.e.UID>>16))
		le.PutUint16(b[inGID:], uint16(n.e.GID))
		le.PutUint16(b[inGIDHigh:], uint16(n.e.GID>>16))
	}
	le.PutUint16(b[inMode:], uint16(tree.UnixMode(mode)))
	le.PutUint32(b[inSize:], uint32(n.size))
	le.PutUint32(b[inSizeHigh:], uint32(n.size>>32))
	sec, extra := encodeTime(at)
	for _, off := range []int{inAtime, inCtime, inMtime} {
		le.PutUint32(b[off:], sec)
	}
	le.PutUint16(b[inExtra:], extraSize)
	for _, off := range []int{inAtimeExtra, inCtimeExtra, inMtimeExtra} {
		le.PutUint32(b[off:], extra)
	}
	links := n.links
	if mode.IsDir() && links > maxLinks {
		links = 1
	}
	le.PutUint16(b[inLinks:], uint16(links))
	sectors := n.all() * (blockSize / 512)
	le.PutUint32(b[inBlocks:], uint32(sectors))
	le.PutUint16(b[inBlocksHigh:], uint16(sectors>>32))
	if n.xattr != nil {
		le.PutUint32(b[inACL:], uint32(n.at))
	}
	area := b[inBlock:][:blockArea]
	switch {
	case mode&fs.ModeDevice != 0:
		major, minor := n.e.Major, n.e.Minor
		if major < 256 && minor < 256 {
			le.PutUint32(area, major<<8|minor)
		} else {
			le.PutUint32(area[4:], minor&0xff|major<<8|minor&^0xff<<12)
		}
	case mode.Type() == fs.ModeSymlink && n.blocks == 0:
		copy(area, n.e.Link)
	case mode.IsRegular() || mode.IsDir() || mode.Type() == fs.ModeSymlink:
		le.PutUint32(b[inFlags:], flagExtents)
		if n.leaves == 0 {
			n.putExtents(area, 0, inodeExtents)
			break
		}
		extentHeader(area, n.leaves, inodeExtents, 1)
		for i := range n.leaves {
			x := area[extentSize*(1+i):]
			le.PutUint32(x, uint32(i*blockExtents*maxExtent))
			le.PutUint32(x[4:], uint32(n.first()-n.leaves+i))
		}
	}
	return b
}

// encodeTime returns a time as 32 bits of seconds, and their upper two bits and the nanoseconds. Times before 1901 or after 2446 become
// the nearest that there is.
func encodeTime(t time.Time) (sec, extra uint32) {
	s, nanos := t.Unix(), uint32(t.Nanosecond())
	switch {
	case s < -1<<31:
		s, nanos = -1<<31, 0
	case s >= 1<<34-1<<31:
		s, nanos = 1<<34-1<<31-1, 999_999_999
	}
	return uint32(s), uint32((s-int64(int32(s)))>>32)&3 | nanos<<2
}

// tables writes what describes the content, the superblock last, since its UUID depends on all else.
func (e *emitter) tables(p *plan) {
	bitmap := make([]byte, blockSize)
	descs := make([]byte, divUp(p.groups*descSize, blockSize)*blockSize)
	freeBlocks, freeInodes := int64(0), int64(0)
	table := make([]byte, p.inodesPerGroup*inodeSize)
	for g := range p.groups {
		d := descs[g*descSize:]
		le.PutUint32(d[0:], uint32(p.bitmaps+g))
		le.PutUint32(d[4:], uint32(p.inodeBitmaps+g))
		le.PutUint32(d[8:], uint32(p.tables+g*p.inodesPerGroup/inodesPerBlock))

		// Blocks are in use up to p.used; those behind the end count as such.
		first := g * blocksPerGroup
		free := min(p.total, first+blocksPerGroup) - max(first, min(p.used, first+blocksPerGroup))
		free = max(free, 0)
		fill(bitmap, min(max(p.used-first, 0), blocksPerGroup), min(p.total-first, blocksPerGroup))
		e.write(bitmap, (p.bitmaps+g)*blockSize)
		freeBlocks += free
		le.PutUint16(d[12:], uint16(free))

		clear(table)
		ino, used, dirs := g*p.inodesPerGroup+1, int64(0), 0
		for i := range p.inodesPerGroup {
			if ino+i >= int64(len(p.nodes)) {
				break
			}
			used = i + 1
			n := p.nodes[ino+i]
			if n == nil {
				continue // reserved
			}
			copy(table[i*inodeSize:], n.inode())
			if n.e == nil || n.e.Mode.IsDir() {
				dirs++
			}
		}
		fill(bitmap, used, p.inodesPerGroup)
		e.write(bitmap, (p.inodeBitmaps+g)*blockSize)
		e.write(table, (p.tables+g*p.inodesPerGroup/inodesPerBlock)*blockSize)
		freeInodes += p.inodesPerGroup - used
		le.PutUint16(d[14:], uint16(p.inodesPerGroup-used))
		le.PutUint16(d[16:], uint16(dirs))
	}
	e.write(descs, blockSize)

	b := make([]byte, blockSize)
	sb := b[superOff:]
	for off, v := range map[int]int64{
		sbInodes: p.groups * p.inodesPerGroup, sbBlocks: p.total, sbFreeBlocks: freeBlocks, sbFreeInodes: freeInodes,
		sbLogBlock: 2, sbLogCluster: 2, sbPerGroup: blocksPerGroup, sbClPerGroup: blocksPerGroup, sbInoPerGroup: p.inodesPerGroup,
		sbRevision: 1, sbFirstIno: lostIno, sbCompat: compatXattr | compatSparseSuper2, sbIncompat: incompatFileType | incompatExtents | incompatFlexBG,
		sbROCompat: roLargeFile | roDirNlink | roExtraIsize, sbFlags: 2, // hashes of unsigned characters
	} {
		le.PutUint32(sb[off:], uint32(v))
	}
	for off, v := range map[int]uint16{
		sbMaxMounts: 0xffff, sbMagic: magic, sbState: 1, sbErrors: 1, sbInodeSize: inodeSize, sbMinExtra: extraSize, sbWantExtra: extraSize,
	} {
		le.PutUint16(sb[off:], v)
	}
	sb[sbHashVersion], sb[sbLogFlex] = 1, 4
	e.sum.Write(sb)
	sum := e.sum.Sum(nil)
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8 of RFC 9562
	copy(sb[sbUUID:][:16], sum)
	copy(sb[sbHashSeed:][:16], sum[16:])
	e.write(b, 0)
}

// fill sets the bits of a bitmap that are in use: up to used, and from the end on.
func fill(b []byte, used, end int64) {
	for i := range b {
		at := int64(8 * i)
		b[i] = 0
		switch {
		case at+8 <= used || at >= end:
			b[i] = 0xff
		case at >= used && at+8 <= end:
		default:
			for j := range int64(8) {
				if at+j < used || at+j >= end {
					b[i] |= 1 << j
				}
			}
		}
	}
}
