package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/firstlight-boot/firstlight/fsmod"
)

// Layout of OSv's disks, in bytes (arch/x64/boot16.S, fs/devfs/device.cc, scripts/imgedit.py and Makefile of
// github.com/cloudius-systems/osv at 0e34e4dc).
//
//	offset   content
//	0        boot.bin, or zeros; 0x10: u16, how many 32 KiB the loader has; 0x1be: partition table; 510: 55 aa
//	0x200    command line, NUL-terminated; boot.bin reads 63 sectors of it
//	0x8000   of a disk without a loader: the root file system
//	0x10000  lzloader.elf, zeros up to a multiple of 32 KiB
//	         at the next multiple of 2 MiB: the root file system
//
// The root is the second entry of the table, which OSv calls /dev/vblk0.1. OSv's own disks without a loader begin the root at
// 0x200 and have no command line; to write one, as OSv does when it is asked to, would overwrite their superblock.
const (
	osvLoaderSize  = 0x10
	osvTable       = 0x1be
	osvEntrySize   = 16
	osvRootEntry   = 1 // counted from 0
	osvCommandLine = 0x200
	osvBareRoot    = 0x8000
	osvLoader      = 0x10000
	osvLoaderUnit  = 32 << 10
	osvRootAlign   = 2 << 20
	osvLinuxType   = 0x83
)

// MaxOSvCommandLine is the longest command line in bytes: what boot.bin reads less the NUL.
const MaxOSvCommandLine = osvBareRoot - osvCommandLine - 1

// OSv is what an OSv disk holds besides its root.
type OSv struct {
	// CommandLine is that of the kernel: options, then the app and its arguments.
	CommandLine string
	// Loader is loader.img: boot.bin and, from 64 KiB, lzloader.elf. Without one the disk is booted along with a kernel file.
	Loader []byte
}

// OSvLoader makes a loader.img of its parts.
func OSvLoader(boot, lzloader []byte) ([]byte, error) {
	if len(boot) != SectorSize {
		return nil, fmt.Errorf("%w: boot.bin has %d bytes, want %d", ErrInput, len(boot), SectorSize)
	}
	b := make([]byte, osvLoader, osvLoader+len(lzloader))
	copy(b, boot)
	b = append(b, lzloader...)
	return b, checkOSvLoader(b)
}

// IsOSvLoader tells whether a file is a loader.img.
func IsOSvLoader(b []byte) bool { return checkOSvLoader(b) == nil }

func checkOSvLoader(b []byte) error {
	switch {
	case len(b) > MaxKernel:
		return fmt.Errorf("%w: a loader of %d bytes: %w: the most is %d", ErrInput, len(b), ErrTooLarge, MaxKernel)
	case len(b) < SectorSize || b[510] != 0x55 || b[511] != 0xaa:
		return fmt.Errorf("%w: no boot sector: it does not end in 55 aa", ErrInput)
	case len(b) < osvLoader+52 || string(b[osvLoader:][:4]) != "\x7fELF":
		return fmt.Errorf("%w: no lzloader.elf at byte %d of the loader", ErrInput, osvLoader)
	case b[osvLoader+4] != 1:
		return fmt.Errorf("%w: at byte %d of the loader is no 32-bit ELF file, which lzloader.elf is", ErrInput, osvLoader)
	}
	return nil
}

// osvRoots are OSv's names of the file systems that it mounts as root, by module.
var osvRoots = map[string]string{"rofs1": "rofs", "ext4": "ext", "zfs": "zfs"}

// OSvRoot returns what OSv's option --rootfs calls a module's file system, and whether it can be a root.
func OSvRoot(module string) (string, bool) {
	name, ok := osvRoots[module]
	return name, ok
}

// rootOffset is where the root begins.
func (o *OSv) rootOffset() int64 {
	if o.Loader == nil {
		return osvBareRoot
	}
	return alignUp(int64(len(o.Loader)), osvRootAlign)
}

// WriteOSvFile writes a disk in OSv's layout to the file called path, as WriteFile does. Of s it uses Tree, Module, Options
// and Sync.
func WriteOSvFile(ctx context.Context, path string, o OSv, s Spec) (*Result, error) {
	var res *Result
	err := writeFile(ctx, path, s.Sync, func(w *pending) (err error) {
		res, err = writeOSv(ctx, w, o, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

func writeOSv(ctx context.Context, w readWriterAt, o OSv, s Spec) (*Result, error) {
	if _, ok := OSvRoot(s.Module.Name()); !ok {
		return nil, fmt.Errorf("%w: %w: OSv mounts no %s", ErrInput, ErrUnsupported, s.Module.Name())
	}
	if len(o.CommandLine) > MaxOSvCommandLine || strings.IndexByte(o.CommandLine, 0) >= 0 {
		return nil, fmt.Errorf("%w: a command line of %d bytes: the most is %d, and none may be NUL", ErrInput, len(o.CommandLine), MaxOSvCommandLine)
	}
	sector := make([]byte, SectorSize)
	res := &Result{}
	if o.Loader != nil {
		if err := checkOSvLoader(o.Loader); err != nil {
			return nil, err
		}
		copy(sector, o.Loader)
		clear(sector[osvTable:510])
		n := int64(len(o.Loader)) - osvLoader
		binary.LittleEndian.PutUint16(sector[osvLoaderSize:], uint16((n+osvLoaderUnit-1)/osvLoaderUnit))
		res.Partitions = []Partition{{PartKernel, osvLoader, n, digest(o.Loader[osvLoader:])}}
	}
	at := o.rootOffset()
	root, err := s.Module.Write(ctx, io.NewOffsetWriter(w, at), s.Tree, s.Options)
	if err != nil {
		return nil, err
	}
	sum, err := hashRange(ctx, w, at, root.Bytes)
	if err != nil {
		return nil, err
	}
	size := alignUp(root.Bytes, SectorSize)
	if (at+size)/SectorSize >= 1<<32 {
		return nil, fmt.Errorf("%w: a root of %d bytes: %w for a table of 32-bit sector numbers", ErrInput, root.Bytes, ErrTooLarge)
	}
	copy(sector[osvTable+osvRootEntry*osvEntrySize:], osvEntry(at, size))
	sector[510], sector[511] = 0x55, 0xaa
	res.Root, res.Bytes = root, at+size
	res.Partitions = append(res.Partitions, Partition{PartRoot, at, root.Bytes, sum})
	if err := w.Truncate(res.Bytes); err != nil {
		return nil, err
	}
	if o.Loader != nil {
		if _, err := w.WriteAt(o.Loader[osvLoader:], osvLoader); err != nil {
			return nil, err
		}
	}
	_, err = w.WriteAt(append(sector, o.CommandLine...), 0)
	return res, err
}

// osvEntry is an entry of the partition table as OSv's tools write it. OSv takes an entry for an empty one if the start has the
// sector 0, so it is filled in, with the cylinder's bits where OSv's kernel reads them: not where PCs have them, who do not
// look at it.
func osvEntry(off, size int64) []byte {
	chs := func(lba int64) (head byte, rest uint16) {
		const heads, sectors = 255, 63
		c, h, s := lba/sectors/heads, lba/sectors%heads, lba%sectors+1
		if c > 1023 {
			c, h, s = 1023, 254, 63
		}
		return byte(h), uint16(c<<6 | s)
	}
	first, n := off/SectorSize, size/SectorSize
	b := make([]byte, osvEntrySize)
	var rest uint16
	b[1], rest = chs(first)
	binary.LittleEndian.PutUint16(b[2:], rest)
	b[4] = osvLinuxType
	b[5], rest = chs(first + n)
	binary.LittleEndian.PutUint16(b[6:], rest)
	binary.LittleEndian.PutUint32(b[8:], uint32(first))
	binary.LittleEndian.PutUint32(b[12:], uint32(n))
	return b
}

// OSvDisk is what the first sectors of an OSv disk say.
type OSvDisk struct {
	CommandLine string // "" where the disk has no place for one
	LoaderBytes int64  // what the boot sector loads from 64 KiB; 0: the disk is booted along with a kernel file
	Root        Partition
}

// readOSv reads the first sectors of an OSv disk. It returns nil when r is none, or none whose root is of a kind known here.
func readOSv(r io.ReaderAt, size int64) (*OSvDisk, fsmod.Module, error) {
	b := make([]byte, min(size, osvBareRoot))
	if err := readFull(r, b, 0, size); err != nil || len(b) < 2*SectorSize || b[510] != 0x55 || b[511] != 0xaa {
		return nil, nil, ignoreShort(err)
	}
	e := b[osvTable+osvRootEntry*osvEntrySize:][:osvEntrySize]
	off, n := int64(binary.LittleEndian.Uint32(e[8:]))*SectorSize, int64(binary.LittleEndian.Uint32(e[12:]))*SectorSize
	if e[4] == 0 || e[2]&63 == 0 || off < SectorSize || n == 0 || off > size {
		return nil, nil, nil
	}
	// OSv's kernel does not check the end, and its tools make entries that are longer than the disk.
	n = min(n, size-off)
	m, err := fsmod.Probe(io.NewSectionReader(r, off, n), n)
	if err != nil || m == nil {
		return nil, nil, err
	}
	d := &OSvDisk{Root: Partition{Name: PartRoot, Offset: off, Length: n}}
	if off > osvCommandLine {
		line := b[osvCommandLine:min(off, int64(len(b)))]
		if i := bytes.IndexByte(line, 0); i >= 0 {
			d.CommandLine = string(line[:i])
		}
	}
	if off >= osvLoader && b[0] != 0 {
		d.LoaderBytes = min(int64(binary.LittleEndian.Uint16(b[osvLoaderSize:]))*osvLoaderUnit, off-osvLoader)
	}
	return d, m, nil
}

func ignoreShort(err error) error {
	if errors.Is(err, ErrDamaged) {
		return nil
	}
	return err
}

// partitions lists what the disk holds.
func (d *OSvDisk) partitions() []Partition {
	if d.LoaderBytes == 0 {
		return []Partition{d.Root}
	}
	return []Partition{{Name: PartKernel, Offset: osvLoader, Length: d.LoaderBytes}, d.Root}
}

// verifyOSv checks an OSv disk: that there are only zeros where nothing is, and the root.
func verifyOSv(ctx context.Context, img *Image) ([]Problem, error) {
	d := img.OSv
	v := &verifier{ctx: ctx, r: img.r, size: img.size}
	at := int64(SectorSize)
	for _, used := range []Partition{{Offset: osvCommandLine, Length: int64(len(d.CommandLine))}, {Offset: osvLoader, Length: d.LoaderBytes}, d.Root} {
		if used.Length == 0 {
			continue
		}
		if err := v.compare(at, used.Offset-at, nil, "padding"); err != nil {
			return nil, err
		}
		at = used.Offset + used.Length
	}
	if err := v.compare(at, img.size-at, nil, "padding"); err != nil {
		return nil, err
	}
	if d.LoaderBytes == 0 {
		if err := v.compare(0, osvTable, nil, "boot sector"); err != nil {
			return nil, err
		}
	}
	problems, err := img.module.Check(ctx, io.NewSectionReader(img.r, d.Root.Offset, d.Root.Length), d.Root.Length)
	for _, p := range problems {
		v.report(d.Root.Offset+p.Offset, p.Length, "root file system: %s", p.What)
	}
	return v.problems, err
}
