//go:build unix

package tree

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

var stamp = time.Unix(1_000_000_000, 123456789)

func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, os.Chmod(path, mode))
	must(t, os.Chtimes(path, stamp, stamp))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fromDir(t *testing.T, dir string, o Options) *Tree {
	t.Helper()
	tr, err := FromDir(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Validate(); err != nil {
		t.Fatal(err)
	}
	return tr
}

func paths(tr *Tree) []string {
	var list []string
	for _, e := range tr.Entries {
		list = append(list, e.Path)
	}
	return list
}

func TestFromDir(t *testing.T) {
	d := t.TempDir()
	write(t, d+"/bin/app", "program", 0o755|fs.ModeSetuid)
	write(t, d+"/bin/b", "", 0o600)
	write(t, d+"/bin.d", "sorts after what bin holds", 0o644)
	write(t, d+"/\xff\xfe", "not UTF-8", 0o644)
	write(t, d+"/"+strings.Repeat("n", 255), "long", 0o644)
	must(t, os.Chmod(d+"/bin", 0o755)) // whatever the umask is
	must(t, os.Link(d+"/bin/app", d+"/bin/hard"))
	must(t, os.Link(d+"/bin/app", d+"/another"))
	must(t, os.Symlink("bin//app", d+"/link"))
	must(t, os.Link(d+"/link", d+"/link2"))
	must(t, os.Mkdir(d+"/tmp", 0o755))
	must(t, os.Chmod(d+"/tmp", 0o777|fs.ModeSticky))
	must(t, unix.Mkfifo(d+"/fifo", 0o640))
	must(t, os.Chmod(d+"/fifo", 0o640))
	for _, p := range []string{"bin", "tmp", "fifo", "."} {
		must(t, os.Chtimes(d+"/"+p, stamp, stamp))
	}
	lstamp := unix.NsecToTimespec(stamp.UnixNano())
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, d+"/link", []unix.Timespec{lstamp, lstamp}, unix.AT_SYMLINK_NOFOLLOW))
	must(t, os.Chmod(d, 0o750))

	want := []Entry{
		{Path: ".", Mode: fs.ModeDir | 0o750},
		{Path: "another", Mode: 0o755 | fs.ModeSetuid, Size: 7},
		{Path: "bin", Mode: fs.ModeDir | 0o755},
		{Path: "bin/app", Mode: 0o755 | fs.ModeSetuid, Size: 7, HardLink: "another"},
		{Path: "bin/b", Mode: 0o600},
		{Path: "bin/hard", Mode: 0o755 | fs.ModeSetuid, Size: 7, HardLink: "another"},
		{Path: "bin.d", Mode: 0o644, Size: 26},
		{Path: "fifo", Mode: fs.ModeNamedPipe | 0o640},
		{Path: "link", Mode: fs.ModeSymlink | 0o777, Link: "bin//app"},
		{Path: "link2", Mode: fs.ModeSymlink | 0o777, Link: "bin//app", HardLink: "link"},
		{Path: strings.Repeat("n", 255), Mode: 0o644, Size: 4},
		{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Path: "\xff\xfe", Mode: 0o644, Size: 9},
	}
	for i := range want {
		want[i].ModTime = stamp
	}
	tr := fromDir(t, d, Options{})
	if diff := cmp.Diff(want, tr.Entries, cmpopts.IgnoreFields(Entry{}, "Source", "Xattrs")); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	for _, p := range []string{"another", "bin/app", "bin/hard"} {
		if got, err := fs.ReadFile(tr, p); err != nil || string(got) != "program" {
			t.Errorf("ReadFile(%q) = %q, %v", p, got, err)
		}
	}
	if err := fstest.TestFS(tr, "bin/app", "bin/b", "tmp", "link"); err != nil {
		t.Error(err)
	}
	// By another name the same folder gives the same tree.
	must(t, os.Symlink(d, d+".link"))
	defer os.Remove(d + ".link")
	if diff := cmp.Diff(tr.Entries, fromDir(t, d+".link", Options{}).Entries, cmpopts.IgnoreFields(Entry{}, "Source")); diff != "" {
		t.Errorf("through a symbolic link (-want +got):\n%s", diff)
	}
	must(t, os.MkdirAll(d+"/elsewhere", 0o755))
	must(t, os.Symlink(d+"/bin", d+"/elsewhere/in"))
	got := paths(fromDir(t, d+"/elsewhere/in/..", Options{Exclude: []string{"elsewhere"}}))
	if diff := cmp.Diff(paths(tr), got); diff != "" {
		t.Errorf("as the parent of where a symbolic link leads (-want +got):\n%s", diff)
	}
}

func TestFromDirOwnersAndTimes(t *testing.T) {
	d := t.TempDir()
	write(t, d+"/f", "x", 0o644)
	if err := os.Chown(d+"/f", 1234, 5678); err != nil {
		t.Skipf("this user cannot give files away: %v", err)
	}
	for _, c := range []struct {
		o        Options
		uid, gid uint32
		time     time.Time
	}{
		{Options{}, 0, 0, stamp},
		{Options{UID: 7, GID: 8}, 7, 8, stamp},
		{Options{KeepOwner: true, UID: 7}, 1234, 5678, stamp},
		{Options{ClampTime: time.Unix(1, 0)}, 0, 0, time.Unix(1, 0)},
		{Options{ClampTime: time.Unix(0, 0)}, 0, 0, time.Unix(0, 0)},
		{Options{ClampTime: stamp.Add(1)}, 0, 0, stamp},
	} {
		e := fromDir(t, d, c.o).Lookup("f")
		if e.UID != c.uid || e.GID != c.gid || !e.ModTime.Equal(c.time) {
			t.Errorf("%+v: owner %d:%d, time %v; want %d:%d, %v", c.o, e.UID, e.GID, e.ModTime, c.uid, c.gid, c.time)
		}
	}
}

func TestFromDirExclude(t *testing.T) {
	d := t.TempDir()
	for _, p := range []string{"a.o", "src/a.o", "src/a.c", "var/cache/x/y", "var/log", "imgbuild.yaml", "src/imgbuild.yaml", "old/x"} {
		write(t, d+"/"+p, "x", 0o644)
	}
	listener := listen(t, d+"/src/sock")
	defer listener.Close()
	got := paths(fromDir(t, d, Options{Exclude: []string{"*.o", "/imgbuild.yaml", "var/cache/*", "src/sock", "nothing", "old/"}}))
	want := []string{".", "src", "src/a.c", "src/imgbuild.yaml", "var", "var/cache", "var/log"}
	if !slices.Equal(got, want) {
		t.Errorf("paths = %q, want %q", got, want)
	}
	if _, err := FromDir(context.Background(), d, Options{Exclude: []string{"[x"}}); err == nil || !strings.Contains(err.Error(), "[x") {
		t.Errorf("bad pattern: %v", err)
	}
}

// listen makes a socket, through a short relative path because sun_path has 108 bytes.
func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	short, err := os.MkdirTemp("", "s")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(short) })
	l, err := net.Listen("unix", short+"/s")
	must(t, err)
	must(t, os.Rename(short+"/s", path))
	return l
}

func TestFromDirRefusals(t *testing.T) {
	d := t.TempDir()
	defer listen(t, d+"/sock").Close()
	_, err := FromDir(context.Background(), d, Options{})
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), d+"/sock is a socket: remove it or exclude it") {
		t.Errorf("socket: %v", err)
	}
	if _, err := FromDir(context.Background(), d+"/nothing", Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
	if _, err := FromDir(context.Background(), d+"/sock", Options{}); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("not a folder: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := FromDir(ctx, d, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestFromDirDevices(t *testing.T) {
	d := t.TempDir()
	for name, dev := range map[string]uint64{"null": unix.Mkdev(1, 3), "big": unix.Mkdev(300, 70000)} {
		mode := uint32(unix.S_IFCHR | 0o666)
		if name == "big" {
			mode = unix.S_IFBLK | 0o600
		}
		if err := unix.Mknod(d+"/"+name, mode, int(dev)); err != nil {
			t.Skipf("this user cannot make device nodes: %v", err)
		}
	}
	_, err := FromDir(context.Background(), d, Options{})
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), d+"/big is a device node") {
		t.Errorf("device: %v", err)
	}
	tr := fromDir(t, d, Options{Devices: true})
	if e := tr.Lookup("null"); e.Mode.Type() != fs.ModeDevice|fs.ModeCharDevice || e.Major != 1 || e.Minor != 3 || e.Source != nil {
		t.Errorf("null = %+v", e)
	}
	if e := tr.Lookup("big"); e.Mode.Type() != fs.ModeDevice || e.Major != 300 || e.Minor != 70000 {
		t.Errorf("big = %+v", e)
	}
}

// TestFromDirChanges changes a file after it was listed: before it is opened, and when all but its last bytes are read.
func TestFromDirChanges(t *testing.T) {
	const content = "0123456789"
	for name, change := range map[string]func(path string) error{
		"vanishes": os.Remove,
		"grows": func(p string) error {
			f, err := os.OpenFile(p, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("more")
			return errors.Join(err, f.Close(), os.Chtimes(p, stamp, stamp))
		},
		"shrinks": func(p string) error { return errors.Join(os.Truncate(p, 8), os.Chtimes(p, stamp, stamp)) },
		"is written": func(p string) error {
			return errors.Join(os.WriteFile(p, []byte("9876543210"), 0), os.Chtimes(p, stamp, stamp.Add(time.Nanosecond)))
		},
		"is replaced": func(p string) error {
			return errors.Join(os.WriteFile(p+".new", []byte(content), 0o644), os.Chtimes(p+".new", stamp, stamp), os.Rename(p+".new", p))
		},
		"becomes a link": func(p string) error { return errors.Join(os.Rename(p, p+".old"), os.Symlink(p+".old", p)) },
		"becomes a fifo": func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o644)) },
	} {
		t.Run(name, func(t *testing.T) {
			d := t.TempDir()
			p := d + "/file"
			check := func(when string, err error) {
				t.Helper()
				if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), p) {
					t.Errorf("%s: error %v, want ErrChanged of %s", when, err, p)
				}
			}
			write(t, p, content, 0o644)
			e := fromDir(t, d, Options{}).Lookup("file")
			r, err := e.Source()
			must(t, err)
			defer r.Close()
			if _, err := io.ReadFull(r, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			must(t, change(p))
			_, err = io.ReadFull(r, make([]byte, 5))
			check("while it is read", err)
			_, err = r.Read(make([]byte, 5))
			check("asked again", err)
			_, err = e.Source()
			check("before it is read", err)
		})
	}
}

func TestFromDirEmptyFileGrows(t *testing.T) {
	d := t.TempDir()
	write(t, d+"/log", "", 0o644)
	e := fromDir(t, d, Options{}).Lookup("log")
	r, err := e.Source()
	must(t, err)
	if b, err := io.ReadAll(r); err != nil || len(b) != 0 {
		t.Errorf("read %q, %v", b, err)
	}
	must(t, r.Close())
	write(t, d+"/log", "a line", 0o644)
	if _, err := e.Source(); !errors.Is(err, ErrChanged) {
		t.Errorf("an empty file that grew: %v, want ErrChanged", err)
	}
}

func TestFromDirReadsExactly(t *testing.T) {
	d := t.TempDir()
	content := strings.Repeat("0123456789", 10_000)
	write(t, d+"/file", content, 0o644)
	tr := fromDir(t, d, Options{})
	e := tr.Lookup("file")
	for range 2 {
		r, err := e.Source()
		must(t, err)
		got, err := io.ReadAll(r)
		if err != nil || string(got) != content {
			t.Errorf("read %d bytes, %v; want %d", len(got), err, len(content))
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("after the end: %d, %v", n, err)
		}
		must(t, r.Close())
	}
}

func TestFromDirUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root can read everything")
	}
	d := t.TempDir()
	write(t, d+"/secret", "x", 0)
	e := fromDir(t, d, Options{}).Lookup("secret")
	if _, err := e.Source(); !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrChanged) {
		t.Errorf("unreadable file: %v", err)
	}
}
