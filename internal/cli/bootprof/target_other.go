//go:build !linux

package bootprof

import (
	"fmt"
	"os"
)

// memoryFile makes a file without a place on a disk, which this system has not.
func memoryFile(string) (*os.File, string, error) {
	return nil, "", fmt.Errorf("images of flavour linux boot on Linux hosts only: %w", os.ErrInvalid)
}
