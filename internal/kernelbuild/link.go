package kernelbuild

import "errors"

// goBuildArgs returns the go build flags and environment of a kernel.
func goBuildArgs(tags []string) (args, env []string) { return nil, nil }

// linkKernel turns what the go command linked into a bootable kernel.
func linkKernel([]byte) ([]byte, error) {
	return nil, errors.New("the kernel cannot be linked yet: name one by --kernel")
}
