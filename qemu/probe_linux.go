package qemu

import (
	"fmt"
	"io/fs"
	"syscall"
)

// deviceID returns what tells a device or file from another of the same path.
func deviceID(info fs.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%x:%x:%x", st.Dev, st.Ino, st.Rdev)
	}
	return ""
}
