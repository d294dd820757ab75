package imgbuild

import (
	"slices"
	"strings"

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
