// Package ramfsmod makes RAMFS images available: archives in cpio's format newc, compressed as a whole or not at all, which
// Linux takes as an initial RAM file system. Import it for its effect on fsmod's registry.
//
// Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst, init/initramfs.c and lib/decompress_*.c.
package ramfsmod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	"github.com/firstlight-boot/firstlight/tree"
)

func init() { fsmod.Register(module{}) }

type module struct{}

func (module) Name() string { return "ramfs" }

func (module) Codecs() []string { return []string{gzipCodec, zstdCodec, lz4Codec} }

// Limits of the format, and of Linux, which leaves out what has a longer name.
const (
	maxSize = 1<<32 - 1
	maxPath = 4095
	maxTime = 1<<32 - 1
)

const pageSize = 4096 // of the kernel that unpacks the archive

// Write writes an archive in the tree's order. Its inode numbers count the files from 1; times are whole seconds from 1970 to
// 2106, others become the nearest of these. The content of executables and shared objects begins on page boundaries, so that our
// kernel maps them without a copy; o.AlignExec says otherwise.
func (module) Write(ctx context.Context, w io.WriterAt, t *tree.Tree, o fsmod.Options) (fsmod.Result, error) {
	if o.ClusterSize != 0 {
		return fsmod.Result{}, fmt.Errorf("a cluster size: %w by ramfs, which is compressed as a whole", fsmod.ErrUnsupported)
	}
	switch o.AlignExec {
	case "", "auto", "all", "none":
	default:
		return fsmod.Result{}, fmt.Errorf("alignment %q: %w by ramfs", o.AlignExec, fsmod.ErrUnsupported)
	}
	plain := o
	plain.AlignExec = ""
	if err := hosttool.Plain("ramfs", plain); err != nil {
		return fsmod.Result{}, err
	}
	if err := t.Validate(); err != nil {
		return fsmod.Result{}, err
	}
	links, err := plan(t)
	if err != nil {
		return fsmod.Result{}, err
	}
	out := &offsetWriter{ctx: ctx, w: w}
	packed, err := compressor(out, o.Codec, o.Level)
	if err != nil {
		return fsmod.Result{}, err
	}
	res := fsmod.Result{Entries: len(t.Entries)}
	if err := writeRecords(packed, t, links, o.AlignExec, o.Progress, &res); err != nil {
		return fsmod.Result{}, err
	}
	if err := packed.Close(); err != nil {
		return fsmod.Result{}, err
	}
	res.Bytes, res.StoredBytes = out.n, res.ContentBytes
	if o.Codec != "" {
		res.StoredBytes = out.n
	}
	return res, nil
}

// file is what the names of one file share.
type file struct {
	ino   uint64
	names uint64
	last  int // index of the entry that carries the content, as cpio and gen_init_cpio have it
}

// plan checks that the format can hold t, and returns the file of each entry.
func plan(t *tree.Tree) ([]*file, error) {
	files := make([]*file, len(t.Entries))
	byPath := make(map[string]*file)
	for i := range t.Entries {
		e := &t.Entries[i]
		refuse := func(format string, args ...any) ([]*file, error) {
			return nil, fmt.Errorf("/%s: %w in a ramfs image: %s", e.Path, fsmod.ErrUnsupported, fmt.Sprintf(format, args...))
		}
		switch {
		case len(e.Xattrs) > 0:
			return refuse("the extended attribute %s; the format newc has no place for it", e.Xattrs[0].Name)
		case e.Size > maxSize:
			return refuse("a file of %d bytes; the most is %d", e.Size, int64(maxSize))
		case len(e.Path) > maxPath:
			return refuse("a path of %d bytes; the most is %d", len(e.Path), maxPath)
		case e.Path == cpio.Trailer:
			return refuse("this name, which is the end of an archive")
		}
		if f := byPath[e.HardLink]; e.HardLink != "" && f != nil && e.Mode.Type() != fs.ModeSymlink {
			f.names++
			f.last = i
			files[i] = f
			continue
		}
		files[i] = &file{ino: uint64(i) + 1, names: 1, last: i}
		if e.HardLink == "" && !e.Mode.IsDir() {
			byPath[e.Path] = files[i]
		}
	}
	return files, nil
}

func writeRecords(w io.Writer, t *tree.Tree, files []*file, alignExec string, progress func(done, total int64), res *fsmod.Result) error {
	for i := range t.Entries {
		if e := &t.Entries[i]; e.HardLink == "" {
			res.ContentBytes += e.Size
		}
	}
	done := int64(0)
	out := &counter{w: w}
	rw := cpio.Newc.Writer(out)
	for i := range t.Entries {
		e, f := &t.Entries[i], files[i]
		rec := cpio.Record{Info: cpio.Info{
			Name: e.Path, Ino: f.ino, Mode: uint64(tree.UnixMode(e.Mode)), UID: uint64(e.UID), GID: uint64(e.GID), NLink: f.names,
			MTime: uint64(min(max(e.ModTime.Unix(), 0), maxTime)), Rmajor: uint64(e.Major), Rminor: uint64(e.Minor),
		}}
		switch {
		case e.Mode.IsDir():
			rec.NLink = 2
		case e.Mode.Type() == fs.ModeSymlink:
			rec.FileSize = uint64(len(e.Link))
			rec.ReaderAt = &content{r: io.NopCloser(strings.NewReader(e.Link))}
		case e.Mode.IsRegular() && f.last == i:
			if e.HardLink != "" {
				e = t.Lookup(e.HardLink)
			}
			if e.Size == 0 || e.Source == nil {
				break
			}
			r, err := e.Source()
			if err != nil {
				return err
			}
			rec.FileSize = uint64(e.Size)
			if mapped(e, alignExec) {
				rec.Name += pageAlign(out.n, rec.Name)
			}
			c := &content{r: r}
			rec.ReaderAt = c
			err = rw.WriteRecord(rec)
			if closeErr := c.Close(); err == nil {
				err = closeErr
			}
			if err != nil {
				return err
			}
			if done += e.Size; progress != nil {
				progress(done, res.ContentBytes)
			}
			continue
		}
		if err := rw.WriteRecord(rec); err != nil {
			return err
		}
	}
	return rw.WriteRecord(cpio.TrailerRecord)
}

// pageAlign returns the NULs that follow a name in a record at off, so that the content begins on a page boundary: all readers take
// the first NUL for the name's end (Linux' own gen_init_cpio aligns this way). The few files whose padded names would be too long for
// Linux stay where they are.
func pageAlign(off int64, name string) string {
	start := (off + int64(headerSize+len(name)+1) + align - 1) &^ (align - 1)
	n := int(-start & (pageSize - 1))
	if len(name)+n > maxPath {
		return ""
	}
	return strings.Repeat("\x00", n)
}

// mapped tells whether a file is to be placed so that its pages can be mapped.
func mapped(e *tree.Entry, which string) bool {
	switch {
	case e.Size < pageSize || which == "none":
		return false
	case which == "all":
		return true
	}
	base := path.Base(e.Path)
	return e.Mode&0o111 != 0 || strings.HasSuffix(base, ".so") || strings.Contains(base, ".so.")
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// content is a stream that is read from its start to its end by offsets, as a cpio.Record wants it.
type content struct {
	r   io.ReadCloser
	pos int64
}

func (c *content) ReadAt(p []byte, off int64) (int, error) {
	if off != c.pos || c.r == nil {
		return 0, errors.New("content is read out of order")
	}
	n, err := io.ReadFull(c.r, p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	c.pos += int64(n)
	return n, err
}

// Close may be called twice: by the cpio package, which does so only when all went well, and by its caller.
func (c *content) Close() error {
	r := c.r
	if c.r = nil; r == nil {
		return nil
	}
	return r.Close()
}

// offsetWriter writes one piece behind the other, until its context is cancelled.
type offsetWriter struct {
	ctx context.Context
	w   io.WriterAt
	n   int64
}

func (o *offsetWriter) Write(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := o.w.WriteAt(p, o.n)
	o.n += int64(n)
	return n, err
}
