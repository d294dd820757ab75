package zfsmod

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"slices"
	"strconv"

	"github.com/firstlight-boot/firstlight/tree"
	"github.com/firstlight-boot/firstlight/zfsmod/format"
	"github.com/firstlight-boot/firstlight/zfsmod/nvlist"
	"github.com/firstlight-boot/firstlight/zfsmod/zap"
)

// Versions of pools (spa_impl.h).
const (
	versionDeadlists = 26 // what was freed is in tables, and clones are listed
	versionSA        = 24 // files have system attributes
	versionFeatures  = 5000
)

const lz4Feature = "org.illumos:lz4_compress"

// poolTxg is the transaction group that all is written in; originTxg that of the snapshot that every file system comes from.
const (
	poolTxg   = 5
	originTxg = 1
)

// dataset is a file system of the pool while it is written.
type dataset struct {
	name     string // as "pool/a/b"
	props    []zap.Entry
	tree     *tree.Tree
	content  contentProps
	bp       format.BP
	space    space
	children []*dataset
	// Objects.
	dir, head uint64
}

// total is what the file system and those below it take.
func (d *dataset) total() (s space) {
	s.add(d.space)
	for _, c := range d.children {
		s.add(c.total())
	}
	return s
}

// pool is what the parts of a pool's own object set share.
type pool struct {
	*writer
	name    string
	version uint64
	lz4     bool // the feature is in use
	vdev    nvlist.List
	path    string // of the vdev
	disk    bool   // and not a file
	root    *dataset
	bootfs  *dataset
	created uint64                // seconds
	seed    [32]byte              // of GUIDs
	extra   func(end int64) int64 // from the end of what is allocated to the size of the whole

	objects map[uint64]*format.Dnode
	next    uint64
	dirs    []func(mos space) // fill in what can be said when all is counted
}

// guid is a number of the pool's own for each use.
func (p *pool) guid(of string) uint64 {
	h := sha256.Sum256(append(p.seed[:], of...))
	return binary.LittleEndian.Uint64(h[:])>>1 | 1
}

// add gives an object a number.
func (p *pool) add(d format.Dnode, err error) (uint64, error) {
	p.next++
	p.objects[p.next] = &d
	return p.next, err
}

func (p *pool) zap(typ int, list []zap.Entry) (uint64, error) {
	return p.add(p.named(typ, list, format.TypeNone, nil))
}

// set replaces an object whose number was taken before.
func (p *pool) set(number uint64, typ int, list []zap.Entry) error {
	d, err := p.named(typ, list, format.TypeNone, nil)
	p.objects[number] = &d
	return err
}

func words(v ...uint64) (b []byte) {
	for _, w := range v {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// bpobj is an empty list of block pointers.
func (p *pool) bpobj() (uint64, error) {
	n := 32
	if p.version >= versionDeadlists {
		n = 48
	}
	return p.add(p.object(format.TypeBpobj, nil, recordSize, format.TypeBpobjHeader, make([]byte, n)))
}

// deadlist is the list of what was freed since the last snapshot: one for each snapshot before.
func (p *pool) deadlist(since ...uint64) (uint64, error) {
	if p.version < versionDeadlists {
		return p.bpobj()
	}
	var list []zap.Entry
	for _, txg := range since {
		o, err := p.bpobj()
		if err != nil {
			return 0, err
		}
		list = append(list, zap.Number(strconv.FormatUint(txg, 16), o))
	}
	return p.add(p.named(format.TypeDeadlist, list, format.TypeDeadlistHeader, make([]byte, 320)))
}

// dslDir makes a directory of datasets; dsl_dir_phys_t is its bonus. Its use is filled in at the end.
func (p *pool) dslDir(parent, props, children uint64) (uint64, error) {
	return p.add(p.object(format.TypeDSLDir, nil, 512, format.TypeDSLDir, words(
		p.created, 0, parent, 0, children, 0, 0, 0, 0, 0, props, 0, 1, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)))
}

// Words of a dsl_dir_phys_t and a dsl_dataset_phys_t that are set late.
const (
	dirHead, dirOrigin, dirUsed, dirBreakdown, dirClones    = 1, 3, 5, 13, 18
	setNext, setChildren, setClones, setBP, setSpace, setID = 3, 5, 32, 16, 9, 13
)

func (p *pool) setWord(object uint64, word int, v uint64) {
	binary.LittleEndian.PutUint64(p.objects[object].Bonus()[8*word:], v)
}

// dslDataset makes a dataset; dsl_dataset_phys_t is its bonus.
func (p *pool) dslDataset(name string, dir, prev, prevTxg, snapshots, created, deadlist uint64, s space, bp format.BP) (uint64, error) {
	b := words(dir, prev, prevTxg, 0, snapshots, 0, p.created, created, deadlist, s.used, s.packed, s.content, s.used,
		p.guid("fsid "+name)>>8, p.guid(name), 4) // 4: what is unique is exact
	b = append(b, bp[:]...)
	return p.add(p.object(format.TypeDSLDataset, nil, 512, format.TypeDSLDataset, append(b, make([]byte, 64)...)))
}

// emptyDir makes a directory without a dataset, but for its own tables.
func (p *pool) emptyDir(parent uint64) (uint64, error) {
	props, err := p.zap(format.TypeDSLProps, nil)
	if err != nil {
		return 0, err
	}
	children, err := p.zap(format.TypeDSLDirChildMap, nil)
	if err != nil {
		return 0, err
	}
	return p.dslDir(parent, props, children)
}

// write writes the pool's own object set behind the file systems, then its labels. It returns the size of the whole.
func (p *pool) write() (int64, error) {
	p.objects = map[uint64]*format.Dnode{}
	p.copies = 3
	p.count = space{}
	// What is found by number 1, and has to be known first.
	directory, err := p.add(format.Dnode{}, nil)
	if err != nil {
		return 0, err
	}
	rootChildren, err := p.add(format.Dnode{}, nil)
	if err != nil {
		return 0, err
	}
	rootProps, err := p.zap(format.TypeDSLProps, p.root.props)
	if err != nil {
		return 0, err
	}
	if p.root.dir, err = p.dslDir(0, rootProps, rootChildren); err != nil {
		return 0, err
	}
	mosDir, err := p.emptyDir(p.root.dir)
	if err != nil {
		return 0, err
	}
	children := []zap.Entry{zap.Number("$MOS", mosDir)}
	names := []zap.Entry{zap.Number("root_dataset", p.root.dir), zap.Number("deflate", 1), zap.Number("creation_version", p.version)}
	if p.version >= versionDeadlists {
		free, err := p.emptyDir(p.root.dir)
		if err != nil {
			return 0, err
		}
		children = append(children, zap.Number("$FREE", free))
		list, err := p.bpobj()
		if err != nil {
			return 0, err
		}
		names = append(names, zap.Number("free_bpobj", list))
	}
	originDir, snapshot, err := p.origin()
	if err != nil {
		return 0, err
	}
	children = append(children, zap.Number("$ORIGIN", originDir))
	var clones []*dataset
	if err := p.datasets(p.root, snapshot, &clones); err != nil {
		return 0, err
	}
	for _, c := range p.root.children {
		children = append(children, zap.Number(base(c.name), c.dir))
	}
	if err := p.set(rootChildren, format.TypeDSLDirChildMap, children); err != nil {
		return 0, err
	}
	if err := p.clones(originDir, snapshot, clones); err != nil {
		return 0, err
	}
	more, err := p.names()
	if err != nil {
		return 0, err
	}
	names = append(names, more...)
	// What comes now says how much is allocated, its own room included. It is not compressed, so that its size is known; whether
	// there is room for one more space map changes it.
	p.meta = format.CompressOff
	kept := maps.Clone(p.objects)
	end, ends := p.writer.next, p.filled
	for {
		trial := *p
		w := *p.writer
		w.w, w.buf, w.at, w.filled = nowhere{}, nil, w.next, slices.Clip(w.filled)
		trial.writer, trial.objects = &w, maps.Clone(kept)
		if _, err := trial.tail(directory, mosDir, names, end, ends); err != nil {
			return 0, err
		}
		if w.next == end {
			break
		}
		end, ends = w.next, w.filled
	}
	bp, err := p.tail(directory, mosDir, names, end, ends)
	if err != nil {
		return 0, err
	}
	if err := p.flush(); err != nil {
		return 0, err
	}
	return p.labels(bp, end)
}

type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// origin makes the empty snapshot that every file system is a clone of.
func (p *pool) origin() (dir, snapshot uint64, err error) {
	if dir, err = p.emptyDir(p.root.dir); err != nil {
		return 0, 0, err
	}
	names, err := p.add(format.Dnode{}, nil)
	if err != nil {
		return 0, 0, err
	}
	dead, err := p.deadlist()
	if err != nil {
		return 0, 0, err
	}
	if snapshot, err = p.dslDataset("$ORIGIN@$ORIGIN", dir, 0, 0, 0, originTxg, dead, space{}, format.BP{}); err != nil {
		return 0, 0, err
	}
	if err := p.set(names, format.TypeDSLDatasetSnapMap, []zap.Entry{zap.Number("$ORIGIN", snapshot)}); err != nil {
		return 0, 0, err
	}
	if dead, err = p.deadlist(originTxg); err != nil {
		return 0, 0, err
	}
	head, err := p.dslDataset("$ORIGIN", dir, snapshot, originTxg, names, originTxg, dead, space{}, format.BP{})
	if err != nil {
		return 0, 0, err
	}
	p.setWord(dir, dirHead, head)
	p.setWord(snapshot, setNext, head)
	return dir, snapshot, nil
}

// datasets makes d's dataset, whose directory is there, and all below it.
func (p *pool) datasets(d *dataset, snapshot uint64, clones *[]*dataset) error {
	snapshots, err := p.zap(format.TypeDSLDatasetSnapMap, nil)
	if err != nil {
		return err
	}
	dead, err := p.deadlist()
	if err != nil {
		return err
	}
	if d.head, err = p.dslDataset(d.name, d.dir, snapshot, originTxg, snapshots, originTxg, dead, d.space, d.bp); err != nil {
		return err
	}
	p.setWord(d.dir, dirHead, d.head)
	p.setWord(d.dir, dirOrigin, snapshot)
	*clones = append(*clones, d)
	p.dirs = append(p.dirs, func(mos space) {
		total := d.total()
		if d == p.root {
			total.add(mos)
		}
		for i, v := range []uint64{total.used, total.packed, total.content} {
			p.setWord(d.dir, dirUsed+i, v)
		}
		p.setWord(d.dir, dirBreakdown, d.space.used)
		p.setWord(d.dir, dirBreakdown+2, total.used-d.space.used) // children
	})
	for _, c := range d.children {
		props, err := p.zap(format.TypeDSLProps, c.props)
		if err != nil {
			return err
		}
		table, err := p.add(format.Dnode{}, nil)
		if err != nil {
			return err
		}
		if c.dir, err = p.dslDir(d.dir, props, table); err != nil {
			return err
		}
		if err := p.datasets(c, snapshot, clones); err != nil {
			return err
		}
		var list []zap.Entry
		for _, g := range c.children {
			list = append(list, zap.Number(base(g.name), g.dir))
		}
		if err := p.set(table, format.TypeDSLDirChildMap, list); err != nil {
			return err
		}
	}
	return nil
}

// clones lists them where ZFS looks for them.
func (p *pool) clones(originDir, snapshot uint64, clones []*dataset) error {
	var list []zap.Entry
	for _, c := range clones {
		list = append(list, zap.Number(strconv.FormatUint(c.head, 16), c.head))
	}
	next, err := p.zap(format.TypeNextClones, list)
	if err != nil {
		return err
	}
	p.setWord(snapshot, setClones, next)
	p.setWord(snapshot, setChildren, uint64(1+len(clones)))
	if p.version < versionDeadlists {
		return nil
	}
	of, err := p.zap(format.TypeDSLClones, list)
	p.setWord(originDir, dirClones, of)
	return err
}

// names are further objects of the directory.
func (p *pool) names() (list []zap.Entry, err error) {
	add := func(name string, typ int, entries []zap.Entry) {
		if err == nil {
			var o uint64
			o, err = p.zap(typ, entries)
			list = append(list, zap.Number(name, o))
		}
	}
	if p.version >= versionFeatures {
		var read, text []zap.Entry
		if p.lz4 {
			read = append(read, zap.Number(lz4Feature, 1))
			text = append(text, zap.Text(lz4Feature, "LZ4 compression algorithm support."))
		}
		add("features_for_read", format.TypeZapMetadata, read)
		add("features_for_write", format.TypeZapMetadata, nil)
		add("feature_descriptions", format.TypeZapMetadata, text)
	}
	if p.bootfs != nil {
		add("pool_props", format.TypePoolProps, []zap.Entry{zap.Number("bootfs", p.bootfs.head)})
	}
	if err != nil {
		return nil, err
	}
	o, err := p.bpobj()
	if err != nil {
		return nil, err
	}
	list = append(list, zap.Number("sync_bplist", o))
	// One record of the history: its length and a list.
	record := nvlist.Pack(nvlist.List{{Name: "history time", Value: p.created}, {Name: "history command", Value: "imgbuild --fs zfs"}})
	history := append(words(uint64(len(record))), record...)
	o, err = p.add(p.object(format.TypeHistory, history, recordSize, format.TypeHistoryOffsets,
		words(uint64(len(history)), recordSize, uint64(len(history)), uint64(len(history)), 0)))
	return append(list, zap.Number("history", o)), err
}

// slabShift says how large metaslabs are, as a base-2 logarithm, where about so many bytes are to be allocated: dozens, but none
// smaller than 1 MiB.
func slabShift(bytes int64) uint {
	return max(20, uint(bits.Len64(uint64(bytes/32))))
}

// sizes returns the size of the whole, and what of it can be allocated, when the first end bytes of that are.
func (p *pool) sizes(end int64) (size, asize int64) {
	const around = format.DataStart + format.DataEnd
	end = (end + 1<<p.slab - 1) >> p.slab << p.slab // only whole metaslabs are used
	size = max(p.extra(end+around), end+around, format.MinVdevSize)
	size = (size + format.LabelSize - 1) &^ (format.LabelSize - 1)
	return size, size - around
}

// tail writes what depends on how much is allocated, which is the first end bytes, and returns the pointer to the object set.
func (p *pool) tail(directory, mosDir uint64, names []zap.Entry, end int64, ends []int64) (bp format.BP, err error) {
	_, asize := p.sizes(end)
	count := asize >> p.slab
	array := make([]byte, (count*8+511)&^511)
	for i := int64(0); i<<p.slab < end; i++ {
		full := end - i<<p.slab
		if full > 1<<p.slab {
			full = ends[i]
		}
		entries := spaceMap(uint64(full) >> p.ashift)
		header := words(p.next+1, uint64(len(entries)), uint64(full))
		o, err := p.add(p.object(format.TypeSpaceMap, entries, 4096, format.TypeSpaceMapHeader, header))
		if err != nil {
			return bp, err
		}
		binary.LittleEndian.PutUint64(array[8*i:], o)
	}
	slabs, err := p.add(p.object(format.TypeObjectArray, array, min(len(array), recordSize), format.TypeNone, nil))
	if err != nil {
		return bp, err
	}
	p.vdev = nvlist.List{{Name: "type", Value: "file"}, {Name: "id", Value: uint64(0)}, {Name: "guid", Value: p.guid("vdev")}, {Name: "path", Value: p.path}}
	if p.disk {
		p.vdev[0].Value = "disk"
		p.vdev = append(p.vdev, nvlist.Pair{Name: "whole_disk", Value: uint64(0)})
	}
	p.vdev = append(p.vdev, nvlist.List{{Name: "metaslab_array", Value: slabs}, {Name: "metaslab_shift", Value: uint64(p.slab)},
		{Name: "ashift", Value: uint64(p.ashift)}, {Name: "asize", Value: uint64(asize)}, {Name: "is_log", Value: uint64(0)},
		{Name: "create_txg", Value: uint64(poolTxg - 1)}}...)
	packed := nvlist.Pack(append(p.config(), nvlist.Pair{Name: "vdev_tree", Value: nvlist.List{
		{Name: "type", Value: "root"}, {Name: "id", Value: uint64(0)}, {Name: "guid", Value: p.guid("pool")},
		{Name: "create_txg", Value: uint64(poolTxg - 1)}, {Name: "children", Value: []nvlist.List{p.vdev}}}}))
	config, err := p.add(p.object(format.TypePackedNvlist, packed, sectors(len(packed)), format.TypePackedNvlistSize, words(uint64(len(packed)))))
	if err != nil {
		return bp, err
	}
	if err := p.set(directory, format.TypeObjectDirectory, append(slices.Clone(names), zap.Number("config", config))); err != nil {
		return bp, err
	}
	return p.objset(mosDir, end)
}

// objset writes the dnodes. What the whole pool's own objects take is said in two of them, and is known when they are placed.
func (p *pool) objset(mosDir uint64, end int64) (bp format.BP, err error) {
	blocks := (p.next + perDnodeBlock) / perDnodeBlock
	nodes := int64(blocks) * dnodeBlock
	for blocks > 3 {
		blocks = (blocks + perIndirect - 1) / perIndirect
		nodes += int64(blocks) << indirectShift
	}
	mos := p.count
	mos.packed += uint64(nodes) + format.ObjsetSize
	mos.content += uint64(nodes) + format.ObjsetSize
	align := func(n int64) uint64 { return uint64((n + 1<<p.ashift - 1) >> p.ashift << p.ashift) }
	mos.used += 3 * (align(nodes) + align(format.ObjsetSize))
	for i, v := range []uint64{mos.used, mos.packed, mos.content} {
		p.setWord(mosDir, dirUsed+i, v)
	}
	p.setWord(mosDir, dirBreakdown, mos.used)
	for _, fill := range p.dirs {
		fill(mos)
	}
	o := p.newObjset()
	for _, n := range slices.Sorted(maps.Keys(p.objects)) {
		if err := o.emit(n, p.objects[n]); err != nil {
			return bp, err
		}
	}
	if bp, err = o.finish(format.ObjsetMeta, 1, nil, nil); err == nil && p.count != mos {
		err = fmt.Errorf("zfsmod: the pool's own objects take %+v, not %+v", p.count, mos)
	}
	return bp, err
}

// spaceMap says that the first n units of a metaslab are allocated: runs of at most 2^15 (space_map.h, the entries that every
// version reads).
func spaceMap(n uint64) (b []byte) {
	for at := uint64(0); at < n; {
		run := min(n-at, 1<<15)
		b = binary.LittleEndian.AppendUint64(b, at<<16|(run-1))
		at += run
	}
	return b
}

// config is what labels and the pool's own copy of it start with.
func (p *pool) config() nvlist.List {
	return nvlist.List{
		{Name: "version", Value: p.version}, {Name: "name", Value: p.name}, {Name: "state", Value: uint64(1)}, // exported
		{Name: "txg", Value: uint64(poolTxg)}, {Name: "pool_guid", Value: p.guid("pool")}, {Name: "vdev_children", Value: uint64(1)},
	}
}

// labels writes four of them, whose root is bp.
func (p *pool) labels(bp format.BP, end int64) (int64, error) {
	size, _ := p.sizes(end)
	list := append(p.config(), nvlist.List{{Name: "top_guid", Value: p.guid("vdev")}, {Name: "guid", Value: p.guid("vdev")}, {Name: "vdev_tree", Value: p.vdev}}...)
	if p.version >= versionFeatures {
		var read nvlist.List
		if p.lz4 {
			read = nvlist.List{{Name: lz4Feature}}
		}
		list = append(list, nvlist.Pair{Name: "features_for_read", Value: read})
	}
	packed := nvlist.Pack(list)
	if len(packed) > format.ConfigSize-format.EmbeddedSize {
		return 0, fmt.Errorf("the names of pool and vdev are too long for a label: %d bytes", len(packed))
	}
	uber := make([]byte, format.UberblockSize(p.ashift))
	put := func(at int, v uint64) { binary.LittleEndian.PutUint64(uber[at:], v) }
	put(0, format.UberMagic)
	put(format.UberVersion, p.version)
	put(format.UberTxg, poolTxg)
	put(format.UberGUIDSum, p.guid("pool")+p.guid("vdev"))
	put(format.UberTimestamp, p.created)
	copy(uber[format.UberRootBP:], bp[:])
	put(format.UberSoftware, p.version)
	slot := format.RingOffset + poolTxg%(format.RingSize/len(uber))*len(uber)
	for _, at := range []int64{0, format.LabelSize, size - 2*format.LabelSize, size - format.LabelSize} {
		label := make([]byte, format.LabelSize)
		copy(label[format.ConfigOffset:], packed)
		// Readers of whole labels expect a check code on the unused boot block header, too.
		format.Seal(label[format.ConfigOffset:][:format.ConfigSize], at+format.ConfigOffset)
		copy(label[slot:], uber)
		format.Seal(label[slot:slot+len(uber)], at+int64(slot))
		if _, err := p.w.WriteAt(label, at); err != nil {
			return 0, err
		}
	}
	return size, nil
}

var _ io.WriterAt = nowhere{}
