package ramfsmod

import (
	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

// Lacks implements fsmod.Lacker.
func (module) Lacks() fsmod.Attrs { return fsmod.Nanoseconds | fsmod.Xattrs }

// CanHold implements fsmod.Lacker.
func (module) CanHold(e *tree.Entry) error {
	alone := *e
	alone.Xattrs = nil
	_, err := plan(&tree.Tree{Entries: []tree.Entry{alone}})
	return err
}
