package bootfs

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/firstlight-boot/firstlight/tree"
)

// Options say how to write an archive.
type Options struct {
	// Order, if not nil, lists paths: records are written in this order, and what does not appear comes last, in the tree's
	// order, which is also the default. OSv's own tool writes in the order of its manifest.
	Order []string
	// Progress, when not nil, is told now and then how much of the content was written, from one goroutine.
	Progress func(doneBytes, totalBytes int64)
}

// Stats describes an archive that was written, in bytes.
type Stats struct {
	ImageBytes int64
	FileBytes  int64 // content of files, each name of one with several counted
}

// CanHold reports whether the format can hold e at all: the error wraps ErrUnsupported. That modes, owners, times and attributes
// are not stored, and that each hard link becomes a file, is no error.
func CanHold(e *tree.Entry) error {
	var err error
	switch typ := e.Mode.Type(); {
	case typ != 0 && typ != fs.ModeDir && typ != fs.ModeSymlink:
		err = fmt.Errorf("%w: it holds files, directories and symbolic links", ErrUnsupported)
	case len(recordName(e)) > MaxName:
		err = fmt.Errorf("%w: %q has %d bytes, the most is %d", ErrUnsupported, recordName(e), len(recordName(e)), MaxName)
	default:
		return nil
	}
	return &fs.PathError{Op: "bootfs", Path: e.Path, Err: err}
}

func recordName(e *tree.Entry) string {
	if e.Mode.IsDir() {
		return "/" + e.Path + "/"
	}
	return "/" + e.Path
}

// Write writes t as an archive that starts at offset 0 of w. The bytes depend on t and o.Order alone.
func Write(ctx context.Context, w io.WriterAt, t *tree.Tree, o Options) (Stats, error) {
	if err := t.Validate(); err != nil {
		return Stats{}, err
	}
	for i := range t.Entries {
		if err := CanHold(&t.Entries[i]); err != nil {
			return Stats{}, err
		}
	}
	list := plan(t, o.Order)
	out := bufio.NewWriterSize(io.NewOffsetWriter(w, 0), 256<<10)
	at := int64(len(list)+1) * recordSize
	st := Stats{}
	for _, e := range list {
		size, typ := e.Size, byte(typeFile)
		if e.Link != "" {
			size, typ = int64(len(e.Link))+1, typeLink
		}
		r := newRecord(size, at, typ, recordName(e))
		if _, err := out.Write(r[:]); err != nil {
			return Stats{}, err
		}
		at += size
		st.FileBytes += e.Size
	}
	if _, err := out.Write(make([]byte, recordSize)); err != nil {
		return Stats{}, err
	}
	done := int64(0)
	for _, e := range list {
		if err := ctx.Err(); err != nil {
			return Stats{}, err
		}
		if e.Link != "" {
			if _, err := out.WriteString(e.Link + "\x00"); err != nil {
				return Stats{}, err
			}
		} else if err := copyFile(ctx, out, t, e); err != nil {
			return Stats{}, err
		}
		if done += e.Size; o.Progress != nil && e.Size > 0 {
			o.Progress(done, st.FileBytes)
		}
	}
	st.ImageBytes = at
	return st, cmp.Or(ctx.Err(), out.Flush())
}

// plan lists the entries that get a record: all but directories that something lies in.
func plan(t *tree.Tree, order []string) []*tree.Entry {
	var list []*tree.Entry
	for i := range t.Entries {
		e := &t.Entries[i]
		if e.Path == "." || e.Mode.IsDir() && i+1 < len(t.Entries) && len(t.Entries[i+1].Path) > len(e.Path) && t.Entries[i+1].Path[:len(e.Path)+1] == e.Path+"/" {
			continue
		}
		list = append(list, e)
	}
	rank := map[string]int{}
	for i, name := range order {
		if _, ok := rank[name]; !ok {
			rank[name] = i
		}
	}
	place := func(e *tree.Entry) int {
		if r, ok := rank[e.Path]; ok {
			return r
		}
		return len(order)
	}
	slices.SortStableFunc(list, func(a, b *tree.Entry) int { return cmp.Compare(place(a), place(b)) })
	return list
}

// errSize says that a source breaks its word.
var errSize = errors.New("its content is not as long as its size says")

func copyFile(ctx context.Context, w io.Writer, t *tree.Tree, e *tree.Entry) (err error) {
	if e.Size == 0 {
		return nil
	}
	if e.HardLink != "" {
		e = t.Lookup(e.HardLink)
	}
	r, err := e.Source()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	// One byte more than there should be, so that a longer file is noticed, and one that ends early is too.
	n, err := io.Copy(w, &contextReader{ctx, io.LimitReader(r, e.Size+1)})
	if err == nil && n != e.Size {
		err = &fs.PathError{Op: "read", Path: e.Path, Err: errSize}
	}
	return err
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
