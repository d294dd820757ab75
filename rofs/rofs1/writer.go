package rofs1

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/tree"
)

// Options say how to write a file system.
type Options struct {
	// Order, if not nil, lists paths: entries of a directory are written in the order in which they, or what is below them,
	// first appear here, and what does not appear comes last, in the tree's order, which is also the default. OSv's own tool
	// writes in the order of its manifest.
	Order []string
	// Progress, when not nil, is told now and then how much of the content was written, from one goroutine.
	Progress func(doneBytes, totalBytes int64)
}

// Stats describes a file system that was written, in bytes.
type Stats struct {
	ImageBytes  int64
	FileBytes   int64 // content, hard links counted once
	StoredBytes int64 // what it takes: whole blocks
}

// CanHold reports whether the format can hold e at all: the error wraps format.ErrUnsupported or format.ErrTooLarge. That modes,
// owners, times and attributes are not stored is no error.
func CanHold(e *tree.Entry) error {
	var err error
	switch typ := e.Mode.Type(); {
	case typ != 0 && typ != fs.ModeDir && typ != fs.ModeSymlink:
		err = fmt.Errorf("%w: ROFS version 1 holds files, directories and symbolic links", format.ErrUnsupported)
	case len(e.Path) > MaxPath:
		err = fmt.Errorf("%w: a path of %d bytes, the most is %d", format.ErrTooLarge, len(e.Path), MaxPath)
	default:
		return nil
	}
	return &fs.PathError{Op: "rofs1", Path: e.Path, Err: err}
}

// plan is where everything will be.
type plan struct {
	super
	inodes  []inode
	files   []*tree.Entry // in order of their blocks
	dirents []byte
	links   []byte
}

// Write writes t as a file system that starts at offset 0 of w. The bytes depend on t and o.Order alone.
func Write(ctx context.Context, w io.WriterAt, t *tree.Tree, o Options) (Stats, error) {
	if err := t.Validate(); err != nil {
		return Stats{}, err
	}
	for i := range t.Entries {
		if err := CanHold(&t.Entries[i]); err != nil {
			return Stats{}, err
		}
	}
	p := newPlan(t, o.Order)
	e := emitter{ctx: ctx, w: bufio.NewWriterSize(io.NewOffsetWriter(w, 0), 256<<10), progress: o.Progress}
	for _, f := range p.files {
		e.total += f.Size
	}
	if err := ctx.Err(); err != nil {
		return Stats{}, err
	}
	e.write(p.super.encode())
	for _, f := range p.files {
		e.file(f)
	}
	if e.err == nil && e.off != int64(p.firstBlock)*BlockSize {
		panic("rofs1: the files do not end where they were planned to")
	}
	e.write(p.dirents)
	e.write(p.links)
	var b []byte
	for i := range p.inodes {
		b = p.inodes[i].append(b[:0], uint64(i+1))
		e.write(b)
	}
	e.pad()
	if e.err == nil {
		e.err = e.w.Flush()
	}
	return Stats{e.off, e.total, int64(p.firstBlock-1) * BlockSize}, e.err
}

// newPlan numbers inodes depth first, each directory's entries before what is below the next, and collects the entries of a
// directory after those of the directories in it: the order of OSv's own tool.
func newPlan(t *tree.Tree, order []string) *plan {
	rank := map[string]int{}
	for i, name := range order {
		for {
			if _, ok := rank[name]; ok || name == "." || name == "/" {
				break
			}
			rank[name] = i
			name = path.Dir(name)
		}
	}
	place := func(e *tree.Entry) int {
		if r, ok := rank[e.Path]; ok {
			return r
		}
		return len(order)
	}
	children := map[string][]*tree.Entry{}
	for i := range t.Entries[1:] {
		e := &t.Entries[i+1]
		dir := path.Dir(e.Path)
		children[dir] = append(children[dir], e)
	}
	p := &plan{super: super{firstBlock: 1}}
	numbers := map[string]uint64{} // of the first names of files, which may have more
	var visit func(e *tree.Entry) uint64
	visit = func(e *tree.Entry) uint64 {
		first := e.Path
		if e.HardLink != "" {
			first = e.HardLink
			e = t.Lookup(first)
		}
		if ino, ok := numbers[first]; ok {
			return ino
		}
		p.inodes = append(p.inodes, inode{})
		ino := uint64(len(p.inodes))
		n := inode{mode: typeFile, data: p.firstBlock, count: uint64(e.Size)}
		switch {
		case e.Mode.IsRegular():
			numbers[first] = ino
			p.files = append(p.files, e)
			p.firstBlock += uint64(blocks(e.Size))
		case e.Mode.IsDir():
			list := children[e.Path]
			slices.SortStableFunc(list, func(a, b *tree.Entry) int { return cmp.Compare(place(a), place(b)) })
			inos := make([]uint64, len(list))
			for i, c := range list {
				inos[i] = visit(c)
			}
			n = inode{typeDir, p.super.dirents, uint64(len(list))}
			for i, c := range list {
				name := path.Base(c.Path)
				p.dirents = binary.LittleEndian.AppendUint64(p.dirents, inos[i])
				p.dirents = append(binary.LittleEndian.AppendUint16(p.dirents, uint16(len(name))), name...)
				p.super.dirents++
			}
		default:
			numbers[first] = ino
			n = inode{typeLink, p.super.symlinks, 1}
			p.links = append(binary.LittleEndian.AppendUint16(p.links, uint16(len(e.Link))), e.Link...)
			p.super.symlinks++
		}
		p.inodes[ino-1] = n
		return ino
	}
	visit(&t.Entries[0])
	p.super.inodes = uint64(len(p.inodes))
	p.super.blocks = uint64(blocks(int64(len(p.dirents) + len(p.links) + len(p.inodes)*inodeSize)))
	return p
}

// emitter writes in order and remembers the first error.
type emitter struct {
	ctx         context.Context
	w           *bufio.Writer
	off         int64
	done, total int64 // of content
	progress    func(done, total int64)
	err         error
}

func (e *emitter) write(b []byte) {
	if e.err == nil {
		_, e.err = e.w.Write(b)
		e.off += int64(len(b))
	}
}

var zeros [BlockSize]byte

func (e *emitter) pad() { e.write(zeros[:blocks(e.off)*BlockSize-e.off]) }

// Write implements io.Writer for the content of files.
func (e *emitter) Write(b []byte) (int, error) {
	if e.err == nil {
		e.err = e.ctx.Err()
	}
	e.write(b)
	if e.err != nil {
		return 0, e.err
	}
	e.done += int64(len(b))
	if e.progress != nil {
		e.progress(e.done, e.total)
	}
	return len(b), nil
}

func (e *emitter) file(f *tree.Entry) {
	if e.err == nil {
		e.err = e.ctx.Err()
	}
	if e.err != nil || f.Size == 0 {
		return
	}
	if err := e.content(f); err != nil {
		e.err = err
	}
	e.pad()
}

// errSize says that a source breaks its word.
var errSize = errors.New("its content is not as long as its size says")

func (e *emitter) content(f *tree.Entry) (err error) {
	r, err := f.Source()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	// One byte more than there should be, so that a longer file is noticed, and one that ends early is too.
	n, err := io.Copy(onlyWriter{e}, io.LimitReader(r, f.Size+1))
	if err == nil && n != f.Size {
		err = &fs.PathError{Op: "read", Path: f.Path, Err: errSize}
	}
	return err
}

// onlyWriter hides what else an emitter has.
type onlyWriter struct{ io.Writer }
