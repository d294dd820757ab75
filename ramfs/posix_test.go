package ramfs

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestLimit fills a file system to its limit: what does not fit is not there at all, and what is freed can be used again.
func TestLimit(t *testing.T) {
	const limit = 1 << 20
	f := New(Options{Limit: limit})
	n := create(t, f.Root(), "f", TypeReg|0o644)
	if k := must[int](t)(n.WriteAt(bytes.Repeat([]byte("a"), 600_000), 0)); k != 600_000 {
		t.Fatalf("wrote %d", k)
	}
	before := f.Stats()
	for _, off := range []uint64{0, 300_000, 599_999, 600_000, 1 << 40} {
		if k, err := n.WriteAt(bytes.Repeat([]byte("b"), 1_100_000), off); k != 0 || err != ENOSPC {
			t.Errorf("at %d: wrote %d, %v", off, k, err)
		}
		got := make([]byte, 700_000)
		if k := must[int](t)(n.ReadAt(got, 0)); k != 600_000 || bytes.Count(got[:k], []byte("a")) != k {
			t.Fatalf("a write at %d that did not fit left %d bytes", off, k)
		}
	}
	if s := f.Stats(); s != before {
		t.Errorf("holds %+v, before %+v", s, before)
	}
	ok(t, f.Root().Remove("f", false))
	for i := 0; ; i++ {
		_, err := f.Root().Create(fmt.Sprint(i), TypeReg, 0)
		if err == ENOSPC {
			if i < 1000 || f.Stats().UsedBytes > limit {
				t.Errorf("full with %d empty files, %d bytes", i, f.Stats().UsedBytes)
			}
			break
		}
		ok(t, err)
	}
	x := must[*Node](t)(f.Root().Lookup("0"))
	if err := x.SetXattr("user.a", make([]byte, 1000), 0); err != ENOSPC {
		t.Errorf("an attribute: %v", err)
	}
	if _, err := f.Root().Symlink("l", "target"); err != ENOSPC {
		t.Errorf("a link: %v", err)
	}
	ok(t, f.Root().Rename("1", f.Root(), "0", false)) // takes no room
}

// few gives a number of blocks.
type few int

func (f *few) Alloc() []byte {
	if *f == 0 {
		return nil
	}
	*f--
	return make([]byte, BlockSize)
}
func (f *few) Free([]byte) { *f++ }

// TestFull has memory end before the limit, in the middle of a write.
func TestFull(t *testing.T) {
	blocks := few(2)
	pool := NewPool(&blocks)
	f := New(Options{Memory: pool})
	n := create(t, f.Root(), "f", TypeReg|0o644)
	must[int](t)(n.WriteAt(make([]byte, 10), 0))
	if k, err := n.WriteAt(make([]byte, 3*BlockSize), 5); k != 0 || err != ENOSPC || n.Attr().Size != 10 {
		t.Errorf("wrote %d, %v, size %d", k, err, n.Attr().Size)
	}
	if s := pool.Stats(); s.UsedBytes != PageSize {
		t.Errorf("the pool holds %+v", s)
	}
	snap := f.Snapshot()
	must[int](t)(n.WriteAt(make([]byte, 2*BlockSize-2*PageSize), PageSize))
	if err := n.Truncate(5); err != ENOSPC || n.Attr().Size != 2*BlockSize-PageSize {
		t.Logf("truncate to a page that a snapshot keeps: %v", err)
	}
	ok(t, f.Root().Remove("f", false))
	snap.Release()
	if blocks != 2 {
		t.Errorf("%d of 2 blocks are back", blocks)
	}
}

func TestOpenAndUnlinked(t *testing.T) {
	pool := NewPool(nil)
	f := New(Options{Memory: pool})
	n := create(t, f.Root(), "f", TypeReg|0o644)
	n.Open()
	must[int](t)(n.WriteAt([]byte("text"), 0))
	ok(t, f.Root().Link("g", n))
	ok(t, f.Root().Remove("f", false))
	over := create(t, f.Root(), "h", TypeReg|0o644)
	ok(t, f.Root().Rename("h", f.Root(), "g", false))
	b := make([]byte, 10)
	if k := must[int](t)(n.ReadAt(b, 0)); string(b[:k]) != "text" || n.Attr().Nlink != 0 {
		t.Errorf("read %q, %d links", b[:k], n.Attr().Nlink)
	}
	if err := f.Root().Link("again", n); err != ENOENT {
		t.Errorf("link to what has no name: %v", err)
	}
	if got := must[*Node](t)(f.Root().Lookup("g")); got != over {
		t.Error("rename did not replace")
	}
	n.Close()
	if s := pool.Stats(); s.Blocks != 0 {
		t.Errorf("after the last close, the pool holds %+v", s)
	}
}

// TestReadDir removes, adds and renames entries while a directory is read (OSv's issue 68): each entry that is there all the
// time comes exactly once.
func TestReadDir(t *testing.T) {
	f := New(Options{})
	d := f.Root()
	const count = 1000
	for i := range count {
		create(t, d, fmt.Sprint("stays", i), TypeReg)
		create(t, d, fmt.Sprint("goes", i), TypeReg)
	}
	seen := map[string]int{}
	for pos, i := uint64(0), 0; ; i++ {
		name, _, next, more := d.ReadDir(pos)
		if !more {
			break
		}
		seen[name]++
		pos = next
		if i < count {
			ok(t, d.Remove(fmt.Sprint("goes", (i*7)%count), false))
			create(t, d, fmt.Sprint("new", i), TypeReg)
		}
	}
	for i := range count {
		if n := seen[fmt.Sprint("stays", i)]; n != 1 {
			t.Fatalf("stays%d was seen %d times", i, n)
		}
	}
	for name, n := range seen {
		if n > 1 {
			t.Errorf("%s was seen %d times", name, n)
		}
	}
}

func TestXattr(t *testing.T) {
	f := New(Options{})
	n := create(t, f.Root(), "f", TypeReg)
	used := f.Stats().UsedBytes
	ok(t, n.SetXattr("user.a", []byte("1"), XattrCreate))
	ok(t, n.SetXattr("user.b", nil, 0))
	snap := f.Snapshot()
	ok(t, n.SetXattr("user.a", []byte("2"), XattrReplace))
	if err := n.SetXattr("user.b", nil, XattrCreate); err != EEXIST {
		t.Errorf("create again: %v", err)
	}
	if got := n.Xattrs(); !slices.Equal(got, []string{"user.a", "user.b"}) || string(n.Xattr("user.a")) != "2" || n.Xattr("user.b") == nil {
		t.Errorf("%q, %q, %q", got, n.Xattr("user.a"), n.Xattr("user.b"))
	}
	ok(t, n.RemoveXattr("user.a"))
	ok(t, n.RemoveXattr("user.b"))
	old, _ := snap.Root().Lookup("f")
	if string(old.Xattr("user.a")) != "1" || len(old.Xattrs()) != 2 || len(n.Xattrs()) != 0 {
		t.Errorf("the snapshot has %q, the file %q", old.Xattrs(), n.Xattrs())
	}
	if got := f.Stats().UsedBytes; got != used {
		t.Errorf("%d bytes, want %d", got, used)
	}
}

func TestSparse(t *testing.T) {
	f := New(Options{})
	n := create(t, f.Root(), "f", TypeReg)
	ok(t, n.Truncate(FileMax))
	if a := n.Attr(); a.Size != FileMax || a.Blocks != 0 || f.Stats().DataBytes != 0 {
		t.Errorf("a hole: %+v", a)
	}
	const far = 1 << 61
	for _, off := range []uint64{far, 5 << 30, 100} {
		must[int](t)(n.WriteAt([]byte("x"), off))
	}
	if d := f.Stats().DataBytes; d != 3*PageSize {
		t.Errorf("three pages take %d bytes", d)
	}
	for _, c := range []struct {
		data      bool
		off, want uint64
	}{{true, 0, 0}, {false, 0, PageSize}, {true, PageSize, 5 << 30}, {false, 5<<30 + 7, 5<<30 + PageSize}, {true, 5<<30 + PageSize, far}, {false, far + PageSize, far + PageSize}} {
		if got, ok := n.next(c.off, c.data); !ok || got != c.want {
			t.Errorf("next(%d, %v) = %d, %v; want %d", c.off, c.data, got, ok, c.want)
		}
	}
	if got, ok := n.NextData(far + PageSize); ok {
		t.Errorf("data at %d", got)
	}
	ok(t, n.Truncate(50))
	if d := f.Stats().DataBytes; d != PageSize {
		t.Errorf("one page takes %d bytes", d)
	}
	ok(t, n.Truncate(PageSize))
	b := bytes.Repeat([]byte("?"), PageSize)
	if k := must[int](t)(n.ReadAt(b, 0)); k != PageSize || !bytes.Equal(b, make([]byte, PageSize)) {
		t.Error("what was cut off is still there")
	}
}

// TestBase reads, writes and cuts a file whose contents lie in memory of somebody else's.
func TestBase(t *testing.T) {
	f := New(Options{})
	base := bytes.Repeat([]byte("0123456789"), 1000)
	var back int
	set := func(name string) *Node {
		t.Helper()
		n := create(t, f.Root(), name, TypeReg)
		ok(t, n.SetBase(base, backing(func(b []byte) {
			if !bytes.Equal(b, base) {
				t.Error("other memory came back")
			}
			back++
		})))
		return n
	}
	read := func(v View, want []byte) {
		t.Helper()
		b := make([]byte, len(want)+1)
		if k := must[int](t)(v.ReadAt(b, 0)); !bytes.Equal(b[:k], want) {
			t.Errorf("read %d bytes, want %d, or others", k, len(want))
		}
	}
	n := set("f")
	read(n.View(), base)
	snap := f.Snapshot()
	must[int](t)(n.WriteAt([]byte("abc"), 5000))
	must[int](t)(n.WriteAt([]byte("end"), 12000))
	want := slices.Concat(base[:5000], []byte("abc"), base[5003:], make([]byte, 2000), []byte("end"))
	read(n.View(), want)
	ok(t, n.Truncate(3000))
	ok(t, n.Truncate(9000))
	read(n.View(), append(bytes.Clone(base[:3000]), make([]byte, 6000)...))
	old, _ := snap.Root().Lookup("f")
	read(old, base)
	ok(t, f.Root().Remove("f", false))
	if back != 0 {
		t.Error("the snapshot's memory was given back")
	}
	snap.Release()
	if back != 1 || f.Stats().DataBytes != 0 {
		t.Errorf("given back %d times, %d bytes left", back, f.Stats().DataBytes)
	}
	h := set("h")
	ok(t, h.Punch(100, 5000))
	read(h.View(), slices.Concat(base[:100], make([]byte, 5000), base[5100:]))
	ok(t, h.Punch(0, 20000))
	read(h.View(), make([]byte, len(base)))
	ok(t, f.Root().Remove("h", false))
	back--
	ok(t, set("g").Truncate(0))
	if back != 2 {
		t.Errorf("given back %d times", back)
	}
}

// backing is called with what comes back.
type backing func([]byte)

func (f backing) Release(b []byte) { f(b) }
func (backing) Adopt([]byte) Page  { return 0 }

// TestPool takes and frees pages at random: blocks that become all free are gone at once, but for one.
func TestPool(t *testing.T) {
	mem := &counting{}
	p := NewPool(mem)
	var pages []Page
	for range 10 * blockPages {
		pages = append(pages, p.Alloc(false))
	}
	if mem.out != 10 {
		t.Fatalf("%d blocks", mem.out)
	}
	for i, n := range pages[:9*blockPages] {
		p.Bytes(n)[0] = 1
		p.Free(n)
		if full := 10 - (i+1)/blockPages; mem.out > full+1 || mem.out < full {
			t.Fatalf("%d blocks with %d pages", mem.out, len(pages)-i-1)
		}
	}
	for i := range 8 * blockPages {
		n := p.Alloc(false)
		if p.Bytes(n)[0] != 0 {
			t.Fatal("a page is not zero")
		}
		pages[i] = n
	}
	seen := map[Page]bool{}
	for _, n := range append(pages[:8*blockPages:8*blockPages], pages[9*blockPages:]...) {
		if seen[n] {
			t.Fatal("a page was given twice")
		}
		seen[n] = true
		p.Free(n)
	}
	if mem.out != 0 || p.Stats() != (PoolStats{}) {
		t.Errorf("%d blocks are out, %+v", mem.out, p.Stats())
	}
}

// TestLean checks that the kernel can afford the package.
func TestLean(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if !strings.HasSuffix(dep, "/ramfs") {
			t.Errorf("imports %s", dep)
		}
	}
}
