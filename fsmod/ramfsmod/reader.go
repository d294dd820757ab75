package ramfsmod

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

// Layout of a record of format newc, in bytes: the magic number, thirteen fields of eight hexadecimal digits, the name with
// its NUL, padding to a multiple of 4, the content, padding to a multiple of 4.
const (
	magic      = "070701"
	fieldSize  = 8
	headerSize = len(magic) + 13*fieldSize
	align      = 4
)

// Fields of a record's header by their number.
const (
	fieldIno = iota
	fieldMode
	fieldUID
	fieldGID
	fieldNlink
	fieldMtime
	fieldFilesize
	fieldDevMajor
	fieldDevMinor
	fieldMajor
	fieldMinor
	fieldNamesize
	fieldCheck
	fields
)

// FormatError says what is wrong with an archive, and where. It wraps fsmod.ErrDamaged.
type FormatError struct {
	Format string // "newc"
	Offset int64  // in bytes from the start of the archive, unpacked
	Field  string
	Err    error
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s: byte %d: %s: %v", e.Format, e.Offset, e.Field, e.Err)
}

func (e *FormatError) Unwrap() []error { return []error{e.Err, fsmod.ErrDamaged} }

func bad(off int64, field, format string, args ...any) error {
	return &FormatError{"newc", off, field, fmt.Errorf(format, args...)}
}

// Probe looks for an archive, or for a compressed stream that begins with one.
func (module) Probe(r io.ReaderAt, size int64) (bool, error) {
	stream := bufio.NewReader(io.NewSectionReader(r, 0, size))
	head, err := stream.Peek(4)
	if err != nil && err != io.EOF {
		return false, err
	}
	z, err := decompressor(head, stream)
	if err != nil {
		return false, nil // no such stream after all
	}
	b := make([]byte, len(magic))
	if z == nil {
		_, err = io.ReadFull(stream, b)
	} else {
		_, err = io.ReadFull(z, b)
		z.Close()
	}
	return err == nil && string(b) == magic, nil
}

type files = tree.Tree

type opened struct{ *files }

func (o opened) Tree() (*tree.Tree, error) { return o.files, nil }

// Open reads the archive's headers. A compressed archive is unpacked in memory, as whoever boots it does.
func (module) Open(r io.ReaderAt, size int64) (fsmod.FileSystem, error) {
	a, err := open(context.Background(), r, size)
	if err != nil {
		return nil, err
	}
	t, err := a.tree()
	if err != nil {
		return nil, err
	}
	return opened{t}, nil
}

// Check reads the whole archive. The padding must be zero, and there must be nothing behind the archive but zeros.
func (module) Check(ctx context.Context, r io.ReaderAt, size int64) ([]fsmod.Problem, error) {
	a, err := open(ctx, r, size)
	if err == nil {
		_, err = a.tree()
	}
	switch fe := (*FormatError)(nil); {
	case errors.As(err, &fe) && !a.packed:
		return append(a.problems, fsmod.Problem{Offset: fe.Offset, Length: 1, What: fe.Field + ": " + fe.Err.Error()}), nil
	case errors.Is(err, fsmod.ErrDamaged):
		return []fsmod.Problem{{Length: size, What: err.Error()}}, nil
	case err != nil:
		return nil, err
	}
	return a.problems, nil
}

// archive is an archive as its records say.
type archive struct {
	r        io.ReaderAt // unpacked
	size     int64
	packed   bool
	records  []record
	problems []fsmod.Problem // that keep nobody from reading it
}

type record struct {
	f       [fields]uint64
	name    string
	off     int64 // of the header
	content int64 // offset
}

func (a *archive) problem(off, n int64, what string) {
	if a.packed {
		what, off, n = fmt.Sprintf("byte %d of the unpacked archive: %s", off, what), 0, 1
	}
	a.problems = append(a.problems, fsmod.Problem{Offset: off, Length: n, What: what})
}

// limited is a reader whose errors are those of its source, as long as ctx lasts.
type limited struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (l *limited) Read(p []byte) (int, error) {
	if err := l.ctx.Err(); err != nil {
		l.err = err
		return 0, err
	}
	n, err := l.r.Read(p)
	if err != nil && err != io.EOF {
		l.err = err
	}
	return n, err
}

// open reads the archive's headers. The archive is never nil.
func open(ctx context.Context, r io.ReaderAt, size int64) (*archive, error) {
	a := &archive{r: r, size: size}
	src := &limited{ctx: ctx, r: io.NewSectionReader(r, 0, size)}
	stream := bufio.NewReaderSize(src, 64<<10)
	head, err := stream.Peek(4)
	if err != nil && err != io.EOF {
		return a, err
	}
	z, err := decompressor(head, stream)
	if z != nil {
		a.packed = true
		var buf bytes.Buffer
		_, err = io.Copy(&buf, io.LimitReader(z, maxUnpacked+1))
		z.Close()
		if err == nil && buf.Len() > maxUnpacked {
			return a, fmt.Errorf("archive of more than %d bytes unpacked: %w", int64(maxUnpacked), fsmod.ErrUnsupported)
		}
		a.r, a.size = bytes.NewReader(buf.Bytes()), int64(buf.Len())
	}
	if src.err != nil {
		return a, src.err
	}
	if err != nil {
		return a, fmt.Errorf("compressed archive: %w: %w", fsmod.ErrDamaged, err)
	}
	return a, a.read(ctx)
}

// read reads the records up to the trailer.
func (a *archive) read(ctx context.Context) error {
	head := make([]byte, headerSize)
	for off := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if off > a.size-int64(headerSize) {
			return bad(off, "record", "the archive ends at %d without its last record %s", a.size, cpio.Trailer)
		}
		if err := a.readAt(head, off); err != nil {
			return err
		}
		if !bytes.HasPrefix(head, []byte(magic)) {
			return bad(off, "magic number", "%q, want %s", head[:len(magic)], magic)
		}
		rec := record{off: off}
		for i := range rec.f {
			at := len(magic) + i*fieldSize
			v, err := strconv.ParseUint(string(head[at:at+fieldSize]), 16, 32)
			if err != nil {
				return bad(off+int64(at), "header", "%q is no hexadecimal number", head[at:at+fieldSize])
			}
			rec.f[i] = v
		}
		n := int64(rec.f[fieldNamesize])
		if n < 1 || n > maxPath+1 || n > a.size-off-int64(headerSize) {
			return bad(off, "name", "%d bytes", n)
		}
		name := make([]byte, n)
		if err := a.readAt(name, off+int64(headerSize)); err != nil {
			return err
		}
		nul := bytes.IndexByte(name, 0) // others may follow, which put the content on a boundary
		if nul < 0 {
			return bad(off+int64(headerSize), "name", "no NUL at its end")
		}
		rec.name = string(name[:nul])
		rec.content = (off + int64(headerSize) + n + align - 1) &^ (align - 1)
		end := rec.content + int64(rec.f[fieldFilesize])
		if end > a.size {
			return bad(off, "content", "%d bytes at %d, and the archive ends at %d", rec.f[fieldFilesize], rec.content, a.size)
		}
		if err := a.zero(off+int64(headerSize+nul), rec.content); err != nil {
			return err
		}
		off = min((end+align-1)&^(align-1), a.size)
		if err := a.zero(end, off); err != nil {
			return err
		}
		if rec.name == cpio.Trailer {
			return a.zero(off, a.size)
		}
		a.records = append(a.records, rec)
	}
}

func (a *archive) readAt(b []byte, off int64) error {
	_, err := io.ReadFull(io.NewSectionReader(a.r, off, int64(len(b))), b)
	return err
}

// zero tells of bytes that are not zero where there is nothing.
func (a *archive) zero(from, to int64) error {
	buf := make([]byte, min(64<<10, to-from))
	for ; from < to; from += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), to-from)]
		if err := a.readAt(buf, from); err != nil {
			return err
		}
		if i := slices.IndexFunc(buf, func(b byte) bool { return b != 0 }); i >= 0 {
			a.problem(from+int64(i), to-from-int64(i), "the padding is not zero")
			return nil
		}
	}
	return nil
}

// tree makes a tree of the records.
func (a *archive) tree() (*tree.Tree, error) {
	type key struct{ major, minor, ino uint64 }
	groups := make(map[key][]int) // indices of entries
	entries := make([]tree.Entry, 0, len(a.records)+1)
	offsets := make(map[string]int64)
	for i := range a.records {
		rec := &a.records[i]
		name := strings.TrimPrefix(strings.TrimPrefix(rec.name, "./"), "/")
		if name == "" {
			name = "."
		}
		mode, ok := tree.FileMode(uint32(rec.f[fieldMode]))
		if !ok {
			return nil, bad(rec.off, "mode", "%o is no kind of file", rec.f[fieldMode])
		}
		if _, twice := offsets[name]; twice {
			return nil, bad(rec.off, "name", "%q is there twice", rec.name)
		}
		offsets[name] = rec.off
		e := tree.Entry{
			Path: name, Mode: mode, UID: uint32(rec.f[fieldUID]), GID: uint32(rec.f[fieldGID]),
			ModTime: time.Unix(int64(rec.f[fieldMtime]), 0).UTC(),
		}
		n := int64(rec.f[fieldFilesize])
		switch mode.Type() {
		case 0:
			if e.Size = n; n > 0 {
				r, at := a.r, rec.content
				e.Source = func() (io.ReadCloser, error) { return source{io.NewSectionReader(r, at, n)}, nil }
			}
		case fs.ModeSymlink:
			if n > tree.MaxLink {
				return nil, bad(rec.off, "content", "a link's target of %d bytes", n)
			}
			b := make([]byte, n)
			if err := a.readAt(b, rec.content); err != nil {
				return nil, err
			}
			e.Link = string(b)
		case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
			e.Major, e.Minor = uint32(rec.f[fieldMajor]), uint32(rec.f[fieldMinor])
		}
		if rec.f[fieldNlink] > 1 && !mode.IsDir() && mode.Type() != fs.ModeSymlink {
			k := key{rec.f[fieldDevMajor], rec.f[fieldDevMinor], rec.f[fieldIno]}
			groups[k] = append(groups[k], len(entries))
		}
		entries = append(entries, e)
	}
	for _, g := range groups {
		link(entries, g)
	}
	if _, ok := offsets["."]; !ok {
		entries = append(entries, tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755, ModTime: time.Unix(0, 0).UTC()})
	}
	t, err := tree.New(entries...)
	if err != nil {
		return nil, bad(0, "records", "%w", err)
	}
	return t, nil
}

// link makes the entries of g names of one file: the first in tree order is the file, with the content that one of them has.
func link(entries []tree.Entry, g []int) {
	slices.SortFunc(g, func(i, j int) int { return tree.Compare(entries[i].Path, entries[j].Path) })
	first := entries[g[0]]
	for _, i := range g {
		if e := &entries[i]; e.Size > 0 {
			first.Size, first.Source = e.Size, e.Source
		}
		if entries[i].Mode.Type() != first.Mode.Type() {
			return // one inode number, but not one file
		}
	}
	for _, i := range g[1:] {
		e := first
		e.Path, e.HardLink, e.Source, e.Size = entries[i].Path, first.Path, nil, first.Size
		entries[i] = e
	}
	entries[g[0]] = first
}

// source is a file's content, which may be read at random too.
type source struct{ *io.SectionReader }

func (source) Close() error { return nil }
