// Command kernel is the guest: the unikernel that boots an image and runs its program. It is no program for a host; kernel/link makes a
// bootable file of it.
package main

import (
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
)

func main() {
	ring0.Mark(abi.MarkMain)
	ring0.ConsoleWrite([]byte("hello from main\n"))
	ring0.Exit(abi.EndExited, 3)
}
