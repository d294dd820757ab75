package hosttool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

// maxExtracted bounds the content of a file system that is kept in memory, in bytes.
const maxExtracted = 2 << 30

type files = tree.Tree

// FileSystem is a tree as an opened file system.
type FileSystem struct{ *files }

// Tree is the whole tree.
func (f FileSystem) Tree() (*tree.Tree, error) { return f.files, nil }

// Magic tells whether what is at off begins with magic.
func Magic(r io.ReaderAt, size, off int64, magic string) (bool, error) {
	b := make([]byte, len(magic))
	if size < off+int64(len(b)) {
		return false, nil
	}
	if n, err := r.ReadAt(b, off); n < len(b) {
		return false, err
	}
	return string(b) == magic, nil
}

// Extract has a program extract the file system in the size bytes of r, from the file img to the empty folder dir, and takes the
// result into memory. Unless root runs it, files belong to root, device nodes are missing and programs may leave out setuid and its like.
func Extract(ctx context.Context, r io.ReaderAt, size int64, command func(img, dir string) Cmd) (fsmod.FileSystem, error) {
	var t *tree.Tree
	err := Scratch(func(scratch string) error {
		dir, err := extract(ctx, scratch, r, size, command)
		if err != nil {
			return damaged(err)
		}
		if t, err = tree.FromDir(ctx, dir, tree.Options{KeepOwner: os.Geteuid() == 0, Devices: true}); err != nil {
			return err
		}
		left := int64(maxExtracted)
		for i := range t.Entries {
			e := &t.Entries[i]
			if e.Source == nil {
				continue
			}
			if left -= e.Size; left < 0 {
				return fmt.Errorf("more than %d bytes of files: %w: extract them by the file system's own programs", int64(maxExtracted), fsmod.ErrUnsupported)
			}
			var b bytes.Buffer
			if err := copyContent(&b, e); err != nil {
				return err
			}
			e.Source = func() (io.ReadCloser, error) { return source{bytes.NewReader(b.Bytes())}, nil }
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return FileSystem{t}, nil
}

type source struct{ *bytes.Reader }

func (source) Close() error { return nil }

func extract(ctx context.Context, scratch string, r io.ReaderAt, size int64, command func(img, dir string) Cmd) (string, error) {
	img, dir := filepath.Join(scratch, "img"), filepath.Join(scratch, "root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	if err := Save(ctx, img, r, size); err != nil {
		return "", err
	}
	_, err := command(img, dir).Run(ctx)
	return dir, err
}

// Check has a program look at the file system in the size bytes of r. What it complains of is a problem of the whole.
func Check(ctx context.Context, r io.ReaderAt, size int64, command func(img, dir string) Cmd) ([]fsmod.Problem, error) {
	err := Scratch(func(scratch string) error {
		_, err := extract(ctx, scratch, r, size, command)
		return err
	})
	if err = damaged(err); errors.Is(err, fsmod.ErrDamaged) {
		return []fsmod.Problem{{Length: size, What: err.Error()}}, nil
	}
	return nil, err
}

// damaged marks the complaint of a program in contrast to the failure to run it.
func damaged(err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("%w: %w", fsmod.ErrDamaged, err)
	}
	return err
}

// Opened is t as an opened file system.
func Opened(t *tree.Tree) fsmod.FileSystem { return FileSystem{t} }
