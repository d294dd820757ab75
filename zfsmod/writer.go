package zfsmod

import (
	"context"
	"io"
	"runtime"
	"sync"

	"github.com/firstlight-boot/firstlight/zfsmod/format"
)

const (
	indirectShift = 14
	perIndirect   = 1 << (indirectShift - 7)
	dnodeBlock    = 16 << 10 // of 32 dnodes
	perDnodeBlock = dnodeBlock / format.DnodeSize
	flushAt       = 1 << 20
)

// space counts what blocks take: allocated, and before and after compression, all copies or one, as ZFS does.
type space struct{ used, packed, content uint64 }

func (s *space) add(t space) {
	s.used += t.used
	s.packed += t.packed
	s.content += t.content
}

// writer allocates one block behind the other, and writes them in that order.
type writer struct {
	ctx    context.Context
	w      io.WriterAt
	ashift uint
	txg    uint64
	meta   int // codec of metadata
	copies int // of metadata blocks
	dev    devNumber

	next   int64   // first free byte, from format.DataStart
	slab   uint    // base-2 logarithm of a metaslab's size; no block lies in two
	end    int64   // of the last block
	filled []int64 // bytes of each metaslab before the one of the last block
	buf    []byte
	at     int64 // where buf belongs
	packer format.Packer
	packed []byte
	count  space // of all blocks since it was last taken
}

// allocate takes room for size stored bytes.
func (w *writer) allocate(size int) (offset, allocated int64) {
	allocated = (int64(size) + 1<<w.ashift - 1) >> w.ashift << w.ashift
	if slab := w.next >> w.slab; (w.next+allocated-1)>>w.slab != slab {
		w.next = (slab + 1) << w.slab
	}
	for ; int64(len(w.filled)) < w.next>>w.slab; w.filled = append(w.filled, w.end-int64(len(w.filled))<<w.slab) {
	}
	offset = w.next
	w.next += allocated
	w.end = w.next
	return offset, allocated
}

// write appends stored bytes at the place that was just allocated.
func (w *writer) write(p []byte, offset, allocated int64) error {
	w.fill(offset - w.at - int64(len(w.buf)))
	w.buf = append(w.buf, p...)
	w.fill(allocated - int64(len(p)))
	if len(w.buf) < flushAt {
		return nil
	}
	return w.flush()
}

func (w *writer) fill(n int64) {
	for ; n > 0; n -= int64(len(zeros)) {
		w.buf = append(w.buf, zeros[:min(n, int64(len(zeros)))]...)
	}
}

var zeros [4096]byte

func (w *writer) flush() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	_, err := w.w.WriteAt(w.buf, format.DataStart+w.at)
	w.at += int64(len(w.buf))
	w.buf = w.buf[:0]
	return err
}

// place gives the stored block its addresses, and writes so many copies. p has all but Birth set.
func (w *writer) place(stored []byte, p format.Props, copies int) (bp format.BP, err error) {
	p.Birth = w.txg
	bp.Set(p)
	for i := range copies {
		offset, allocated := w.allocate(len(stored))
		bp.SetDVA(i, offset, allocated)
		if err := w.write(stored, offset, allocated); err != nil {
			return bp, err
		}
		w.count.used += uint64(allocated)
	}
	w.count.packed += uint64(len(stored))
	w.count.content += uint64(p.Logical)
	return bp, nil
}

// metadata compresses and places a block of metadata.
func (w *writer) metadata(block []byte, typ, level int, fill uint64) (format.BP, error) {
	if cap(w.packed) < len(block) {
		w.packed = make([]byte, len(block))
	}
	p := format.Props{Logical: len(block), Compression: w.meta, Checksum: format.ChecksumFletcher4, Type: typ, Level: level, Fill: fill}
	stored := w.packer.Pack(w.meta, w.packed[:len(block)], block)
	if stored == nil {
		stored, p.Compression = block, format.CompressOff
	}
	p.Physical = len(stored)
	p.Sum = format.Fletcher4(stored)
	return w.place(stored, p, w.copies)
}

// blockTree takes the block pointers of an object in order and writes the indirect blocks above them.
type blockTree struct {
	w      *writer
	typ    int
	levels [][]format.BP // pointers to blocks of level i that no indirect block has yet
	blocks uint64
	used   uint64 // bytes of all blocks that were added or written
}

func (t *blockTree) add(bp format.BP) error {
	t.blocks++
	for i := range 3 {
		t.used += uint64(bp.DVA(i).Size)
	}
	return t.push(0, bp)
}

func (t *blockTree) push(level int, bp format.BP) error {
	for len(t.levels) <= level {
		t.levels = append(t.levels, nil)
	}
	t.levels[level] = append(t.levels[level], bp)
	if len(t.levels[level]) < perIndirect {
		return nil
	}
	return t.indirect(level)
}

// indirect writes the pointers of a level as one block of the next. If all are holes, it is one.
func (t *blockTree) indirect(level int) error {
	var block [1 << indirectShift]byte
	fill := uint64(0)
	for i := range t.levels[level] {
		bp := &t.levels[level][i]
		copy(block[i*format.BPSize:], bp[:])
		if !bp.IsHole() {
			fill += bp.Fill()
		}
	}
	t.levels[level] = t.levels[level][:0]
	var bp format.BP
	if fill > 0 {
		var err error
		if bp, err = t.w.metadata(block[:], t.typ, level+1, fill); err != nil {
			return err
		}
		for i := range 3 {
			t.used += uint64(bp.DVA(i).Size)
		}
	}
	return t.push(level+1, bp)
}

// finish writes what is left, fills in d's pointers, levels, last block and use, and is ready for the next object. d has at least
// so many levels.
func (t *blockTree) finish(d *format.Dnode, levels int) error {
	top := 0
	for {
		above := false
		for _, l := range t.levels[min(top+1, len(t.levels)):] {
			above = above || len(l) > 0
		}
		if !above && top+1 >= levels && (top >= len(t.levels) || len(t.levels[top]) <= d.Pointers()) {
			break
		}
		if top < len(t.levels) && len(t.levels[top]) > 0 {
			if err := t.indirect(top); err != nil {
				return err
			}
		}
		top++
	}
	if top < len(t.levels) {
		for i, bp := range t.levels[top] {
			*d.Pointer(i) = bp
		}
	}
	d.SetLevels(top + 1)
	if t.blocks > 0 {
		d.SetMaxBlock(t.blocks - 1)
	}
	d.SetUsed(d.Used() + t.used)
	for i := range t.levels {
		t.levels[i] = t.levels[i][:0]
	}
	t.blocks, t.used = 0, 0
	return nil
}

// object writes content in blocks of metadata and returns the dnode.
func (w *writer) object(typ int, content []byte, blockSize, bonusType int, bonus []byte) (d format.Dnode, err error) {
	d.Init(typ, blockSize, indirectShift, bonusType, bonus)
	t := blockTree{w: w, typ: typ}
	for at := 0; at < len(content); at += blockSize {
		block := content[at:min(at+blockSize, len(content))]
		if len(block) < blockSize {
			block = append(append([]byte{}, block...), make([]byte, blockSize-len(block))...)
		}
		bp, err := w.metadata(block, typ, 0, 1)
		if err == nil {
			err = t.add(bp)
		}
		if err != nil {
			return d, err
		}
	}
	return d, t.finish(&d, 1)
}

// data is one block of a file's content on its way through a packer.
type data struct {
	content, packed []byte
	stored          []byte // nil: all is zero
	codec           int
	sum             format.Sum
	err             error
	done            chan struct{}
}

// contentProps say how the content of files is stored.
type contentProps struct {
	codec, checksum int
	record          int // largest block, in bytes
	copies          int
}

// packers compress data with all cores.
type packers struct {
	contentProps
	in   chan *data
	free chan *data
	wait sync.WaitGroup
}

func newPackers(props contentProps) *packers {
	n := runtime.GOMAXPROCS(0)
	p := &packers{contentProps: props, in: make(chan *data, 8*n), free: make(chan *data, 16*n)}
	for range cap(p.free) {
		p.free <- &data{content: make([]byte, props.record), packed: make([]byte, props.record), done: make(chan struct{}, 1)}
	}
	for range n {
		p.wait.Add(1)
		go func() {
			defer p.wait.Done()
			var packer format.Packer
			for d := range p.in {
				p.pack(&packer, d)
				d.done <- struct{}{}
			}
		}()
	}
	return p
}

// close ends the workers; nothing may be sent afterwards.
func (p *packers) close() {
	close(p.in)
	p.wait.Wait()
}

func (p *packers) pack(packer *format.Packer, d *data) {
	d.stored, d.codec = nil, format.CompressOff
	if d.err != nil || allZero(d.content) {
		return
	}
	if d.stored = packer.Pack(p.codec, d.packed[:len(d.content)], d.content); d.stored != nil {
		d.codec = p.codec
	} else {
		d.stored = d.content
	}
	d.sum, _ = format.Checksum(p.checksum, d.stored)
}

func allZero(p []byte) bool {
	for len(p) > len(zeros) {
		if string(p[:len(zeros)]) != string(zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return string(p) == string(zeros[:len(p)])
}
