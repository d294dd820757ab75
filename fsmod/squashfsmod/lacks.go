package squashfsmod

import (
	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
)

// Lacks implements fsmod.Lacker.
func (module) Lacks() fsmod.Attrs { return fsmod.Nanoseconds }

// CanHold implements fsmod.Lacker: what mksquashfs refuses, Write tells.
func (module) CanHold(*tree.Entry) error { return nil }
