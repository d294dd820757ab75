package iofs

import (
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/ramfs"
)

// file is an open file or directory; its info is that of the opening.
type file struct {
	info
	v      ramfs.View
	pos    uint64 // of reading, or of the last entry seen
	closed bool
}

func (f *file) Stat() (fs.FileInfo, error) {
	if f.closed {
		return nil, f.fail("stat", fs.ErrClosed)
	}
	return info{f.name, f.v.Attr()}, nil
}

func (f *file) Close() error {
	if f.closed {
		return f.fail("close", fs.ErrClosed)
	}
	f.closed = true
	return nil
}

func (f *file) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.readAt(p, f.pos)
	f.pos += uint64(n)
	if err == nil && n == 0 && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, f.fail("read", fs.ErrInvalid)
	}
	n, err := f.readAt(p, uint64(off))
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (f *file) readAt(p []byte, off uint64) (int, error) {
	if f.closed {
		return 0, f.fail("read", fs.ErrClosed)
	}
	n, err := f.v.ReadAt(p, off)
	if err != 0 {
		return n, f.fail("read", errno(err))
	}
	return n, nil
}

func (f *file) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		off += int64(f.pos)
	case io.SeekEnd:
		off += int64(f.v.Attr().Size)
	default:
		return 0, f.fail("seek", fs.ErrInvalid)
	}
	if off < 0 || f.IsDir() && off != 0 {
		return 0, f.fail("seek", fs.ErrInvalid)
	}
	f.pos = uint64(off)
	return off, nil
}

// entry is a name as ReadDir met it.
type entry struct {
	name string
	v    ramfs.View
}

func (e entry) Name() string               { return e.name }
func (e entry) IsDir() bool                { return e.Type().IsDir() }
func (e entry) Type() fs.FileMode          { return Mode(e.v.Attr().Mode).Type() }
func (e entry) Info() (fs.FileInfo, error) { return info{e.name, e.v.Attr()}, nil }

// ReadDir returns entries in the order in which they were made.
func (f *file) ReadDir(n int) ([]fs.DirEntry, error) {
	if f.closed {
		return nil, f.fail("readdir", fs.ErrClosed)
	}
	if !f.IsDir() {
		return nil, f.fail("readdir", ramfs.ENOTDIR)
	}
	var all []fs.DirEntry
	for n <= 0 || len(all) < n {
		name, v, next, ok := f.v.ReadDir(f.pos)
		if !ok {
			break
		}
		f.pos = next
		all = append(all, entry{name, v})
	}
	if n > 0 && len(all) == 0 {
		return nil, io.EOF
	}
	return all, nil
}

func sortByName(all []fs.DirEntry) {
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
}
