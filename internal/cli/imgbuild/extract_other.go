//go:build !linux

package imgbuild

import (
	"errors"
	"os"
	"time"

	"github.com/firstlight-boot/firstlight/tree"
)

// makeNode skips what is neither file, directory nor link: this host has other device numbers than the guest.
func makeNode(_ *os.File, _ string, e *tree.Entry) error {
	return errSkipped{errors.New(typeName(e.Mode) + " not made: this is not Linux")}
}

// setLinkTime leaves a symbolic link the time at which it was made.
func setLinkTime(*os.File, string, time.Time) error { return nil }

func setXattrs(_ *os.File, xattrs []tree.Xattr) error {
	if len(xattrs) > 0 {
		return errSkipped{errors.New("extended attributes not set: this is not Linux")}
	}
	return nil
}
