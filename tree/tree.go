// Package tree describes what goes into an image: entries with type, mode, owner, time, extended attributes, link target
// and content, wherever they come from. A file-system module takes a *Tree and writes it; a Tree is also an fs.FS.
package tree

import (
	"io"
	"io/fs"
	"time"
)

// Xattr is one extended attribute.
type Xattr struct {
	Name  string // with its namespace, as "user.comment"
	Value []byte
}

// Entry is one name in a tree. An Entry is not changed after its Tree was made.
type Entry struct {
	// Path is slash-separated, relative and clean; "." is the root. Its bytes are the file system's: they need not be UTF-8.
	Path string
	// Mode holds type, permission, setuid, setgid and sticky bits in io/fs's spelling.
	Mode    fs.FileMode
	UID     uint32
	GID     uint32
	ModTime time.Time
	// Size is the content's length in bytes of a regular file, zero of anything else.
	Size int64
	// Link is a symbolic link's target.
	Link string
	// HardLink is the Path of the first entry, in tree order, that names the same file; empty for that first entry itself.
	// A hard link repeats the first entry's metadata and has no content of its own.
	HardLink string
	// Major and Minor are a device node's numbers.
	Major, Minor uint32
	// Xattrs is sorted by name.
	Xattrs []Xattr

	// Source opens a regular file's content; nil means that the file is empty. The stream yields Size bytes or an error: a
	// file that shrank, grew or vanished since the tree was made is an error that names it.
	Source func() (io.ReadCloser, error)
}

// Tree is a whole tree. Entries starts with the root directory and is sorted by path in byte order of its components, so
// that a directory precedes what it holds; every parent is present.
type Tree struct {
	Entries []Entry
}
