// Package rofs1mod makes version 1 of ROFS, which OSv mounts, available to images: import it for its effect on fsmod's
// registry.
package rofs1mod

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/rofs/rofs1"
	"github.com/firstlight-boot/firstlight/tree"
)

func init() { fsmod.Register(module{}) }

// Ordered returns the module with entries written in the order in which paths, or what is below them, appear in order.
func Ordered(order []string) fsmod.Module { return module{order} }

type module struct{ order []string }

func (module) Name() string { return "rofs1" }

func (module) Codecs() []string { return nil }

// Lacks implements fsmod.Lacker.
func (module) Lacks() fsmod.Attrs {
	return fsmod.Modes | fsmod.Owners | fsmod.Times | fsmod.Xattrs | fsmod.Devices | fsmod.Pipes
}

// CanHold implements fsmod.Lacker.
func (module) CanHold(e *tree.Entry) error { return marked(rofs1.CanHold(e)) }

func (m module) Write(ctx context.Context, w io.WriterAt, t *tree.Tree, o fsmod.Options) (fsmod.Result, error) {
	if err := fsmod.Uncompressed("version 1 of ROFS", o); err != nil {
		return fsmod.Result{}, err
	}
	st, err := rofs1.Write(ctx, w, t, rofs1.Options{Order: m.order, Progress: o.Progress})
	return fsmod.Result{Bytes: st.ImageBytes, ContentBytes: st.FileBytes, StoredBytes: st.StoredBytes, Entries: len(t.Entries)}, marked(err)
}

func (module) Probe(r io.ReaderAt, size int64) (bool, error) {
	b := make([]byte, 16)
	if size < int64(len(b)) {
		return false, nil
	}
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return false, err
	}
	return rofs1.Probe(b), nil
}

func (module) Open(r io.ReaderAt, size int64) (fsmod.FileSystem, error) {
	fsys, err := rofs1.Open(r, size)
	if err != nil {
		return nil, damaged(err)
	}
	return opened{fsys}, nil
}

func (module) Check(ctx context.Context, r io.ReaderAt, size int64) ([]fsmod.Problem, error) {
	var list []fsmod.Problem
	err := rofs1.Check(ctx, r, size, func(p rofs1.Problem) { list = append(list, fsmod.Problem(p)) })
	return list, err
}

type opened struct{ *rofs1.FS }

func (o opened) Tree() (*tree.Tree, error) { return o.FS.Tree, nil }

func (o opened) Extents(each func(fsmod.Extent)) error {
	o.FS.Extents(func(e rofs1.Extent) {
		each(fsmod.Extent{Offset: e.Offset, Length: e.Length, Path: e.Path, What: e.What, Size: e.Length})
	})
	return nil
}

// damaged marks errors about the bytes of a file system, in contrast to those about reading them.
func damaged(err error) error {
	if _, ok := errors.AsType[*format.FormatError](err); ok {
		return fmt.Errorf("%w: %w", fsmod.ErrDamaged, err)
	}
	return err
}

// marked marks what the format cannot hold as the caller's to mend.
func marked(err error) error {
	if errors.Is(err, format.ErrUnsupported) || errors.Is(err, format.ErrTooLarge) {
		return fmt.Errorf("%w: %w", fsmod.ErrUnsupported, err)
	}
	return err
}
