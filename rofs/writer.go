package rofs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"math/bits"
	"runtime"
	"sync"

	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/tree"
)

// Options are how an image is written. The zero value is the default of each.
type Options struct {
	Codec Codec // LZ4
	Level int   // of LZ4HC, 1 to 12: 9; of Zstd, 1 to 22, of which a few differ: 3
	// ClusterSize is the bytes that are compressed together, a power of two from 4 KiB to 1 MiB. A larger one compresses
	// better, a smaller one makes a random read cheaper. Given, it is that of ELF files too.
	ClusterSize int
	// ExecClusterSize is the same for ELF files, which a kernel pages in on demand: ClusterSize if that is given, else 16 KiB.
	ExecClusterSize int
	// Raw says which files, by their path, are stored as they are. They come first in the data.
	Raw func(path string) bool
	// Hot says which files every boot reads. They are stored like Raw ones, before these.
	Hot func(path string) bool
	// Layout is content in the order of its use: it comes first in the data, in this order, as it is.
	Layout []Use
	// Align says which files can be mapped from the cache: they share no cluster with others, and start on a block if raw.
	Align    Align
	UUID     [16]byte
	Workers  int // GOMAXPROCS
	Progress func(done, total int64)
}

// Use is a range of a file's content that was used.
type Use struct {
	Path           string
	Offset, Length int64
}

// Align says for which files of a block or more Options.Align holds.
type Align string

// The values of Options.Align.
const (
	AlignAuto Align = "auto" // executables and shared objects
	AlignAll  Align = "all"
	AlignNone Align = "none"
)

// Stats are what an image consists of.
type Stats struct {
	Files, Dirs, Others int   // inodes by type
	FileBytes           int64 // content
	StoredBytes         int64 // what that takes in the image
	MetadataBytes       int64
	ImageBytes          int64
	Clusters            int   // of the files' own, and of tails
	Holes               int   // clusters with nothing stored
	Raw                 int   // clusters stored as they are
	Shared              int   // clusters, and tails, that have the stored bytes of equal ones
	SharedBytes         int64 // content of these
	Tails               int   // files with a packed tail
	Inline              int   // files whose content lies in the metadata
}

const (
	defaultCluster     = 64 << 10
	defaultExecCluster = 16 << 10
)

// Files in clusters as small as this are paged in while others wait, so that their clusters are to decode fast: LZ4's matches in them
// have a length of their own. hello-c boots with 22 % less instructions than with matches of 4 bytes, and is 12 % larger
// (docs/rofs-v2.md).
const (
	pagedLog   = 14
	pagedMatch = 8
)

func (o *Options) setDefaults() error {
	if err := o.setCodec(); err != nil {
		return err
	}
	if o.ExecClusterSize == 0 {
		o.ExecClusterSize = o.ClusterSize
		if o.ClusterSize == 0 {
			o.ExecClusterSize = defaultExecCluster
		}
	}
	if o.ClusterSize == 0 {
		o.ClusterSize = defaultCluster
	}
	for _, size := range []int{o.ClusterSize, o.ExecClusterSize} {
		if size < 1<<format.MinClusterLog || size > 1<<format.MaxClusterLog || bits.OnesCount(uint(size)) != 1 {
			return fmt.Errorf("rofs: cluster size %d: possible are powers of two from 4096 to 1048576", size)
		}
	}
	switch o.Align {
	case "":
		o.Align = AlignAuto
	case AlignAuto, AlignAll, AlignNone:
	default:
		return fmt.Errorf("rofs: alignment %q: possible are auto, all and none", o.Align)
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	return nil
}

// Write writes t as an image to w from byte 0 on; every byte of Stats.ImageBytes is written. The same tree and options make
// the same bytes, whatever the number of workers. Write keeps a few clusters a worker and the metadata in memory. Until it
// returns, w has no valid superblock.
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
	counts := [format.NumTables]uint32{uint32(len(p.inodes)), uint32(len(p.dirents)), uint32(p.strings.blocks()), uint32(p.maxClusters)}
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

	s := newSink(w, int64(super.DataOff()))
	err = writeData(ctx, s, p, &o)
	if err == nil {
		p.shareRuns()
	}
	s.pad()
	super.SetImageLen(uint64(s.at()))
	if werr := s.close(); werr != nil {
		err = werr
	}
	if err != nil {
		return Stats{}, err
	}
	if super.ImageLen() > format.MaxOff {
		return Stats{}, fmt.Errorf("rofs: an image of %d bytes is more than %d", super.ImageLen(), uint64(format.MaxOff))
	}
	p.stats.ImageBytes = int64(super.ImageLen())
	super.SetCount(format.Clusters, uint32(len(p.clusters)))
	codecs := uint32(0)
	for i := range p.clusters {
		codecs |= 1 << p.clusters[i].Codec()
	}
	super.SetCodecs(codecs)
	super.SetDigestKind(format.DigestSHA256)

	m := newSink(w, 0)
	m.write(super[:])
	m.pad()
	writeTable(m, format.Inodes, p.inodes, func(r *format.Inode) []byte { return r[:] })
	writeTable(m, format.Dirents, p.dirents, func(r *format.Dirent) []byte { return r[:] })
	for i := range p.strings.blocks() {
		b := p.strings.buf[i<<format.BlockLog : (i+1)<<format.BlockLog]
		m.block(b, format.Strings, i, int((*format.Header)(b).Used()))
	}
	writeTable(m, format.Clusters, p.clusters, func(r *format.Cluster) []byte { return r[:] })
	for m.at() < int64(super.DataOff()) { // fewer clusters than planned, since equal tails are one
		m.write(make([]byte, format.BlockSize))
	}
	at := m.at()
	if err := m.close(); err != nil {
		return Stats{}, err
	}
	if at != p.stats.MetadataBytes {
		return Stats{}, fmt.Errorf("rofs: internal error: metadata ends at %d instead of %d", at, p.stats.MetadataBytes)
	}
	super.SetDigest(sha256.Sum256(append(m.sums, s.sums...)))
	super.SetCRC()
	_, err = w.WriteAt(super[:], 0)
	return p.stats, err
}

// job is one cluster on its way from its file, or the files whose tails it has, to the image.
type job struct {
	f       *file  // nil: tails
	index   int64  // of the cluster in its file
	tails   []tail // in a cluster of tails
	in, out []byte // out has the stored bytes
	buf     []byte // for compression
	hash    uint64 // of in
	entry   format.Cluster
	path    string // of the file that could not be read
	err     error
	done    chan struct{}
}

// tail is where a file's tail goes.
type tail struct {
	ino uint32
	off uint32
}

// writeData writes the clusters of all files, in order, and their records in the cluster table.
func writeData(ctx context.Context, s *sink, p *plan, o *Options) error {
	ctx, cancel := context.WithCancel(ctx)
	n := 4*o.Workers + 4
	r := &fileReader{ctx: ctx, p: p, free: make(chan *job, n), work: make(chan *job, n), order: make(chan *job, n)}
	for range n {
		r.free <- &job{done: make(chan struct{}, 1)}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	seed := maphash.MakeSeed()
	r.tails = dedup{p: p, seed: seed}
	clusters := dedup{p: p, seed: seed}
	for range o.Workers {
		c, err := newCompressor(o)
		if err != nil {
			close(r.work)
			return err
		}
		wg.Go(func() {
			for j := range r.work {
				if !zero(j.in) {
					j.hash = maphash.Bytes(seed, j.in)
					c.do(j)
				} else {
					j.out, j.entry = nil, format.Cluster{}
				}
				j.done <- struct{}{}
			}
		})
	}
	wg.Go(func() {
		defer close(r.work)
		defer close(r.order)
		r.run()
	})
	var done int64
	for j := range r.order {
		select {
		case <-j.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if j.err != nil {
			return &fs.PathError{Op: "read", Path: j.path, Err: j.err}
		}
		if err := p.place(s, &clusters, j); err != nil {
			return err
		}
		if err := s.failed(); err != nil {
			return err
		}
		done += int64(len(j.in))
		if o.Progress != nil {
			o.Progress(done, p.stats.FileBytes)
		}
		r.free <- j
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for _, t := range p.twins {
		n, of := &p.inodes[t.ino-1], &p.inodes[t.of-1]
		n.SetTail(of.Tail())
		n.SetTailOff(of.TailOff())
	}
	p.stats.Inline, p.stats.Tails = r.inline, r.packed
	p.stats.Shared = clusters.found + r.tails.found
	p.stats.SharedBytes = clusters.bytes + r.tails.bytes
	if o.Progress != nil {
		o.Progress(p.stats.FileBytes, p.stats.FileBytes) // what was shared or lies inline was not counted
	}
	return nil
}

// do compresses a cluster that is not all zeros, and sets its record but for the offset.
func (c *compressor) do(j *job) {
	j.out = j.in
	codec := uint8(format.CodecRaw)
	if j.f == nil || !j.f.raw(j.index) {
		c.fast.Min = 0
		if j.f != nil && j.f.log <= pagedLog {
			c.fast.Min = pagedMatch
		}
		j.out, j.buf, codec = c.compress(j.in, j.buf)
	}
	j.entry = format.Cluster{}
	j.entry.SetCodec(codec)
	j.entry.SetSize(uint32(len(j.in)))
	j.entry.SetLen(uint32(len(j.out)))
	j.entry.SetCRC(format.Checksum(j.out))
}

// place writes a cluster, unless an equal one is there already, and completes its record.
func (p *plan) place(s *sink, seen *dedup, j *job) error {
	p.stats.Clusters++
	if j.f == nil {
		j.entry.SetOff(uint64(s.at()))
		s.write(j.out)
		p.stats.StoredBytes += int64(len(j.out))
		if j.entry.Codec() == format.CodecRaw {
			p.stats.Raw++
		}
		for _, t := range j.tails {
			n := &p.inodes[t.ino-1]
			n.SetTail(uint32(len(p.clusters)))
			n.SetTailOff(t.off)
		}
		p.clusters = append(p.clusters, j.entry)
		return nil
	}
	at := p.inodes[j.f.ino-1].First() + uint64(j.index)
	if len(j.out) == 0 {
		p.stats.Holes++
		p.clusters[at] = j.entry
		return nil
	}
	aligned := j.f.align && j.entry.Codec() == format.CodecRaw
	old, err := seen.find(j.hash, j.f, j.index, j.in, func(c *format.Cluster) bool {
		return (!j.f.raw(j.index) || c.Codec() == format.CodecRaw) && (!aligned || c.Off()%format.BlockSize == 0)
	})
	if err != nil {
		return err
	}
	if old != nil {
		p.clusters[at] = p.clusters[p.inodes[old.ino-1].First()+uint64(old.index)]
		return nil
	}
	if aligned {
		s.pad()
	}
	j.entry.SetOff(uint64(s.at()))
	s.write(j.out)
	p.clusters[at] = j.entry
	p.stats.StoredBytes += int64(len(j.out))
	if j.entry.Codec() == format.CodecRaw {
		p.stats.Raw++
	}
	return nil
}

func zero(p []byte) bool {
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}
