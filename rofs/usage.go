package rofs

import (
	"cmp"
	"slices"

	"github.com/firstlight-boot/firstlight/rofs/format"
)

// Usage is what the content of an image is stored as.
type Usage struct {
	Codecs      []CodecUsage // in use, holes not counted
	Inline      int          // files whose content lies in the metadata
	Tails       int          // files that share a cluster with others
	Mappable    int          // files of a block or more that share none, and whose raw clusters start on blocks (Align)
	Holes       int          // clusters of zeros, with nothing stored
	Shared      int          // clusters and tails that are equal to others, and so not stored again
	SharedBytes int64        // content of these
	Order       []Use        // the first content in the order of its place, at most maxOrder of them
	Digest      [32]byte     // the root digest, zero if there is none
}

// CodecUsage is what is stored with one codec.
type CodecUsage struct {
	Codec    string // "raw", "lz4" or "zstd"
	Clusters int
	Bytes    int64 // decoded
	Stored   int64
}

const maxOrder = 32

// Usage reads the records of all clusters.
func (f *FS) Usage() (u Usage, err error) {
	rd, err := f.reader()
	if err != nil {
		return u, err
	}
	defer f.pool.Put(rd)
	u.Digest = rd.Super.Digest()
	codecs := []CodecUsage{{Codec: "hole"}, {Codec: "raw"}, {Codec: "lz4"}, {Codec: "zstd"}}
	clusters := map[uint64]bool{} // by offset
	tails := map[uint64]bool{}    // by record and place
	var n format.Inode
	var c format.Cluster
	for ino := uint32(1); ino <= rd.Inodes(); ino++ {
		if err := rd.Inode(ino, &n); err != nil {
			return u, err
		}
		if n.Type() != format.TypeFile {
			continue
		}
		count := uint64(n.Count())
		switch n.Layout() {
		case format.LayoutInline:
			if n.Size() > 0 {
				u.Inline++
			}
			continue
		case format.LayoutTail:
			u.Tails++
			if at := uint64(n.Tail())<<20 | uint64(n.TailOff()); tails[at] {
				u.Shared++
				u.SharedBytes += int64(n.Size() & (1<<n.ClusterLog() - 1))
			} else {
				tails[at] = true
			}
			count++
		}
		mappable := n.Size() >= format.BlockSize && n.Layout() == format.LayoutClusters
		for i := range count {
			if err := rd.Cluster(&n, i, &c); err != nil {
				return u, err
			}
			mappable = mappable && (c.Codec() != format.CodecRaw || c.Off()%format.BlockSize == 0)
			switch seen := clusters[c.Off()]; {
			case int(c.Codec()) >= len(codecs):
				return u, format.Corrupt(int64(c.Off()), "codec of a cluster", format.ErrUnsupported)
			case c.Codec() == format.CodecHole:
				u.Holes++
			case !seen:
				clusters[c.Off()] = true
				x := &codecs[c.Codec()]
				x.Clusters++
				x.Bytes += int64(c.Size())
				x.Stored += int64(c.Len())
			case i < uint64(n.Count()):
				u.Shared++
				u.SharedBytes += int64(c.Size())
			}
		}
		if mappable {
			u.Mappable++
		}
	}
	u.Codecs = slices.DeleteFunc(codecs, func(x CodecUsage) bool { return x.Clusters == 0 })
	u.Order, err = f.firstContent()
	return u, err
}

// firstContent returns what lies first in the data area.
func (f *FS) firstContent() (order []Use, err error) {
	var all []Extent
	if err := f.Extents(func(e Extent) {
		if e.Path != "" {
			all = append(all, e)
		}
	}); err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b Extent) int { return cmp.Compare(a.Offset, b.Offset) })
	for _, e := range all {
		if n := len(order); n > 0 && order[n-1].Path == e.Path && order[n-1].Offset+order[n-1].Length == e.Start {
			order[n-1].Length += e.Size
			continue
		}
		if len(order) == maxOrder {
			break
		}
		order = append(order, Use{e.Path, e.Start, e.Size})
	}
	return order, nil
}
