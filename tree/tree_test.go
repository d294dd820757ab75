package tree

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func text(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

func file(path, content string) Entry {
	return Entry{Path: path, Mode: 0o644, Size: int64(len(content)), Source: text(content)}
}

func dir(path string) Entry { return Entry{Path: path, Mode: fs.ModeDir | 0o755} }

func link(path, target string) Entry {
	return Entry{Path: path, Mode: fs.ModeSymlink | 0o777, Link: target}
}

func TestCompareIsByComponent(t *testing.T) {
	// The order that a walk of sorted directories has, spelt out with components.
	byParts := func(a, b string) int {
		parts := func(p string) []string {
			if p == "." {
				return nil
			}
			return strings.Split(p, "/")
		}
		return slices.Compare(parts(a), parts(b))
	}
	paths := []string{".", "a", "a/b", "a.b", "a/b/c", "a/b.c", "a-", "b", "-", "/", "\xff", "ab", "a\x00", ".a", "..a/b"}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		b := make([]byte, 1+rng.IntN(6))
		for i := range b {
			b[i] = "a/.-"[rng.IntN(4)]
		}
		paths = append(paths, string(b))
	}
	for _, a := range paths[:50] {
		for _, b := range paths {
			if checkPath(a) != nil && a != "." || checkPath(b) != nil && b != "." {
				continue
			}
			if got, want := Compare(a, b), byParts(a, b); got != want {
				t.Fatalf("Compare(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestNewSorts(t *testing.T) {
	tr, err := New(file("a.b", "1"), file("a/b", "2"), dir("a"), dir("."))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range tr.Entries {
		got = append(got, e.Path)
	}
	if want := []string{".", "a", "a/b", "a.b"}; !slices.Equal(got, want) {
		t.Errorf("entries = %q, want %q", got, want)
	}
	for _, e := range tr.Entries {
		if found := tr.Lookup(e.Path); found == nil || found.Path != e.Path {
			t.Errorf("Lookup(%q) = %v", e.Path, found)
		}
	}
	if e := tr.Lookup("a/c"); e != nil {
		t.Errorf("Lookup of a missing path = %v", e)
	}
}

func TestValidate(t *testing.T) {
	hard := func(path, first string) Entry {
		e := file(path, "x")
		e.Source, e.HardLink = nil, first
		return e
	}
	with := func(e Entry, change func(*Entry)) Entry {
		change(&e)
		return e
	}
	valid := []Entry{
		dir("."), dir("d"), file("d/f", "x"), hard("d/g", "d/f"), link("d/l", "/nowhere"), file("d/"+strings.Repeat("n", 255), ""),
		with(file("d/x", "x"), func(e *Entry) { e.Xattrs = []Xattr{{"security.capability", nil}, {"user.a", []byte("b")}} }),
		{Path: "fifo", Mode: fs.ModeNamedPipe}, {Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3},
		file("\xff\xfe", "not UTF-8"),
	}
	if err := (&Tree{valid}).Validate(); err != nil {
		t.Fatalf("valid tree: %v", err)
	}
	for name, c := range map[string]struct {
		entries []Entry
		want    string
	}{
		"empty":              {nil, "root directory"},
		"no root":            {[]Entry{file("a", "")}, "root directory"},
		"root is a file":     {[]Entry{file(".", "")}, "root is not a directory"},
		"twice":              {[]Entry{dir("."), dir("a"), file("a", "")}, "twice"},
		"two roots":          {[]Entry{dir("."), dir(".")}, "twice"},
		"order":              {[]Entry{dir("."), dir("b"), dir("a")}, "out of order"},
		"order by component": {[]Entry{dir("."), dir("a"), file("a.b", ""), file("a/b", "")}, "out of order"},
		"no parent":          {[]Entry{dir("."), file("a/b", "")}, "parent directory is missing"},
		"file as parent":     {[]Entry{dir("."), file("a", ""), file("a/b", "")}, "parent is not a directory"},
		"absolute":           {[]Entry{dir("."), file("/a", "")}, "cannot be a name"},
		"dot dot":            {[]Entry{dir("."), dir(".."), file("../a", "")}, "cannot be a name"},
		"NUL":                {[]Entry{dir("."), file("a\x00", "")}, "NUL"},
		"long name":          {[]Entry{dir("."), file(strings.Repeat("n", 300), "")}, "300 bytes, 255 at most"},
		"socket":             {[]Entry{dir("."), {Path: "s", Mode: fs.ModeSocket}}, "unsupported"},
		"irregular":          {[]Entry{dir("."), {Path: "s", Mode: fs.ModeIrregular}}, "unsupported"},
		"odd mode":           {[]Entry{dir("."), {Path: "s", Mode: fs.ModeAppend}}, "no image can hold"},
		"no target":          {[]Entry{dir("."), link("l", "")}, "link target"},
		"long target":        {[]Entry{dir("."), link("l", strings.Repeat("t", 4096))}, "link target"},
		"target of a file":   {[]Entry{dir("."), with(file("f", ""), func(e *Entry) { e.Link = "x" })}, "only a symbolic link"},
		"negative":           {[]Entry{dir("."), with(file("f", ""), func(e *Entry) { e.Size = -1 })}, "bad size"},
		"size of a dir":      {[]Entry{dir("."), with(dir("d"), func(e *Entry) { e.Size = 1 })}, "bad size"},
		"no source":          {[]Entry{dir("."), {Path: "f", Size: 1}}, "without a source"},
		"source of a dir":    {[]Entry{dir("."), with(dir("d"), func(e *Entry) { e.Source = text("") })}, "has content"},
		"numbers of a file":  {[]Entry{dir("."), with(file("f", ""), func(e *Entry) { e.Minor = 1 })}, "device numbers"},
		"xattr order":        {[]Entry{dir("."), with(dir("d"), func(e *Entry) { e.Xattrs = []Xattr{{"user.b", nil}, {"user.a", nil}} })}, "out of order"},
		"xattr name":         {[]Entry{dir("."), with(dir("d"), func(e *Entry) { e.Xattrs = []Xattr{{"", nil}} })}, "bad name"},
		"xattr size":         {[]Entry{dir("."), with(dir("d"), func(e *Entry) { e.Xattrs = []Xattr{{"user.a", make([]byte, 65537)}} })}, "65537 bytes"},
		"link to nothing":    {[]Entry{dir("."), hard("b", "a")}, "not an entry before it"},
		"link forward":       {[]Entry{dir("."), hard("b", "c"), file("c", "x")}, "not an entry before it"},
		"link to itself":     {[]Entry{dir("."), hard("b", "b")}, "not an entry before it"},
		"link to a link":     {[]Entry{dir("."), file("a", "x"), hard("b", "a"), hard("c", "b")}, "itself one"},
		"link to a dir":      {[]Entry{dir("."), dir("a"), with(dir("b"), func(e *Entry) { e.HardLink = "a" })}, "a directory cannot"},
		"link that differs":  {[]Entry{dir("."), file("a", "x"), with(hard("b", "a"), func(e *Entry) { e.UID = 1 })}, "metadata differ"},
		"link with content":  {[]Entry{dir("."), file("a", "x"), with(hard("b", "a"), func(e *Entry) { e.Source = text("x") })}, "has content"},
	} {
		err := (&Tree{c.entries}).Validate()
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one of %q", name, err, c.want)
		}
	}
}

// awkward makes a tree with what is unusual in one; more is added to it.
func awkward(t *testing.T, more ...Entry) *Tree {
	t.Helper()
	hard := file("d/hard", "content")
	hard.Source, hard.HardLink = nil, "a"
	tr, err := New(append(more, dir("."), file("a", "content"), dir("d"), hard, file("d/empty", ""), link("d/up", "../a"), link("d/abs", "/d/deep"),
		dir("d/deep"), file("d/deep/f", "deep"), file("d.f", "beside"), link("above", "../../d"), file("\xff\xfe", "bytes"), Entry{Path: "fifo", Mode: fs.ModeNamedPipe | 0o600},
		dir("empty"), file(strings.Repeat("n", 255), "long"),
		Entry{Path: "zero", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 5, ModTime: time.Unix(1, 2)})...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestTreeFS(t *testing.T) {
	if err := fstest.TestFS(awkward(t), "a", "d/hard", "d/empty", "d/deep/f", "above", "\xff\xfe", "fifo"); err != nil {
		t.Error(err)
	}
	empty, err := New(dir("."))
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(empty); err != nil {
		t.Error(err)
	}
}

func TestTreeFSFollowsLinks(t *testing.T) {
	// fstest.TestFS takes no links that lead nowhere.
	tr := awkward(t, link("loop", "loop"), link("dangling", "no/where"))
	for name, want := range map[string]string{
		"d/up": "content", "d/abs/f": "deep", "above/up": "content", "above/abs/f": "deep", "d/hard": "content", "\xff\xfe": "bytes",
	} {
		if got, err := fs.ReadFile(tr, name); err != nil || string(got) != want {
			t.Errorf("ReadFile(%q) = %q, %v, want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]error{
		"loop": errLinks, "loop/x": errLinks, "dangling": fs.ErrNotExist, "a/x": fs.ErrNotExist, "nothing": fs.ErrNotExist,
		"/a": fs.ErrInvalid, "": fs.ErrInvalid, "d/../a": fs.ErrInvalid, "d/": fs.ErrInvalid,
	} {
		_, err := tr.Open(name)
		var pathError *fs.PathError
		if !errors.As(err, &pathError) || pathError.Path != name || !errors.Is(err, want) {
			t.Errorf("Open(%q): %v, want a PathError of %v", name, err, want)
		}
	}
	if got, err := tr.ReadLink("above/up"); err != nil || got != "../a" {
		t.Errorf("ReadLink = %q, %v", got, err)
	}
	if _, err := tr.ReadLink("a"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("ReadLink of a file: %v", err)
	}
	info, err := tr.Stat("d/up")
	if err != nil || info.Name() != "up" || info.Size() != 7 || info.Sys().(*Entry).Path != "a" {
		t.Errorf("Stat through a link = %v, %v", info, err)
	}
	if _, err := tr.ReadDir("a"); err == nil {
		t.Error("ReadDir of a file succeeded")
	}
}
