package rofs1

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/tree"
)

// FS is an open file system. All of its tables are in memory; content is read from the reader it was opened with. It may be
// used concurrently. Everything has the permissions 0555 that OSv's kernel shows, belongs to root and has the time 0 of Unix.
type FS struct {
	*tree.Tree
	extents []Extent // in order of their offsets
	size    int64    // up to the last byte in use
	odd     []Problem
}

// Extent is a range of the file system's bytes, and what is stored there.
type Extent struct {
	Offset, Length int64  // in bytes
	Path           string // of the file whose content it is; "" of a structure
	What           string // "data", or the name of a structure
}

// Problem is something wrong with stored bytes.
type Problem struct {
	Offset, Length int64 // in bytes
	What           string
}

// Open reads the tables of the file system in the first bytes of r, of which there are size. It fails with a
// *format.FormatError where that is not a whole file system, and with r's error where it cannot be read.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	p := parser{r: device{r}, size: size, fs: &FS{Tree: &tree.Tree{}}}
	if err := p.tables(); err != nil {
		return nil, err
	}
	p.visited = make([]string, len(p.inodes))
	if err := p.visit(".", rootIno); err != nil {
		return nil, err
	}
	for i, v := range p.visited {
		if v == "" {
			p.report(p.inodesAt+int64(i)*inodeSize, inodeSize, "inode %d is in no directory", i+1)
		}
	}
	slices.SortStableFunc(p.fs.extents, func(a, b Extent) int { return cmp.Compare(a.Offset, b.Offset) })
	for _, e := range p.fs.extents {
		p.fs.size = max(p.fs.size, blocks(e.Offset+e.Length)*BlockSize)
	}
	return p.fs, nil
}

// Size returns how many bytes the file system takes; what was opened may be longer.
func (f *FS) Size() int64 { return f.size }

// Extents calls each for every range in use that has a length, in order of their offsets.
func (f *FS) Extents(each func(Extent)) {
	for _, e := range f.extents {
		each(e)
	}
}

// dirent is a directory entry.
type dirent struct {
	name  string
	ino   uint64
	off   int64
	taken bool // by a directory
}

type parser struct {
	r    io.ReaderAt
	size int64
	fs   *FS

	dirents  []dirent
	links    []string
	inodes   []inode
	inodesAt int64
	visited  []string // first path, by inode number - 1
}

func (p *parser) report(off, n int64, format string, args ...any) {
	p.fs.odd = append(p.fs.odd, Problem{off, n, fmt.Sprintf(format, args...)})
}

// cursor reads the structure info in order and remembers the first error.
type cursor struct {
	r   *bufio.Reader
	off int64
	end int64
	err error
}

// next returns n bytes, which are valid until the next call: zeros after an error.
func (c *cursor) next(n int, field string) []byte {
	b := make([]byte, n)
	if c.err == nil && int64(n) > c.end-c.off {
		c.err = corrupt(c.off, field, fmt.Errorf("%w: it goes on behind the structure info, which ends at byte %d", format.ErrFormat, c.end))
	}
	if c.err == nil {
		if _, c.err = io.ReadFull(c.r, b); c.err == nil {
			c.off += int64(n)
		} else {
			clear(b)
		}
	}
	return b
}

func (p *parser) tables() error {
	b := make([]byte, superSize)
	if p.size < BlockSize {
		return corrupt(0, "superblock", format.ErrTruncated)
	}
	if _, err := p.r.ReadAt(b, 0); err != nil {
		return err
	}
	u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	switch {
	case u64(0) != magic:
		return corrupt(0, "magic", format.ErrFormat)
	case u64(8) != version:
		return corrupt(8, "version", fmt.Errorf("%w: %d", format.ErrUnsupported, u64(8)))
	case u64(16) != BlockSize:
		return corrupt(16, "block size", fmt.Errorf("%w: %d", format.ErrFormat, u64(16)))
	}
	s := super{u64(24), u64(32), u64(40), u64(48), u64(56)}
	all := uint64(p.size / BlockSize)
	switch {
	case s.blocks == 0:
		return corrupt(32, "blocks of the structure info", format.ErrFormat)
	case s.firstBlock == 0:
		return corrupt(24, "first block of the structure info", format.ErrFormat)
	case s.firstBlock > all || s.blocks > all-s.firstBlock:
		return corrupt(24, "structure info", fmt.Errorf("%w: %d blocks from %d of %d", format.ErrTruncated, s.blocks, s.firstBlock, all))
	}
	at := int64(s.firstBlock) * BlockSize
	end := at + int64(s.blocks)*BlockSize
	c := &cursor{r: bufio.NewReaderSize(io.NewSectionReader(p.r, at, end-at), 64<<10), off: at, end: end}
	p.extent(0, superSize, "", "superblock")

	// The counts are the file's word: the tables grow as they are read, and nothing in them is shorter than its head.
	for range s.dirents {
		off := c.off
		h := c.next(direntHead, "directory entry")
		name := string(c.next(int(binary.LittleEndian.Uint16(h[8:])), "name"))
		if c.err != nil {
			return c.err
		}
		if err := checkName(name); err != nil {
			return corrupt(off+direntHead, "name", err)
		}
		p.dirents = append(p.dirents, dirent{name: name, ino: binary.LittleEndian.Uint64(h), off: off})
	}
	p.extent(at, c.off-at, "", "directory entries")
	at = c.off
	for range s.symlinks {
		off := c.off
		h := c.next(linkHead, "symbolic link")
		target := string(c.next(int(binary.LittleEndian.Uint16(h)), "target"))
		if c.err != nil {
			return c.err
		}
		if target == "" || len(target) > tree.MaxLink || strings.IndexByte(target, 0) >= 0 {
			return corrupt(off+linkHead, "target", fmt.Errorf("%w: of %d bytes", format.ErrFormat, len(target)))
		}
		p.links = append(p.links, target)
	}
	p.extent(at, c.off-at, "", "symbolic links")
	at, p.inodesAt = c.off, c.off
	for i := range s.inodes {
		off := c.off
		b := c.next(inodeSize, "inode")
		if c.err != nil {
			return c.err
		}
		n := inode{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])}
		if no := binary.LittleEndian.Uint64(b[8:]); no != i+1 {
			return corrupt(off+8, "inode number", fmt.Errorf("%w: %d, want %d", format.ErrFormat, no, i+1))
		}
		if err := p.checkInode(&n); err != nil {
			return corrupt(off, "inode", err)
		}
		if n.mode != n.typ() {
			p.report(off, 8, "inode %d: mode %#x is more than a type", i+1, n.mode)
		}
		p.inodes = append(p.inodes, n)
	}
	p.extent(at, c.off-at, "", "inodes")
	if len(p.inodes) == 0 || p.inodes[0].typ() != typeDir {
		return corrupt(p.inodesAt, "root", fmt.Errorf("%w: it is not a directory", format.ErrFormat))
	}
	if slack := blocks(end-c.off) - 1; slack > 0 {
		p.report(end-slack*BlockSize, slack*BlockSize, "%d blocks of the structure info are not in use", slack)
	}
	return nil
}

func (p *parser) extent(off, n int64, path, what string) {
	if n > 0 {
		p.fs.extents = append(p.fs.extents, Extent{off, n, path, what})
	}
}

// checkInode checks what an inode refers to.
func (p *parser) checkInode(n *inode) error {
	outside := func(what string, total uint64) error {
		return fmt.Errorf("%w: %s %d, %d of them, of %d", format.ErrFormat, what, n.data, n.count, total)
	}
	switch n.typ() {
	case typeDir:
		if total := uint64(len(p.dirents)); n.data > total || n.count > total-n.data {
			return outside("directory entries from", total)
		}
	case typeLink:
		if n.count != 1 || n.data >= uint64(len(p.links)) {
			return outside("symbolic link", uint64(len(p.links)))
		}
	case typeFile:
		if total := uint64(p.size); n.count > 0 && (n.data == 0 || n.data > total/BlockSize || n.count > total-n.data*BlockSize) {
			return fmt.Errorf("%w: %d bytes from block %d of an image of %d bytes", format.ErrTruncated, n.count, n.data, total)
		}
	default:
		return fmt.Errorf("%w: mode %#x is no known type", format.ErrFormat, n.mode)
	}
	return nil
}

// checkName checks a name as OSv's kernel and a tree need it.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > tree.MaxName || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%w: %.40q cannot be a name", format.ErrFormat, name)
	}
	return nil
}

// visit adds what is at name, and below it, to the tree, in the tree's order.
func (p *parser) visit(name string, ino uint64) error {
	n := &p.inodes[ino-1]
	at := p.inodesAt + int64(ino-1)*inodeSize
	if len(name) > MaxPath {
		return corrupt(at, "path", fmt.Errorf("%w: more than %d bytes", format.ErrTooLarge, MaxPath))
	}
	first := p.visited[ino-1]
	if first == "" {
		p.visited[ino-1] = name
	}
	e := tree.Entry{Path: name, Mode: 0o555, ModTime: time.Unix(0, 0), HardLink: first}
	switch n.typ() {
	case typeFile:
		e.Size = int64(n.count)
		off := int64(n.data) * BlockSize
		if n.count > 0 && first == "" {
			p.extent(off, e.Size, name, "data")
			e.Source = func() (io.ReadCloser, error) { return content{io.NewSectionReader(p.r, off, e.Size)}, nil }
		}
	case typeLink:
		e.Mode, e.Link = fs.ModeSymlink|0o777, p.links[n.data]
	case typeDir:
		if first != "" {
			return corrupt(at, "directory", fmt.Errorf("%w: it is in %q and %q", format.ErrFormat, first, name))
		}
		e.Mode |= fs.ModeDir
	}
	p.fs.Entries = append(p.fs.Entries, e)
	if n.typ() != typeDir {
		return nil
	}
	run := p.dirents[n.data:][:n.count]
	for i := range run {
		// Without this, a small file could name any number of entries.
		if run[i].taken {
			return corrupt(at, "directory", fmt.Errorf("%w: %q has entries of another", format.ErrFormat, name))
		}
		run[i].taken = true
	}
	list := slices.Clone(run)
	slices.SortStableFunc(list, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	for i, d := range list {
		if i > 0 && list[i-1].name == d.name {
			// The kernel finds the first one.
			p.report(d.off, int64(direntHead+len(d.name)), "%q is twice in %q", d.name, name)
			continue
		}
		if d.ino == 0 || d.ino > uint64(len(p.inodes)) {
			return corrupt(d.off, "inode number", fmt.Errorf("%w: %d of %d", format.ErrFormat, d.ino, len(p.inodes)))
		}
		if err := p.visit(path.Join(name, d.name), d.ino); err != nil {
			return err
		}
	}
	return nil
}

// content is a file's content: it can be read at random, too.
type content struct{ *io.SectionReader }

func (content) Close() error { return nil }
