// Package iofs shows a ramfs, or a snapshot of one, as an fs.FS.
package iofs

import (
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/ramfs"
)

// FS is the tree below a root. It implements fs.ReadLinkFS, fs.StatFS and fs.ReadDirFS; its files implement io.ReaderAt and
// io.Seeker. FileInfo.Sys returns a *ramfs.Attr. Unlike fs.ValidPath asks, names need not be UTF-8. It may be used by many goroutines at once, while nobody changes the file
// system.
type FS struct{ root ramfs.View }

// New returns the tree below root: FS.Root().View() of a file system or Root() of a snapshot.
func New(root ramfs.View) *FS { return &FS{root} }

var (
	_ fs.ReadLinkFS  = (*FS)(nil)
	_ fs.StatFS      = (*FS)(nil)
	_ fs.ReadDirFS   = (*FS)(nil)
	_ fs.ReadDirFile = (*file)(nil)
	_ io.ReaderAt    = (*file)(nil)
	_ io.Seeker      = (*file)(nil)
)

// maxLinks is how many symbolic links are followed in one resolution, as in Linux.
const maxLinks = 40

// errno turns an error of ramfs into one of io/fs where there is one.
func errno(err ramfs.Errno) error {
	switch err {
	case 0:
		return nil
	case ramfs.ENOENT:
		return fs.ErrNotExist
	case ramfs.EINVAL:
		return fs.ErrInvalid
	}
	return err
}

// find follows name, and a link at its end if follow is set. Absolute links start from the root, and ".." ends there.
func (f *FS) find(op, name string, follow bool) (ramfs.View, error) {
	fail := func(err error) (ramfs.View, error) {
		return ramfs.View{}, &fs.PathError{Op: op, Path: name, Err: err}
	}
	// Not fs.ValidPath, which wants UTF-8.
	if name != "." {
		for part := range strings.SplitSeq(name, "/") {
			if part == "" || part == "." || part == ".." {
				return fail(fs.ErrInvalid)
			}
		}
	}
	way := []ramfs.View{f.root}
	links := 0
	for rest := name; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			way = way[:max(1, len(way)-1)]
			continue
		}
		v, err := way[len(way)-1].Lookup(part)
		if err != 0 {
			return fail(errno(err))
		}
		if v.Attr().Mode&ramfs.TypeMask == ramfs.TypeLink && (follow || rest != "") {
			if links++; links > maxLinks {
				return fail(errLoop)
			}
			target, _ := v.Readlink()
			if path.IsAbs(target) {
				way = way[:1]
			}
			rest = target + "/" + rest
			continue
		}
		way = append(way, v)
	}
	return way[len(way)-1], nil
}

type loopError struct{}

func (loopError) Error() string { return "too many levels of symbolic links" }

var errLoop = loopError{}

// Open opens a file or directory.
func (f *FS) Open(name string) (fs.File, error) {
	v, err := f.find("open", name, true)
	if err != nil {
		return nil, err
	}
	return &file{info: info{path.Base(name), v.Attr()}, v: v}, nil
}

// Stat describes a file, Lstat a link itself.
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.stat("stat", name, true) }

// Lstat is described with Stat.
func (f *FS) Lstat(name string) (fs.FileInfo, error) { return f.stat("lstat", name, false) }

func (f *FS) stat(op, name string, follow bool) (fs.FileInfo, error) {
	v, err := f.find(op, name, follow)
	if err != nil {
		return nil, err
	}
	return info{path.Base(name), v.Attr()}, nil
}

// ReadLink returns the target of a link.
func (f *FS) ReadLink(name string) (string, error) {
	v, err := f.find("readlink", name, false)
	if err != nil {
		return "", err
	}
	target, no := v.Readlink()
	if no != 0 {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: errno(no)}
	}
	return target, nil
}

// ReadDir returns the entries of a directory in the order of their names.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	v, err := f.find("readdir", name, true)
	if err != nil {
		return nil, err
	}
	d := &file{info: info{path.Base(name), v.Attr()}, v: v}
	entries, err := d.ReadDir(-1)
	sortByName(entries)
	return entries, err
}

type info struct {
	name string
	attr ramfs.Attr
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return int64(i.attr.Size) }
func (i info) ModTime() time.Time { return time.Unix(0, i.attr.Mtime).UTC() }
func (i info) IsDir() bool        { return i.Mode().IsDir() }
func (i info) Sys() any           { return &i.attr }
func (i info) Mode() fs.FileMode  { return Mode(i.attr.Mode) }

// Mode turns a mode of Linux into Go's.
func Mode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & ramfs.TypeMask {
	case ramfs.TypeDir:
		m |= fs.ModeDir
	case ramfs.TypeLink:
		m |= fs.ModeSymlink
	case ramfs.TypeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case ramfs.TypeBlk:
		m |= fs.ModeDevice
	case ramfs.TypeFIFO:
		m |= fs.ModeNamedPipe
	case ramfs.TypeSock:
		m |= fs.ModeSocket
	}
	for i, bit := range [...]fs.FileMode{fs.ModeSticky, fs.ModeSetgid, fs.ModeSetuid} {
		if mode>>(9+i)&1 != 0 {
			m |= bit
		}
	}
	return m
}
