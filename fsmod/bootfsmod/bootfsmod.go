// Package bootfsmod makes BootFS, which OSv carries, available to images: import it for its effect on fsmod's
// registry.
package bootfsmod

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/firstlight-boot/firstlight/bootfs"
	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

func init() { fsmod.Register(module{}) }

// Ordered returns the module with records written in the order in which paths appear in order.
func Ordered(order []string) fsmod.Module { return module{order} }

type module struct{ order []string }

func (module) Name() string { return "bootfs" }

func (module) Codecs() []string { return nil }

// Lacks implements fsmod.Lacker.
func (module) Lacks() fsmod.Attrs {
	return fsmod.Modes | fsmod.Owners | fsmod.Times | fsmod.Xattrs | fsmod.HardLinks | fsmod.Devices | fsmod.Pipes
}

// CanHold implements fsmod.Lacker.
func (module) CanHold(e *tree.Entry) error { return marked(bootfs.CanHold(e)) }

func (m module) Write(ctx context.Context, w io.WriterAt, t *tree.Tree, o fsmod.Options) (fsmod.Result, error) {
	if err := fsmod.Uncompressed("BootFS", o); err != nil {
		return fsmod.Result{}, err
	}
	st, err := bootfs.Write(ctx, w, t, bootfs.Options{Order: m.order, Progress: o.Progress})
	return fsmod.Result{Bytes: st.ImageBytes, ContentBytes: st.FileBytes, StoredBytes: st.FileBytes, Entries: len(t.Entries)}, marked(err)
}

func (module) Probe(r io.ReaderAt, size int64) (bool, error) {
	b := make([]byte, 128)
	if size < int64(len(b)) {
		return false, nil
	}
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return false, err
	}
	return bootfs.Probe(b, size), nil
}

func (module) Open(r io.ReaderAt, size int64) (fsmod.FileSystem, error) {
	fsys, err := bootfs.Open(r, size)
	if err != nil {
		return nil, damaged(err)
	}
	return opened{fsys}, nil
}

func (module) Check(ctx context.Context, r io.ReaderAt, size int64) ([]fsmod.Problem, error) {
	var list []fsmod.Problem
	err := bootfs.Check(ctx, r, size, func(p bootfs.Problem) { list = append(list, fsmod.Problem(p)) })
	return list, err
}

type opened struct{ *bootfs.FS }

func (o opened) Tree() (*tree.Tree, error) { return o.FS.Tree, nil }

func (o opened) Extents(each func(fsmod.Extent)) error {
	o.FS.Extents(func(e bootfs.Extent) {
		each(fsmod.Extent{Offset: e.Offset, Length: e.Length, Path: e.Path, What: e.What, Size: e.Length})
	})
	return nil
}

// damaged marks errors about the bytes of a file system, in contrast to those about reading them.
func damaged(err error) error {
	if _, ok := errors.AsType[*bootfs.FormatError](err); ok {
		return fmt.Errorf("%w: %w", fsmod.ErrDamaged, err)
	}
	return err
}

// marked marks what the format cannot hold as the caller's to mend.
func marked(err error) error {
	if errors.Is(err, bootfs.ErrUnsupported) {
		return fmt.Errorf("%w: %w", fsmod.ErrUnsupported, err)
	}
	return err
}
