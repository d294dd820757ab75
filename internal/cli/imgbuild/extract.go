package imgbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/tree"
)

func extractCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "extract IMG DIR",
		Short: "Copy an image's files to a folder",
		Long: `Copy the root file system to a folder, which is made if need be: modes, times, links and extended attributes, and owners
when run as root. Nothing is ever written outside the folder, whatever the image holds. What the host refuses (device nodes
without being root, attributes) is reported, the rest extracted, and the exit code is 1.`,
		Example: "  imgbuild extract app.img out/",
		Args:    exactArgs(2, "an image and a folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, t, err := openTree(args[0])
			if err != nil {
				return err
			}
			defer img.Close()
			x := extractor{ctx: cmd.Context(), t: t, warn: func(err error) { fmt.Fprintf(cmd.ErrOrStderr(), "imgbuild: %v\n", err) }}
			if err := x.run(args[1], force); err != nil {
				return withPath(args[0], err)
			}
			if x.warnings > 0 {
				return fmt.Errorf("%s: %d of %d entries could not be extracted as they are", args[0], x.warnings, len(t.Entries))
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "extract into a folder that is not empty; files of the same name are replaced")
	return cmd
}

// extractor copies a tree to a folder. All paths go through an os.Root, which refuses to leave the folder by "..", by
// absolute names and by symbolic links, those that were there before included.
type extractor struct {
	ctx      context.Context
	t        *tree.Tree
	root     *os.Root
	asRoot   bool
	warn     func(error)
	warnings int
	lenient  bool                                               // whatever goes wrong with one entry is a warning, unless the disk is full
	content  func(context.Context, *tree.Entry, *os.File) error // writes a regular file's; nil: what its Source has
}

// errSkipped says that the host does not let an entry, or part of it, be as in the image.
type errSkipped struct{ error }

func (e errSkipped) Unwrap() error { return e.error }

func (x *extractor) run(dir string, force bool) (err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return usageError{err}
	}
	if x.root, err = os.OpenRoot(dir); err != nil {
		return err
	}
	defer x.root.Close()
	if list, err := fs.ReadDir(x.root.FS(), "."); err != nil {
		return err
	} else if len(list) > 0 && !force {
		return usagef("%s is not empty; extract elsewhere or use --force", dir)
	}
	x.asRoot = os.Geteuid() == 0
	for i := range x.t.Entries {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		e := &x.t.Entries[i]
		if err := x.check(x.create(e), e); err != nil {
			return err
		}
	}
	// A directory's mode and time come last: it must be writable until then, and what is written in it changes its time.
	for i := len(x.t.Entries) - 1; i >= 0; i-- {
		if e := &x.t.Entries[i]; e.Mode.IsDir() {
			if err := x.check(x.finishDir(e), e); err != nil {
				return err
			}
		}
	}
	return nil
}

// check turns an errSkipped into a warning.
func (x *extractor) check(err error, e *tree.Entry) error {
	if err == nil {
		return nil
	}
	var skipped errSkipped
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
	if errors.As(err, &skipped) || x.lenient && x.ctx.Err() == nil && !full {
		x.warnings++
		x.warn(fmt.Errorf("%s: %w", printable(absolute(e.Path)), err))
		return nil
	}
	return fmt.Errorf("%s: %w", printable(absolute(e.Path)), bare(err))
}

// create makes e with its content and, unless it is a directory, its metadata.
func (x *extractor) create(e *tree.Entry) error {
	name := filepath.FromSlash(e.Path)
	if e.Mode.IsDir() {
		if e.Path == "." {
			return nil
		}
		old, err := x.root.Lstat(name)
		if err == nil && old.IsDir() {
			return x.root.Chmod(name, old.Mode().Perm()|0o700)
		}
		if err == nil {
			if err := x.root.Remove(name); err != nil {
				return err
			}
		}
		return x.root.Mkdir(name, 0o700)
	}
	if err := x.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch {
	case e.HardLink != "":
		return x.root.Link(filepath.FromSlash(e.HardLink), name)
	case e.Mode.IsRegular():
		return x.file(e, name)
	case e.Mode.Type() == fs.ModeSymlink:
		if err := x.root.Symlink(e.Link, name); err != nil {
			return err
		}
	default:
		if err := x.inParent(e, func(parent *os.File) error { return makeNode(parent, path.Base(e.Path), e) }); err != nil {
			return err
		}
		if err := x.root.Chmod(name, e.Mode); err != nil {
			return err
		}
	}
	if x.asRoot {
		if err := x.root.Lchown(name, int(e.UID), int(e.GID)); err != nil {
			return err
		}
		if e.Mode.Type() != fs.ModeSymlink { // chown drops setuid bits
			if err := x.root.Chmod(name, e.Mode); err != nil {
				return err
			}
		}
	}
	return x.inParent(e, func(parent *os.File) error { return setLinkTime(parent, path.Base(e.Path), e.ModTime) })
}

// inParent calls f with the directory that e is in.
func (x *extractor) inParent(e *tree.Entry, f func(*os.File) error) error {
	parent, err := x.root.Open(filepath.FromSlash(path.Dir(e.Path)))
	if err != nil {
		return err
	}
	defer parent.Close()
	return f(parent)
}

// file extracts a regular file.
func (x *extractor) file(e *tree.Entry, name string) (err error) {
	content := x.content
	if content == nil {
		src, err := x.t.Open(e.Path)
		if err != nil {
			return err
		}
		defer src.Close()
		content = func(ctx context.Context, _ *tree.Entry, f *os.File) error {
			return copyHoles(f, contextReader{ctx, src})
		}
	}
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := content(x.ctx, e, f); err != nil {
		return err
	}
	return x.finish(f, name, e)
}

// zeros is what becomes a hole.
var zeros [32 << 10]byte

// copyHoles copies all of r to the empty file f, and leaves out blocks of zeros: a file with holes takes no more room than it did.
func copyHoles(f *os.File, r io.Reader) error {
	buf := make([]byte, len(zeros))
	hole := false
	for at := int64(0); ; {
		n, err := 0, error(nil)
		for n < len(buf) && err == nil { // not io.ReadFull, after which the reader's own ErrUnexpectedEOF looks like the end
			var m int
			m, err = r.Read(buf[n:])
			n += m
		}
		if n > 0 {
			if hole = bytes.Equal(buf[:n], zeros[:n]); !hole {
				if _, err := f.WriteAt(buf[:n], at); err != nil {
					return err
				}
			}
			at += int64(n)
		}
		switch {
		case err == nil:
		case err != io.EOF:
			return err
		case hole:
			return f.Truncate(at)
		default:
			return nil
		}
	}
}

// finish gives an open file or directory its metadata.
func (x *extractor) finish(f *os.File, name string, e *tree.Entry) error {
	if x.asRoot {
		if err := f.Chown(int(e.UID), int(e.GID)); err != nil {
			return err
		}
	}
	xattrErr := setXattrs(f, e.Xattrs)
	if err := f.Chmod(e.Mode & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)); err != nil {
		return err
	}
	if err := x.root.Chtimes(name, e.ModTime, e.ModTime); err != nil {
		return err
	}
	return xattrErr
}

func (x *extractor) finishDir(e *tree.Entry) error {
	name := filepath.FromSlash(e.Path)
	f, err := x.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return x.finish(f, name, e)
}

// contextReader ends a copy when its context does.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}
