package tree

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// readXattrs returns the extended attributes of path, itself and not what it may link to, that belong into an image:
// user.*, security.capability and trusted.*. Labels of the host's security modules and its ACLs do not.
func readXattrs(path string) ([]Xattr, error) {
	list, err := readGrowing(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("extended attributes of %s: %w", path, err)
	}
	var xattrs []Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		trusted := strings.HasPrefix(name, "trusted.")
		if !trusted && !strings.HasPrefix(name, "user.") && name != "security.capability" {
			continue
		}
		value, err := readGrowing(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if trusted && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENODATA)) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("extended attribute %s of %s: %w", name, path, err)
		}
		xattrs = append(xattrs, Xattr{name, value})
	}
	slices.SortFunc(xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return xattrs, nil
}

// readGrowing calls read with a buffer of the size that read itself names for an empty one, and again should it have grown.
// The kernel bounds both lists and values to 64 KiB (XATTR_LIST_MAX, XATTR_SIZE_MAX).
func readGrowing(read func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := read(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		n, err = read(b)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}
