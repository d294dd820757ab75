package ext4mod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	"github.com/firstlight-boot/firstlight/tree"
)

// Probe looks for a superblock's magic number.
func (module) Probe(r io.ReaderAt, size int64) (bool, error) {
	return hosttool.Magic(r, size, superOff+sbMagic, "\x53\xef")
}

// Open reads the whole tree, of what mke2fs writes too, but for files whose content lies in their inodes or is encrypted. The empty
// /lost+found that every file system has is left out.
func (module) Open(r io.ReaderAt, size int64) (fsmod.FileSystem, error) {
	t, err := read(r, size)
	if err != nil {
		return nil, err
	}
	return hosttool.Opened(t), nil
}

// Check has e2fsck look, which reads everything but the files' content; that has no check codes.
func (module) Check(ctx context.Context, r io.ReaderAt, size int64) ([]fsmod.Problem, error) {
	if _, err := read(r, size); err != nil {
		if fe := (*FormatError)(nil); errors.As(err, &fe) && errors.Is(err, fsmod.ErrDamaged) {
			return []fsmod.Problem{{Offset: fe.Offset, Length: 1, What: fe.Field + ": " + fe.Err.Error()}}, nil
		}
		return nil, err
	}
	return hosttool.Check(ctx, r, size, func(img, _ string) hosttool.Cmd {
		return hosttool.Cmd{Tool: "e2fsck", Package: "e2fsprogs", Args: []string{"-fn", img}}
	})
}

type reader struct {
	r         io.ReaderAt
	size      int64 // of the file system
	blockSize int64
	inodeSize int64
	perGroup  int64 // inodes
	inodes    int64
	tables    []int64        // first blocks, by group
	budget    int64          // of bytes of folders and extents, of which there are no more than the file system has
	links     map[uint32]int // by inode: the entry
	entries   []tree.Entry
}

func read(src io.ReaderAt, size int64) (*tree.Tree, error) {
	r := &reader{r: src, size: size, links: make(map[uint32]int)}
	if err := r.super(); err != nil {
		return nil, err
	}
	if err := r.walk(".", rootIno, 0); err != nil {
		return nil, err
	}
	slices.SortFunc(r.entries, func(a, b tree.Entry) int { return tree.Compare(a.Path, b.Path) })
	first := make(map[string]string) // by the name that was found first: the first in the tree's order
	byPath := make(map[string]*tree.Entry, len(r.entries))
	for i := range r.entries {
		e := &r.entries[i]
		byPath[e.Path] = e
		name := e.HardLink
		if name == "" {
			name = e.Path
		}
		if _, ok := first[name]; !ok {
			first[name] = e.Path
		}
	}
	for name, path := range first {
		if name != path { // content moves from the one to the other
			byPath[path].Source, byPath[name].Source = byPath[name].Source, nil
		}
	}
	for i := range r.entries {
		e := &r.entries[i]
		name := e.HardLink
		if name == "" {
			name = e.Path
		}
		if e.HardLink = first[name]; e.HardLink == e.Path {
			e.HardLink = ""
		}
	}
	t, err := tree.New(r.entries...)
	if err != nil {
		return nil, bad(0, "files", "%w", err)
	}
	return t, nil
}

func (r *reader) bytes(off, n int64, field string) ([]byte, error) {
	if off < 0 || n < 0 || off > r.size || n > r.size-off {
		return nil, bad(off, field, "%d bytes lie beyond the end at %d", n, r.size)
	}
	b := make([]byte, n)
	if m, err := r.r.ReadAt(b, off); int64(m) < n {
		return nil, fmt.Errorf("ext4: byte %d: %s: %w", off, field, err)
	}
	return b, nil
}

func (r *reader) super() error {
	sb, err := r.bytes(superOff, superSize, "superblock")
	if err != nil {
		return err
	}
	if le.Uint16(sb[sbMagic:]) != magic {
		return bad(superOff+sbMagic, "magic number", "%#x, want %#x", le.Uint16(sb[sbMagic:]), magic)
	}
	incompat, log := le.Uint32(sb[sbIncompat:]), le.Uint32(sb[sbLogBlock:])
	switch {
	case incompat&incompatRecover != 0:
		return bad(superOff+sbIncompat, "features", "%w: its journal was not written back: run e2fsck first", fsmod.ErrUnsupported)
	case incompat&^incompatKnown != 0:
		return bad(superOff+sbIncompat, "features", "%w: %#x", fsmod.ErrUnsupported, incompat&^incompatKnown)
	case log > 6:
		return bad(superOff+sbLogBlock, "block size", "1024 << %d", log)
	}
	r.blockSize = 1024 << log
	r.inodeSize = 128
	if le.Uint32(sb[sbRevision:]) > 0 {
		r.inodeSize = int64(le.Uint16(sb[sbInodeSize:]))
	}
	blocks, perGroup := int64(le.Uint32(sb[sbBlocks:])), int64(le.Uint32(sb[sbPerGroup:]))
	desc := int64(descSize)
	if incompat&incompat64Bit != 0 {
		blocks |= int64(le.Uint32(sb[0x150:])&0x7fffffff) << 32
		desc = int64(le.Uint16(sb[sbDescSize:]))
	}
	r.inodes, r.perGroup = int64(le.Uint32(sb[sbInodes:])), int64(le.Uint32(sb[sbInoPerGroup:]))
	if r.inodeSize < inBaseSize || r.inodeSize > r.blockSize || perGroup < 1 || perGroup > 8*r.blockSize || r.perGroup < 1 || r.perGroup > 8*r.blockSize || desc < descSize || desc > 1024 {
		return bad(superOff, "superblock", "sizes that cannot be: inodes of %d bytes, %d blocks and %d inodes a group", r.inodeSize, perGroup, r.perGroup)
	}
	if blocks < 1 || blocks > r.size/r.blockSize {
		return bad(superOff+sbBlocks, "blocks", "%d of %d bytes, and there are %d bytes", blocks, r.blockSize, r.size)
	}
	r.size = blocks * r.blockSize
	r.budget = r.size
	start := int64(le.Uint32(sb[sbFirstData:]))
	groups := divUp(blocks-start, perGroup)
	at := (start + 1) * r.blockSize
	for g := range groups { // no more than there are bytes for
		d, err := r.bytes(at+g*desc, desc, "group descriptor")
		if err != nil {
			return err
		}
		table := int64(le.Uint32(d[8:]))
		if desc >= 64 {
			table |= int64(le.Uint32(d[0x28:])&0x7fffffff) << 32
		}
		r.tables = append(r.tables, table)
	}
	return nil
}

// inode returns an inode's bytes, at least inodeSize of them, and its offset.
func (r *reader) inode(ino uint32) ([]byte, int64, error) {
	g := (int64(ino) - 1) / r.perGroup
	if ino < 1 || int64(ino) > r.inodes || g >= int64(len(r.tables)) {
		return nil, 0, bad(0, "inode", "%d of %d", ino, r.inodes)
	}
	if r.tables[g] > r.size/r.blockSize {
		return nil, 0, bad(0, "inode table", "block %d of %d", r.tables[g], r.size/r.blockSize)
	}
	off := r.tables[g]*r.blockSize + (int64(ino)-1)%r.perGroup*r.inodeSize
	b, err := r.bytes(off, r.inodeSize, "inode")
	if err == nil && len(b) < inodeSize {
		b = append(b, make([]byte, inodeSize-len(b))...)
	}
	return b, off, err
}

// piece is a part of a file's content that is stored in one piece.
type piece struct{ start, length, at int64 } // in bytes

const maxDepth = 5 // of trees of extents

// pieces returns where a file's content is. Blocks that are not written count as holes.
func (r *reader) pieces(b []byte, off int64, depth int, list []piece) ([]piece, error) {
	if le.Uint16(b) != extentMagic {
		return nil, bad(off, "extents", "magic number %#x, want %#x", le.Uint16(b), extentMagic)
	}
	n, level := int(le.Uint16(b[2:])), int(le.Uint16(b[6:]))
	if (n+1)*extentSize > len(b) || level > maxDepth || depth >= 0 && level != depth {
		return nil, bad(off, "extents", "%d entries of depth %d", n, level)
	}
	for i := range n {
		x := b[extentSize*(1+i):][:extentSize]
		start := int64(le.Uint32(x)) * r.blockSize
		if level > 0 {
			at := (int64(le.Uint32(x[4:])) | int64(le.Uint16(x[8:]))<<32) * r.blockSize
			if r.budget -= r.blockSize; r.budget < 0 {
				return nil, bad(off, "extents", "more than there is room for")
			}
			leaf, err := r.bytes(at, r.blockSize, "extents")
			if err != nil {
				return nil, err
			}
			if list, err = r.pieces(leaf, at, level-1, list); err != nil {
				return nil, err
			}
			continue
		}
		length := int64(le.Uint16(x[4:]))
		if length > maxExtent {
			continue // allocated, not written
		}
		at := (int64(le.Uint32(x[8:])) | int64(le.Uint16(x[6:]))<<32) * r.blockSize
		if length *= r.blockSize; at > r.size || length > r.size-at {
			return nil, bad(off, "extent", "%d bytes at %d lie beyond the end at %d", length, at, r.size)
		}
		if k := len(list); k > 0 && start < list[k-1].start+list[k-1].length {
			return nil, bad(off, "extent", "the one at %d of the file begins before the one before it ends", start)
		}
		list = append(list, piece{start, length, at})
	}
	return list, nil
}

// content is a file's content as its pieces, with zeros between them.
type content struct {
	*io.SectionReader
}

func (content) Close() error { return nil }

type pieceReader struct {
	r    io.ReaderAt
	list []piece
}

func (p pieceReader) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	i, _ := slices.BinarySearchFunc(p.list, off, func(x piece, off int64) int {
		if x.start+x.length <= off {
			return -1
		}
		return 1
	})
	for ; i < len(p.list) && p.list[i].start < off+int64(len(b)); i++ {
		x := p.list[i]
		from, to := max(off, x.start), min(off+int64(len(b)), x.start+x.length)
		if n, err := p.r.ReadAt(b[from-off:to-off], x.at+from-x.start); int64(n) < to-from {
			return int(from-off) + n, err
		}
	}
	return len(b), nil
}

const maxTree = 4096 // folders one in the other

// walk adds the file of an inode, and what is in it.
func (r *reader) walk(path string, ino uint32, depth int) error {
	b, off, err := r.inode(ino)
	if err != nil {
		return err
	}
	mode, ok := tree.FileMode(uint32(le.Uint16(b[inMode:])))
	if !ok || depth > maxTree {
		return bad(off, "inode", "mode %o of /%s", le.Uint16(b[inMode:]), path)
	}
	if i, again := r.links[ino]; again {
		e := r.entries[i]
		if mode.IsDir() {
			return bad(off, "inode", "folder /%s is also /%s", path, e.Path)
		}
		e.HardLink, e.Path, e.Source = e.Path, path, nil
		r.entries = append(r.entries, e)
		return nil
	}
	r.links[ino] = len(r.entries)
	e := tree.Entry{
		Path: path, Mode: mode, UID: uint32(le.Uint16(b[inUID:])) | uint32(le.Uint16(b[inUIDHigh:]))<<16,
		GID: uint32(le.Uint16(b[inGID:])) | uint32(le.Uint16(b[inGIDHigh:]))<<16, ModTime: decodeTime(b),
	}
	if e.Xattrs, err = r.xattrs(b, off); err != nil {
		return err
	}
	size := int64(le.Uint32(b[inSize:])) | int64(le.Uint32(b[inSizeHigh:]))<<32
	flags, area := le.Uint32(b[inFlags:]), b[inBlock:][:blockArea]
	inline := mode.Type() == fs.ModeSymlink && size < blockArea && flags&flagExtents == 0
	var src pieceReader
	if (mode.IsRegular() || mode.IsDir() || mode.Type() == fs.ModeSymlink) && !inline && size > 0 {
		if flags&flagExtents == 0 || flags&flagInline != 0 {
			return bad(off+inFlags, "inode", "/%s: %w: content that is not in extents", path, fsmod.ErrUnsupported)
		}
		src.r = r.r
		if src.list, err = r.pieces(area, off+inBlock, -1, nil); err != nil {
			return err
		}
	}
	if size < 0 || mode.IsRegular() && size > 1<<44 || !mode.IsRegular() && size > r.size {
		return bad(off+inSize, "size", "%d bytes of /%s", size, path)
	}
	switch {
	case mode.IsRegular():
		if e.Size = size; size > 0 {
			e.Source = func() (io.ReadCloser, error) { return content{io.NewSectionReader(src, 0, size)}, nil }
		}
	case mode.Type() == fs.ModeSymlink:
		if size > tree.MaxLink {
			return bad(off+inSize, "link", "a target of %d bytes", size)
		}
		target := make([]byte, size)
		if inline {
			copy(target, area)
		} else if _, err := io.ReadFull(io.NewSectionReader(src, 0, size), target); err != nil {
			return err
		}
		e.Link = string(target)
	case mode&fs.ModeDevice != 0:
		if old := le.Uint32(area); old != 0 {
			e.Major, e.Minor = old>>8&0xff, old&0xff
		} else {
			v := le.Uint32(area[4:])
			e.Major, e.Minor = v>>8&0xfff, v&0xff|v>>12&^0xff
		}
	}
	r.entries = append(r.entries, e)
	if !mode.IsDir() {
		return nil
	}
	return r.directory(path, off, src, size, depth)
}

// directory walks what is in a folder. Folders with an index look like others to whom reads all of them.
func (r *reader) directory(path string, off int64, src pieceReader, size int64, depth int) error {
	block := make([]byte, r.blockSize)
	for _, p := range src.list { // a hole in a folder holds nothing
		for at := p.at; at < p.at+p.length && p.start+at-p.at < size; at += r.blockSize {
			if r.budget -= r.blockSize; r.budget < 0 {
				return bad(at, "folder", "more of them than there is room for")
			}
			if n, err := r.r.ReadAt(block, at); n < len(block) {
				return err
			}
			for i := 0; i < len(block); {
				if len(block)-i < 8 {
					return bad(at+int64(i), "folder", "an entry beyond the end of its block")
				}
				ino, n, nameLen := le.Uint32(block[i:]), int(le.Uint16(block[i+4:])), int(block[i+6])
				if n == 0 && r.blockSize == 65536 {
					n = 65536
				}
				if n < 8 || n%4 != 0 || n > len(block)-i || ino != 0 && 8+nameLen > n {
					return bad(at+int64(i), "folder", "an entry of %d bytes with a name of %d in /%s", n, nameLen, path)
				}
				name := string(block[i+8:][:min(nameLen, n-8)])
				i += n
				if ino == 0 || name == "." || name == ".." {
					continue
				}
				if name == "" || strings.ContainsAny(name, "/\x00") {
					return bad(at, "folder", "the name %q in /%s", name, path)
				}
				child := name
				if path != "." {
					child = path + "/" + name
				}
				have := len(r.entries)
				if err := r.walk(child, ino, depth+1); err != nil {
					return err
				}
				if child == "lost+found" && len(r.entries) == have+1 && ino == lostIno && r.entries[have].ModTime.Unix() == 0 {
					r.entries = r.entries[:have]
				}
			}
		}
	}
	return nil
}

// xattrs returns the extended attributes in an inode and in the block that it names.
func (r *reader) xattrs(b []byte, off int64) ([]tree.Xattr, error) {
	var list []tree.Xattr
	if extra := int64(le.Uint16(b[inExtra:])); r.inodeSize > inBaseSize && extra%4 == 0 && inBaseSize+extra+4 < r.inodeSize {
		area := b[inBaseSize+extra : r.inodeSize]
		if le.Uint32(area) == xattrMagic {
			var err error
			if list, err = attributes(area[4:], area[4:], off+inBaseSize+extra, list); err != nil {
				return nil, err
			}
		}
	}
	if block := int64(le.Uint32(b[inACL:])) | int64(le.Uint16(b[inACLHigh:]))<<32; block != 0 {
		area, err := r.bytes(block*r.blockSize, r.blockSize, "extended attributes")
		if err != nil {
			return nil, err
		}
		if le.Uint32(area) != xattrMagic {
			return nil, bad(block*r.blockSize, "extended attributes", "magic number %#x", le.Uint32(area))
		}
		if list, err = attributes(area[xattrHeader:], area, block*r.blockSize, list); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b tree.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// attributes reads entries, whose values are in values.
func attributes(entries, values []byte, off int64, list []tree.Xattr) ([]tree.Xattr, error) {
	for b := entries; len(b) >= 4 && le.Uint32(b) != 0; {
		n := xattrEntry
		if len(b) >= xattrEntry {
			n = (xattrEntry + int(b[0]) + 3) &^ 3
		}
		if n > len(b) {
			return nil, bad(off, "extended attributes", "an entry beyond their end")
		}
		prefix := ""
		for _, p := range xattrPrefixes {
			if p.index == b[1] {
				prefix = p.prefix
			}
		}
		at, size := int64(le.Uint16(b[2:])), int64(le.Uint32(b[8:]))
		if le.Uint32(b[4:]) != 0 || at+size > int64(len(values)) {
			return nil, bad(off, "extended attributes", "a value of %d bytes at %d", size, at)
		}
		if prefix != "" { // access control lists are the file system's own
			list = append(list, tree.Xattr{Name: prefix + string(b[xattrEntry:][:b[0]]), Value: slices.Clone(values[at : at+size])})
		}
		b = b[n:]
	}
	return list, nil
}

func decodeTime(b []byte) time.Time {
	sec, extra := int64(int32(le.Uint32(b[inMtime:]))), uint32(0)
	if le.Uint16(b[inExtra:]) >= inMtimeExtra+4-inBaseSize {
		extra = le.Uint32(b[inMtimeExtra:])
	}
	return time.Unix(sec+int64(extra&3)<<32, int64(extra>>2)).UTC()
}
