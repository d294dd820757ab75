// Package erofsmod makes images with EROFS available, written by the host's mkfs.erofs. Import it for its effect on fsmod's
// registry. docs/linux-images.md says why no library writes them.
//
// Source: Linux, Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h.
package erofsmod

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"slices"
	"strconv"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	"github.com/firstlight-boot/firstlight/tree"
)

func init() { fsmod.Register(module{}) }

type module struct{}

const (
	tool       = "mkfs.erofs"
	pkg        = "erofs-utils"
	minCluster = 4 << 10
	maxCluster = 1 << 20
	maxLevel   = 12  // of lz4hc: LZ4HC_CLEVEL_MAX of lz4hc.h
	maxName    = 254 // of mkfs.erofs, one less than the format's
)

// The superblock, little endian, at byte 1024.
const (
	superOff  = 1024
	superEnd  = 4096 // of what its check code covers, from superOff
	magic     = "\xe2\xe1\xf5\xe0"
	sbCheck   = 4
	sbCompat  = 8
	sbTime    = 24 // seconds and nanoseconds, 12 bytes
	sbBlkBits = 12
	sbBlocks  = 36
	sbUUID    = 48

	compatCheck = 1
)

func (module) Name() string { return "erofs" }

func (module) Codecs() []string { return []string{"lz4hc", "lz4"} }

// Write has mkfs.erofs read t from a folder. Its option for a fixed time would take the files' times away, so the time and the UUID in
// the superblock are set afterwards: to 0, and to what the content makes.
func (module) Write(ctx context.Context, w io.WriterAt, t *tree.Tree, o fsmod.Options) (fsmod.Result, error) {
	args, err := arguments(o)
	if err != nil {
		return fsmod.Result{}, err
	}
	if err := t.Validate(); err != nil {
		return fsmod.Result{}, err
	}
	for i := range t.Entries {
		if e := &t.Entries[i]; len(path.Base(e.Path)) > maxName {
			return fsmod.Result{}, fmt.Errorf("/%s: a name of %d bytes: %w by %s; the most is %d", e.Path, len(path.Base(e.Path)), fsmod.ErrUnsupported, tool, maxName)
		}
	}
	if os.Geteuid() != 0 {
		args = append(args, "--force-uid="+strconv.Itoa(int(t.Entries[0].UID)), "--force-gid="+strconv.Itoa(int(t.Entries[0].GID)))
	}
	return hosttool.FromFolder(ctx, w, t, o, func(string) error {
		_, err := (hosttool.Cmd{Tool: tool, Package: pkg, Args: []string{"--help"}, OK: func(int) bool { return true }}).Run(ctx)
		return err
	}, func(dir, out string) error {
		if _, err := (hosttool.Cmd{Tool: tool, Package: pkg, Args: append(args, out, dir)}).Run(ctx); err != nil {
			return err
		}
		return settle(out)
	})
}

func arguments(o fsmod.Options) ([]string, error) {
	if err := hosttool.Plain("erofs", o); err != nil {
		return nil, err
	}
	if o.Codec == "" {
		if o.ClusterSize != 0 || o.Level != 0 {
			return nil, fmt.Errorf("a cluster size or a level without compression: %w by erofs", fsmod.ErrUnsupported)
		}
		return nil, nil
	}
	if !slices.Contains(module{}.Codecs(), o.Codec) {
		return nil, fmt.Errorf("compression %q: %w by erofs", o.Codec, fsmod.ErrUnsupported)
	}
	arg := "-z" + o.Codec
	if o.Level != 0 {
		if o.Codec != "lz4hc" {
			return nil, fmt.Errorf("a level of %s: %w by erofs; lz4hc has levels", o.Codec, fsmod.ErrUnsupported)
		}
		if o.Level < 1 || o.Level > maxLevel {
			return nil, fmt.Errorf("level %d of lz4hc: %w by erofs; possible are 1 to %d", o.Level, fsmod.ErrUnsupported, maxLevel)
		}
		arg += "," + strconv.Itoa(o.Level)
	}
	args := []string{arg}
	if n := o.ClusterSize; n != 0 {
		if n < minCluster || n > maxCluster || n&(n-1) != 0 {
			return nil, fmt.Errorf("cluster size %d: %w; possible are powers of two from %d to %d", n, fsmod.ErrUnsupported, minCluster, maxCluster)
		}
		args = append(args, "-C"+strconv.Itoa(n))
	}
	return args, nil
}

// settle sets time, UUID and check code of a superblock.
func settle(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, superEnd-superOff)
	if _, err := f.ReadAt(b, superOff); err != nil {
		return fmt.Errorf("%s wrote no superblock: %w", tool, err)
	}
	if string(b[:4]) != magic {
		return fmt.Errorf("%s wrote a superblock of another kind: magic number %x", tool, b[:4])
	}
	le := binary.LittleEndian
	clear(b[sbTime:][:12])
	clear(b[sbUUID:][:16])
	le.PutUint32(b[sbCheck:], 0)
	if _, err := f.WriteAt(b, superOff); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return err
	}
	sum := h.Sum(nil)
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8 of RFC 9562
	copy(b[sbUUID:][:16], sum)
	if le.Uint32(b[sbCompat:])&compatCheck != 0 {
		le.PutUint32(b[sbCheck:], checkCode(b))
	}
	if _, err := f.WriteAt(b, superOff); err != nil {
		return err
	}
	return f.Close()
}

// checkCode is the CRC-32C of a superblock whose own is 0, not inverted at the end.
func checkCode(b []byte) uint32 { return ^crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func (module) Probe(r io.ReaderAt, size int64) (bool, error) {
	return hosttool.Magic(r, size, superOff, magic)
}

func fsck(img, dir string) hosttool.Cmd {
	return hosttool.Cmd{Tool: "fsck.erofs", Package: pkg, Args: []string{"--extract=" + dir, "--overwrite", img}}
}

// Check has fsck.erofs read everything.
func (module) Check(ctx context.Context, r io.ReaderAt, size int64) ([]fsmod.Problem, error) {
	if err := super(r, size); err != nil {
		return []fsmod.Problem{{Offset: superOff, Length: 1, What: err.Error()}}, nil
	}
	return hosttool.Check(ctx, r, size, fsck)
}

func super(r io.ReaderAt, size int64) error {
	b := make([]byte, superEnd-superOff)
	if size < superEnd {
		return fmt.Errorf("erofs: %w: %d bytes have no superblock", fsmod.ErrDamaged, size)
	}
	if n, err := r.ReadAt(b, superOff); n < len(b) {
		return err
	}
	le := binary.LittleEndian
	blocks, log := int64(le.Uint32(b[sbBlocks:])), b[sbBlkBits]
	if string(b[:4]) != magic || log < 9 || log > 16 || blocks<<log > size {
		return fmt.Errorf("erofs: byte %d: superblock: %w: %d blocks of 1<<%d bytes, and there are %d", superOff, fsmod.ErrDamaged, blocks, log, size)
	}
	want := le.Uint32(b[sbCheck:])
	le.PutUint32(b[sbCheck:], 0)
	if got := checkCode(b); le.Uint32(b[sbCompat:])&compatCheck != 0 && got != want {
		return fmt.Errorf("erofs: byte %d: superblock: %w: its check code is %#x, and it says %#x", superOff, fsmod.ErrDamaged, got, want)
	}
	return nil
}
