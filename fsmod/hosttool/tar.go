package hosttool

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

// WriteTar writes t as a tar archive for mksquashfs: of format PAX, which holds all that a tree does. But what a long symbolic link
// leads to is told in GNU's way: of a PAX record, version 4.5 takes the leading slashes and dots away. Times are as Seconds has
// them: those before 1970 it fails at, or wraps around.
func WriteTar(ctx context.Context, w io.Writer, t *tree.Tree) error {
	tw := tar.NewWriter(w)
	for i := range t.Entries {
		e := &t.Entries[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		h := &tar.Header{
			Format: tar.FormatPAX, Name: "./" + e.Path, Mode: int64(tree.UnixMode(e.Mode) & 0o7777), Uid: int(e.UID), Gid: int(e.GID), ModTime: time.Unix(seconds(e.ModTime), 0),
			PAXRecords: make(map[string]string),
		}
		if e.Path == "." {
			h.Name = "./"
		}
		for _, x := range e.Xattrs {
			h.PAXRecords["SCHILY.xattr."+x.Name] = string(x.Value)
		}
		switch {
		case e.HardLink != "":
			h.Typeflag, h.Linkname, h.PAXRecords = tar.TypeLink, "./"+e.HardLink, nil
		case e.Mode.IsDir():
			h.Typeflag = tar.TypeDir
			h.Name = strings.TrimSuffix(h.Name, "/") + "/"
		case e.Mode.IsRegular():
			h.Typeflag, h.Size = tar.TypeReg, e.Size
		default:
			switch e.Mode.Type() {
			case fs.ModeSymlink:
				h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
				if len(e.Link) >= 100 { // the field's bytes, of which PAX keeps the last free
					if len(e.Xattrs) > 0 {
						return fmt.Errorf("/%s: a link to a path of %d bytes with extended attributes: %w by mksquashfs", e.Path, len(e.Link), fsmod.ErrUnsupported)
					}
					h.Format, h.PAXRecords = tar.FormatGNU, nil
				}
			case fs.ModeNamedPipe:
				h.Typeflag = tar.TypeFifo
			case fs.ModeDevice:
				h.Typeflag = tar.TypeBlock
			case fs.ModeDevice | fs.ModeCharDevice:
				h.Typeflag = tar.TypeChar
			default:
				return fmt.Errorf("/%s: %w: a file of type %v", e.Path, fsmod.ErrUnsupported, e.Mode.Type())
			}
			h.Devmajor, h.Devminor = int64(e.Major), int64(e.Minor)
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("/%s: %w", e.Path, err)
		}
		if h.Typeflag == tar.TypeReg && e.Source != nil {
			if err := copyContent(tw, e); err != nil {
				return err
			}
		}
	}
	return tw.Close()
}

func copyContent(w io.Writer, e *tree.Entry) error {
	r, err := e.Source()
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Stage makes the files of t in the folder dir, for programs that take nothing else. Owners are left to the program, so all must be
// the same, unless this process is root's. Device nodes only root may make.
func Stage(ctx context.Context, dir string, t *tree.Tree) error {
	root := os.Geteuid() == 0
	for i := range t.Entries {
		e := &t.Entries[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		if !root && (e.UID != t.Entries[0].UID || e.GID != t.Entries[0].GID) {
			return fmt.Errorf("/%s: files of several owners: %w by this module unless root runs it", e.Path, fsmod.ErrUnsupported)
		}
		name := filepath.Join(dir, e.Path)
		var err error
		switch {
		case e.Path == ".":
		case e.HardLink != "":
			err = os.Link(filepath.Join(dir, e.HardLink), name)
		case e.Mode.IsDir():
			err = os.Mkdir(name, 0o700)
		case e.Mode.IsRegular():
			err = stageFile(name, e)
		case e.Mode.Type() == fs.ModeSymlink:
			err = os.Symlink(e.Link, name)
		default:
			err = makeNode(name, e)
		}
		if err != nil {
			return fmt.Errorf("/%s: %w", e.Path, err)
		}
	}
	// From the leaves to the root: what is made in a folder changes its time.
	for i := len(t.Entries) - 1; i >= 0; i-- {
		e := &t.Entries[i]
		if e.HardLink != "" {
			continue
		}
		if err := setMeta(filepath.Join(dir, e.Path), e, root); err != nil {
			return fmt.Errorf("/%s: %w", e.Path, err)
		}
	}
	return nil
}

func stageFile(name string, e *tree.Entry) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if e.Source != nil {
		err = copyContent(f, e)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
