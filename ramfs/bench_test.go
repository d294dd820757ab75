package ramfs

import (
	"bytes"
	"slices"
	"strconv"
	"testing"
	"time"
)

// BenchmarkAppend appends 90 bytes at a time to a file of 50 MB (OSv's issue 884). last/first is the throughput of the last
// tenth of it by that of the first: of each, the median over 64 pieces, so that the machine's other work does not count.
func BenchmarkAppend(b *testing.B) {
	const size, record, pieces = 50 << 20, 90, 640
	line := bytes.Repeat([]byte("x"), record)
	var took [pieces]time.Duration
	b.SetBytes(size)
	for b.Loop() {
		f := New(Options{})
		n := create(b, f.Root(), "log", TypeReg|0o644)
		off := uint64(0)
		for i := range took {
			start := time.Now()
			for off < uint64(i+1)*size/pieces {
				if _, err := n.WriteAt(line, off); err != 0 {
					b.Fatal(err)
				}
				off += record
			}
			took[i] = time.Since(start)
		}
	}
	slices.Sort(took[:pieces/10])
	slices.Sort(took[pieces-pieces/10:])
	b.ReportMetric(float64(took[pieces/20])/float64(took[pieces-pieces/20]), "last/first")
}

// counting is an Allocator that keeps its blocks for the next use, so that the system's work on fresh memory is not measured.
type counting struct {
	free [][]byte
	out  int
}

func (c *counting) Alloc() []byte {
	c.out++
	if n := len(c.free) - 1; n >= 0 {
		b := c.free[n]
		c.free = c.free[:n]
		clear(b)
		return b
	}
	return make([]byte, BlockSize)
}

func (c *counting) Free(b []byte) {
	c.out--
	c.free = append(c.free, b)
}

// BenchmarkFree removes 1 GB of files, of sizes from one page to 256 MiB. ms-to-pool is the time until all their pages, and so all
// blocks, are back; blocks-left is how many are not.
func BenchmarkFree(b *testing.B) {
	mem := &counting{}
	f := New(Options{Memory: NewPool(mem)})
	page := make([]byte, PageSize)
	var best time.Duration
	for b.Loop() {
		b.StopTimer()
		left := 1 << 30
		for i := 0; left > 0; i++ {
			n := create(b, f.Root(), strconv.Itoa(i), TypeReg|0o644)
			size := min(left, PageSize<<(i%17))
			for off := 0; off < size; off += len(page) {
				if _, err := n.WriteAt(page, uint64(off)); err != 0 {
					b.Fatal(err)
				}
			}
			left -= size
		}
		b.StartTimer()
		start := time.Now()
		for pos := uint64(0); ; {
			name, _, next, ok := f.Root().ReadDir(pos)
			if !ok {
				break
			}
			if err := f.Root().Remove(name, false); err != 0 {
				b.Fatal(err)
			}
			pos = next
		}
		if d := time.Since(start); best == 0 || d < best {
			best = d
		}
	}
	b.ReportMetric(float64(best)/1e6, "ms-to-pool")
	b.ReportMetric(float64(mem.out), "blocks-left")
}
