// Package fsmod is the interface between images and the file systems they carry. A file-system module registers itself
// when its package is imported, as database/sql's drivers do, and is then chosen by name; one that is not imported is not
// in the program.
package fsmod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/firstlight-boot/firstlight/tree"
)

// ErrUnsupported is wrapped by the error of a module that cannot do what Options ask for. It is the caller's mistake, not
// a failure of the write.
var ErrUnsupported = errors.New("not supported")

// ErrDamaged is wrapped by errors about the bytes of a file system, in contrast to failures to read them.
var ErrDamaged = errors.New("damaged file system")

// Module writes and reads one kind of file system. Its methods may be called concurrently.
type Module interface {
	// Name is what users and the image's parameters call the module: lower case, no spaces.
	Name() string
	// Codecs lists the compression codecs the module writes. The first is the one meant by --compress without a name.
	Codecs() []string
	// Write writes t as a file system that starts at offset 0 of w. The bytes depend on t and o alone. Write returns soon
	// after ctx is cancelled, with ctx's error.
	Write(ctx context.Context, w io.WriterAt, t *tree.Tree, o Options) (Result, error)
	// Probe tells from the first bytes whether r holds this kind of file system. Only a failed read is an error.
	Probe(r io.ReaderAt, size int64) (bool, error)
	// Open reads the file system in the size bytes of r. r stays the caller's.
	Open(r io.ReaderAt, size int64) (FileSystem, error)
	// Check examines every byte of the file system, padding included. Offsets of problems count from r's start. The error
	// is a failed read or ctx's; damage is a Problem, never an error.
	Check(ctx context.Context, r io.ReaderAt, size int64) ([]Problem, error)
}

// FileSystem is an opened file system.
type FileSystem interface {
	fs.FS
	// Tree lists the whole file system. The entries' Sources read from it and stay valid as long as its reader.
	Tree() (*tree.Tree, error)
}

// Mapper is a FileSystem that tells where its parts are stored.
type Mapper interface {
	// Extents calls each for every extent, in the same order each time. Holes and padding have none.
	Extents(each func(Extent)) error
}

// Extent is a range of a file system's bytes, and what is stored there.
type Extent struct {
	Offset, Length int64  // of the stored bytes
	Path           string // of the file whose content they are, as fs.FS has it; "" of a structure
	What           string // "data", or the name of a structure
	Start, Size    int64  // of what they decode to, in the content or the structure
	Packed         bool   // compressed: all the stored bytes are needed for any of the content
}

// Options say how to write a file system. The zero value is every module's default: nothing compressed.
type Options struct {
	// Codec is one of the module's Codecs, or empty for no compression.
	Codec string
	// ClusterSize is the number of content bytes that are compressed together; 0 is the module's default.
	ClusterSize int
	// Level is the codec's, where it has levels; 0 is its default.
	Level int
	// Raw tells which files to store as they are, by their Path in the tree; nil means none.
	Raw func(path string) bool
	// Hot tells which files every boot reads: they come before all others, and so that reading them costs least; nil means none.
	Hot func(path string) bool
	// Layout is content in the order of its use, which comes before all other content.
	Layout []Use
	// AlignExec says which files are placed so that they can be mapped from a cache of the file system: "auto" or "" executables
	// and shared objects, "all", or "none".
	AlignExec string
	// Progress, when not nil, is told now and then how much of the tree's content was written, from one goroutine at a
	// time.
	Progress func(doneBytes, totalBytes int64)
}

// Uncompressed refuses the options about compression, which a file system called name has not.
func Uncompressed(name string, o Options) error {
	switch {
	case o.Codec != "" || o.Level != 0:
		return fmt.Errorf("compression: %w by %s", ErrUnsupported, name)
	case o.ClusterSize != 0:
		return fmt.Errorf("a cluster size: %w by %s; it is how much content is compressed together, and here none is", ErrUnsupported, name)
	}
	return nil
}

// Use is a range of a file's content that was used.
type Use struct {
	Path           string // as in the tree
	Offset, Length int64  // in bytes
}

// Result describes a file system that was written.
type Result struct {
	Bytes        int64 // length of the file system
	ContentBytes int64 // sum of the sizes of its files, hard links counted once
	StoredBytes  int64 // bytes that this content takes as stored
	Entries      int   // names, the root included
}

// Problem is something wrong with stored bytes.
type Problem struct {
	Offset int64  // of the first byte concerned
	Length int64  // in bytes
	What   string // what is wrong with them
}

func (p Problem) String() string {
	return fmt.Sprintf("bytes %d-%d: %s", p.Offset, p.Offset+max(p.Length, 1)-1, p.What)
}

var (
	mu      sync.RWMutex
	modules = map[string]Module{}
)

// Register makes a module available by its name. It is meant for init functions and panics when the name is taken.
func Register(m Module) {
	mu.Lock()
	defer mu.Unlock()
	if _, dup := modules[m.Name()]; dup {
		panic("fsmod: Register called twice for " + m.Name())
	}
	modules[m.Name()] = m
}

// Names lists the registered modules in order.
func Names() []string {
	mu.RLock()
	defer mu.RUnlock()
	names := make([]string, 0, len(modules))
	for n := range modules {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Lookup finds a module by name. The error of an unknown name lists those that are there and wraps ErrUnsupported.
func Lookup(name string) (Module, error) {
	mu.RLock()
	m := modules[name]
	mu.RUnlock()
	if m == nil {
		return nil, fmt.Errorf("file system %q: %w; available: %s", name, ErrUnsupported, strings.Join(Names(), ", "))
	}
	return m, nil
}

// Probe finds the registered module whose file system r holds; nil when there is none.
func Probe(r io.ReaderAt, size int64) (Module, error) {
	for _, n := range Names() {
		m, err := Lookup(n)
		if err != nil {
			return nil, err
		}
		if ok, err := m.Probe(r, size); err != nil || ok {
			return m, err
		}
	}
	return nil, nil
}
