package zfsmod

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/fsmodtest"
	"github.com/firstlight-boot/firstlight/tree"
	"github.com/firstlight-boot/firstlight/zfsmod/format"
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
}

// relayed returns the pool b, written again. block may change a block's content, after the pointer to it; either may be nil.
func relayed(t testing.TB, b []byte, block func(bp *format.BP, content []byte), after func(bp *format.BP)) []byte {
	t.Helper()
	f := openBytes(t, b)
	r := relay{t: t, from: f.Pool, to: make([]byte, len(b)), block: block, after: after}
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
