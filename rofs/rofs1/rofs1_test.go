package rofs1

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/firstlight-boot/firstlight/internal/osvtest"
	"github.com/firstlight-boot/firstlight/rofs/format"
)

func open(t testing.TB, b []byte) *FS {
	t.Helper()
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What OSv's own tool wrote.
func TestReadGolden(t *testing.T) {
	f := open(t, osvtest.ROFS)
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	osvtest.Same(t, f.Tree, osvtest.Tree(t))
	if err := fstest.TestFS(f, "hello", "etc/empty", "usr/lib/zero", "usr/lib/deep/deeper/leaf.txt"); err != nil {
		t.Error(err)
	}
	if f.Size() != int64(len(osvtest.ROFS)) {
		t.Errorf("Size is %d, want %d", f.Size(), len(osvtest.ROFS))
	}
	if e := f.Lookup("usr/lib"); e.Mode != fs.ModeDir|0o555 || e.UID != 0 {
		t.Errorf("usr/lib: %v, owner %d", e.Mode, e.UID)
	}
}

// patch returns the golden image with a 64-bit number changed.
func patch(off int, v uint64) []byte {
	b := slices.Clone(osvtest.ROFS)
	binary.LittleEndian.PutUint64(b[off:], v)
	return b
}

func TestReadDamaged(t *testing.T) {
	const at = 359 * BlockSize
	inodes := 184791 - 21*inodeSize
	inode := func(n, field int) int { return inodes + (n-1)*inodeSize + field*8 }
	for _, tt := range []struct {
		name string
		b    []byte
		want error
		off  int64
	}{
		{"magic", patch(0, 1), format.ErrFormat, 0},
		{"version", patch(8, 2), format.ErrUnsupported, 8},
		{"block size", patch(16, 4096), format.ErrFormat, 16},
		{"no structure info", patch(32, 0), format.ErrFormat, 32},
		{"structure info behind the end", patch(24, 360), format.ErrTruncated, 24},
		{"its size overflows", patch(32, 1<<63), format.ErrTruncated, 24},
		{"too many entries", patch(40, 1<<60), format.ErrFormat, -1},
		{"too many links", patch(48, 1<<60), format.ErrFormat, -1},
		{"too many inodes", patch(56, 1<<60), format.ErrFormat, -1},
		{"no inodes", patch(56, 0), format.ErrFormat, int64(inodes)},
		{"root is a file", patch(inode(1, 0), typeFile), format.ErrFormat, int64(inodes)},
		{"inode of no type", patch(inode(2, 0), 0x1000), format.ErrFormat, int64(inode(2, 0))},
		{"inode of another number", patch(inode(2, 1), 3), format.ErrFormat, int64(inode(2, 1))},
		{"content behind the end", patch(inode(2, 2), 361), format.ErrTruncated, int64(inode(2, 0))},
		{"size overflows", patch(inode(2, 3), 1<<63), format.ErrTruncated, int64(inode(2, 0))},
		{"entries behind the end", patch(inode(4, 2), 19), format.ErrFormat, int64(inode(4, 0))},
		{"entries of another directory", patch(inode(4, 2), 4), format.ErrFormat, -1},
		{"a directory twice", patch(at, 8), format.ErrFormat, -1},
		{"an entry without an inode", patch(at, 0), format.ErrFormat, at},
		{"an entry of a missing inode", patch(at, 22), format.ErrFormat, at},
		{"link behind the end", patch(inode(3, 2), 2), format.ErrFormat, int64(inode(3, 0))},
		{"truncated", osvtest.ROFS[:len(osvtest.ROFS)-1], format.ErrTruncated, 24},
		{"empty", nil, format.ErrTruncated, 0},
	} {
		_, err := Open(bytes.NewReader(tt.b), int64(len(tt.b)))
		fe := (*format.FormatError)(nil)
		if !errors.As(err, &fe) || !errors.Is(err, tt.want) || tt.off >= 0 && fe.Offset != tt.off {
			t.Errorf("%s: %v, want %v at %d", tt.name, err, tt.want, tt.off)
		}
	}
	// A device that is shorter than it says is damage, one that fails is not.
	if _, err := Open(bytes.NewReader(osvtest.ROFS[:1000]), int64(len(osvtest.ROFS))); !errors.Is(err, format.ErrTruncated) {
		t.Errorf("short device: %v", err)
	}
	broken := errors.New("broken")
	if _, err := Open(failing{broken}, 1<<20); !errors.Is(err, broken) {
		t.Errorf("failing device: %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// The kernel takes the first of two entries with one name, and permission bits are nothing to it.
func TestReadTolerates(t *testing.T) {
	b := bytes.Replace(osvtest.ROFS, []byte("b512"), []byte("b511"), 1)
	binary.LittleEndian.PutUint64(b[184791-21*inodeSize:], 0x41ed)
	f := open(t, b)
	if e := f.Lookup("usr/lib/b511"); e == nil || e.Size != 511 {
		t.Errorf("b511: %+v", e)
	}
	if got := fmt.Sprint(f.odd); len(f.odd) != 3 {
		t.Errorf("problems: %s", got)
	}
}

// small is an image that mutations of the fuzzer's hit.
func small() []byte {
	var b []byte
	s := super{firstBlock: 2, blocks: 1, dirents: 3, symlinks: 1, inodes: 4}
	b = append(s.encode(), make([]byte, 2*BlockSize)...)
	copy(b[BlockSize:], "content")
	t := b[2*BlockSize : 2*BlockSize]
	for i, name := range []string{"dir", "file", "link"} {
		t = binary.LittleEndian.AppendUint64(t, uint64(i+2))
		t = append(binary.LittleEndian.AppendUint16(t, uint16(len(name))), name...)
	}
	t = append(binary.LittleEndian.AppendUint16(t, 4), "file"...)
	for i, n := range []inode{{typeDir, 0, 3}, {typeDir, 0, 0}, {typeFile, 1, 7}, {typeLink, 0, 1}} {
		t = n.append(t, uint64(i+1))
	}
	return b
}

func TestSeeds(t *testing.T) {
	f := open(t, small())
	if b, err := fs.ReadFile(f, "link"); string(b) != "content" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// Whatever the bytes are, there is an error or a sound tree, all of whose content can be read.
func FuzzOpen(f *testing.F) {
	f.Add(small())
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if fe := (*format.FormatError)(nil); !errors.As(err, &fe) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if err := fsys.Validate(); err != nil {
			t.Fatal(err)
		}
		if len(fsys.Entries) > len(b)/direntHead+1 {
			t.Fatalf("%d entries of %d bytes", len(fsys.Entries), len(b))
		}
		for _, e := range fsys.Entries[:min(len(fsys.Entries), 100)] {
			if e.Mode.IsRegular() {
				if got, err := fs.ReadFile(fsys, e.Path); err != nil || int64(len(got)) != e.Size {
					t.Fatalf("%q: %d bytes of %d, %v", e.Path, len(got), e.Size, err)
				}
			}
		}
	})
}
