package rofs_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/firstlight-boot/firstlight/rofs"
	"github.com/firstlight-boot/firstlight/rofs/format"
)

var largeImage struct {
	sync.Once
	big, small, image []byte
}

// large returns the files "big", which is larger than the cache, and "small", a packed tail, and an image of them, for several
// tests.
func large(t *testing.T) (big, small, image []byte) {
	l := &largeImage
	l.Do(func() {
		part := mixed(1<<20, 7)
		l.big, l.small = bytes.Repeat(part, 40), part[:5000]
		for i := range 40 {
			l.big[i<<20] = byte(i) // or they would be shared
		}
		l.image = write(t, newTree(t, file("big", l.big), file("small", l.small)), rofs.Options{})
	})
	return l.big, l.small, l.image
}

// TestSharedCache has readers of one file at once, in order and not, more of it than the cache holds: each reads what is there,
// or the error of the one cluster that cannot be read for a while, which can be read afterwards.
func TestSharedCache(t *testing.T) {
	data, _, image := large(t)
	var bad atomic.Int64 // bytes of the image from there on fail
	bad.Store(1 << 62)
	broken := errors.New("broken")
	f, err := rofs.Open(readerAt(func(p []byte, off int64) (int, error) {
		if off+int64(len(p)) > bad.Load() {
			return 0, broken
		}
		return bytes.NewReader(image).ReadAt(p, off)
	}), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	file, err := f.Open("big")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r := file.(io.ReaderAt)
	reads := 1500
	if raceEnabled {
		reads = 300
	}
	round := func(mayFail bool) {
		var wg sync.WaitGroup
		for worker := range uint64(6) {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(worker, 3))
				readAt := r.ReadAt
				if worker%2 == 1 { // as one who reads in order
					own, err := f.Open("big")
					if err != nil {
						t.Error(err)
						return
					}
					defer own.Close()
					readAt = func(p []byte, off int64) (int, error) {
						if _, err := own.(io.Seeker).Seek(off, io.SeekStart); err != nil {
							return 0, err
						}
						return io.ReadFull(own, p)
					}
				}
				p := make([]byte, 20000)
				for range reads {
					off := rnd.IntN(len(data) - len(p))
					q := p[:1+rnd.IntN(len(p))]
					if n, err := readAt(q, int64(off)); mayFail && errors.Is(err, broken) {
					} else if err != nil || n != len(q) || !bytes.Equal(q, data[off:off+n]) {
						t.Errorf("%d bytes at %d: %d, %v", len(q), off, n, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	round(false)
	bad.Store(int64(len(image) / 2))
	round(true)
	bad.Store(1 << 62)
	round(false)
	if _, err := r.ReadAt(make([]byte, 10), int64(len(data))); err != io.EOF {
		t.Errorf("behind the end: %v", err)
	}
}

// TestReadOnce reads from end to end more than the cache holds: what was in memory stays, and what comes again gets there.
func TestReadOnce(t *testing.T) {
	big, small, image := large(t)
	var data, metadata int64 // how often data was read, and what is none
	f, err := rofs.Open(readerAt(func(p []byte, off int64) (int, error) {
		if off >= metadata {
			data++
		}
		return bytes.NewReader(image).ReadAt(p, off)
	}), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	metadata = f.Info().MetadataBytes
	p := make([]byte, 20000)
	part := func(i int) {
		file, err := f.Open("big")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.(io.Seeker).Seek(int64(i), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(file, p); err != nil || !bytes.Equal(p, big[i:i+len(p)]) {
			t.Fatalf("%d bytes at %d differ or %v", len(p), i, err)
		}
	}
	whole := func() {
		if b, err := f.ReadFile("small"); err != nil || !bytes.Equal(b, small) {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
	}
	for range 8 {
		whole()
		part(1 << 20)
		part(2 << 20)
		part(3 << 20) // the reader keeps this one
	}
	for i := 4 << 20; i+len(p) <= len(big); i += len(p) {
		part(i)
	}
	before := data
	whole()
	part(1 << 20)
	part(2 << 20)
	if data != before {
		t.Errorf("read again: %d times", data-before)
	}
}

// TestReadStart reads here and there: each read is right, the first of a cluster leaves nothing in memory, the second does, and
// what is stored is verified also where it is not decoded.
func TestReadStart(t *testing.T) {
	big, small, image := large(t)
	var metadata, reads, last int64 // reads of data, and the last byte that they read
	bad := int64(-1)                // the byte there is wrong
	dev := readerAt(func(p []byte, off int64) (int, error) {
		n, err := bytes.NewReader(image).ReadAt(p, off)
		if off >= metadata {
			reads++
			last = off + int64(n) - 1
		}
		if at := bad - off; at >= 0 && at < int64(n) {
			p[at] ^= 1
		}
		return n, err
	})
	var f *rofs.FS
	readAt := func(name string, want []byte, off, n int) error {
		file, err := f.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		p := make([]byte, n)
		if _, err := file.(io.ReaderAt).ReadAt(p, int64(off)); err != nil {
			return err
		}
		if !bytes.Equal(p, want[off:off+n]) {
			t.Fatalf("%s: %d bytes at %d are wrong", name, n, off)
		}
		return nil
	}
	fresh := func() {
		var err error
		if f, err = rofs.Open(dev, int64(len(image))); err != nil {
			t.Fatal(err)
		}
		metadata = f.Info().MetadataBytes
	}
	fresh()
	info, err := f.Stat("big")
	if err != nil {
		t.Fatal(err)
	}
	cluster := info.Sys().(*rofs.Stat).ClusterSize
	for round, want := range []int64{5, 5, 0} {
		before := reads
		for k := 1; k < 11; k += 2 { // none follows another
			if err := readAt("big", big, k*cluster+100+100*round, 3000); err != nil {
				t.Fatal(err)
			}
		}
		if got := reads - before; got != want {
			t.Errorf("round %d: %d reads of data, want %d", round, got, want)
		}
	}
	rnd := rand.New(rand.NewPCG(5, 5))
	for range 2000 {
		n := 1 + rnd.IntN(cluster*3/2)
		if err := readAt("big", big, rnd.IntN(len(big)-n), n); err != nil {
			t.Fatal(err)
		}
		n = 1 + rnd.IntN(len(small))
		if err := readAt("small", small, rnd.IntN(len(small)-n+1), n); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"big", "small"} {
		fresh()
		want := map[string][]byte{"big": big, "small": small}[name]
		if err := readAt(name, want, 100, 10); err != nil {
			t.Fatal(err)
		}
		fresh()
		for _, bad = range []int64{last, last, -1, -1} {
			if err := readAt(name, want, 100, 10); bad < 0 && err != nil || bad >= 0 && !errors.Is(err, format.ErrChecksum) {
				t.Errorf("%s with byte %d of the image damaged: %v", name, bad, err)
			}
		}
	}
}
