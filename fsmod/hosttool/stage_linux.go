package hosttool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

func makeNode(name string, e *tree.Entry) error {
	mode := uint32(unix.S_IFIFO)
	switch e.Mode.Type() {
	case fs.ModeDevice:
		mode = unix.S_IFBLK
	case fs.ModeDevice | fs.ModeCharDevice:
		mode = unix.S_IFCHR
	}
	err := unix.Mknod(name, mode|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("a device node: %w by this module unless root runs it", fsmod.ErrUnsupported)
	}
	return err
}

// setMeta sets owner, extended attributes, mode and time of a staged file, in the order in which they do not undo each other.
func setMeta(name string, e *tree.Entry, root bool) error {
	if root {
		if err := os.Lchown(name, int(e.UID), int(e.GID)); err != nil {
			return err
		}
	}
	for _, x := range e.Xattrs {
		if err := unix.Lsetxattr(name, x.Name, x.Value, 0); err != nil {
			return fmt.Errorf("extended attribute %s: %w on this host: %w", x.Name, fsmod.ErrUnsupported, err)
		}
	}
	if e.Mode.Type() != fs.ModeSymlink {
		if err := os.Chmod(name, e.Mode); err != nil {
			return err
		}
	}
	ts := []unix.Timespec{unix.NsecToTimespec(e.ModTime.UnixNano()), unix.NsecToTimespec(e.ModTime.UnixNano())}
	return unix.UtimesNanoAt(unix.AT_FDCWD, name, ts, unix.AT_SYMLINK_NOFOLLOW)
}
