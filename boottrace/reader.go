package boottrace

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Open reads the recording in the named file.
func Open(path string) (*Recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Read reads a recording. What is wrong with it is a *FormatError; an error of the reader itself is returned as it is.
func Read(r io.Reader) (*Recording, error) {
	d := &decoder{r: r}
	rec := d.recording()
	if d.err != nil {
		return nil, d.err
	}
	return rec, nil
}

// decoder is a cursor over the file. The first error sticks.
type decoder struct {
	r   io.Reader
	off int64
	err error
}

func (d *decoder) fail(off int64, field string, err error) {
	if d.err == nil {
		d.err = &FormatError{Offset: off, Field: field, Err: err}
	}
}

func (d *decoder) read(b []byte, field string) {
	if d.err != nil {
		return
	}
	n, err := io.ReadFull(d.r, b)
	switch {
	case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
		d.fail(d.off+int64(n), field, ErrTruncated)
	case err != nil:
		d.err = err
	}
	d.off += int64(n)
}

func (d *decoder) recording() *Recording {
	var h header
	d.read(h[:len(magic)], "magic")
	if d.err == nil && h.magic() != magic {
		d.fail(0, "magic", ErrFormat)
	}
	d.read(h[len(magic):], "header")
	if d.err == nil && h.check() != h.sum() {
		d.fail(12, "header", ErrChecksum)
	}
	if d.err == nil && h.version() != version {
		d.fail(8, "version", fmt.Errorf("%w: version %d, this program reads version %d", ErrUnsupported, h.version(), version))
	}
	var rec *Recording
	for d.err == nil {
		off := d.off
		tag, raw := d.section()
		if d.err != nil {
			break
		}
		switch {
		case tag == tagEnd:
			if len(raw) != 0 {
				d.fail(off, "last section", ErrFormat)
			}
			if rec == nil {
				d.fail(off, "last section", fmt.Errorf("%w: it holds no boot", ErrFormat))
			}
			if n, err := io.ReadFull(d.r, make([]byte, 1)); n != 0 {
				d.fail(d.off, "end", fmt.Errorf("%w: more bytes follow", ErrFormat))
			} else if err != io.EOF && d.err == nil {
				d.err = err
			}
			return rec
		case tag == tagBoot && rec == nil:
			rec = new(Recording)
			d.json(off, "boot", raw, rec)
			d.valid(off, "boot", rec.CheckValid())
		case tag == tagRun && rec != nil:
			var run Run
			d.json(off, "run", raw, &run)
			d.valid(off, "run", run.checkValid())
			rec.Runs = append(rec.Runs, run)
		case tag[0] >= 'a' && tag[0] <= 'z':
		default:
			d.fail(off, "section", fmt.Errorf("%w: section %q", ErrUnsupported, tag[:]))
		}
	}
	return rec
}

// section reads one section and returns its bytes, decompressed.
func (d *decoder) section() ([4]byte, []byte) {
	var s section
	off := d.off
	d.read(s[:], "section")
	if d.err != nil {
		return s.tag(), nil
	}
	if s.rawLen() > maxRaw || s.stored() > maxRaw || s.rawLen()/maxRatio > s.stored() {
		d.fail(off+8, "section", fmt.Errorf("%w: %d bytes stored, %d decompressed", ErrTooLarge, s.stored(), s.rawLen()))
		return s.tag(), nil
	}
	// The buffer grows with what is really there: a length from the file never drives an allocation.
	var stored bytes.Buffer
	n, err := io.CopyN(&stored, d.r, int64(s.stored()))
	d.off += n
	if err == io.EOF {
		d.fail(d.off, "section", ErrTruncated)
	} else if err != nil {
		d.err = err
	}
	if d.err == nil && s.check() != s.sum(stored.Bytes()) {
		d.fail(off+4, "section", ErrChecksum)
	}
	if d.err != nil || s.stored() == 0 && s.rawLen() == 0 {
		return s.tag(), nil
	}
	src := bytes.NewReader(stored.Bytes())
	var raw bytes.Buffer
	m, err := io.Copy(&raw, io.LimitReader(flate.NewReader(src), int64(s.rawLen())+1))
	if err != nil || uint64(m) != s.rawLen() || src.Len() != 0 {
		d.fail(off+sectionSize, "section", fmt.Errorf("%w: bad DEFLATE stream", ErrFormat))
	}
	return s.tag(), raw.Bytes()
}

func (d *decoder) json(off int64, field string, raw []byte, v any) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		d.fail(off, field, fmt.Errorf("%w: %s", ErrFormat, err))
	} else if _, err := dec.Token(); err != io.EOF {
		d.fail(off, field, fmt.Errorf("%w: more than one JSON value", ErrFormat))
	}
}

func (d *decoder) valid(off int64, field string, err error) {
	if err != nil {
		d.fail(off, field, fmt.Errorf("%w: %s", ErrFormat, err))
	}
}
