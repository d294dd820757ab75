package imgbuild

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firstlight-boot/firstlight/tree"
)

// makeNode makes a fifo or a device node.
func makeNode(parent *os.File, name string, e *tree.Entry) error {
	mode, dev := uint32(unix.S_IFIFO), 0
	if e.Mode&fs.ModeDevice != 0 {
		mode, dev = unix.S_IFBLK, int(unix.Mkdev(e.Major, e.Minor))
		if e.Mode&fs.ModeCharDevice != 0 {
			mode = unix.S_IFCHR
		}
	}
	err := unix.Mknodat(int(parent.Fd()), name, mode|0o600, dev)
	if errors.Is(err, unix.EPERM) {
		return errSkipped{fmt.Errorf("%s node not made: %w", typeName(e.Mode), err)}
	}
	return err
}

// setLinkTime sets the modification time of what is no file or directory, a symbolic link's own included.
func setLinkTime(parent *os.File, name string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(int(parent.Fd()), name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

func setXattrs(f *os.File, xattrs []tree.Xattr) error {
	for _, x := range xattrs {
		err := unix.Fsetxattr(int(f.Fd()), x.Name, x.Value, 0)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.E2BIG) {
			return errSkipped{fmt.Errorf("extended attribute %s not set: %w", printable(x.Name), err)}
		}
		if err != nil {
			return fmt.Errorf("extended attribute %s: %w", printable(x.Name), err)
		}
	}
	return nil
}
