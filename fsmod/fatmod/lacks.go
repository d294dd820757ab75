package fatmod

import (
	"io/fs"
	"path"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

// Lacks implements fsmod.Lacker. Folders have no times that could be set, and files' are in steps of two seconds.
func (module) Lacks() fsmod.Attrs {
	return fsmod.Modes | fsmod.Owners | fsmod.Times | fsmod.Xattrs | fsmod.HardLinks | fsmod.Devices | fsmod.Pipes
}

// CanHold implements fsmod.Lacker. Names that differ in case only are for Write to find.
func (module) CanHold(e *tree.Entry) error {
	alone := *e
	if alone.HardLink != "" {
		alone.Size = 0 // its content is that of its first name
	}
	alone.Path, alone.HardLink, alone.Xattrs = path.Base(e.Path), "", nil
	list := []tree.Entry{{Path: ".", Mode: fs.ModeDir | 0o755}}
	if e.Path == "." {
		return nil
	}
	_, _, err := plan(&tree.Tree{Entries: append(list, alone)})
	return err
}
