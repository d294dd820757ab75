// Command imgbuild turns an app into a bootable image.
package main

import (
	"os"

	"github.com/firstlight-boot/firstlight/internal/cli/imgbuild"
)

func main() { os.Exit(imgbuild.Main(os.Args[1:], os.Stdout, os.Stderr)) }
