package read

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/firstlight-boot/firstlight/zfsmod/format"
	"github.com/firstlight-boot/firstlight/zfsmod/nvlist"
)

// TestInlineXattrs reads extended attributes that are among a file's own, as OpenZFS keeps them with xattr=sa.
func TestInlineXattrs(t *testing.T) {
	packed := nvlist.Pack(nvlist.List{{Name: "user.note", Value: []byte("hello")}, {Name: "user.empty", Value: []byte{}}})
	f := FS{sa: true, layouts: map[int][]attr{3: {{"ZPL_MODE", 8}, {"ZPL_DXATTR", 0}, {"ZPL_SYMLINK", 0}}}}
	b := binary.LittleEndian.AppendUint32(nil, 0x2F505A)
	b = binary.LittleEndian.AppendUint16(b, 3|16/8<<10)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(packed)))
	b = append(binary.LittleEndian.AppendUint16(b, 4), make([]byte, 6)...)
	b = binary.LittleEndian.AppendUint64(b, 0o120777)
	b = append(b, packed...)
	b = append(b, make([]byte, -len(packed)&7)...)
	b = append(b, "link\x00\x00\x00\x00"...)
	var s Stat
	if err := f.attrs(&s, b); err != nil {
		t.Fatal(err)
	}
	if v, _ := s.InlineXattrs.Get("user.note").([]byte); string(v) != "hello" || len(s.InlineXattrs) != 2 || s.Mode != 0o120777 || s.Link != "link" {
		t.Errorf("%+v", s)
	}
	for n := range len(b) - 4 {
		if err := f.attrs(new(Stat), b[:n:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d of %d bytes: %v", n, len(b), err)
		}
	}
	b[4] = 4
	if err := f.attrs(&s, b); !errors.Is(err, ErrDamaged) {
		t.Errorf("a layout that there is not: %v", err)
	}
}

// TestLargeBlocks reads blocks up to the largest that ZFS has.
func TestLargeBlocks(t *testing.T) {
	text := bytes.Repeat([]byte("large blocks "), format.MaxBlock/13+1)[:format.MaxBlock]
	for _, codec := range []int{format.CompressOff, format.CompressLZ4, format.CompressGzip1} {
		for _, n := range []int{256 << 10, 1 << 20, format.MaxBlock} {
			stored := text[:n]
			if codec != format.CompressOff {
				var p format.Packer
				if stored = p.Pack(codec, make([]byte, n), stored); stored == nil {
					t.Fatalf("codec %d does not pack %d bytes", codec, n)
				}
			}
			dev := append(make([]byte, format.DataStart), stored...)
			var bp format.BP
			bp.Set(format.Props{Logical: n, Physical: len(stored), Compression: codec, Checksum: format.ChecksumFletcher4, Type: format.TypePlainFile,
				Birth: 1, Fill: 1, Sum: format.Fletcher4(stored)})
			bp.SetDVA(0, 0, int64(len(stored)))
			p := newPool([]Device{{bytes.NewReader(dev), int64(len(dev))}})
			got := make([]byte, n)
			if err := p.Read(&bp, got); err != nil || !bytes.Equal(got, text[:n]) {
				t.Errorf("codec %d, %d bytes: %v", codec, n, err)
			}
			if err := p.Read(&bp, make([]byte, n/2)); !errors.Is(err, ErrDamaged) {
				t.Errorf("read as a block of half the size: %v", err)
			}
			dev[format.DataStart+len(stored)/2] ^= 4
			if err := p.Read(&bp, got); !errors.Is(err, ErrDamaged) {
				t.Errorf("codec %d, %d bytes with one changed: %v", codec, n, err)
			}
		}
	}
	var d format.Dnode
	d.Init(format.TypePlainFile, format.MaxBlock, 17, format.TypeNone, nil)
	if err := (&Object{Dnode: d}).valid(); err != nil {
		t.Errorf("blocks of 16 MiB: %v", err)
	}
	d[8], d[9] = 0xff, 0xff
	if err := (&Object{Dnode: d}).valid(); !errors.Is(err, ErrDamaged) {
		t.Errorf("blocks of 32 MiB: %v", err)
	}
}
