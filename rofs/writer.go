package rofs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"runtime"
	"sync"

	"github.com/pierrec/lz4/v4"

	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/tree"
)

// A Codec is a way to compress.
type Codec string

// The codecs of Options.
const (
	None  Codec = "none"
	LZ4   Codec = "lz4"   // fast
	LZ4HC Codec = "lz4hc" // smaller, decodes alike
)

// Options are how an image is written. The zero value is the default of each.
type Options struct {
	Codec Codec // LZ4
	Level int   // of LZ4HC, 1 to 9: 9
	// ClusterSize is the bytes that are compressed together, a power of two from 4 KiB to 1 MiB: 64 KiB. A larger one
	// compresses better, a smaller one makes a random read cheaper.
	ClusterSize int
	// ExecClusterSize is the same for ELF files, which a kernel pages in on demand: 16 KiB, or ClusterSize if that is less.
	ExecClusterSize int
	// Raw says which files, by their path, are stored as they are: they come first in the data, and those of a block or
	// more are aligned to blocks.
	Raw      func(path string) bool
	UUID     [16]byte
	Workers  int // GOMAXPROCS
	Progress func(done, total int64)
}

// Stats are what an image consists of.
type Stats struct {
	Files, Dirs, Others int   // inodes by type
	FileBytes           int64 // content
	StoredBytes         int64 // what that takes in the image
	MetadataBytes       int64
	ImageBytes          int64
	Clusters            int
	Holes               int // clusters with nothing stored
	Raw                 int // clusters stored as they are
}

func (o *Options) setDefaults() error {
	if o.Codec == "" {
		o.Codec = LZ4
	}
	switch o.Codec {
	case None, LZ4:
		if o.Level != 0 {
			return fmt.Errorf("rofs: codec %q has no levels", o.Codec)
		}
	case LZ4HC:
		if o.Level == 0 {
			o.Level = 9
		}
		if o.Level < 1 || o.Level > 9 {
			return fmt.Errorf("rofs: level %d of lz4hc: possible are 1 to 9", o.Level)
		}
	default:
		return fmt.Errorf("rofs: unknown codec %q: possible are none, lz4 and lz4hc", o.Codec)
	}
	if o.ClusterSize == 0 {
		o.ClusterSize = 64 << 10
	}
	if o.ExecClusterSize == 0 {
		o.ExecClusterSize = min(16<<10, o.ClusterSize)
	}
	for _, size := range []int{o.ClusterSize, o.ExecClusterSize} {
		if size < 1<<format.MinClusterLog || size > 1<<format.MaxClusterLog || bits.OnesCount(uint(size)) != 1 {
			return fmt.Errorf("rofs: cluster size %d: possible are powers of two from 4096 to 1048576", size)
		}
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	return nil
}

// job is one cluster on its way from its file to the image.
type job struct {
	f       *file
	index   int64  // of the cluster in its file
	in, out []byte // out has the stored bytes
	buf     []byte // for compression
	entry   format.Cluster
	err     error
	done    chan struct{}
}

// Write writes t as an image to w from byte 0 on; every byte of Stats.ImageBytes is written. The same tree and options make
// the same bytes, whatever the number of workers. Write keeps a few clusters a worker and the metadata in memory.
func Write(ctx context.Context, w io.WriterAt, t *tree.Tree, o Options) (Stats, error) {
	if err := o.setDefaults(); err != nil {
		return Stats{}, err
	}
	p, err := newPlan(ctx, t, &o)
	if err != nil {
		return Stats{}, err
	}
	var super format.Superblock
	super.SetMagic()
	super.SetVersion(format.Version)
	super.SetSize(format.SuperblockSize)
	super.SetBlockLog(format.BlockLog)
	super.SetMaxClusterLog(p.maxLog)
	super.SetUUID(o.UUID)
	super.SetFileBytes(uint64(p.stats.FileBytes))
	next := uint64(1)
	counts := [format.NumTables]uint32{uint32(len(p.inodes)), uint32(len(p.dirents)), uint32(p.strings.blocks()), uint32(len(p.clusters))}
	for i, count := range counts {
		if next > 1<<32-1 {
			return Stats{}, errors.New("rofs: too much metadata")
		}
		super.SetStart(i, uint32(next))
		super.SetCount(i, count)
		next += uint64(format.Blocks(i, count))
	}
	super.SetDataOff(next << format.BlockLog)
	p.stats.MetadataBytes = int64(super.DataOff())

	s := &sink{w: w, off: int64(super.DataOff())}
	if err := writeData(ctx, s, p, &o); err != nil {
		return Stats{}, err
	}
	s.pad(format.BlockSize)
	super.SetImageLen(uint64(s.off) + uint64(len(s.buf)))
	codecs := uint32(0)
	for i := range p.clusters {
		codecs |= 1 << p.clusters[i].Codec()
	}
	super.SetCodecs(codecs)
	super.SetCRC()
	s.flush()
	p.stats.ImageBytes = s.off

	s.off = 0
	s.write(super[:])
	s.pad(format.BlockSize)
	writeTable(s, format.Inodes, p.inodes, func(r *format.Inode) []byte { return r[:] })
	writeTable(s, format.Dirents, p.dirents, func(r *format.Dirent) []byte { return r[:] })
	for i := range p.strings.blocks() {
		b := p.strings.buf[i<<format.BlockLog : (i+1)<<format.BlockLog]
		s.block(b, format.Strings, i, int((*format.Header)(b).Used()))
	}
	writeTable(s, format.Clusters, p.clusters, func(r *format.Cluster) []byte { return r[:] })
	if at := s.off + int64(len(s.buf)); s.err == nil && at != p.stats.MetadataBytes {
		return Stats{}, fmt.Errorf("rofs: internal error: metadata ends at %d instead of %d", at, p.stats.MetadataBytes)
	}
	s.flush()
	if s.err != nil {
		return Stats{}, s.err
	}
	return p.stats, nil
}

// writeTable writes the blocks of a table of records.
func writeTable[T any](s *sink, table int, records []T, bytes func(*T) []byte) {
	size, per := int(format.Shapes[table].Size), int(format.Shapes[table].PerBlock)
	var b [format.BlockSize]byte
	for i := 0; len(records) > 0; i++ {
		clear(b[:])
		n := min(per, len(records))
		for k := range records[:n] {
			copy(b[format.HeaderSize+k*size:], bytes(&records[k]))
		}
		s.block(b[:], table, i, n*size)
		records = records[n:]
	}
}

// writeData writes the clusters of all files, in order, and their records in the cluster table.
func writeData(ctx context.Context, s *sink, p *plan, o *Options) error {
	ctx, cancel := context.WithCancel(ctx)
	n := 2*o.Workers + 2
	free, work, order := make(chan *job, n), make(chan *job, n), make(chan *job, n)
	for range n {
		free <- &job{done: make(chan struct{}, 1)}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer close(work)
		defer close(order)
		for i := range p.files {
			if !readFile(ctx, &p.files[i], free, work, order) {
				return
			}
		}
	})
	for range o.Workers {
		wg.Go(func() {
			c := compressor{codec: o.Codec, hc: lz4.CompressorHC{Level: lz4.CompressionLevel(1 << (8 + o.Level))}}
			for j := range work {
				c.compress(j)
				j.done <- struct{}{}
			}
		})
	}
	var done int64
	for j := range order {
		select {
		case <-j.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if j.err != nil {
			return &fs.PathError{Op: "read", Path: j.f.entry.Path, Err: j.err}
		}
		if j.index == 0 && j.f.align {
			s.pad(format.BlockSize)
		}
		if len(j.out) > 0 {
			j.entry.SetOff(uint64(s.off) + uint64(len(s.buf)))
			s.write(j.out)
		}
		if s.err != nil {
			return s.err
		}
		p.clusters[p.inodes[j.f.ino-1].First()+uint64(j.index)] = j.entry
		p.stats.Clusters++
		p.stats.StoredBytes += int64(len(j.out))
		switch j.entry.Codec() {
		case format.CodecHole:
			p.stats.Holes++
		case format.CodecRaw:
			p.stats.Raw++
		}
		done += int64(len(j.in))
		if o.Progress != nil {
			o.Progress(done, p.stats.FileBytes)
		}
		free <- j
	}
	return context.Cause(ctx)
}

// readFile makes a job of each cluster of f. It returns false where nothing more is to be read: the last job has the error.
func readFile(ctx context.Context, f *file, free <-chan *job, work, order chan<- *job) bool {
	size := f.entry.Size
	src, openErr := f.entry.Source()
	if openErr == nil {
		defer func() {
			if src != nil {
				src.Close() // an earlier error, or the cancellation, is what counts
			}
		}()
	}
	for at := int64(0); at < size; at += 1 << f.log {
		var j *job
		select {
		case j = <-free:
		case <-ctx.Done():
			return false
		}
		n := int(min(size-at, 1<<f.log))
		if cap(j.in) < n {
			j.in = make([]byte, 1<<f.log)
		}
		j.f, j.index, j.in, j.err = f, at>>f.log, j.in[:n], openErr
		if j.err == nil {
			if _, j.err = io.ReadFull(src, j.in); j.err == io.EOF {
				j.err = io.ErrUnexpectedEOF
			}
		}
		if j.err == nil && at+int64(n) == size {
			if j.err = atEnd(src); j.err == nil {
				j.err = src.Close()
				src = nil
			}
		}
		order <- j // never blocks, nor does work: there are no more jobs than room
		if j.err != nil {
			j.done <- struct{}{}
			return false
		}
		work <- j
	}
	return true
}

// atEnd returns an error unless r is at its end.
func atEnd(r io.Reader) error {
	var one [1]byte
	switch n, err := io.ReadFull(r, one[:]); {
	case n > 0:
		return errors.New("it grew while it was read")
	case err != io.EOF:
		return err
	}
	return nil
}

type compressor struct {
	codec Codec
	fast  lz4.Compressor
	hc    lz4.CompressorHC
}

// compress sets the job's stored bytes and its record but for the offset.
func (c *compressor) compress(j *job) {
	j.entry = format.Cluster{}
	if j.in[0] == 0 && bytes.Equal(j.in[1:], j.in[:len(j.in)-1]) {
		j.out = nil
		return
	}
	j.out = j.in
	j.entry.SetCodec(format.CodecRaw)
	if !j.f.raw && len(j.in) > 1 {
		if len(j.buf) < len(j.in) {
			j.buf = make([]byte, 1<<j.f.log)
		}
		// Room for one byte less than raw: the library returns 0 or an error if that is not enough.
		room := j.buf[:len(j.in)-1]
		var n int
		var err error
		if c.codec == LZ4HC {
			n, err = c.hc.CompressBlock(j.in, room)
		} else {
			n, err = c.fast.CompressBlock(j.in, room)
		}
		if err == nil && n > 0 {
			j.out = room[:n]
			j.entry.SetCodec(format.CodecLZ4)
		}
	}
	j.entry.SetSize(uint32(len(j.in)))
	j.entry.SetLen(uint32(len(j.out)))
	j.entry.SetCRC(format.Checksum(j.out))
}

// sink writes in sequence in large pieces. The first error sticks.
type sink struct {
	w   io.WriterAt
	off int64 // where buf goes
	buf []byte
	err error
}

const sinkSize = 256 << 10

func (s *sink) write(p []byte) {
	if len(s.buf)+len(p) > sinkSize {
		s.flush()
	}
	s.buf = append(s.buf, p...)
}

func (s *sink) flush() {
	if s.err == nil && len(s.buf) > 0 {
		_, s.err = s.w.WriteAt(s.buf, s.off)
		s.off += int64(len(s.buf))
	}
	s.buf = s.buf[:0]
}

// pad writes zeros up to a multiple of align.
func (s *sink) pad(align int64) {
	for at := s.off + int64(len(s.buf)); at%align != 0; at++ {
		s.buf = append(s.buf, 0)
	}
}

// block completes the header of a metadata block and writes it.
func (s *sink) block(b []byte, table, index, used int) {
	h := (*format.Header)(b)
	h.SetMagic(format.Shapes[table].Magic)
	h.SetIndex(uint32(index))
	h.SetUsed(uint16(used))
	h.SetCRC(format.Checksum(b[4 : format.HeaderSize+used]))
	s.write(b)
}
