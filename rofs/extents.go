package rofs

import (
	"io/fs"
	"math"

	"github.com/firstlight-boot/firstlight/rofs/format"
)

// Extent is a range of an image's bytes, and what is stored there.
type Extent struct {
	Offset, Length int64  // of the stored bytes, in the image
	Path           string // of a file whose content they are, as fs.FS has it; "" of a structure
	What           string // "data", or the name of a structure
	Start, Size    int64  // of what they decode to, in the content or the structure
	Packed         bool   // compressed: all the stored bytes are needed for any of the content
}

// maxExtents bounds the extents of an image: files of a damaged one may have the same clusters.
const maxExtents = 1 << 22

// structures are the names of the tables in extents.
var structures = [format.NumTables]string{
	format.Inodes: "inodes", format.Dirents: "names", format.Strings: "strings", format.Clusters: "clusters",
}

// Extents tells each what is stored where: the structures, then the files in the order of their paths. A file with several names
// is there by the first, holes and padding are not, and inline content belongs to a structure. Files that share stored bytes each
// have an extent of them; that of a packed tail has only this file's part of what is decoded.
func (f *FS) Extents(each func(Extent)) error {
	t, err := f.Tree()
	if err != nil {
		return err
	}
	rd, err := f.reader()
	if err != nil {
		return err
	}
	defer f.pool.Put(rd)
	s := &rd.Super
	each(Extent{Length: format.SuperblockSize, What: "superblock", Size: format.SuperblockSize})
	for table, name := range structures {
		if n := int64(format.Blocks(table, s.Count(table))) << format.BlockLog; n > 0 {
			each(Extent{Offset: int64(s.Start(table)) << format.BlockLog, Length: n, What: name, Size: n})
		}
	}
	count := 0
	for i := range t.Entries {
		e := &t.Entries[i]
		if !e.Mode.IsRegular() || e.HardLink != "" {
			continue
		}
		fail := func(err error) error { return &fs.PathError{Op: "rofs", Path: e.Path, Err: err} }
		n, err := resolve(rd, e.Path, false)
		if err != nil {
			return fail(err)
		}
		var c format.Cluster
		for index := uint64(0); n.Layout() != format.LayoutInline; index++ {
			start := index << n.ClusterLog()
			if start >= n.Size() || index > uint64(n.Count()) {
				break
			}
			if err := rd.Cluster(&n.Inode, index, &c); err != nil {
				return fail(err)
			}
			if c.Codec() == format.CodecHole {
				continue
			}
			if count++; count > maxExtents {
				return fail(format.ErrTooLarge)
			}
			size := min(n.Size()-start, 1<<n.ClusterLog())
			from := uint64(0)
			if index == uint64(n.Count()) {
				from = uint64(n.TailOff())
			}
			off, length := c.Off(), uint64(c.Len())
			raw := c.Codec() == format.CodecRaw
			if off < s.DataOff() || off > s.ImageLen() || length > s.ImageLen()-off || start > math.MaxInt64-size ||
				from+size > uint64(c.Size()) || raw && length != uint64(c.Size()) {
				return fail(format.Corrupt(int64(c.Off()), "place of a cluster", format.ErrFormat))
			}
			if raw {
				off, length = off+from, size
			}
			each(Extent{
				Offset: int64(off), Length: int64(length), Path: e.Path, What: "data",
				Start: int64(start), Size: int64(size), Packed: !raw,
			})
		}
	}
	return nil
}
