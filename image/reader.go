package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/firstlight-boot/firstlight/fsmod"
)

// Image is an opened image, or a bare file system, as imgbuild --no-kernel writes it. Its methods may be called
// concurrently.
type Image struct {
	// Params are the image's parameters. They are nil for a bare file system and for an OSv disk.
	Params *Params
	// OSv is what an OSv disk says; nil for anything else.
	OSv *OSvDisk

	r      io.ReaderAt
	size   int64
	id     guid
	params []byte // as stored
	module fsmod.Module
	close  func() error
}

// Open opens the image or bare file system in the file called path.
func Open(path string) (*Image, error) {
	f, size, err := openFile(path)
	if err != nil {
		return nil, err
	}
	img, err := NewReader(f, size)
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	img.close = f.Close
	return img, nil
}

// openFile opens a file that can be read at random, and tells its size.
func openFile(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	size := int64(0)
	if err == nil {
		size = st.Size()
		switch {
		case st.Mode().IsDir():
			err = &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("%w: it is a directory", ErrFormat)}
		case st.Mode()&fs.ModeDevice != 0 && st.Mode()&fs.ModeCharDevice == 0:
			size, err = f.Seek(0, io.SeekEnd) // a disk's size is not in its inode
		case !st.Mode().IsRegular():
			err = &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("%w: it is not a regular file", ErrFormat)}
		}
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, size, nil
}

// NewReader opens the image, OSv disk or bare file system in the size bytes of r, which stays the caller's. It checks the partition
// table and the parameters, but neither the backup table nor the partitions' content: Verify does.
func NewReader(r io.ReaderAt, size int64) (*Image, error) {
	img := &Image{r: r, size: size, close: func() error { return nil }}
	d, err := readGPT(r, 1, size)
	if err != nil {
		if foreign, probeErr := isForeign(r, size); probeErr != nil {
			return nil, probeErr
		} else if !foreign {
			return nil, err
		}
		if img.module, err = fsmod.Probe(r, size); err != nil {
			return nil, err
		}
		if img.module == nil {
			if img.OSv, img.module, err = readOSv(r, size); err != nil {
				return nil, err
			}
		}
		if img.module == nil {
			return nil, &FormatError{"image", 0, "start", fmt.Errorf("%w, nor a file system of a kind known here (%v)", ErrFormat, fsmod.Names())}
		}
		return img, nil
	}
	img.id = d.id
	if img.params, err = readParams(r, d, size); err != nil {
		return nil, err
	}
	img.Params, err = decodeParams(img.params)
	if err == nil {
		err = img.Params.checkLayout(int64(len(img.params)), size)
	}
	if err != nil {
		return nil, &FormatError{"params", firstPartition, "parameters", err}
	}
	return img, nil
}

// isForeign tells whether r is neither an image of ours nor the remains of one: it has no GPT header at either end.
func isForeign(r io.ReaderAt, size int64) (bool, error) {
	for _, off := range []int64{SectorSize, size - SectorSize} {
		b := make([]byte, len(gptSignature))
		err := readFull(r, b, off, size)
		if err == nil && string(b) == gptSignature {
			return false, nil
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			return false, err
		}
	}
	return true, nil
}

// readParams returns the stored parameters without their padding.
func readParams(r io.ReaderAt, d *disk, size int64) ([]byte, error) {
	if len(d.parts) == 0 || d.parts[0].name != PartParams {
		return nil, &FormatError{"image", gptEntriesOffset, "first partition", fmt.Errorf("%w: a GPT disk without a partition %q", ErrFormat, PartParams)}
	}
	p := d.parts[0]
	off, n := p.first*SectorSize, (p.last-p.first+1)*SectorSize
	if off != firstPartition || n > alignUp(maxParams, Align) {
		return nil, &FormatError{"image", off, PartParams, fmt.Errorf("%w: %d bytes at %d", ErrDamaged, n, off)}
	}
	b := make([]byte, n)
	if err := readFull(r, b, off, size); err != nil {
		return nil, &FormatError{"image", off, PartParams, err}
	}
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return nil, &FormatError{"params", off, "end of the parameters", fmt.Errorf("%w: no newline before the padding", ErrDamaged)}
	}
	return b, nil
}

const gptEntriesOffset = 2 * SectorSize

// Close closes the file that Open opened.
func (img *Image) Close() error { return img.close() }

// Size returns the image's size in bytes.
func (img *Image) Size() int64 { return img.size }

// ID identifies the image by its content: two images have the same ID when all their bytes are the same. It is the disk's
// GUID, and empty for a bare file system.
func (img *Image) ID() string {
	if img.Params == nil {
		return ""
	}
	return img.id.String()
}

// Partitions lists all partitions, params among them. A bare file system has only a root, an OSv disk perhaps a kernel before
// it, which is what the boot sector loads; their digests are not known.
func (img *Image) Partitions() []Partition {
	if img.OSv != nil {
		return img.OSv.partitions()
	}
	if img.Params == nil {
		return []Partition{{Name: PartRoot, Length: img.size}}
	}
	first := Partition{PartParams, firstPartition, int64(len(img.params)), digest(img.params)}
	return append([]Partition{first}, img.Params.Partitions...)
}

// Partition returns the bytes of the file in the partition called name, and whether there is one. They are not checked
// against the digest.
func (img *Image) Partition(name string) (*io.SectionReader, bool) {
	for _, p := range img.Partitions() {
		if p.Name == name {
			return io.NewSectionReader(img.r, p.Offset, p.Length), true
		}
	}
	return nil, false
}

// Module returns the module of the root file system.
func (img *Image) Module() (fsmod.Module, error) {
	if img.module != nil {
		return img.module, nil
	}
	return fsmod.Lookup(img.Params.Root.Module)
}

// Root opens the root file system.
func (img *Image) Root() (fsmod.FileSystem, error) {
	m, err := img.Module()
	if err != nil {
		return nil, err
	}
	r, _ := img.Partition(PartRoot)
	fsys, err := m.Open(r, r.Size())
	if err != nil {
		return nil, fmt.Errorf("root file system (%s): %w", m.Name(), err)
	}
	return fsys, nil
}

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
