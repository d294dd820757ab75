package tree

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestFromDirXattrs(t *testing.T) {
	d := t.TempDir()
	write(t, d+"/f", "x", 0o644)
	must(t, os.Mkdir(d+"/dir", 0o755))
	must(t, os.Symlink("f", d+"/link"))
	if err := unix.Lsetxattr(d+"/f", "user.b", []byte("second"), 0); err != nil {
		t.Skipf("the temporary directory's file system has no extended attributes: %v", err)
	}
	must(t, unix.Lsetxattr(d+"/f", "user.a", []byte("first\x00\xff"), 0))
	must(t, unix.Lsetxattr(d+"/f", "user.empty", nil, 0))
	must(t, unix.Lsetxattr(d+"/dir", "user.dir", []byte("d"), 0))
	must(t, os.Link(d+"/f", d+"/hard"))
	want := []Xattr{{"user.a", []byte("first\x00\xff")}, {"user.b", []byte("second")}, {"user.empty", nil}}
	wantLink := []Xattr(nil)
	// VFS_CAP_REVISION_2 with CAP_NET_BIND_SERVICE, struct vfs_cap_data of <linux/capability.h>.
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if unix.Lsetxattr(d+"/f", "security.capability", capability, 0) == nil {
		want = append([]Xattr{{"security.capability", capability}}, want...)
	} else {
		t.Log("this user cannot set capabilities: not tried")
	}
	if unix.Lsetxattr(d+"/link", "trusted.l", []byte("t"), 0) == nil {
		wantLink = []Xattr{{"trusted.l", []byte("t")}}
	} else {
		t.Log("this user cannot set trusted attributes: not tried")
	}

	tr := fromDir(t, d, Options{})
	for path, want := range map[string][]Xattr{"f": want, "hard": want, "dir": {{"user.dir", []byte("d")}}, "link": wantLink, ".": nil} {
		if diff := cmp.Diff(want, tr.Lookup(path).Xattrs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	if got := tr.Lookup("hard").HardLink; got != "f" {
		t.Errorf("HardLink = %q", got)
	}
}

func openDescriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	var list []string
	for _, e := range entries {
		// What a descriptor is, since its number says little; that of the listing itself is gone by now.
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			list = append(list, target)
		}
	}
	slices.Sort(list)
	return list
}

func TestFromDirKeepsNothingOpen(t *testing.T) {
	d := t.TempDir()
	for i := range 100 {
		write(t, fmt.Sprintf("%s/%d/f", d, i), "x", 0o644)
	}
	before := openDescriptors(t)
	tr := fromDir(t, d, Options{})
	if _, err := Executables(tr); err != nil {
		t.Error(err)
	}
	if after := openDescriptors(t); !slices.Equal(before, after) {
		t.Errorf("open before: %q, after: %q", before, after)
	}
}
