// Command kernel is the guest: it mounts the image's root and runs its program. It is no program for a host: kernel/link
// makes a bootable file of it.
package main

import (
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/dev"
	"github.com/firstlight-boot/firstlight/kernel/linux"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
	"github.com/firstlight-boot/firstlight/kernel/vfs/rofsfs"
	"github.com/firstlight-boot/firstlight/rofs/read"
)

func main() {
	ring0.Mark(abi.MarkMain)
	growStack()
	p := boot.Parse(mem.Frame(layout.ParamsPhys).Bytes(abi.ParamsSize), ring0.CommandLine())
	for _, w := range p.Unknown {
		say("not understood on the command line: ", w)
	}
	linux.Run(linux.Config{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd, Hostname: p.Hostname, Verbose: p.Verbose,
		Root: root(p),
	})
}

// growStack makes the goroutine's stack large enough for what follows at once and while there is little on it to move.
//
//go:noinline
func growStack() byte {
	var room [12 << 10]byte
	return room[len(growBy)]
}

// growBy has a length that the compiler does not know.
var growBy string

// root mounts the root file system.
func root(p *boot.Params) vfs.Node {
	disk, err := dev.OpenDisk(p.Disks)
	if err != nil {
		fail(err.Error())
	}
	size := disk.Size()
	switch p.RootType {
	case "rofs":
		if p.RootOff > size || p.RootLen > size-p.RootOff {
			fail("the root file system ends beyond the disk: is the image cut short?")
		}
		disk = section{disk, p.RootOff}
		size = p.RootLen
	case "":
	default:
		fail("no module for a root of type " + p.RootType)
	}
	// Frames in a row, because the Go heap is slow with what is large.
	cache := mem.AllocContig(segments * segmentSize / mem.PageSize)
	if cache == 0 {
		fail("no memory")
	}
	img, err := read.Open(disk, size, read.Options{SegmentSize: segmentSize, Cache: cache.Bytes(segments * segmentSize)})
	if err != nil {
		fail(err.Error())
	}
	n, errno := rofsfs.New(img)
	if errno != 0 {
		fail("the root directory cannot be read")
	}
	return n
}

// segmentSize is how much is read from the disk at once, in bytes: a request costs more than 64 KiB of copying.
const (
	segmentSize = 64 << 10
	segments    = 4
)

// section is a disk from a byte offset on.
type section struct {
	dev.Disk
	off int64
}

func (s section) ReadAt(p []byte, off int64) (int, error) { return s.Disk.ReadAt(p, s.off+off) }

// fail ends the boot because there is no root.
func fail(why string) {
	say("cannot mount the root: ", why)
	const eIO = 5
	ring0.Exit(abi.EndNotStart, eIO)
}

func say(what, which string) { ring0.ConsoleWrite([]byte("firstlight: " + what + which + "\n")) }
