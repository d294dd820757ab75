// Command bootprof boots images and shows where the time of the boot went.
package main

import (
	"os"

	"github.com/firstlight-boot/firstlight/internal/cli/bootprof"
)

func main() { os.Exit(bootprof.Main(os.Args[1:], os.Stdout, os.Stderr)) }
