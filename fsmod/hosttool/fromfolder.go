package hosttool

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

// FromFolder writes to w the file system out that the function build has programs make of the folder dir, where the files of t are.
// The function before comes first: to find out that a program is missing need not take a copy of the tree.
func FromFolder(ctx context.Context, w io.WriterAt, t *tree.Tree, o fsmod.Options, before func(out string) error, build func(dir, out string) error) (res fsmod.Result, err error) {
	err = Scratch(func(scratch string) error {
		dir, out := filepath.Join(scratch, "root"), filepath.Join(scratch, "out")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := before(out); err != nil {
			return err
		}
		if err := Stage(ctx, dir, t); err != nil {
			return err
		}
		if err := build(dir, out); err != nil {
			return err
		}
		bytes, err := Copy(ctx, w, out)
		res = Result(t, o, bytes)
		return err
	})
	return res, err
}

// Result is what is known of a file system of so many bytes that a foreign program made of t.
func Result(t *tree.Tree, o fsmod.Options, bytes int64) fsmod.Result {
	n := Content(t)
	res := fsmod.Result{Bytes: bytes, ContentBytes: n, StoredBytes: n, Entries: len(t.Entries)}
	if o.Codec != "" {
		res.StoredBytes = min(bytes, n)
	}
	return res
}

// Content returns the sum of the sizes of t's files, hard links counted once.
func Content(t *tree.Tree) (bytes int64) {
	for i := range t.Entries {
		if e := &t.Entries[i]; e.HardLink == "" {
			bytes += e.Size
		}
	}
	return bytes
}

// Uncompressed is Plain for a file system called name that does not compress either.
func Uncompressed(name string, o fsmod.Options) error {
	if err := Plain(name, o); err != nil {
		return err
	}
	return fsmod.Uncompressed(name, o)
}
