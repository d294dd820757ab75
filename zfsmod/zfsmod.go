// Package zfsmod writes ZFS pools on the host, without ZFS in the host's kernel, and reads them back. docs/zfs.md describes what
// it writes.
package zfsmod

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/tree"
	"github.com/firstlight-boot/firstlight/zfsmod/format"
	"github.com/firstlight-boot/firstlight/zfsmod/zap"
)

// Config says what kind of pool to write. The zero value is every default.
type Config struct {
	// Compat names who shall read the pool: openzfs-2.1 (the default), osv, freebsd9 or legacy-23.
	Compat string
	// Pool is its name; empty is "firstlight", or "osv" for osv.
	Pool string
	// Ashift is the base-2 logarithm of the smallest block, 9 to 16; 0 is 9, which makes the smallest images.
	Ashift uint
	// Size is that of the whole, in bytes; 0 is what is needed, with Free. It is rounded up to 256 KiB.
	Size int64
	// Free is the least room that is left for more, in bytes. An eighth of what is used is left in any case, as ZFS needs some
	// itself, and no pool is smaller than 64 MiB.
	Free int64
	// Datasets are the file systems, if there are more than one or they have properties.
	Datasets []Dataset
	// Bootfs names the dataset that boot loaders take; empty is none.
	Bootfs string
}

// compat is what a group of readers understands.
type compat struct {
	version uint64
	lz4     bool
	dev     devNumber
}

var compats = map[string]compat{
	"openzfs-2.1": {versionFeatures, true, devLinux},
	"osv":         {versionFeatures, true, devSolaris},
	"freebsd9":    {28, false, devSolaris},
	"legacy-23":   {23, false, devFuse},
}

// Compats lists what Config.Compat can be.
func Compats() []string { return slices.Sorted(maps.Keys(compats)) }

// Write writes a pool whose file system holds t. The bytes depend on the arguments alone.
func (c Config) Write(ctx context.Context, to io.WriterAt, t *tree.Tree, o fsmod.Options) (res fsmod.Result, err error) {
	if err := t.Validate(); err != nil {
		return res, err
	}
	name := c.Compat
	if name == "" {
		name = "openzfs-2.1"
	}
	k, ok := compats[name]
	if !ok {
		return res, fmt.Errorf("%w: nothing is known of ZFS for %q; there are %s", fsmod.ErrUnsupported, name, strings.Join(Compats(), ", "))
	}
	codec, err := k.codec(o)
	if err != nil {
		return res, err
	}
	switch n := o.ClusterSize; {
	case n != 0 && (n < 512 || n > recordSize || n&(n-1) != 0):
		return res, fmt.Errorf("%w by zfs: cluster size %d: possible are powers of two from 512 to %d", fsmod.ErrUnsupported, n, recordSize)
	case o.Raw != nil || o.Hot != nil || len(o.Layout) > 0:
		return res, fmt.Errorf("%w by zfs: files stored raw, hot or in the order of a layout; a dataset's property compression can be off", fsmod.ErrUnsupported)
	}
	if c.Pool == "" {
		c.Pool = "firstlight"
		if name == "osv" {
			c.Pool = "osv"
		}
	}
	if name == "osv" && c.Datasets == nil { // as OSv's own scripts make them
		props := map[string]string{"mountpoint": "/", "canmount": "noauto"}
		c.Datasets = []Dataset{{Name: c.Pool, Properties: props},
			{Name: c.Pool + "/zfs", Properties: map[string]string{"mountpoint": "/zfs", "canmount": "noauto", "relatime": "on"}}}
	}
	if c.Ashift == 0 {
		c.Ashift = 9
	}
	if c.Ashift < 9 || c.Ashift > format.MaxAshift {
		return res, fmt.Errorf("%w: ashift %d: it is 9 to %d", fsmod.ErrUnsupported, c.Ashift, format.MaxAshift)
	}
	root, all, err := c.datasets(t)
	if err != nil {
		return res, err
	}
	if c.Bootfs != "" && !slices.ContainsFunc(all, func(d *dataset) bool { return d.name == c.Bootfs }) {
		return res, fmt.Errorf("%w: bootfs is %s, which is no dataset", fsmod.ErrUnsupported, c.Bootfs)
	}
	w := &writer{ctx: ctx, w: to, ashift: c.Ashift, txg: poolTxg, meta: format.CompressLZJB, copies: 2, dev: k.dev}
	if k.lz4 {
		w.meta = format.CompressLZ4
	}
	for i := range t.Entries {
		e := &t.Entries[i]
		if e.HardLink == "" && e.Mode.IsRegular() {
			res.ContentBytes += e.Size
		}
	}
	res.Entries = len(t.Entries)
	w.slab = slabShift(max(c.Size, res.ContentBytes+c.Free))
	done := int64(0)
	if codec != format.CompressOff && !slices.ContainsFunc(root.props, func(e zap.Entry) bool { return e.Name == "compression" }) {
		root.props = append(root.props, zap.Number("compression", uint64(codec)))
	}
	if o.ClusterSize != 0 && !slices.ContainsFunc(root.props, func(e zap.Entry) bool { return e.Name == "recordsize" }) {
		root.props = append(root.props, zap.Number("recordsize", uint64(o.ClusterSize)))
	}
	if err := root.inherit(contentProps{codec: codec, checksum: format.ChecksumFletcher4, record: recordSize, copies: 1}, k); err != nil {
		return res, err
	}
	seed := sha256.New()
	var bootfs *dataset
	for _, d := range all {
		p := newPackers(d.content)
		w.copies = min(d.content.copies+1, 3)
		d.bp, err = w.fileSystem(d.tree, k.version >= versionSA, p, func(n int64) {
			done += n
			if o.Progress != nil {
				o.Progress(done, res.ContentBytes)
			}
		})
		p.close()
		if err != nil {
			return res, err
		}
		d.space = w.count
		w.count = space{}
		res.StoredBytes += int64(d.space.used)
		seed.Write(d.bp[:])
		if d.name == c.Bootfs {
			bootfs = d
		}
	}
	fmt.Fprint(seed, c, k, codec)
	created := uint64(max(t.Entries[0].ModTime.Unix(), 0))
	pool := &pool{writer: w, name: c.Pool, version: k.version, lz4: k.lz4, path: "/dev/" + c.Pool, root: root, bootfs: bootfs,
		created: created, seed: [32]byte(seed.Sum(nil)),
		extra: func(end int64) int64 { return max(c.Size, end+max(c.Free, end/8)) }}
	if name == "osv" {
		pool.path, pool.disk = "/dev/vblk0.1", true
	}
	if res.Bytes, err = pool.write(); err == nil && c.Size > 0 && res.Bytes-c.Size >= format.LabelSize {
		err = fmt.Errorf("%w: the pool needs %d bytes, and its size is to be %d", fsmod.ErrUnsupported, res.Bytes, c.Size)
	}
	return res, err
}

func (k compat) codec(o fsmod.Options) (int, error) {
	if o.Level != 0 && o.Codec != "gzip" {
		return 0, fmt.Errorf("%w by zfs: a level of %q; gzip has levels", fsmod.ErrUnsupported, o.Codec)
	}
	switch o.Codec {
	case "", "none", "off":
		return format.CompressOff, nil
	case "lz4":
		if k.lz4 {
			return format.CompressLZ4, nil
		}
	case "lzjb":
		return format.CompressLZJB, nil
	case "zle":
		return format.CompressZLE, nil
	case "gzip":
		level := o.Level
		if level == 0 {
			level = 6
		}
		if level >= 1 && level <= 9 {
			return format.CompressGzip1 + level - 1, nil
		}
		return 0, fmt.Errorf("%w: gzip has levels 1 to 9, not %d", fsmod.ErrUnsupported, level)
	}
	return 0, fmt.Errorf("%w: this pool's readers do not know %s: choose one of %s", fsmod.ErrUnsupported, o.Codec, strings.Join([]string{"gzip", "lzjb", "zle"}, ", "))
}
