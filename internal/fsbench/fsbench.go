// Package fsbench measures how fast an image's files are read through fs.FS, in units of the codec's own speed on the same
// clusters, so that the figures hold on any machine.
package fsbench

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/firstlight-boot/firstlight/rofs"
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/rofs/lz4block"
	"github.com/firstlight-boot/firstlight/rofs/read"
	"github.com/firstlight-boot/firstlight/rofs/zstdblock"
)

// Figures are medians of the rounds. Speeds are content in bytes a second of one core's time, times are nanoseconds of it, and each ratio is
// the median of those within a round, in which everything was measured one after the other.
type Figures struct {
	Codec float64 // decoding all clusters, from memory to memory that stays
	Files float64 // fs.ReadFile of each file of the tree
	Parts float64 // the same files, read 32 KiB at a time
	// Warm and Cold are what reading 4 KiB takes when the cluster is in memory and when it is not, and Decode what decoding
	// one of those clusters takes.
	Warm, Cold, Decode float64

	FilesRatio, PartsRatio float64 // to Codec
	WarmRatio, ColdRatio   float64 // to Decode
}

// String prints the ratios with what is behind them.
func (f Figures) String() string {
	return fmt.Sprintf("sequential / codec: ReadFile %.2f, 32 KiB reads %.2f (%.0f, %.0f and %.0f MB/s)\n"+
		"4 KiB reads / one cluster decode: warm %.4f, cold %.2f (%.0f, %.0f and %.0f ns)",
		f.FilesRatio, f.PartsRatio, f.Files/1e6, f.Parts/1e6, f.Codec/1e6,
		f.WarmRatio, f.ColdRatio, f.Warm, f.Cold, f.Decode)
}

// cluster is one that is stored: each record of the table once.
type cluster struct {
	format.Cluster
	place
}

// place is where in a file a cluster's content is.
type place struct {
	path  string
	off   int64
	size  int
	whole bool // as large as the file's clusters are
}

const piece = 4 << 10

// Read measures the ROFS image in r, of size bytes, in so many rounds, in each of which everything is measured in turn. It
// holds the image in memory, and all of it counts as read from the page cache.
func Read(r io.ReaderAt, size int64, rounds int) (Figures, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	// Not on the heap, whose size says how often it is collected.
	image, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return Figures{}, err
	}
	defer syscall.Munmap(image)
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), image); err != nil {
		return Figures{}, err
	}
	list, total, err := clusters(r, size)
	if err != nil {
		return Figures{}, err
	}
	if len(list) == 0 || rounds < 1 {
		return Figures{}, errors.New("nothing to measure")
	}
	var all [6][]float64
	rnd := rand.New(rand.NewPCG(1, 2))
	var d decoder
	for range rounds {
		t, err := timed(func() error { return d.all(image, list) })
		if err != nil {
			return Figures{}, err
		}
		decoded := 0
		for i := range list {
			decoded += int(list[i].Size())
		}
		all[0] = append(all[0], float64(decoded)/t.Seconds())
		for i, read := range []func(fs.FS, string) error{whole, parts} {
			f, err := rofs.Open(r, size)
			if err != nil {
				return Figures{}, err
			}
			t, err := timed(func() error { return every(f, read) })
			if err != nil {
				return Figures{}, err
			}
			all[1+i] = append(all[1+i], float64(total)/t.Seconds())
		}
		if err := random(r, image, list, rnd, &d, &all); err != nil {
			return Figures{}, err
		}
	}
	median := func(of func(round int) float64) float64 {
		var v []float64
		for i := range rounds {
			v = append(v, of(i))
		}
		slices.Sort(v)
		return v[rounds/2]
	}
	one := func(k int) float64 { return median(func(i int) float64 { return all[k][i] }) }
	ratio := func(k, by int) float64 { return median(func(i int) float64 { return all[k][i] / all[by][i] }) }
	return Figures{one(0), one(1), one(2), one(3), one(4), one(5), ratio(1, 0), ratio(2, 0), ratio(3, 5), ratio(4, 5)}, nil
}

// timed returns the processor's time that do takes, the kernel's and that of collecting its garbage included: others on the machine
// change it less than time that passes.
func timed(do func() error) (time.Duration, error) {
	runtime.GC()
	start, err := used()
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	end, err := used()
	return end - start, err
}

func used() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// clusters lists the stored clusters of an image, and counts the bytes of its files.
func clusters(r io.ReaderAt, size int64) (list []cluster, total int64, err error) {
	f, err := rofs.Open(r, size)
	if err != nil {
		return nil, 0, err
	}
	rd, err := read.Open(r, size, read.Options{})
	if err != nil {
		return nil, 0, err
	}
	seen := map[uint64]bool{}
	err = fs.WalkDir(f, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		i, err := e.Info()
		if err != nil {
			return err
		}
		total += i.Size()
		var n format.Inode
		if err := rd.Inode(i.Sys().(*rofs.Stat).Ino, &n); err != nil {
			return err
		}
		for index := uint64(0); index<<n.ClusterLog() < n.Size(); index++ {
			record, _, ok := read.Place(&n, index)
			if !ok || seen[record] {
				continue
			}
			seen[record] = true
			off, full := index<<n.ClusterLog(), uint64(1)<<n.ClusterLog()
			size := min(n.Size()-off, full)
			c := cluster{place: place{path, int64(off), int(size), size == full}}
			if err := rd.Record(record, &c.Cluster); err != nil {
				return err
			}
			if c.Codec() != format.CodecHole {
				list = append(list, c)
			}
		}
		return nil
	})
	return list, total, err
}

// decoder is the codecs alone.
type decoder struct {
	buf  [1 << format.MaxClusterLog]byte
	zstd zstdblock.Decoder
}

func (d *decoder) all(image []byte, list []cluster) error {
	for i := range list {
		c := &list[i]
		src, dst := image[c.Off():][:c.Len()], d.buf[:c.Size()]
		n := 0
		switch c.Codec() {
		case format.CodecLZ4:
			n = lz4block.Decode(dst, src)
		case format.CodecZstd:
			n = d.zstd.Decode(dst, src)
		default:
			n = copy(dst, src)
		}
		if n != len(dst) {
			return fmt.Errorf("a cluster of %s decodes to %d bytes, not %d", c.path, n, len(dst))
		}
	}
	return nil
}

// every reads all files.
func every(f fs.FS, read func(fs.FS, string) error) error {
	return fs.WalkDir(f, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		return read(f, path)
	})
}

func whole(f fs.FS, path string) error {
	_, err := fs.ReadFile(f, path)
	return err
}

var partBuf [32 << 10]byte

func parts(f fs.FS, path string) error {
	r, err := f.Open(path)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, partBuf[:])
	return errors.Join(err, r.Close())
}

// random reads 4 KiB, from anywhere in clusters of the largest size in the image, at most 2048: from each once while it is not in
// memory, and again and again from a few that are.
func random(r io.ReaderAt, image []byte, list []cluster, rnd *rand.Rand, d *decoder, all *[6][]float64) error {
	largest := piece
	for i := range list {
		largest = max(largest, list[i].size)
	}
	var some []cluster
	for _, i := range rnd.Perm(len(list)) {
		if c := list[i]; c.Codec() != format.CodecRaw && int(c.Size()) == c.size && c.whole && c.size == largest {
			if some = append(some, c); len(some) == 2048 {
				break
			}
		}
	}
	if len(some) == 0 {
		return errors.New("no file is large enough for random reads")
	}
	f, err := rofs.Open(r, int64(len(image)))
	if err != nil {
		return err
	}
	files := map[string]io.ReaderAt{}
	at := make([]io.ReaderAt, len(some))
	for i := range some {
		c := &some[i]
		if files[c.path] == nil {
			file, err := f.Open(c.path)
			if err != nil {
				return err
			}
			defer file.Close()
			files[c.path] = file.(io.ReaderAt)
		}
		at[i] = files[c.path]
	}
	var p [piece]byte
	pass := func(count int) error {
		for i := range count {
			c := &some[i]
			if _, err := at[i].ReadAt(p[:], c.off+int64(rnd.IntN(c.size-piece+1))); err != nil {
				return err
			}
		}
		return nil
	}
	if len(some)*largest > 64<<20 { // more than the cache holds: all are read into memory that was in use, and again none is there
		if err := pass(len(some)); err != nil {
			return err
		}
	}
	cold, err := timed(func() error { return pass(len(some)) })
	if err != nil {
		return err
	}
	few, often := min(len(some), 64), 80
	for range 3 { // what is wanted again is kept: they are in memory from here on
		if err := pass(few); err != nil {
			return err
		}
	}
	warm, err := timed(func() error {
		for range often {
			if err := pass(few); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	decode, err := timed(func() error { return d.all(image, some) })
	per := float64(len(some))
	all[3] = append(all[3], float64(warm.Nanoseconds())/float64(few*often))
	all[4] = append(all[4], float64(cold.Nanoseconds())/per)
	all[5] = append(all[5], float64(decode.Nanoseconds())/per)
	return err
}

// ReadPath is Read of the image in a file.
func ReadPath(path string, rounds int) (f Figures, err error) {
	r, err := os.Open(path)
	if err != nil {
		return f, err
	}
	defer r.Close()
	i, err := r.Stat()
	if err != nil {
		return f, err
	}
	return Read(r, i.Size(), rounds)
}
