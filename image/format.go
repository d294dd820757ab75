// Package image writes and reads app.img: a raw GPT disk whose partitions params, kernel, initrd (if any) and root each
// hold exactly one file's bytes, and which is at the same time a bootable ELF file.
//
// # Layout
//
// A sector is 512 bytes. Partitions start and end on 4096-byte boundaries, lie in the order above, and are as long as their
// file needs. All bytes that this table does not name are zero.
//
//	sector      content
//	0           bytes 0-63: the kernel's ELF header; from 64: its program headers, at most six, each p_offset moved by the
//	            kernel partition's offset; from 446: protective MBR, one partition of type 0xee; 510: 55 aa
//	1           GPT header (UEFI 2.10, section 5.3.2)
//	2-33        GPT partition entries, 128 of 128 bytes
//	34          the signature, if there is one (docs/signing.md)
//	40          partition params: JSON (Params), ends with a newline
//	...         partitions kernel, initrd, root
//	last 33     backup of the partition entries, then of the GPT header; the disk's size is a multiple of 4096 bytes
//
// A kernel that is not ours to start this way leaves bytes 0-445 zero.
//
// Nothing in an image comes from a clock or a random generator. The parameters hold the SHA-256 digest of every other
// partition, a partition's GUID is made from its name and digest, and the disk's GUID from the digest of the parameters: a
// change of one bit anywhere contradicts another place, and Verify says which.
package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// Sizes of the layout in bytes.
const (
	SectorSize = 512
	Align      = 4096 // of partitions and of the disk's size

	firstPartition = 40 * SectorSize // offset of the first partition
	backupSize     = 33 * SectorSize // backup entries and header at the disk's end
)

// ParamsVersion is the version of Params that this package writes, and the newest that it reads.
const ParamsVersion = 1

// maxParams bounds the parameters' JSON in bytes.
const maxParams = 1 << 20

// MaxKernel bounds a kernel file in bytes: it is loaded below 16 MiB, and may carry as much again in symbols.
const MaxKernel = 64 << 20

// MaxInitrd bounds an initial RAM disk in bytes, which is in memory while it is put into an image.
const MaxInitrd = 256 << 20

// Names of partitions, in their order on the disk.
const (
	PartParams = "params"
	PartKernel = "kernel"
	PartInitrd = "initrd"
	PartRoot   = "root"
)

// Flavours of kernels.
const (
	FlavourNative = "native" // Firstlight's own kernel
	FlavourLinux  = "linux"
	FlavourOSv    = "osv"
)

// Errors that a *FormatError wraps.
var (
	ErrFormat      = errors.New("not a Firstlight image")
	ErrDamaged     = errors.New("damaged image")
	ErrUnsupported = errors.New("not supported")
	ErrTooLarge    = errors.New("too large")
)

// FormatError says what is wrong with an image, and where.
type FormatError struct {
	Format string // "image", "GPT", "params", "kernel"
	Offset int64  // in bytes from the image's start
	Field  string // what is stored there
	Err    error
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s: byte %d: %s: %v", e.Format, e.Offset, e.Field, e.Err)
}

func (e *FormatError) Unwrap() error { return e.Err }

// Params is the content of the partition params: how the image boots and what it was made from.
type Params struct {
	Version int `json:"version"`
	// Tool is the program that wrote the image, with its version.
	Tool string `json:"tool"`
	// Sources name what the image was made from. They are base names: an image does not tell where on the builder's
	// machine things were.
	Sources []string `json:"sources,omitempty"`
	// Flavour says how the kernel is loaded and told its parameters.
	Flavour string `json:"flavour"`
	// Args is the app's argument list. Args[0] is also the path of the program in the root file system.
	Args []string `json:"args"`
	// Env is the app's environment, "K=V" each, sorted by K.
	Env []string `json:"env,omitempty"`
	// Append is what a kernel of flavour linux is told besides: its own parameters, as on its command line.
	Append string `json:"append,omitempty"`
	// Cwd is the app's working directory; empty means "/".
	Cwd string `json:"cwd,omitempty"`
	// Machine holds hints for who starts the virtual machine.
	Machine Machine `json:"machine"`
	// Ready says when the app counts as booted, as bootprof's --until; empty means bootprof's default.
	Ready string `json:"ready,omitempty"`
	// Budgets are limits of a boot for bootprof to enforce.
	Budgets Budgets `json:"budgets,omitzero"`
	// Root is how the root file system was written.
	Root RootFS `json:"root"`
	// Partitions lists all partitions but params in their order on the disk.
	Partitions []Partition `json:"partitions"`
}

// Machine holds hints for who starts the virtual machine.
type Machine struct {
	Type        string `json:"type,omitempty"`         // as "microvm"
	MemoryBytes int64  `json:"memory_bytes,omitempty"` // 0: the starter's default
}

// Budgets are limits of a boot; zero means no limit.
type Budgets struct {
	BootNanos    int64 `json:"boot_ns,omitempty"`
	MemoryBytes  int64 `json:"memory_bytes,omitempty"`
	Instructions int64 `json:"instructions,omitempty"`
}

// RootFS says how the root file system was written.
type RootFS struct {
	Module      string   `json:"module"` // name of the file-system module
	Codec       string   `json:"codec,omitempty"`
	ClusterSize int      `json:"cluster_size,omitempty"`
	Raw         []string `json:"raw,omitempty"`
}

// Partition is where one file lies in the image.
type Partition struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"` // in bytes from the image's start
	Length int64  `json:"length"` // in bytes, exact
	SHA256 string `json:"sha256"` // of these bytes, hex
}

// end is the offset of the first byte after the partition.
func (p Partition) end() int64 { return alignUp(p.Offset+p.Length, Align) }

func alignUp(n, to int64) int64 { return (n + to - 1) / to * to }

// find returns the partition called name.
func (p *Params) find(name string) (Partition, bool) {
	i := slices.IndexFunc(p.Partitions, func(q Partition) bool { return q.Name == name })
	if i < 0 {
		return Partition{}, false
	}
	return p.Partitions[i], true
}

// encode returns the parameters as they are stored.
func (p *Params) encode() ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(p); err != nil {
		return nil, err
	}
	if buf.Len() > maxParams {
		return nil, fmt.Errorf("parameters of %d bytes, the most is %d: %w", buf.Len(), maxParams, ErrTooLarge)
	}
	return buf.Bytes(), nil
}

// decodeParams decodes stored parameters strictly: what this version does not know is an error, not ignored.
func decodeParams(b []byte) (*Params, error) {
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrDamaged)
	}
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if v.Version > ParamsVersion {
		return nil, fmt.Errorf("version %d of the parameters: %w: this program knows up to %d; use a newer one", v.Version, ErrUnsupported, ParamsVersion)
	}
	if v.Version < 1 {
		return nil, fmt.Errorf("%w: version %d of the parameters", ErrDamaged, v.Version)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	p := new(Params)
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: text after the parameters", ErrDamaged)
	}
	return p, nil
}

// checkLayout tells whether the partitions' places are possible on a disk of size bytes whose params partition is
// paramsLength bytes long. Only a layout that passes may be read.
func (p *Params) checkLayout(paramsLength, size int64) error {
	names := []string{PartKernel, PartInitrd, PartRoot}
	end := alignUp(firstPartition+paramsLength, Align)
	for _, q := range p.Partitions {
		i := slices.Index(names, q.Name)
		if i < 0 {
			return fmt.Errorf("%w: partition %q is unknown, twice there or out of order", ErrDamaged, q.Name)
		}
		names = names[i+1:]
		if d, err := hex.DecodeString(q.SHA256); err != nil || len(d) != sha256.Size {
			return fmt.Errorf("%w: partition %s: no SHA-256 digest", ErrDamaged, q.Name)
		}
		if q.Length < 1 || q.Offset%Align != 0 || q.Offset < end || q.Offset > size || q.Length > size-q.Offset {
			return fmt.Errorf("%w: partition %s at %d, %d bytes, does not fit behind %d in an image of %d bytes", ErrDamaged, q.Name, q.Offset, q.Length, end, size)
		}
		end = q.end()
	}
	if _, ok := p.find(PartRoot); !ok {
		return fmt.Errorf("%w: no root partition", ErrDamaged)
	}
	if _, ok := p.find(PartKernel); !ok {
		return fmt.Errorf("%w: no kernel partition", ErrDamaged)
	}
	if want := diskSize(end); want != size {
		return fmt.Errorf("%w: the partitions make an image of %d bytes, this one has %d", ErrDamaged, want, size)
	}
	return nil
}

// diskSize is the size of a disk whose last partition ends at end.
func diskSize(end int64) int64 { return alignUp(end+backupSize, Align) }
