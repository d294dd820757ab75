package zfsmod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	"github.com/firstlight-boot/firstlight/tree"
	"github.com/firstlight-boot/firstlight/zfsmod/format"
	"github.com/firstlight-boot/firstlight/zfsmod/read"
)

// FileSystem is the file systems of an open pool as one tree.
type FileSystem struct {
	*tree.Tree
	Pool *read.Pool
}

// Open reads the pool in r, of size bytes.
func Open(r io.ReaderAt, size int64) (*FileSystem, error) {
	p, err := read.Open(read.Device{ReaderAt: r, Size: size})
	if err != nil {
		return nil, wrap(err)
	}
	list, err := p.Datasets()
	if err != nil {
		return nil, wrap(err)
	}
	var entries []tree.Entry
	for i, at := range places(p.Name, list) {
		if at == "" {
			continue
		}
		more, err := Entries(p, list[i], at)
		if err != nil {
			return nil, wrap(err)
		}
		// What was there is hidden by what is mounted on it, and what leads there is made.
		entries = slices.DeleteFunc(entries, func(e tree.Entry) bool { return e.Path == at || within(at, e.Path) })
		for up := path.Dir(at); at != "." && !slices.ContainsFunc(entries, func(e tree.Entry) bool { return e.Path == up }); up = path.Dir(up) {
			entries = append(entries, tree.Entry{Path: up, Mode: fs.ModeDir | 0o755, ModTime: more[0].ModTime})
		}
		entries = append(entries, more...)
	}
	t, err := tree.New(entries...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fsmod.ErrDamaged, err)
	}
	return &FileSystem{t, p}, nil
}

// places tells where in the tree each dataset is: the pool's own at its root, the others where they would be mounted, seen from
// the mount point of that; if that is nowhere below, by their names. Snapshots have no place. Parents come before children.
func places(pool string, list []read.Dataset) []string {
	points := map[string]string{}
	at := make([]string, len(list))
	for i, d := range list {
		if d.Snapshot {
			continue
		}
		point, set := d.Props["mountpoint"]
		if !set {
			point = "/" + d.Name
			if up, ok := points[path.Dir(d.Name)]; ok && d.Name != pool {
				point = path.Join(up, path.Base(d.Name))
			}
		}
		points[d.Name] = point
		if d.Name == pool {
			at[i] = "."
			continue
		}
		root := strings.TrimSuffix(points[pool], "/")
		if rel, ok := strings.CutPrefix(path.Clean(point), root+"/"); ok && root != "none" && root != "legacy" && rel != "" {
			at[i] = rel
		} else {
			at[i] = strings.TrimPrefix(d.Name, pool+"/")
		}
	}
	return at
}

// wrap says what kind of error it is in fsmod's words.
func wrap(err error) error {
	switch {
	case errors.Is(err, read.ErrDamaged):
		return fmt.Errorf("%w: %w", fsmod.ErrDamaged, err)
	case errors.Is(err, read.ErrUnsupported):
		return fmt.Errorf("%w: %w", fsmod.ErrUnsupported, err)
	}
	return err
}

// Entries lists the files of a dataset below the folder at.
func Entries(p *read.Pool, d read.Dataset, at string) ([]tree.Entry, error) {
	f, err := p.FileSystem(d)
	if err != nil {
		return nil, err
	}
	l := lister{f: f, version: p.Version, names: map[uint64]string{}}
	if err := l.add(f.RootDir, at, 0); err != nil {
		return nil, fmt.Errorf("dataset %s: %w", d.Name, err)
	}
	// Of a file with several names the first in a tree's order has the content.
	slices.SortFunc(l.list, func(a, b found) int { return tree.Compare(a.Path, b.Path) })
	entries := make([]tree.Entry, len(l.list))
	first := map[uint64]string{}
	for i, e := range l.list {
		entries[i] = e.Entry
		if e.Mode.IsDir() || e.links < 2 {
			continue
		}
		if name, ok := first[e.object]; ok {
			entries[i].HardLink, entries[i].Source = name, nil
		} else {
			first[e.object] = e.Path
		}
	}
	return entries, nil
}

type found struct {
	tree.Entry
	object, links uint64
}

type lister struct {
	f       *read.FS
	version uint64 // of the pool
	list    []found
	names   map[uint64]string // of folders
	xattrs  int               // bytes of extended attributes in files
}

const (
	maxDepth = 2048
	// maxXattrs bounds the extended attributes of all files of a dataset, which are in memory, in bytes.
	maxXattrs = 256 << 20
)

func (l *lister) add(object uint64, name string, depth int) error {
	o, s, err := l.f.File(object)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	e := found{Entry: tree.Entry{Path: name, UID: s.UID, GID: s.GID, ModTime: time.Unix(s.Sec, s.Nsec).UTC()}, object: object, links: s.Links}
	var known bool
	if e.Mode, known = tree.FileMode(s.Mode); !known {
		return fmt.Errorf("%w: %s has the mode %#o", read.ErrUnsupported, name, s.Mode)
	}
	switch {
	case e.Mode.IsRegular():
		e.Size = s.Size
		if e.Size > 0 {
			e.Source = func() (io.ReadCloser, error) { return &content{o: o, size: s.Size, path: name}, nil }
		}
	case e.Mode&fs.ModeSymlink != 0:
		e.Link = s.Link
	case e.Mode&fs.ModeDevice != 0:
		e.Major, e.Minor = devNumbers(s.Rdev, l.version)
	}
	if e.Xattrs, err = l.extended(&s); err != nil {
		return fmt.Errorf("extended attributes of %s: %w", name, err)
	}
	l.list = append(l.list, e)
	if !e.Mode.IsDir() {
		return nil
	}
	if other, ok := l.names[object]; ok {
		return fmt.Errorf("%w: %s and %s are one folder", read.ErrDamaged, other, name)
	}
	l.names[object] = name
	if depth > maxDepth {
		return fmt.Errorf("%w: folders lie %d deep in each other", read.ErrUnsupported, depth)
	}
	return l.f.Names(o, func(base string, child uint64, _ uint32) error {
		// A name can take all of its table, and each folder below repeats it.
		if base == "" || base == "." || base == ".." || strings.Contains(base, "/") || len(base) > tree.MaxName {
			return fmt.Errorf("%w: %s has an entry %.300q", read.ErrDamaged, name, base)
		}
		full := base
		if name != "." {
			full = name + "/" + base
		}
		return l.add(child, full, depth+1)
	})
}

// extended reads extended attributes: those in the attributes themselves and those in files.
func (l *lister) extended(s *read.Stat) (list []tree.Xattr, err error) {
	for _, x := range s.InlineXattrs {
		if v, ok := x.Value.([]byte); ok {
			list = append(list, tree.Xattr{Name: x.Name, Value: v})
		}
	}
	if s.Xattr != 0 {
		dir, _, err := l.f.File(s.Xattr)
		if err != nil {
			return nil, err
		}
		err = l.f.Names(dir, func(name string, object uint64, _ uint32) error {
			o, s, err := l.f.File(object)
			if err != nil {
				return err
			}
			if s.Size > tree.MaxXattrValue {
				return fmt.Errorf("%w: %s has %d bytes", read.ErrUnsupported, name, s.Size)
			}
			// One folder of holes may be that of every file.
			if l.xattrs += len(name) + int(s.Size); l.xattrs > maxXattrs {
				return fmt.Errorf("%w: more than %d MiB of extended attributes", read.ErrUnsupported, maxXattrs>>20)
			}
			v := make([]byte, s.Size)
			if _, err := io.ReadFull(&content{o: o, size: s.Size, path: name}, v); err != nil && len(v) > 0 {
				return err
			}
			list = append(list, tree.Xattr{Name: name, Value: v})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b tree.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// content reads a file. It keeps its last block.
type content struct {
	o    *read.Object
	size int64
	path string
	at   int64

	block []byte
	id    int64 // of block, plus 1; 0 is none
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	n, err := c.ReadAt(p, c.at)
	c.at += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// ReadAt implements io.ReaderAt, for one caller at a time.
func (c *content) ReadAt(p []byte, off int64) (done int, err error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: c.path, Err: fs.ErrInvalid}
	}
	size := int64(c.o.BlockSize())
	for done < len(p) {
		at := off + int64(done)
		if at >= c.size {
			return done, io.EOF
		}
		id, skip := at/size, at%size
		rest := p[done:][:min(int64(len(p)-done), c.size-at, size-skip)]
		switch {
		case c.id == id+1:
			copy(rest, c.block[skip:])
		case int64(len(rest)) == size: // to where it is wanted
			err = c.o.ReadBlock(uint64(id), rest)
		default:
			if c.block == nil {
				c.block = make([]byte, size)
			}
			c.id = 0
			if err = c.o.ReadBlock(uint64(id), c.block); err == nil {
				c.id = id + 1
				copy(rest, c.block[skip:])
			}
		}
		if err != nil {
			return done, wrap(fmt.Errorf("%s: %w", c.path, err))
		}
		done += len(rest)
	}
	return done, nil
}

// Close implements io.Closer.
func (c *content) Close() error { return nil }

// module is the pools as a fsmod.Module, with the defaults of Config.
type module struct{ Config }

func init() { fsmod.Register(module{}) }

// Module returns pools of c as a module, for those who want other pools than the registered one writes.
func (c Config) Module() fsmod.Module { return module{c} }

// Name implements fsmod.Module.
func (module) Name() string { return "zfs" }

// Codecs implements fsmod.Module.
func (m module) Codecs() []string {
	if k, ok := compats[m.Compat]; m.Compat == "" || ok && k.lz4 {
		return []string{"lz4", "gzip", "lzjb", "zle"}
	}
	return []string{"lzjb", "gzip", "zle"}
}

// Probe implements fsmod.Module: one of the first two labels has a good configuration.
func (module) Probe(r io.ReaderAt, size int64) (bool, error) {
	if size < format.MinVdevSize {
		return false, nil
	}
	b := make([]byte, format.ConfigSize)
	for _, at := range []int64{format.ConfigOffset, format.LabelSize + format.ConfigOffset} {
		if _, err := r.ReadAt(b, at); err != nil {
			return false, err
		}
		if format.Sealed(b, at) {
			return true, nil
		}
	}
	return false, nil
}

// Open implements fsmod.Module.
func (module) Open(r io.ReaderAt, size int64) (fsmod.FileSystem, error) {
	f, err := Open(r, size)
	if err != nil {
		return nil, err
	}
	return Opened{hosttool.Opened(f.Tree), f.Pool}, nil
}

// Opened is what the module opens.
type Opened struct {
	fsmod.FileSystem
	Pool *read.Pool
}

// Check implements fsmod.Module.
func (module) Check(ctx context.Context, r io.ReaderAt, size int64) ([]fsmod.Problem, error) {
	p, err := read.Open(read.Device{ReaderAt: r, Size: size})
	if errors.Is(err, read.ErrDamaged) || errors.Is(err, read.ErrUnsupported) {
		return []fsmod.Problem{{Offset: 0, Length: size, What: err.Error()}}, nil
	}
	if err != nil {
		return nil, err
	}
	var list []fsmod.Problem
	err = p.Verify(ctx, func(b read.Problem) {
		if len(list) < maxProblems {
			list = append(list, fsmod.Problem{Offset: b.Offset, Length: b.Length, What: b.What})
		}
	})
	return list, err
}

// maxProblems bounds what Check lists.
const maxProblems = 10_000
