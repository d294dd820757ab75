// Package tree describes what goes into an image: entries with type, mode, owner, time, extended attributes, link target
// and content, wherever they come from. A file-system module takes a *Tree and writes it; a Tree is also an fs.FS.
//
// A Tree comes from a directory (FromDir), from one ELF file (FromELF), from a Go main package (FromGoPackage) or from
// entries made by hand (New). Executables finds the programs in it. Nothing of a target is ever executed.
package tree

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
	"time"
)

// MaxName is the longest name of one entry, in bytes: NAME_MAX of <linux/limits.h>.
const MaxName = 255

// MaxLink is the longest target of a symbolic link, in bytes: PATH_MAX of <linux/limits.h> less its NUL.
const MaxLink = 4095

// The limits of one extended attribute, XATTR_NAME_MAX and XATTR_SIZE_MAX of <linux/limits.h>, in bytes.
const (
	MaxXattrName  = 255
	MaxXattrValue = 65536
)

var (
	// ErrInvalid says that a Tree breaks an invariant.
	ErrInvalid = errors.New("invalid tree")
	// ErrChanged says that a file is not what it was when its tree was made.
	ErrChanged = errors.New("the file changed while it was read")
	// ErrUnsupported says that a source holds something that an image cannot: a socket, a name that is too long.
	ErrUnsupported = errors.ErrUnsupported
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

// New makes a tree of entries in any order, which it sorts and validates.
func New(entries ...Entry) (*Tree, error) {
	t := &Tree{Entries: entries}
	slices.SortStableFunc(t.Entries, func(a, b Entry) int { return Compare(a.Path, b.Path) })
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return t, nil
}

// Compare orders paths as Tree.Entries does: "." first, then by byte order of the components, so that "a/b" precedes "a.b".
func Compare(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == ".":
		return -1
	case b == ".":
		return 1
	}
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			continue
		}
		// A slash ends a component, and the shorter of two components comes first.
		if a[i] == '/' {
			return -1
		}
		if b[i] == '/' {
			return 1
		}
		return cmp.Compare(a[i], b[i])
	}
	return cmp.Compare(len(a), len(b))
}

// Lookup returns the entry named p, which must be clean; symbolic links are not followed. It is nil if there is none.
func (t *Tree) Lookup(p string) *Entry {
	i, ok := t.index(p)
	if !ok {
		return nil
	}
	return &t.Entries[i]
}

func (t *Tree) index(p string) (int, bool) {
	return sort.Find(len(t.Entries), func(i int) int { return Compare(p, t.Entries[i].Path) })
}

// modeBits is all of a mode that an entry may have.
const modeBits = fs.ModeType | fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// Validate checks the invariants that Tree and Entry state. Its errors wrap ErrInvalid and name the entry; writers call it
// before they write a byte.
func (t *Tree) Validate() error {
	if len(t.Entries) == 0 || t.Entries[0].Path != "." {
		return fmt.Errorf("%w: it does not start with the root directory", ErrInvalid)
	}
	if !t.Entries[0].Mode.IsDir() {
		return fmt.Errorf("%w: the root is not a directory", ErrInvalid)
	}
	for i := range t.Entries {
		if err := t.validateEntry(i); err != nil {
			return fmt.Errorf("%w: %q: %w", ErrInvalid, t.Entries[i].Path, err)
		}
	}
	return nil
}

func (t *Tree) validateEntry(i int) error {
	e := &t.Entries[i]
	if err := checkPath(e.Path); err != nil {
		return err
	}
	if i > 0 {
		prev := t.Entries[i-1].Path
		switch c := Compare(prev, e.Path); {
		case c == 0:
			return errors.New("it is there twice")
		case c > 0:
			return fmt.Errorf("it is out of order after %q", prev)
		}
		// Only entries before i are known to be in order, and a parent is one of them.
		parent := (&Tree{t.Entries[:i]}).Lookup(path.Dir(e.Path))
		if parent == nil {
			return errors.New("its parent directory is missing")
		}
		if !parent.Mode.IsDir() {
			return errors.New("its parent is not a directory")
		}
	}
	if err := checkMode(e); err != nil {
		return err
	}
	for j, x := range e.Xattrs {
		switch {
		case x.Name == "" || len(x.Name) > MaxXattrName || strings.IndexByte(x.Name, 0) >= 0:
			return fmt.Errorf("extended attribute with a bad name %q", x.Name)
		case len(x.Value) > MaxXattrValue:
			return fmt.Errorf("extended attribute %s has %d bytes, %d at most", x.Name, len(x.Value), MaxXattrValue)
		case j > 0 && e.Xattrs[j-1].Name >= x.Name:
			return fmt.Errorf("extended attribute %s is out of order", x.Name)
		}
	}
	if e.HardLink == "" {
		return nil
	}
	first := (&Tree{t.Entries[:i]}).Lookup(e.HardLink)
	switch {
	case e.Mode.IsDir():
		return errors.New("a directory cannot be a hard link")
	case first == nil:
		return fmt.Errorf("hard link to %q, which is not an entry before it", e.HardLink)
	case first.HardLink != "":
		return fmt.Errorf("hard link to %q, which is itself one", e.HardLink)
	case !sameFile(first, e):
		return fmt.Errorf("hard link to %q, whose metadata differ", e.HardLink)
	}
	return nil
}

// checkMode checks a type and the fields that belong to it.
func checkMode(e *Entry) error {
	if e.Mode&^modeBits != 0 {
		return fmt.Errorf("mode %v has bits that no image can hold", e.Mode)
	}
	switch e.Mode.Type() {
	case 0, fs.ModeDir, fs.ModeSymlink, fs.ModeNamedPipe, fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
	default:
		return fmt.Errorf("mode %v: %w", e.Mode, ErrUnsupported)
	}
	symlink, regular := e.Mode.Type() == fs.ModeSymlink, e.Mode.IsRegular()
	switch {
	case symlink && (e.Link == "" || len(e.Link) > MaxLink || strings.IndexByte(e.Link, 0) >= 0):
		return fmt.Errorf("bad link target %q", e.Link)
	case !symlink && e.Link != "":
		return errors.New("only a symbolic link has a target")
	case e.Size < 0 || !regular && e.Size != 0:
		return fmt.Errorf("bad size %d", e.Size)
	case e.Source != nil && (!regular || e.HardLink != ""):
		return errors.New("only a regular file's first name has content")
	case e.Source == nil && e.Size != 0 && e.HardLink == "":
		return fmt.Errorf("%d bytes without a source", e.Size)
	case e.Mode&fs.ModeDevice == 0 && (e.Major != 0 || e.Minor != 0):
		return errors.New("only a device node has device numbers")
	}
	return nil
}

func checkPath(p string) error {
	if p == "." {
		return nil
	}
	for name := range strings.SplitSeq(p, "/") {
		if err := checkName(name); err != nil {
			return err
		}
	}
	return nil
}

// checkName checks one component of a path: any bytes but NUL and slash, and not the names that every directory has.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q cannot be a name", name)
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("the name %q holds a NUL byte", name)
	case len(name) > MaxName:
		return fmt.Errorf("the name %.20q… has %d bytes, %d at most: %w", name, len(name), MaxName, ErrUnsupported)
	}
	return nil
}

// sameFile reports whether two entries have the same metadata, as names of one file do.
func sameFile(a, b *Entry) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.ModTime.Equal(b.ModTime) && a.Size == b.Size &&
		a.Link == b.Link && a.Major == b.Major && a.Minor == b.Minor &&
		slices.EqualFunc(a.Xattrs, b.Xattrs, func(x, y Xattr) bool { return x.Name == y.Name && string(x.Value) == string(y.Value) })
}
