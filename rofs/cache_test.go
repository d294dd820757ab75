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
)

// TestSharedCache has readers of one file at once, more of it than the cache holds: each reads what is there, or the error of
// the one cluster that cannot be read for a while, which can be read afterwards.
func TestSharedCache(t *testing.T) {
	part := mixed(1<<20, 7)
	const copies = 40
	data := bytes.Repeat(part, copies)
	for i := range copies {
		data[i<<20] = byte(i) // or they would be shared
	}
	image := write(t, newTree(t, file("big", data), file("other", part[:5000])), rofs.Options{})
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
	round := func(mayFail bool) {
		var wg sync.WaitGroup
		for worker := range uint64(6) {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(worker, 3))
				p := make([]byte, 20000)
				for range 1500 {
					off := rnd.IntN(len(data) - len(p))
					q := p[:1+rnd.IntN(len(p))]
					if n, err := r.ReadAt(q, int64(off)); mayFail && errors.Is(err, broken) {
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
