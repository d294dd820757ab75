//go:build !linux

package hosttool

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

func makeNode(string, *tree.Entry) error {
	return fmt.Errorf("a device node: %w by this module on this system", fsmod.ErrUnsupported)
}

func setMeta(name string, e *tree.Entry, _ bool) error {
	if len(e.Xattrs) > 0 {
		return fmt.Errorf("extended attribute %s: %w by this module on this system", e.Xattrs[0].Name, fsmod.ErrUnsupported)
	}
	if e.Mode.Type() == fs.ModeSymlink {
		return nil
	}
	if err := os.Chmod(name, e.Mode); err != nil {
		return err
	}
	return os.Chtimes(name, e.ModTime, e.ModTime)
}
