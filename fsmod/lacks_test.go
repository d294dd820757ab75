package fsmod_test

import (
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

func TestReduce(t *testing.T) {
	const all = fsmod.Modes | fsmod.Owners | fsmod.Times | fsmod.Nanoseconds | fsmod.Xattrs | fsmod.HardLinks
	first := tree.Entry{Path: "a", Mode: fs.ModeSetuid | 0o755, UID: 7, ModTime: time.Unix(5, 6), Size: 1, Xattrs: []tree.Xattr{{Name: "user.x"}},
		Source: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }}
	second := first
	second.Path, second.HardLink, second.Source = "b", "a", nil
	in, err := tree.New(tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}, first, second,
		tree.Entry{Path: "l", Mode: fs.ModeSymlink | 0o777, Link: "a"}, tree.Entry{Path: "n", Mode: fs.ModeDevice, Major: 1}, tree.Entry{Path: "p", Mode: fs.ModeNamedPipe})
	if err != nil {
		t.Fatal(err)
	}
	if got := fsmod.Uses(in); got != all|fsmod.Devices|fsmod.Pipes {
		t.Errorf("uses %v", got)
	}
	out := fsmod.Reduce(in, all)
	if err := out.Validate(); err != nil {
		t.Fatal(err)
	}
	if got := fsmod.Uses(out); got != fsmod.Devices|fsmod.Pipes || got.String() != "device nodes, named pipes" {
		t.Errorf("reduced, it uses %v", got)
	}
	if b, err := fs.ReadFile(out, "b"); string(b) != "x" || err != nil {
		t.Errorf("what was a hard link: %q, %v", b, err)
	}
	if in.Lookup("b").HardLink != "a" || in.Lookup("a").UID != 7 {
		t.Error("the tree that was reduced has changed")
	}
	if got := fsmod.Reduce(in, fsmod.Nanoseconds).Lookup("a"); got.ModTime.UnixNano() != 5e9 || got.Mode != fs.ModeSetuid|0o755 {
		t.Errorf("without fractions of seconds: %+v", got)
	}
}
