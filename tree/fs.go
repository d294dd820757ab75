package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"
)

var (
	_ fs.StatFS     = (*Tree)(nil)
	_ fs.ReadDirFS  = (*Tree)(nil)
	_ fs.ReadLinkFS = (*Tree)(nil)
)

// maxLinks is how many symbolic links one path may lead through: MAXSYMLINKS of Linux.
const maxLinks = 40

var errLinks = errors.New("too many levels of symbolic links")

// Open implements fs.FS. Symbolic links are followed inside the tree, whose root is also the root of absolute ones. Unlike
// fs.ValidPath asks, names need not be UTF-8. Devices and fifos read as empty.
func (t *Tree) Open(name string) (fs.File, error) {
	i, err := t.resolve(name, true)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	e := &t.Entries[i]
	info := fileInfo{e, path.Base(name)}
	if e.Mode.IsDir() {
		return &openDir{fileInfo: info, list: t.children(i)}, nil
	}
	r, err := t.open(e)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &openedFile{fileInfo: info, r: r}, nil
}

// open opens the content of e, by its first name if it is a hard link.
func (t *Tree) open(e *Entry) (io.ReadCloser, error) {
	if e.HardLink != "" {
		first := t.Lookup(e.HardLink)
		if first == nil {
			return nil, fmt.Errorf("hard link to %q: %w", e.HardLink, fs.ErrNotExist)
		}
		e = first
	}
	if e.Source == nil {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	return e.Source()
}

// Stat implements fs.StatFS; symbolic links are followed. The FileInfo's Sys is the *Entry.
func (t *Tree) Stat(name string) (fs.FileInfo, error) { return t.stat(name, true) }

// Lstat implements fs.ReadLinkFS.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) { return t.stat(name, false) }

func (t *Tree) stat(name string, follow bool) (fs.FileInfo, error) {
	i, err := t.resolve(name, follow)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return fileInfo{&t.Entries[i], path.Base(name)}, nil
}

// ReadLink implements fs.ReadLinkFS.
func (t *Tree) ReadLink(name string) (string, error) {
	i, err := t.resolve(name, false)
	if err == nil && t.Entries[i].Mode.Type() != fs.ModeSymlink {
		err = fs.ErrInvalid
	}
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return t.Entries[i].Link, nil
}

// ReadDir implements fs.ReadDirFS.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	i, err := t.resolve(name, true)
	if err == nil && !t.Entries[i].Mode.IsDir() {
		err = errors.New("not a directory")
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	return t.children(i), nil
}

// children lists the directory at index dir.
func (t *Tree) children(dir int) []fs.DirEntry {
	var list []fs.DirEntry
	end := t.end(dir)
	for i := dir + 1; i < end; i = t.end(i) {
		e := &t.Entries[i]
		list = append(list, fs.FileInfoToDirEntry(fileInfo{e, path.Base(e.Path)}))
	}
	return list
}

// end returns the index after the last entry below the one at index i.
func (t *Tree) end(i int) int {
	if i == 0 {
		return len(t.Entries)
	}
	if !t.Entries[i].Mode.IsDir() {
		return i + 1
	}
	prefix := t.Entries[i].Path + "/"
	rest := t.Entries[i+1:]
	return i + 1 + sort.Search(len(rest), func(j int) bool { return !strings.HasPrefix(rest[j].Path, prefix) })
}

// resolve returns the index of the entry that name leads to; follow says whether a symbolic link at its end is followed.
func (t *Tree) resolve(name string, follow bool) (int, error) {
	// Not fs.ValidPath, which wants UTF-8.
	if name != "." {
		for part := range strings.SplitSeq(name, "/") {
			if part == "" || part == "." || part == ".." {
				return 0, fs.ErrInvalid
			}
		}
	}
	if len(t.Entries) == 0 {
		return 0, fs.ErrNotExist
	}
	at, links := 0, 0
	rest := name
	for rest != "" {
		part, tail, more := strings.Cut(rest, "/")
		rest = tail
		switch {
		case !t.Entries[at].Mode.IsDir():
			return 0, fs.ErrNotExist
		case part == "" || part == ".":
			continue
		case part == "..":
			at, _ = t.index(path.Dir(t.Entries[at].Path))
			continue
		}
		next, ok := t.index(path.Join(t.Entries[at].Path, part))
		if !ok {
			return 0, fs.ErrNotExist
		}
		e := &t.Entries[next]
		if e.Mode.Type() != fs.ModeSymlink || !follow && !more {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return 0, errLinks
		}
		if strings.HasPrefix(e.Link, "/") {
			at = 0
		}
		rest = e.Link
		if more {
			rest += "/" + tail
		}
	}
	return at, nil
}

type fileInfo struct {
	e    *Entry
	name string
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.e.Size }
func (i fileInfo) Mode() fs.FileMode  { return i.e.Mode }
func (i fileInfo) ModTime() time.Time { return i.e.ModTime }
func (i fileInfo) IsDir() bool        { return i.e.Mode.IsDir() }
func (i fileInfo) Sys() any           { return i.e }

type openedFile struct {
	fileInfo
	r io.ReadCloser
}

func (f *openedFile) Stat() (fs.FileInfo, error) { return f.fileInfo, nil }
func (f *openedFile) Close() error               { return f.r.Close() }

func (f *openedFile) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err != nil && err != io.EOF {
		err = &fs.PathError{Op: "read", Path: f.e.Path, Err: err}
	}
	return n, err
}

type openDir struct {
	fileInfo
	list []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.fileInfo, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.e.Path, Err: errors.New("is a directory")}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(d.list) {
		if n > 0 && len(d.list) == 0 {
			return nil, io.EOF
		}
		n = len(d.list)
	}
	list := d.list[:n:n]
	d.list = d.list[n:]
	return list, nil
}
