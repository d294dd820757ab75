package bootprof

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// memoryFile makes a file without a place on a disk. It has the returned name for other processes too, until it is closed.
func memoryFile(name string) (*os.File, string, error) {
	fd, err := unix.MemfdCreate("firstlight-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, "", fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memfd:"+name)
	return f, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), nil
}
