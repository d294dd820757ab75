// Package squashfsmod makes images with squashfs available, written by the host's mksquashfs. Import it for its effect on
// fsmod's registry. docs/linux-images.md says why no library writes them.
//
// Source: Linux, Documentation/filesystems/squashfs.rst; squashfs-tools, squashfs_fs.h.
package squashfsmod

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	"github.com/firstlight-boot/firstlight/tree"
)

func init() { fsmod.Register(module{}) }

type module struct{}

const (
	tool     = "mksquashfs"
	pkg      = "squashfs-tools"
	minBlock = 4 << 10
	maxBlock = 1 << 20
)

func (module) Name() string { return "squashfs" }

func (module) Codecs() []string { return []string{"gzip", "lz4", "lz4hc", "zstd", "xz"} }

// Write has mksquashfs read t as a tar archive, so that nothing of it lies on the host's disk but the result. To mksquashfs 4.5 a
// root is of now then, whatever it is told, and nothing but SOURCE_DATE_EPOCH changes that, which is here the latest time in t: a
// root is as old as the youngest file, whoever writes it when. Times are whole seconds.
func (m module) Write(ctx context.Context, w io.WriterAt, t *tree.Tree, o fsmod.Options) (res fsmod.Result, err error) {
	args, err := arguments(o)
	if err != nil {
		return fsmod.Result{}, err
	}
	if err := t.Validate(); err != nil {
		return fsmod.Result{}, err
	}
	root, latest := &t.Entries[0], time.Unix(0, 0)
	for i := range t.Entries {
		if e := &t.Entries[i]; e.ModTime.After(latest) {
			if latest = e.ModTime; latest.After(time.Now()) {
				return fsmod.Result{}, fmt.Errorf("/%s: a time in the future, %v: %w by squashfs; set SOURCE_DATE_EPOCH", e.Path, latest, fsmod.ErrUnsupported)
			}
		}
	}
	err = hosttool.Scratch(func(dir string) error {
		out := filepath.Join(dir, "out")
		pr, pw := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := hosttool.WriteTar(ctx, pw, t)
			pw.CloseWithError(err)
			done <- err
		}()
		mode := strconv.FormatUint(uint64(root.Mode.Perm()), 8)
		cmd := hosttool.Cmd{Tool: tool, Package: pkg, Stdin: pr, Args: append([]string{"-", out, "-tar", "-noappend", "-no-progress", "-quiet", "-no-exports",
			"-reproducible", "-root-time", hosttool.Seconds(root.ModTime), "-root-mode", mode, "-root-uid", strconv.Itoa(int(root.UID)), "-root-gid", strconv.Itoa(int(root.GID))}, args...), Env: []string{"SOURCE_DATE_EPOCH=" + hosttool.Seconds(latest)}}
		_, err := cmd.Run(ctx)
		pr.CloseWithError(io.ErrClosedPipe) // for a writer whose reader gave up
		// What the writer says is the cause, if it did not just lose its reader.
		if tarErr := <-done; tarErr != nil && !errors.Is(tarErr, io.ErrClosedPipe) && (err == nil || ctx.Err() == nil) {
			return tarErr
		}
		if err != nil {
			return err
		}
		bytes, err := hosttool.Copy(ctx, w, out)
		res = hosttool.Result(t, o, bytes)
		return err
	})
	return res, err
}

// levels are the highest of the codecs that have some, from 1 up, as mksquashfs -help lists them.
var levels = map[string]int{"gzip": 9, "zstd": 22}

func arguments(o fsmod.Options) ([]string, error) {
	if err := hosttool.Plain("squashfs", o); err != nil {
		return nil, err
	}
	var args []string
	switch {
	case o.Codec == "":
		args = []string{"-noI", "-noD", "-noF", "-noX"}
	case o.Codec == "lz4hc":
		args = []string{"-comp", "lz4", "-Xhc"}
	case slices.Contains(module{}.Codecs(), o.Codec):
		args = []string{"-comp", o.Codec}
	default:
		return nil, fmt.Errorf("compression %q: %w by squashfs", o.Codec, fsmod.ErrUnsupported)
	}
	if o.Level != 0 {
		most, ok := levels[o.Codec]
		if !ok {
			return nil, fmt.Errorf("a level of %q: %w by squashfs; gzip and zstd have levels", o.Codec, fsmod.ErrUnsupported)
		}
		if o.Level < 1 || o.Level > most {
			return nil, fmt.Errorf("level %d of %s: %w by squashfs; possible are 1 to %d", o.Level, o.Codec, fsmod.ErrUnsupported, most)
		}
		args = append(args, "-Xcompression-level", strconv.Itoa(o.Level))
	}
	if n := o.ClusterSize; n != 0 {
		if n < minBlock || n > maxBlock || n&(n-1) != 0 {
			return nil, fmt.Errorf("cluster size %d: %w; possible are powers of two from %d to %d", n, fsmod.ErrUnsupported, minBlock, maxBlock)
		}
		args = append(args, "-b", strconv.Itoa(n))
	}
	return args, nil
}

// Superblock, little endian: 0 magic, 28 major version, 40 bytes used.
const (
	magic      = "hsqs"
	superSize  = 96
	versionOff = 28
	usedOff    = 40
)

func (module) Probe(r io.ReaderAt, size int64) (bool, error) {
	return hosttool.Magic(r, size, 0, magic)
}

// Open has unsquashfs extract the file system, and keeps it in memory.
func (m module) Open(r io.ReaderAt, size int64) (fsmod.FileSystem, error) {
	if err := super(r, size); err != nil {
		return nil, err
	}
	return hosttool.Extract(context.Background(), r, size, func(img, dir string) hosttool.Cmd {
		return hosttool.Cmd{Tool: "unsquashfs", Package: pkg, Args: []string{"-no-progress", "-quiet", "-force", "-dest", dir, img}}
	})
}

// Check has unsquashfs read everything.
func (module) Check(ctx context.Context, r io.ReaderAt, size int64) ([]fsmod.Problem, error) {
	if err := super(r, size); err != nil {
		return []fsmod.Problem{{Length: min(size, superSize), What: err.Error()}}, nil
	}
	return hosttool.Check(ctx, r, size, func(img, dir string) hosttool.Cmd {
		return hosttool.Cmd{Tool: "unsquashfs", Package: pkg, Args: []string{"-no-progress", "-quiet", "-force", "-dest", dir, img}}
	})
}

func super(r io.ReaderAt, size int64) error {
	b := make([]byte, superSize)
	if size < superSize {
		return fmt.Errorf("squashfs: %w: %d bytes have no superblock", fsmod.ErrDamaged, size)
	}
	if _, err := r.ReadAt(b, 0); err != nil && err != io.EOF {
		return err
	}
	used := binary.LittleEndian.Uint64(b[usedOff:])
	if string(b[:4]) != magic || binary.LittleEndian.Uint16(b[versionOff:]) != 4 || used > uint64(size) {
		return fmt.Errorf("squashfs: byte 0: superblock: %w: not of version 4, or longer (%d bytes) than there is (%d)", fsmod.ErrDamaged, used, size)
	}
	return nil
}
