// Package rofs writes, reads and checks version 2 ROFS images: read-only file systems, compressed and with check codes
// throughout, that hosts and Firstlight's kernel read with the same code (rofs/format, rofs/lz4block, rofs/read). The format
// is specified in docs/rofs-v2.md.
package rofs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/rofs/read"
	"github.com/firstlight-boot/firstlight/tree"
)

// maxLinks is how many symbolic links one path may lead through: MAXSYMLINKS of Linux.
const maxLinks = 40

// options make a cache of up to so many segments of 128 KiB, for an image of size bytes.
func options(size int64, segments int) read.Options {
	segment := format.BlockSize
	for segment < 128<<10 && int64(segment) < size {
		segment *= 2
	}
	if int64(segment) >= size {
		segments = 1
	}
	return read.Options{SegmentSize: segment, Cache: make([]byte, segments*segment)}
}

var (
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.ReadFileFS = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
)

// FS is an open image. It may be used concurrently: readers that run at the same time share the decoded clusters, up to
// 32 MiB, and 8 MiB of metadata. What is read in its order is kept only when it is wanted again.
//
// Symbolic links are followed inside the image, whose root is also the root of absolute ones. Unlike fs.ValidPath asks,
// names need not be UTF-8.
type FS struct {
	dev   device
	size  int64
	pool  sync.Pool // of *read.FS
	cache *cache
	once  once
	meta  meta
	info  Info
}

// Info is what a superblock says.
type Info struct {
	Version, Minor   int
	Incompat, Compat uint64
	ImageBytes       int64
	MetadataBytes    int64
	FileBytes        int64 // content
	Inodes           int
	Names            int // the root, which has none, not counted
	Clusters         int
	Codecs           []Codec // in use
	UUID             [16]byte
}

// Stat is what FileInfo.Sys returns a pointer to.
type Stat struct {
	Ino, Nlink   uint32
	UID, GID     uint32
	Major, Minor uint32 // of a device node
	ClusterSize  int    // of a regular file
	Xattrs       []tree.Xattr
}

// device turns the end of a file, which Open was told is elsewhere, into an error that no reader takes for the end of its own.
type device struct{ r io.ReaderAt }

func (d device) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.r.ReadAt(p, off)
	if n < len(p) && (err == io.EOF || err == io.ErrUnexpectedEOF) {
		err = format.Corrupt(off+int64(n), "image", format.ErrTruncated)
	}
	return n, err
}

// Probe reports whether an image begins with header, of which 8 bytes are enough.
func Probe(header []byte) bool { return format.Probe(header) }

// Open reads the superblock of the image in the first bytes of r, of which there are size. It fails with a
// *format.FormatError where that is not a whole image, and with r's error where it cannot be read.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	f := &FS{dev: device{r}, size: size}
	rd, err := read.Open(f.dev, size, read.Options{SegmentSize: format.BlockSize, Cache: make([]byte, format.BlockSize)})
	if err != nil {
		return nil, err
	}
	s := &rd.Super
	f.cache, f.meta = newCache(f), newMeta(s.DataOff())
	f.info = Info{
		Version: int(s.Version()), Minor: int(s.Minor()), Incompat: s.Incompat(), Compat: s.Compat(),
		ImageBytes: int64(s.ImageLen()), MetadataBytes: int64(s.DataOff()), FileBytes: int64(s.FileBytes()),
		Inodes: int(s.Count(format.Inodes)), Names: int(s.Count(format.Dirents)), Clusters: int(s.Count(format.Clusters)),
		UUID: s.UUID(),
	}
	if s.Codecs()&(1<<format.CodecRaw) != 0 {
		f.info.Codecs = append(f.info.Codecs, None)
	}
	if s.Codecs()&(1<<format.CodecLZ4) != 0 {
		f.info.Codecs = append(f.info.Codecs, LZ4)
	}
	return f, nil
}

// Info returns what the superblock says.
func (f *FS) Info() Info { return f.info }

func (f *FS) reader() (*read.FS, error) {
	if rd, ok := f.pool.Get().(*read.FS); ok {
		return rd, nil
	}
	return read.Open(f.dev, f.size, read.Options{SegmentSize: format.BlockSize, Cache: make([]byte, format.BlockSize), Direct: true, Meta: f.meta})
}

// with runs do with a reader that nobody else has meanwhile.
func (f *FS) with(do func(*read.FS) error) error {
	rd, err := f.reader()
	if err != nil {
		return err
	}
	defer f.pool.Put(rd)
	return do(rd)
}

// node is an inode and its number.
type node struct {
	ino uint32
	format.Inode
}

var (
	errNotDir = errors.New("not a directory")
	errIsDir  = errors.New("is a directory")
)

// resolve returns what name leads to; follow says whether a symbolic link at its end is followed.
func resolve(rd *read.FS, name string, follow bool) (n node, err error) {
	if name != "." {
		for part := range strings.SplitSeq(name, "/") {
			if part == "" || part == "." || part == ".." {
				return n, fs.ErrInvalid
			}
		}
	}
	root := node{ino: format.RootIno}
	if err := rd.Inode(root.ino, &root.Inode); err != nil {
		return n, err
	}
	n = root
	links := 0
	for rest := name; rest != ""; {
		part, tail, more := strings.Cut(rest, "/")
		if n.Type() != format.TypeDir {
			return n, errNotDir
		}
		dir := n
		switch part {
		case "", ".":
			rest = tail
			continue
		case "..":
			n.ino = n.Parent()
		default:
			if n.ino, err = rd.Lookup(&dir.Inode, part); err == nil && n.ino == 0 {
				err = fs.ErrNotExist
			}
			if err != nil {
				return n, err
			}
		}
		if err := rd.Inode(n.ino, &n.Inode); err != nil {
			return n, err
		}
		rest = tail
		if n.Type() == format.TypeLink && (more || follow) {
			if links++; links > maxLinks {
				return n, syscall.ELOOP
			}
			target, err := readlink(rd, &n)
			if err != nil {
				return n, err
			}
			n = dir
			if target[0] == '/' {
				n = root
			}
			rest = target
			if more {
				rest += "/" + tail
			}
		}
	}
	return n, nil
}

func readlink(rd *read.FS, n *node) (string, error) {
	buf := make([]byte, n.Size()) // at most format.MaxLink
	if _, err := rd.Readlink(&n.Inode, buf); err != nil {
		return "", err
	}
	if len(buf) == 0 {
		return "", format.Corrupt(0, "empty link", format.ErrFormat)
	}
	return string(buf), nil
}

func xattrs(rd *read.FS, n *node) ([]tree.Xattr, error) {
	if n.XattrLen() == 0 {
		return nil, nil
	}
	buf := make([]byte, min(n.XattrLen(), format.MaxXattrs))
	if _, err := rd.Xattrs(&n.Inode, buf); err != nil {
		return nil, err
	}
	var list []tree.Xattr
	for len(buf) > 0 {
		name, value, rest, ok := format.NextXattr(buf)
		if !ok {
			return nil, format.Corrupt(0, "extended attributes", format.ErrFormat)
		}
		list = append(list, tree.Xattr{Name: string(name), Value: value})
		buf = rest
	}
	return list, nil
}

// find runs do with what name leads to, and returns its error as a *fs.PathError.
func (f *FS) find(op, name string, follow bool, do func(*read.FS, node) error) error {
	err := f.with(func(rd *read.FS) error {
		n, err := resolve(rd, name, follow)
		if err != nil {
			return err
		}
		return do(rd, n)
	})
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// Stat implements fs.StatFS. The Sys of the FileInfo is a *Stat.
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.stat(name, true) }

// Lstat implements fs.ReadLinkFS.
func (f *FS) Lstat(name string) (fs.FileInfo, error) { return f.stat(name, false) }

func (f *FS) stat(name string, follow bool) (i fs.FileInfo, err error) {
	err = f.find("stat", name, follow, func(rd *read.FS, n node) error {
		i, err = newInfo(rd, path.Base(name), n)
		return err
	})
	return i, err
}

// ReadLink implements fs.ReadLinkFS.
func (f *FS) ReadLink(name string) (target string, err error) {
	err = f.find("readlink", name, false, func(rd *read.FS, n node) error {
		if n.Type() != format.TypeLink {
			return fs.ErrInvalid
		}
		target, err = readlink(rd, &n)
		return err
	})
	return target, err
}

// ReadDir implements fs.ReadDirFS.
func (f *FS) ReadDir(name string) (list []fs.DirEntry, err error) {
	err = f.find("readdir", name, true, func(rd *read.FS, n node) error {
		list, err = f.list(rd, n)
		return err
	})
	return list, err
}

// list returns the entries of a directory, sorted by name.
func (f *FS) list(rd *read.FS, n node) ([]fs.DirEntry, error) {
	if n.Type() != format.TypeDir {
		return nil, errNotDir
	}
	var list []fs.DirEntry
	var d read.Dirent
	for i := range n.Count() {
		if err := rd.ReadDir(&n.Inode, i, &d); err != nil {
			return nil, err
		}
		list = append(list, &dirEntry{f, string(d.Name()), d.Ino, d.Type})
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// ReadFile implements fs.ReadFileFS.
func (f *FS) ReadFile(name string) (data []byte, err error) {
	var n node
	err = f.find("read", name, true, func(_ *read.FS, found node) error {
		if n = found; n.Type() == format.TypeDir {
			return errIsDir
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	data = []byte{}
	for n.Type() == format.TypeFile && uint64(len(data)) < n.Size() {
		if n.Size() > math.MaxInt {
			return nil, &fs.PathError{Op: "read", Path: name, Err: format.ErrTooLarge}
		}
		// The size is the image's word: memory follows what was really read.
		at := len(data)
		more := min(int(n.Size())-at, max(at, 64<<20))
		if at == 0 {
			data = dirty(more)
		} else {
			data = slices.Grow(data, more)[:at+more]
		}
		if _, err := f.readAt(&n.Inode, data[at:], int64(at), true); err != nil {
			return nil, &fs.PathError{Op: "read", Path: name, Err: err}
		}
	}
	return data, nil
}

// dirty returns n bytes of undefined contents, at least one: what is overwritten anyway need not be cleared, which would take a
// fifth of the time that reading takes. Only strings.Builder hands out such memory.
func dirty(n int) []byte {
	var b strings.Builder
	b.Grow(n)
	b.WriteByte(0)
	return unsafe.Slice(unsafe.StringData(b.String()), n)
}

// Open implements fs.FS. A regular file is also an io.ReaderAt, an io.Seeker and safe for concurrent ReadAt. Devices and
// fifos read as empty.
func (f *FS) Open(name string) (file fs.File, err error) {
	err = f.find("open", name, true, func(rd *read.FS, n node) error {
		i, err := newInfo(rd, path.Base(name), n)
		if err != nil {
			return err
		}
		if n.Type() == format.TypeDir {
			list, err := f.list(rd, n)
			file = &openDir{info: i, name: name, list: list}
			return err
		}
		file = &openFile{fs: f, info: i, name: name}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// info implements fs.FileInfo.
type info struct {
	name string
	node
	mode fs.FileMode
	stat Stat
}

func newInfo(rd *read.FS, name string, n node) (*info, error) {
	x, err := xattrs(rd, &n)
	if err != nil {
		return nil, err
	}
	mode, _ := fileMode(n.Inode.Mode())
	s := Stat{Ino: n.ino, Nlink: n.Nlink(), UID: n.UID(), GID: n.GID(), Xattrs: x}
	switch n.Type() {
	case format.TypeFile:
		s.ClusterSize = 1 << n.ClusterLog()
	case format.TypeChar, format.TypeBlock:
		s.Major, s.Minor = format.DevMajor(n.Rdev()), format.DevMinor(n.Rdev())
	}
	return &info{name, n, mode, s}, nil
}

func (i *info) Name() string       { return i.name }
func (i *info) Size() int64        { return int64(i.node.Size()) }
func (i *info) Mode() fs.FileMode  { return i.mode }
func (i *info) ModTime() time.Time { return time.Unix(i.MtimeSec(), int64(i.MtimeNsec())) }
func (i *info) IsDir() bool        { return i.mode.IsDir() }
func (i *info) Sys() any           { return &i.stat }
func (i *info) String() string     { return fs.FormatFileInfo(i) }

// dirEntry implements fs.DirEntry.
type dirEntry struct {
	fs   *FS
	name string
	ino  uint32
	typ  uint8
}

func (d *dirEntry) Name() string   { return d.name }
func (d *dirEntry) IsDir() bool    { return d.typ == format.TypeDir>>12 }
func (d *dirEntry) String() string { return fs.FormatDirEntry(d) }

func (d *dirEntry) Type() fs.FileMode {
	m, _ := fileMode(uint16(d.typ) << 12)
	return m.Type()
}

func (d *dirEntry) Info() (fs.FileInfo, error) {
	rd, err := d.fs.reader()
	if err != nil {
		return nil, err
	}
	defer d.fs.pool.Put(rd)
	n := node{ino: d.ino}
	if err := rd.Inode(d.ino, &n.Inode); err != nil {
		return nil, err
	}
	return newInfo(rd, d.name, n)
}

// openDir implements fs.ReadDirFile.
type openDir struct {
	*info
	name string
	list []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }
func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errIsDir}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.list)
	} else if len(d.list) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.list))
	list := d.list[:n:n]
	d.list = d.list[n:]
	return list, nil
}

// openFile implements fs.File, io.ReaderAt and io.Seeker.
type openFile struct {
	fs   *FS
	info *info
	name string
	off  int64
}

func (o *openFile) Stat() (fs.FileInfo, error) { return o.info, nil }
func (o *openFile) Close() error               { return nil }

func (o *openFile) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := o.readAt(p, o.off, true)
	o.off += int64(n)
	if err == io.EOF && n > 0 {
		err = nil
	}
	return n, err
}

func (o *openFile) ReadAt(p []byte, off int64) (n int, err error) { return o.readAt(p, off, false) }

func (o *openFile) readAt(p []byte, off int64, inOrder bool) (n int, err error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: o.name, Err: fs.ErrInvalid}
	}
	if o.info.Type() == format.TypeFile {
		if n, err = o.fs.readAt(&o.info.Inode, p, off, inOrder); err != nil {
			return n, &fs.PathError{Op: "read", Path: o.name, Err: err}
		}
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (o *openFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += o.off
	case io.SeekEnd:
		offset += o.info.Size()
	default:
		offset = -1
	}
	if offset < 0 {
		return 0, &fs.PathError{Op: "seek", Path: o.name, Err: fs.ErrInvalid}
	}
	o.off = offset
	return offset, nil
}

// Tree lists the whole image. The entries' Sources read from it.
func (f *FS) Tree() (*tree.Tree, error) {
	rd, err := f.reader()
	if err != nil {
		return nil, err
	}
	defer f.pool.Put(rd)
	t := &tree.Tree{}
	seen := map[uint32]string{} // directories, and the first paths of files with several
	var visit func(name string, ino uint32) error
	visit = func(name string, ino uint32) error {
		n := node{ino: ino}
		fail := func(err error) error { return &fs.PathError{Op: "rofs", Path: name, Err: err} }
		if err := rd.Inode(ino, &n.Inode); err != nil {
			return fail(err)
		}
		i, err := newInfo(rd, name, n)
		if err != nil {
			return fail(err)
		}
		e := tree.Entry{Path: name, Mode: i.mode, UID: n.UID(), GID: n.GID(), ModTime: i.ModTime(),
			Major: i.stat.Major, Minor: i.stat.Minor, Xattrs: i.stat.Xattrs}
		first, again := seen[ino]
		switch {
		case n.Type() == format.TypeDir && again:
			return fail(fmt.Errorf("the directory is also %q: %w", first, format.ErrFormat))
		case again:
			e.HardLink = first
		case n.Type() == format.TypeDir || n.Nlink() > 1:
			seen[ino] = name
		}
		switch n.Type() {
		case format.TypeFile:
			e.Size = i.Size()
			if e.Size > 0 && !again {
				e.Source = func() (io.ReadCloser, error) { return &openFile{fs: f, info: i, name: name}, nil }
			}
		case format.TypeLink:
			if e.Link, err = readlink(rd, &n); err != nil {
				return fail(err)
			}
		}
		t.Entries = append(t.Entries, e)
		if n.Type() != format.TypeDir {
			return nil
		}
		list, err := f.list(rd, n)
		if err != nil {
			return fail(err)
		}
		for _, d := range list {
			if err := checkName(d.Name()); err != nil || strings.Contains(d.Name(), "/") {
				return fail(fmt.Errorf("name %q: %w", d.Name(), format.ErrFormat))
			}
			if err := visit(path.Join(name, d.Name()), d.(*dirEntry).ino); err != nil {
				return err
			}
		}
		return nil
	}
	if err := visit(".", format.RootIno); err != nil {
		return nil, err
	}
	return t, nil
}
