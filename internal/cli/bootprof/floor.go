package bootprof

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/profile"
)

func floorCommand() *cobra.Command {
	var m machineFlags
	var n int
	cmd := &cobra.Command{
		Use:   "floor [flags]",
		Short: "Measure a guest that exits at once: what no boot on this host can go below",
		Example: `  bootprof floor
  bootprof floor -n 50 --machine q35 --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("%q is one argument too many: floor takes none; see bootprof floor --help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return m.runFloor(cmd, n) },
	}
	cmd.Flags().IntVarP(&n, "runs", "n", 10, "how many boots to make")
	m.flags(cmd)
	return cmd
}

func (m *machineFlags) runFloor(cmd *cobra.Command, n int) error {
	if n < 1 {
		return usagef("-n %d: want at least one boot", n)
	}
	tell := m.teller(cmd.ErrOrStderr())
	c, err := m.config(image.Machine{})
	if err != nil {
		return err
	}
	p := &plan{target: &target{}, config: c, timeout: m.timeout}
	p.config.KernelImage = []byte{} // boot puts the floor guest there
	if p.q, err = m.choose(cmd, &p.config, tell); err != nil {
		return err
	}
	rec := &boottrace.Recording{
		Image: "floor", VMM: "QEMU " + p.q.Version.String(), Accel: string(p.config.Accel), Machine: string(c.Machine),
		Firmware: string(c.Firmware), MemoryBytes: uint64(c.MemoryBytes),
	}
	pace := newPace(n)
	for i := range n {
		tell.progress("floor %d of %d%s", i+1, n, pace.left(i))
		o, err := p.boot(cmd.Context(), boottrace.Floor)
		if err != nil {
			tell.clear()
			return fmt.Errorf("floor %d of %d: %w", i+1, n, err)
		}
		rec.Runs = append(rec.Runs, o.Run)
	}
	tell.clear()
	if m.json {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(profile.NewFloorObject(rec))
	}
	return profile.WriteTimeline(cmd.OutOrStdout(), rec, style(cmd.OutOrStdout(), false))
}
