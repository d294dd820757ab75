// Package imgmap tells what lies at an offset of a disk image: which part of which file, which structure of its file system, or at
// least which partition. It reads images of ours, other disks with a GPT or an MBR, and disks without partitions.
package imgmap

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/fsmod"
)

// Map is what an image holds.
type Map struct {
	extents []extent // by their offset
	reach   []uint64 // by index: the largest end of the extents so far
}

// extent is a range of the disk with what is stored there.
type extent struct {
	off, end uint64
	part     boottrace.Part
	packed   bool // compressed: any byte of it stands for all of its content
}

// diskName is what a disk without partitions, whose content is not known, is called.
const diskName = "disk"

// tableName is what the partition table is called.
const tableName = "partition table"

// New maps the image in the size bytes of r. Its file systems must be of registered modules. There is always a Map: the error says
// what of the image is known only roughly, because it is damaged or could not be read.
func New(r io.ReaderAt, size int64) (*Map, error) {
	m := &Map{}
	parts, err := partitions(r, size)
	errs := []error{err}
	if parts == nil {
		parts = []partition{{diskName, 0, size}}
	}
	for _, p := range parts {
		known := false
		if p.name != tableName {
			var err error
			if known, err = m.files(io.NewSectionReader(r, p.off, p.size), p); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
			}
		}
		if !known {
			m.add(p, fsmod.Extent{Length: p.size, What: p.name, Size: p.size})
		}
	}
	slices.SortStableFunc(m.extents, func(a, b extent) int { return cmp.Compare(a.off, b.off) })
	reach := uint64(0)
	for _, e := range m.extents {
		reach = max(reach, e.end)
		m.reach = append(m.reach, reach)
	}
	return m, errors.Join(errs...)
}

// add adds an extent of a partition. What does not lie in it is left out.
func (m *Map) add(p partition, e fsmod.Extent) {
	if e.Offset < 0 || e.Length <= 0 || e.Offset > p.size-e.Length || e.Start < 0 || e.Size < 0 {
		return
	}
	path := e.Path
	if path != "" {
		path = "/" + path
	}
	off := uint64(p.off) + uint64(e.Offset)
	m.extents = append(m.extents, extent{off, off + uint64(e.Length), boottrace.Part{Path: path, What: e.What, Offset: uint64(e.Start), Length: uint64(e.Size)}, e.Packed})
}

// files maps the file system of a partition. known is false when it has none, or none that can be mapped whole.
func (m *Map) files(r *io.SectionReader, p partition) (known bool, err error) {
	module, err := fsmod.Probe(r, r.Size())
	if err != nil || module == nil {
		return false, err
	}
	fsys, err := module.Open(r, r.Size())
	if err != nil {
		return false, err
	}
	mapper, ok := fsys.(fsmod.Mapper)
	if !ok {
		return false, nil
	}
	before := len(m.extents)
	if err := mapper.Extents(func(e fsmod.Extent) { m.add(p, e) }); err != nil {
		m.extents = m.extents[:before]
		return false, err
	}
	return true, nil
}

// MaxParts bounds the parts of a range.
const MaxParts = 4096

// Parts returns what a range of the disk holds, in the order of the disk. Of a compressed cluster it is all that it decodes to, if any
// of it lies in the range. Padding, holes and free space are left out; content that files share is there for each of them.
// There are at most MaxParts.
func (m *Map) Parts(off, length uint64) (parts []boottrace.Part) {
	end := off + length
	if end < off {
		return nil
	}
	to, _ := slices.BinarySearchFunc(m.extents, end, func(e extent, end uint64) int { return cmp.Compare(e.off, end) })
	from := to
	for from > 0 && m.reach[from-1] > off {
		from--
	}
	for _, e := range m.extents[from:to] {
		if e.end <= off || e.off >= end {
			continue
		}
		p := e.part
		if !e.packed {
			skip := max(e.off, off) - e.off
			p.Offset, p.Length = p.Offset+skip, min(e.end, end)-max(e.off, off)
		}
		if n := len(parts); n > 0 && parts[n-1].Path == p.Path && parts[n-1].What == p.What && parts[n-1].Offset+parts[n-1].Length == p.Offset {
			parts[n-1].Length += p.Length
			continue
		}
		if len(parts) == MaxParts {
			break
		}
		parts = append(parts, p)
	}
	return parts
}
