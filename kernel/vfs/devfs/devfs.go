// Package devfs is /dev: the few devices that programs expect, and the console.
package devfs

import (
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

type kind uint8

const (
	null kind = iota
	zero
	full
	random
	console
	mark
	link
)

type device struct {
	vfs.Base
	kind   kind
	name   string
	major  uint64
	minor  uint64
	target string
}

// The devices, with their numbers as in Documentation/admin-guide/devices.txt. mark is ours and has a number of the range
// for local use. There is no terminal: tty and console are both the serial port.
var devices = [...]device{
	{kind: null, name: "null", major: 1, minor: 3},
	{kind: zero, name: "zero", major: 1, minor: 5},
	{kind: full, name: "full", major: 1, minor: 7},
	{kind: random, name: "random", major: 1, minor: 8},
	{kind: random, name: "urandom", major: 1, minor: 9},
	{kind: console, name: "console", major: 5, minor: 1},
	{kind: console, name: "tty", major: 5, minor: 0},
	{kind: mark, name: "mark", major: 240, minor: 0},
	{kind: link, name: "fd", target: "/proc/self/fd"},
	{kind: link, name: "stdin", target: "/proc/self/fd/0"},
	{kind: link, name: "stdout", target: "/proc/self/fd/1"},
	{kind: link, name: "stderr", target: "/proc/self/fd/2"},
}

const (
	consoleIndex = 5
	rootIno      = 1
)

// Console returns the console device.
func Console() vfs.Node { return &devices[consoleIndex] }

func (d *device) ino() uint64 {
	for i := range devices {
		if d == &devices[i] {
			return rootIno + 1 + uint64(i)
		}
	}
	return 0
}

func (d *device) mode() uint32 {
	switch d.kind {
	case link:
		return vfs.TypeLink | 0o777
	case console:
		return vfs.TypeChar | 0o620
	}
	return vfs.TypeChar | 0o666
}

func (d *device) Attr(a *vfs.Attr) {
	*a = vfs.Attr{Ino: d.ino(), Mode: d.mode(), Nlink: 1, Rdev: d.major<<8 | d.minor, Size: uint64(len(d.target))}
}

func (d *device) Readlink() (string, vfs.Errno) {
	if d.kind != link {
		return "", vfs.EINVAL
	}
	return d.target, 0
}

// ReadAt never waits: nobody types at the console, so it is at its end.
func (d *device) ReadAt(p []byte, _ uint64) (int, vfs.Errno) {
	switch d.kind {
	case zero, full:
		clear(p)
		return len(p), 0
	case random:
		ring0.Random(p)
		return len(p), 0
	}
	return 0, 0
}

var outputSeen bool

func (d *device) WriteAt(p []byte, _ uint64) (int, vfs.Errno) {
	switch d.kind {
	case full:
		return 0, vfs.ENOSPC
	case console:
		if !outputSeen && len(p) > 0 {
			outputSeen = true
			ring0.Mark(abi.MarkOutput)
		}
		ring0.ConsoleWrite(p)
	case mark:
		name := p
		if n := len(name); n > 0 && name[n-1] == '\n' {
			name = name[:n-1]
		}
		if len(name) == 0 || len(name) > vfs.NameMax {
			return 0, vfs.EINVAL
		}
		ring0.NamedMark(string(name))
	}
	return len(p), 0
}

// Truncate is what O_TRUNC asks for, as in "> /dev/null".
func (d *device) Truncate(uint64) vfs.Errno { return 0 }

type root struct{ vfs.ReadOnly }

var theRoot root

// Root returns the directory of devices.
func Root() vfs.Node { return &theRoot }

func (*root) Attr(a *vfs.Attr) { *a = vfs.Attr{Ino: rootIno, Mode: vfs.TypeDir | 0o755, Nlink: 2} }

func (*root) Lookup(name string) (vfs.Node, vfs.Errno) {
	for i := range devices {
		if devices[i].name == name {
			return &devices[i], 0
		}
	}
	return nil, vfs.ENOENT
}

func (*root) ReadDir(pos uint64) (e vfs.Entry, next uint64, ok bool, err vfs.Errno) {
	if pos >= uint64(len(devices)) {
		return e, pos, false, 0
	}
	d := &devices[pos]
	return vfs.Entry{Name: d.name, Ino: rootIno + 1 + pos, Type: d.mode() & vfs.TypeMask}, pos + 1, true, 0
}
