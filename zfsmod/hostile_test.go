package zfsmod

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
	"github.com/firstlight-boot/firstlight/zfsmod/format"
	"github.com/firstlight-boot/firstlight/zfsmod/zap"
)

// memory is a file.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	if end := int(at) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[at:], p), nil
}

// hostile writes a pool around an object set that no ZFS would have written.
func hostile(t *testing.T, set func(w *writer) (format.BP, error)) []byte {
	t.Helper()
	var m memory
	w := &writer{ctx: t.Context(), w: &m, ashift: 9, txg: poolTxg, meta: format.CompressLZ4, copies: 1, slab: 26}
	bp, err := set(w)
	if err != nil {
		t.Fatal(err)
	}
	p := &pool{writer: w, name: "p", version: versionFeatures, lz4: true, path: "/dev/p", root: &dataset{name: "p", bp: bp, space: w.count},
		extra: func(int64) int64 { return 0 }}
	if _, err := p.write(); err != nil {
		t.Fatal(err)
	}
	return m.b
}

// TestNestedSets has datasets in the object sets of datasets, so deep that who follows them needs more stack than there is.
func TestNestedSets(t *testing.T) {
	b := hostile(t, func(w *writer) (bp format.BP, err error) {
		for range 20_000 {
			bonus := make([]byte, 320)
			copy(bonus[8*setBP:], bp[:])
			var d format.Dnode
			d.Init(format.TypeDSLDataset, 512, indirectShift, format.TypeDSLDataset, bonus)
			d.SetLevels(1)
			o := w.newObjset()
			if err := o.emit(1, &d); err != nil {
				return bp, err
			}
			if bp, err = o.finish(format.ObjsetZFS, 1, nil, nil); err != nil {
				return bp, err
			}
		}
		return bp, nil
	})
	defer debug.SetMaxStack(debug.SetMaxStack(8 << 20))
	if list, err := (Config{}).Module().Check(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || len(list) > 0 {
		t.Error(list, err)
	}
}

// TestHostileTables has names that are too long to be repeated by all below, and attributes without end in a folder of holes.
func TestHostileTables(t *testing.T) {
	for _, c := range []struct {
		name   string
		xattrs int
		want   error
	}{{strings.Repeat("n", 255), 3, nil}, {strings.Repeat("n", 256), 3, fsmod.ErrDamaged}, {"n", 5000, fsmod.ErrUnsupported}} {
		b := hostile(t, func(w *writer) (bp format.BP, err error) {
			o := w.newObjset()
			tables := map[uint64][]zap.Entry{
				1: {zap.Number("VERSION", 4), zap.Number("ROOT", 2)},
				2: {zap.Number(c.name, modeReg>>12<<60|3)},
			}
			for i := range c.xattrs {
				tables[4] = append(tables[4], zap.Number(fmt.Sprint("user.", i), 5))
			}
			if err := o.zap(1, format.TypeMasterNode, tables[1]); err != nil {
				return bp, err
			}
			for number := uint64(2); number <= 5; number++ {
				e := tree.Entry{Mode: fs.ModeDir | 0o755}
				tr := blockTree{w: w, typ: format.TypeDirectory}
				size := 512
				if list := tables[number]; list == nil {
					e.Mode, e.Size, tr.typ = 0o644, tree.MaxXattrValue, format.TypePlainFile
				} else if size, err = o.table(&tr, list); err != nil {
					return bp, err
				}
				z := newZnode(&e, w.txg, w.dev)
				if number == 3 {
					z.xattr = 4
				}
				if err := o.znode(number, &z, &tr, size); err != nil {
					return bp, err
				}
			}
			return o.finish(format.ObjsetZFS, 1, nil, nil)
		})
		f, err := Open(bytes.NewReader(b), int64(len(b)))
		if c.want == nil && err != nil || !errors.Is(err, c.want) {
			t.Errorf("a name of %d bytes, %d attributes: %v, want %v", len(c.name), c.xattrs, err, c.want)
		}
		if err == nil && len(f.Entries[1].Xattrs) != c.xattrs {
			t.Errorf("%d attributes, want %d", len(f.Entries[1].Xattrs), c.xattrs)
		}
	}
}

// TestLongProperties has properties that no table can hold.
func TestLongProperties(t *testing.T) {
	tr, err := tree.New(tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755})
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]string{"mountpoint": "/" + strings.Repeat("m", 20_000), strings.Repeat("u", 20_000) + ":": "v", "u:": strings.Repeat("v", 1024)} {
		c := Config{Datasets: []Dataset{{Name: "firstlight", Properties: map[string]string{name: v}}}}
		if _, err := c.Write(t.Context(), &memory{}, tr, fsmod.Options{}); !errors.Is(err, fsmod.ErrUnsupported) {
			t.Errorf("a name of %d bytes, a value of %d: %v, want %v", len(name), len(v), err, fsmod.ErrUnsupported)
		}
	}
	c := Config{Datasets: []Dataset{{Name: "firstlight", Properties: map[string]string{strings.Repeat("u", 254) + ":": strings.Repeat("v", 1023)}}}}
	if _, err := c.Write(t.Context(), &memory{}, tr, fsmod.Options{}); err != nil {
		t.Error(err)
	}
}
