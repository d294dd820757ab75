package bootprof

import (
	_ "github.com/firstlight-boot/firstlight/fsmod/erofsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/ext4mod"
	_ "github.com/firstlight-boot/firstlight/fsmod/fatmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/isomod"
	_ "github.com/firstlight-boot/firstlight/fsmod/squashfsmod" // roots of images for Linux
)
