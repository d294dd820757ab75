package bootfs

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/tree"
)

// FS is an open archive: its records are in memory, content is read from the reader it was opened with. It may be used
// concurrently. Everything has the permissions 0555, belongs to root and has the time 0 of Unix.
type FS struct {
	*tree.Tree
	extents []Extent
	odd     []Problem
}

// Extent is a range of the archive's bytes, and what is stored there.
type Extent struct {
	Offset, Length int64  // in bytes
	Path           string // of the file whose content it is; "" of the records
	What           string // "data", or "records"
}

// Problem is something wrong with stored bytes.
type Problem struct {
	Offset, Length int64 // in bytes
	What           string
}

// Extents calls each for every range in use that has a length, in order of their offsets.
func (f *FS) Extents(each func(Extent)) {
	for _, e := range f.extents {
		each(e)
	}
}

// device turns the end of a file, which Open was told is elsewhere, into an error that no reader takes for the end of its own.
type device struct{ r io.ReaderAt }

func (d device) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.r.ReadAt(p, off)
	if n < len(p) && (err == io.EOF || err == io.ErrUnexpectedEOF) {
		return n, corrupt(off+int64(n), "archive", ErrTruncated)
	}
	if n == len(p) {
		err = nil
	}
	return n, err
}

// Open reads the records of the archive in the first bytes of r, of which there are size. It fails with a *FormatError where
// that is not a whole archive, and with r's error where it cannot be read.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	p := parser{r: device{r}, size: size, fs: &FS{}, at: map[string]int{}}
	p.dir(".")
	in := bufio.NewReaderSize(io.NewSectionReader(p.r, 0, size), 64<<10)
	var off int64
	for ; ; off += recordSize {
		var rec record
		if off+recordSize > size {
			return nil, corrupt(off, "record", fmt.Errorf("%w: the last one is not there", ErrTruncated))
		}
		if _, err := io.ReadFull(in, rec[:]); err != nil {
			return nil, err
		}
		if rec.end() {
			if rec != (record{}) {
				p.odd(off, recordSize, "the last record is not zero")
			}
			break
		}
		if err := p.add(&rec, off); err != nil {
			return nil, err
		}
	}
	p.fs.extents = append(p.fs.extents, Extent{0, off + recordSize, "", "records"})
	for _, e := range p.fs.extents[:len(p.fs.extents)-1] {
		if e.Offset < off+recordSize {
			return nil, corrupt(e.Offset, "content", fmt.Errorf("%w: that of %q overlaps the records", ErrFormat, e.Path))
		}
	}
	slices.SortStableFunc(p.fs.extents, func(a, b Extent) int { return cmp.Compare(a.Offset, b.Offset) })
	var err error
	if p.fs.Tree, err = tree.New(p.entries...); err != nil {
		// What was checked record by record leaves only files in place of directories.
		return nil, corrupt(0, "records", fmt.Errorf("%w: %w", ErrFormat, err))
	}
	return p.fs, nil
}

type parser struct {
	r       io.ReaderAt
	size    int64
	fs      *FS
	entries []tree.Entry
	at      map[string]int // index of an entry by its path
}

func (p *parser) odd(off, n int64, format string, args ...any) {
	p.fs.odd = append(p.fs.odd, Problem{off, n, fmt.Sprintf(format, args...)})
}

// dir makes a directory and its parents unless they are there.
func (p *parser) dir(name string) {
	for {
		if _, ok := p.at[name]; ok {
			return
		}
		p.at[name] = len(p.entries)
		p.entries = append(p.entries, tree.Entry{Path: name, Mode: fs.ModeDir | 0o555, ModTime: time.Unix(0, 0)})
		name = path.Dir(name)
	}
}

func (p *parser) add(rec *record, off int64) error {
	name, clean := rec.name()
	if !clean {
		if len(name) >= nameSize {
			return corrupt(off+nameAt, "name", fmt.Errorf("%w: it does not end", ErrFormat))
		}
		p.odd(off+nameAt, nameSize, "%q is followed by more than zeros", name)
	}
	isDir := strings.HasSuffix(name, "/")
	guest := strings.TrimPrefix(strings.TrimSuffix(name, "/"), "/")
	if guest == "" && isDir {
		return nil // the root, which needs no record
	}
	for part := range strings.SplitSeq(guest, "/") {
		if part == "" || part == "." || part == ".." {
			return corrupt(off+nameAt, "name", fmt.Errorf("%w: %q", ErrFormat, name))
		}
	}
	if total := uint64(p.size); rec.offset() > total || rec.size() > total-rec.offset() {
		return corrupt(off, "content", fmt.Errorf("%w: %d bytes from %d of an archive of %d", ErrTruncated, rec.size(), rec.offset(), total))
	}
	at, n := int64(rec.offset()), int64(rec.size())
	if i, ok := p.at[guest]; ok && !(isDir && p.entries[i].Mode.IsDir()) {
		return corrupt(off+nameAt, "name", fmt.Errorf("%w: %q is there twice", ErrFormat, name))
	}
	e := tree.Entry{Path: guest, Mode: 0o555, ModTime: time.Unix(0, 0)}
	switch {
	case rec.typ() == typeLink && !isDir:
		if n < 2 || n > tree.MaxLink+1 {
			return corrupt(off, "link", fmt.Errorf("%w: a target of %d bytes", ErrFormat, n))
		}
		b := make([]byte, n)
		if _, err := p.r.ReadAt(b, at); err != nil {
			return err
		}
		target, rest, ok := bytes.Cut(b, []byte{0})
		if !ok || len(target) == 0 || len(rest) > 0 {
			return corrupt(at, "link", fmt.Errorf("%w: the target does not end in a NUL", ErrFormat))
		}
		e.Mode, e.Link = fs.ModeSymlink|0o777, string(target)
	case rec.typ() != typeFile:
		return corrupt(off+16, "type", fmt.Errorf("%w: %d", ErrFormat, rec.typ()))
	case isDir:
		if n != 0 {
			return corrupt(off, "size", fmt.Errorf("%w: a directory of %d bytes", ErrFormat, n))
		}
		p.dir(guest)
		return nil
	default:
		if e.Size = n; n > 0 {
			e.Source = func() (io.ReadCloser, error) { return content{io.NewSectionReader(p.r, at, n)}, nil }
		}
	}
	if n > 0 {
		p.fs.extents = append(p.fs.extents, Extent{at, n, guest, "data"})
	}
	p.dir(path.Dir(guest))
	p.at[guest] = len(p.entries)
	p.entries = append(p.entries, e)
	return nil
}

// content is a file's content: it can be read at random, too.
type content struct{ *io.SectionReader }

func (content) Close() error { return nil }

// Check examines the records of the archive in the first size bytes of r and all that is between them and the contents, and
// calls report for what is wrong. Content has no check codes: what is wrong in it cannot be told. The error is a failed read
// or ctx's.
func Check(ctx context.Context, r io.ReaderAt, size int64, report func(Problem)) error {
	f, err := Open(r, size)
	if fe := (*FormatError)(nil); errors.As(err, &fe) {
		report(Problem{fe.Offset, 1, fmt.Sprintf("%s: %v", fe.Field, fe.Err)})
		return nil
	}
	if err != nil {
		return err
	}
	for _, p := range f.odd {
		report(p)
	}
	at := int64(0)
	gap := func(end int64) error {
		if at >= end {
			return nil
		}
		buf := make([]byte, min(end-at, 64<<10))
		for off := at; off < end; off += int64(len(buf)) {
			b := buf[:min(end-off, int64(len(buf)))]
			if err := ctx.Err(); err != nil {
				return err
			}
			if _, err := (device{r}).ReadAt(b, off); err != nil {
				return err
			}
			if i := bytes.IndexFunc(b, func(c rune) bool { return c != 0 }); i >= 0 {
				report(Problem{off + int64(i), end - off - int64(i), "bytes that belong to nothing are not zero"})
				return nil
			}
		}
		return nil
	}
	for _, e := range f.extents {
		if err := gap(e.Offset); err != nil {
			return err
		}
		at = max(at, e.Offset+e.Length)
	}
	return gap(size)
}
