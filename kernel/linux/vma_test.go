package linux

import (
	"math/rand/v2"
	"testing"

	"github.com/firstlight-boot/firstlight/kernel/vfs"
)

// A node that counts who holds it.
type held struct {
	vfs.Base
	n int
}

func (h *held) Attr(a *vfs.Attr) { a.Mode = vfs.TypeReg }
func (h *held) Retain()          { h.n++ }
func (h *held) Release()         { h.n-- }

// The list of areas does the same as a table with one entry a page.
func TestAreasAgainstModel(t *testing.T) {
	const pages = 64
	type page struct {
		mapped bool
		kind   uint32
		file   *vfs.File
		off    uint64
	}
	rng := rand.New(rand.NewPCG(1, 2))
	nodes := [2]held{}
	var files [2]*vfs.File
	for i := range files {
		files[i] = vfs.NewFile(&vfs.Loc{Node: &nodes[i]}, 0)
	}
	var l areas
	var model [pages]page
	for step := range 20000 {
		first := rng.Uint64N(pages)
		n := 1 + rng.Uint64N(pages-first)
		start, end := (first+16)*pageSize, (first+n+16)*pageSize
		switch rng.IntN(4) {
		case 0, 1:
			l.remove(start, end)
			a := area{start: start, end: end, kind: uint32(rng.IntN(4))}
			if i := rng.IntN(3); i < 2 {
				a.file, a.off = files[i], rng.Uint64N(4)*pageSize
				a.file.Retain()
			}
			l.add(a)
			for i := range n {
				model[first+i] = page{true, a.kind, a.file, a.off + i*pageSize}
				if a.file == nil {
					model[first+i].off = 0
				}
			}
		case 2:
			l.remove(start, end)
			clear(model[first : first+n])
		case 3:
			whole := true
			for _, p := range model[first : first+n] {
				whole = whole && p.mapped
			}
			if got := l.covered(start, end); got != whole {
				t.Fatalf("step %d: covered is %v, want %v", step, got, whole)
			}
			kind := uint32(rng.IntN(8))
			l.protect(start, end, kind)
			for i := range model[first : first+n] {
				if p := &model[first+uint64(i)]; p.mapped {
					p.kind = p.kind&^protMask | kind
				}
			}
		}
		refs := map[*vfs.File]int{}
		for i := range l {
			if l[i].start >= l[i].end || i > 0 && l[i-1].end > l[i].start {
				t.Fatalf("step %d: areas %d and %d out of order", step, i-1, i)
			}
			if i > 0 && l[i-1].joins(&l[i]) {
				t.Fatalf("step %d: areas %d and %d are one", step, i-1, i)
			}
			refs[l[i].file]++
		}
		for i := range model {
			va := uint64(i+16) * pageSize
			var got page
			if a := l.find(va); a != nil {
				got = page{true, a.kind, a.file, 0}
				if a.file != nil {
					got.off = a.page(va) * pageSize
				}
			}
			if got != model[i] {
				t.Fatalf("step %d: page %d is %+v, want %+v", step, i, got, model[i])
			}
			if free := l.free(va, va+pageSize); free == got.mapped {
				t.Fatalf("step %d: page %d: free is %v", step, i, free)
			}
		}
		for i := range files {
			f := *files[i] // a reference more than the areas': the test's own
			for range refs[files[i]] {
				f.Release()
			}
			if before := nodes[i].n; before != 1 {
				t.Fatalf("step %d: file %d has %d holders", step, i, before)
			}
			if f.Release(); nodes[i].n != 0 {
				t.Fatalf("step %d: file %d has the wrong number of references", step, i)
			}
			nodes[i].n = 1
		}
	}
}

func TestGap(t *testing.T) {
	l := areas{{start: 0x20000, end: 0x30000}, {start: 0x40000, end: 0x50000}, {start: 0x80000, end: 0x90000}}
	for _, c := range []struct{ size, low, high, want uint64 }{
		{0x1000, 0x10000, 0x90000, 0x7f000},
		{0x30000, 0x10000, 0x90000, 0x50000},
		{0x10000, 0x10000, 0x90000, 0x70000},
		{0x10000, 0x10000, 0xa0000, 0x90000},
		{0x10000, 0x10000, 0x50000, 0x30000},
		{0x10000, 0x10000, 0x45000, 0x30000},
		{0x31000, 0x10000, 0x90000, 0},
		{0x11000, 0x10000, 0x50000, 0},
		{0x10000, 0x10000, 0x30000, 0x10000},
		{0x11000, 0x10000, 0x20000, 0},
	} {
		if got := l.gap(c.size, c.low, c.high); got != c.want {
			t.Errorf("gap of %#x in [%#x, %#x) is at %#x, want %#x", c.size, c.low, c.high, got, c.want)
		}
	}
	if got := (areas)(nil).gap(0x1000, 0x10000, 0x20000); got != 0x1f000 {
		t.Errorf("gap in nothing is at %#x", got)
	}
}

func TestPageRange(t *testing.T) {
	for _, c := range []struct {
		addr, size, end uint64
		err             vfs.Errno
	}{
		{0x1000, 1, 0x2000, 0},
		{0x1000, 0x1000, 0x2000, 0},
		{0x1000, 0, 0x1000, 0},
		{0x1001, 1, 0, vfs.EINVAL},
		{0x1000, ^uint64(0), 0, vfs.ENOMEM},
		{0x1000, ^uint64(0) - 0x2000, 0, vfs.ENOMEM},
		{userEnd - 0x1000, 0x1000, userEnd, 0},
		{userEnd - 0x1000, 0x1001, 0, vfs.ENOMEM},
		{0xffff800000000000, 0x1000, 0, vfs.ENOMEM},
	} {
		if end, err := pageRange(c.addr, c.size); end != c.end || err != c.err {
			t.Errorf("pageRange(%#x, %#x) = %#x, %d; want %#x, %d", c.addr, c.size, end, err, c.end, c.err)
		}
	}
}
