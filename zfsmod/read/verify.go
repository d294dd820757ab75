package read

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/firstlight-boot/firstlight/zfsmod/format"
)

// A Problem is a range of a device that is damaged, or a structure that makes no sense.
type Problem struct {
	Offset, Length int64 // in bytes of the device; 0 and 0 where no range can be told
	What           string
}

// verifier visits each block once, however many snapshots have it.
type verifier struct {
	*Pool
	ctx  context.Context
	each func(Problem)
	seen map[int64]bool
	buf  []byte
	sets []dataset // found in the pool's own objects
}

type dataset struct {
	bp     format.BP
	number uint64
}

// Verify reads every copy of every block that is in use, and the labels, and calls each for what is wrong with them. The error is
// a failed read or ctx's.
func (p *Pool) Verify(ctx context.Context, each func(Problem)) error {
	v := &verifier{Pool: p, ctx: ctx, each: each, seen: map[int64]bool{}}
	for _, d := range p.devices {
		size := d.Size &^ (format.LabelSize - 1)
		for i, at := range []int64{0, format.LabelSize, size - 2*format.LabelSize, size - format.LabelSize} {
			config, uber, err := label(d, at)
			if err != nil && !errors.Is(err, errSwapped) {
				return err
			}
			if config == nil {
				each(Problem{at + format.ConfigOffset, format.ConfigSize, fmt.Sprintf("the configuration in label %d is damaged", i)})
			} else if uber == nil {
				each(Problem{at + format.RingOffset, format.RingSize, fmt.Sprintf("label %d has no good uberblock", i)})
			}
		}
	}
	if err := v.objset(&p.mos.Root, "the pool's own objects"); err != nil {
		return err
	}
	for own := v.sets; len(own) > 0; own = own[1:] { // what a dataset says of others is nothing that anyone reads
		if v.seen[key(&own[0].bp)] {
			continue
		}
		if err := v.objset(&own[0].bp, fmt.Sprintf("dataset %d", own[0].number)); err != nil {
			return err
		}
	}
	return nil
}

// objset verifies an object set and all below it.
func (v *verifier) objset(bp *format.BP, name string) error {
	b, err := v.block(bp, name)
	if b == nil || err != nil {
		return err
	}
	if len(b) < 1024 {
		v.each(Problem{What: fmt.Sprintf("%s: an object set of %d bytes", name, len(b))})
		return nil
	}
	b = slices.Clone(b) // the buffer is for the next block
	for _, at := range []int{0, format.ObjsetUserUsed, format.ObjsetGroupUsed} {
		if at+format.DnodeSize > len(b) {
			break
		}
		d := format.Dnode(b[at:][:format.DnodeSize])
		if d.Type() == format.TypeNone {
			continue
		}
		if err := v.object(&d, name, 0); err != nil {
			return err
		}
	}
	return nil
}

// object verifies the blocks of an object, and, if these are dnodes, those of their objects.
func (v *verifier) object(d *format.Dnode, set string, number uint64) error {
	name := set
	if number != 0 {
		name = fmt.Sprintf("%s, object %d", set, number)
	}
	o := &Object{*d, v.Pool}
	if err := o.valid(); err != nil {
		v.each(Problem{What: name + ": " + err.Error()})
		return nil
	}
	var down func(bp format.BP, level int, first uint64) error
	down = func(bp format.BP, level int, first uint64) error {
		if bp.IsHole() {
			return nil
		}
		b, err := v.block(&bp, name)
		if b == nil || err != nil {
			return err
		}
		if level > 0 {
			if bp.Embedded() || bp.Level() != level || len(b) != 1<<o.IndirectShift() {
				v.each(Problem{What: fmt.Sprintf("%s: an indirect block is none of level %d", name, level)})
				return nil
			}
			b = slices.Clone(b)
			step := uint64(1) << (uint(level-1) * uint(o.IndirectShift()-7))
			for i := range len(b) / format.BPSize {
				if err := down(format.BP(b[i*format.BPSize:][:format.BPSize]), level-1, first+uint64(i)*step); err != nil {
					return err
				}
			}
			return nil
		}
		if d.Type() != format.TypeDnode {
			return nil
		}
		b = slices.Clone(b)
		per := uint64(len(b) / format.DnodeSize)
		for i := uint64(0); i < per; i++ {
			n := format.Dnode(b[i*format.DnodeSize:][:format.DnodeSize])
			if n.Type() == format.TypeNone {
				continue
			}
			if err := v.dnode(&n, set, first*per+i); err != nil {
				return err
			}
			i += uint64(n.ExtraSlots())
		}
		return nil
	}
	for i := range o.Pointers() {
		step := uint64(0)
		if s := uint(o.Levels()-1) * uint(max(o.IndirectShift()-7, 0)); s < 64 {
			step = uint64(i) << s
		}
		if err := down(*o.Dnode.Pointer(i), o.Levels()-1, step); err != nil {
			return err
		}
	}
	return nil
}

// dnode verifies one object of a set, with what its bonus leads to.
func (v *verifier) dnode(d *format.Dnode, set string, number uint64) error {
	if err := v.object(d, set, number); err != nil {
		return err
	}
	if d.Flags()&format.DnodeSpill != 0 {
		bp := format.BP(d[format.DnodeSize-format.BPSize:])
		if !bp.IsHole() {
			if _, err := v.block(&bp, fmt.Sprintf("%s, object %d", set, number)); err != nil {
				return err
			}
		}
	}
	if d.Type() == format.TypeDSLDataset && d.BonusType() == format.TypeDSLDataset && len(d.Bonus()) >= 320 {
		bp := format.BP(d.Bonus()[8*setBP:][:format.BPSize])
		if !bp.IsHole() {
			v.sets = append(v.sets, dataset{bp, number})
		}
	}
	return nil
}

// key tells blocks apart by where their first copy is.
func key(bp *format.BP) int64 { return bp.DVA(0).Offset<<1 | 1 }

// block verifies all copies of a block and returns the content, nil when no copy is good or it was seen before.
func (v *verifier) block(bp *format.BP, name string) ([]byte, error) {
	if err := v.ctx.Err(); err != nil {
		return nil, err
	}
	n := bp.LogicalSize()
	if bp.Embedded() {
		n = bp.EmbeddedLogical()
	} else if v.seen[key(bp)] {
		return nil, nil
	}
	if n > format.MaxBlock {
		v.each(Problem{What: fmt.Sprintf("%s: a block of %d bytes", name, n)})
		return nil, nil
	}
	if len(v.buf) < n {
		v.buf = make([]byte, n)
	}
	dst := v.buf[:n]
	if bp.Embedded() {
		if err := v.Read(bp, dst); err != nil {
			v.each(Problem{What: name + ": " + err.Error()})
			return nil, nil
		}
		return dst, nil
	}
	v.seen[key(bp)] = true
	good, bad := false, false
	for i := range 3 {
		d := bp.DVA(i)
		if d.Size == 0 {
			continue
		}
		for k := range v.devices {
			err := v.one(bp, i, k, dst)
			if err == nil {
				good, bad = true, false
				continue
			}
			bad = true
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnsupported) {
				return nil, err
			}
			v.each(Problem{d.Offset + format.DataStart, int64(bp.PhysicalSize()), fmt.Sprintf("%s: %v", name, err)})
		}
	}
	if !good {
		return nil, nil
	}
	if bad { // the last copy, and it may have spoilt dst
		if err := v.Read(bp, dst); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// one reads copy i of a block from device k.
func (v *verifier) one(bp *format.BP, i, k int, dst []byte) error {
	switch {
	case bp.Encrypted():
		return unsupported("encrypted blocks")
	case !bp.LittleEndian():
		return unsupported("a pool written on a big-endian machine")
	case bp.PhysicalSize() > bp.LogicalSize():
		return damaged("a block of %d bytes takes %d", bp.LogicalSize(), bp.PhysicalSize())
	}
	return v.copy(bp, bp.DVA(i), &v.devices[k], dst)
}
