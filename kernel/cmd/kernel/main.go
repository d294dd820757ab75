// Command kernel is the guest: it mounts the image's root and runs its program. It is no program for a host: kernel/link
// makes a bootable file of it.
package main

import (
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot"
	"github.com/firstlight-boot/firstlight/kernel/dev"
	"github.com/firstlight-boot/firstlight/kernel/linux"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
	"github.com/firstlight-boot/firstlight/kernel/vfs"
	"github.com/firstlight-boot/firstlight/kernel/vfs/rofsfs"
	"github.com/firstlight-boot/firstlight/kernel/vfs/tmpfs"
	"github.com/firstlight-boot/firstlight/ramfs"
	"github.com/firstlight-boot/firstlight/rofs/read"
)

func main() {
	ring0.Mark(abi.MarkMain)
	growStack()
	params := append([]byte(nil), boot.Area(ring0.Parameters())...)
	line := append([]byte(nil), ring0.CommandLine()...)
	ring0.HandBack()
	p := boot.Parse(params, line)
	for _, w := range p.Unknown {
		say("not understood on the command line: ", w)
	}
	linux.Run(linux.Config{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd, Hostname: p.Hostname, Verbose: p.Verbose, CPUs: p.CPUs,
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

// root mounts the root file system. What the command line says decides; then a module, which the VMM brought as well; then what
// the image says; then there is ROFS at the start of the disk.
func root(p *boot.Params) *vfs.Mount {
	module := ring0.Module()
	if module != nil && !p.RootFromVMM {
		p.RootType = "initrd"
	}
	if p.RootType == "initrd" {
		if module == nil {
			fail("there is no initial RAM disk (QEMU: -initrd)")
		}
		return archive(p, "initial RAM disk: ", module)
	}
	disk, err := dev.OpenDisk(p.Disks)
	if err != nil {
		fail(err.Error())
	}
	size := disk.Size()
	if p.RootType != "" {
		if p.RootOff > size || p.RootLen > size-p.RootOff {
			fail("the root file system ends beyond the disk: is the image cut short?")
		}
		disk = section{disk, p.RootOff}
		size = p.RootLen
	}
	switch p.RootType {
	case "rofs", "":
		return rofs(disk, size)
	case "ramfs":
		return archive(p, "archive: ", readAll(disk, size))
	}
	fail("no module for a root of type " + p.RootType)
	return nil
}

// rofs mounts the image on the disk.
func rofs(disk dev.Disk, size int64) *vfs.Mount {
	// Frames in a row, because the Go heap is slow with what is large.
	total, _ := mem.Stats()
	segments := int(min(max(total*mem.PageSize/segmentShare, minSegments), maxSegments))
	cache := mem.AllocContig(segments*segmentSize/mem.PageSize, abi.OwnDevice)
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
	return &vfs.Mount{Type: "rofs", Magic: rofsfs.Magic, ReadOnly: true, Root: n}
}

// archive makes a root that can be written of an initial RAM disk. Without a word about the program it is /init, as in Linux.
func archive(p *boot.Params, what string, b []byte) *vfs.Mount {
	f := tmpfs.NewFS(0o755)
	switch err := tmpfs.Load(f, b); err {
	case nil:
	case ramfs.ENOSPC:
		fail(what + "it does not fit into memory: give the machine more --memory")
	default:
		fail(what + err.Error())
	}
	if len(p.Args) == 0 {
		p.Args = append(p.Args, "/init")
	}
	return &vfs.Mount{Type: "ramfs", Magic: tmpfs.RootMagic, Root: tmpfs.Root(f)}
}

// readAll reads the disk into frames.
func readAll(disk dev.Disk, size int64) []byte {
	pages := (size + mem.PageSize - 1) / mem.PageSize
	f := vfs.AllocRun(int(max(pages, 1)), abi.OwnInitrd)
	if f == 0 {
		fail("archive: it does not fit into memory: give the machine more --memory")
	}
	b := f.Bytes(int(size))
	if _, err := disk.ReadAt(b, 0); err != nil {
		fail(err.Error())
	}
	return b
}

// segmentSize is how much is read from the disk at once, in bytes: a request costs more than 64 KiB of copying. There is one such
// segment for each segmentShare bytes of RAM, within bounds: with fewer, metadata and contents push each other out.
const (
	segmentSize  = 64 << 10
	segmentShare = 20 << 20
	minSegments  = 3
	maxSegments  = 16 // all are looked at to find one
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
