package tmpfs

import (
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
	"github.com/firstlight-boot/firstlight/ramfs"
	"github.com/firstlight-boot/firstlight/ramfs/newc"
)

// Load fills f from an initial RAM disk, whose pages, the direct map's, it takes over: those with contents of files stay
// until the last of these is gone or written, all others go to the page allocator.
func Load(f *ramfs.FS, disk []byte) error {
	a := &archive{}
	a.add(disk)
	if err := newc.Load(f, disk, a); err != nil {
		return err
	}
	for i := range a.runs {
		r := &a.runs[i]
		for k, n := range r.users {
			if n == 0 {
				mem.Free(r.frame(k), abi.OwnInitrd)
			}
		}
	}
	return nil
}

// archive is the memory of what is unpacked, and of what that is unpacked from.
type archive struct{ runs []run }

// run is a number of frames in a row.
type run struct {
	start mem.Frame
	users []uint8 // of each: files that have contents in it, at most 37 for the size of headers; adopted: it is a file's own
}

const adopted = 255

func (r *run) frame(k int) mem.Frame { return r.start + mem.Frame(k)*mem.PageSize }

func physical(b []byte) uint64 {
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) - layout.DirectMap
}

func (a *archive) add(b []byte) {
	first := physical(b) &^ (mem.PageSize - 1)
	end := physical(b) + uint64(len(b))
	a.runs = append(a.runs, run{mem.Frame(first), make([]uint8, (end-first+mem.PageSize-1)/mem.PageSize)})
}

// pages returns the run that b lies in, and which of its frames b touches.
func (a *archive) pages(b []byte) (r *run, from, to int) {
	first, last := physical(b), physical(b)+uint64(len(b))-1
	for i := range a.runs {
		r = &a.runs[i]
		if first >= uint64(r.start) && first < uint64(r.frame(len(r.users))) {
			break
		}
	}
	return r, int(first-uint64(r.start)) / mem.PageSize, int(last-uint64(r.start))/mem.PageSize + 1
}

// Make implements newc.Memory, as do the others.
func (a *archive) Make(n int) []byte {
	pages := (n + mem.PageSize - 1) / mem.PageSize
	f := vfs.AllocRun(max(pages, 1), abi.OwnInitrd)
	if f == 0 {
		return nil
	}
	b := f.Bytes(max(n, 1))
	a.add(b)
	return b[:n]
}

func (a *archive) Cut(b []byte, n int) {
	r, _, _ := a.pages(b[:1])
	keep := (n + mem.PageSize - 1) / mem.PageSize
	for k := keep; k < len(r.users); k++ {
		mem.Free(r.frame(k), abi.OwnInitrd)
	}
	r.users = r.users[:keep]
}

func (a *archive) Use(b []byte) {
	r, from, to := a.pages(b)
	for k := from; k < to; k++ {
		r.users[k]++
	}
}

// Release frees the pages that nobody needs any more.
func (a *archive) Release(b []byte) {
	r, from, to := a.pages(b)
	for k := from; k < to; k++ {
		if r.users[k] == adopted {
			continue
		}
		if r.users[k]--; r.users[k] == 0 {
			mem.Free(r.frame(k), abi.OwnInitrd)
		}
	}
}

// Adopt makes a page that is whole in the contents of one file that file's own.
func (a *archive) Adopt(b []byte) ramfs.Page {
	if physical(b)%mem.PageSize != 0 {
		return 0
	}
	r, k, _ := a.pages(b)
	r.users[k] = adopted
	mem.Give(1, abi.OwnInitrd, abi.OwnFiles)
	return ramfs.Page(r.frame(k))
}
