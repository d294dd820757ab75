package isomod

import (
	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

// Lacks implements fsmod.Lacker.
func (module) Lacks() fsmod.Attrs { return fsmod.Nanoseconds | fsmod.Xattrs | fsmod.HardLinks }

// CanHold implements fsmod.Lacker: what else is in the way, Write tells.
func (module) CanHold(*tree.Entry) error { return nil }
