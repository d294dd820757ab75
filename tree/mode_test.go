package tree_test

import (
	"io/fs"
	"testing"

	"github.com/firstlight-boot/firstlight/tree"
)

func TestModes(t *testing.T) {
	for m, want := range map[fs.FileMode]uint32{
		0o644: 0o100644, fs.ModeDir | fs.ModeSticky | 0o777: 0o41777, fs.ModeSymlink | 0o777: 0o120777, fs.ModeSetuid | fs.ModeSetgid | 0o755: 0o106755,
		fs.ModeDevice | 0o600: 0o60600, fs.ModeDevice | fs.ModeCharDevice: 0o20000, fs.ModeNamedPipe | 1: 0o10001,
	} {
		u := tree.UnixMode(m)
		if u != want {
			t.Errorf("%v is %o, want %o", m, u, want)
		}
		if back, ok := tree.FileMode(u); back != m || !ok {
			t.Errorf("%o is %v, %v, want %v", u, back, ok, m)
		}
	}
	for _, u := range []uint32{0, 0o644, 0o140644, 0o170000, 1<<16 | 0o100644} {
		if m, ok := tree.FileMode(u); ok {
			t.Errorf("%o is %v", u, m)
		}
	}
}
