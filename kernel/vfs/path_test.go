package vfs

import (
	"strconv"
	"strings"
	"testing"
)

// A tree without contents: directories, files and links.
type dir struct {
	ReadOnly
	names []string
	nodes []Node
}

func (d *dir) Attr(a *Attr) { *a = Attr{Mode: TypeDir | 0o755} }

func (d *dir) Lookup(name string) (Node, Errno) {
	for i, n := range d.names {
		if n == name {
			return d.nodes[i], 0
		}
	}
	return nil, ENOENT
}

func (d *dir) ReadDir(pos uint64) (e Entry, next uint64, ok bool, err Errno) {
	if pos >= uint64(len(d.names)) {
		return e, pos, false, 0
	}
	return Entry{Name: d.names[pos]}, pos + 1, true, 0
}

func (d *dir) with(name string, n Node) *dir {
	d.names, d.nodes = append(d.names, name), append(d.nodes, n)
	return d
}

type leaf struct {
	ReadOnly
	name string
}

func (*leaf) Attr(a *Attr) { *a = Attr{Mode: TypeReg | 0o644} }

type link struct {
	ReadOnly
	target string
	to     *Loc
}

func (*link) Attr(a *Attr)                { *a = Attr{Mode: TypeLink | 0o777} }
func (l *link) Readlink() (string, Errno) { return l.target, 0 }
func (l *link) Follow() *Loc              { return l.to }

func testTree() (*Namespace, *Loc) {
	file := &leaf{name: "file"}
	sub := (&dir{}).with("file", file).with("up", &link{target: ".."}).with("abs", &link{target: "/a/b/file"}).
		with("dangling", &link{target: "new"}).with("dirslash", &link{target: "/a/b/"}).with("magic", &link{to: &Loc{Node: file, Name: "pipe:[1]"}})
	a := (&dir{}).with("b", sub)
	root := (&dir{}).with("a", a).with("loop", &link{target: "/loop"}).with("la", &link{target: "a"}).with("empty", &link{target: ""}).
		with("root", &link{target: "/"}).with("long", &link{target: strings.Repeat("x/", 2000) + "y"})
	ns := NewNamespace(&Mount{Type: "rofs", ReadOnly: true, Root: root})
	dev := ns.Mount(ns.Root, "dev", &Mount{Type: "devtmpfs", Root: (&dir{}).with("null", &leaf{name: "null"})})
	ns.Mount(dev, "shm", &Mount{Type: "tmpfs", Root: &dir{}})
	ns.Mount(ns.Root, "a", &Mount{Type: "tmpfs", Root: (&dir{}).with("b", sub).with("mounted", file)})
	b, _ := ns.Resolve(ns.Root, "a/b", true)
	return ns, b.Loc
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		path   string
		follow bool
		want   string // the path found; "dir|name" when the last component is not there
		err    Errno
	}{
		{"/", true, "/", 0},
		{"//", true, "/", 0},
		{"/..", true, "/", 0},
		{"/../../a", true, "/a", 0},
		{".", true, "/a/b", 0},
		{"..", true, "/a", 0},
		{"../..", true, "/", 0},
		{"../../..", true, "/", 0},
		{"file", true, "/a/b/file", 0},
		{"./file", true, "/a/b/file", 0},
		{"../b/file", true, "/a/b/file", 0},
		{"/a//b///file", true, "/a/b/file", 0},
		{"file/", true, "", ENOTDIR},
		{"file/.", true, "", ENOTDIR},
		{"file/..", true, "", ENOTDIR},
		{"file/x", true, "", ENOTDIR},
		{"none", true, "/a/b|none", 0},
		{"none/", true, "/a/b|none", 0},
		{"none/x", true, "", ENOENT},
		{"", true, "", ENOENT},
		{"up", true, "/a", 0},
		{"up", false, "/a/b/up", 0},
		{"up/", false, "/a", 0},
		{"up/b/up/b/file", false, "/a/b/file", 0},
		{"abs", true, "/a/b/file", 0},
		{"abs/", true, "", ENOTDIR},
		{"dangling", true, "/a/b|new", 0},
		{"dangling", false, "/a/b/dangling", 0},
		{"dirslash", true, "/a/b", 0},
		{"dirslash/file", true, "/a/b/file", 0},
		{"magic", true, "pipe:[1]", 0},
		{"magic", false, "/a/b/magic", 0},
		{"magic/x", true, "", ENOTDIR},
		{"/loop", true, "", ELOOP},
		{"/loop/x", false, "", ELOOP},
		{"/loop", false, "/loop", 0},
		{"/empty", true, "", ENOENT},
		{"/root", true, "/", 0},
		{"/root/a", true, "/a", 0},
		{"/la/b/file", true, "/a/b/file", 0},
		{"/long", true, "", ENOENT},
		{"/long/" + strings.Repeat("z/", 100), true, "", ENAMETOOLONG},
		{strings.Repeat("n", 255), true, "/a/b|" + strings.Repeat("n", 255), 0},
		{strings.Repeat("n", 256), true, "", ENAMETOOLONG},
		{"/dev", true, "/dev", 0},
		{"/dev/null", true, "/dev/null", 0},
		{"/dev/shm", true, "/dev/shm", 0},
		{"/dev/shm/..", true, "/dev", 0},
		{"/dev/shm/../..", true, "/", 0},
		{"/dev/shm/x", true, "/dev/shm|x", 0},
		{"/a/mounted", true, "/a/mounted", 0},
		{"up/mounted", true, "/a/mounted", 0},
	} {
		ns, cwd := testTree()
		f, err := ns.Resolve(cwd, c.path, c.follow)
		got := ""
		if err == 0 {
			if f.Loc != nil {
				got = f.Loc.Path()
				if !f.Dots && f.Dir != nil && (f.Name != f.Loc.Name || f.Loc.Parent != f.Dir) {
					t.Errorf("%.40q: %q in %q is not where it was found", c.path, f.Name, f.Dir.Path())
				}
			} else {
				got = f.Dir.Path() + "|" + f.Name
			}
			if slash := strings.HasSuffix(c.path, "/") || c.path == "dirslash" && c.follow || c.path == "/root"; f.Slash != slash {
				t.Errorf("%.40q: slash is %v", c.path, f.Slash)
			}
		}
		if got != c.want || err != c.err {
			t.Errorf("%.40q (follow %v) is %.40q, %d; want %.40q, %d", c.path, c.follow, got, err, c.want, c.err)
		}
	}
}

// A directory shows the mounts that it has no entry for, and each entry once.
func TestReadDir(t *testing.T) {
	ns, _ := testTree()
	var names []string
	for pos := uint64(0); ; {
		e, next, ok, err := ns.ReadDir(ns.Root, pos)
		if err != 0 {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		names = append(names, e.Name)
		pos = next
	}
	if got, want := strings.Join(names, " "), ". .. a loop la empty root long dev"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMoved(t *testing.T) {
	ns, b := testTree()
	f, _ := ns.Resolve(b, "file", true)
	f.Loc.Moved(b.Node, ns.Root, "c")
	if got := f.Loc.Path(); got != "/c/file" {
		t.Errorf("moved to %q", got)
	}
}

func TestMounts(t *testing.T) {
	ns, _ := testTree()
	var got []string
	ns.Mounts(func(path string, m *Mount) { got = append(got, path+":"+m.Type+strconv.Itoa(int(m.Dev))) })
	if s := strings.Join(got, " "); s != "/:rofs2 /dev:devtmpfs3 /dev/shm:tmpfs4 /a:tmpfs5" {
		t.Errorf("got %q", s)
	}
}

func TestText(t *testing.T) {
	for _, n := range []uint64{0, 1, 7, 8, 9, 10, 15, 16, 99, 4095, 1 << 32, 1<<63 - 1, 1 << 63, ^uint64(0)} {
		var d, h, o Text
		d.Dec(n)
		h.Hex(n, 1)
		o.Oct(n, 1)
		if string(d) != strconv.FormatUint(n, 10) || string(h) != strconv.FormatUint(n, 16) || string(o) != strconv.FormatUint(n, 8) {
			t.Errorf("%d is %s, %s, %s", n, d, h, o)
		}
	}
	var p Text
	p.DecPad(42, 5).Str("|").Hex(10, 4).Str("|").Oct(8, 4)
	if string(p) != "   42|000a|0010" {
		t.Errorf("padded: %q", p)
	}
}

func FuzzResolve(f *testing.F) {
	for _, s := range []string{"/a/b/file", "../up/b/abs", "dirslash/magic", "/root/../loop", "///"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, path string, follow bool) {
		ns, cwd := testTree()
		r, err := ns.Resolve(cwd, path, follow)
		if err == 0 && r.Loc == nil && (r.Dir == nil || r.Name == "" || strings.Contains(r.Name, "/")) {
			t.Errorf("%q: %+v", path, r)
		}
		if err == 0 && r.Loc != nil && r.Slash && !isDir(r.Loc.Node) {
			t.Errorf("%q: a slash after a file", path)
		}
	})
}
