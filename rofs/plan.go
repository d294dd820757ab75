package rofs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/tree"
)

// A plan is a whole image but for the content of its files: every table's length, and so the start of the data, is known.
type plan struct {
	inodes   []format.Inode
	dirents  []format.Dirent
	strings  stringTable
	clusters []format.Cluster // filled in as the data is written; those of tails are appended
	files    []file           // with content, in the order of the tree
	order    []stretch        // of all content
	twins    []twin           // tails that are equal to another
	tailRoom int              // length of a cluster of tails
	maxLog   uint8
	stats    Stats

	maxClusters uint64 // the records there will be at most
}

// file is a regular file that has content.
type file struct {
	entry  *tree.Entry
	ino    uint32
	log    uint8
	rank   uint8          // in the order of the data: hot, raw, others
	stored bool           // raw, all of it
	align  bool           // raw clusters start on a block
	inline bool           // in the metadata
	packed bool           // the tail lies in a cluster with others
	used   map[int64]bool // clusters that Options.Layout has
}

const (
	rankHot = iota
	rankRaw
	rankOther
)

// maxInline is the longest content that is put into the metadata: what the record of a cluster and the reading of one cost is
// more than what compression saves.
const maxInline = 128

// raw says whether a cluster is stored as it is.
func (f *file) raw(index int64) bool { return f.stored || f.used[index] }

// stretch is a run of a file's clusters.
type stretch struct {
	f        *file
	from, to int64
}

// twin is a file whose tail is that of another.
type twin struct{ ino, of uint32 }

// child is a directory's entry before its name has an address.
type child struct {
	parent, hash, ino uint32
	typ               uint8
	name              string
}

func newPlan(ctx context.Context, t *tree.Tree, o *Options) (*plan, error) {
	p := &plan{maxLog: format.MinClusterLog, tailRoom: o.ClusterSize}
	uses := map[string][]Use{}
	for _, u := range o.Layout {
		uses[u.Path] = append(uses[u.Path], u)
	}
	if len(t.Entries) == 0 || t.Entries[0].Path != "." || !t.Entries[0].Mode.IsDir() {
		return nil, errors.New("rofs: a tree starts with its root directory")
	}
	if len(t.Entries) > math.MaxInt32 {
		return nil, fmt.Errorf("rofs: %d entries are more than an image can hold", len(t.Entries))
	}
	linked := map[string]uint32{} // path of each file with further names, to its inode
	for i := range t.Entries {
		if l := t.Entries[i].HardLink; l != "" {
			linked[l] = 0
		}
	}
	type dir struct {
		path string
		ino  uint32
	}
	var dirs []dir // from the root to the directory of the entry at hand
	var children []child
	xattrs := map[string]uint64{}
	p.inodes = make([]format.Inode, 0, len(t.Entries))
	for i := range t.Entries {
		if i%4096 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		e := &t.Entries[i]
		fail := func(err error) (*plan, error) {
			return nil, &fs.PathError{Op: "rofs", Path: e.Path, Err: err}
		}
		parent, name := uint32(format.RootIno), ""
		if i > 0 {
			above, base := ".", e.Path
			if cut := strings.LastIndexByte(e.Path, '/'); cut >= 0 {
				above, base = e.Path[:cut], e.Path[cut+1:]
			}
			for len(dirs) > 0 && dirs[len(dirs)-1].path != above {
				dirs = dirs[:len(dirs)-1]
			}
			if len(dirs) == 0 {
				return fail(errors.New("its directory does not precede it in the tree"))
			}
			parent, name = dirs[len(dirs)-1].ino, base
			if err := checkName(name); err != nil {
				return fail(err)
			}
		}
		mode, err := linuxMode(e.Mode)
		if err != nil {
			return fail(err)
		}
		ino := uint32(len(p.inodes) + 1)
		if e.HardLink != "" {
			ino = linked[e.HardLink]
			if ino == 0 {
				return fail(fmt.Errorf("hard link to %q, which does not precede it in the tree", e.HardLink))
			}
			n := &p.inodes[ino-1]
			if n.Type() != mode&format.TypeMask || n.Type() == format.TypeDir {
				return fail(fmt.Errorf("hard link to %q, which has another type", e.HardLink))
			}
			n.SetNlink(n.Nlink() + 1)
		} else {
			p.inodes = append(p.inodes, format.Inode{})
			n := &p.inodes[ino-1]
			n.SetMagic(format.InodeMagic)
			n.SetIno(ino)
			n.SetMode(mode)
			n.SetNlink(1)
			n.SetUID(e.UID)
			n.SetGID(e.GID)
			n.SetParent(parent)
			if !e.ModTime.IsZero() {
				n.SetMtimeSec(e.ModTime.Unix())
				n.SetMtimeNsec(uint32(e.ModTime.Nanosecond()))
			}
			switch n.Type() {
			case format.TypeFile:
				f := file{entry: e, ino: ino}
				if err := p.planFile(&f, o, uses[e.Path]); err != nil {
					return fail(err)
				}
				n.SetSize(uint64(e.Size))
				n.SetClusterLog(f.log)
				p.stats.Files++
				p.stats.FileBytes += e.Size
			case format.TypeDir:
				n.SetNlink(2)
				if i > 0 {
					up := &p.inodes[parent-1]
					up.SetNlink(up.Nlink() + 1)
				}
				p.stats.Dirs++
			case format.TypeLink:
				if l := len(e.Link); l == 0 || l > format.MaxLink || strings.IndexByte(e.Link, 0) >= 0 {
					return fail(fmt.Errorf("link target of %d bytes: possible are 1 to %d, none NUL", l, format.MaxLink))
				}
				n.SetSize(uint64(len(e.Link)))
				p.stats.Others++
			default:
				if n.Type() != format.TypeFifo {
					if e.Major > 0xfff || e.Minor > 0xfffff {
						return fail(fmt.Errorf("device %d:%d: possible are up to 4095:1048575", e.Major, e.Minor))
					}
					n.SetRdev(format.Dev(e.Major, e.Minor))
				}
				p.stats.Others++
			}
			if _, ok := linked[e.Path]; ok {
				linked[e.Path] = ino
			}
		}
		if mode&format.TypeMask == format.TypeDir {
			dirs = append(dirs, dir{e.Path, ino})
		}
		if i > 0 {
			children = append(children, child{parent, format.Hash(name), ino, uint8(mode >> 12), name})
		}
	}

	slices.SortFunc(children, func(a, b child) int {
		if c := cmp.Compare(a.parent, b.parent); c != 0 {
			return c
		}
		if c := cmp.Compare(a.hash, b.hash); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	p.dirents = make([]format.Dirent, len(children))
	for i, c := range children {
		if i > 0 && c.parent == children[i-1].parent && c.name == children[i-1].name {
			return nil, &fs.PathError{Op: "rofs", Path: c.name, Err: errors.New("twice in one directory")}
		}
		dir := &p.inodes[c.parent-1]
		if dir.Count() == 0 {
			dir.SetFirst(uint64(i))
		}
		dir.SetCount(dir.Count() + 1)
		d := &p.dirents[i]
		d.SetHash(c.hash)
		d.SetIno(c.ino)
		d.SetType(c.typ)
		d.SetName(p.strings.add(c.name, true), len(c.name))
	}
	ino := 0
	for i := range t.Entries {
		e := &t.Entries[i]
		if e.HardLink != "" {
			continue
		}
		n := &p.inodes[ino]
		ino++
		if n.Type() == format.TypeLink {
			n.SetFirst(p.strings.add(e.Link, false))
		}
		if len(e.Xattrs) > 0 {
			set, err := packXattrs(e.Xattrs)
			if err != nil {
				return nil, &fs.PathError{Op: "rofs", Path: e.Path, Err: err}
			}
			addr, ok := xattrs[set]
			if !ok {
				addr = p.strings.add(set, false)
				xattrs[set] = addr
			}
			n.SetXattrAddr(addr)
			n.SetXattrLen(uint32(len(set)))
		}
	}
	if p.strings.blocks() > math.MaxUint32 {
		return nil, errors.New("rofs: names and attributes take more than an image can hold")
	}

	if err := p.content(o); err != nil {
		return nil, err
	}
	return p, nil
}

// content gives every file its records of the cluster table or its place in the strings, and plans the order of the data.
func (p *plan) content(o *Options) error {
	var total uint64
	byPath := map[string]*file{} // of those in the layout
	for i := range p.files {
		f := &p.files[i]
		n := &p.inodes[f.ino-1]
		if f.inline {
			n.SetLayout(format.LayoutInline)
			n.SetFirst(p.strings.reserve(int(f.entry.Size)))
			continue
		}
		count := (n.Size()-1)>>f.log + 1
		if f.packed {
			n.SetLayout(format.LayoutTail)
			count = n.Size() >> f.log
		}
		n.SetFirst(total)
		n.SetCount(uint32(count))
		total += count
		if total > math.MaxUint32/2 { // the other half is for tails
			return fmt.Errorf("rofs: the files have more than %d clusters: choose a larger cluster size", uint32(math.MaxUint32/2))
		}
		if f.used != nil {
			byPath[f.entry.Path] = f
		}
	}
	p.clusters = make([]format.Cluster, total)
	for _, u := range o.Layout {
		f := byPath[u.Path]
		if f == nil {
			continue
		}
		for k := u.Offset >> f.log; k<<f.log < min(u.Offset+u.Length, f.entry.Size); k++ {
			if !f.used[k] {
				f.used[k] = true
				p.add(f, k, k+1)
			}
		}
	}
	for rank := range uint8(rankOther + 1) {
		for i := range p.files {
			f := &p.files[i]
			if f.rank != rank {
				continue
			}
			end := (f.entry.Size-1)>>f.log + 1
			if f.used == nil {
				p.order = append(p.order, stretch{f, 0, end})
				continue
			}
			for k := range end {
				if !f.used[k] {
					p.add(f, k, k+1)
				}
			}
		}
	}
	// Tails fill clusters as the reader fills them. That some turn out equal or empty never makes it more of them: leaving
	// things out does not make next-fit use more bins.
	p.maxClusters = total
	left := int64(0)
	for i := range p.files {
		if f := &p.files[i]; f.packed {
			size := f.entry.Size & (1<<f.log - 1)
			if size > left {
				left = int64(p.tailRoom)
				p.maxClusters++
			}
			left -= size
		}
	}
	return nil
}

// add appends a run to the order, or prolongs the last one.
func (p *plan) add(f *file, from, to int64) {
	if n := len(p.order); n > 0 && p.order[n-1].f == f && p.order[n-1].to == from {
		p.order[n-1].to = to
		return
	}
	p.order = append(p.order, stretch{f, from, to})
}

// planFile decides how a file is stored.
func (p *plan) planFile(f *file, o *Options, uses []Use) error {
	e := f.entry
	if e.Size < 0 || e.Size > 1<<47 {
		return fmt.Errorf("size of %d bytes", e.Size)
	}
	if e.Size > 0 && e.Source == nil {
		return errors.New("size without content")
	}
	size := o.ClusterSize
	exec := false
	if e.Size > 64 && (e.Mode&0o111 != 0 || strings.HasSuffix(e.Path, ".so") || strings.Contains(e.Path, ".so.")) {
		var err error
		if exec, err = isELF(e); err != nil {
			return err
		}
		if exec {
			size = o.ExecClusterSize
		}
	}
	f.log = uint8(bits.Len(uint(size)) - 1)
	for _, u := range uses {
		if u.Offset < 0 || u.Length < 0 || u.Offset > math.MaxInt64-u.Length {
			return fmt.Errorf("layout: %d bytes at %d are no range", u.Length, u.Offset)
		}
		// What is not used need not come along with what is.
		for f.log > format.MinClusterLog && (u.Offset|u.Length)&(1<<f.log-1) != 0 && u.Offset+u.Length < e.Size {
			f.log--
		}
	}
	for f.log < format.MaxClusterLog && e.Size>>f.log > 1<<20 { // bounds the table of a huge file
		f.log++
	}
	p.maxLog = max(p.maxLog, f.log)
	if e.Size == 0 {
		return nil
	}
	f.rank = rankOther
	switch {
	case o.Hot != nil && o.Hot(e.Path):
		f.rank = rankHot
	case o.Raw != nil && o.Raw(e.Path):
		f.rank = rankRaw
	}
	f.stored = f.rank != rankOther || o.Codec == None
	mapped := e.Size >= format.BlockSize && (o.Align == AlignAll || exec && o.Align == AlignAuto)
	f.align = mapped || f.rank != rankOther && e.Size >= format.BlockSize && o.Align != AlignNone
	tail := e.Size & (1<<f.log - 1)
	switch {
	case e.Size <= maxInline:
		f.inline = true
	case len(uses) > 0:
		f.used = map[int64]bool{}
	case !f.stored && !mapped && tail > 0 && tail <= int64(p.tailRoom):
		f.packed = true
		p.maxLog = max(p.maxLog, uint8(bits.Len(uint(p.tailRoom))-1))
	}
	p.files = append(p.files, *f)
	return nil
}

func isELF(e *tree.Entry) (yes bool, err error) {
	r, err := e.Source()
	if err != nil {
		return false, err
	}
	defer r.Close() // it was read only to look at
	var magic [4]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil {
		return false, err
	}
	return bytes.Equal(magic[:], []byte("\x7fELF")), nil
}

func checkName(name string) error {
	switch {
	case len(name) > format.MaxName:
		return fmt.Errorf("name of %d bytes: at most %d are possible", len(name), format.MaxName)
	case name == "" || name == "." || name == ".." || strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("%q is not a name", name)
	}
	return nil
}

func packXattrs(list []tree.Xattr) (string, error) {
	var b []byte
	for i, x := range list {
		if len(x.Name) == 0 || len(x.Name) > 255 || strings.IndexByte(x.Name, 0) >= 0 {
			return "", fmt.Errorf("extended attribute's name %q: possible are 1 to 255 bytes, none NUL", x.Name)
		}
		if i > 0 && list[i-1].Name >= x.Name {
			return "", fmt.Errorf("extended attribute %q out of order", x.Name)
		}
		if len(b)+5+len(x.Name)+len(x.Value) > format.MaxXattrs {
			return "", fmt.Errorf("extended attributes of more than %d bytes", format.MaxXattrs)
		}
		b = format.AppendXattr(b, x.Name, x.Value)
	}
	return string(b), nil
}

// linuxMode returns the st_mode of an io/fs mode.
func linuxMode(m fs.FileMode) (uint16, error) {
	mode := uint16(m.Perm())
	if m&fs.ModeSetuid != 0 {
		mode |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		mode |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	switch m.Type() {
	case 0:
		mode |= format.TypeFile
	case fs.ModeDir:
		mode |= format.TypeDir
	case fs.ModeSymlink:
		mode |= format.TypeLink
	case fs.ModeNamedPipe:
		mode |= format.TypeFifo
	case fs.ModeDevice:
		mode |= format.TypeBlock
	case fs.ModeDevice | fs.ModeCharDevice:
		mode |= format.TypeChar
	default:
		return 0, fmt.Errorf("a file of type %v cannot be in an image", m.Type())
	}
	return mode, nil
}

// fileMode is linuxMode's inverse; false where mode has no known type.
func fileMode(mode uint16) (fs.FileMode, bool) {
	m := fs.FileMode(mode & 0o777)
	if mode&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if mode&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if mode&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	switch mode & format.TypeMask {
	case format.TypeFile:
	case format.TypeDir:
		m |= fs.ModeDir
	case format.TypeLink:
		m |= fs.ModeSymlink
	case format.TypeFifo:
		m |= fs.ModeNamedPipe
	case format.TypeBlock:
		m |= fs.ModeDevice
	case format.TypeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	default:
		return m | fs.ModeIrregular, false
	}
	return m, true
}

// stringTable is the blocks of the strings table, each with its used bytes set.
type stringTable struct {
	buf []byte
	pos int // in the last block
}

func (t *stringTable) blocks() int { return len(t.buf) / format.BlockSize }

func (t *stringTable) grow() {
	t.buf = append(t.buf, make([]byte, format.BlockSize)...)
	t.pos = format.HeaderSize
}

// reserve is add of n bytes that fill sets later.
func (t *stringTable) reserve(n int) uint64 { return t.add(string(make([]byte, n)), false) }

func (t *stringTable) fill(addr uint64, p []byte) {
	for len(p) > 0 {
		n := copy(t.buf[addr:addr|(format.BlockSize-1)+1], p)
		p, addr = p[n:], format.Advance(addr, n)
	}
}

// add appends s, which is not empty, and returns its address; whole: within one block.
func (t *stringTable) add(s string, whole bool) uint64 {
	if room := format.BlockSize - t.pos; len(t.buf) == 0 || room == 0 || whole && room < len(s) {
		t.grow()
	}
	addr := uint64(t.blocks()-1)<<format.BlockLog | uint64(t.pos)
	for {
		last := t.buf[len(t.buf)-format.BlockSize:]
		n := copy(last[t.pos:], s)
		t.pos += n
		(*format.Header)(last).SetUsed(uint16(t.pos - format.HeaderSize))
		if s = s[n:]; s == "" {
			return addr
		}
		t.grow()
	}
}
