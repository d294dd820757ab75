// Package rofsmod makes the rofs file system available to images: import it for its effect on fsmod's registry.
package rofsmod

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/rofs"
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/tree"
)

func init() { fsmod.Register(module{}) }

type module struct{}

func (module) Name() string { return "rofs" }

func (module) Codecs() []string {
	return []string{string(rofs.LZ4), string(rofs.LZ4HC), string(rofs.Zstd)}
}

func (module) Write(ctx context.Context, w io.WriterAt, t *tree.Tree, o fsmod.Options) (fsmod.Result, error) {
	if n := o.ClusterSize; n != 0 && (n < 1<<format.MinClusterLog || n > 1<<format.MaxClusterLog || n&(n-1) != 0) {
		return fsmod.Result{}, fmt.Errorf("cluster size %d: %w; possible are powers of two from %d to %d", n, fsmod.ErrUnsupported, 1<<format.MinClusterLog, 1<<format.MaxClusterLog)
	}
	codec := rofs.Codec(o.Codec)
	if o.Codec == "" {
		codec = rofs.None
	}
	if o.Level != 0 {
		if _, _, err := rofs.ParseCodec(fmt.Sprintf("%s:%d", codec, o.Level)); err != nil {
			return fsmod.Result{}, fmt.Errorf("%w: %w", fsmod.ErrUnsupported, err)
		}
	}
	ro := rofs.Options{Codec: codec, Level: o.Level, ClusterSize: o.ClusterSize, Raw: o.Raw, Hot: o.Hot, Align: rofs.Align(o.AlignExec), Progress: o.Progress}
	for _, u := range o.Layout {
		ro.Layout = append(ro.Layout, rofs.Use(u))
	}
	st, err := rofs.Write(ctx, w, t, ro)
	return fsmod.Result{Bytes: st.ImageBytes, ContentBytes: st.FileBytes, StoredBytes: st.StoredBytes, Entries: len(t.Entries)}, err
}

func (module) Probe(r io.ReaderAt, size int64) (bool, error) {
	b := make([]byte, len(format.Magic))
	if size < int64(len(b)) {
		return false, nil
	}
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return false, err
	}
	return rofs.Probe(b), nil
}

func (module) Open(r io.ReaderAt, size int64) (fsmod.FileSystem, error) {
	fsys, err := rofs.Open(r, size)
	if err != nil {
		return nil, damaged(err)
	}
	return opened{fsys}, nil
}

func (module) Check(ctx context.Context, r io.ReaderAt, size int64) ([]fsmod.Problem, error) {
	var list []fsmod.Problem
	err := rofs.Check(ctx, r, size, func(p rofs.Problem) { list = append(list, fsmod.Problem(p)) })
	return list, err
}

type opened struct{ *rofs.FS }

func (o opened) Tree() (*tree.Tree, error) {
	t, err := o.FS.Tree()
	return t, damaged(err)
}

func (o opened) Extents(each func(fsmod.Extent)) error {
	return damaged(o.FS.Extents(func(e rofs.Extent) { each(fsmod.Extent(e)) }))
}

func (o opened) Usage() (fsmod.Usage, error) {
	u, err := o.FS.Usage()
	if err != nil {
		return fsmod.Usage{}, damaged(err)
	}
	x := fsmod.Usage{Inline: u.Inline, Tails: u.Tails, Mappable: u.Mappable, Holes: u.Holes, Shared: u.Shared, SharedBytes: u.SharedBytes}
	for _, c := range u.Codecs {
		x.Codecs = append(x.Codecs, fsmod.CodecUsage(c))
	}
	for _, r := range u.Order {
		x.Order = append(x.Order, fsmod.UsedRange(r))
	}
	if u.Digest != [32]byte{} {
		x.Digest = hex.EncodeToString(u.Digest[:])
	}
	return x, nil
}

// damaged marks errors about the bytes of a file system, in contrast to those about reading them.
func damaged(err error) error {
	if _, ok := errors.AsType[*format.FormatError](err); ok {
		return fmt.Errorf("%w: %w", fsmod.ErrDamaged, err)
	}
	return err
}
