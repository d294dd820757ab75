package ext4mod

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

// node is an inode of a plan, and where its parts are.
type node struct {
	e      *tree.Entry // nil: lost+found
	links  int
	dir    []dirEntry
	parent uint32 // of a folder

	dirty  []byte // a folder's blocks, or a long link's target
	xattr  []byte // block of extended attributes; nil: none
	size   int64  // in bytes
	blocks int64  // of content
	leaves int64  // blocks of extents

	at int64 // first block: of extended attributes, then leaves, then content
}

type dirEntry struct {
	name string
	ino  uint32
	kind byte
}

// plan is a file system before it is written.
type plan struct {
	nodes          []*node // by inode number, from 1; nil where none is
	groups         int64
	inodesPerGroup int64
	total, used    int64 // blocks
	bitmaps        int64 // first block of the block bitmaps
	inodeBitmaps   int64
	tables         int64
	data           int64
}

func divUp(n, by int64) int64 { return (n + by - 1) / by }

func makePlan(t *tree.Tree) (*plan, error) {
	p := &plan{nodes: make([]*node, firstIno, firstIno+len(t.Entries))}
	inos := make(map[string]uint32, len(t.Entries))
	lost := t.Lookup("lost+found")
	for i := range t.Entries {
		e := &t.Entries[i]
		ino, first := uint32(rootIno), e.HardLink == ""
		switch {
		case !first:
			ino = inos[e.HardLink]
			if p.nodes[ino].links++; p.nodes[ino].links > maxLinks {
				return nil, refuse(e, "more than %d names of one file", maxLinks)
			}
		case e.Path == ".":
			p.nodes[ino] = &node{e: e, links: 2, parent: rootIno}
		case e == lost && e.Mode.IsDir():
			ino = lostIno
			p.nodes[ino] = &node{e: e, links: 1}
		default:
			ino = uint32(len(p.nodes))
			p.nodes = append(p.nodes, &node{e: e, links: 1})
		}
		inos[e.Path] = ino
		if e.Path == "." {
			continue
		}
		dir, name := ".", e.Path
		if j := strings.LastIndexByte(e.Path, '/'); j >= 0 {
			dir, name = e.Path[:j], e.Path[j+1:]
		}
		parent := p.nodes[inos[dir]]
		parent.dir = append(parent.dir, dirEntry{name, ino, kind(e.Mode)})
		if e.Mode.IsDir() {
			p.nodes[ino].links++
			p.nodes[ino].parent = inos[dir]
			parent.links++
		}
	}
	if lost == nil { // which e2fsck misses in every file system
		p.nodes[lostIno] = &node{links: 2, parent: rootIno}
		p.nodes[rootIno].dir = append(p.nodes[rootIno].dir, dirEntry{"lost+found", lostIno, kind(fs.ModeDir)})
		p.nodes[rootIno].links++
	}
	data := int64(0)
	for ino, n := range p.nodes {
		if n == nil {
			continue
		}
		if err := n.measure(uint32(ino)); err != nil {
			return nil, err
		}
		n.at = data
		data += n.all()
	}
	if err := p.layOut(data); err != nil {
		return nil, err
	}
	for _, n := range p.nodes {
		if n != nil {
			n.at += p.data
		}
	}
	return p, nil
}

func refuse(e *tree.Entry, format string, args ...any) error {
	return fmt.Errorf("/%s: %w by ext4: %s", e.Path, fsmod.ErrUnsupported, fmt.Sprintf(format, args...))
}

// all is the number of a node's blocks.
func (n *node) all() int64 {
	all := n.blocks + n.leaves
	if n.xattr != nil {
		all++
	}
	return all
}

// measure finds out what blocks a node takes.
func (n *node) measure(ino uint32) error {
	switch {
	case n.e == nil || n.e.Mode.IsDir():
		n.dirty = directory(ino, n.parent, n.dir)
		n.size = int64(len(n.dirty))
	case n.e.Mode.IsRegular():
		n.size = n.e.Size
	case n.e.Mode.Type() == fs.ModeSymlink:
		if n.size = int64(len(n.e.Link)); n.size >= blockArea {
			n.dirty = []byte(n.e.Link)
		}
	}
	if n.dirty != nil || n.e.Mode.IsRegular() {
		n.blocks = divUp(n.size, blockSize)
	}
	if n.blocks > maxFileBlocks {
		return refuse(n.e, "a file of %d bytes; the most is %d here", n.size, int64(maxFileBlocks)*blockSize)
	}
	if extents := divUp(n.blocks, maxExtent); extents > inodeExtents {
		n.leaves = divUp(extents, blockExtents)
	}
	if n.e == nil || len(n.e.Xattrs) == 0 {
		return nil
	}
	var err error
	n.xattr, err = xattrBlock(n.e)
	return err
}

// layOut decides on the groups, for data blocks of content. More groups take more blocks, so it counts up until all fits.
func (p *plan) layOut(data int64) error {
	inodes := int64(len(p.nodes)) - 1
	for p.groups = max(1, divUp(data, blocksPerGroup)); ; p.groups++ {
		p.inodesPerGroup = divUp(divUp(inodes, p.groups), inodesPerBlock) * inodesPerBlock
		if p.inodesPerGroup > blocksPerGroup {
			continue
		}
		p.bitmaps = 1 + divUp(p.groups*descSize, blockSize)
		p.inodeBitmaps = p.bitmaps + p.groups
		p.tables = p.inodeBitmaps + p.groups
		p.data = p.tables + p.groups*p.inodesPerGroup/inodesPerBlock
		p.used = p.data + data
		if p.used <= p.groups*blocksPerGroup {
			break
		}
	}
	// The last group must have a block; a million small files need groups for their inodes alone.
	p.total = max(p.used, (p.groups-1)*blocksPerGroup+1)
	if p.total > 1<<32-1 || p.groups*p.inodesPerGroup > 1<<32-1 {
		return fmt.Errorf("%d blocks and %d inodes: %w by ext4 here, which numbers them in 32 bits", p.total, inodes, fsmod.ErrUnsupported)
	}
	return nil
}

// kind is a file's type in a folder.
func kind(m fs.FileMode) byte {
	switch m.Type() {
	case fs.ModeDir:
		return 2
	case fs.ModeDevice | fs.ModeCharDevice:
		return 3
	case fs.ModeDevice:
		return 4
	case fs.ModeNamedPipe:
		return 5
	case fs.ModeSymlink:
		return 7
	}
	return 1
}

// directory returns the blocks of a folder: entries of inode, length, length of the name, type and name. No entry crosses a block's
// end, and the last of a block goes up to it.
func directory(ino, parent uint32, list []dirEntry) []byte {
	var out []byte
	last := -1
	list = slices.Concat([]dirEntry{{".", ino, 2}, {"..", parent, 2}}, list)
	for _, d := range list {
		n := (8 + len(d.name) + 3) &^ 3
		if left := -len(out) & (blockSize - 1); n > left && last >= 0 {
			le.PutUint16(out[last+4:], le.Uint16(out[last+4:])+uint16(left))
			out = append(out, make([]byte, left)...)
		}
		last = len(out)
		out = append(out, make([]byte, n)...)
		le.PutUint32(out[last:], d.ino)
		le.PutUint16(out[last+4:], uint16(n))
		out[last+6], out[last+7] = byte(len(d.name)), d.kind
		copy(out[last+8:], d.name)
	}
	left := -len(out) & (blockSize - 1)
	le.PutUint16(out[last+4:], le.Uint16(out[last+4:])+uint16(left))
	return append(out, make([]byte, left)...)
}

// xattrBlock returns the block of an entry's extended attributes: a header, the entries sorted by namespace, length and name, and
// from the block's end backwards the values.
func xattrBlock(e *tree.Entry) ([]byte, error) {
	type attr struct {
		index byte
		name  string
		value []byte
	}
	var list []attr
	for _, x := range e.Xattrs {
		i := slices.IndexFunc(xattrPrefixes, func(p struct {
			index  byte
			prefix string
		}) bool {
			return strings.HasPrefix(x.Name, p.prefix)
		})
		if i < 0 {
			return nil, refuse(e, "the extended attribute %s", x.Name)
		}
		list = append(list, attr{xattrPrefixes[i].index, strings.TrimPrefix(x.Name, xattrPrefixes[i].prefix), x.Value})
	}
	slices.SortFunc(list, func(a, b attr) int {
		if a.index != b.index {
			return int(a.index) - int(b.index)
		}
		if len(a.name) != len(b.name) {
			return len(a.name) - len(b.name)
		}
		return strings.Compare(a.name, b.name)
	})
	b := make([]byte, blockSize)
	at, end, all := xattrHeader, blockSize, uint32(0)
	for _, a := range list {
		n, v := (xattrEntry+len(a.name)+3)&^3, (len(a.value)+3)&^3
		if at+n+4 > end-v { // four zero bytes end the entries
			return nil, refuse(e, "more extended attributes than a block of %d bytes holds", blockSize)
		}
		end -= v
		copy(b[end:], a.value)
		b[at], b[at+1] = byte(len(a.name)), a.index
		if v > 0 {
			le.PutUint16(b[at+2:], uint16(end))
		}
		le.PutUint32(b[at+8:], uint32(len(a.value)))
		copy(b[at+xattrEntry:], a.name)
		h := uint32(0)
		for _, c := range []byte(a.name) {
			h = h<<5 ^ h>>27 ^ uint32(c)
		}
		for i := 0; i < v; i += 4 {
			h = h<<16 ^ h>>16 ^ le.Uint32(b[end+i:])
		}
		le.PutUint32(b[at+12:], h)
		all = all<<16 ^ all>>16 ^ h
		at += n
	}
	le.PutUint32(b, xattrMagic)
	le.PutUint32(b[4:], 1) // references
	le.PutUint32(b[8:], 1) // blocks
	le.PutUint32(b[12:], all)
	return b, nil
}
