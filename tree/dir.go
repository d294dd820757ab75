//go:build unix

package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// FromDir makes a tree of what the directory dir holds: types, modes, times, symbolic links as they are, names of one file
// as hard links of the first, and on Linux the extended attributes user.*, security.capability and those of trusted.* that
// can be read. File systems mounted below dir belong to it. A socket, a device node without Options.Devices, and anything
// that vanishes meanwhile is an error that names it.
//
// Nothing stays open: an entry's Source opens the file again, and fails with ErrChanged if that is no longer the same file
// with the same size and time, before its first byte and again before its last. What Source returns is also an io.ReaderAt.
func FromDir(ctx context.Context, dir string, o Options) (*Tree, error) {
	for _, pattern := range o.Exclude {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("exclude pattern %q: %w", pattern, err)
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
	}
	w := walker{ctx: ctx, dir: dir, o: o, first: map[inode]string{}}
	if err := w.walk("."); err != nil {
		return nil, err
	}
	return &Tree{Entries: w.entries}, nil
}

type inode struct{ dev, ino uint64 }

// identity is what a file must keep.
type identity struct {
	inode
	size int64
	mod  time.Time
}

func identify(info fs.FileInfo) identity {
	st := info.Sys().(*syscall.Stat_t)
	return identity{inode{uint64(st.Dev), uint64(st.Ino)}, info.Size(), info.ModTime()}
}

type walker struct {
	ctx     context.Context
	dir     string
	o       Options
	first   map[inode]string // of files with several names, the first name's path
	entries []Entry
}

// host returns the path on the host of the entry p. The root's names what a symbolic link given as dir leads to.
func (w *walker) host(p string) string {
	if p == "." {
		return w.dir + "/."
	}
	return filepath.Join(w.dir, p)
}

// walk adds the entry p and, as long as there are any, those below it. Names sorted in each directory make tree order.
func (w *walker) walk(p string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	isDir, err := w.add(p)
	if err != nil || !isDir {
		return err
	}
	// O_NOFOLLOW: a directory that became a symbolic link since must not lead out of the tree.
	f, err := os.OpenFile(w.host(p), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		child := path.Join(p, name)
		if w.excluded(child, name) {
			continue
		}
		if err := checkName(name); err != nil {
			return fmt.Errorf("%s: %w; rename it or exclude it", w.host(p), err)
		}
		if err := w.walk(child); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) excluded(p, name string) bool {
	return slices.ContainsFunc(w.o.Exclude, func(pattern string) bool {
		subject := name
		if strings.Contains(pattern, "/") {
			pattern, subject = strings.Trim(pattern, "/"), p
		}
		ok, _ := path.Match(pattern, subject)
		return ok
	})
}

// add appends the entry p and reports whether it is a directory.
func (w *walker) add(p string) (isDir bool, err error) {
	host := w.host(p)
	info, err := os.Lstat(host)
	if err != nil {
		return false, err
	}
	st := info.Sys().(*syscall.Stat_t)
	e := Entry{
		Path:    p,
		Mode:    info.Mode() & modeBits,
		ModTime: w.o.time(info.ModTime()),
	}
	e.UID, e.GID = w.o.owner(info)
	switch e.Mode.Type() {
	case 0:
		e.Size = info.Size()
	case fs.ModeDir, fs.ModeNamedPipe:
	case fs.ModeSymlink:
		if e.Link, err = os.Readlink(host); err != nil {
			return false, err
		}
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		if !w.o.Devices {
			return false, fmt.Errorf("%s is a device node: remove it, exclude it or allow devices: %w", host, ErrUnsupported)
		}
		e.Major, e.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	case fs.ModeSocket:
		return false, fmt.Errorf("%s is a socket: remove it or exclude it: %w", host, ErrUnsupported)
	default:
		return false, fmt.Errorf("%s has the mode %v: remove it or exclude it: %w", host, info.Mode(), ErrUnsupported)
	}
	if e.Xattrs, err = readXattrs(host); err != nil {
		return false, err
	}
	if !info.IsDir() && st.Nlink > 1 {
		id := inode{uint64(st.Dev), uint64(st.Ino)}
		if first, ok := w.first[id]; ok {
			return false, w.addHardLink(e, first, host)
		}
		w.first[id] = p
	}
	if e.Mode.IsRegular() {
		// There may be a million of these: each keeps only what it needs.
		dir, want := w.dir, identify(info)
		e.Source = func() (io.ReadCloser, error) { return openFile(filepath.Join(dir, p), want) }
	}
	w.entries = append(w.entries, e)
	return info.IsDir(), nil
}

// addHardLink appends e, a further name of the file that first names.
func (w *walker) addHardLink(e Entry, first, host string) error {
	e.HardLink = first
	// The two were looked at one after the other.
	if target := (&Tree{w.entries}).Lookup(first); !sameFile(target, &e) {
		return fmt.Errorf("%s: %w", host, ErrChanged)
	}
	w.entries = append(w.entries, e)
	return nil
}

// hostFile reads a file that must stay what it was.
type hostFile struct {
	f    *os.File
	path string
	want identity
	pos  int64
	err  error // once an error or io.EOF, always
}

func openFile(path string, want identity) (*hostFile, error) {
	// O_NONBLOCK: should a fifo have taken the file's place, opening it must not wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: %w", err, ErrChanged)
	}
	if err != nil {
		return nil, err
	}
	h := &hostFile{f: f, path: path, want: want}
	got, err := f.Stat()
	if err == nil {
		err = h.compare(got)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return h, nil
}

// compare fails with ErrChanged if got is not the file that the tree was made of.
func (h *hostFile) compare(got fs.FileInfo) error {
	is := identify(got)
	switch {
	case is.inode != h.want.inode:
		return fmt.Errorf("%s: %w: another file has taken its place", h.path, ErrChanged)
	case is.size != h.want.size:
		return fmt.Errorf("%s: %w: it had %d bytes and has %d now", h.path, ErrChanged, h.want.size, is.size)
	case !is.mod.Equal(h.want.mod):
		return fmt.Errorf("%s: %w: its modification time did", h.path, ErrChanged)
	}
	return nil
}

// Read yields the file's bytes. The last of them are held back until a look at the path has shown that it still names the
// same unchanged file, since a reader that knows the size need not ask for io.EOF.
func (h *hostFile) Read(b []byte) (int, error) {
	if h.err != nil {
		return 0, h.err
	}
	if len(b) == 0 {
		return 0, nil
	}
	if rest := h.want.size - h.pos; int64(len(b)) > rest {
		b = b[:rest]
	}
	n, err := h.f.Read(b)
	h.pos += int64(n)
	if err == io.EOF {
		err = fmt.Errorf("%s: %w: it ends at %d of %d bytes", h.path, ErrChanged, h.pos, h.want.size)
	}
	if err == nil && h.pos < h.want.size {
		return n, nil
	}
	if err == nil {
		err = h.recheck()
	}
	if err != nil {
		h.err = err
		return 0, err
	}
	h.err = io.EOF
	return n, nil
}

func (h *hostFile) recheck() error {
	got, err := os.Lstat(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", err, ErrChanged)
	}
	if err != nil {
		return err
	}
	return h.compare(got)
}

// ReadAt is for a look into the file; it does not check again that the file stayed the same.
func (h *hostFile) ReadAt(b []byte, off int64) (int, error) { return h.f.ReadAt(b, off) }

func (h *hostFile) Close() error { return h.f.Close() }
