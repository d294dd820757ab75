package linux

import (
	"fmt"
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

// sound reports what is wrong with the tree below a, whose areas it appends to l in order.
func (a *area) sound(l *[]*area) error {
	if a == nil {
		return nil
	}
	if err := a.left.sound(l); err != nil {
		return err
	}
	*l = append(*l, a)
	if err := a.right.sound(l); err != nil {
		return err
	}
	if d := int(height(a.left)) - int(height(a.right)); d < -1 || d > 1 {
		return fmt.Errorf("area %#x: its left tree has a height of %d, the right one of %d", a.start, height(a.left), height(a.right))
	}
	now := *a
	if now.rise(); now != *a {
		return fmt.Errorf("area %#x knows %+v, want %+v", a.start, *a, now)
	}
	return nil
}

// all returns the areas in order, when their tree is as it should be.
func (l *areas) all(t *testing.T) (all []*area) {
	t.Helper()
	if err := l.root.sound(&all); err != nil {
		t.Fatal(err)
	}
	if len(all) != l.n {
		t.Fatalf("%d areas, counted as %d", len(all), l.n)
	}
	return all
}

// The tree of areas does the same as a table with one entry a page.
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
		all := l.all(t)
		for i, a := range all {
			if a.start >= a.end || i > 0 && all[i-1].end > a.start {
				t.Fatalf("step %d: areas %d and %d out of order", step, i-1, i)
			}
			if i > 0 && all[i-1].joins(a) {
				t.Fatalf("step %d: areas %d and %d are one", step, i-1, i)
			}
			refs[a.file]++
		}
		low := rng.Uint64N(pages)
		high := low + 1 + rng.Uint64N(pages-low)
		size := 1 + rng.Uint64N(8)
		want := uint64(0)
		for at := low; at+size <= high; at++ {
			if l.free((at+16)*pageSize, (at+size+16)*pageSize) {
				want = (at + 16) * pageSize
			}
		}
		if got := l.place(size*pageSize, (low+16)*pageSize, (high+16)*pageSize); got != want {
			t.Fatalf("step %d: %d pages within [%d, %d) are placed at %#x, want %#x", step, size, low, high, got, want)
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

func TestPlace(t *testing.T) {
	var l areas
	for _, a := range []area{{start: 0x20000, end: 0x30000}, {start: 0x40000, end: 0x50000}, {start: 0x80000, end: 0x90000},
		{start: 0x500000, end: 0x510000}, {start: 0x700000, end: 0x710000, kind: areaGrows}, {start: 0x720000, end: 0x730000, kind: areaGrows}} {
		l.add(a)
	}
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
		// What grows needs room below it, unless something else is there.
		{0x1000, 0x10000, 0x700000, 0x5ff000},
		{0x1000, 0x10000, 0x680000, 0x5ff000},
		{0x1000, 0x10000, 0x720000, 0x5ff000},
		{0xf0000, 0x10000, 0x720000, 0x510000},
		{0xf1000, 0x10000, 0x720000, 0x40f000},
		{0x1000, 0x10000, 0x731000, 0x730000},
	} {
		if got := l.place(c.size, c.low, c.high); got != c.want {
			t.Errorf("%#x bytes in [%#x, %#x) are placed at %#x, want %#x", c.size, c.low, c.high, got, c.want)
		}
	}
	if got := new(areas).place(0x1000, 0x10000, 0x20000); got != 0x1f000 {
		t.Errorf("the first area is placed at %#x", got)
	}
}

// As many areas as there may be: no path from the root is longer than an AVL tree's, whatever the order in which they came and went.
func TestManyAreas(t *testing.T) {
	var l areas
	for i := range uint64(maxAreas) {
		n := i / 2
		if i%2 == 1 { // every second one from above
			n = maxAreas - 1 - n
		}
		va := userMin + n*pageSize
		l.add(area{start: va, end: va + pageSize, kind: uint32(n % 2)})
	}
	l.all(t)
	if l.n != maxAreas || l.root.height > 23 {
		t.Errorf("%d areas, in a tree %d high", l.n, l.root.height)
	}
	wide := userMin + (maxAreas+1)*uint64(pageSize)
	l.add(area{start: wide, end: wide + 4*pageSize, kind: areaGuard})
	for _, c := range []struct {
		first, end uint64 // pages of the last area
		bits       uint32
		may        bool
	}{{0, 4, 0, true}, {1, 4, 0, false}, {0, 3, 0, false}, {1, 3, 0, false}, {1, 3, areaGuard, true}} {
		if got := l.mayChange(wide+c.first*pageSize, wide+c.end*pageSize, areaGuard, c.bits); got != c.may {
			t.Errorf("bits %#x of the pages %d to %d of an area may be changed: %v", c.bits, c.first, c.end, got)
		}
	}
	l.remove(wide, wide+4*pageSize)
	l.remove(userMin, userMin+maxAreas/4*pageSize)
	l.change(userMin, userEnd, protMask, 0)
	if all := l.all(t); len(all) != 1 {
		t.Errorf("%d areas are left", len(all))
	}
	l.remove(userMin, userEnd)
	if l.n != 0 || l.root != nil || l.kept != maxSpare {
		t.Errorf("%d areas are left, and %d spare ones", l.n, l.kept)
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
