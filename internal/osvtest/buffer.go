package osvtest

import "errors"

// Buffer is an io.WriterAt in memory that fails when it would be longer than Most, unless that is 0.
type Buffer struct {
	B    []byte
	Most int
}

// ErrFull is a Buffer's error.
var ErrFull = errors.New("full")

func (w *Buffer) WriteAt(p []byte, off int64) (int, error) {
	n := int(off) + len(p)
	if w.Most > 0 && n > w.Most {
		return 0, ErrFull
	}
	if n > len(w.B) {
		w.B = append(w.B, make([]byte, n-len(w.B))...)
	}
	return copy(w.B[off:], p), nil
}
