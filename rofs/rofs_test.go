package rofs_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pierrec/lz4/v4"

	"github.com/firstlight-boot/firstlight/rofs"
	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/rofs/read"
	"github.com/firstlight-boot/firstlight/tree"
)

// memory is an image in memory.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

var mtime = time.Unix(1700000000, 123456789)

func dir(name string) tree.Entry {
	return tree.Entry{Path: name, Mode: fs.ModeDir | 0o755, ModTime: mtime}
}

func file(name string, data []byte) tree.Entry {
	return tree.Entry{Path: name, Mode: 0o644, ModTime: mtime, Size: int64(len(data)), Source: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

func newTree(t testing.TB, entries ...tree.Entry) *tree.Tree {
	t.Helper()
	tr, err := tree.New(append(entries, dir("."))...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func write(t testing.TB, tr *tree.Tree, o rofs.Options) []byte {
	t.Helper()
	m := &memory{}
	s, err := rofs.Write(t.Context(), m, tr, o)
	if err != nil {
		t.Fatal(err)
	}
	if s.ImageBytes != int64(len(m.b)) {
		t.Errorf("Stats.ImageBytes is %d, the image has %d", s.ImageBytes, len(m.b))
	}
	return m.b
}

func open(t testing.TB, image []byte) *rofs.FS {
	t.Helper()
	f, err := rofs.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func check(t testing.TB, image []byte) (problems []rofs.Problem) {
	t.Helper()
	err := rofs.Check(t.Context(), bytes.NewReader(image), int64(len(image)), func(p rofs.Problem) { problems = append(problems, p) })
	if err != nil {
		t.Fatal(err)
	}
	return problems
}

// mixed returns n bytes that compress like a program: runs, repeats and noise.
func mixed(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, n+300)
	for len(b) < n {
		switch k := r.IntN(4); {
		case k == 0:
			b = append(b, bytes.Repeat([]byte{byte(r.IntN(256))}, 1+r.IntN(40))...)
		case k == 1 && len(b) > 300:
			at := len(b) - 1 - r.IntN(299)
			b = append(b, b[at:min(len(b), at+4+r.IntN(60))]...)
		default:
			for range 1 + r.IntN(12) {
				b = append(b, byte(r.IntN(256)))
			}
		}
	}
	return b[:n]
}

func noise(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// few returns all, and the first alone under the race detector, which takes ten times as long and says nothing new of what runs
// in one goroutine.
func few[T any](all ...T) []T {
	if raceEnabled {
		return all[:1]
	}
	return all
}

// corpus returns the awkward trees, by name.
func corpus(t testing.TB) map[string]*tree.Tree {
	t.Helper()
	c := map[string]*tree.Tree{"empty": newTree(t)}

	sizes := []tree.Entry{}
	for _, k := range []int{4096, 16384, 65536, 1 << 20} {
		for _, d := range []int{-1, 0, 1} {
			for m := range 2 {
				n := k*(m+1) + d
				sizes = append(sizes, file(fmt.Sprintf("mixed%d", n), mixed(n, uint64(n))))
			}
		}
	}
	for n := range 70 {
		sizes = append(sizes, file(fmt.Sprintf("tiny%d", n), mixed(n, uint64(n))))
	}
	sizes = append(sizes,
		file("zeros", make([]byte, 300000)),
		file("noise", noise(200001, 7)),
		file("holes", slices.Concat(make([]byte, 200000), mixed(100000, 3), make([]byte, 400000), []byte{1})),
		file("tail", slices.Concat(mixed(100000, 3), make([]byte, 400000))))
	program := file("program", slices.Concat([]byte("\x7fELF"), mixed(123456, 9)))
	program.Mode = 0o755
	c["sizes"] = newTree(t, append(sizes, program)...)

	deep := []tree.Entry{}
	for i, p := 0, ""; i < 200; i++ {
		p = filepath.Join(p, fmt.Sprintf("d%d", i%3))
		deep = append(deep, dir(p))
	}
	deep = append(deep, file(deep[199].Path+"/bottom", []byte("here")))
	c["deep"] = newTree(t, deep...)

	wide := []tree.Entry{}
	for i := range 3000 {
		wide = append(wide, file(fmt.Sprintf("file-with-a-long-name-%06d", i), nil))
	}
	c["wide"] = newTree(t, wide...)

	odd := []tree.Entry{file("\xff\xfe not UTF-8 \x01\n", []byte("1")), file(strings.Repeat("n", 255), []byte("2")),
		file("-", nil), file("...", []byte("3")), file(" ", []byte("4")), file("a.b", nil), dir("a"), file("a/b", []byte("5")), dir("a/empty")}
	for i := range 40 { // names that make blocks of strings end in every way
		odd = append(odd, file(strings.Repeat(string(rune('A'+i%26)), 255-i), nil))
	}
	setuid := file("setuid", []byte("x"))
	setuid.Mode |= fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	setuid.UID, setuid.GID = 4294967294, 4294967293
	setuid.ModTime = time.Unix(-5, 999999999)
	setuid.Xattrs = []tree.Xattr{{Name: "security.capability", Value: noise(20, 1)}, {Name: "user.big", Value: noise(60000, 2)}, {Name: "user.empty", Value: []byte{}}}
	again := setuid
	again.Path, again.HardLink, again.Size, again.Source = "zz-second-name", "setuid", setuid.Size, nil
	odd = append(odd, setuid, again,
		tree.Entry{Path: "link", Mode: fs.ModeSymlink | 0o777, Link: "a/b", ModTime: mtime},
		tree.Entry{Path: "longlink", Mode: fs.ModeSymlink | 0o777, Link: strings.Repeat("x/", 2047) + "y", ModTime: mtime},
		tree.Entry{Path: "dangling", Mode: fs.ModeSymlink | 0o777, Link: "\xff", ModTime: mtime},
		tree.Entry{Path: "fifo", Mode: fs.ModeNamedPipe | 0o600, ModTime: mtime},
		tree.Entry{Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3, ModTime: mtime},
		tree.Entry{Path: "disk", Mode: fs.ModeDevice | 0o660, Major: 4095, Minor: 1048575, ModTime: mtime})
	c["odd"] = newTree(t, odd...)
	return c
}

var optionSets = map[string]rofs.Options{
	"default":   {},
	"none":      {Codec: rofs.None},
	"lz4 4K":    {ClusterSize: 4096},
	"lz4 1M":    {ClusterSize: 1 << 20, ExecClusterSize: 1 << 20},
	"lz4hc":     {Codec: rofs.LZ4HC, ClusterSize: 128 << 10},
	"lz4hc 1":   {Codec: rofs.LZ4HC, Level: 1},
	"all":       {Align: rofs.AlignAll, ClusterSize: 16 << 10},
	"unaligned": {Align: rofs.AlignNone},
	"hot":       {Hot: func(p string) bool { return p == "program" || p == "zeros" || p == "tiny69" }},
	"zstd":      {Codec: rofs.Zstd},
	"zstd 19":   {Codec: rofs.Zstd, Level: 19, ClusterSize: 1 << 20, Align: rofs.AlignNone},
	"zstd 4K":   {Codec: rofs.Zstd, Level: 3, ClusterSize: 4096},
	"layout": {ClusterSize: 16 << 10, Layout: []rofs.Use{{"program", 40000, 30000}, {"mixed65537", 0, 1}, {"program", 0, 4096},
		{"mixed65537", 65536, 100}, {"none", 1, 2}, {"tiny3", 0, 3}, {"holes", 0, 1 << 40}, {"mixed65536", 65536, 10}}},
	"raw":        {Raw: func(p string) bool { return p == "program" || p == "holes" || p == "tiny5" }},
	"one worker": {Workers: 1},
}

// light leaves out the large files under the race detector, with which a strong compressor takes a minute for them and is
// nevertheless no other goroutine than for the rest.
func light(tr *tree.Tree) *tree.Tree {
	if !raceEnabled {
		return tr
	}
	l := &tree.Tree{}
	for _, e := range tr.Entries {
		if e.Size < 1<<18 {
			l.Entries = append(l.Entries, e)
		}
	}
	return l
}

// same reports where two trees differ.
func same(t *testing.T, want, got *tree.Tree) {
	t.Helper()
	if len(got.Entries) != len(want.Entries) {
		t.Fatalf("%d entries, want %d", len(got.Entries), len(want.Entries))
	}
	for i := range want.Entries {
		w, g := want.Entries[i], got.Entries[i]
		wantData, gotData := content(t, w), content(t, g)
		if !bytes.Equal(wantData, gotData) {
			t.Errorf("%q: content of %d bytes is not what was written: %d bytes", w.Path, len(gotData), len(wantData))
		}
		w.Source, g.Source = nil, nil
		if w.HardLink != "" {
			w.Size, g.Size = 0, 0
		}
		if d := cmp.Diff(w, g); d != "" {
			t.Errorf("%q: want(-) got(+):\n%s", w.Path, d)
		}
	}
}

func content(t *testing.T, e tree.Entry) []byte {
	t.Helper()
	if e.Source == nil {
		return nil
	}
	r, err := e.Source()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%q: %v", e.Path, err)
	}
	return b
}

func TestCorpus(t *testing.T) {
	for name, tr := range corpus(t) {
		for options, o := range optionSets {
			t.Run(name+"/"+options, func(t *testing.T) {
				t.Parallel()
				tr := tr
				if o.Codec != "" {
					tr = light(tr)
				}
				image := write(t, tr, o)
				got, err := open(t, image).Tree()
				if err != nil {
					t.Fatal(err)
				}
				same(t, tr, got)
				for _, p := range check(t, image) {
					t.Error(p)
				}
			})
		}
	}
}

func TestFS(t *testing.T) {
	tr := newTree(t, dir("dir"), dir("dir/sub"), file("dir/sub/file", mixed(20000, 1)), file("dir/other", []byte("x")), file("empty", nil), file("dir.txt", []byte("y")),
		tree.Entry{Path: "link", Mode: fs.ModeSymlink | 0o777, Link: "dir/sub/file"},
		tree.Entry{Path: "dir/up", Mode: fs.ModeSymlink | 0o777, Link: "../dir/sub"})
	f := open(t, write(t, tr, rofs.Options{ClusterSize: 4096}))
	if err := fstest.TestFS(f, "dir/sub/file", "dir/other", "empty", "link", "dir/up", "dir.txt"); err != nil {
		t.Error(err)
	}
}

func TestSymlinks(t *testing.T) {
	link := func(name, target string) tree.Entry {
		return tree.Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Link: target}
	}
	f := open(t, write(t, newTree(t, dir("a"), dir("a/b"), file("a/b/f", []byte("content")), link("a/abs", "/a/b"), link("a/up", "../../../a/./b//"),
		link("chain", "a/abs/f"), link("loop", "loop"), link("ping", "pong"), link("pong", "a/../ping"), link("through", "a/b/f/x"), link("nowhere", "none/x")), rofs.Options{}))
	for _, name := range []string{"a/b/f", "a/abs/f", "a/up/f", "chain"} {
		if b, err := f.ReadFile(name); err != nil || string(b) != "content" {
			t.Errorf("ReadFile(%q) = %q, %v", name, b, err)
		}
	}
	for name, want := range map[string]error{"loop": syscall.ELOOP, "ping": syscall.ELOOP, "nowhere": fs.ErrNotExist, "a/none": fs.ErrNotExist, "/a": fs.ErrInvalid, "a/": fs.ErrInvalid, "a/../a": fs.ErrInvalid, "": fs.ErrInvalid} {
		_, err := f.ReadFile(name)
		if pe, ok := errors.AsType[*fs.PathError](err); !ok || pe.Path != name || !errors.Is(err, want) {
			t.Errorf("ReadFile(%q): got %v, want %v", name, err, want)
		}
	}
	for _, name := range []string{"through", "chain/x"} {
		if _, err := f.Stat(name); err == nil {
			t.Errorf("Stat(%q) succeeds below a file", name)
		}
	}
	if i, err := f.Lstat("a/abs"); err != nil || i.Mode().Type() != fs.ModeSymlink || i.Size() != 4 {
		t.Errorf("Lstat(a/abs) = %v, %v", i, err)
	}
	if l, err := f.ReadLink("loop"); err != nil || l != "loop" {
		t.Errorf("ReadLink(loop) = %q, %v", l, err)
	}
	if _, err := f.ReadLink("a"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("ReadLink(a): %v", err)
	}
}

func TestStat(t *testing.T) {
	f := open(t, write(t, corpus(t)["odd"], rofs.Options{}))
	i, err := f.Stat("zz-second-name")
	if err != nil {
		t.Fatal(err)
	}
	s := i.Sys().(*rofs.Stat)
	if s.UID != 4294967294 || s.GID != 4294967293 || s.Nlink != 2 || len(s.Xattrs) != 3 || !i.ModTime().Equal(time.Unix(-5, 999999999)) ||
		i.Mode() != 0o644|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky {
		t.Errorf("got %v, %+v", i, s)
	}
	if i, err = f.Stat("disk"); err != nil || i.Sys().(*rofs.Stat).Major != 4095 || i.Sys().(*rofs.Stat).Minor != 1048575 {
		t.Errorf("Stat(disk) = %v, %v", i, err)
	}
}

// TestReadAt compares random reads by several goroutines at once with the content.
func TestReadAt(t *testing.T) {
	data := slices.Concat(mixed(150000, 1), make([]byte, 100000), noise(70000, 2), mixed(100001, 3))
	for _, o := range []rofs.Options{{}, {ClusterSize: 4096}, {ClusterSize: 1 << 20}, {Codec: rofs.None}} {
		f := open(t, write(t, newTree(t, file("f", data)), o))
		h, err := f.Open("f")
		if err != nil {
			t.Fatal(err)
		}
		r := h.(io.ReaderAt)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(g), 0))
				buf := make([]byte, 200000)
				for range 60 {
					off, n := rnd.IntN(len(data)+100), rnd.IntN(1+rnd.IntN(len(buf)))
					want := data[min(off, len(data)):min(off+n, len(data))]
					got, err := r.ReadAt(buf[:n], int64(off))
					if !bytes.Equal(buf[:got], want) || (err != nil) != (got < n) || err != nil && err != io.EOF {
						t.Errorf("ReadAt(%d bytes, %d) = %d, %v", n, off, got, err)
					}
				}
			})
		}
		wg.Wait()
		s := h.(io.Seeker)
		if at, err := s.Seek(-10, io.SeekEnd); err != nil || at != int64(len(data))-10 {
			t.Errorf("Seek = %d, %v", at, err)
		}
		if tail, err := io.ReadAll(h); err != nil || !bytes.Equal(tail, data[len(data)-10:]) {
			t.Errorf("after Seek: %d bytes, %v", len(tail), err)
		}
		if _, err := s.Seek(-1, io.SeekStart); err == nil {
			t.Error("Seek before the start succeeds")
		}
	}
}

func TestHugeSparse(t *testing.T) {
	// 5 GiB, of which a byte at 4.5 GiB is not zero: more than 32 bits of everything.
	const size, at = 5 << 30, 9 << 29
	if testing.Short() {
		t.Skip("reads 5 GiB of zeros")
	}
	e := tree.Entry{Path: "f", Mode: 0o644, Size: size, Source: func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(io.LimitReader(zeros{}, at), strings.NewReader("x"), io.LimitReader(zeros{}, size-at-1))), nil
	}}
	m := &memory{}
	s, err := rofs.Write(t.Context(), m, newTree(t, e), rofs.Options{ClusterSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if s.Holes != size>>20-1 || s.ImageBytes > 1<<20 {
		t.Errorf("got %+v", s)
	}
	h, err := open(t, m.b).Open("f")
	if err != nil {
		t.Fatal(err)
	}
	var b [3]byte
	if _, err := h.(io.ReaderAt).ReadAt(b[:], at-1); err != nil || string(b[:]) != "\x00x\x00" {
		t.Errorf("got %q, %v", b, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestSameBytes(t *testing.T) {
	for _, o := range []rofs.Options{{}, {Codec: rofs.LZ4HC}, {Raw: func(p string) bool { return p == "program" }}} {
		tr := corpus(t)["sizes"]
		if o.Codec != "" {
			tr = light(tr)
		}
		o.Workers = 1
		want := write(t, tr, o)
		for workers := 2; workers < 9; workers += 3 {
			o.Workers = workers
			if !bytes.Equal(write(t, tr, o), want) {
				t.Errorf("%v: %d workers make other bytes than one", o.Codec, workers)
			}
		}
	}
}

func TestRawAligned(t *testing.T) {
	program := file("z", slices.Concat([]byte("\x7fELF"), mixed(50000, 1)))
	program.Mode = 0o755
	data, err := io.ReadAll(must(program.Source()))
	if err != nil {
		t.Fatal(err)
	}
	image := write(t, newTree(t, file("a", mixed(5000, 2)), program), rofs.Options{Raw: func(p string) bool { return p == "z" }})
	at := bytes.Index(image, data)
	if info := open(t, image).Info(); int64(at) != info.MetadataBytes || at%4096 != 0 {
		t.Errorf("the raw program is at %d of %+v", at, info)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// failing fails each write that goes beyond limit.
type failing struct {
	memory
	limit int64
}

var errFull = errors.New("disk full")

func (w *failing) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > w.limit {
		return 0, errFull
	}
	return w.memory.WriteAt(p, off)
}

func TestFailingWriter(t *testing.T) {
	tr := newTree(t, file("a", noise(1<<20, 1)), file("b", mixed(1<<20, 2)))
	whole := int64(len(write(t, tr, rofs.Options{})))
	for limit := int64(0); limit < whole; limit += 100001 {
		if _, err := rofs.Write(t.Context(), &failing{limit: limit}, tr, rofs.Options{}); !errors.Is(err, errFull) {
			t.Errorf("limit %d of %d: %v", limit, whole, err)
		}
	}
}

func TestFailingSource(t *testing.T) {
	broken := errors.New("broken")
	data := noise(300000, 1)
	source := func(r io.Reader, err error) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) {
			if err != nil {
				return nil, err
			}
			return io.NopCloser(r), nil
		}
	}
	for name, c := range map[string]struct {
		source func() (io.ReadCloser, error)
		want   error
	}{
		"vanished": {source(nil, fs.ErrNotExist), fs.ErrNotExist},
		"shrank":   {source(bytes.NewReader(data[:200000]), nil), io.ErrUnexpectedEOF},
		"emptied":  {source(bytes.NewReader(nil), nil), io.ErrUnexpectedEOF},
		"grew":     {source(bytes.NewReader(append(data, 1)), nil), nil},
		"broken":   {source(io.MultiReader(bytes.NewReader(data[:100]), iotest.ErrReader(broken)), nil), broken},
	} {
		e := tree.Entry{Path: "dir/bad", Mode: 0o644, Size: int64(len(data)), Source: c.source}
		_, err := rofs.Write(t.Context(), &memory{}, newTree(t, dir("dir"), e, file("good", data)), rofs.Options{})
		if err == nil || !strings.Contains(err.Error(), "dir/bad") || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	o := rofs.Options{Progress: func(done, total int64) {
		if done > total/2 {
			cancel(stop)
		}
	}}
	if _, err := rofs.Write(ctx, &memory{}, newTree(t, file("f", noise(8<<20, 1))), o); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

func TestProgress(t *testing.T) {
	tr := corpus(t)["sizes"]
	var last, all int64
	s, err := rofs.Write(t.Context(), &memory{}, tr, rofs.Options{Progress: func(done, total int64) {
		if done < last {
			t.Errorf("%d bytes done after %d", done, last)
		}
		last, all = done, total
	}})
	if err != nil || last != all || all != s.FileBytes {
		t.Errorf("%d of %d bytes, stats %+v, %v", last, all, s, err)
	}
}

func TestRefused(t *testing.T) {
	link := func(n int) tree.Entry {
		return tree.Entry{Path: "l", Mode: fs.ModeSymlink, Link: strings.Repeat("x", n)}
	}
	long := strings.Repeat("n", 256)
	for want, list := range map[string][]tree.Entry{
		"name of 256 bytes":         {dir("."), dir("d"), file("d/"+long, nil)},
		"link target of 4096 bytes": {dir("."), link(4096)},
		"link target of 0 bytes":    {dir("."), link(0)},
		"cannot be in an image":     {dir("."), {Path: "s", Mode: fs.ModeSocket}},
		"does not precede it":       {dir("."), file("d/f", nil)},
		"twice":                     {dir("."), file("f", nil), file("f", nil)},
		"root directory":            {file("f", nil)},
		"not a name":                {dir("."), file("..", nil)},
		"hard link":                 {dir("."), {Path: "h", HardLink: "none"}},
		"extended attributes":       {dir("."), {Path: "x", Xattrs: []tree.Xattr{{Name: "user.x", Value: make([]byte, 1<<20)}}}},
		"size without content":      {dir("."), {Path: "x", Size: 1}},
		"device 4096:0":             {dir("."), {Path: "x", Mode: fs.ModeDevice, Major: 4096}},
	} {
		_, err := rofs.Write(t.Context(), &memory{}, &tree.Tree{Entries: list}, rofs.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		} else if last := list[len(list)-1].Path; len(list) > 1 && !strings.Contains(err.Error(), last) {
			t.Errorf("%v does not name %q", err, last)
		}
	}
	for want, o := range map[string]rofs.Options{
		"codec":        {Codec: "lzma"},
		"cluster size": {ClusterSize: 5000},
		"2097152":      {ClusterSize: 2 << 20},
		"level":        {Codec: rofs.LZ4HC, Level: 13},
		"levels":       {Level: 3},
	} {
		if _, err := rofs.Write(t.Context(), &memory{}, newTree(t), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// small has every kind of record, and padding of every kind.
func small(t testing.TB) *tree.Tree {
	x := file("x", mixed(3000, 4))
	x.Xattrs = []tree.Xattr{{Name: "user.a", Value: []byte("1")}}
	second := x
	second.Path, second.HardLink, second.Source = "y", "x", nil
	program := file("d/program", slices.Concat([]byte("\x7fELF"), mixed(9000, 5)))
	program.Mode = 0o755
	return newTree(t, dir("d"), file("d/hello", []byte("Hello, world.\n")), file("d/empty", nil), program, file("noise", noise(500, 1)), x, second,
		file("holes", slices.Concat(mixed(4096, 2), make([]byte, 4096), []byte("end"))),
		tree.Entry{Path: "l", Mode: fs.ModeSymlink | 0o777, Link: "d/hello"},
		tree.Entry{Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3})
}

var smallOptions = rofs.Options{ClusterSize: 4096, Raw: func(p string) bool { return p == "d/program" }}

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden pins the bytes of an image that is small enough to be checked by hand against docs/rofs-v2.md.
func TestGolden(t *testing.T) {
	raw := smallOptions
	raw.Codec = rofs.None // so that the bytes are the format's alone, not the compressor's
	image := write(t, small(t), raw)
	got := hexDump(image)
	const name = "testdata/small.hex"
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the image is not %s; if that is intended, run go test -update and raise the version", name)
	}
}

// hexDump is hex.Dump without lines of zeros.
func hexDump(b []byte) string {
	var out strings.Builder
	for line := range strings.Lines(hex.Dump(b)) {
		if !strings.Contains(line, strings.Repeat(" 00", 8)+" "+strings.Repeat(" 00", 8)) {
			out.WriteString(line)
		}
	}
	fmt.Fprintf(&out, "%08x\n", len(b))
	return out.String()
}

// TestEveryBit flips each bit of a small image: Check must notice it, and whatever can still be read must be right.
func TestEveryBit(t *testing.T) {
	want := small(t)
	image := write(t, want, smallOptions)
	for _, p := range check(t, image) {
		t.Fatal(p)
	}
	contents := map[string][]byte{}
	for _, e := range want.Entries {
		contents[e.Path] = content(t, e)
		if e.HardLink != "" {
			contents[e.Path] = contents[e.HardLink]
		}
	}
	step := 1
	switch {
	case testing.Short():
		step = 7
	case raceEnabled:
		step = 67 // each bit for itself, as always, but a few: readers at once are for TestSharedCache
	}
	var wg sync.WaitGroup
	for start := range 2 {
		image := bytes.Clone(image)
		wg.Go(func() {
			for bit := start * step; bit < 8*len(image); bit += 2 * step {
				image[bit/8] ^= 1 << (bit % 8)
				noticed := false
				err := rofs.Check(t.Context(), bytes.NewReader(image), int64(len(image)), func(p rofs.Problem) {
					noticed = true
					if p.Offset < 0 || p.Offset > int64(len(image)) {
						t.Errorf("bit %d of byte %d: %v lies outside", bit%8, bit/8, p)
					}
				})
				if !noticed || err != nil {
					t.Errorf("bit %d of byte %d was not noticed (%v)", bit%8, bit/8, err)
				}
				if f, err := rofs.Open(bytes.NewReader(image), int64(len(image))); err == nil {
					for name, data := range contents {
						if got, err := f.ReadFile(name); err == nil && data != nil && !bytes.Equal(got, data) {
							t.Errorf("bit %d of byte %d: %q reads wrong", bit%8, bit/8, name)
						}
					}
				}
				image[bit/8] ^= 1 << (bit % 8)
			}
		})
	}
	wg.Wait()
}

func TestTruncated(t *testing.T) {
	image := write(t, small(t), smallOptions)
	for n := 0; n < len(image); n += 511 {
		_, err := rofs.Open(bytes.NewReader(image[:n]), int64(n))
		if fe, ok := errors.AsType[*format.FormatError](err); !ok || !errors.Is(err, format.ErrTruncated) || fe.Offset != int64(n) {
			t.Errorf("%d bytes of %d: %v", n, len(image), err)
		}
		if len(check(t, image[:n])) == 0 {
			t.Errorf("Check finds nothing wrong with %d bytes of %d", n, len(image))
		}
	}
	// A file that is shorter than its size was said to be: never the end of a file inside.
	f, err := rofs.Open(bytes.NewReader(image[:8192]), int64(len(image)))
	if err == nil {
		_, err = f.ReadFile("noise")
	}
	if !errors.Is(err, format.ErrTruncated) {
		t.Errorf("got %v", err)
	}
	if p := check(t, append(bytes.Clone(image), 0, 0, 1)); len(p) != 1 || p[0].Offset != int64(len(image))+2 {
		t.Errorf("a byte after the image: %v", p)
	}
}

// TestDeviceError: a failed read is the device's error, not a malformed image.
func TestDeviceError(t *testing.T) {
	broken := errors.New("broken")
	image := write(t, newTree(t, file("f", noise(1<<20, 1))), rofs.Options{})
	dev := readerAt(func(p []byte, off int64) (int, error) {
		if off > 0 {
			return 0, broken
		}
		return copy(p, image), nil
	})
	f, err := rofs.Open(dev, int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadFile("f"); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := rofs.Check(t.Context(), dev, int64(len(image)), func(p rofs.Problem) { t.Error(p) }); !errors.Is(err, broken) {
		t.Errorf("Check: %v", err)
	}
}

type readerAt func(p []byte, off int64) (int, error)

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r(p, off) }

// TestOneRead: a small image needs one request for everything but its content, as the kernel opens it.
func TestOneRead(t *testing.T) {
	image := write(t, small(t), smallOptions)
	reads := 0
	dev := readerAt(func(p []byte, off int64) (int, error) { reads++; return copy(p, image[off:]), nil })
	f, err := read.Open(dev, int64(len(image)), read.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var n format.Inode
	if err := f.Inode(format.RootIno, &n); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"d", "program"} {
		ino, err := f.Lookup(&n, name)
		if err != nil || ino == 0 {
			t.Fatal(name, ino, err)
		}
		if err := f.Inode(ino, &n); err != nil {
			t.Fatal(err)
		}
	}
	page := make([]byte, 4096)
	allocs := testing.AllocsPerRun(10, func() {
		if err := f.ReadCluster(&n, 0, page); err != nil {
			t.Fatal(err)
		}
		if ino, err := f.Lookup(&n, "none"); ino != 0 || err != nil {
			t.Fatal(ino, err)
		}
	})
	if !bytes.HasPrefix(page, []byte("\x7fELF")) || reads != 1 || allocs != 0 {
		t.Errorf("%d reads, %v allocations, %q", reads, allocs, page[:4])
	}
}

// TestForeignJudges: pierrec's decoder and hash/crc32 agree with what is stored.
func TestForeignJudges(t *testing.T) {
	data := mixed(300000, 8)
	image := write(t, newTree(t, file("f", data)), rofs.Options{})
	f, err := read.Open(bytes.NewReader(image), int64(len(image)), read.Options{})
	if err != nil {
		t.Fatal(err)
	}
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	if got := crc32.Checksum(f.Super[:252], castagnoli); got != f.Super.CRC() {
		t.Errorf("superblock: %#x, want %#x", f.Super.CRC(), got)
	}
	var n format.Inode
	if err := f.Inode(2, &n); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for i := range uint64(n.Count()) + 1 { // and the tail
		var c format.Cluster
		if err := f.Cluster(&n, i, &c); err != nil {
			t.Fatal(err)
		}
		stored := image[c.Off() : c.Off()+uint64(c.Len())]
		if crc := crc32.Checksum(stored, castagnoli); crc != c.CRC() {
			t.Errorf("cluster %d: %#x, want %#x", i, c.CRC(), crc)
		}
		out := make([]byte, 65536)
		m, err := lz4.UncompressBlock(stored, out)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, out[:m]...)
	}
	if !bytes.Equal(got, data) {
		t.Error("pierrec's decoder reads something else")
	}
}

// FuzzImage opens, lists, reads and checks damaged images. Damage gets new check codes, so that it is found out only by
// what reads it.
func FuzzImage(f *testing.F) {
	image := write(f, small(f), smallOptions)
	f.Add([]byte{0}, image)
	f.Add([]byte{}, []byte("FL-ROFS\x02"))
	f.Add([]byte{16, 16, 255, 2, 80, 1, 3, 0, 4, 2, 1, 9}, image)
	if _, err := rofs.Open(bytes.NewReader(image), int64(len(image))); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, damage, base []byte) {
		if len(base) > 1<<20 {
			return
		}
		b := bytes.Clone(base)
		for len(damage) >= 4 && len(b) > 0 { // position in 24 bits, new byte
			at := (int(damage[0]) | int(damage[1])<<8 | int(damage[2])<<16) % len(b)
			b[at] = damage[3]
			damage = damage[4:]
		}
		if len(b) >= format.BlockSize {
			(*format.Superblock)(b).SetCRC()
			for at := format.BlockSize; at+format.BlockSize <= len(b); at += format.BlockSize {
				h := (*format.Header)(b[at:])
				for _, s := range format.Shapes {
					if h.Magic() == s.Magic && h.Used() <= format.PayloadSize {
						h.SetCRC(format.Checksum(b[at+4 : at+format.HeaderSize+int(h.Used())]))
					}
				}
			}
		}
		err := rofs.Check(t.Context(), bytes.NewReader(b), int64(len(b)), func(rofs.Problem) {})
		if err != nil {
			t.Fatal(err)
		}
		fsys, err := rofs.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		// Its error is that of Tree, or of a cluster.
		_ = fsys.Extents(func(e rofs.Extent) {
			if e.Offset < 0 || e.Length < 0 || e.Offset > int64(len(b))-e.Length || e.Start < 0 || e.Size < 0 || e.Size > 1<<format.MaxClusterLog && e.Path != "" {
				t.Errorf("%+v is not in an image of %d bytes", e, len(b))
			}
		})
		tr, err := fsys.Tree()
		if err != nil {
			return
		}
		for _, e := range tr.Entries {
			if e.Source != nil {
				r, err := e.Source()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, io.LimitReader(r, 1<<16)); err != nil {
					continue
				}
			}
			if _, err := fsys.Stat(e.Path); err != nil && e.Mode.Type() != fs.ModeSymlink {
				continue
			}
		}
	})
}
