package rofs

import (
	"crypto/sha256"
	"io"

	"github.com/firstlight-boot/firstlight/rofs/format"
)

// sink writes in sequence, in the pieces of the root digest, which it digests. Both are done aside, by one goroutine a sink.
type sink struct {
	off   int64 // of buf
	buf   []byte
	free  chan []byte
	full  chan piece
	done  chan struct{}
	sums  []byte // of the pieces so far; the goroutine's until it is done
	err   error  // likewise
	fault chan error
}

type piece struct {
	off int64
	p   []byte
}

// newSink makes a sink that writes to w from byte off on. Its close must be called.
func newSink(w io.WriterAt, off int64) *sink {
	s := &sink{off: off, free: make(chan []byte, 2), full: make(chan piece, 2), done: make(chan struct{}), fault: make(chan error, 1)}
	s.free <- nil
	s.free <- nil
	go func() {
		defer close(s.done)
		for x := range s.full {
			if s.err == nil {
				if _, s.err = w.WriteAt(x.p, x.off); s.err != nil {
					s.fault <- s.err
				}
				sum := sha256.Sum256(x.p)
				s.sums = append(s.sums, sum[:]...)
			}
			s.free <- x.p[:0]
		}
	}()
	return s
}

// at is where the next byte goes.
func (s *sink) at() int64 { return s.off + int64(len(s.buf)) }

func (s *sink) write(p []byte) {
	for len(p) > 0 {
		if s.buf == nil {
			if s.buf = <-s.free; s.buf == nil {
				s.buf = make([]byte, 0, format.DigestPiece)
			}
		}
		n := min(len(p), format.DigestPiece-len(s.buf))
		s.buf = append(s.buf, p[:n]...)
		p = p[n:]
		if len(s.buf) == format.DigestPiece {
			s.flush()
		}
	}
}

func (s *sink) flush() {
	if len(s.buf) > 0 {
		s.full <- piece{s.off, s.buf}
		s.off += int64(len(s.buf))
		s.buf = nil
	}
}

// close writes what is left and returns the first error.
func (s *sink) close() error {
	s.flush()
	close(s.full)
	<-s.done
	return s.err
}

// failed returns the error of a write so far.
func (s *sink) failed() error {
	select {
	case err := <-s.fault:
		return err
	default:
		return nil
	}
}

// pad writes zeros up to a multiple of a block.
func (s *sink) pad() {
	var zeros [format.BlockSize]byte
	if rest := s.at() % format.BlockSize; rest != 0 {
		s.write(zeros[rest:])
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
