//go:build unix

package tree_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/internal/osvtest"
	"github.com/firstlight-boot/firstlight/tree"
)

func manifest(t *testing.T, dir, text string) (*tree.Manifest, error) {
	t.Helper()
	vars := map[string]string{"SRC": filepath.Join(dir, "src"), "lib": "usr/lib"}
	m, err := tree.FromManifest(t.Context(), strings.NewReader(text), tree.ManifestOptions{
		Dirs: []string{dir}, Var: func(name string) (string, bool) { v, ok := vars[name]; return v, ok },
	})
	if err != nil && !errors.Is(err, tree.ErrManifest) && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is no ErrManifest", err)
	}
	return m, err
}

// The manifest that the vectors were made from.
func TestManifestGolden(t *testing.T) {
	dir := t.TempDir()
	osvtest.Dir(t, dir)
	m, err := manifest(t, dir, osvtest.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	osvtest.Same(t, m.Tree, osvtest.Tree(t))
	if len(m.Notes) > 0 || !slices.Equal(m.Order, osvtest.Order()) {
		t.Errorf("notes %q, order %q", m.Notes, m.Order)
	}
	if err := fstest.TestFS(m, "hello", "usr/lib/deep/deeper/leaf.txt"); err != nil {
		t.Error(err)
	}
}

// sources makes what the manifests below name.
func sources(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"src/a.so", "src/a-stripped.so", "src/sub/b", "src/sub/deep/c", "src/100%", "src/a: b", "sysroot/usr/lib/real.so", "sysroot/opt/x"} {
		must(os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		must(os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644))
	}
	must(os.Mkdir(filepath.Join(dir, "src/none"), 0o755))
	for name, target := range map[string]string{
		"src/sub/todir": "deep", "src/sub/tofile": "../a.so", "src/away": "/no/such/file", "src/chain": "sub/tofile", "src/broken": "nothing", "src/loop": "loop",
		"sysroot/opt/abs": "/usr/lib/real.so",
	} {
		must(os.Symlink(target, filepath.Join(dir, name)))
	}
	return dir
}

// show lists a tree: paths, targets of links, and what files hold.
func show(t *testing.T, tr *tree.Tree) (list []string) {
	t.Helper()
	for _, e := range tr.Entries {
		switch {
		case e.Mode.IsDir():
			list = append(list, e.Path+"/")
		case e.Link != "":
			list = append(list, e.Path+" -> "+e.Link)
		default:
			b, err := fs.ReadFile(tr, e.Path)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, e.Path+" = "+string(b))
		}
	}
	return list
}

func TestManifest(t *testing.T) {
	dir := sources(t)
	for _, tt := range []struct {
		name, text string
		want       []string // without ./
		notes      []string // what each contains
	}{
		{"comments, sections and spaces", "[manifest]\n\n  # none: such\n\t/a:  src/a.so \r\n", []string{"a = src/a.so"}, nil},
		{"variables", "/a: %(SRC)s/a.so\n/${lib}/b: ${SRC}/sub/b\n/c: %(SRC)s/100%%\n/d: src/100%\n",
			[]string{"a = src/a.so", "c = src/100%", "d = src/100%", "usr/", "usr/lib/", "usr/lib/b = src/sub/b"}, nil},
		{"an ampersand for what both ends share", "/usr/&/a.so: src/&\n/x/&/sub/b: %(SRC)s/&", []string{"usr/", "usr/a.so = src/a.so", "x/", "x/sub/", "x/sub/b = src/sub/b"}, nil},
		{"links", "/l: ->/usr/lib\n/m: -> ../x\n/keep: !src/sub/tofile\n/follow: src/chain\n/file: !src/a.so",
			[]string{"file = src/a.so", "follow = src/a.so", "keep -> ../a.so", "l -> /usr/lib", "m -> ../x"}, nil},
		{"absolute links are the source's own", "/x: sysroot/opt/abs\n/y: src/away", []string{"x = sysroot/usr/lib/real.so", "y -> /no/such/file"}, []string{"line 2: /y: what the link leads to"}},
		{"a directory is an empty one", "/dev/: src/none\n/tmp: src/sub", []string{"dev/", "tmp/"}, []string{"line 2: /tmp: only the directory is packed; the 4 entries"}},
		{"all below", "/s/**: src/sub/**\n/e/**: src/none/**", []string{"s/", "s/b = src/sub/b", "s/deep/", "s/deep/c = src/sub/deep/c", "s/todir -> deep", "s/tofile = src/a.so"},
			[]string{"line 1: /s/todir: the link to the directory deep is packed as a link"}},
		{"all below the root", "/**: sysroot/**", []string{"opt/", "opt/abs = sysroot/usr/lib/real.so", "opt/x = sysroot/opt/x", "usr/", "usr/lib/", "usr/lib/real.so = sysroot/usr/lib/real.so"}, nil},
		{"what OSv's tools strip", "/a.so: src/a.so\n/b.so: src/a-stripped.so", []string{"a.so = src/a.so"}, []string{"line 2: /b.so: left out"}},
		{"a colon in a source", "/c: src/a: b", []string{"c = src/a: b"}, []string{"line 1: /c: the source is all of"}},
		{"no leading slash", "a/b: src/a.so", []string{"a/", "a/b = src/a.so"}, []string{"line 1: a/b has no leading slash"}},
		{"later lines win", "/a: src/a.so\n/a: src/a.so\n\n/a: src/sub/b\n/d: src/none\n/d/x: src/a.so", []string{"a = src/sub/b", "d/", "d/x = src/a.so"}, []string{"line 4: /a from src/sub/b replaces that of line 2"}},
		{"an absolute source", "/a: " + dir + "/src/a.so", []string{"a = src/a.so"}, nil},
		{"names that are not ASCII", "/grüße/日本: src/a.so", []string{"grüße/", "grüße/日本 = src/a.so"}, nil},
	} {
		m, err := manifest(t, dir, tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(append([]string{"./"}, tt.want...), show(t, m.Tree)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, diff)
		}
		ok := len(m.Notes) == len(tt.notes)
		for i := range tt.notes {
			ok = ok && strings.Contains(m.Notes[i], tt.notes[i])
		}
		if !ok {
			t.Errorf("%s: notes %q, want %q", tt.name, m.Notes, tt.notes)
		}
	}
}

func TestManifestLeavesOut(t *testing.T) {
	dir := sources(t)
	l, err := net.Listen("unix", filepath.Join(dir, "src/sub/sock"))
	if err != nil {
		t.Skip(err) // the temporary directory's name is too long for a socket
	}
	defer l.Close()
	if err := os.Mkdir(filepath.Join(dir, "src/sub/deep/hollow"), 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := manifest(t, dir, "/s/**: src/sub/**")
	if err != nil {
		t.Fatal(err)
	}
	if m.Lookup("s/sock") != nil || m.Lookup("s/deep/hollow") == nil || len(m.Notes) != 3 || !strings.Contains(strings.Join(m.Notes, "\n"), "/s/sock: left out") {
		t.Errorf("%q, notes %q", show(t, m.Tree), m.Notes)
	}
}

func TestManifestErrors(t *testing.T) {
	dir := sources(t)
	for _, tt := range []struct{ text, says string }{
		{"/a: src/a.so\n/b: src/nothing\n/c/**: nowhere/**\n/d: src/broken", "src/nothing (line 2), nowhere (line 3), " + dir + "/src/nothing, to which"},
		{"\n/a src/a.so", "line 2: want GUEST: HOST"},
		{"/a:src/a.so", "want GUEST: HOST"},
		{"/a: ", "want GUEST: HOST"},
		{"[files]", "only [manifest]"},
		{"/a: %(NO)s/x", "variable NO is not defined"},
		{"/a: %(SRC", "without )s"},
		{"/a: ${SRC", "without }"},
		{"/a/**: src/sub", "/** belongs at the end of both"},
		{"/a: src/sub/**", "/** belongs at the end of both"},
		{"/a/**: src/a.so/**", "not a directory"},
		{"/a/&/b: src/b", "belong together"},
		{"/../a: src/a.so", "cannot be a name"},
		{"/a: src/a.so\n/a/b: src/a.so", "line 2: /a/b lies below /a"},
		{"/a: src/none\n/a: src/a.so", "is a directory here or in line 1"},
		{"/a: ->" + strings.Repeat("x", 5000), "1 to 4095 bytes"},
		{"/a: src/loop", "too many levels"},
		{"/a: /dev/null", "neither a file"},
		{"/a: " + strings.Repeat("x", 2<<20), "longer than"},
	} {
		if _, err := manifest(t, dir, tt.text); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%.60q: %v, want %q", tt.text, err, tt.says)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add("[manifest]\n/a: ->/b\n/x/&/a: y/&\n/c/**: %(V)s/**\n/d: !${V}%%")
	f.Add("/a: ->/b\n/c/d: ->e")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, " /") || strings.Contains(text, "!") || strings.Contains(text, "..") {
			return // sources on this host
		}
		m, err := tree.FromManifest(t.Context(), strings.NewReader(text), tree.ManifestOptions{
			Dirs: []string{t.TempDir()}, Var: func(name string) (string, bool) { return "no such source", name == "V" },
		})
		if err == nil && m.Validate() != nil {
			t.Fatal(m.Validate())
		}
	})
}
