package rofs

import (
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"io"
	"io/fs"
	"slices"

	"github.com/firstlight-boot/firstlight/rofs/format"
)

// fileReader makes jobs of the content of files.
type fileReader struct {
	ctx    context.Context
	p      *plan
	free   chan *job // none of the three ever blocks who sends: there are no more jobs than room
	work   chan *job
	order  chan *job
	open   *job // the cluster of tails that is being filled
	tails  dedup
	buf    []byte
	inline int
	packed int
}

// run reads everything in the order of the plan. Where something cannot be read, the last job has the error.
func (r *fileReader) run() {
	for i := range r.p.order {
		x := &r.p.order[i]
		if err := r.read(x); err != nil {
			if j := r.get(); j != nil {
				j.err, j.path = err, x.f.entry.Path
				if pe, ok := errors.AsType[*otherFile](err); ok {
					j.err, j.path = pe.err, pe.path
				}
				r.order <- j
				j.done <- struct{}{}
			}
			return
		}
	}
	r.closeTails()
}

// get returns a free job, or nil once the context is cancelled.
func (r *fileReader) get() *job {
	select {
	case j := <-r.free:
		j.f, j.in, j.tails, j.err = nil, j.in[:0], j.tails[:0], nil
		return j
	case <-r.ctx.Done():
		return nil
	}
}

func (r *fileReader) send(j *job) {
	r.order <- j
	r.work <- j
}

// read makes jobs of a run of a file's clusters.
func (r *fileReader) read(x *stretch) error {
	f := x.f
	size := f.entry.Size
	src, err := f.entry.Source()
	if err != nil {
		return err
	}
	defer func() {
		if src != nil {
			src.Close() // an earlier error, or the cancellation, is what counts
		}
	}()
	if err := skip(src, x.from<<f.log); err != nil {
		return err
	}
	for index := x.from; index < x.to; index++ {
		n := int(min(size-index<<f.log, 1<<f.log))
		if f.inline || f.packed && index == size>>f.log {
			r.buf = slices.Grow(r.buf[:0], n)[:n]
			if err := readFull(src, r.buf); err != nil {
				return err
			}
			if f.inline {
				r.p.strings.fill(r.p.inodes[f.ino-1].First(), r.buf)
				r.inline++
			} else if err := r.pack(f, index, r.buf); err != nil {
				return err
			}
			continue
		}
		j := r.get()
		if j == nil {
			return context.Cause(r.ctx)
		}
		j.f, j.index = f, index
		j.in = room(j.in, n, 1<<f.log)[:n]
		if err := readFull(src, j.in); err != nil {
			r.free <- j
			return err
		}
		r.send(j)
	}
	if x.to<<f.log < size {
		return nil
	}
	if err := atEnd(src); err != nil {
		return err
	}
	err = src.Close()
	src = nil
	return err
}

// pack puts the tail of a file into a cluster with others.
func (r *fileReader) pack(f *file, index int64, data []byte) error {
	if zero(data) { // a hole
		r.p.inodes[f.ino-1].SetLayout(format.LayoutClusters)
		return nil
	}
	old, err := r.tails.find(maphash.Bytes(r.tails.seed, data), f, index, data, nil)
	if err != nil {
		return err
	}
	r.packed++
	if old != nil {
		r.p.twins = append(r.p.twins, twin{f.ino, old.ino})
		return nil
	}
	if r.open != nil && len(r.open.in)+len(data) > r.p.tailRoom {
		r.closeTails()
	}
	if r.open == nil {
		if r.open = r.get(); r.open == nil {
			return context.Cause(r.ctx)
		}
		r.open.in = room(r.open.in, 0, r.p.tailRoom)
	}
	r.open.tails = append(r.open.tails, tail{f.ino, uint32(len(r.open.in))})
	r.open.in = append(r.open.in, data...)
	return nil
}

func (r *fileReader) closeTails() {
	if r.open != nil {
		r.send(r.open)
		r.open = nil
	}
}

// room returns p, or something longer, with room for n bytes and then for up to size, empty.
func room(p []byte, n, size int) []byte {
	if cap(p) < max(n, size) {
		p = make([]byte, 0, size)
	}
	return p[:0]
}

func readFull(r io.Reader, p []byte) error {
	_, err := io.ReadFull(r, p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
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

// skip reads n bytes of r for nothing.
func skip(r io.Reader, n int64) error {
	if n == 0 {
		return nil
	}
	_, err := io.CopyN(io.Discard, r, n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// dedup finds content that was seen before. A hash finds what may be equal, bytes decide, so the hash, whose seed is another each
// time, has no influence on the image.
type dedup struct {
	p     *plan
	seed  maphash.Seed
	last  map[uint64]int32 // index into list of the last one with that hash
	list  []seen
	buf   []byte
	found int
	bytes int64
}

type seen struct {
	*file
	index int64
	prev  int32 // with that hash; -1: none
}

// maxSkip is how much of a stream, which cannot be read at an offset, is read for a comparison.
const maxSkip = 1 << 20

// find returns where data was seen, for whose cluster ok must say yes; else it takes note of where it is.
func (d *dedup) find(hash uint64, f *file, index int64, data []byte, ok func(*format.Cluster) bool) (*seen, error) {
	k, any := d.last[hash]
	if !any {
		k = -1
	}
	for i := k; i >= 0; i = d.list[i].prev {
		s := &d.list[i]
		if ok != nil && !ok(&d.p.clusters[d.p.inodes[s.ino-1].First()+uint64(s.index)]) {
			continue
		}
		same, err := d.same(s, data)
		if err != nil {
			return nil, &otherFile{s.entry.Path, err}
		}
		if same {
			d.found++
			d.bytes += int64(len(data))
			return s, nil
		}
	}
	if d.last == nil {
		d.last = map[uint64]int32{}
	}
	d.last[hash] = int32(len(d.list))
	d.list = append(d.list, seen{f, index, k})
	return nil, nil
}

// same compares data with what the file of s has.
func (d *dedup) same(s *seen, data []byte) (bool, error) {
	off := s.index << s.log
	if min(s.entry.Size-off, 1<<s.log) != int64(len(data)) {
		return false, nil
	}
	src, err := s.entry.Source()
	if err != nil {
		return false, err
	}
	defer src.Close() // it was read only to compare
	d.buf = slices.Grow(d.buf[:0], len(data))[:len(data)]
	if at, ok := src.(io.ReaderAt); ok {
		if n, err := at.ReadAt(d.buf, off); n < len(d.buf) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return false, err
		}
	} else {
		if off > maxSkip {
			return false, nil
		}
		if err := skip(src, off); err != nil {
			return false, err
		}
		if err := readFull(src, d.buf); err != nil {
			return false, err
		}
	}
	return bytes.Equal(d.buf, data), nil
}

// otherFile is the error of reading another file than the one at hand.
type otherFile struct {
	path string
	err  error
}

func (e *otherFile) Error() string {
	return (&fs.PathError{Op: "read", Path: e.path, Err: e.err}).Error()
}
func (e *otherFile) Unwrap() error { return e.err }
