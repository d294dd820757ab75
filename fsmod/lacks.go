package fsmod

import (
	"io/fs"
	"strings"

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
	// Lacks tells what the format has no place for. What it reads back of that is the same for every entry.
	Lacks() Attrs
	// CanHold tells whether Write would take t: names, sizes and types included. The error names the first entry in the way.
	CanHold(t *tree.Tree) error
}

// Lacks tells what m's format has no place for.
func Lacks(m Module) Attrs {
	if l, ok := m.(Lacker); ok {
		return l.Lacks()
	}
	return 0
}

// Uses tells what of a set t makes use of; anything but root's files of the time 0 with the usual modes 0555 and, of a
// link, 0777.
func Uses(t *tree.Tree) (a Attrs) {
	for i := range t.Entries {
		e := &t.Entries[i]
		usual := fs.FileMode(0o555)
		if e.Mode.Type() == fs.ModeSymlink {
			usual = 0o777
		}
		for _, u := range []struct {
			attr Attrs
			used bool
		}{
			{Modes, e.Mode&^fs.ModeType != usual},
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
