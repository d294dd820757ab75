package image

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"unicode/utf8"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/tree"
)

// Spec says what an image is to hold.
type Spec struct {
	// Params are the image's parameters without Version, Root.Module, Root.Codec, Root.ClusterSize and Partitions, which
	// the writer fills in.
	Params Params
	// Kernel is the kernel file, its parameter area not filled in.
	Kernel []byte
	// Initrd is the initial RAM disk of a kernel of flavour linux, whose root is on the disk; nil for none.
	Initrd []byte
	// Tree is what the root file system holds; Module writes it as Options say.
	Tree    *tree.Tree
	Module  fsmod.Module
	Options fsmod.Options
	// Sign is the key that signs the image; nil signs nothing.
	Sign ed25519.PrivateKey
	// Sync waits until the image is on stable storage before it takes its name.
	Sync bool
	// NoDigest leaves the digest of what WriteFSFile writes out of its Result, and so one pass over all of it.
	NoDigest bool
}

// Result describes an image that was written.
type Result struct {
	ID         string // as Image.ID
	Bytes      int64  // size of the image
	Partitions []Partition
	Root       fsmod.Result
}

// ErrInput is wrapped by Write's errors about the Spec, in contrast to failures of the work itself.
var ErrInput = errors.New("cannot make an image of this")

// WriteFile writes an image to the file called path. It is written beside path and renamed when complete: on an error, or
// when ctx is cancelled, what was at path stays as it was and nothing else is left behind.
func WriteFile(ctx context.Context, path string, s Spec) (*Result, error) {
	var res *Result
	err := writeFile(ctx, path, s.Sync, func(w *pending) (err error) {
		if res, err = write(ctx, w, s); err == nil && s.Sign != nil {
			err = Sign(ctx, w, res.Bytes, s.Sign)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// WriteFSFile writes the root file system alone to the file called path, as WriteFile does. Of s it uses Tree, Module,
// Options, Sign, Sync and NoDigest.
func WriteFSFile(ctx context.Context, path string, s Spec) (*Result, error) {
	var res *Result
	err := writeFile(ctx, path, s.Sync, func(w *pending) error {
		r, err := s.Module.Write(ctx, w, s.Tree, s.Options)
		if err == nil {
			err = w.Truncate(r.Bytes)
		}
		if err == nil && s.Sign != nil {
			err = Sign(ctx, w, r.Bytes, s.Sign)
		}
		if err != nil {
			return err
		}
		sum := ""
		if !s.NoDigest {
			sum, err = hashRange(ctx, w, 0, r.Bytes)
		}
		res = &Result{Bytes: r.Bytes, Root: r, Partitions: []Partition{{PartRoot, 0, r.Bytes, sum}}}
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

func writeFile(ctx context.Context, path string, sync bool, write func(*pending) error) error {
	w, err := create(path)
	if err != nil {
		return err
	}
	err = write(w)
	if err == nil {
		err = ctx.Err() // interrupted during the last step: the old file stays
	}
	if err == nil && sync {
		err = w.Sync()
	}
	if err != nil {
		w.abort()
		// The temporary file's name means nothing to the user.
		if pe := (*fs.PathError)(nil); errors.As(err, &pe) && pe.Path == w.Name() {
			err = &fs.PathError{Op: pe.Op, Path: path, Err: pe.Err}
		}
		return err
	}
	return w.commit()
}

// readWriterAt is what an image is written to: an empty file.
type readWriterAt interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// write writes an image to w. The order is: choose the partitions' offsets, for which an upper bound of the parameters'
// length is enough; write the file system; then all that depends on its length and digest.
func write(ctx context.Context, w readWriterAt, s Spec) (*Result, error) {
	p := s.Params
	if len(s.Kernel) > MaxKernel {
		return nil, fmt.Errorf("%w: kernel of %d bytes: %w: the most is %d", ErrInput, len(s.Kernel), ErrTooLarge, MaxKernel)
	}
	kernel := slices.Clone(s.Kernel)
	var k *nativeKernel // stays nil of other flavours
	var err error
	if s.Initrd != nil {
		switch {
		case p.Flavour != FlavourLinux || s.Module.Name() == ramfsModule:
			return nil, fmt.Errorf("%w: an initial RAM disk: %w but for a kernel of flavour %s whose root is on the disk", ErrInput, ErrUnsupported, FlavourLinux)
		case len(s.Initrd) == 0:
			return nil, fmt.Errorf("%w: an empty initial RAM disk: %w", ErrInput, ErrUnsupported)
		case len(s.Initrd) > MaxInitrd:
			return nil, fmt.Errorf("%w: initial RAM disk of %d bytes: %w: the most is %d", ErrInput, len(s.Initrd), ErrTooLarge, MaxInitrd)
		}
	}
	switch p.Flavour {
	case FlavourNative:
		k, err = parseKernel(kernel)
	case FlavourLinux:
		err = CheckLinux(kernel)
	default:
		err = fmt.Errorf("kernel flavour %q: %w; available: %s, %s", p.Flavour, ErrUnsupported, FlavourNative, FlavourLinux)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	p.Version = ParamsVersion
	p.Root.Module = s.Module.Name()
	p.Root.Codec = s.Options.Codec
	p.Root.ClusterSize = s.Options.ClusterSize
	const longest = 1 << 62
	blank := hex.EncodeToString(make([]byte, sha256.Size))
	p.Partitions = []Partition{{PartKernel, longest, longest, blank}, {PartRoot, longest, longest, blank}}
	if s.Initrd != nil {
		p.Partitions = slices.Insert(p.Partitions, 1, Partition{PartInitrd, longest, longest, blank})
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	bound, err := p.encode()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	kernelOff := alignUp(firstPartition+int64(len(bound)), Align)
	initrdOff := alignUp(kernelOff+int64(len(kernel)), Align)
	rootOff := alignUp(initrdOff+int64(len(s.Initrd)), Align)

	fsys, err := s.Module.Write(ctx, io.NewOffsetWriter(w, rootOff), s.Tree, s.Options)
	if err != nil {
		return nil, err
	}
	rootSum, err := hashRange(ctx, w, rootOff, fsys.Bytes)
	if err != nil {
		return nil, err
	}
	p.Partitions = []Partition{{PartKernel, kernelOff, int64(len(kernel)), ""}, {PartRoot, rootOff, fsys.Bytes, rootSum}}
	if s.Initrd != nil {
		p.Partitions = slices.Insert(p.Partitions, 1, Partition{PartInitrd, initrdOff, int64(len(s.Initrd)), digest(s.Initrd)})
	}
	if k != nil {
		area, err := guestParams(&p)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInput, err)
		}
		copy(kernel[k.paramsOffset:][:abi.ParamsSize], area)
	}
	p.Partitions[0].SHA256 = digest(kernel)
	params, err := p.encode()
	if err != nil {
		return nil, err
	}
	if len(params) > len(bound) {
		panic("image: the parameters are longer than their bound")
	}
	d := newDisk(params, &p)
	sector := make([]byte, SectorSize)
	if k != nil {
		k.bootSector(sector, kernelOff)
	}
	d.protectiveMBR(sector)
	if err := w.Truncate(d.size); err != nil {
		return nil, err
	}
	for _, piece := range []struct {
		at int64
		b  []byte
	}{
		{0, sector}, {SectorSize, d.primary()}, {firstPartition, params}, {kernelOff, kernel}, {initrdOff, s.Initrd}, {d.size - backupSize, d.backup()},
	} {
		if _, err := w.WriteAt(piece.b, piece.at); err != nil {
			return nil, err
		}
	}
	img := &Image{Params: &p, id: d.id, params: params, size: d.size}
	return &Result{ID: img.ID(), Bytes: d.size, Partitions: img.Partitions(), Root: fsys}, nil
}

// check refuses parameters that JSON or the kernel cannot hold. It knows nothing of the file system's content.
func (p *Params) check() error {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return errors.New("no command")
	}
	for _, s := range slices.Concat(p.Args, p.Env, p.Sources, []string{p.Cwd, p.Append}) {
		if !utf8.ValidString(s) {
			return fmt.Errorf("%q is not UTF-8, which parameters must be", s)
		}
	}
	if p.Flavour == FlavourLinux {
		_, err := p.LinuxCommandLine("")
		return err
	}
	_, err := guestParams(p)
	return err
}

// hashRange returns the SHA-256 digest of n bytes of r from off, in hex.
func hashRange(ctx context.Context, r io.ReaderAt, off, n int64) (string, error) {
	h := sha256.New()
	sr := io.NewSectionReader(r, off, n)
	buf := make([]byte, min(n, 256<<10))
	for left := n; left > 0; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		m, err := io.ReadFull(sr, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return "", err
		}
		h.Write(buf[:m])
		left -= int64(m)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
