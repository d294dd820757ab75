package boottrace

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Write writes the recording in the format of `recording.fl`. The same recording gives the same bytes.
func Write(w io.Writer, r *Recording) error {
	if err := r.CheckValid(); err != nil {
		return err
	}
	for i := range r.Runs {
		if err := r.Runs[i].checkIO(); err != nil {
			return fmt.Errorf("recording: run %d: %w", i, err)
		}
	}
	if err := errors.Join(r.Exact.checkWritable(Exact), r.Sampled.checkWritable(Sampled)); err != nil {
		return err
	}
	var h header
	h.setMagic()
	h.setVersion(version)
	h.setCheck(h.sum())
	e := &encoder{w: w}
	e.write(h[:])
	e.json(tagBoot, r)
	for i := range r.Runs {
		e.run(r.Runs[i])
	}
	e.profile(r.Exact)
	e.profile(r.Sampled)
	e.section(tagEnd, nil)
	return e.err
}

// encoder writes sections. The first error sticks.
type encoder struct {
	w     io.Writer
	total uint64 // bytes of sections before their compression
	err   error

	b     []byte            // the section of rows that is being made
	strs  []string          // of the run or the profile
	index map[string]uint64 // of strs
}

func (e *encoder) write(b []byte) {
	if e.err == nil {
		_, e.err = e.w.Write(b)
	}
}

func (e *encoder) json(tag [4]byte, v any) {
	raw, err := json.Marshal(v)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.section(tag, raw)
}

func (e *encoder) section(tag [4]byte, raw []byte) {
	if e.total += uint64(len(raw)); e.err == nil && (len(raw) > maxRaw || e.total > maxTotal) {
		e.err = fmt.Errorf("recording: %w: section %s of %d bytes, %d in all", ErrTooLarge, tag, len(raw), e.total)
	}
	if e.err != nil {
		return
	}
	var stored bytes.Buffer
	if len(raw) > 0 {
		// Neither can fail: the level is a valid one, and the writer is memory.
		z, _ := flate.NewWriter(&stored, flate.DefaultCompression)
		z.Write(raw)
		z.Close()
	}
	var s section
	s.setTag(tag)
	s.setStored(uint64(stored.Len()))
	s.setRawLen(uint64(len(raw)))
	s.setCheck(s.sum(stored.Bytes()))
	e.write(s[:])
	e.write(stored.Bytes())
}

// run writes a run, of which it has a copy.
func (e *encoder) run(run Run) {
	requests := run.IO
	run.IO = nil
	e.json(tagRun, &run)
	if len(requests) == 0 {
		return
	}
	e.begin()
	for _, q := range requests {
		e.str(q.Op)
		for _, part := range q.Parts {
			e.str(part.Path)
			e.str(part.What)
		}
	}
	e.strings()
	writeRows(e, tagRequests, requests, func(q Request) int { return 80 + 28*len(q.Parts) }, func(qs []Request, _ int) {
		column(e, qs, func(q *Request) uint64 { return e.str(q.Op) })
		column(e, qs, func(q *Request) uint64 { return uint64(q.Disk) })
		deltas(e, qs, func(q *Request) uint64 { return q.Offset })
		column(e, qs, func(q *Request) uint64 { return q.Length })
		deltas(e, qs, func(q *Request) uint64 { return uint64(q.StartNanos) })
		column(e, qs, func(q *Request) uint64 { return uint64(q.Nanos) })
		deltas(e, qs, func(q *Request) uint64 { return q.Instructions })
		column(e, qs, func(q *Request) uint64 { return uint64(len(q.Parts)) })
		var parts []Part
		for _, q := range qs {
			parts = append(parts, q.Parts...)
		}
		column(e, parts, func(p *Part) uint64 { return e.str(p.Path) })
		column(e, parts, func(p *Part) uint64 { return e.str(p.What) })
		column(e, parts, func(p *Part) uint64 { return p.Offset })
		column(e, parts, func(p *Part) uint64 { return p.Length })
	})
}

func (e *encoder) profile(p *Profile) {
	if p == nil {
		return
	}
	e.b = e.b[:0]
	e.text(string(p.Kind))
	e.put(uint64(p.PeriodNanos))
	e.put(uint64(len(p.Phases)))
	for _, name := range p.Phases {
		e.text(name)
	}
	e.section(tagProfile, e.b)
	e.begin()
	for _, f := range p.Functions {
		e.str(f.Name)
		e.str(f.System)
		e.str(f.File)
	}
	for _, m := range p.Mappings {
		e.str(m.Name)
		e.str(m.BuildID)
	}
	e.strings()
	writeRows(e, tagFunctions, p.Functions, func(Function) int { return 24 }, func(fs []Function, _ int) {
		column(e, fs, func(f *Function) uint64 { return e.str(f.Name) })
		column(e, fs, func(f *Function) uint64 { return e.str(f.System) })
		column(e, fs, func(f *Function) uint64 { return e.str(f.File) })
		column(e, fs, func(f *Function) uint64 { return uint64(f.Line) })
	})
	writeRows(e, tagMappings, p.Mappings, func(Mapping) int { return 40 }, func(ms []Mapping, _ int) {
		column(e, ms, func(m *Mapping) uint64 { return e.str(m.Name) })
		column(e, ms, func(m *Mapping) uint64 { return e.str(m.BuildID) })
		column(e, ms, func(m *Mapping) uint64 { return m.Start })
		column(e, ms, func(m *Mapping) uint64 { return m.Limit })
		column(e, ms, func(m *Mapping) uint64 { return m.Offset })
	})
	writeRows(e, tagLocations, p.Locations, func(l Location) int { return 20 + 14*len(l.Lines) }, func(ls []Location, _ int) {
		column(e, ls, func(l *Location) uint64 { return uint64(l.Mapping + 1) })
		deltas(e, ls, func(l *Location) uint64 { return l.Address })
		column(e, ls, func(l *Location) uint64 { return uint64(len(l.Lines)) })
		for _, l := range ls {
			column(e, l.Lines, func(l *Line) uint64 { return uint64(l.Function) })
		}
		for _, l := range ls {
			column(e, l.Lines, func(l *Line) uint64 { return uint64(l.Line) })
		}
	})
	writeRows(e, tagStacks, p.Stacks, func(Stack) int { return 20 }, func(ss []Stack, base int) {
		own := uint64(base)
		column(e, ss, func(s *Stack) uint64 { own++; return own - 1 - uint64(s.Parent) })
		deltas(e, ss, func(s *Stack) uint64 { return uint64(s.Location + 1) })
		deltas(e, ss, func(s *Stack) uint64 { return s.First })
	})
	writeRows(e, tagSamples, p.Samples, func(Sample) int { return 64 }, func(ss []Sample, _ int) {
		deltas(e, ss, func(s *Sample) uint64 { return uint64(s.Stack) })
		column(e, ss, func(s *Sample) uint64 { return uint64(s.Phase + 1) })
		column(e, ss, func(s *Sample) uint64 { return uint64(s.CPU) })
		column(e, ss, func(s *Sample) uint64 {
			if s.User {
				return 1
			}
			return 0
		})
		column(e, ss, func(s *Sample) uint64 { return s.Instructions })
		column(e, ss, func(s *Sample) uint64 { return s.TouchedBytes })
		column(e, ss, func(s *Sample) uint64 { return uint64(s.Nanos) })
		column(e, ss, func(s *Sample) uint64 { return s.Count })
	})
}

// begin starts a run or a profile, strings ends the collecting of its strings.
func (e *encoder) begin() { e.strs, e.index = nil, make(map[string]uint64) }

// str returns the index of a string, which it adds if need be.
func (e *encoder) str(s string) uint64 {
	i, ok := e.index[s]
	if !ok {
		i = uint64(len(e.strs))
		e.index[s] = i
		e.strs = append(e.strs, s)
	}
	return i
}

func (e *encoder) strings() {
	writeRows(e, tagStrings, e.strs, func(s string) int { return len(s) + 5 }, func(strs []string, _ int) {
		for _, s := range strs {
			e.put(uint64(len(s)))
		}
		for _, s := range strs {
			e.b = append(e.b, s...)
		}
	})
}

func (e *encoder) put(v uint64) { e.b = binary.AppendUvarint(e.b, v) }

func (e *encoder) text(s string) {
	e.put(uint64(len(s)))
	e.b = append(e.b, s...)
}

// column puts a value for each row, deltas its difference to the row before, for the first the value itself.
func column[T any](e *encoder, some []T, value func(*T) uint64) {
	for i := range some {
		e.put(value(&some[i]))
	}
}

func deltas[T any](e *encoder, some []T, value func(*T) uint64) {
	var last uint64
	for i := range some {
		v := value(&some[i])
		e.b = binary.AppendVarint(e.b, int64(v-last))
		last = v
	}
}

// writeRows writes rows in sections of about chunkSize, given how many bytes each takes at most. base is the index of a section's first row.
func writeRows[T any](e *encoder, tag [4]byte, all []T, cost func(T) int, encode func(some []T, base int)) {
	for base := 0; base < len(all) && e.err == nil; {
		n, size := 0, 0
		for ; base+n < len(all) && size < chunkSize; n++ {
			size += cost(all[base+n])
		}
		e.b = e.b[:0]
		e.put(uint64(n))
		encode(all[base:base+n], base)
		e.section(tag, e.b)
		base += n
	}
}
