// Command cmd writes the image of package vdso beside it: go generate ./kernel/vdso.
package main

import (
	"fmt"
	"os"

	"github.com/firstlight-boot/firstlight/kernel/vdso/vdsobuild"
)

func main() {
	image, err := vdsobuild.Build()
	if err == nil {
		err = os.WriteFile("image.go", vdsobuild.Source(image), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vdsobuild:", err)
		os.Exit(1)
	}
}
