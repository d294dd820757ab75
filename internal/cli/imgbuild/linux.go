package imgbuild

import (
	_ "github.com/firstlight-boot/firstlight/fsmod/ramfsmod" // a root in RAM, which is also Linux's initial RAM disk
)
