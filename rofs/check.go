package rofs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/rofs/read"
)

// Problem is something wrong with the bytes of an image.
type Problem struct {
	Offset int64 // of the first byte concerned
	Length int64 // in bytes
	What   string
}

func (p Problem) String() string {
	return fmt.Sprintf("bytes %d-%d: %s", p.Offset, p.Offset+max(p.Length, 1)-1, p.What)
}

// Check examines every byte of the image in r, of which there are size: structure, check codes, contents and padding. It
// tells report each problem. Its error is a failed read, or ctx's; damage is a Problem, never an error.
func Check(ctx context.Context, r io.ReaderAt, size int64, report func(Problem)) error {
	rd, err := read.Open(device{r}, size, options(size, 16))
	if err != nil {
		if fe, ok := errors.AsType[*format.FormatError](err); ok {
			report(Problem{fe.Offset, format.SuperblockSize, fe.Error()})
			return nil
		}
		return err
	}
	c := &checker{ctx: ctx, r: device{r}, rd: rd, buf: make([]byte, 1<<rd.Super.MaxClusterLog())}
	c.report = func(p Problem) { c.found = true; report(p) }
	defer c.tell()
	s := &rd.Super
	if r := s.Reserved(); !zero(r) && string(r[:8]) != "FLSIGN1\n" { // a signature is for who has the key
		report(Problem{144, 108, "reserved bytes of the superblock are not zero"})
	}
	for _, step := range []func() error{
		func() error { return c.zeros(format.SuperblockSize, format.BlockSize) },
		func() error {
			return c.zeros(int64(s.Start(format.Clusters)+format.Blocks(format.Clusters, s.Count(format.Clusters)))<<format.BlockLog, int64(s.DataOff()))
		},
		c.blocks,
		c.inodes,
		c.clusters,
		func() error { return c.zeros(int64(s.ImageLen()), size) },
		c.digest,
	} {
		if err := step(); err != nil {
			if fe, ok := errors.AsType[*format.FormatError](err); ok { // the image got shorter
				report(Problem{fe.Offset, 1, fe.Error()})
				continue
			}
			return err
		}
	}
	return nil
}

type checker struct {
	ctx    context.Context
	r      io.ReaderAt
	rd     *read.FS
	report func(Problem)
	found  bool // a problem was reported
	buf    []byte
	names  []uint32 // by inode - 1: how many names it has
	dirs   []uint32 // by inode - 1: how many subdirectories it has
	lost   map[span]*loss
	// Of these some cannot be read, so that what is missing beside them is no problem of its own.
	noInodes, noNames, noClusters bool
}

// span is a range of an image that cannot be used: a metadata block, or what is stored of a cluster.
type span struct{ off, length int64 }

// loss is what is lost with it.
type loss struct {
	what  string
	first string              // one of those that it takes part of
	inos  map[uint32]struct{} // all of them
}

// lose notes that a span is damaged, and costs inode ino something, of which first tells the path; 0 if nobody is known.
func (c *checker) lose(s span, what string, ino uint32, first func() string) {
	c.found = true
	l := c.lost[s]
	if l == nil {
		if c.lost == nil {
			c.lost = make(map[span]*loss)
		}
		l = &loss{what: what, inos: make(map[uint32]struct{})}
		c.lost[s] = l
	}
	if ino != 0 {
		l.inos[ino] = struct{}{}
		if l.first == "" || l.first[0] != '/' { // a path is better than an inode's number
			if p := first(); l.first == "" || p[0] == '/' {
				l.first = p
			}
		}
	}
}

// tell reports each damaged span once, with what is lost.
func (c *checker) tell() {
	for _, s := range slices.SortedFunc(maps.Keys(c.lost), func(a, b span) int { return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.length, b.length)) }) {
		l := c.lost[s]
		what := l.what
		if n := len(l.inos); n > 0 {
			what += "; lost with it, in whole or in part: " + l.first
			if n > 1 {
				what += fmt.Sprintf(" and %d more", n-1)
			}
		}
		c.report(Problem{s.off, s.length, what})
	}
}

// blame notes an error of the leaf reader in what inode ino has, of which first tells the path, as a loss by the metadata block
// that is known to be bad. It reports whether it is one.
func (c *checker) blame(err error, ino uint32, first func() string) bool {
	fe, ok := errors.AsType[*format.FormatError](err)
	if !ok {
		return false
	}
	s := span{fe.Offset &^ (format.BlockSize - 1), format.BlockSize}
	if c.lost[s] == nil || fe.Field != "metadata block" {
		return false
	}
	c.lose(s, "", ino, first)
	return true
}

// zeros reports what is not zero from byte from up to byte to.
func (c *checker) zeros(from, to int64) error {
	for from < to {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		p := c.buf[:min(int64(len(c.buf)), to-from)]
		if n, err := c.r.ReadAt(p, from); n < len(p) {
			return err
		}
		if !zero(p) {
			first := 0
			for p[first] == 0 {
				first++
			}
			last := len(p) - 1
			for p[last] == 0 {
				last--
			}
			c.report(Problem{from + int64(first), int64(last-first) + 1, "padding is not zero"})
		}
		from += int64(len(p))
	}
	return nil
}

// wrong reports an error of the leaf reader in what inode ino has, unless the device failed: that it returns.
func (c *checker) wrong(ino uint32, err error) error {
	if _, ok := errors.AsType[*format.FormatError](err); !ok {
		return err
	}
	if !c.blame(err, ino, func() string { return c.path(ino) }) {
		c.report(Problem{c.inodeOff(ino), format.InodeSize, c.path(ino) + ": " + err.Error()})
	}
	return nil
}

// digest compares the root digest, if no other problem explains already why it must differ.
func (c *checker) digest() error {
	s := &c.rd.Super
	switch s.DigestKind() {
	case format.DigestNone:
		if s.Digest() != [32]byte{} {
			c.report(Problem{88, 32, "there is a digest of no kind"})
		}
		return nil
	case format.DigestSHA256:
	default:
		c.report(Problem{84, 4, fmt.Sprintf("root digest of an unknown kind %d", s.DigestKind())})
		return nil
	}
	if c.found {
		return nil
	}
	d, err := rootDigest(c.ctx, c.r, s)
	if err == nil && d != s.Digest() {
		c.report(Problem{0, int64(s.ImageLen()), "the image is not what its root digest says"})
	}
	return err
}

// blocks checks each metadata block by itself.
func (c *checker) blocks() error {
	s := &c.rd.Super
	b := c.buf[:format.BlockSize]
	for t := range format.NumTables {
		shape := format.Shapes[t]
		count := s.Count(t)
		for i := range format.Blocks(t, count) {
			if c.ctx.Err() != nil {
				return context.Cause(c.ctx)
			}
			off := int64(s.Start(t)+i) << format.BlockLog
			if n, err := c.r.ReadAt(b, off); n < len(b) {
				return err
			}
			bad := func(what string) {
				c.lose(span{off, format.BlockSize}, fmt.Sprintf("metadata block of %s: %s", structures[t], what), 0, nil)
			}
			h := (*format.Header)(b)
			used := int(h.Used())
			want := int(min(shape.PerBlock, count-i*shape.PerBlock) * shape.Size)
			switch {
			case used > format.PayloadSize:
				bad("its length is wrong")
			case h.CRC() != format.Checksum(b[4:format.HeaderSize+used]):
				bad(format.ErrChecksum.Error())
			case h.Magic() != shape.Magic || h.Index() != i:
				bad("it is not the block that belongs here")
			case used != want && (t != format.Strings || used == 0):
				bad("its length is wrong")
			case h.Reserved() != 0 || !zero(b[format.HeaderSize+used:]):
				bad("its padding is not zero")
			}
		}
	}
	return nil
}

// inodes checks the inodes and the directories.
func (c *checker) inodes() error {
	count := c.rd.Inodes()
	c.names, c.dirs = make([]uint32, count), make([]uint32, count)
	c.names[0]++ // the root's
	var n format.Inode
	for ino := uint32(1); ino <= count; ino++ {
		if ino%1024 == 0 && c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		if err := c.rd.Inode(ino, &n); err != nil {
			c.noInodes = true
			if err := c.wrong(ino, err); err != nil {
				return err
			}
			continue
		}
		if what := c.inode(ino, &n); what != "" {
			c.report(Problem{c.inodeOff(ino), format.InodeSize, fmt.Sprintf("inode %d: %s", ino, what)})
		}
		var err error
		switch n.Type() {
		case format.TypeDir:
			err = c.directory(ino, &n)
		case format.TypeLink:
			_, err = readlink(c.rd, &node{ino, n})
		}
		if err == nil {
			_, err = xattrs(c.rd, &node{ino, n})
		}
		if err != nil {
			if err := c.wrong(ino, err); err != nil {
				return err
			}
		}
	}
	// Directories are reached from the root if each has one name, in its parent, and no chain of parents is a circle, which
	// the numbers exclude: a directory's is greater than its parent's.
	for ino := uint32(1); ino <= count; ino++ {
		if c.rd.Inode(ino, &n) != nil {
			continue // reported above
		}
		missing := c.noInodes || c.noNames // then there may be more names than were found
		want := c.names[ino-1]
		if n.Type() == format.TypeDir {
			if want > 1 || want == 0 && !missing {
				c.report(Problem{c.inodeOff(ino), format.InodeSize, fmt.Sprintf("inode %d: a directory with %d names", ino, want)})
			}
			want = 2 + c.dirs[ino-1]
		}
		if n.Nlink() < want || (c.names[ino-1] == 0 || n.Nlink() != want) && !missing {
			c.report(Problem{c.inodeOff(ino), format.InodeSize, fmt.Sprintf("inode %d: %d links instead of %d", ino, n.Nlink(), want)})
		}
	}
	return nil
}

func (c *checker) inodeOff(ino uint32) int64 {
	per := format.Shapes[format.Inodes].PerBlock
	return int64(c.rd.Super.Start(format.Inodes)+(ino-1)/per)<<format.BlockLog + format.HeaderSize + int64((ino-1)%per)*format.InodeSize
}

// inode returns what is wrong with the fields of an inode that the leaf reader does not look at.
func (c *checker) inode(ino uint32, n *format.Inode) string {
	if _, ok := fileMode(n.Mode()); !ok {
		return "unknown type"
	}
	t := n.Type()
	switch {
	case n.MtimeNsec() >= 1e9:
		return "nanoseconds out of range"
	case n.Parent() == 0 || n.Parent() > ino || n.Parent() == ino && ino != format.RootIno:
		return "wrong parent"
	case t == format.TypeDir != (n.Parent() == ino) && ino == format.RootIno:
		return "the root is not a directory"
	case t != format.TypeFile && t != format.TypeLink && n.Size() != 0,
		t != format.TypeFile && n.ClusterLog() != 0,
		t != format.TypeFile && t != format.TypeDir && n.Count() != 0,
		t != format.TypeFile && n.Layout() != 0,
		n.Layout() != format.LayoutTail && n.TailOff() != 0,
		n.Layout() != format.LayoutTail && t != format.TypeBlock && t != format.TypeChar && n.Tail() != 0:
		return "a field that its type does not have"
	case t == format.TypeFile && uint64(n.Count()) > (n.Size()+1<<n.ClusterLog()-1)>>n.ClusterLog():
		return "more clusters than its size has"
	}
	return ""
}

// directory checks the entries of a directory: names, order, hashes, what they point to.
func (c *checker) directory(ino uint32, n *format.Inode) error {
	var d read.Dirent
	var child format.Inode
	var before uint32
	var last string
	for i := range n.Count() {
		if err := c.rd.ReadDir(n, i, &d); err != nil {
			c.noNames = true
			if c.blame(err, ino, func() string { return c.path(ino) }) {
				continue
			}
			return err
		}
		name := string(d.Name())
		bad := func(what string) {
			c.report(Problem{c.inodeOff(ino), format.InodeSize, fmt.Sprintf("entry %q of directory %q: %s", name, c.path(ino), what)})
		}
		hash := format.Hash(name)
		if i > 0 && cmp.Or(cmp.Compare(before, hash), strings.Compare(last, name)) >= 0 {
			bad("out of order")
		}
		before, last = hash, name
		if err := checkName(name); err != nil || strings.Contains(name, "/") {
			bad("not a name")
		}
		if found, err := c.rd.Lookup(n, name); err != nil {
			if !c.blame(err, ino, func() string { return c.path(ino) }) {
				return err
			}
		} else if found != d.Ino {
			bad("it is not found")
		}
		if d.Ino == 0 || d.Ino > c.rd.Inodes() {
			bad("its inode does not exist")
			continue
		}
		c.names[d.Ino-1]++
		if err := c.rd.Inode(d.Ino, &child); err != nil {
			if c.blame(err, d.Ino, func() string { return path.Join(c.path(ino), name) }) {
				continue
			}
			return err
		}
		if uint16(d.Type)<<12 != child.Type() {
			bad("its type is not its inode's")
		}
		if child.Type() == format.TypeDir {
			c.dirs[ino-1]++
			if child.Parent() != ino {
				bad("it has another parent")
			}
		}
	}
	return nil
}

// path returns the first name of an inode, or its number where that cannot be told.
func (c *checker) path(ino uint32) string {
	var parts []string
	var n format.Inode
	var d read.Dirent
	number := fmt.Sprintf("inode %d", ino)
	for ino != format.RootIno {
		if c.rd.Inode(ino, &n) != nil || n.Parent() >= ino {
			return number
		}
		child := ino
		ino = n.Parent()
		if c.rd.Inode(ino, &n) != nil || n.Type() != format.TypeDir {
			return number
		}
		found := false
		for i := uint32(0); i < n.Count() && !found; i++ {
			if c.rd.ReadDir(&n, i, &d) != nil {
				return number
			}
			found = d.Ino == child
		}
		if !found {
			return number
		}
		parts = append(parts, string(d.Name()))
	}
	slices.Reverse(parts)
	return "/" + strings.Join(parts, "/")
}

// clusters checks the content of every file, that each cluster belongs to one, and that nothing else lies in the data area.
func (c *checker) clusters() error {
	s := &c.rd.Super
	total := s.Count(format.Clusters)
	owned := make([]uint64, (uint64(total)+63)/64)
	type extent struct{ off, end int64 }
	var extents []extent
	var n format.Inode
	var e format.Cluster
	var fileBytes uint64
	for ino := uint32(1); ino <= c.rd.Inodes(); ino++ {
		if c.rd.Inode(ino, &n) != nil || n.Type() != format.TypeFile {
			continue
		}
		fileBytes += n.Size()
		if n.Layout() == format.LayoutInline {
			if err := c.rd.ReadCluster(&n, 0, c.buf); n.Size() > 0 && err != nil {
				if err := c.wrong(ino, err); err != nil {
					return err
				}
			}
			continue
		}
		count := uint64(n.Count())
		if n.Layout() == format.LayoutTail {
			count++
		}
		for i := range count {
			if c.ctx.Err() != nil {
				return context.Cause(c.ctx)
			}
			k := n.First() + i
			if i == uint64(n.Count()) {
				k = uint64(n.Tail())
			}
			owned[k/64] |= 1 << (k % 64)
			err := c.rd.Cluster(&n, i, &e)
			if err != nil {
				c.noClusters = true
				if err := c.wrong(ino, err); err != nil {
					return err
				}
				continue
			}
			if e.Codec() != format.CodecHole {
				extents = append(extents, extent{int64(e.Off()), int64(e.Off()) + int64(e.Len())})
			} else if e != (format.Cluster{}) {
				err = format.Corrupt(0, "hole that is not all zero", format.ErrFormat)
			}
			if err == nil && i<<n.ClusterLog() < n.Size() {
				err = c.rd.ReadCluster(&n, i, c.buf)
			}
			if err == nil && s.Codecs()>>e.Codec()&1 == 0 {
				err = format.Corrupt(0, "record of a cluster", format.ErrFormat)
			}
			if fe, ok := errors.AsType[*format.FormatError](err); ok {
				c.lose(span{int64(e.Off()), int64(e.Len())}, "content: "+fe.Error(), ino,
					func() string { return fmt.Sprintf("%s from its byte %d", c.path(ino), i<<n.ClusterLog()) })
			} else if err != nil {
				return err
			}
		}
	}
	if fileBytes > s.FileBytes() || fileBytes < s.FileBytes() && !c.noInodes {
		c.report(Problem{136, 8, "the sum of file sizes is wrong"})
	}
	for k := range uint64(total) {
		if c.noInodes {
			break // one of those may own it
		}
		if owned[k/64]>>(k%64)&1 == 0 {
			per := uint64(format.Shapes[format.Clusters].PerBlock)
			off := int64(uint64(s.Start(format.Clusters))+k/per)<<format.BlockLog + format.HeaderSize + int64(k%per)*format.ClusterSize
			c.report(Problem{off, format.ClusterSize, "a cluster that belongs to no file"})
		}
	}
	slices.SortFunc(extents, func(a, b extent) int { return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.end, b.end)) })
	at := int64(s.DataOff())
	for i, x := range extents {
		if i > 0 && x == extents[i-1] { // shared
			continue
		}
		if x.off < at {
			c.report(Problem{x.off, x.end - x.off, "clusters overlap"})
		} else if c.noInodes || c.noClusters {
			// What lies in between may be theirs.
		} else if err := c.zeros(at, min(x.off, int64(s.ImageLen()))); err != nil {
			return err
		}
		at = max(at, x.end)
	}
	if c.noInodes || c.noClusters {
		return nil
	}
	return c.zeros(at, int64(s.ImageLen()))
}
