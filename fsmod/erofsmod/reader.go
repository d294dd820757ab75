package erofsmod

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	erofs "github.com/erofs/go-erofs"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	"github.com/firstlight-boot/firstlight/tree"
)

// Open reads file systems that are not compressed, by go-erofs. What fsck.erofs 1.5 extracts has lost hard links, extended attributes
// and special bits, so it is no way to read the others.
func (module) Open(r io.ReaderAt, size int64) (fsmod.FileSystem, error) {
	if err := super(r, size); err != nil {
		return nil, err
	}
	t, err := read(io.NewSectionReader(r, 0, size), size)
	switch {
	case err == nil:
		return hosttool.Opened(t), nil
	case errors.Is(err, erofs.ErrNotImplemented):
		return nil, fmt.Errorf("compressed erofs: %w for reading: %w; fsck.erofs --extract unpacks the files", fsmod.ErrUnsupported, err)
	}
	return nil, fmt.Errorf("erofs: %w: %w", fsmod.ErrDamaged, err)
}

// fileMode moves setuid, setgid and sticky, which go-erofs leaves where Unix has them, to where io/fs has them.
func fileMode(m fs.FileMode) fs.FileMode {
	out := m & (fs.ModeType | fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	for unix, bit := range map[fs.FileMode]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&unix != 0 {
			out |= bit
		}
	}
	return out
}

// maxDepth bounds folders one in the other, of which a damaged file system may have endlessly many.
const maxDepth = 1000

// read reads the tree of a file system of size bytes. What a damaged one makes go-erofs do is its error.
func read(r io.ReaderAt, size int64) (t *tree.Tree, err error) {
	defer func() {
		if v := recover(); v != nil {
			t, err = nil, fmt.Errorf("go-erofs gave up: %v", v)
		}
	}()
	fsys, err := erofs.Open(r)
	if err != nil {
		return nil, err
	}
	var list []tree.Entry
	first := make(map[int64]int) // by inode number: the entry
	var walk func(name string, info fs.FileInfo, depth int) error
	walk = func(name string, info fs.FileInfo, depth int) error {
		st, ok := info.Sys().(*erofs.Stat)
		if !ok || depth > maxDepth {
			return fmt.Errorf("/%s: no inode, or folders without end", name)
		}
		if !info.Mode().IsRegular() && info.Size() > size || info.Mode().Type() == fs.ModeSymlink && info.Size() > tree.MaxLink {
			return fmt.Errorf("/%s: a folder or a link of %d bytes", name, info.Size())
		}
		e := tree.Entry{Path: name, Mode: fileMode(info.Mode()), UID: st.UID, GID: st.GID, ModTime: time.Unix(int64(st.Mtime), int64(st.MtimeNs)).UTC()}
		for k, v := range st.Xattrs {
			e.Xattrs = append(e.Xattrs, tree.Xattr{Name: k, Value: []byte(v)})
		}
		slices.SortFunc(e.Xattrs, func(a, b tree.Xattr) int { return strings.Compare(a.Name, b.Name) })
		if i, again := first[st.Ino]; again {
			if e.Mode.IsDir() { // a few of these in one another would be a tree without end
				return fmt.Errorf("/%s: the folder has the inode %d, as /%s has", name, st.Ino, list[i].Path)
			}
			e = list[i]
			e.HardLink, e.Path, e.Source = e.Path, name, nil
			list = append(list, e)
			return nil
		}
		first[st.Ino] = len(list)
		switch e.Mode.Type() {
		case 0:
			if e.Size = info.Size(); e.Size > 0 {
				e.Source = func() (io.ReadCloser, error) { return fsys.Open(name) }
			}
		case fs.ModeSymlink:
			links, ok := fsys.(fs.ReadLinkFS)
			if !ok {
				return errors.New("links cannot be read")
			}
			if e.Link, err = links.ReadLink(name); err != nil {
				return err
			}
		case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
			e.Major, e.Minor = st.Rdev>>8&0xfff, st.Rdev&0xff|st.Rdev>>12&0xfff00
		}
		list = append(list, e)
		if !e.Mode.IsDir() {
			return nil
		}
		children, err := fs.ReadDir(fsys, name)
		if err != nil {
			return err
		}
		slices.SortFunc(children, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		for _, c := range children {
			info, err := c.Info()
			if err != nil {
				return err
			}
			if err := walk(path.Join(name, c.Name()), info, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	info, err := fs.Stat(fsys, ".")
	if err != nil {
		return nil, err
	}
	if err := walk(".", info, 0); err != nil {
		return nil, err
	}
	return tree.New(list...)
}
