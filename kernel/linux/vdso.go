package linux

import (
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vdso"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// clockFile is what the program's last two mapped pages are of: the data by which it reads the clock, and package vdso's code.
// Both come with the first fault on them.
type clockFile struct {
	vfs.ReadOnly
	pages [2]mem.Frame
}

func (c *clockFile) Attr(a *vfs.Attr) {
	*a = vfs.Attr{Mode: vfs.TypeReg | 0o444, Nlink: 1, Size: uint64(len(c.pages)) * pageSize}
}

func (c *clockFile) Page(n uint64) (mem.Frame, vfs.Errno) {
	if n >= uint64(len(c.pages)) {
		return 0, vfs.EIO
	}
	if c.pages[n] == 0 {
		f := vfs.AllocPage(abi.OwnFiles)
		if f == 0 {
			return 0, vfs.ENOMEM
		}
		if n == 0 {
			ring0.ShareClock(f)
		} else {
			copy(f.Bytes(pageSize), vdso.Image)
		}
		c.pages[n] = f
	}
	return c.pages[n], 0
}

func (c *clockFile) Cached(n uint64) mem.Frame {
	if n < uint64(len(c.pages)) {
		return c.pages[n]
	}
	return 0
}

// clockBase is where they lie: at the top of where mappings go.
const clockBase = mapTop - 2*pageSize

// mapClock maps both pages and returns where the program finds the code.
func (p *process) mapClock() uint64 {
	const data, code = clockBase, clockBase + pageSize
	f := vfs.NewFile(&vfs.Loc{Node: &p.clockFile, Name: "[vdso]"}, 0)
	f.Retain()
	p.mm.areas.add(area{start: data, end: code, kind: protRead, file: f})
	p.mm.areas.add(area{start: code, end: code + pageSize, kind: protRead | protExec, off: pageSize, file: f})
	return code
}
