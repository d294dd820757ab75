package boottrace

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// MarkStream decodes the bytes that a guest writes to the mark port, as docs/guest-abi.md has them.
type MarkStream struct {
	Marks []Mark // at most MaxMarks
	First []int  // of each mark: the index of its first byte in the stream
	End   *End   // of the mark that the guest ends with; nil before

	n       int    // bytes seen
	partial []byte // the start of a mark
	start   Mark   // its time
}

// Write takes the next bytes, which the host saw at the given time, and returns the marks that they completed. A mark's
// time is that of its first byte.
func (s *MarkStream) Write(hostNanos int64, p []byte) []Mark {
	var done []Mark
	for _, b := range p {
		if len(s.partial) == 0 {
			s.start = Mark{ID: b, HostNanos: hostNanos}
		}
		s.n++
		s.partial = append(s.partial, b)
		m, ok := s.complete()
		if !ok {
			continue
		}
		done = append(done, m)
		if len(s.Marks) < MaxMarks {
			s.Marks = append(s.Marks, m)
			s.First = append(s.First, s.n-len(s.partial))
		}
		s.partial = s.partial[:0]
	}
	return done
}

// complete returns the mark that partial is, if it is a whole one.
func (s *MarkStream) complete() (m Mark, ok bool) {
	m = s.start
	p := s.partial
	switch m.ID {
	case abi.MarkEnd:
		if len(p) < 3 {
			return m, false
		}
		s.End = &End{How: p[1], Code: uint32(p[2])}
	case abi.MarkNamed:
		if len(p) < 2 || len(p) < 2+int(p[1]) {
			return m, false
		}
		m.Name = strings.ToValidUTF8(string(p[2:]), "\ufffd")
	}
	return m, true
}

// Record is the boot record that our kernel keeps in a page of the guest's memory.
type Record struct {
	Guest Guest
	End   *End   // nil while the app runs
	Marks []Mark // ID and TSC only
}

// ParseRecord decodes a boot record, the first bytes of page.
func ParseRecord(page []byte) (*Record, error) {
	if len(page) < abi.RecordSize {
		return nil, fmt.Errorf("boot record: %d bytes; it has %d", len(page), abi.RecordSize)
	}
	if string(page[:len(abi.RecordMagic)]) != abi.RecordMagic {
		return nil, fmt.Errorf("boot record: it starts with %q, not %q: the kernel did not get to its entry", page[:len(abi.RecordMagic)], abi.RecordMagic)
	}
	le := binary.LittleEndian
	r := &Record{Guest: Guest{
		EntryTSC:     le.Uint64(page[abi.RecEntryTSC:]),
		TSCHz:        le.Uint64(page[abi.RecTSCHz:]),
		Pages:        le.Uint64(page[abi.RecPages:]),
		PagesFree:    le.Uint64(page[abi.RecPagesFree:]),
		DiskRequests: le.Uint64(page[abi.RecDiskRequests:]),
		DiskBytes:    le.Uint64(page[abi.RecDiskBytes:]),
	}}
	for i, name := range abi.OwnerNames {
		if n := le.Uint64(page[abi.RecOwners+8*i:]); n > 0 {
			r.Guest.Owners = append(r.Guest.Owners, OwnedPages{name, n})
		}
	}
	if how := page[abi.RecHow]; how != abi.EndNone {
		r.End = &End{How: how, Code: le.Uint32(page[abi.RecCode:])}
	}
	n := min(le.Uint32(page[abi.RecNumMarks:]), abi.RecMaxMarks)
	for i := range int(n) {
		m := page[abi.RecMarks+16*i:]
		r.Marks = append(r.Marks, Mark{ID: m[0], TSC: le.Uint64(m[8:])})
	}
	return r, nil
}

// SetRecord adds what the kernel recorded to a run whose marks the host saw. The marks' times on the guest's clock are
// matched by kind and order; where the host saw no marks at all, those of the record are taken.
func (run *Run) SetRecord(r *Record) {
	run.Guest = &r.Guest
	if run.End == nil {
		run.End = r.End
	}
	if len(run.Marks) == 0 {
		run.Marks = r.Marks
		return
	}
	next := 0
	for _, m := range r.Marks {
		for i := next; i < len(run.Marks); i++ {
			if run.Marks[i].ID == m.ID {
				run.Marks[i].TSC = m.TSC
				next = i + 1
				break
			}
		}
	}
}
