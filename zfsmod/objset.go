package zfsmod

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sort"
	"strconv"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
	"github.com/firstlight-boot/firstlight/zfsmod/format"
	"github.com/firstlight-boot/firstlight/zfsmod/zap"
)

// salt is that of every table: hashes need not be secret in what is made once.
const salt = 0x1f1257

// named writes a table of names as an object of its own and returns the dnode.
func (w *writer) named(typ int, list []zap.Entry, bonusType int, bonus []byte) (format.Dnode, error) {
	blocks, size, err := zap.Build(list, salt)
	if err != nil {
		return format.Dnode{}, fmt.Errorf("%w: %w", fsmod.ErrUnsupported, err)
	}
	return w.object(typ, blocks, size, bonusType, bonus)
}

// objset writes one object set: dnodes in the order of their numbers.
type objset struct {
	*writer
	attrs  bool // system attributes; older file systems have a fixed record
	nodes  blockTree
	block  []byte // dnodes that are not written yet
	first  uint64 // number of the first of block
	inUse  uint64 // dnodes in block
	total  uint64 // dnodes
	users  map[uint64]uint64
	groups map[uint64]uint64
}

func (w *writer) newObjset() *objset {
	return &objset{writer: w, nodes: blockTree{w: w, typ: format.TypeDnode}, block: make([]byte, dnodeBlock),
		users: map[uint64]uint64{}, groups: map[uint64]uint64{}}
}

// emit adds an object; numbers ascend.
func (o *objset) emit(number uint64, d *format.Dnode) error {
	for number >= o.first+perDnodeBlock {
		if err := o.flushDnodes(); err != nil {
			return err
		}
	}
	copy(o.block[(number-o.first)*format.DnodeSize:], d[:])
	o.inUse++
	o.total++
	return nil
}

func (o *objset) flushDnodes() error {
	var bp format.BP
	if o.inUse > 0 {
		var err error
		if bp, err = o.metadata(o.block, format.TypeDnode, 0, o.inUse); err != nil {
			return err
		}
	}
	clear(o.block)
	o.first += perDnodeBlock
	o.inUse = 0
	return o.nodes.add(bp)
}

// metaLevels are those that make room for as many objects as ZFS can number (dmu_objset_create_impl_dnstats), so that the tree
// need not grow.
const metaLevels = 7

// finish writes the rest of the dnodes and the object set itself. flags are those of its header.
func (o *objset) finish(kind uint64, levels int, user, group *format.Dnode) (format.BP, error) {
	if err := o.flushDnodes(); err != nil {
		return format.BP{}, err
	}
	var meta format.Dnode
	meta.Init(format.TypeDnode, dnodeBlock, indirectShift, format.TypeNone, nil)
	if err := o.nodes.finish(&meta, levels); err != nil {
		return format.BP{}, err
	}
	b := make([]byte, format.ObjsetSize)
	copy(b, meta[:])
	binary.LittleEndian.PutUint64(b[format.ObjsetType:], kind)
	if user != nil {
		binary.LittleEndian.PutUint64(b[format.ObjsetFlags:], 1) // what users and groups use is counted
		copy(b[format.ObjsetUserUsed:], user[:])
		copy(b[format.ObjsetGroupUsed:], group[:])
	}
	return o.metadata(b, format.TypeObjset, 0, o.total)
}

// file is what a file system's writer knows of an entry beforehand.
type file struct {
	object uint64
	parent uint64
	end    int // index behind the last entry below it
	links  uint64
}

// plan numbers the objects of a tree from first on. Extended attributes take a folder and a file each behind their file.
func plan(t *tree.Tree, first uint64) []file {
	files := make([]file, len(t.Entries))
	var stack []int
	next := first
	for i := range t.Entries {
		e := &t.Entries[i]
		for len(stack) > 0 && !within(t.Entries[stack[len(stack)-1]].Path, e.Path) {
			files[stack[len(stack)-1]].end = i
			stack = stack[:len(stack)-1]
		}
		f := &files[i]
		f.end = i + 1
		if e.HardLink != "" {
			first := sort.Search(i, func(k int) bool { return tree.Compare(t.Entries[k].Path, e.HardLink) >= 0 })
			files[first].links++
			f.object = files[first].object
			continue
		}
		f.object, f.links = next, 1
		f.parent = f.object
		next++
		if len(e.Xattrs) > 0 {
			next += 1 + uint64(len(e.Xattrs))
		}
		if len(stack) > 0 {
			parent := &files[stack[len(stack)-1]]
			f.parent = parent.object
			if e.Mode.IsDir() {
				parent.links++
			}
		}
		if e.Mode.IsDir() {
			f.links = 2
			stack = append(stack, i)
		}
	}
	for _, i := range stack {
		files[i].end = len(files)
	}
	return files
}

// within tells whether path lies below dir.
func within(dir, path string) bool {
	return dir == "." || len(path) > len(dir) && path[:len(dir)] == dir && path[len(dir)] == '/'
}

// fileSystem writes the object set of a file system that holds t.
func (w *writer) fileSystem(t *tree.Tree, attrs bool, p *packers, progress func(int64)) (bp format.BP, err error) {
	o := w.newObjset()
	o.attrs = attrs
	// What names the parts of the file system comes first.
	const master, queue, saMaster, saRegistry, saLayouts = 1, 2, 3, 4, 5
	root := uint64(queue + 1)
	list := []zap.Entry{
		zap.Number("VERSION", 4), zap.Number("DELETE_QUEUE", queue),
		zap.Number("utf8only", 0), zap.Number("normalization", 0), zap.Number("casesensitivity", 0),
	}
	if attrs {
		root = saLayouts + 1
		list[0] = zap.Number("VERSION", 5)
		list = append(list, zap.Number("SA_ATTRS", saMaster))
	}
	list = append(list, zap.Number("ROOT", root))
	if err := o.zap(master, format.TypeMasterNode, list); err != nil {
		return bp, err
	}
	if err := o.zap(queue, format.TypeUnlinkedSet, nil); err != nil {
		return bp, err
	}
	if attrs {
		if err := o.zap(saMaster, format.TypeSAMasterNode, []zap.Entry{zap.Number("REGISTRY", saRegistry), zap.Number("LAYOUTS", saLayouts)}); err != nil {
			return bp, err
		}
		if err := o.zap(saRegistry, format.TypeSAAttrRegistration, registry()); err != nil {
			return bp, err
		}
		if err := o.zap(saLayouts, format.TypeSAAttrLayouts, layoutTable()); err != nil {
			return bp, err
		}
	}
	files := plan(t, root)
	content := p.read(t)
	defer content.stop()
	for i := range t.Entries {
		if t.Entries[i].HardLink == "" {
			if err := o.file(t, files, i, p, content, progress); err != nil {
				return bp, err
			}
		}
	}
	var users, groups format.Dnode
	if users, err = o.accounts(o.users); err == nil {
		groups, err = o.accounts(o.groups)
	}
	if err != nil {
		return bp, err
	}
	return o.finish(format.ObjsetZFS, metaLevels, &users, &groups)
}

func (o *objset) zap(number uint64, typ int, list []zap.Entry) error {
	d, err := o.named(typ, list, format.TypeNone, nil)
	if err != nil {
		return err
	}
	return o.emit(number, &d)
}

// accounts is the object that says what users, or groups, use. Its use is not their own.
func (o *objset) accounts(used map[uint64]uint64) (format.Dnode, error) {
	var list []zap.Entry
	for _, id := range slices.Sorted(maps.Keys(used)) {
		list = append(list, zap.Number(strconv.FormatUint(id, 16), used[id]))
	}
	return o.named(format.TypeUserGroupUsed, list, format.TypeNone, nil)
}

// file writes one file with its extended attributes.
func (o *objset) file(t *tree.Tree, files []file, i int, p *packers, content *contents, progress func(int64)) error {
	e, f := &t.Entries[i], &files[i]
	z := newZnode(e, o.txg, o.dev)
	z.parent, z.links = f.parent, f.links
	if len(e.Xattrs) > 0 {
		z.xattr = f.object + 1
	}
	var err error
	tr := blockTree{w: o.writer, typ: format.TypePlainFile}
	blockSize := 512
	switch {
	case e.Mode.IsDir():
		tr.typ = format.TypeDirectory
		var list []zap.Entry
		for j := i + 1; j < f.end; j = files[j].end {
			c := &t.Entries[j]
			list = append(list, zap.Number(base(c.Path), uint64(tree.UnixMode(c.Mode))>>12<<60|files[j].object))
		}
		z.size = uint64(len(list)) + 2
		if blockSize, err = o.table(&tr, list); err != nil {
			err = fmt.Errorf("/%s: %w", e.Path, err)
		}
	case e.Mode.IsRegular():
		blockSize, err = o.content(&tr, e, p, content, progress)
	}
	if err != nil {
		return err
	}
	if err := o.znode(f.object, &z, &tr, blockSize); err != nil {
		return err
	}
	if len(e.Xattrs) == 0 {
		return nil
	}
	// The folder of extended attributes, and a file for each.
	dir := z
	dir.mode, dir.flags, dir.parent, dir.links, dir.xattr, dir.rdev, dir.link = modeDir|0o777, z.flags|flagXattr, f.object, 2, 0, 0, ""
	dir.size = uint64(len(e.Xattrs)) + 2
	var list []zap.Entry
	for k, x := range e.Xattrs {
		list = append(list, zap.Number(x.Name, modeReg>>12<<60|f.object+2+uint64(k)))
	}
	tr.typ = format.TypeDirectory
	if blockSize, err = o.table(&tr, list); err != nil {
		return err
	}
	if err := o.znode(f.object+1, &dir, &tr, blockSize); err != nil {
		return err
	}
	for k, x := range e.Xattrs {
		v := dir
		v.mode, v.parent, v.links, v.size = modeReg|0o666, f.object+1, 1, uint64(len(x.Value))
		tr.typ = format.TypePlainFile
		if blockSize, err = o.small(&tr, []byte(x.Value), p); err != nil {
			return err
		}
		if err := o.znode(f.object+2+uint64(k), &v, &tr, blockSize); err != nil {
			return err
		}
	}
	return nil
}

func base(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}

// table writes the blocks of a folder.
func (o *objset) table(tr *blockTree, list []zap.Entry) (blockSize int, err error) {
	blocks, size, err := zap.Build(list, salt)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", fsmod.ErrUnsupported, err)
	}
	for at := 0; at < len(blocks); at += size {
		bp, err := o.metadata(blocks[at:at+size], format.TypeDirectory, 0, 1)
		if err == nil {
			err = tr.add(bp)
		}
		if err != nil {
			return 0, err
		}
	}
	return size, nil
}

// content writes the blocks of a file's content, as they come out of the packers.
func (o *objset) content(tr *blockTree, e *tree.Entry, p *packers, c *contents, progress func(int64)) (blockSize int, err error) {
	blockSize = p.blockSize(e.Size)
	for at := int64(0); at < e.Size; at += int64(blockSize) {
		if err := o.ctx.Err(); err != nil { // of holes nothing is written that would tell
			return 0, err
		}
		d := <-c.ordered
		<-d.done
		err := d.err
		if err == nil {
			err = o.packed(tr, d, p)
		}
		p.free <- d
		if err != nil {
			return 0, err
		}
		progress(min(int64(blockSize), e.Size-at))
	}
	return blockSize, nil
}

// packed places a packed block of content.
func (o *objset) packed(tr *blockTree, d *data, p *packers) error {
	if d.stored == nil {
		return tr.add(format.BP{})
	}
	bp, err := o.place(d.stored, format.Props{Logical: len(d.content), Physical: len(d.stored), Compression: d.codec,
		Checksum: p.checksum, Type: format.TypePlainFile, Fill: 1, Sum: d.sum}, p.copies)
	if err != nil {
		return err
	}
	return tr.add(bp)
}

// small writes content that is in memory, in blocks of a file's.
func (o *objset) small(tr *blockTree, content []byte, p *packers) (blockSize int, err error) {
	blockSize = p.blockSize(int64(len(content)))
	for at := 0; at < len(content); at += blockSize {
		block := make([]byte, blockSize)
		copy(block, content[at:])
		d := data{content: block, packed: make([]byte, blockSize)}
		p.pack(&o.packer, &d)
		if err := o.packed(tr, &d, p); err != nil {
			return 0, err
		}
	}
	return blockSize, nil
}

func sectors(n int) int { return max((n+511)&^511, 512) }

// znode ends an object: its dnode with the attributes of the file.
func (o *objset) znode(number uint64, z *znode, tr *blockTree, blockSize int) error {
	var bonus, spill []byte
	bonusType := format.TypeSA
	if o.attrs {
		bonus, spill = z.attrs()
	} else {
		bonusType = format.TypeZnode
		inside := false
		if bonus, inside = z.old(); !inside { // the target of a link is its content
			block := make([]byte, sectors(len(z.link)))
			copy(block, z.link)
			blockSize = len(block)
			bp, err := o.metadata(block, format.TypePlainFile, 0, 1)
			if err == nil {
				err = tr.add(bp)
			}
			if err != nil {
				return err
			}
		}
	}
	var d format.Dnode
	d.Init(tr.typ, blockSize, indirectShift, bonusType, bonus)
	flags := format.DnodeUsedBytes | format.DnodeUserAccounted
	if spill != nil {
		flags |= format.DnodeSpill
		bp, err := o.metadata(append(spill, make([]byte, -len(spill)&511)...), format.TypeSA, 0, 1)
		if err != nil {
			return err
		}
		*(*format.BP)(d[format.DnodeSize-format.BPSize:]) = bp
		for i := range 3 {
			d.SetUsed(d.Used() + uint64(bp.DVA(i).Size))
		}
	}
	d.SetFlags(flags)
	if err := tr.finish(&d, 1); err != nil {
		return err
	}
	o.users[z.uid] += d.Used() + format.DnodeSize
	o.groups[z.gid] += d.Used() + format.DnodeSize
	return o.emit(number, &d)
}

// recordSize is the largest block that every version knows.
const recordSize = 128 << 10

// contents are the blocks of a tree's files in order, read ahead.
type contents struct {
	ordered chan *data
	quit    chan struct{}
	ended   chan struct{}
}

func (p *contentProps) blockSize(size int64) int { return sectors(int(min(size, int64(p.record)))) }

func (c *contents) stop() {
	close(c.quit)
	<-c.ended
}

// read starts reading.
func (p *packers) read(t *tree.Tree) *contents {
	c := &contents{ordered: make(chan *data, cap(p.free)), quit: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		for i := range t.Entries {
			e := &t.Entries[i]
			if e.Mode.IsRegular() && e.HardLink == "" && e.Size > 0 && !c.file(p, e) {
				return
			}
		}
	}()
	return c
}

// file sends the blocks of one file; false means that there is no use in more.
func (c *contents) file(p *packers, e *tree.Entry) bool {
	var r io.ReadCloser
	var err error
	if e.Source == nil {
		err = &fs.PathError{Op: "read", Path: e.Path, Err: io.ErrUnexpectedEOF}
	} else {
		r, err = e.Source()
	}
	size := p.blockSize(e.Size)
	for at := int64(0); at < e.Size; at += int64(size) {
		var d *data
		select {
		case d = <-p.free:
		case <-c.quit:
			if r != nil {
				r.Close()
			}
			return false
		}
		d.content, d.err = d.content[:size], err
		n := int(min(int64(size), e.Size-at))
		last := at+int64(n) == e.Size
		if err == nil {
			_, d.err = io.ReadFull(r, d.content[:n])
			clear(d.content[n:])
			if last {
				if d.err == nil {
					d.err = end(r)
				}
				if cerr := r.Close(); d.err == nil {
					d.err = cerr
				}
			}
		}
		if d.err != nil {
			d.err = fmt.Errorf("%s: %w", e.Path, d.err)
		}
		failed := d.err != nil
		c.ordered <- d // has room for all there are
		p.in <- d
		if failed {
			if r != nil && !last {
				r.Close()
			}
			return false
		}
	}
	return true
}

// end reads what must be the end: a source checks there that the file did not change.
func end(r io.Reader) error {
	var b [1]byte
	if n, err := r.Read(b[:]); n > 0 || err != io.EOF {
		if err == nil {
			err = tree.ErrChanged
		}
		return err
	}
	return nil
}
