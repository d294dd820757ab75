// Package zap makes and reads the attribute tables of ZFS: names with values, in one block (micro) or in a hash table of blocks
// (fat). Source: include/sys/zap_impl.h and zap_leaf.h, module/zfs/{zap,zap_leaf,zap_micro}.c of OpenZFS 2.1.
package zap

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

const (
	blockMicro  = 1<<63 + 3
	blockHeader = 1<<63 + 1
	blockLeaf   = 1<<63 + 0
	magicFat    = 0x2F52AB2AB
	magicLeaf   = 0x2AB1EAF

	microEntry = 64
	microName  = 50 // with its NUL
	// MaxMicro is the largest micro table in bytes.
	MaxMicro = 128 << 10

	blockShift = 14 // of fat tables' blocks
	// BlockSize is that of fat tables, in bytes.
	BlockSize = 1 << blockShift

	hashBits   = 28 // of the hash are used
	leafHeader = 48
	chunkSize  = 24
	chunkFree  = 253
	chunkEntry = 252
	chunkArray = 251
	arrayBytes = 21
	chainEnd   = 0xffff
)

// Entry is a name with its value: numbers of IntLen bytes each, which is 1, 2, 4 or 8.
type Entry struct {
	Name   string
	IntLen int
	Ints   []uint64
}

// Number is an entry with one 64-bit number.
func Number(name string, v uint64) Entry { return Entry{name, 8, []uint64{v}} }

// Text is an entry with a string, stored with a NUL.
func Text(name, s string) Entry {
	v := make([]uint64, len(s)+1)
	for i := range len(s) {
		v[i] = uint64(s[i])
	}
	return Entry{name, 1, v}
}

var crc64 = func() (t [256]uint64) {
	for i := range t {
		c := uint64(i)
		for range 8 {
			c = c>>1 ^ -(c&1)&0xC96C5795D7870F42
		}
		t[i] = c
	}
	return t
}()

// Hash is the place of a name in a table of that salt, which is not 0.
func Hash(salt uint64, name string) uint64 {
	h := salt
	for i := range len(name) {
		h = h>>8 ^ crc64[byte(h)^name[i]]
	}
	return h &^ (1<<(64-hashBits) - 1)
}

// hashed is an entry with its place, and the number that tells it from others at the same place.
type hashed struct {
	*Entry
	hash uint64
	cd   uint32
}

func place(entries []Entry, salt uint64) []hashed {
	list := make([]hashed, len(entries))
	for i := range entries {
		list[i] = hashed{Entry: &entries[i], hash: Hash(salt, entries[i].Name)}
	}
	slices.SortStableFunc(list, func(a, b hashed) int { return cmp.Compare(a.hash, b.hash) })
	for i := 1; i < len(list); i++ {
		if list[i].hash == list[i-1].hash {
			list[i].cd = list[i-1].cd + 1
		}
	}
	return list
}

// Build returns the table, in blocks of the size that it returns: one block of a micro table, if the entries fit into one, or
// the blocks of a fat table. Names must differ, and be no longer than 255 bytes. salt is any number but 0. Entries of one hash
// share a leaf: ErrFull is for those that are too many, or too long.
func Build(entries []Entry, salt uint64) (blocks []byte, blockSize int, err error) {
	size := (microEntry*(len(entries)+1) + 511) &^ 511
	micro := size <= MaxMicro
	for i := range entries {
		e := &entries[i]
		micro = micro && len(e.Name) < microName && e.IntLen == 8 && len(e.Ints) == 1
	}
	list := place(entries, salt)
	if !micro {
		blocks, err = fat(list, salt)
		return blocks, BlockSize, err
	}
	b := make([]byte, size)
	le := binary.LittleEndian
	le.PutUint64(b, blockMicro)
	le.PutUint64(b[8:], salt)
	for i, e := range list {
		p := b[microEntry*(i+1):]
		le.PutUint64(p, e.Ints[0])
		le.PutUint32(p[8:], e.cd)
		copy(p[14:], e.Name)
	}
	return b, size, nil
}

// ErrFull is wrapped by the error about entries that no table can hold.
var ErrFull = errors.New("no room in a table of ZFS")

// chunks counts those that the entry takes in a leaf.
func (e *Entry) chunks() int {
	array := func(n int) int { return (n + arrayBytes - 1) / arrayBytes }
	return 1 + array(len(e.Name)+1) + array(e.IntLen*len(e.Ints))
}

const (
	leafBuckets = 1 << (blockShift - 5)
	leafChunks  = (BlockSize-2*leafBuckets)/chunkSize - 2

	// skew is how many bits more than all leaves need the hashes of one leaf's names may have in common. A
	// million names, however long, need none.
	skew = 6
)

// leafOf is the entries whose hashes start with the bits of prefix, so many as length says.
type leafOf struct {
	prefix uint64
	length int
	list   []hashed
}

// fat makes the header block, leaves in the order of their prefixes, and, if the header has no room for it, the table of
// pointers to them.
func fat(list []hashed, salt uint64) ([]byte, error) {
	var leaves []leafOf
	var split func(l leafOf) error
	split = func(l leafOf) error {
		n := 0
		for _, e := range l.list {
			n += e.chunks()
		}
		if n <= leafChunks {
			leaves = append(leaves, l)
			return nil
		}
		if l.length == hashBits || len(l.list) == 1 {
			return fmt.Errorf("%w: %d names of the same hash take %d of %d chunks, as %.80q does", ErrFull, len(l.list), n, leafChunks, l.list[0].Name)
		}
		bit := uint64(1) << (63 - l.length)
		at, _ := slices.BinarySearchFunc(l.list, 0, func(e hashed, _ int) int {
			if e.hash&bit == 0 {
				return -1
			}
			return 1
		})
		if err := split(leafOf{l.prefix << 1, l.length + 1, l.list[:at]}); err != nil {
			return err
		}
		return split(leafOf{l.prefix<<1 | 1, l.length + 1, l.list[at:]})
	}
	if err := split(leafOf{list: list}); err != nil {
		return nil, err
	}

	const inline = blockShift - 3 - 1 // the header's own half block has a table of 2^inline
	shift := inline
	for _, l := range leaves {
		shift = max(shift, l.length)
	}
	// Names whose hashes are no accident would make a table of 2^28 pointers to a few leaves.
	if shift > inline && shift > bits.Len(uint(len(leaves)))+skew {
		return nil, fmt.Errorf("%w: of %d names some differ in the last of the first %d bits of their hashes only", ErrFull, len(list), shift)
	}
	tableBlocks := 0
	if shift > inline {
		tableBlocks = 1 << (shift + 3 - blockShift)
	}
	first := 1 + tableBlocks // block of the first leaf
	b := make([]byte, (first+len(leaves))<<blockShift)
	le := binary.LittleEndian
	le.PutUint64(b, blockHeader)
	le.PutUint64(b[8:], magicFat)
	if tableBlocks > 0 {
		le.PutUint64(b[16:], 1)
		le.PutUint64(b[24:], uint64(tableBlocks))
	}
	le.PutUint64(b[32:], uint64(shift))
	le.PutUint64(b[56:], uint64(first+len(leaves))) // next free block
	le.PutUint64(b[64:], uint64(len(leaves)))
	le.PutUint64(b[72:], uint64(len(list)))
	le.PutUint64(b[80:], salt)
	table := b[BlockSize/2 : BlockSize]
	if tableBlocks > 0 {
		table = b[BlockSize:][:tableBlocks<<blockShift]
	}
	for i, l := range leaves {
		start := l.prefix << (shift - l.length)
		for k := range uint64(1) << (shift - l.length) {
			le.PutUint64(table[8*(start+k):], uint64(first+i))
		}
		leaf(b[(first+i)<<blockShift:][:BlockSize], l)
	}
	return b, nil
}

// leaf fills block b.
func leaf(b []byte, l leafOf) {
	le := binary.LittleEndian
	le.PutUint64(b, blockLeaf)
	le.PutUint64(b[16:], l.prefix)
	le.PutUint32(b[24:], magicLeaf)
	le.PutUint16(b[30:], uint16(len(l.list)))
	le.PutUint16(b[32:], uint16(l.length))
	table := b[leafHeader:]
	for i := range leafBuckets {
		le.PutUint16(table[2*i:], chainEnd)
	}
	chunks := b[leafHeader+2*leafBuckets:]
	next := 0
	take := func() ([]byte, uint16) {
		next++
		return chunks[(next-1)*chunkSize : next*chunkSize], uint16(next - 1)
	}
	array := func(p []byte) uint16 {
		head := uint16(chainEnd)
		link := func(at uint16) { head = at }
		for len(p) > 0 {
			c, at := take()
			link(at)
			c[0] = chunkArray
			p = p[copy(c[1:1+arrayBytes], p):]
			le.PutUint16(c[22:], chainEnd)
			link = func(at uint16) { le.PutUint16(c[22:], at) }
		}
		return head
	}
	// By hash, ascending: what is put in front of its bucket leaves chains descending, as ZFS keeps them.
	for _, e := range l.list {
		c, at := take()
		c[0], c[1] = chunkEntry, byte(e.IntLen)
		bucket := table[2*(e.hash<<l.length>>(64-(blockShift-5))):]
		copy(c[2:4], bucket[:2])
		le.PutUint16(bucket, at)
		le.PutUint16(c[4:], array(append([]byte(e.Name), 0)))
		le.PutUint16(c[6:], uint16(len(e.Name)+1))
		var value []byte
		for _, v := range e.Ints {
			value = append(value, binary.BigEndian.AppendUint64(nil, v)[8-e.IntLen:]...)
		}
		le.PutUint16(c[8:], array(value))
		le.PutUint16(c[10:], uint16(len(e.Ints)))
		le.PutUint32(c[12:], e.cd)
		le.PutUint64(c[16:], e.hash)
	}
	le.PutUint16(b[28:], uint16(leafChunks-next))
	free := uint16(chainEnd)
	if next < leafChunks {
		free = uint16(next)
	}
	le.PutUint16(b[34:], free)
	for i := next; i < leafChunks; i++ {
		c := chunks[i*chunkSize:]
		c[0] = chunkFree
		after := uint16(i + 1)
		if i == leafChunks-1 {
			after = chainEnd
		}
		le.PutUint16(c[22:], after)
	}
}
