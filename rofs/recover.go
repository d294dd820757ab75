package rofs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/rofs/read"
)

// ErrNothing is wrapped by Recover's error where a file has no trace of a ROFS image.
var ErrNothing = errors.New("no part of a ROFS image was found")

// found is a metadata block that is whole.
type found struct {
	off   int64 // in the file
	index uint32
	table uint8
}

// scan is what a look at the whole file brought, whatever the superblock and the partition table say. Blocks lie on sectors.
type scan struct {
	good   []found                      // in the order of their offsets
	supers map[int64]*format.Superblock // by their offsets
	votes  map[int64]int                // by the offset at which an image would have to begin: how many inodes say so
}

const (
	scanStep  = 512
	scanChunk = 1 << 20
)

// scanFile reads the size bytes of r once. What cannot be read counts as zeros.
func scanFile(ctx context.Context, r io.ReaderAt, size int64) (*scan, error) {
	s := &scan{supers: map[int64]*format.Superblock{}, votes: map[int64]int{}}
	buf := make([]byte, scanChunk+format.BlockSize)
	for at := int64(0); at < size; at += scanChunk {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		b := buf[:min(int64(len(buf)), size-at)]
		readLeniently(r, b, at)
		for pos := 0; pos < min(len(b), scanChunk); pos += scanStep {
			s.look(b[pos:], at+int64(pos))
		}
		// An inode says by itself where its image begins, which helps where its block is damaged.
		for from := 0; ; {
			i := bytes.Index(b[from:min(len(b), scanChunk+3)], []byte("FLi2"))
			if i < 0 {
				break
			}
			from += i + 4
			if from+4 > len(b) {
				break
			}
			ino := binary.LittleEndian.Uint32(b[from:])
			per := format.Shapes[format.Inodes].PerBlock
			start := at + int64(from) - 72 - format.HeaderSize - int64((ino-1)%per)*format.InodeSize - int64((ino-1)/per+1)*format.BlockSize
			if ino != 0 && start%scanStep == 0 && start > -size {
				s.votes[start]++
			}
		}
	}
	return s, nil
}

// readLeniently fills b from off, with zeros for what cannot be read.
func readLeniently(r io.ReaderAt, b []byte, off int64) {
	if n, _ := r.ReadAt(b, off); n == len(b) {
		return
	}
	for at := 0; at < len(b); at += format.BlockSize {
		p := b[at:min(at+format.BlockSize, len(b))]
		n, _ := r.ReadAt(p, off+int64(at))
		clear(p[n:])
	}
}

// look takes down what begins with b, if it is a whole block.
func (s *scan) look(b []byte, off int64) {
	if len(b) >= format.SuperblockSize && format.Probe(b) {
		super := format.Superblock(b)
		if super.CRC() == super.Sum() && validSuper(&super) {
			s.supers[off] = &super
			s.votes[off] += 2
		}
		return
	}
	if len(b) < format.HeaderSize {
		return
	}
	h := (*format.Header)(b)
	for t, shape := range format.Shapes {
		if h.Magic() != shape.Magic {
			continue
		}
		if n := format.HeaderSize + int(h.Used()); n <= min(len(b), format.BlockSize) && h.CRC() == format.Checksum(b[4:n]) {
			s.good = append(s.good, found{off, h.Index(), uint8(t)})
			if t == format.Inodes {
				s.votes[off-int64(h.Index()+1)*format.BlockSize] += 2
			}
		}
	}
}

// validSuper reports whether the tables of a superblock follow each other as they must.
func validSuper(s *format.Superblock) bool {
	next := uint64(1)
	for t := range format.NumTables {
		if uint64(s.Start(t)) != next {
			return false
		}
		next += uint64(format.Blocks(t, s.Count(t)))
	}
	return s.Version() == format.Version && next<<format.BlockLog <= s.DataOff() && s.DataOff() <= s.ImageLen() && s.ImageLen() <= math.MaxInt64
}

// States of a metadata block.
const (
	unknown = iota
	whole
	damaged // its check code is wrong, its records that have one of their own may be used
	lost
)

// nowhere is the start of a table of which nothing is known.
const nowhere = math.MinInt64 / 2

// remains presents what is left of an image as a whole one, so that the leaf reader reads it: a superblock is made up, blocks
// whose check code is wrong get a right one where it makes sense, and lost ones cannot be read.
type remains struct {
	r      io.ReaderAt
	base   int64                     // where the image begins in the file; below 0 if its start is cut off
	start  [format.NumTables]int64   // where a table begins in the file
	blocks [format.NumTables]uint32  // how many blocks it has, at most
	states [format.NumTables][]uint8 // of each
	super  format.Superblock
	rd     *read.FS
	last   [format.NumTables]struct { // the block of each table that was used last
		index uint32
		ok    bool
		mem   [format.BlockSize]byte
	}
}

// newRemains tells from the scan where the image that begins at base has its tables.
func newRemains(r io.ReaderAt, size int64, s *scan, base int64) (*remains, error) {
	m := &remains{r: r, base: base}
	for t := range m.start {
		m.start[t] = nowhere
	}
	if super := s.supers[base]; super != nil {
		for t := range format.NumTables {
			m.start[t] = base + int64(super.Start(t))<<format.BlockLog
			m.blocks[t] = format.Blocks(t, super.Count(t))
		}
	} else {
		m.walk(s, size)
	}
	next := uint32(1)
	m.super.SetMagic()
	m.super.SetVersion(format.Version)
	m.super.SetSize(format.SuperblockSize)
	m.super.SetBlockLog(format.BlockLog)
	m.super.SetMaxClusterLog(format.MaxClusterLog)
	m.super.SetCodecs(format.KnownCodecs)
	for t := range format.NumTables {
		// No table is longer than the file, whatever a superblock says.
		m.blocks[t] = uint32(min(int64(m.blocks[t]), size>>format.BlockLog+1))
		m.states[t] = make([]uint8, m.blocks[t])
		m.super.SetStart(t, next)
		m.super.SetCount(t, uint32(min(uint64(m.blocks[t])*uint64(format.Shapes[t].PerBlock), math.MaxUint32)))
		next += m.blocks[t]
	}
	if m.blocks[format.Inodes] == 0 {
		return nil, fmt.Errorf("%w: none of its inodes", ErrNothing)
	}
	m.super.SetDataOff(uint64(next) << format.BlockLog)
	end := max((size-base+format.BlockSize-1)&^(format.BlockSize-1), int64(m.super.DataOff()))
	m.super.SetImageLen(uint64(end))
	m.super.SetCRC()
	var err error
	m.rd, err = read.Open(m, end, read.Options{SegmentSize: format.BlockSize, Cache: make([]byte, 16*format.BlockSize)})
	return m, err
}

// walk finds the tables by the blocks that are whole: those of a table lie at their number, one table after the other, and none
// but them between the first and the last. What begins later belongs to another image, one in a file perhaps.
func (m *remains) walk(s *scan, size int64) {
	inodes := m.base + format.BlockSize
	m.start[format.Inodes] = inodes
	table, after := format.Inodes, inodes
	per := int64(format.Shapes[format.Inodes].PerBlock)
	for _, f := range s.good {
		start := f.off - int64(f.index)<<format.BlockLog
		if f.off < inodes || (f.off-inodes)%format.BlockSize != 0 {
			continue
		}
		if int(f.table) == table && start != m.start[table] || int(f.table) < table || int(f.table) > table && start < after {
			break
		}
		table = int(f.table)
		m.start[table] = start
		m.blocks[table] = f.index + 1
		after = f.off + format.BlockSize
	}
	// A table goes on to the next, with blocks that are damaged; the last one as far as its records are in use.
	end := after
	for t := format.NumTables - 1; t >= 0; t-- {
		if m.start[t] != nowhere {
			m.blocks[t] = uint32(max(0, end-m.start[t]) >> format.BlockLog)
			end = m.start[t]
		}
	}
	if table == format.Inodes { // no other is known: inodes that say so themselves are the rest
		b := make([]byte, format.BlockSize)
		for {
			off := m.start[table] + int64(m.blocks[table])<<format.BlockLog
			if off >= size {
				break
			}
			readLeniently(m.r, b, max(off, 0))
			if !salvageInodes(b, uint32(int64(m.blocks[table])*per)) {
				break
			}
			m.blocks[table]++
		}
	}
	if table == format.Clusters {
		m.extendClusters(size)
	}
}

// extendClusters takes damaged blocks after the last whole one of the cluster table for part of it, as far as the stored bytes
// begin no earlier.
func (m *remains) extendClusters(size int64) {
	first, known := size-m.base, false
	b := make([]byte, format.BlockSize)
	for i := range m.blocks[format.Clusters] {
		if m.check(format.Clusters, i, b) != whole {
			continue
		}
		for p := format.HeaderSize; p+format.ClusterSize <= len(b); p += format.ClusterSize {
			if c := format.Cluster(b[p:]); c.Codec() != format.CodecHole {
				first, known = min(first, int64(c.Off())), true
			}
		}
	}
	if n := (first - (m.start[format.Clusters] - m.base)) >> format.BlockLog; known && n > int64(m.blocks[format.Clusters]) {
		m.blocks[format.Clusters] = uint32(min(n, math.MaxUint32/format.ClusterSize))
	}
}

// check reads block i of a table to b, mends it if it can be used all the same, and tells its state.
func (m *remains) check(t int, i uint32, b []byte) uint8 {
	off := m.start[t] + int64(i)<<format.BlockLog
	if off < 0 {
		return lost
	}
	readLeniently(m.r, b, off)
	shape := format.Shapes[t]
	h := (*format.Header)(b)
	named := h.Magic() == shape.Magic && h.Index() == i
	if n := format.HeaderSize + int(h.Used()); named && n <= len(b) && h.CRC() == format.Checksum(b[4:n]) {
		clear(b[n:])
		return whole
	}
	switch t {
	case format.Inodes: // each record has its number
		if !salvageInodes(b, i*shape.PerBlock) {
			return lost
		}
	case format.Strings: // nothing else tells whether they are right
		if !named {
			return lost
		}
	case format.Clusters: // what is stored has a check code; a hole has not
		for p := format.HeaderSize; p+format.ClusterSize <= len(b); p += format.ClusterSize {
			if c := (*format.Cluster)(b[p:]); c.Codec() == format.CodecHole {
				c.SetCodec(math.MaxUint8)
			}
		}
	}
	h.SetMagic(shape.Magic)
	h.SetIndex(i)
	h.SetUsed(uint16(shape.PerBlock * shape.Size))
	h.SetCRC(format.Checksum(b[4 : format.HeaderSize+shape.PerBlock*shape.Size]))
	return damaged
}

// salvageInodes clears what is no inode of a block whose first would have the number before+1. It reports whether one is left.
func salvageInodes(b []byte, before uint32) (ok bool) {
	for k := uint32(0); k < format.Shapes[format.Inodes].PerBlock; k++ {
		n := (*format.Inode)(b[format.HeaderSize+k*format.InodeSize:])
		if n.Magic() == format.InodeMagic && n.Ino() == before+k+1 {
			ok = true
		} else {
			*n = format.Inode{}
		}
	}
	return ok
}

// block returns block i of a table, valid until the next call, or nil if it is lost.
func (m *remains) block(t int, i uint32) []byte {
	if i >= m.blocks[t] || m.states[t][i] == lost {
		return nil
	}
	last := &m.last[t]
	if !last.ok || last.index != i {
		m.states[t][i] = m.check(t, i, last.mem[:])
		last.index, last.ok = i, m.states[t][i] != lost
	}
	if !last.ok {
		return nil
	}
	return last.mem[:]
}

// record returns a record of a table, valid until the next call, or nil if it is lost.
func (m *remains) record(t int, i uint64) []byte {
	shape := format.Shapes[t]
	b := m.block(t, uint32(min(i/uint64(shape.PerBlock), math.MaxUint32)))
	if b == nil {
		return nil
	}
	at := format.HeaderSize + i%uint64(shape.PerBlock)*uint64(shape.Size)
	return b[at : at+uint64(shape.Size)]
}

// ReadAt implements read.Device. The leaf reader asks for metadata a block at a time.
func (m *remains) ReadAt(p []byte, off int64) (int, error) {
	gone := func() (int, error) { return 0, format.Corrupt(off, "metadata block", format.ErrChecksum) }
	if off >= int64(m.super.DataOff()) {
		if m.base+off < 0 {
			return gone()
		}
		readLeniently(m.r, p, m.base+off) // all of it has a check code
		return len(p), nil
	}
	clear(p)
	if off < format.BlockSize {
		copy(p, m.super[:])
		return len(p), nil
	}
	v := uint32(off >> format.BlockLog)
	for t := range format.NumTables {
		if i := v - m.super.Start(t); v >= m.super.Start(t) && i < m.blocks[t] {
			b := m.block(t, i)
			if b == nil {
				return gone()
			}
			copy(p, b)
			return len(p), nil
		}
	}
	return gone()
}
