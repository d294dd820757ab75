package format

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
)

func TestChecksum(t *testing.T) {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]byte, 20000)
	for i := range all {
		all[i] = byte(r.Uint32())
	}
	if got := Checksum([]byte("123456789")); got != 0xe3069283 { // RFC 3720, appendix B.4, has this polynomial
		t.Errorf("Checksum(123456789) = %#x, want 0xe3069283", got)
	}
	for n := range 700 {
		at := r.IntN(100)
		for _, p := range [][]byte{all[at : at+n], all[at : at+r.IntN(19000)]} {
			want := crc32.Checksum(p, castagnoli)
			if got := Checksum(p); got != want {
				t.Fatalf("Checksum of %d bytes = %#x, want %#x", len(p), got, want)
			}
			if got := ^updateGeneric(^uint32(0), p); got != want {
				t.Fatalf("updateGeneric of %d bytes = %#x, want %#x", len(p), got, want)
			}
		}
	}
}

func BenchmarkChecksum(b *testing.B) {
	p := make([]byte, 4096)
	b.Run("update", func(b *testing.B) {
		b.SetBytes(4096)
		for b.Loop() {
			Checksum(p)
		}
	})
	b.Run("generic", func(b *testing.B) {
		b.SetBytes(4096)
		for b.Loop() {
			updateGeneric(0, p)
		}
	})
}

// TestLayout checks where each setter writes, and that getters read that back.
func TestLayout(t *testing.T) {
	type field struct {
		off, size int
		set       func()
		get       func() uint64
	}
	fields := func(t *testing.T, record []byte, list []field, rest int) {
		t.Helper()
		end := 0
		for i, f := range list {
			clear(record)
			f.set()
			for k, b := range record {
				if inside := k >= f.off && k < f.off+f.size; inside != (b == 0xff) {
					t.Errorf("field %d: byte %d is %#x", i, k, b)
				}
			}
			if want := ^uint64(0) >> (64 - 8*f.size); f.get() != want {
				t.Errorf("field %d: got %#x, want %#x", i, f.get(), want)
			}
			if f.off < end {
				t.Errorf("field %d overlaps the one before", i)
			}
			end = f.off + f.size
		}
		if end+rest != len(record) {
			t.Errorf("fields end at %d, with %d reserved bytes; the record has %d", end, rest, len(record))
		}
	}
	const m16, m32, m64 = 1<<16 - 1, 1<<32 - 1, 1<<64 - 1
	var s Superblock
	list := []field{
		{8, 2, func() { s.SetVersion(m16) }, func() uint64 { return uint64(s.Version()) }},
		{10, 2, func() { s.SetMinor(m16) }, func() uint64 { return uint64(s.Minor()) }},
		{12, 2, func() { s.SetSize(m16) }, func() uint64 { return uint64(s.Size()) }},
		{14, 1, func() { s.SetBlockLog(0xff) }, func() uint64 { return uint64(s.BlockLog()) }},
		{15, 1, func() { s.SetMaxClusterLog(0xff) }, func() uint64 { return uint64(s.MaxClusterLog()) }},
		{16, 8, func() { s.SetIncompat(m64) }, func() uint64 { return s.Incompat() }},
		{24, 8, func() { s.SetCompat(m64) }, func() uint64 { return s.Compat() }},
		{32, 8, func() { s.SetImageLen(m64) }, func() uint64 { return s.ImageLen() }},
		{40, 8, func() { s.SetDataOff(m64) }, func() uint64 { return s.DataOff() }},
	}
	for i := range NumTables {
		list = append(list,
			field{48 + 8*i, 4, func() { s.SetStart(i, m32) }, func() uint64 { return uint64(s.Start(i)) }},
			field{52 + 8*i, 4, func() { s.SetCount(i, m32) }, func() uint64 { return uint64(s.Count(i)) }})
	}
	list = append(list,
		field{80, 4, func() { s.SetCodecs(m32) }, func() uint64 { return uint64(s.Codecs()) }},
		field{84, 4, func() { s.SetDigestKind(m32) }, func() uint64 { return uint64(s.DigestKind()) }},
		field{136, 8, func() { s.SetFileBytes(m64) }, func() uint64 { return s.FileBytes() }})
	fields(t, s[:], list, len(s.Reserved())+4)

	var h Header
	fields(t, h[:], []field{
		{0, 4, func() { h.SetCRC(m32) }, func() uint64 { return uint64(h.CRC()) }},
		{4, 4, func() { h.SetMagic(m32) }, func() uint64 { return uint64(h.Magic()) }},
		{8, 4, func() { h.SetIndex(m32) }, func() uint64 { return uint64(h.Index()) }},
		{12, 2, func() { h.SetUsed(m16) }, func() uint64 { return uint64(h.Used()) }},
	}, 2)

	var n Inode
	fields(t, n[:], []field{
		{0, 2, func() { n.SetMode(m16) }, func() uint64 { return uint64(n.Mode()) }},
		{2, 1, func() { n.SetClusterLog(0xff) }, func() uint64 { return uint64(n.ClusterLog()) }},
		{3, 1, func() { n.SetLayout(0xff) }, func() uint64 { return uint64(n.Layout()) }},
		{4, 4, func() { n.SetNlink(m32) }, func() uint64 { return uint64(n.Nlink()) }},
		{8, 4, func() { n.SetUID(m32) }, func() uint64 { return uint64(n.UID()) }},
		{12, 4, func() { n.SetGID(m32) }, func() uint64 { return uint64(n.GID()) }},
		{16, 8, func() { n.SetSize(m64) }, func() uint64 { return n.Size() }},
		{24, 8, func() { n.SetMtimeSec(-1) }, func() uint64 { return uint64(n.MtimeSec()) }},
		{32, 4, func() { n.SetMtimeNsec(m32) }, func() uint64 { return uint64(n.MtimeNsec()) }},
		{36, 4, func() { n.SetRdev(m32) }, func() uint64 { return uint64(n.Rdev()) }},
		{40, 8, func() { n.SetFirst(m64) }, func() uint64 { return n.First() }},
		{48, 4, func() { n.SetCount(m32) }, func() uint64 { return uint64(n.Count()) }},
		{52, 4, func() { n.SetParent(m32) }, func() uint64 { return uint64(n.Parent()) }},
		{56, 8, func() { n.SetXattrAddr(m64) }, func() uint64 { return n.XattrAddr() }},
		{64, 4, func() { n.SetXattrLen(m32) }, func() uint64 { return uint64(n.XattrLen()) }},
		{68, 4, func() { n.SetMagic(m32) }, func() uint64 { return uint64(n.Magic()) }},
		{72, 4, func() { n.SetIno(m32) }, func() uint64 { return uint64(n.Ino()) }},
		{76, 4, func() { n.SetTailOff(m32) }, func() uint64 { return uint64(n.TailOff()) }},
	}, 0)
	n = Inode{}
	n.SetTail(m32)
	if n.Rdev() != m32 || n.Tail() != m32 {
		t.Error("the tail's record is not where a device node's number is")
	}

	var d Dirent
	fields(t, d[:], []field{
		{0, 4, func() { d.SetHash(m32) }, func() uint64 { return uint64(d.Hash()) }},
		{4, 4, func() { d.SetIno(m32) }, func() uint64 { return uint64(d.Ino()) }},
		{8, 7, func() { d.SetName(1<<48-1, 255) }, func() uint64 { a, l := d.Name(); return a | uint64(l)<<48 }},
		{15, 1, func() { d.SetType(0xff) }, func() uint64 { return uint64(d.Type()) }},
	}, 0)

	var c Cluster
	fields(t, c[:], []field{
		{0, 8, func() { c.SetOff(MaxOff); c.SetSize(1<<21 - 1) }, func() uint64 { return c.Off() | uint64(c.Size())<<43 }},
		{8, 3, func() { c.SetLen(1<<24 - 1) }, func() uint64 { return uint64(c.Len()) }},
		{11, 1, func() { c.SetCodec(0xff) }, func() uint64 { return uint64(c.Codec()) }},
		{12, 4, func() { c.SetCRC(m32) }, func() uint64 { return uint64(c.CRC()) }},
	}, 0)
	for i, shape := range Shapes {
		if shape.Size*shape.PerBlock != PayloadSize {
			t.Errorf("table %d: %d records of %d bytes leave a gap in a block", i, shape.PerBlock, shape.Size)
		}
	}
}

func TestXattrRecords(t *testing.T) {
	b := AppendXattr(AppendXattr(nil, "user.a", nil), "user.b", []byte("value"))
	name, value, rest, ok := NextXattr(b)
	if !ok || string(name) != "user.a" || len(value) != 0 {
		t.Errorf("got %q, %q, %v", name, value, ok)
	}
	name, value, rest, ok = NextXattr(rest)
	if !ok || string(name) != "user.b" || !bytes.Equal(value, []byte("value")) || len(rest) != 0 {
		t.Errorf("got %q, %q, %v", name, value, ok)
	}
	for n := range len(b) {
		for p := b[:n]; len(p) > 0; {
			if _, _, p, ok = NextXattr(p); !ok {
				break
			}
		}
	}
}

func TestDev(t *testing.T) {
	for _, d := range [][2]uint32{{0, 0}, {1, 3}, {4095, 1048575}, {8, 300}} {
		if dev := Dev(d[0], d[1]); DevMajor(dev) != d[0] || DevMinor(dev) != d[1] {
			t.Errorf("%v becomes %d:%d", d, DevMajor(dev), DevMinor(dev))
		}
	}
}

func TestFormatError(t *testing.T) {
	if got, want := Corrupt(-1234567890123, "field", ErrChecksum).Error(), "rofs: field at byte -1234567890123: check code mismatch"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLean keeps what the kernel links to these packages.
func TestLean(t *testing.T) {
	const base = "github.com/firstlight-boot/firstlight/rofs/"
	out, err := exec.Command("go", "list", "-deps", base+"read").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		switch dep {
		case base + "format", base + "lz4block", base + "zstdblock", base + "read":
		default:
			t.Errorf("rofs/read imports %s", dep)
		}
	}
}
