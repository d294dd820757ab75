// Package read reads ZFS pools of one vdev, or of a mirror of them, without ZFS. It verifies what it reads by the checksums that
// lead to it from the label on, and tries the other copies of a block before it gives up. It starts nothing and keeps a bounded
// number of metadata blocks.
package read

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/firstlight-boot/firstlight/zfsmod/format"
	"github.com/firstlight-boot/firstlight/zfsmod/nvlist"
	"github.com/firstlight-boot/firstlight/zfsmod/zap"
)

var (
	// ErrDamaged is wrapped by errors about a pool's bytes.
	ErrDamaged = zap.ErrDamaged
	// ErrUnsupported is wrapped by errors about what a pool may have and this package does not know.
	ErrUnsupported = errors.New("not supported")
)

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}

// Device is a vdev, or one side of a mirror.
type Device struct {
	io.ReaderAt
	Size int64 // in bytes
}

// Pool is an open pool. It is safe for concurrent use.
type Pool struct {
	Name    string
	Version uint64
	Txg     uint64 // of the state that is read
	Config  nvlist.List
	Labels  int // good ones of four, of the first device
	// Features are those in use that a reader has to know, by name.
	Features []string

	devices []Device
	mos     *Objset
	cache   cache
	raw     sync.Pool // of buffers as large as stored blocks
}

// features are those that a pool may have for its readers.
var features = map[string]bool{
	"org.illumos:lz4_compress":         true,
	"com.delphix:hole_birth":           true,
	"com.delphix:embedded_data":        true,
	"com.delphix:extensible_dataset":   true,
	"org.open-zfs:large_blocks":        true,
	"com.joyent:multi_vdev_crash_dump": true,
	"com.delphix:spacemap_v2":          true,
}

func newPool(devices []Device) *Pool {
	p := &Pool{devices: devices}
	p.raw.New = func() any { b := make([]byte, 128<<10); return &b }
	return p
}

// Open reads the labels of the devices, which are copies of each other, and finds the newest state of the pool.
func Open(devices ...Device) (*Pool, error) {
	p := newPool(devices)
	var uber []byte
	swapped := false
	for i, d := range devices {
		if d.Size < 4*format.LabelSize+format.DataStart {
			return nil, damaged("%d bytes have no room for labels", d.Size)
		}
		size := d.Size &^ (format.LabelSize - 1)
		for _, at := range []int64{0, format.LabelSize, size - 2*format.LabelSize, size - format.LabelSize} {
			config, u, err := label(d, at)
			if errors.Is(err, errSwapped) {
				swapped = true
				continue
			}
			if err != nil {
				return nil, err
			}
			if config == nil || u == nil {
				continue
			}
			if i == 0 {
				p.Labels++
			}
			if uber == nil || newer(u, uber) {
				uber, p.Config = u, config
			}
		}
	}
	if uber == nil && swapped {
		return nil, errSwapped
	}
	if uber == nil {
		return nil, damaged("none of its labels has a good configuration and a good uberblock")
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	p.Txg = binary.LittleEndian.Uint64(uber[format.UberTxg:])
	p.Version = binary.LittleEndian.Uint64(uber[format.UberVersion:])
	p.Name = p.Config.String("name")
	if p.Version > 28 && p.Version != 5000 || p.Version == 0 {
		return nil, unsupported("pool version %d", p.Version)
	}
	var err error
	if p.mos, err = p.objset((*format.BP)(uber[format.UberRootBP:])); err != nil {
		return nil, fmt.Errorf("pool %s: %w", p.Name, err)
	}
	if err := p.features(); err != nil {
		return nil, fmt.Errorf("pool %s: %w", p.Name, err)
	}
	return p, nil
}

var errSwapped = unsupported("a pool written on a big-endian machine")

func newer(a, b []byte) bool {
	for _, at := range []int{format.UberTxg, format.UberTimestamp} {
		x, y := binary.LittleEndian.Uint64(a[at:]), binary.LittleEndian.Uint64(b[at:])
		if x != y {
			return x > y
		}
	}
	return false
}

// label reads the label at a byte of a device: its configuration and its newest uberblock, nil where a check code is wrong. The
// error is errSwapped or a failed read.
func label(d Device, at int64) (nvlist.List, []byte, error) {
	b := make([]byte, format.LabelSize)
	if _, err := d.ReadAt(b, at); err != nil && err != io.EOF {
		return nil, nil, err
	}
	part := b[format.ConfigOffset:][:format.ConfigSize]
	if binary.BigEndian.Uint64(part[len(part)-format.EmbeddedSize:]) == format.EmbeddedMagic {
		return nil, nil, errSwapped
	}
	if !format.Sealed(part, at+format.ConfigOffset) {
		return nil, nil, nil
	}
	config, err := nvlist.Unpack(part)
	if err != nil {
		return nil, nil, nil
	}
	ashift, _ := config.List("vdev_tree").Uint64("ashift")
	if ashift > format.MaxAshift {
		return nil, nil, nil
	}
	size := format.UberblockSize(uint(ashift))
	var best []byte
	for o := format.RingOffset; o < format.LabelSize; o += size {
		u := b[o : o+size]
		if binary.LittleEndian.Uint64(u) != format.UberMagic || !format.Sealed(u, at+int64(o)) {
			continue
		}
		if best == nil || newer(u, best) {
			best = u
		}
	}
	return config, best, nil
}

// check refuses what the configuration says and is not known here.
func (p *Pool) check() error {
	vdev := p.Config.List("vdev_tree")
	switch typ := vdev.String("type"); typ {
	case "file", "disk", "mirror":
	default:
		return unsupported("a vdev of type %q: only single devices and mirrors are read", typ)
	}
	if n, _ := p.Config.Uint64("vdev_children"); n > 1 {
		return unsupported("a pool of %d vdevs: only one, or a mirror, is read", n)
	}
	for _, f := range p.Config.List("features_for_read") {
		if !features[f.Name] {
			return unsupported("the feature %s", f.Name)
		}
	}
	return nil
}

// cache keeps metadata blocks, decoded: each has one place, by where it is stored. It takes 32 MiB at most.
type cache struct {
	mu    sync.Mutex
	slots [256]slot
}

// maxCached is the largest block that is kept, in bytes. Larger ones are rare: ZFS makes no indirect block and no micro table that
// is larger.
const maxCached = 128 << 10

type slot struct {
	bp   format.BP
	data []byte
}

// maxMeta is the largest metadata block, in bytes.
const maxMeta = 1 << 20

// Block returns the content of a metadata block, which must not be changed.
func (p *Pool) block(bp *format.BP) ([]byte, error) {
	at := bp.DVA(0).Offset >> format.SectorShift
	s := &p.cache.slots[uint64(at*0x9E3779B1)>>7%uint64(len(p.cache.slots))]
	p.cache.mu.Lock()
	if s.data != nil && s.bp == *bp {
		b := s.data
		p.cache.mu.Unlock()
		return b, nil
	}
	p.cache.mu.Unlock()
	n := bp.LogicalSize()
	if bp.Embedded() {
		n = bp.EmbeddedLogical()
	}
	if n > maxMeta {
		return nil, damaged("a metadata block of %d bytes", n)
	}
	b := make([]byte, n)
	if err := p.Read(bp, b); err != nil {
		return nil, err
	}
	if n <= maxCached {
		p.cache.mu.Lock()
		s.bp, s.data = *bp, b
		p.cache.mu.Unlock()
	}
	return b, nil
}

// Read reads the block that bp points to; dst has its logical size. A hole is zeros.
func (p *Pool) Read(bp *format.BP, dst []byte) error {
	if bp.Embedded() {
		if bp.EmbeddedType() != 0 {
			return unsupported("an embedded block pointer of type %d", bp.EmbeddedType())
		}
		n := bp.EmbeddedPhysical()
		data := bp.EmbeddedData()
		if n > len(data) || bp.EmbeddedLogical() != len(dst) || !format.Unpack(bp.Compression(), dst, data[:n]) {
			return damaged("an embedded block does not decode")
		}
		return nil
	}
	if bp.IsHole() {
		clear(dst)
		return nil
	}
	switch {
	case bp.Encrypted():
		return unsupported("encrypted blocks")
	case !bp.LittleEndian():
		return unsupported("a pool written on a big-endian machine")
	case bp.LogicalSize() != len(dst):
		return damaged("a block of %d bytes where %d are expected", bp.LogicalSize(), len(dst))
	case bp.PhysicalSize() > bp.LogicalSize():
		return damaged("a block of %d bytes takes %d", bp.LogicalSize(), bp.PhysicalSize())
	}
	var first error
	for i := range 3 {
		d := bp.DVA(i)
		if d.Size == 0 {
			continue
		}
		for k := range p.devices {
			err := p.copy(bp, d, &p.devices[k], dst)
			if err == nil {
				return nil
			}
			if first == nil {
				first = err
			}
		}
	}
	if first == nil {
		first = damaged("a block pointer without an address")
	}
	return first
}

// copy reads one copy of a block.
func (p *Pool) copy(bp *format.BP, d format.DVA, dev *Device, dst []byte) error {
	if d.Gang {
		return unsupported("gang blocks")
	}
	n := bp.PhysicalSize()
	if d.Vdev != 0 || d.Offset < 0 || d.Offset > dev.Size-format.DataStart-int64(n) {
		return damaged("a block at %d:%#x, which is outside the vdev", d.Vdev, d.Offset)
	}
	src := dst
	if bp.Compression() != format.CompressOff {
		buf := p.raw.Get().(*[]byte)
		defer p.raw.Put(buf)
		if len(*buf) < n {
			*buf = make([]byte, n)
		}
		src = (*buf)[:n]
	} else if n != len(dst) {
		return damaged("a block of %d bytes that is not compressed takes %d", len(dst), n)
	}
	if m, err := dev.ReadAt(src, d.Offset+format.DataStart); m < n {
		return fmt.Errorf("block at %#x: %w", d.Offset, err)
	}
	sum, ok := format.Checksum(bp.Checksum(), src)
	if !ok {
		return unsupported("checksum %d", bp.Checksum())
	}
	if bp.Checksum() != format.ChecksumOff && sum != bp.Sum() {
		return damaged("the checksum of the %d bytes at offset %#x is wrong", n, d.Offset+format.DataStart)
	}
	if bp.Compression() == format.CompressOff {
		return nil
	}
	if !known(bp.Compression()) {
		return unsupported("compression %d", bp.Compression())
	}
	if !format.Unpack(bp.Compression(), dst, src) {
		return damaged("the %d bytes at offset %#x do not decode", n, d.Offset+format.DataStart)
	}
	return nil
}

func known(codec int) bool {
	return codec == format.CompressLZJB || codec >= format.CompressGzip1 && codec <= format.CompressLZ4
}

// Object is an object of an object set.
type Object struct {
	format.Dnode
	pool *Pool
}

// Size is the size of its blocks, all together, in bytes.
func (o *Object) Size() uint64 { return (o.MaxBlock() + 1) * uint64(o.BlockSize()) }

// valid tells whether a dnode can be read by.
func (o *Object) valid() error {
	shift := o.IndirectShift()
	switch {
	case o.Levels() < 1 || o.Levels() > 8, o.Levels() > 1 && (shift < 10 || shift > 17), o.Pointers() < 1 || o.Pointers() > 3,
		o.BlockSize() == 0 || o.BlockSize() > format.MaxBlock, o.BonusLen() > len(o.Bonus()) && o.ExtraSlots() == 0:
		return damaged("a dnode of type %d with %d levels of 2^%d bytes, %d pointers, blocks of %d bytes", o.Type(), o.Levels(), shift,
			o.Pointers(), o.BlockSize())
	}
	if o.ExtraSlots() > 0 {
		return unsupported("large dnodes")
	}
	return nil
}

// Pointer finds the pointer to block id. A block beyond the last is a hole.
func (o *Object) pointer(id uint64) (bp format.BP, err error) {
	if id > o.MaxBlock() {
		return bp, nil
	}
	per := uint(o.IndirectShift() - 7)
	level := o.Levels() - 1
	i := uint64(0)
	if s := uint(level) * per; s < 64 {
		i = id >> s
	}
	if i >= uint64(o.Pointers()) {
		return bp, damaged("block %d of an object is beyond its %d pointers", id, o.Pointers())
	}
	bp = *o.Dnode.Pointer(int(i))
	for ; level > 0; level-- {
		if bp.IsHole() {
			return format.BP{}, nil
		}
		if bp.Embedded() || bp.Level() != level { // only content is embedded
			return bp, damaged("an indirect block of level %d where %d is expected", bp.Level(), level)
		}
		b, err := o.pool.block(&bp)
		if err != nil {
			return bp, err
		}
		if len(b) != 1<<o.IndirectShift() {
			return bp, damaged("an indirect block of %d bytes", len(b))
		}
		k := id >> (uint(level-1) * per) & (1<<per - 1)
		bp = *(*format.BP)(b[k*format.BPSize:])
	}
	return bp, nil
}

// Block returns block id of an object of metadata, which must not be changed.
func (o *Object) Block(id uint64) ([]byte, error) {
	if id > o.MaxBlock() {
		return nil, damaged("block %d of an object that has %d", id, o.MaxBlock()+1)
	}
	bp, err := o.pointer(id)
	if err != nil {
		return nil, err
	}
	if bp.IsHole() {
		if o.BlockSize() > maxMeta {
			return nil, damaged("a metadata block of %d bytes", o.BlockSize())
		}
		return make([]byte, o.BlockSize()), nil
	}
	b, err := o.pool.block(&bp)
	if err == nil && len(b) != o.BlockSize() {
		return nil, damaged("a block of %d bytes in an object of blocks of %d", len(b), o.BlockSize())
	}
	return b, err
}

// ReadBlock reads block id into dst, which has the block's size.
func (o *Object) ReadBlock(id uint64, dst []byte) error {
	bp, err := o.pointer(id)
	if err != nil {
		return err
	}
	return o.pool.Read(&bp, dst)
}

// Objset is a set of objects.
type Objset struct {
	Kind uint64 // format.ObjsetMeta or ObjsetZFS
	Root format.BP
	meta Object
}

// objset opens the object set that bp points to.
func (p *Pool) objset(bp *format.BP) (*Objset, error) {
	if bp.IsHole() {
		return nil, damaged("there is no object set")
	}
	b, err := p.block(bp)
	if err != nil {
		return nil, err
	}
	if len(b) < 1024 {
		return nil, damaged("an object set of %d bytes", len(b))
	}
	s := &Objset{Root: *bp, Kind: binary.LittleEndian.Uint64(b[format.ObjsetType:]), meta: Object{format.Dnode(b[:format.DnodeSize]), p}}
	return s, s.meta.valid()
}

// Objects is how many numbers of objects there may be.
func (s *Objset) Objects() uint64 { return s.meta.Size() / format.DnodeSize }

// Object returns an object. One that is not there is damage; its type, when it is not 0, has to be typ.
func (s *Objset) Object(number uint64, types ...int) (*Object, error) {
	if number == 0 || number >= s.Objects() {
		return nil, damaged("there is no object %d", number)
	}
	per := uint64(s.meta.BlockSize() / format.DnodeSize)
	b, err := s.meta.Block(number / per)
	if err != nil {
		return nil, err
	}
	o := &Object{format.Dnode(b[number%per*format.DnodeSize:][:format.DnodeSize]), s.meta.pool}
	if o.Type() == format.TypeNone {
		return nil, damaged("there is no object %d", number)
	}
	if len(types) > 0 && !slices.Contains(types, o.Type()) {
		return nil, damaged("object %d is of type %d, not %d", number, o.Type(), types)
	}
	return o, o.valid()
}
