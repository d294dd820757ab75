package isomod

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

// Limits of Linux's reader (fs/isofs/rock.c): it cuts longer names off, and takes larger numbers of devices, which xorriso stores as
// the C library has them, for others. Limits of xorriso 1.5: it refuses longer links, and is aborted by longer names in them.
const (
	maxName  = 253
	maxMinor = 0xff
	maxMajor = 0xfff
	maxLink  = 1023
)

// Lacks implements fsmod.Lacker.
func (module) Lacks() fsmod.Attrs { return fsmod.Nanoseconds | fsmod.Xattrs | fsmod.HardLinks }

// CanHold implements fsmod.Lacker.
func (module) CanHold(e *tree.Entry) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("/%s: %w by iso: %s", e.Path, fsmod.ErrUnsupported, fmt.Sprintf(format, args...))
	}
	switch name := path.Base(e.Path); {
	case len(name) > maxName:
		return refuse("a name of %d bytes; Linux reads %d", len(name), maxName)
	case e.Mode&fs.ModeDevice != 0 && (e.Minor > maxMinor || e.Major > maxMajor):
		return refuse("the device %d:%d; Linux reads numbers up to %d:%d", e.Major, e.Minor, maxMajor, maxMinor)
	case len(e.Link) > maxLink:
		return refuse("a link to a path of %d bytes; the most is %d", len(e.Link), maxLink)
	case slices.ContainsFunc(strings.Split(e.Link, "/"), func(name string) bool { return len(name) > tree.MaxName }):
		return refuse("a link to a path in which a name is longer than %d bytes", tree.MaxName)
	case strings.Contains(e.Link, "//") || strings.HasSuffix(strings.TrimPrefix(e.Link, "/"), "/"):
		return refuse("the link to %q, where nothing is between or behind slashes", e.Link)
	}
	return nil
}
