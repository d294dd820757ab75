package fsmod

import (
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/tree"
)

// Attrs is a set of what a tree's entries may have and a file system's format may not be able to hold.
type Attrs uint

// What a format may lack.
const (
	Modes       Attrs = 1 << iota // permission, setuid, setgid and sticky bits
	Owners                        // user and group
	Times                         // modification times
	Nanoseconds                   // the part of them below a second
	Xattrs                        // extended attributes
	HardLinks                     // several names of one file: each becomes a file
	Devices                       // device nodes
	Pipes                         // named pipes
)

var attrNames = []string{"modes", "owners", "times", "fractions of seconds", "extended attributes", "hard links", "device nodes", "named pipes"}

// String lists the set in words.
func (a Attrs) String() string {
	var list []string
	for i, name := range attrNames {
		if a&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return strings.Join(list, ", ")
}

// Lacker is a Module whose format cannot hold everything that a tree may have. A Module that is none holds all of it.
type Lacker interface {
	Module
	// Lacks tells what the format has no place for, or so little that it does not come back.
	Lacks() Attrs
	// CanHold tells whether the format has a place for e at all, without what it lacks: for its type, name and size. The error
	// names e.
	CanHold(e *tree.Entry) error
}

// Lacks tells what m's format has no place for.
func Lacks(m Module) Attrs {
	if l, ok := m.(Lacker); ok {
		return l.Lacks()
	}
	return 0
}

// usual returns the permissions of e where a format has none.
func usual(e *tree.Entry) fs.FileMode {
	if e.Mode.Type() == fs.ModeSymlink {
		return 0o777
	}
	return 0o555
}

// Uses tells what of all that t makes use of: of whatever Reduce would change, and of devices and pipes.
func Uses(t *tree.Tree) (a Attrs) {
	for i := range t.Entries {
		e := &t.Entries[i]
		for _, u := range []struct {
			attr Attrs
			used bool
		}{
			{Modes, e.Mode&^fs.ModeType != usual(e)},
			{Owners, e.UID != 0 || e.GID != 0},
			{Times, e.ModTime.Unix() != 0 || e.ModTime.Nanosecond() != 0},
			{Nanoseconds, e.ModTime.Nanosecond() != 0},
			{Xattrs, len(e.Xattrs) > 0},
			{HardLinks, e.HardLink != ""},
			{Devices, e.Mode&fs.ModeDevice != 0},
			{Pipes, e.Mode&fs.ModeNamedPipe != 0},
		} {
			if u.used {
				a |= u.attr
			}
		}
	}
	return a
}

// Reduce returns t without what is in a, as if it had been written to a format that lacks that and read again: everything is
// root's, of the time 0, with the permissions 0555 or, of a link, 0777. Entries stay, devices and pipes included.
func Reduce(t *tree.Tree, a Attrs) *tree.Tree {
	r := &tree.Tree{Entries: slices.Clone(t.Entries)}
	for i := range r.Entries {
		e := &r.Entries[i]
		if a&Modes != 0 {
			e.Mode = e.Mode.Type() | usual(e)
		}
		if a&Owners != 0 {
			e.UID, e.GID = 0, 0
		}
		if a&Nanoseconds != 0 {
			e.ModTime = time.Unix(e.ModTime.Unix(), 0)
		}
		if a&Times != 0 {
			e.ModTime = time.Unix(0, 0)
		}
		if a&Xattrs != 0 {
			e.Xattrs = nil
		}
		if first := t.Lookup(e.HardLink); a&HardLinks != 0 && first != nil {
			e.Source, e.HardLink = first.Source, ""
		}
	}
	return r
}
