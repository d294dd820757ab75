package imgbuild

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/appconfig"
	"github.com/firstlight-boot/firstlight/zfsmod"
)

// zfsOptions are the flags of ZFS pools; imgbuild.yaml says the rest.
type zfsOptions struct{ compat string }

func (o *zfsOptions) flags(cmd *cobra.Command) {
	names := zfsmod.Compats()
	cmd.Flags().StringVar(&o.compat, "zfs-compat", "", "`READERS` of a pool that --fs zfs writes: "+strings.Join(names, ", ")+" (default openzfs-2.1; osv with --flavour osv)")
	if err := cmd.RegisterFlagCompletionFunc("zfs-compat", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag's name is misspelt above
	}
}

// module is m, with what flags and configuration say of pools if it is zfs.
func (o *zfsOptions) module(m fsmod.Module, c *appconfig.ZFS, flavour string) (fsmod.Module, error) {
	if m.Name() != "zfs" {
		if o.compat != "" {
			return nil, usagef("--zfs-compat is of --fs zfs, and the root is %s", m.Name())
		}
		return m, nil
	}
	compat := first(o.compat, c.Compat)
	if compat == "" && flavour == image.FlavourOSv {
		compat = "osv"
	}
	if compat != "" && !slices.Contains(zfsmod.Compats(), compat) {
		return nil, usagef("nothing is known of ZFS for %q; available: %s", compat, strings.Join(zfsmod.Compats(), ", "))
	}
	if c.Ashift != 0 && (c.Ashift < 9 || c.Ashift > 16) {
		return nil, usagef("rootfs.zfs.ashift is %d; it is 9 to 16", c.Ashift)
	}
	pool := zfsmod.Config{Compat: compat, Pool: c.Pool, Ashift: uint(c.Ashift), Size: int64(c.Size), Free: int64(c.Free), Bootfs: c.Bootfs}
	for _, d := range c.Datasets {
		pool.Datasets = append(pool.Datasets, zfsmod.Dataset{Name: d.Name, Path: d.Path, Properties: d.Properties})
	}
	return pool.Module(), nil
}

// poolReport is what inspect prints of a pool.
type poolReport struct {
	Name     string        `json:"name"`
	Version  uint64        `json:"version"`
	Features []string      `json:"features,omitempty"` // in use, that a reader has to know
	Bootfs   string        `json:"bootfs,omitempty"`
	Datasets []poolDataset `json:"datasets"`
}

type poolDataset struct {
	Name       string            `json:"name"`
	Snapshot   bool              `json:"snapshot,omitempty"`
	UsedBytes  uint64            `json:"used_bytes"`
	Created    time.Time         `json:"created"`
	Properties map[string]string `json:"properties,omitempty"`
}

// inspectPool describes the pool that an image is, nil if it is none.
func inspectPool(img *image.Image) (*poolReport, error) {
	fsys, err := img.Root()
	if err != nil {
		return nil, err
	}
	o, ok := fsys.(zfsmod.Opened)
	if !ok {
		return nil, nil
	}
	r := &poolReport{Name: o.Pool.Name, Version: o.Pool.Version, Features: o.Pool.Features}
	if r.Bootfs, err = o.Pool.Bootfs(); err != nil {
		return nil, err
	}
	list, err := o.Pool.Datasets()
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		created := time.Unix(int64(min(d.Created, maxCreated)), 0).UTC()
		for name, v := range d.Props {
			d.Props[name] = zfsmod.PropertyText(name, v)
		}
		r.Datasets = append(r.Datasets, poolDataset{d.Name, d.Snapshot, d.Used, created, d.Props})
	}
	return r, nil
}

// maxCreated is the last second of the year 9999, the last that JSON has a form for.
const maxCreated = 253402300799

func (r *poolReport) print(line func(name, format string, args ...any)) {
	line("pool", "%s: version %d, features in use: %s", printable(r.Name), r.Version, printable(cmp.Or(strings.Join(r.Features, ", "), "none")))
	if r.Bootfs != "" {
		line("bootfs", "%s", printable(r.Bootfs))
	}
	for _, d := range r.Datasets {
		kind := "dataset"
		if d.Snapshot {
			kind = "snapshot"
		}
		props := ""
		for _, name := range slices.Sorted(maps.Keys(d.Properties)) {
			props += " " + name + "=" + d.Properties[name]
		}
		line(kind, "%s: %s%s", printable(d.Name), formatSize(int64(min(d.UsedBytes, math.MaxInt64))), printable(props))
	}
}
