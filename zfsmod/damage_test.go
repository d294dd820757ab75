package zfsmod

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/tree"
	"github.com/firstlight-boot/firstlight/zfsmod/format"
	"github.com/firstlight-boot/firstlight/zfsmod/nvlist"
	"github.com/firstlight-boot/firstlight/zfsmod/read"
)

// fusePool is testdata's pool, which zfs-fuse made.
var fusePool = sync.OnceValues(func() ([]byte, error) {
	b, err := os.ReadFile("testdata/fuse.img.zst")
	if err != nil {
		return nil, err
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.DecodeAll(b, nil)
})

func openBytes(t testing.TB, b []byte) *FileSystem {
	t.Helper()
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	do(t, err)
	return f
}

// do fails the test for the first of the errors.
func do(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestFusePool reads testdata's pool by what its README says.
func TestFusePool(t *testing.T) {
	b, err := fusePool()
	do(t, err)
	f := openBytes(t, b)
	var numbers strings.Builder
	for i := range 3000 {
		fmt.Fprintln(&numbers, i+1)
	}
	for _, c := range []string{"off", "lzjb", "gzip", "zle", "clone"} {
		for name, want := range map[string]string{"dir/numbers": numbers.String(), "text": "some text in " + strings.Replace(c, "clone", "lzjb", 1),
			"holes": string(make([]byte, 1<<20)) + "end"} {
			e := f.Lookup(c + "/" + name)
			if c == "lzjb" && name == "text" {
				if e != nil {
					t.Error("lzjb/text was removed")
				}
			} else if e == nil || fsmodtest.Content(t, e) != want {
				t.Errorf("%s/%s reads as something else", c, name)
			}
		}
		if e := f.Lookup(c + "/link"); e == nil || e.Link != "dir/numbers" {
			t.Errorf("%s/link: %+v", c, e)
		}
	}
	if x := f.Lookup("clone/text").Xattrs; len(x) != 1 || x[0].Name != "user.note" || string(x[0].Value) != "hello" {
		t.Errorf("extended attributes %q", x)
	}
	list, err := f.Pool.Datasets()
	do(t, err)
	var names []string
	for _, d := range list {
		names = append(names, d.Name)
	}
	if got := strings.Join(names, " "); got != "small small/clone small/gzip small/lzjb small/lzjb@then small/off small/zle" {
		t.Error(got)
	}
}

// A relay writes the blocks of a pool again, uncompressed and at other places, and lets a test change them and what points to them
// on the way: so pools are made that nothing here can make, and whose checksums are right.
type relay struct {
	t     testing.TB
	from  *read.Pool
	to    []byte // the new pool
	next  int64  // place of the next block, in bytes from DataStart
	block func(bp *format.BP, content []byte)
	after func(bp *format.BP)
	twice bool // each block has a second copy, behind the first
}

// relayed returns the pool b, written again. block may change a block's content, after the pointer to it; either may be nil.
func relayed(t testing.TB, b []byte, block func(bp *format.BP, content []byte), after func(bp *format.BP)) []byte {
	t.Helper()
	f := openBytes(t, b)
	r := relay{t: t, from: f.Pool, to: make([]byte, len(b)), block: block, after: after}
	return r.write(b)
}

// write writes the pool b again.
func (r *relay) write(b []byte) []byte {
	copy(r.to, b[:format.DataStart])
	copy(r.to[len(b)-format.DataEnd:], b[len(b)-format.DataEnd:])
	for _, label := range []int64{0, format.LabelSize, int64(len(b)) - format.DataEnd, int64(len(b)) - format.LabelSize} {
		ring := r.to[label+format.RingOffset:][:format.RingSize]
		for at := 0; at < len(ring); at += format.UberblockSize(9) {
			u := ring[at:][:format.UberblockSize(9)]
			if binary.LittleEndian.Uint64(u) != format.UberMagic {
				continue
			}
			if binary.LittleEndian.Uint64(u[format.UberTxg:]) != r.from.Txg {
				clear(u)
				continue
			}
			bp := (*format.BP)(u[format.UberRootBP:])
			if label == 0 {
				r.pointer(bp)
			} else {
				*bp = format.BP(r.to[format.RingOffset+at+format.UberRootBP:][:format.BPSize])
			}
			format.Seal(u, label+format.RingOffset+int64(at))
		}
	}
	return r.to
}

// pointer writes the block that bp points to, after all below it, and changes bp.
func (r *relay) pointer(bp *format.BP) {
	if bp.IsHole() || bp.Embedded() {
		return
	}
	b := make([]byte, bp.LogicalSize())
	do(r.t, r.from.Read(bp, b))
	switch {
	case bp.Level() > 0:
		for at := 0; at < len(b); at += format.BPSize {
			r.pointer((*format.BP)(b[at:]))
		}
	case bp.Type() == format.TypeObjset:
		for _, at := range []int{0, format.ObjsetUserUsed, format.ObjsetGroupUsed} {
			if at+format.DnodeSize <= len(b) {
				r.dnode((*format.Dnode)(b[at:]))
			}
		}
	case bp.Type() == format.TypeDnode:
		for at := 0; at < len(b); at += format.DnodeSize {
			r.dnode((*format.Dnode)(b[at:]))
		}
	}
	old := *bp
	if r.block != nil {
		r.block(bp, b)
	}
	if r.next+int64(len(b)) > int64(len(r.to))-format.DataStart-format.DataEnd {
		r.t.Fatal("the pool is too small to be written again")
	}
	copy(r.to[format.DataStart+r.next:], b)
	sum := bp.Checksum()
	s, ok := format.Checksum(sum, b)
	if !ok {
		r.t.Fatalf("checksum %d", sum)
	}
	*bp = format.BP{}
	bp.Set(format.Props{Logical: len(b), Physical: len(b), Compression: format.CompressOff, Checksum: sum, Type: old.Type(), Level: old.Level(),
		Birth: old.Birth(), Fill: old.Fill(), Sum: s})
	bp.SetDVA(0, r.next, int64(len(b)))
	r.next += int64(len(b))
	if r.twice {
		copy(r.to[format.DataStart+r.next:], b)
		bp.SetDVA(1, r.next, int64(len(b)))
		r.next += int64(len(b))
	}
	if r.after != nil {
		r.after(bp)
	}
}

func (r *relay) dnode(d *format.Dnode) {
	if d.Type() == format.TypeNone {
		return
	}
	for i := range d.Pointers() {
		r.pointer(d.Pointer(i))
	}
	if d.BonusType() == format.TypeDSLDataset {
		r.pointer((*format.BP)(d.Bonus()[128:]))
	}
	if d.Flags()&format.DnodeSpill != 0 {
		r.pointer((*format.BP)(d[format.DnodeSize-format.BPSize:]))
	}
}

// setBits changes word 6 of a block pointer, its properties.
func setBits(bp *format.BP, clear, set uint64) {
	w := binary.LittleEndian.Uint64(bp[48:])
	binary.LittleEndian.PutUint64(bp[48:], w&^clear|set)
}

// TestRefused has what is not read refused by name, wherever pointers say it.
func TestRefused(t *testing.T) {
	b, err := fusePool()
	do(t, err)
	fsmodtest.Compare(t, openBytes(t, relayed(t, b, nil, nil)).Tree, openBytes(t, b).Tree, nil)
	for says, change := range map[string]func(bp *format.BP){
		"encrypted":                  func(bp *format.BP) { setBits(bp, 0, 1<<61) },
		"big-endian":                 func(bp *format.BP) { setBits(bp, 1<<63, 0) },
		"gang":                       func(bp *format.BP) { bp[15] |= 0x80 },
		"checksum 11":                func(bp *format.BP) { setBits(bp, 0xff<<40, 11<<40) },
		"compression 16":             func(bp *format.BP) { setBits(bp, 0x7f<<32, format.CompressZstd<<32) },
		"block pointer of type":      func(bp *format.BP) { setBits(bp, 0xff<<40, 1<<39|2<<40) },
		"a block pointer without an": func(bp *format.BP) { clear(bp[:48]); bp[8] = 1 },
	} {
		// Of data alone, and of everything.
		for _, typ := range []int{format.TypePlainFile, 0} {
			bad := relayed(t, b, nil, func(bp *format.BP) {
				if typ == 0 || bp.Type() == typ && bp.Level() == 0 {
					change(bp)
				}
			})
			f, err := Open(bytes.NewReader(bad), int64(len(bad)))
			if err == nil && typ != 0 {
				_, err = readAll(f.Lookup("gzip/dir/numbers"), 1<<20)
			}
			want := fsmod.ErrUnsupported
			if strings.HasPrefix(says, "a block") {
				want = fsmod.ErrDamaged
			}
			if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
				t.Errorf("%s, type %d: %v", says, typ, err)
			}
		}
	}
}

// TestCopies damages copies of blocks: one that is good is enough, and without any there is an error.
func TestCopies(t *testing.T) {
	b, err := fusePool()
	do(t, err)
	want := openBytes(t, b)
	var blocks []format.BP
	r := relay{t: t, from: want.Pool, to: make([]byte, len(b)), twice: true, after: func(bp *format.BP) { blocks = append(blocks, *bp) }}
	c := changed{r.write(b), map[int64]byte{}, int64(len(b))}
	for i := range 2 {
		clear(c.at)
		for _, bp := range blocks {
			c.at[bp.DVA(i).Offset+format.DataStart+int64(bp.LogicalSize()/2)] = 1
		}
		f, err := Open(c, c.size)
		do(t, err)
		fsmodtest.Compare(t, f.Tree, want.Tree, nil)
		list, err := Config{}.Module().Check(t.Context(), c, c.size)
		if err != nil || len(list) < len(blocks)/2 || len(list) > len(blocks) { // snapshot and clone have blocks twice here
			t.Errorf("Check finds %d of %d bad copies, %v", len(list), len(blocks), err)
		}
	}
	clear(c.at)
	f, err := Open(c, c.size)
	do(t, err)
	content := map[string]string{}
	for _, e := range want.Entries {
		content[e.Path] = fsmodtest.Content(t, &e)
	}
	for _, bp := range blocks {
		if bp.Type() != format.TypePlainFile || bp.Level() > 0 {
			continue
		}
		clear(c.at)
		for i := range 2 {
			c.at[bp.DVA(i).Offset+format.DataStart+int64(bp.LogicalSize()-1)] = 0x80
		}
		bad := 0
		for _, e := range f.Entries {
			got, err := readAll(&e, 4<<20)
			if err == nil && got != content[e.Path] {
				t.Errorf("%s reads as something else", e.Path)
			} else if errors.Is(err, fsmod.ErrDamaged) {
				bad++
			} else if err != nil {
				t.Error(err)
			}
		}
		if bad > 1 {
			t.Errorf("%d files cannot be read when one block is damaged", bad)
		}
	}
}

// TestEmbedded has a small file's content in the pointer to it.
func TestEmbedded(t *testing.T) {
	b, err := fusePool()
	do(t, err)
	var content []byte
	n := 0
	b2 := relayed(t, b, func(_ *format.BP, c []byte) { content = c }, func(bp *format.BP) {
		text := bytes.TrimRight(content, "\x00")
		if bp.Type() != format.TypePlainFile || bp.Level() > 0 || len(content) != 512 || len(text) == 0 || len(text) > 40 || bytes.IndexByte(text, 0) >= 0 {
			return
		}
		// By ZLE, whose codes are of up to 64 bytes and of up to 192 zeros.
		packed := append([]byte{byte(len(text) - 1)}, text...)
		for zeros := len(content) - len(text); zeros > 0; zeros -= 192 {
			packed = append(packed, byte(min(zeros, 192)+63))
		}
		payload := make([]byte, 112)
		copy(payload, packed)
		*bp = format.BP{}
		copy(bp[:48], payload)
		copy(bp[56:80], payload[48:])
		copy(bp[88:], payload[72:])
		setBits(bp, 0, uint64(len(content)-1)|uint64(len(packed)-1)<<25|format.CompressZLE<<32|1<<39|format.TypePlainFile<<48|1<<63)
		n++
	})
	if n < 50 {
		t.Fatalf("%d embedded blocks", n)
	}
	fsmodtest.Compare(t, openBytes(t, b2).Tree, openBytes(t, b).Tree, nil)
	if list, err := (Config{}).Module().Check(t.Context(), bytes.NewReader(b2), int64(len(b2))); err != nil || len(list) > 0 {
		t.Error(list, err)
	}
}

// TestByteOrder has labels of a machine of the other byte order.
func TestByteOrder(t *testing.T) {
	b, err := fusePool()
	do(t, err)
	b = bytes.Clone(b)
	for _, label := range []int{0, format.LabelSize, len(b) - format.DataEnd, len(b) - format.LabelSize} {
		end := label + format.ConfigOffset + format.ConfigSize - format.EmbeddedSize
		binary.BigEndian.PutUint64(b[end:], format.EmbeddedMagic)
	}
	if _, err := Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), "big-endian") {
		t.Error(err)
	}
}

func readAll(e *tree.Entry, most int64) (string, error) {
	if e == nil || e.Source == nil {
		return "", nil
	}
	r, err := e.Source()
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, most))
	return string(b), err
}

// changed is a pool with some bytes changed.
type changed struct {
	b    []byte
	at   map[int64]byte
	size int64
}

func (c changed) ReadAt(p []byte, off int64) (int, error) {
	n, err := bytes.NewReader(c.b).ReadAt(p, off)
	for at, x := range c.at {
		if at >= off && at < off+int64(n) {
			p[at-off] ^= x
		}
	}
	return n, err
}

// loose returns a pool whose blocks are not compressed and have no checksums, so that what is changed in it is read.
func loose(t testing.TB, b []byte) []byte {
	return relayed(t, b, nil, func(bp *format.BP) { setBits(bp, 0xff<<40, format.ChecksumOff<<40) })
}

// use returns where the bytes of a pool are that are not 0.
func use(b []byte) (sectors []int64) {
	for at := 0; at < len(b); at += 512 {
		if !allZero(b[at:min(at+512, len(b))]) {
			sectors = append(sectors, int64(at))
		}
	}
	return sectors
}

// FuzzOpen changes bytes of pools: what has checksums reads as it was or not at all; what has none is read as far as it makes sense,
// in bounded memory.
func FuzzOpen(f *testing.F) {
	theirs, err := fusePool()
	do(f, err)
	tr := fsmodtest.Awkward(f, fsmodtest.All)
	var m, gz fsmodtest.Memory
	_, err = Config{}.Write(f.Context(), &m, tr, fsmod.Options{Codec: "lz4"})
	do(f, err)
	_, err = Config{Compat: "legacy-23"}.Write(f.Context(), &gz, tr, fsmod.Options{Codec: "gzip"})
	do(f, err)
	pools := [][]byte{m.B, gz.B, theirs, loose(f, m.B), loose(f, gz.B), loose(f, theirs)}
	var sectors [][]int64
	want := make([]map[string]string, len(pools))
	for i, b := range pools {
		sectors = append(sectors, use(b))
		want[i] = map[string]string{}
		for _, e := range openBytes(f, b).Entries {
			if want[i][e.Path], err = readAll(&e, 1<<20); err != nil {
				f.Fatal(err)
			}
		}
	}
	for i := range pools {
		f.Add(byte(i), []byte{})
		// A byte of each sixteenth of what is used.
		for k := range uint32(16) {
			at := uint32(len(sectors[i])*512/16)*k + 77
			f.Add(byte(i), binary.LittleEndian.AppendUint32([]byte{1 << (k % 8)}, at))
		}
	}
	f.Fuzz(func(t *testing.T, pool byte, changes []byte) {
		i := int(pool) % len(pools)
		c := changed{pools[i], map[int64]byte{}, int64(len(pools[i]))}
		for ; len(changes) >= 5 && len(c.at) < 64; changes = changes[5:] {
			n := uint64(binary.LittleEndian.Uint32(changes[1:])) % uint64(512*len(sectors[i]))
			c.at[sectors[i][n/512]+int64(n%512)] = changes[0]
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		fsys, err := Open(c, c.size)
		if err == nil {
			for k := range fsys.Entries {
				e := &fsys.Entries[k]
				got, err := readAll(e, 1<<20)
				if w, ok := want[i][e.Path]; i < 3 && (err == nil && w != got || !ok) {
					t.Errorf("%q reads as something else", e.Path)
				} else if err != nil && !errors.Is(err, fsmod.ErrDamaged) && !errors.Is(err, fsmod.ErrUnsupported) {
					t.Errorf("%q: %v", e.Path, err)
				}
			}
			if i < 3 && len(fsys.Entries) != len(want[i]) {
				t.Errorf("%d entries, not %d", len(fsys.Entries), len(want[i]))
			}
		} else if !errors.Is(err, fsmod.ErrDamaged) && !errors.Is(err, fsmod.ErrUnsupported) {
			t.Error(err)
		}
		if _, err := (Config{}).Module().Check(t.Context(), c, c.size); err != nil {
			t.Error(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<30 {
			t.Errorf("%d MiB allocated", n>>20)
		}
	})
}

// TestConfig has labels that say of the pool what is not read.
func TestConfig(t *testing.T) {
	b, err := fusePool()
	do(t, err)
	set := func(l nvlist.List, name string, v any) nvlist.List {
		l = slices.DeleteFunc(slices.Clone(l), func(p nvlist.Pair) bool { return p.Name == name })
		return append(l, nvlist.Pair{Name: name, Value: v})
	}
	for says, change := range map[string]func(l nvlist.List) nvlist.List{
		`"raidz"`: func(l nvlist.List) nvlist.List { return set(l, "vdev_tree", set(l.List("vdev_tree"), "type", "raidz")) },
		"2 vdevs": func(l nvlist.List) nvlist.List { return set(l, "vdev_children", uint64(2)) },
		"org.example:never_heard": func(l nvlist.List) nvlist.List {
			return set(l, "features_for_read", nvlist.List{{Name: "org.example:never_heard"}})
		},
		"": func(l nvlist.List) nvlist.List { return l },
	} {
		b := bytes.Clone(b)
		for _, label := range []int{0, format.LabelSize, len(b) - format.DataEnd, len(b) - format.LabelSize} {
			part := b[label+format.ConfigOffset:][:format.ConfigSize]
			l, err := nvlist.Unpack(part)
			do(t, err)
			clear(part)
			copy(part, nvlist.Pack(change(l)))
			format.Seal(part, int64(label+format.ConfigOffset))
		}
		_, err := Open(bytes.NewReader(b), int64(len(b)))
		if says == "" {
			do(t, err)
		} else if !errors.Is(err, fsmod.ErrUnsupported) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
