package boottrace

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
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

// OpenRuns reads the recording in the named file without its profiles and disk requests, of which only the check codes are
// looked at.
func OpenRuns(path string) (*Recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := &decoder{r: f, runs: true}
	rec := d.recording()
	if d.err != nil {
		return nil, fmt.Errorf("%s: %w", path, d.err)
	}
	return rec, nil
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
	r     io.Reader
	off   int64
	total uint64 // bytes of sections, decompressed
	runs  bool   // no rows and no profiles
	z     io.ReadCloser
	err   error
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
	if d.err == nil && (h.version() < oldest || h.version() > version) {
		d.fail(8, "version", fmt.Errorf("%w: version %d, this program reads versions %d to %d", ErrUnsupported, h.version(), oldest, version))
	}
	var rec *Recording
	var rows *rowReader // nil before the first run or profile
	for d.err == nil {
		off := d.off
		tag, raw := d.section()
		if d.err != nil {
			break
		}
		switch {
		case d.runs && d.skips(tag):
		case tag == tagEnd:
			if len(raw) != 0 {
				d.fail(off, "last section", ErrFormat)
			}
			if rec == nil {
				d.fail(off, "last section", fmt.Errorf("%w: it holds no boot", ErrFormat))
			}
			rows.finish(d)
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
			rows.finish(d)
			rec.Runs = append(rec.Runs, run)
			rows = &rowReader{off: off, run: &rec.Runs[len(rec.Runs)-1]}
		case tag == tagProfile && rec != nil:
			rows.finish(d)
			rows = &rowReader{off: off, p: d.profile(off, raw, rec)}
		case rows != nil && rows.read(d, off, tag, raw):
		case tag[0] >= 'a' && tag[0] <= 'z':
		default:
			d.fail(off, "section", fmt.Errorf("%w: section %q", ErrUnsupported, tag[:]))
		}
	}
	return rec
}

// skips reports whether a section is one of rows or a profile's.
func (d *decoder) skips(tag [4]byte) bool { return tag != tagBoot && tag != tagRun && tag != tagEnd }

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
	if d.total += s.rawLen(); d.total > maxTotal {
		d.fail(off+16, "section", fmt.Errorf("%w: more than %d bytes in all", ErrTooLarge, maxTotal))
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
	if d.err != nil || s.stored() == 0 && s.rawLen() == 0 || d.runs && d.skips(s.tag()) {
		return s.tag(), nil
	}
	src := bytes.NewReader(stored.Bytes())
	if d.z == nil {
		d.z = flate.NewReader(src)
	} else if err := d.z.(flate.Resetter).Reset(src, nil); err != nil {
		d.err = err
	}
	raw := make([]byte, s.rawLen()) // at most maxRatio times what is there
	_, err = io.ReadFull(d.z, raw)
	if n, end := d.z.Read(make([]byte, 1)); err != nil || n != 0 || end != io.EOF || src.Len() != 0 {
		d.fail(off+sectionSize, "section", fmt.Errorf("%w: bad DEFLATE stream", ErrFormat))
	}
	return s.tag(), raw
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

// profile begins a profile of rec.
func (d *decoder) profile(off int64, raw []byte, rec *Recording) *Profile {
	c := &cursor{b: raw}
	p := &Profile{Kind: ProfileKind(c.text()), PeriodNanos: int64(c.uvarint())}
	for range c.count() {
		p.Phases = append(p.Phases, c.text())
	}
	switch {
	case p.Kind == Exact && rec.Exact == nil:
		rec.Exact = p
	case p.Kind == Sampled && rec.Sampled == nil:
		rec.Sampled = p
	default:
		c.bad = true
	}
	d.end(off, "profile", c)
	return p
}

// rowReader takes the sections of rows of a run or of a profile.
type rowReader struct {
	off  int64 // of the section that it begins with
	run  *Run
	p    *Profile
	strs []string
	text int // bytes of strs
	// What there are most of is decoded at the end, when it is known how many there are: growing it would take twice the memory.
	stacks, samples []pending
}

// pending is a section of n rows that is still to be decoded.
type pending struct {
	off int64
	n   int
	c   *cursor
}

// finish checks what was collected.
func (r *rowReader) finish(d *decoder) {
	switch {
	case r == nil || d.err != nil:
	case r.run != nil:
		d.valid(r.off, "run", errors.Join(r.run.checkValid(), r.run.checkIO()))
	default:
		r.rows(d)
		d.valid(r.off, "profile", errors.Join(r.p.checkSize(), r.p.CheckValid()))
	}
}

// read takes a section of rows; it reports whether the section is one, and in its place.
func (r *rowReader) read(d *decoder, off int64, tag [4]byte, raw []byte) bool {
	c := &cursor{b: raw}
	switch {
	case tag == tagStrings:
		r.strings(d, off, c)
	case tag == tagRequests && r.run != nil:
		r.requests(d, off, c)
	case r.p != nil:
		if !r.profile(d, off, tag, c) {
			return false
		}
	default:
		return false
	}
	d.end(off, "rows", c)
	return true
}

func (r *rowReader) strings(d *decoder, off int64, c *cursor) {
	lengths := make([]int, c.count())
	take(c, lengths, func(l *int, v uint64) { *l = c.int(v) })
	text := string(c.b) // of which the strings are parts
	c.b = nil
	if r.text += len(text); r.text > maxText || len(r.strs)+len(lengths) > maxStrings {
		d.fail(off, "strings", ErrTooLarge)
	}
	for _, l := range lengths {
		if l > len(text) {
			c.bad = true
			return
		}
		r.strs = append(r.strs, text[:l])
		text = text[l:]
	}
	c.bad = c.bad || text != ""
}

func (r *rowReader) requests(d *decoder, off int64, c *cursor) {
	qs := grow(d, off, &r.run.IO, c.count(), MaxRequests)
	take(c, qs, func(q *Request, v uint64) { q.Op = r.str(c, v) })
	take(c, qs, func(q *Request, v uint64) { q.Disk = c.int(v) })
	takeDeltas(c, qs, func(q *Request, v uint64) { q.Offset = v })
	take(c, qs, func(q *Request, v uint64) { q.Length = v })
	takeDeltas(c, qs, func(q *Request, v uint64) { q.StartNanos = int64(v) })
	take(c, qs, func(q *Request, v uint64) { q.Nanos = int64(v) })
	takeDeltas(c, qs, func(q *Request, v uint64) { q.Instructions = v })
	parts := many(c, qs, MaxParts, func(q *Request, parts []Part) { q.Parts = parts })
	take(c, parts, func(p *Part, v uint64) { p.Path = r.str(c, v) })
	take(c, parts, func(p *Part, v uint64) { p.What = r.str(c, v) })
	take(c, parts, func(p *Part, v uint64) { p.Offset = v })
	take(c, parts, func(p *Part, v uint64) { p.Length = v })
}

func (r *rowReader) profile(d *decoder, off int64, tag [4]byte, c *cursor) bool {
	p, n := r.p, c.count()
	switch tag {
	case tagFunctions:
		fs := grow(d, off, &p.Functions, n, MaxFunctions)
		take(c, fs, func(f *Function, v uint64) { f.Name = r.str(c, v) })
		take(c, fs, func(f *Function, v uint64) { f.System = r.str(c, v) })
		take(c, fs, func(f *Function, v uint64) { f.File = r.str(c, v) })
		take(c, fs, func(f *Function, v uint64) { f.Line = c.int(v) })
	case tagMappings:
		ms := grow(d, off, &p.Mappings, n, MaxMappings)
		take(c, ms, func(m *Mapping, v uint64) { m.Name = r.str(c, v) })
		take(c, ms, func(m *Mapping, v uint64) { m.BuildID = r.str(c, v) })
		take(c, ms, func(m *Mapping, v uint64) { m.Start = v })
		take(c, ms, func(m *Mapping, v uint64) { m.Limit = v })
		take(c, ms, func(m *Mapping, v uint64) { m.Offset = v })
	case tagLocations:
		ls := grow(d, off, &p.Locations, n, MaxLocations)
		take(c, ls, func(l *Location, v uint64) { l.Mapping = c.int(v) - 1 })
		takeDeltas(c, ls, func(l *Location, v uint64) { l.Address = v })
		lines := many(c, ls, MaxInlined, func(l *Location, lines []Line) { l.Lines = lines })
		take(c, lines, func(l *Line, v uint64) { l.Function = c.int(v) })
		take(c, lines, func(l *Line, v uint64) { l.Line = c.int(v) })
	case tagStacks:
		r.stacks = later(d, off, r.stacks, n, MaxStacks, c)
	case tagSamples:
		r.samples = later(d, off, r.samples, n, MaxSamples, c)
	default:
		return false
	}
	return true
}

func (r *rowReader) str(c *cursor, i uint64) string {
	if i >= uint64(len(r.strs)) {
		c.bad = true
		return ""
	}
	return r.strs[i]
}

// grow appends n rows, which a section of at least n bytes brought, and returns them; none when there would be too many.
func grow[T any](d *decoder, off int64, all *[]T, n, limit int) []T {
	have := len(*all)
	if n > limit-have {
		d.fail(off, "rows", fmt.Errorf("%w: more than %d of a kind", ErrTooLarge, limit))
		return nil
	}
	*all = slices.Grow(*all, n)[:have+n]
	return (*all)[have:]
}

// maxRow is more bytes than a stack or a sample can take.
const maxRow = 80

// later keeps the rest of a section of n rows for rows.
func later(d *decoder, off int64, all []pending, n, limit int, c *cursor) []pending {
	if n > limit-count(all) {
		d.fail(off, "rows", fmt.Errorf("%w: more than %d of a kind", ErrTooLarge, limit))
	}
	if len(c.b) > n*maxRow {
		c.bad = true
	}
	all = append(all, pending{off, n, &cursor{b: c.b}})
	c.b = nil
	return all
}

func count(all []pending) (n int) {
	for _, part := range all {
		n += part.n
	}
	return n
}

// rows decodes what there are most of, which is known to be there.
func (r *rowReader) rows(d *decoder) {
	if n := count(r.stacks); n > 0 {
		r.p.Stacks = make([]Stack, n)
	}
	own := 0
	for _, part := range r.stacks {
		c, ss := part.c, r.p.Stacks[own:own+part.n]
		take(c, ss, func(s *Stack, v uint64) { s.Parent = own - c.int(v); own++ })
		takeDeltas(c, ss, func(s *Stack, v uint64) { s.Location = c.int(v) - 1 })
		takeDeltas(c, ss, func(s *Stack, v uint64) { s.First = v })
		d.end(part.off, "rows", c)
	}
	if n := count(r.samples); n > 0 {
		r.p.Samples = make([]Sample, n)
	}
	done := 0
	for _, part := range r.samples {
		c, ss := part.c, r.p.Samples[done:done+part.n]
		takeDeltas(c, ss, func(s *Sample, v uint64) { s.Stack = c.int(v) })
		take(c, ss, func(s *Sample, v uint64) { s.Phase = c.int(v) - 1 })
		take(c, ss, func(s *Sample, v uint64) { s.CPU = c.int(v) })
		take(c, ss, func(s *Sample, v uint64) { s.User = v == 1; c.bad = c.bad || v > 1 })
		take(c, ss, func(s *Sample, v uint64) { s.Instructions = v })
		take(c, ss, func(s *Sample, v uint64) { s.TouchedBytes = v })
		take(c, ss, func(s *Sample, v uint64) { s.Nanos = int64(v) })
		take(c, ss, func(s *Sample, v uint64) { s.Count = v })
		d.end(part.off, "rows", c)
		done += part.n
	}
	r.stacks, r.samples = nil, nil
}

// many reads a column of counts, each at most limit, and returns rows for their sum, which belong to some by set.
func many[T, U any](c *cursor, some []T, limit int, set func(*T, []U)) []U {
	counts := make([]int, len(some))
	total := 0
	take(c, counts, func(n *int, v uint64) {
		*n = c.int(v)
		c.bad = c.bad || *n > limit
		total += *n
	})
	if c.bad || total > len(c.b) { // each takes a byte at least
		c.bad = true
		return nil
	}
	all := make([]U, total)
	left := all
	for i, n := range counts {
		if n > 0 {
			set(&some[i], left[:n:n])
			left = left[n:]
		}
	}
	return all
}

// cursor reads the numbers of a section. Once one is bad, all that follow are zero.
type cursor struct {
	b   []byte
	bad bool
}

// end fails unless the section was read to its end.
func (d *decoder) end(off int64, field string, c *cursor) {
	if c.bad || len(c.b) > 0 {
		d.fail(off, field, fmt.Errorf("%w: bad rows", ErrFormat))
	}
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() uint64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return uint64(v)
}

// int converts a number that was read; none that is used as an int is as large as 2³¹.
func (c *cursor) int(v uint64) int {
	if v > math.MaxInt32 {
		c.bad = true
		return 0
	}
	return int(v)
}

// count reads how many items follow, each of which takes a byte at least.
func (c *cursor) count() int {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return 0
	}
	return int(n)
}

func (c *cursor) text() string {
	n := c.count()
	s := string(c.b[:n])
	c.b = c.b[n:]
	return s
}

// take reads a column of rows, takeDeltas one of differences.
func take[T any](c *cursor, some []T, set func(*T, uint64)) {
	for i := range some {
		set(&some[i], c.uvarint())
	}
}

func takeDeltas[T any](c *cursor, some []T, set func(*T, uint64)) {
	var last uint64
	for i := range some {
		last += c.varint()
		set(&some[i], last)
	}
}
