package rofs

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/tree"
)

// LostFound is the directory that receives what lost its name, under its inode number.
const LostFound = "lost+found"

// Lost is what a damaged image has no more, or not for certain.
type Lost struct {
	Path           string // where it is, or was, as fs.FS has it; "" of what has no place in the tree
	Inode          uint32 // 0 of what is no inode
	Offset, Length int64  // the range of the content, where it is about that
	Why            string
}

func (l Lost) String() string {
	what := "/" + l.Path
	switch {
	case l.Path == "" && l.Inode != 0:
		what = fmt.Sprintf("inode %d", l.Inode)
	case l.Path == "":
		return l.Why
	case l.Path == ".":
		what = "/"
	}
	if l.Length > 0 {
		return fmt.Sprintf("%s: bytes %d-%d: %s", what, l.Offset, l.Offset+l.Length-1, l.Why)
	}
	return what + ": " + l.Why
}

// Recovered is what is left of a damaged image.
type Recovered struct {
	Offset int64      // where the image begins in the file
	Others []int64    // where other images begin, which were left aside
	Tree   *tree.Tree // everything that has a name or an inode, in an order that can be made; without Sources: Content has that
	Lost   []Lost     // without what Content finds

	m      *remains
	inodes map[string]uint32 // of the files in Tree, by path
	buf    []byte
}

// Recover finds a ROFS image in the size bytes of r, wherever it begins and whatever of it is damaged, and puts its tree together
// from the metadata blocks that are left. Where there is more than one image, it takes the first, or the one that begins at offset
// if that is not negative. Its error is ctx's, or wraps ErrNothing.
func Recover(ctx context.Context, r io.ReaderAt, size, offset int64) (*Recovered, error) {
	s, err := scanFile(ctx, r, size)
	if err != nil {
		return nil, err
	}
	var bases []int64
	for base, votes := range s.votes {
		if votes > 1 {
			bases = append(bases, base)
		}
	}
	if len(bases) == 0 { // an image of a single inode, perhaps
		for base := range s.votes {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	if offset >= 0 {
		bases = slices.DeleteFunc(bases, func(b int64) bool { return b == offset })
		bases = slices.Insert(bases, 0, offset)
	}
	if len(bases) == 0 {
		return nil, fmt.Errorf("%w: no superblock and no inode in %d bytes", ErrNothing, size)
	}
	m, err := newRemains(r, size, s, bases[0])
	if err != nil {
		return nil, err
	}
	b := &rebuilder{ctx: ctx, m: m, links: map[uint32][]link{}, parents: map[uint32]uint32{}}
	out := &Recovered{Offset: bases[0], Others: bases[1:], m: m, inodes: map[string]uint32{}}
	if err := b.build(out); err != nil {
		return nil, err
	}
	return out, nil
}

// link is a name that an inode has.
type link struct {
	dir  uint32
	name string
	typ  uint8
}

type rebuilder struct {
	ctx     context.Context
	m       *remains
	runs    []dirRun          // of directories in the dirent table, in their order
	links   map[uint32][]link // by inode: its names
	parents map[uint32]uint32 // of inodes that are left
	dirs    map[uint32]string // paths of directories
	unnamed map[uint32]bool   // directories that lost their name
	taken   map[string]bool   // paths
	found   string            // where what is nameless goes
}

type dirRun struct {
	first, end uint64
	ino        uint32
}

// inode reads an inode that is left.
func (m *remains) inode(ino uint32) (n format.Inode, ok bool) {
	b := m.record(format.Inodes, uint64(ino)-1)
	if b == nil {
		return n, false
	}
	n = format.Inode(b)
	_, known := fileMode(n.Mode())
	switch {
	case !known || n.Magic() != format.InodeMagic || n.Ino() != ino:
		return n, false
	case n.Type() == format.TypeFile:
		return n, n.ClusterLog() >= format.MinClusterLog && n.ClusterLog() <= format.MaxClusterLog && n.Size() <= 1<<62 && n.Layout() <= format.LayoutInline
	case n.Type() == format.TypeLink:
		return n, n.Size() <= format.MaxLink
	}
	return n, true
}

// name returns the name of a dirent that is left.
func (m *remains) name(d *format.Dirent) (string, bool) {
	addr, n := d.Name()
	b := m.block(format.Strings, uint32(min(addr>>format.BlockLog, math.MaxUint32)))
	at := int(addr & (format.BlockSize - 1))
	if b == nil || at < format.HeaderSize || at+n > len(b) {
		return "", false
	}
	name := string(b[at : at+n])
	return name, format.Hash(name) == d.Hash() && checkName(name) == nil && !strings.Contains(name, "/")
}

// build puts the tree together.
func (b *rebuilder) build(out *Recovered) error {
	total := b.m.super.Count(format.Inodes)
	for ino := uint32(1); ino <= total; ino++ {
		if ino&0xfff == 0 && b.ctx.Err() != nil {
			return context.Cause(b.ctx)
		}
		n, ok := b.m.inode(ino)
		if !ok {
			continue
		}
		b.parents[ino] = n.Parent()
		if n.Type() == format.TypeDir && n.Count() > 0 {
			b.runs = append(b.runs, dirRun{n.First(), n.First() + uint64(n.Count()), ino})
		}
	}
	slices.SortFunc(b.runs, func(x, y dirRun) int { return cmp.Or(cmp.Compare(x.first, y.first), cmp.Compare(x.ino, y.ino)) })
	if err := b.names(); err != nil {
		return err
	}
	b.place(out, total)
	for t := range format.NumTables {
		for i := range b.m.blocks[t] {
			if b.m.block(t, i); b.m.states[t][i] != whole {
				what := "lost"
				if b.m.states[t][i] == damaged {
					what = "damaged; what comes from it may be wrong where nothing else tells"
				}
				off := b.m.start[t] + int64(i)<<format.BlockLog
				out.Lost = append(out.Lost, Lost{Why: fmt.Sprintf("block %d of the %s, at byte %d of the file, is %s", i, structures[t], off, what)})
			}
		}
	}
	return nil
}

// names gives each inode its names. A name that lies in no directory's run belongs to one that is lost: its inode knows which, if
// that has but one name; if not, its neighbours, which are sorted by hash within a directory, tell.
func (b *rebuilder) names() error {
	runs := b.runs
	var before format.Dirent
	last := uint32(0) // the directory of the dirent before this one, if that is lost
	for i := uint64(0); i < uint64(b.m.super.Count(format.Dirents)); i++ {
		if i&0xfff == 0 && b.ctx.Err() != nil {
			return context.Cause(b.ctx)
		}
		for len(runs) > 0 && runs[0].end <= i {
			runs = runs[1:]
		}
		rec := b.m.record(format.Dirents, i)
		if rec == nil {
			last = 0
			continue
		}
		d := format.Dirent(rec)
		name, ok := b.m.name(&d)
		if !ok || d.Ino() == 0 || d.Ino() == format.RootIno {
			continue
		}
		dir := uint32(0)
		if len(runs) > 0 && runs[0].first <= i {
			dir, last = runs[0].ino, 0
		} else {
			n, ok := b.m.inode(d.Ino())
			switch {
			case ok && (n.Type() == format.TypeDir || n.Nlink() == 1 || last == 0 || d.Hash() < before.Hash()):
				dir = n.Parent()
			case last != 0 && d.Hash() >= before.Hash():
				dir = last
			}
			last, before = dir, d
		}
		b.links[d.Ino()] = append(b.links[d.Ino()], link{dir, name, d.Type()})
	}
	return nil
}

// dir returns the path of a directory, which it thereby has, whether its inode is left or not.
func (b *rebuilder) dir(ino uint32) string {
	if ino == format.RootIno {
		return "."
	}
	if p, ok := b.dirs[ino]; ok {
		return p
	}
	p := ""
	for _, l := range b.links[ino] {
		// A directory's number is above its parent's, so that this ends.
		if l.dir != 0 && l.dir < ino && l.typ == format.TypeDir>>12 {
			p = b.free(path.Join(b.dir(l.dir), l.name))
			break
		}
	}
	if p == "" {
		p = b.nameless(ino)
		b.unnamed[ino] = true
	}
	b.dirs[ino] = p
	return p
}

// free returns p if nothing has that path yet, or "".
func (b *rebuilder) free(p string) string {
	if b.taken[p] {
		return ""
	}
	b.taken[p] = true
	return p
}

// nameless returns the path of what lost its name.
func (b *rebuilder) nameless(ino uint32) string {
	base := b.found + "/" + strconv.FormatUint(uint64(ino), 10)
	p := base
	for i := 1; b.free(p) == ""; i++ {
		p = base + "." + strconv.Itoa(i)
	}
	return p
}

// place makes the tree's entries of inodes and names.
func (b *rebuilder) place(out *Recovered, total uint32) {
	b.dirs, b.unnamed, b.taken, b.found = map[uint32]string{}, map[uint32]bool{}, map[string]bool{".": true}, LostFound
	for _, links := range b.links { // the image may have a file of that name
		if slices.ContainsFunc(links, func(l link) bool {
			return l.dir == format.RootIno && l.name == LostFound && l.typ != format.TypeDir>>12
		}) {
			b.found += ".recovered"
		}
	}
	lose := func(l Lost) { out.Lost = append(out.Lost, l) }
	entries := []tree.Entry{{Path: ".", Mode: 0o755 | fs.ModeDir, ModTime: time.Unix(0, 0)}}
	if n, ok := b.m.inode(format.RootIno); ok && n.Type() == format.TypeDir {
		entries[0] = b.entry(out, ".", format.RootIno, &n)
	} else {
		lose(Lost{Path: ".", Inode: format.RootIno, Why: "its inode is lost: its owner, mode and time"})
	}

	// Directories first, those that are lost among them: children and names tell of them.
	dirs := map[uint32]bool{}
	for ino := range b.parents {
		if n, ok := b.m.inode(ino); ok && n.Type() == format.TypeDir {
			dirs[ino] = true
		}
	}
	for ino, links := range b.links {
		for _, l := range links {
			if l.dir != 0 {
				dirs[l.dir] = true
			}
			if l.typ == format.TypeDir>>12 {
				if _, ok := b.parents[ino]; !ok {
					dirs[ino] = true
				}
			}
		}
	}
	order := make([]uint32, 0, len(dirs))
	for ino := range dirs {
		if ino != format.RootIno {
			order = append(order, ino)
		}
	}
	slices.Sort(order)
	for _, ino := range order {
		p := b.dir(ino)
		n, ok := b.m.inode(ino)
		if ok = ok && n.Type() == format.TypeDir; ok {
			entries = append(entries, b.entry(out, p, ino, &n))
		} else {
			entries = append(entries, tree.Entry{Path: p, Mode: 0o755 | fs.ModeDir, ModTime: time.Unix(0, 0)})
			lose(Lost{Path: p, Inode: ino, Why: "its inode is lost: its owner, mode and time"})
		}
		if b.unnamed[ino] {
			lose(Lost{Path: p, Inode: ino, Why: "the directory lost its name"})
		}
	}

	for ino := uint32(2); ino <= total; ino++ {
		n, ok := b.m.inode(ino)
		if !ok || n.Type() == format.TypeDir {
			continue
		}
		var names []string
		for _, l := range b.links[ino] {
			if l.dir != 0 && l.typ != format.TypeDir>>12 {
				if p := b.free(path.Join(b.dir(l.dir), l.name)); p != "" {
					names = append(names, p)
				}
			}
		}
		found := uint32(len(names))
		if found == 0 {
			names = append(names, b.nameless(ino))
		}
		slices.SortFunc(names, comparePaths) // a hard link comes after what it is to
		first := names[0]
		e := b.entry(out, first, ino, &n)
		entries = append(entries, e)
		for _, p := range names[1:] {
			e.Path, e.HardLink = p, first
			entries = append(entries, e)
		}
		if n.Type() == format.TypeFile {
			out.inodes[first] = ino
		}
		if found < n.Nlink() {
			lose(Lost{Path: first, Inode: ino, Why: fmt.Sprintf("%d of its names, of which it had %d, are lost", n.Nlink()-found, n.Nlink())})
		}
	}

	// What has a name and no inode.
	for ino, links := range b.links {
		if _, ok := b.parents[ino]; ok || dirs[ino] {
			continue
		}
		for _, l := range links {
			p := l.name
			if l.dir != 0 {
				p = path.Join(b.dir(l.dir), l.name)
			}
			lose(Lost{Path: p, Inode: ino, Why: "its inode is lost, and with it the content"})
		}
	}
	if slices.ContainsFunc(entries, func(e tree.Entry) bool { return strings.HasPrefix(e.Path, b.found+"/") }) && b.free(b.found) != "" {
		entries = append(entries, tree.Entry{Path: b.found, Mode: 0o755 | fs.ModeDir, ModTime: time.Unix(0, 0)})
	}
	slices.SortFunc(entries[1:], func(x, y tree.Entry) int { return comparePaths(x.Path, y.Path) })
	slices.SortFunc(out.Lost, func(x, y Lost) int {
		return cmp.Or(comparePaths(x.Path, y.Path), cmp.Compare(x.Inode, y.Inode), strings.Compare(x.Why, y.Why))
	})
	out.Tree = &tree.Tree{Entries: entries}
}

// comparePaths orders a directory before what is in it, and that before what follows the directory.
func comparePaths(a, b string) int {
	return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
}
