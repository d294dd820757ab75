package rofs

import (
	"context"
	"io"
	"time"

	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/tree"
)

// entry makes a tree's entry of an inode.
func (b *rebuilder) entry(out *Recovered, p string, ino uint32, n *format.Inode) tree.Entry {
	mode, _ := fileMode(n.Mode())
	e := tree.Entry{Path: p, Mode: mode, UID: n.UID(), GID: n.GID(), ModTime: time.Unix(n.MtimeSec(), int64(n.MtimeNsec()))}
	lose := func(why string) { out.Lost = append(out.Lost, Lost{Path: p, Inode: ino, Why: why}) }
	per := format.Shapes[format.Inodes].PerBlock
	if b.m.states[format.Inodes][(ino-1)/per] != whole {
		lose("its inode is from a damaged block: size, owner, mode and time may be wrong")
	}
	var err error
	if e.Xattrs, err = xattrs(b.m.rd, &node{ino, *n}); err != nil {
		lose("its extended attributes are lost: " + err.Error())
	} else if !b.m.sure(n.XattrAddr(), uint64(n.XattrLen())) {
		lose("its extended attributes are from a damaged block and may be wrong")
	}
	switch n.Type() {
	case format.TypeFile:
		e.Size = int64(n.Size())
	case format.TypeLink:
		if e.Link, err = readlink(b.m.rd, &node{ino, *n}); err != nil {
			lose("the link's target is lost: " + err.Error())
			e.Mode, e.Link = 0o600, "" // an empty file instead: a link must have a target
		} else if !b.m.sure(n.First(), n.Size()) {
			lose("the link's target is from a damaged block and may be wrong")
		}
	case format.TypeChar, format.TypeBlock:
		e.Major, e.Minor = format.DevMajor(n.Rdev()), format.DevMinor(n.Rdev())
	}
	return e
}

// sure reports whether a string of n bytes lies in blocks that are whole.
func (m *remains) sure(addr, n uint64) bool {
	for ; n > 0; addr = (addr>>format.BlockLog+1)<<format.BlockLog | format.HeaderSize {
		i := addr >> format.BlockLog
		if i >= uint64(m.blocks[format.Strings]) || m.block(format.Strings, uint32(i)) == nil || m.states[format.Strings][i] != whole {
			return false
		}
		n -= min(n, format.BlockSize-addr&(format.BlockSize-1))
	}
	return true
}

// File is where Content puts a file's content.
type File interface {
	io.WriterAt
	Truncate(size int64) error
}

// Content writes what is left of the content of the file that Tree has at path, and makes w as long as the file was. Holes, and
// what is lost, are not written. It returns what is lost; its error is w's or ctx's.
func (r *Recovered) Content(ctx context.Context, path string, w File) (list []Lost, err error) {
	ino, ok := r.inodes[path]
	n, left := r.m.inode(ino)
	if !ok || !left || n.Type() != format.TypeFile {
		return nil, nil
	}
	size := n.Size()
	if err := w.Truncate(int64(size)); err != nil {
		return nil, err
	}
	if r.buf == nil {
		r.buf = make([]byte, 1<<format.MaxClusterLog)
	}
	log := n.ClusterLog()
	clusters := uint64(n.Count())
	if n.Layout() != format.LayoutClusters {
		clusters++
	}
	for i := range clusters {
		if ctx.Err() != nil {
			return list, context.Cause(ctx)
		}
		if i<<log >= size {
			break
		}
		off, length := int64(i<<log), int64(min(size-i<<log, 1<<log))
		why := ""
		var c format.Cluster
		if err := r.m.rd.Cluster(&n, i, &c); err != nil {
			why = err.Error()
		} else if c == (format.Cluster{}) && i < uint64(n.Count()) {
			continue // a hole
		} else if err := r.m.rd.ReadCluster(&n, i, r.buf); err != nil {
			why = err.Error()
		} else if _, err := w.WriteAt(r.buf[:length], off); err != nil {
			return list, err
		}
		if why == "" && n.Layout() == format.LayoutInline && !r.m.sure(n.First(), size) {
			why = "from a damaged block: may be wrong"
		}
		if why == "" {
			continue
		}
		if k := len(list) - 1; k >= 0 && list[k].Offset+list[k].Length == off {
			list[k].Length += length // for the reason of the first, or a like one
		} else {
			list = append(list, Lost{Path: path, Inode: ino, Offset: off, Length: length, Why: why})
		}
	}
	return list, nil
}
