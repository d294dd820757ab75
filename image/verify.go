package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// Problem is something wrong with an image's bytes.
type Problem = fsmod.Problem

// VerifyFile is Verify for the file called path.
func VerifyFile(ctx context.Context, path string) ([]Problem, error) {
	f, size, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Verify(ctx, f, size)
}

// Verify checks every bit of the image or bare file system in the size bytes of r: an image without problems is what
// WriteFile wrote. It works by writing the tables again from the parameters and comparing, so nothing in them can go
// unnoticed; the parameters themselves are covered by the disk's GUID, the partitions by their digests. The error is a
// failed read, ctx's, or wraps ErrFormat when r is no image at all.
func Verify(ctx context.Context, r io.ReaderAt, size int64) ([]Problem, error) {
	foreign, err := isForeign(r, size)
	if err != nil {
		return nil, err
	}
	if foreign {
		img, err := NewReader(r, size)
		if err != nil {
			return nil, err
		}
		if img.OSv != nil {
			return verifyOSv(ctx, img)
		}
		problems, err := img.module.Check(ctx, r, size)
		if err != nil {
			return problems, err
		}
		v := &verifier{ctx: ctx, r: r, size: size, problems: problems}
		_, err = v.signature()
		return v.problems, err
	}

	v := &verifier{ctx: ctx, r: r, size: size}
	// Either table leads to the parameters; it may be damaged elsewhere, which the comparison will find.
	d, err := readGPT(r, 1, size)
	if err != nil {
		if err := v.damage(err, SectorSize, SectorSize); err != nil {
			return nil, err
		}
		backup, err := readGPT(r, size/SectorSize-1, size)
		if err != nil {
			return v.problems, v.damage(err, size-SectorSize, SectorSize)
		}
		d = backup
	}
	params, err := readParams(r, d, size)
	if err != nil {
		if errors.Is(err, ErrFormat) && len(v.problems) == 0 {
			return nil, err
		}
		return v.problems, v.damage(err, firstPartition, Align)
	}
	if d.id != makeGUID(params) {
		v.report(firstPartition, int64(len(params)), "parameters: their digest is not the one in the disk's GUID %v", d.id)
		// What they say about the rest is not to be trusted: checking on would blame the innocent.
		return v.problems, nil
	}
	p, err := decodeParams(params)
	if err == nil {
		err = p.checkLayout(int64(len(params)), size)
	}
	if errors.Is(err, ErrUnsupported) {
		return nil, &FormatError{"params", firstPartition, "parameters", err}
	}
	if err != nil {
		v.report(firstPartition, int64(len(params)), "parameters: %v", err)
		return v.problems, nil
	}
	err = v.image(params, p)
	return v.problems, err
}

type verifier struct {
	ctx      context.Context
	r        io.ReaderAt
	size     int64
	problems []Problem
}

func (v *verifier) report(off, n int64, format string, args ...any) {
	v.problems = append(v.problems, Problem{Offset: off, Length: n, What: fmt.Sprintf(format, args...)})
}

// damage reports err as a problem if it is about the image's bytes, and returns it if not. Where err does not say where,
// it is about the n bytes at off.
func (v *verifier) damage(err error, off, n int64) error {
	fe := (*FormatError)(nil)
	if !errors.As(err, &fe) || !(errors.Is(err, ErrDamaged) || errors.Is(err, ErrFormat) || errors.Is(err, ErrUnsupported)) {
		return err
	}
	if fe.Offset >= off && fe.Offset < off+n {
		off, n = fe.Offset, off+n-fe.Offset
	} else {
		off, n = fe.Offset, 1
	}
	v.report(off, n, "%s: %s: %v", fe.Format, fe.Field, fe.Err)
	return nil
}

// image checks an image whose parameters are sound.
func (v *verifier) image(params []byte, p *Params) error {
	d := newDisk(params, p)
	primary, backup := d.primary(), d.backup()
	sector := make([]byte, SectorSize)
	kernel, _ := p.find(PartKernel)
	if p.Flavour == FlavourNative {
		if err := v.kernel(kernel, p, sector); err != nil {
			return err
		}
	}
	d.protectiveMBR(sector)

	signature, err := v.signature()
	if err != nil {
		return err
	}
	type piece struct {
		at   int64
		b    []byte // what must be there, or
		len  int64  // how much is checked elsewhere
		what string
	}
	pieces := []piece{
		{0, sector[:446], 0, "boot sector: ELF header"},
		{446, sector[446:], 0, "boot sector: protective MBR"},
		{SectorSize, primary[:SectorSize], 0, "GPT header"},
		{2 * SectorSize, primary[SectorSize:], 0, "GPT entries"},
		{signatureSector, nil, signature, ""},
		{firstPartition, params, 0, "parameters"},
	}
	for _, q := range p.Partitions {
		pieces = append(pieces, piece{q.Offset, nil, q.Length, ""})
	}
	pieces = append(pieces,
		piece{d.size - backupSize, backup[:gptTableSize], 0, "backup of the GPT entries"},
		piece{d.size - SectorSize, backup[gptTableSize:], 0, "backup of the GPT header"})
	at := int64(0)
	for _, q := range pieces {
		if err := v.compare(at, q.at-at, nil, "padding"); err != nil {
			return err
		}
		at = q.at + q.len
		if q.b != nil {
			at += int64(len(q.b))
			if err := v.compare(q.at, int64(len(q.b)), q.b, q.what); err != nil {
				return err
			}
		}
	}

	for _, q := range p.Partitions {
		sum, err := hashRange(v.ctx, v.r, q.Offset, q.Length)
		if err != nil {
			return err
		}
		if sum != q.SHA256 {
			v.report(q.Offset, q.Length, "partition %s: SHA-256 is %s, the parameters say %s", q.Name, sum, q.SHA256)
		}
	}
	return v.root(p)
}

// kernel checks the kernel partition's headers and parameter area, and fills in the boot sector that belongs to it.
func (v *verifier) kernel(part Partition, p *Params, sector []byte) error {
	head := make([]byte, min(part.Length, abi.KernelHeaderSize))
	if err := readFull(v.r, head, part.Offset, v.size); err != nil {
		return err
	}
	k, err := parseNative(head, part.Length)
	if err != nil {
		v.report(part.Offset, int64(len(head)), "%v", err)
		return nil
	}
	k.bootSector(sector, part.Offset)
	if part.Length > MaxKernel {
		v.report(part.Offset, part.Length, "kernel: longer than %d bytes", MaxKernel)
		return nil
	}
	k.file = make([]byte, part.Length)
	if err := readFull(v.r, k.file, part.Offset, v.size); err != nil {
		return err
	}
	if err := k.findParams(); err != nil {
		v.report(part.Offset+k.noteOff, k.noteLen, "%v", err)
		return nil
	}
	area, err := guestParams(p)
	if err != nil {
		v.report(firstPartition, 1, "parameters: %v", err)
	} else if at := part.Offset + k.paramsOffset; !bytes.Equal(area, k.file[k.paramsOffset:][:len(area)]) {
		v.report(at, int64(len(area)), "kernel: its parameter area is not what the parameters say")
	}
	return nil
}

// root has the root file system checked by its module.
func (v *verifier) root(p *Params) error {
	part, _ := p.find(PartRoot)
	m, err := fsmod.Lookup(p.Root.Module)
	if err != nil {
		return err
	}
	problems, err := m.Check(v.ctx, io.NewSectionReader(v.r, part.Offset, part.Length), part.Length)
	for _, q := range problems {
		v.report(part.Offset+q.Offset, q.Length, "root file system: %s", q.What)
	}
	return err
}

// compare reports where the n bytes at off differ from want; nil stands for zeros.
func (v *verifier) compare(off, n int64, want []byte, what string) error {
	first, last := int64(-1), int64(0)
	buf := make([]byte, min(n, 64<<10))
	for at := int64(0); at < n; at += int64(len(buf)) {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(n-at, int64(len(buf)))]
		if err := readFull(v.r, b, off+at, v.size); err != nil {
			return err
		}
		for i, c := range b {
			w := byte(0)
			if want != nil {
				w = want[at+int64(i)]
			}
			if c != w {
				if first < 0 {
					first = at + int64(i)
				}
				last = at + int64(i)
			}
		}
	}
	if first >= 0 {
		problem := "is not what the parameters and partitions make it"
		if want == nil {
			problem = "is not zero"
		}
		v.report(off+first, last-first+1, "%s %s", what, problem)
	}
	return nil
}
