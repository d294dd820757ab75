package guestmem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ram is physical memory, touched from start to its end.
type ram struct {
	b     []byte
	start int64
	step  int64 // of the ranges; 0: one range
}

func (r ram) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(r.b)) {
		return 0, io.EOF
	}
	n := copy(p, r.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r ram) Touched(f func(addr, size int64)) error {
	step := r.step
	if step == 0 {
		step = int64(len(r.b))
	}
	for at := r.start; at < int64(len(r.b)); at += step {
		f(at, min(step, int64(len(r.b))-at))
	}
	return nil
}

func read(t testing.TB, src Source) *Memory {
	t.Helper()
	m, err := Read(src)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAlike(t *testing.T) {
	r := ram{b: make([]byte, 600*PageSize), step: 3 * PageSize} // more than a chunk
	for i := range 10 {
		r.b[(20+i)*PageSize+5] = 1
	}
	r.b[300*PageSize] = 7
	r.b[599*PageSize] = 7
	for _, step := range []int64{0, 3 * PageSize} {
		r.step = step
		m := read(t, r)
		zero, duplicate := m.Alike()
		if len(m.Pages) != 600 || zero != 588*PageSize || duplicate != 10*PageSize {
			t.Errorf("%d pages, %d bytes of zeros, %d duplicate", len(m.Pages), zero, duplicate)
		}
	}
	if i := read(t, r).From(3*PageSize + 1); i != 4 {
		t.Errorf("From: %d", i)
	}
	if m := read(t, ram{}); len(m.Pages) != 0 {
		t.Errorf("%d pages of no memory", len(m.Pages))
	}
}

type badRAM struct{ ram }

func (badRAM) Touched(f func(addr, size int64)) error { f(0, 1<<40); return nil }

// endless is 1 TiB of zeros.
type endless struct{}

func (endless) ReadAt(p []byte, off int64) (int, error) { return len(p), nil }
func (endless) Touched(f func(addr, size int64)) error  { f(0, 1<<40); return nil }

func TestBadRAM(t *testing.T) {
	if _, err := Read(badRAM{ram{b: make([]byte, 1<<20)}}); !errors.Is(err, io.EOF) {
		t.Errorf("a touched range that is not there: %v", err)
	}
	if _, err := Read(endless{}); !errors.Is(err, ErrMemory) {
		t.Errorf("endless memory: %v", err)
	}
	if _, err := Read(ram{b: make([]byte, 2*PageSize), start: 1}); !errors.Is(err, ErrMemory) {
		t.Errorf("half a page: %v", err)
	}
}

// set writes entry index of the table at page.
func (r ram) set(page, index int, entry uint64) {
	binary.LittleEndian.PutUint64(r.b[page*PageSize+index*8:], entry)
}

// mapped is memory with page tables: root 1, which maps
//
//	0xffffffff80200000  2 MiB at 0x200000, executable
//	0x400000            page 10, for programs to execute
//	0x401000            page 11, for programs to write
//	0x402000            page 12, for the kernel, in a table that is for programs
func mapped() ram {
	r := ram{b: make([]byte, 16*PageSize)}
	at := func(page uint64) uint64 { return page * PageSize }
	r.set(1, 511, at(2)|present|writable)
	r.set(2, 510, at(3)|present|writable)
	r.set(3, 1, 0x200000|present|large)
	r.set(1, 0, at(4)|present|writable|user)
	r.set(4, 0, at(5)|present|writable|user)
	r.set(5, 2, at(6)|present|writable|user)
	r.set(6, 0, at(10)|present|user)
	r.set(6, 1, at(11)|present|writable|user|noExec)
	r.set(6, 2, at(12)|present|noExec)
	r.set(13, 511, 0xdeadbeef000|present) // no table
	r.set(14, 511, at(14)|present)        // a table that is its own
	return r
}

const kernelVirt = 0xffffffff80200000

func roots(tb *Tables) []Root {
	return tb.Roots(kernelVirt, func(t *Tables, r Root) bool {
		phys, ok := t.Translate(r, kernelVirt)
		return ok && phys == 0x200000
	})
}

func TestTables(t *testing.T) {
	tb := read(t, mapped()).Tables()
	rs := roots(tb)
	if diff := cmp.Diff([]Root{{PageSize, 4}}, rs); diff != "" {
		t.Fatalf("roots (-want +got):\n%s", diff)
	}
	for virt, want := range map[uint64]uint64{kernelVirt + 0x1234: 0x201234, 0x401008: 11*PageSize + 8, 0x403000: 0, 0xffffffff80000000: 0} {
		if got, ok := tb.Translate(rs[0], virt); got != want || ok != (want != 0) {
			t.Errorf("%#x is %#x, %t", virt, got, ok)
		}
	}
	var tables []uint64
	leaves := map[uint64]Leaf{}
	if err := tb.Walk(rs, func(addr uint64) { tables = append(tables, addr/PageSize) }, func(l Leaf) { leaves[l.Virt] = l }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{1, 4, 5, 6, 2, 3}, tables); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	want := map[uint64]Leaf{
		0x400000:   {Virt: 0x400000, Phys: 10 * PageSize, Size: PageSize, User: true, Exec: true},
		0x401000:   {Virt: 0x401000, Phys: 11 * PageSize, Size: PageSize, User: true, Write: true},
		0x402000:   {Virt: 0x402000, Phys: 12 * PageSize, Size: PageSize},
		kernelVirt: {Virt: kernelVirt, Phys: 0x200000, Size: 2 << 20, Exec: true},
	}
	if diff := cmp.Diff(want, leaves); diff != "" {
		t.Errorf("leaves (-want +got):\n%s", diff)
	}
}

// TestFiveLevels has the same tables one level deeper, for the kernel, and a lower half of their own.
func TestFiveLevels(t *testing.T) {
	r := mapped()
	r.set(1, 0, 0)
	r.set(9, 511, 1*PageSize|present|writable)
	r.set(9, 0, 15*PageSize|present|writable|user)
	r.set(15, 0, 4*PageSize|present|writable|user)
	tb := read(t, r).Tables()
	rs := roots(tb)
	if diff := cmp.Diff([]Root{{9 * PageSize, 5}}, rs); diff != "" {
		t.Fatalf("roots (-want +got):\n%s", diff)
	}
	var virts []uint64
	if err := tb.Walk(rs, func(uint64) {}, func(l Leaf) { virts = append(virts, l.Virt) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{0x400000, 0x401000, 0x402000, kernelVirt}, virts); diff != "" {
		t.Errorf("mapped (-want +got):\n%s", diff)
	}
	for _, virt := range virts {
		if _, ok := tb.Translate(rs[0], virt); !ok {
			t.Errorf("%#x is not translated", virt)
		}
	}
}

// TestHostileTables is a guest all of whose pages are tables that map everything.
func TestHostileTables(t *testing.T) {
	r := ram{b: make([]byte, 2048*PageSize)}
	for page := range 2048 {
		for i := range entries {
			e := uint64((page*31+i)%2048)*PageSize | present | user
			if i%2 == 1 {
				e = present | user | large
			}
			r.set(page, i, e)
		}
	}
	tb := read(t, r).Tables()
	var rs []Root
	for page := range uint64(2048) {
		rs = append(rs, Root{page * PageSize, 5})
	}
	if err := tb.Walk(rs, func(uint64) {}, func(Leaf) {}); !errors.Is(err, ErrMemory) {
		t.Errorf("got %v", err)
	}
}

// FuzzTables walks tables of any entries: ten bytes each, page, index and entry.
func FuzzTables(f *testing.F) {
	var seed []byte
	m := mapped()
	for at := 0; at < len(m.b); at += 8 {
		if e := binary.LittleEndian.Uint64(m.b[at:]); e != 0 {
			seed = append(seed, byte(at/PageSize<<1|at>>11&1), byte(at>>3))
			seed = binary.LittleEndian.AppendUint64(seed, e)
		}
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := ram{b: make([]byte, 16*PageSize)}
		whole := bytes.Equal(b, seed)
		for ; len(b) >= 10; b = b[10:] {
			r.set(int(b[0]>>1%16), int(b[0]&1)<<8|int(b[1]), binary.LittleEndian.Uint64(b[2:]))
		}
		m := read(t, r)
		if zero, duplicate := m.Alike(); zero+duplicate > 16*PageSize {
			t.Fatalf("%d of zeros and %d duplicate", zero, duplicate)
		}
		tb := m.Tables()
		rs := roots(tb)
		if whole && len(rs) != 1 {
			t.Fatal("the seed's tables are not found")
		}
		if err := tb.Walk(rs, func(uint64) {}, func(l Leaf) {
			if l.Virt%l.Size != 0 || l.Phys%l.Size != 0 {
				t.Fatalf("%+v", l)
			}
		}); err != nil && !errors.Is(err, ErrMemory) {
			t.Fatal(err)
		}
	})
}
