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
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	// Not filepath.Join, for which link/.. is where the link is, and for the host the parent of where it leads.
	below := strings.TrimRight(dir, "/") + "/"
	if dir == "." {
		below = ""
	}
	w := walker{ctx: ctx, dir: dir, below: below, o: o, free: make(chan struct{}, runtime.GOMAXPROCS(0))}
	root := directory{path: "."}
	w.list(&root)
	w.running.Wait()
	w.entries = append(make([]Entry, 0, 1+w.count.Load()), Entry{Path: ".", Mode: fs.ModeDir})
	if err := w.flatten(&root); err != nil {
		return nil, err
	}
	if err := w.look(); err != nil {
		return nil, err
	}
	if err := w.link(); err != nil {
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

// walker makes the entries of a tree: their names, then what they are, both with all processors, then which are hard links.
type walker struct {
	ctx     context.Context
	dir     string
	below   string // what precedes the path of each entry but the root on the host
	o       Options
	entries []Entry

	free    chan struct{} // has room while a further directory can be listed at the same time
	running sync.WaitGroup
	count   atomic.Int64 // of names found

	mu    sync.Mutex
	names []name
}

// name is one name of a file that has several.
type name struct {
	file inode
	*Entry
}

// host returns the path on the host of the entry p. The root's names what a symbolic link given as dir leads to.
func (w *walker) host(p string) string {
	if p == "." {
		return w.dir + "/."
	}
	return w.below + p
}

// directory is what was found in a directory.
type directory struct {
	path     string
	children []child // sorted
	err      error
}

type child struct {
	path string
	mode fs.FileMode // type
	dir  *directory  // nil of others
}

// list fills d in, and in time the directories below it.
func (w *walker) list(d *directory) {
	if d.err = w.ctx.Err(); d.err != nil {
		return
	}
	// O_NOFOLLOW: a directory that became a symbolic link since must not lead out of the tree.
	fd, err := open(w.host(d.path), unix.O_DIRECTORY)
	if err != nil {
		d.err = err
		return
	}
	f := os.NewFile(uintptr(fd), w.host(d.path))
	found, err := f.ReadDir(-1)
	f.Close()
	if err != nil {
		d.err = err
		return
	}
	slices.SortFunc(found, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	d.children = make([]child, 0, len(found))
	for _, e := range found {
		c := child{path: path.Join(d.path, e.Name()), mode: e.Type()}
		if w.excluded(c.path, e.Name()) {
			continue
		}
		if err := checkName(e.Name()); err != nil {
			d.err = fmt.Errorf("%s: %w; rename it or exclude it", w.host(d.path), err)
			return
		}
		if c.mode.IsDir() {
			c.dir = &directory{path: c.path}
		}
		d.children = append(d.children, c)
	}
	w.count.Add(int64(len(d.children)))
	for _, c := range d.children {
		if c.dir == nil {
			continue
		}
		select {
		case w.free <- struct{}{}:
			w.running.Go(func() {
				w.list(c.dir)
				<-w.free
			})
		default:
			w.list(c.dir)
		}
	}
}

// flatten adds entries for what was found. Names sorted in each directory make tree order.
func (w *walker) flatten(d *directory) error {
	if d.err != nil {
		return d.err
	}
	for _, c := range d.children {
		w.entries = append(w.entries, Entry{Path: c.path, Mode: c.mode})
		if c.dir != nil {
			if err := w.flatten(c.dir); err != nil {
				return err
			}
		}
	}
	d.children = nil
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

// look fills all entries in. Of several errors it returns the first one in tree order.
func (w *walker) look() error {
	const batch = 64
	var next atomic.Int64
	var wg sync.WaitGroup
	failed, first := int64(len(w.entries)), error(nil)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				from := next.Add(batch) - batch
				for i := from; i < min(from+batch, int64(len(w.entries))); i++ {
					err := w.ctx.Err()
					if err == nil {
						err = w.fill(&w.entries[i])
					}
					if err != nil {
						next.Store(int64(len(w.entries)))
						w.mu.Lock()
						if i < failed {
							failed, first = i, err
						}
						w.mu.Unlock()
						return
					}
				}
				if from >= int64(len(w.entries)) {
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

// fill looks at what an entry is.
func (w *walker) fill(e *Entry) error {
	p, host := e.Path, w.host(e.Path)
	info, err := os.Lstat(host)
	if err != nil {
		return err
	}
	if info.IsDir() != e.Mode.IsDir() {
		return fmt.Errorf("%s: %w: it became %v", host, ErrChanged, info.Mode())
	}
	st := info.Sys().(*syscall.Stat_t)
	e.Mode = info.Mode() & modeBits
	e.ModTime = w.o.time(info.ModTime())
	e.UID, e.GID = w.o.owner(info)
	switch e.Mode.Type() {
	case 0:
		e.Size = info.Size()
		// There may be a million of these: each keeps only what it needs.
		below, want := w.below, identify(info)
		e.Source = func() (io.ReadCloser, error) { return openFile(below+p, want) }
	case fs.ModeDir, fs.ModeNamedPipe:
	case fs.ModeSymlink:
		if e.Link, err = os.Readlink(host); err != nil {
			return err
		}
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		if !w.o.Devices {
			return fmt.Errorf("%s is a device node: remove it, exclude it or allow device nodes (--devices): %w", host, ErrUnsupported)
		}
		e.Major, e.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	case fs.ModeSocket:
		return fmt.Errorf("%s is a socket: remove it or exclude it: %w", host, ErrUnsupported)
	default:
		return fmt.Errorf("%s has the mode %v: remove it or exclude it: %w", host, info.Mode(), ErrUnsupported)
	}
	if !info.IsDir() && st.Nlink > 1 {
		w.mu.Lock()
		w.names = append(w.names, name{inode{uint64(st.Dev), uint64(st.Ino)}, e})
		w.mu.Unlock()
	}
	e.Xattrs, err = readXattrs(host)
	return err
}

// link makes hard links of all names of a file but the first.
func (w *walker) link() error {
	slices.SortFunc(w.names, func(a, b name) int { return Compare(a.Path, b.Path) })
	first := map[inode]*Entry{}
	for _, n := range w.names {
		target, ok := first[n.file]
		if !ok {
			first[n.file] = n.Entry
			continue
		}
		// The two were looked at one after the other.
		if !sameFile(target, n.Entry) {
			return fmt.Errorf("%s: %w", w.host(n.Path), ErrChanged)
		}
		n.HardLink, n.Source = target.Path, nil
	}
	return nil
}

// open opens a file to read.
func open(path string, flags int) (fd int, err error) {
	err = retry(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, 0)
		return err
	})
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// retry calls f until no signal interrupts it.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// hostFile reads a file that must stay what it was. An os.File would cost twice the system calls.
type hostFile struct {
	fd   int
	path string
	want identity
	pos  int64
	err  error // once an error or io.EOF, always
}

func openFile(path string, want identity) (*hostFile, error) {
	// O_NONBLOCK: should a fifo have taken the file's place, opening it must not wait for a writer.
	fd, err := open(path, unix.O_NONBLOCK)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: %w", err, ErrChanged)
	}
	if err != nil {
		return nil, err
	}
	h := &hostFile{fd: fd, path: path, want: want}
	var got unix.Stat_t
	if err = unix.Fstat(fd, &got); err != nil {
		err = &fs.PathError{Op: "stat", Path: path, Err: err}
	} else {
		err = h.compare(&got)
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// compare fails with ErrChanged if got is not the file that the tree was made of.
func (h *hostFile) compare(got *unix.Stat_t) error {
	is := identity{inode{uint64(got.Dev), uint64(got.Ino)}, got.Size, time.Unix(got.Mtim.Unix())}
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
	n, err := h.pread(b, h.pos)
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
	var got unix.Stat_t
	if err := retry(func() error { return unix.Lstat(h.path, &got) }); err != nil {
		err = &fs.PathError{Op: "lstat", Path: h.path, Err: err}
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", err, ErrChanged)
		}
		return err
	}
	return h.compare(&got)
}

// pread reads some of the bytes at off, of which there may be none.
func (h *hostFile) pread(b []byte, off int64) (n int, err error) {
	if h.fd < 0 {
		return 0, &fs.PathError{Op: "read", Path: h.path, Err: fs.ErrClosed}
	}
	const most = 1 << 30 // macOS refuses 2 GiB
	err = retry(func() (err error) {
		n, err = unix.Pread(h.fd, b[:min(len(b), most)], off)
		return err
	})
	switch {
	case err != nil:
		return 0, &fs.PathError{Op: "read", Path: h.path, Err: err}
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// ReadAt is for a look into the file; it does not check again that the file stayed the same.
func (h *hostFile) ReadAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		n, err := h.pread(b[done:], off+int64(done))
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

func (h *hostFile) Close() error {
	if h.fd < 0 {
		return &fs.PathError{Op: "close", Path: h.path, Err: fs.ErrClosed}
	}
	err := unix.Close(h.fd)
	h.fd = -1
	if err != nil {
		return &fs.PathError{Op: "close", Path: h.path, Err: err}
	}
	return nil
}
