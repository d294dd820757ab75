package bootprof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/internal/appconfig"
	"github.com/firstlight-boot/firstlight/qemu"
)

// How long a boot of the search may take, next to the first one, which has all the memory.
const (
	slowdown     = 10
	leastTimeout = 3 * time.Second
)

// maxConfirm bounds the boots that confirm the result.
const maxConfirm = 1000

// minmemOptions are the flags of bootprof minmem.
type minmemOptions struct {
	qemuOptions // of which the machine, the kernel and the ready condition have flags
	step        appconfig.Size
	confirm     int
}

func minmemCommand() *cobra.Command {
	o := minmemOptions{step: 1 << 20}
	cmd := &cobra.Command{
		Use:   "minmem {IMG | --kernel K} [flags] [-- ARGS...]",
		Short: "Find the least memory with which an image still gets ready",
		Long: `Find the least memory with which an image still gets ready, by bisection: the first boot has --max, and each further one
the size in the middle between what was enough and what was not. The size found is booted until it was enough --confirm
times in a row; the size one step below is booted until it failed twice.

A boot fails when it is not ready, when it takes ten times as long as the first (and 3 s), or when the app ends otherwise
than in the first boot. By default the app runs to its end; with --until output it need only start to write.`,
		Example: `  bootprof minmem app.img
  bootprof minmem server.img --until mark:listening --max 256M --step 4M --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			return o.check(cmd, args, "image", "an image, or --kernel KERNEL")
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	f.Var(&o.step, "step", "try multiples of this size, whole MiB")
	f.IntVar(&o.confirm, "confirm", 3, "how many boots in a row must be ready with the size found")
	o.toBoot.flags(cmd, qemuKernels)
	o.untilFlag(cmd)
	o.machineFlags.flags(cmd)
	_ = f.MarkHidden("memory") // fails for a flag that does not exist only
	f.Var(&o.memory, "max", "the most memory, with which the search starts, whole MiB (default: the image's, or 64M)")
	return cmd
}

// attempt is a boot with an amount of memory.
type attempt struct {
	MemoryBytes int64   `json:"memory_bytes"`
	ReadyMS     float64 `json:"ready_ms,omitempty"`
	Failed      string  `json:"failed,omitempty"` // why the memory was not enough
}

// leastMemory is the result of the search.
type leastMemory struct {
	Image     string `json:"image"`
	Until     string `json:"until"`
	Accel     string `json:"accel"`
	Machine   string `json:"machine"`
	Firmware  string `json:"firmware"`
	StepBytes int64  `json:"step_bytes"`
	MaxBytes  int64  `json:"max_bytes"`

	MinimumBytes int64     `json:"minimum_bytes"`
	Confirmed    int       `json:"confirmed_boots"` // with the minimum, all ready
	Below        *below    `json:"below,omitempty"` // absent when the minimum is one step
	Attempts     []attempt `json:"boots"`           // in order
}

// below is what was seen one step below the minimum.
type below struct {
	MemoryBytes int64  `json:"memory_bytes"`
	Boots       int    `json:"boots"`
	Failed      int    `json:"failed_boots"`
	Reason      string `json:"reason"` // of the last that failed
}

func (o *minmemOptions) run(cmd *cobra.Command, args []string) error {
	switch {
	case cmd.Flags().Changed("memory") && cmd.Flags().Changed("max"):
		return usagef("--memory and --max mean the same here: want one of them")
	case o.step < 1<<20 || o.step%(1<<20) != 0:
		return usagef("--step %s: want whole MiB", &o.step)
	case o.confirm < 1 || o.confirm > maxConfirm:
		return usagef("--confirm %d: want 1 to %d boots", o.confirm, maxConfirm)
	}
	var appArgs []string
	if at := cmd.ArgsLenAtDash(); at >= 0 {
		args, appArgs = args[:at], args[at:]
	}
	tell := o.teller(cmd.ErrOrStderr())
	p, err := o.plan(args, appArgs)
	if err != nil {
		return err
	}
	if p.q, err = o.choose(cmd, &p.config, tell); err != nil {
		return err
	}
	step := int64(o.step)
	most := p.config.MemoryBytes / step * step
	if most == 0 {
		return usagef("--step %s is more than --max %d MiB", &o.step, p.config.MemoryBytes>>20)
	}
	m := &leastMemory{
		Image: p.target.name, Accel: string(p.config.Accel), Machine: string(p.config.Machine), Firmware: string(p.config.Firmware),
		StepBytes: step, MaxBytes: most,
	}
	s := search{p: p, result: m, boot: p.boot, progress: tell.progress}
	err = s.run(cmd.Context(), o.confirm)
	tell.clear()
	if err != nil {
		return err
	}
	if o.json {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(m)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), m)
	return err
}

// String is the result in one line.
func (m *leastMemory) String() string {
	var b strings.Builder
	boots := "boots"
	if m.Confirmed == 1 {
		boots = "boot"
	}
	fmt.Fprintf(&b, "%d MiB (confirmed by %d %s", m.MinimumBytes>>20, m.Confirmed, boots)
	switch {
	case m.Below == nil:
		b.WriteString("; no less was tried")
	case m.Below.Failed == m.Below.Boots:
		fmt.Fprintf(&b, "; %d MiB failed: %s", m.Below.MemoryBytes>>20, m.Below.Reason)
	default:
		fmt.Fprintf(&b, "; %d MiB failed in %d of %d boots: %s", m.Below.MemoryBytes>>20, m.Below.Failed, m.Below.Boots, m.Below.Reason)
	}
	return b.String() + ")"
}

// search finds the least memory.
type search struct {
	p        *plan
	result   *leastMemory
	boot     func(context.Context, boottrace.Kind) (*outcome, error)
	progress func(format string, args ...any)

	end *boottrace.End // of the first boot
}

func (s *search) run(ctx context.Context, confirm int) error {
	m, step := s.result, s.result.StepBytes
	o, why, err := s.try(ctx, m.MaxBytes)
	if err != nil {
		return err
	}
	if why != nil {
		return fmt.Errorf("with %d MiB, the most that --max allows: %w", m.MaxBytes>>20, why)
	}
	m.Until, s.end = o.Until, o.End
	s.p.timeout = min(s.p.timeout, max(leastTimeout, slowdown*time.Duration(max(o.ReadyNanos, o.ExitNanos))))

	// In steps: less failed, enough was ready. No memory at all counts as failed.
	less, enough := int64(0), m.MaxBytes/step
	for {
		for enough-less > 1 {
			middle := less + (enough-less)/2
			_, why, err := s.try(ctx, middle*step)
			switch {
			case err != nil:
				return err
			case why == nil:
				enough = middle
			default:
				less = middle
			}
		}
		ok, err := s.confirm(ctx, enough*step, confirm)
		if err != nil {
			return err
		}
		if ok {
			break
		}
		if enough++; enough*step > m.MaxBytes {
			return errorf(exitFailed, "with %d MiB, the most that --max allows, it is not always ready: %s", m.MaxBytes>>20, s.lastFailure(m.MaxBytes))
		}
		less = enough - 1
	}
	m.MinimumBytes, m.Confirmed = enough*step, confirm
	if less == 0 {
		return nil
	}
	return s.confirmBelow(ctx, less*step)
}

// try boots with an amount of memory; why says that it was not enough, and err that the search cannot go on.
func (s *search) try(ctx context.Context, size int64) (o *outcome, why, err error) {
	m := s.result
	s.progress("boot %d: %d MiB", len(m.Attempts)+1, size>>20)
	s.p.config.MemoryBytes = size
	o, why = s.boot(ctx, boottrace.Timed)
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	var failed bootError
	var ended *qemu.RunError
	if why != nil && !errors.As(why, &failed) && !errors.As(why, &ended) {
		return nil, nil, why // the host's fault, which says nothing about the memory
	}
	first := len(m.Attempts) == 0
	if why == nil && !first && !sameEnd(o.End, s.end) {
		why = errors.New(endText(o.End))
	}
	a := attempt{MemoryBytes: size}
	if why != nil {
		a.Failed, _, _ = strings.Cut(why.Error(), "\n")
	} else {
		a.ReadyMS = float64(o.ReadyNanos) / 1e6
	}
	m.Attempts = append(m.Attempts, a)
	return o, why, nil
}

// boots returns how many boots with that memory were made, and how many of them failed.
func (s *search) boots(size int64) (all, failed int) {
	for _, a := range s.result.Attempts {
		if a.MemoryBytes == size {
			all++
			if a.Failed != "" {
				failed++
			}
		}
	}
	return all, failed
}

// lastFailure returns why the last boot with that memory failed.
func (s *search) lastFailure(size int64) (reason string) {
	for _, a := range s.result.Attempts {
		if a.MemoryBytes == size && a.Failed != "" {
			reason = a.Failed
		}
	}
	return reason
}

// confirm boots until size was enough n times; it was not if a single boot failed.
func (s *search) confirm(ctx context.Context, size int64, n int) (bool, error) {
	for {
		all, failed := s.boots(size)
		if failed > 0 || all >= n {
			return failed == 0, nil
		}
		if _, _, err := s.try(ctx, size); err != nil {
			return false, err
		}
	}
}

// confirmBelow boots until two boots with size have failed, or one did and the next did not.
func (s *search) confirmBelow(ctx context.Context, size int64) error {
	for {
		all, failed := s.boots(size)
		if all >= 2 {
			s.result.Below = &below{MemoryBytes: size, Boots: all, Failed: failed, Reason: s.lastFailure(size)}
			return nil
		}
		if _, _, err := s.try(ctx, size); err != nil {
			return err
		}
	}
}

func sameEnd(a, b *boottrace.End) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

func endText(e *boottrace.End) string {
	if e == nil {
		return "the app did not end"
	}
	return e.String()
}
