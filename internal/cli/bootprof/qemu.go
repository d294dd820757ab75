package bootprof

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/appconfig"
	"github.com/firstlight-boot/firstlight/profile"
	"github.com/firstlight-boot/firstlight/qemu"
)

// machineFlags say what the boot runs on.
type machineFlags struct {
	machine, firmware, accel string
	memory                   appconfig.Size
	cpus                     int
	timeout                  time.Duration
	json, quiet, verbose     bool
}

func (m *machineFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&m.machine, "machine", "", "microvm, q35 or pc (default: the image's, or microvm)")
	f.StringVar(&m.firmware, "firmware", "", "qboot or seabios (default: qboot on microvm, seabios elsewhere)")
	f.StringVar(&m.accel, "accel", string(qemu.Auto), "auto, kvm or tcg; auto takes KVM if a small guest ran under it")
	f.Var(&m.memory, "memory", "the guest's RAM, whole MiB, as 64M (default: the image's, or 64M)")
	f.IntVar(&m.cpus, "smp", 1, "how many virtual CPUs the guest has")
	f.DurationVar(&m.timeout, "timeout", time.Minute, "how long each boot may take before it is stopped and has failed")
	f.BoolVar(&m.json, "json", false, "print one JSON object instead of text")
	f.BoolVarP(&m.quiet, "quiet", "q", false, "no progress and no notes")
	f.BoolVarP(&m.verbose, "verbose", "v", false, "say how things are done, and list the marks on the clocks of host and guest")
	for flag, values := range map[string][]string{
		"machine": {"microvm", "q35", "pc"}, "firmware": {"qboot", "seabios"}, "accel": {"auto", "kvm", "tcg"},
	} {
		// It fails for a flag that does not exist only.
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

// config returns the machine; hints are the image's, which flags win over.
func (m *machineFlags) config(hints image.Machine) (qemu.Config, error) {
	if m.cpus < 1 || m.cpus > qemu.MaxCPUs {
		return qemu.Config{}, usagef("--smp %d: want 1 to %d", m.cpus, qemu.MaxCPUs)
	}
	if m.timeout <= 0 {
		return qemu.Config{}, usagef("--timeout %v: want a time of more than 0", m.timeout)
	}
	c := qemu.Config{
		CPUs:        m.cpus,
		Machine:     qemu.Machine(first(m.machine, hints.Type, string(qemu.MicroVM))),
		MemoryBytes: int64(first(m.memory, appconfig.Size(hints.MemoryBytes), qemu.DefaultMemory)),
	}
	if c.MemoryBytes == 1<<20 {
		return qemu.Config{}, usagef("--memory 1M: kernels begin at 1 MiB, and the machine spins without one: want at least 2M")
	}
	usual := qemu.SeaBIOS
	if c.Machine == qemu.MicroVM {
		usual = qemu.QBoot
	}
	c.Firmware = first(qemu.Firmware(m.firmware), usual)
	return c, nil
}

// first returns the first of its arguments that is not zero, or zero.
func first[T comparable](values ...T) T {
	var zero T
	for _, v := range values {
		if v != zero {
			return v
		}
	}
	return zero
}

func (m *machineFlags) teller(w io.Writer) *teller {
	return &teller{w: w, terminal: isTerminal(w), quiet: m.quiet, verbose: m.verbose}
}

// choose finds QEMU and settles the accelerator of c.
func (m *machineFlags) choose(cmd *cobra.Command, c *qemu.Config, tell *teller) (*qemu.QEMU, error) {
	want := qemu.Accel(m.accel)
	if !slices.Contains([]qemu.Accel{qemu.Auto, qemu.KVM, qemu.TCG}, want) {
		return nil, usagef("--accel %q: want auto, kvm or tcg", m.accel)
	}
	check := *c
	check.Accel = qemu.TCG // which any machine may have
	if err := check.Check(); err != nil {
		return nil, err
	}
	q, err := qemu.Find(cmd.Context(), "")
	if err != nil {
		return nil, err
	}
	choice, err := q.Choose(cmd.Context(), want)
	if err != nil {
		return nil, err
	}
	tell.detail("QEMU %v at %s; accelerator %s: %s", q.Version, q.Path, choice.Accel, choice.Reason)
	c.Accel = choice.Accel
	return q, nil
}

// qemuOptions are the flags of bootprof qemu.
type qemuOptions struct {
	machineFlags
	toBoot
	timed, counting int
	noFloor         bool
	until           string
	out             string
	maxBoot         time.Duration
	maxMemory       appconfig.Size
	maxInstructions uint64
	dryRun          bool
	profile         profiles
	profileRuns     int
	marks           []string
	io              bool
	balloon         bool
	verifyKey       string
}

func qemuCommand() *cobra.Command {
	var o qemuOptions
	cmd := &cobra.Command{
		Use:   "qemu {IMG | --kernel K} [flags] [-- ARGS...]",
		Short: "Boot an image, or any kernel, under QEMU",
		Long: `Boot an image that imgbuild made, or any kernel that QEMU can boot, and show where the time of the boot went.

A boot lasts from the instant before QEMU is started until it is ready: by default until the first byte of the app's
output, or its exit; the app then runs to its end. With --until entry, output or mark:NAME the VM is stopped as soon as it
is ready, as suits a server. Of a Linux whose symbols
are known output means the first that its init writes to the console, of an OSv the mark with which it starts the app, and of any
other kernel the first byte on the console.

Wall time and guest instructions are measured in different boots. With -n 2 or more, a guest that exits at once is booted
in between: the floor that no boot on this host can go below. ARGS replace the app's own arguments.

The recording and the profiles are written to the folder of -o, by default NAME.bootprof for an image called NAME.img.`,
		Example: `  bootprof qemu app.img
  bootprof qemu app.img -n 20 --until exit -- --greeting hello
  bootprof qemu app.img --max-boot 250ms --max-instructions 1600000 --json
  bootprof qemu --kernel vmlinux --initrd initrd.img --append "console=ttyS0 panic=-1" --until exit
  go tool pprof -top app.bootprof/boot.pb.gz`,
		Args: func(cmd *cobra.Command, args []string) error {
			return o.check(cmd, args, "image", "an image, or --kernel KERNEL")
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	f.IntVarP(&o.timed, "timed", "n", 1, "how many timed boots to make")
	f.IntVar(&o.counting, "counting", 1, "how many counting boots to make, under TCG whatever --accel says")
	f.BoolVar(&o.noFloor, "no-floor", false, "do not measure the floor between two timed boots or more")
	f.StringVarP(&o.out, "output", "o", "", "folder for the recording and the profiles")
	f.DurationVar(&o.maxBoot, "max-boot", 0, "budget: the median boot may take this long, as 100ms")
	f.Var(&o.maxMemory, "max-memory", "budget: this much guest memory may be touched, as 8M")
	f.Uint64Var(&o.maxInstructions, "max-instructions", 0, "budget: the boot may execute this many guest instructions")
	f.Var(&o.profile, "profile", "exact: each instruction of a counting boot by its calls; exact,memory: with the functions that touched memory; sample: registers now and then")
	f.IntVar(&o.profileRuns, "profile-runs", 0, "how many sampling boots to make (default: as many as 300 samples take, at most 20)")
	f.BoolVar(&o.balloon, "balloon", false, "give the guest a virtio memory balloon, and record what its driver tells of the memory when the guest is ready")
	f.BoolVar(&o.io, "io", false, "record each disk request: with its time in a boot of its own, and in the counting boots, as --profile=exact does too")
	f.StringVar(&o.verifyKey, "verify-key", "", "boot the image only if it is signed by the owner of the Ed25519 public key in the PEM file `PUB`")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the command that starts QEMU, and do not")
	o.toBoot.flags(cmd, qemuKernels)
	o.kindFlags(cmd)
	o.untilFlag(cmd)
	o.machineFlags.flags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("profile", cobra.FixedCompletions([]string{"exact", "exact,memory", "sample", "exact,sample"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// budget is what a boot may cost: by the flags, or else by the image.
func (o *qemuOptions) budget(cmd *cobra.Command, params *image.Params) (boottrace.Budget, error) {
	var b boottrace.Budget
	if params != nil {
		if n := params.Budgets.BootNanos; n > 0 {
			b.Boot = new(time.Duration(n))
		}
		if n := params.Budgets.MemoryBytes; n > 0 {
			b.MemoryBytes = new(uint64(n))
		}
		if n := params.Budgets.Instructions; n > 0 {
			b.Instructions = new(uint64(n))
		}
	}
	if cmd.Flags().Changed("max-boot") {
		if o.maxBoot <= 0 {
			return b, usagef("--max-boot %v: want a time of more than 0", o.maxBoot)
		}
		b.Boot = &o.maxBoot
	}
	if cmd.Flags().Changed("max-memory") {
		b.MemoryBytes = new(uint64(o.maxMemory))
	}
	if cmd.Flags().Changed("max-instructions") {
		b.Instructions = &o.maxInstructions
	}
	return b, nil
}

func (o *qemuOptions) run(cmd *cobra.Command, args []string) error {
	started := time.Now()
	tell := o.teller(cmd.ErrOrStderr())
	switch {
	case o.timed < 0 || o.counting < 0:
		return usagef("-n %d, --counting %d: want no negative number", o.timed, o.counting)
	case o.timed == 0 && o.counting == 0:
		return usagef("-n 0 and --counting 0: want at least one boot")
	}
	var appArgs []string
	if at := cmd.ArgsLenAtDash(); at >= 0 {
		args, appArgs = args[:at], args[at:]
	}
	if o.profile.exact && o.counting == 0 {
		return usagef("--profile=%s needs a counting boot, and --counting 0 makes none", &o.profile)
	}
	if o.profileRuns < 0 || o.profileRuns > maxBoots || o.profileRuns > 0 && !o.profile.sample {
		return usagef("--profile-runs %d: want 1 to %d, with --profile=sample", o.profileRuns, maxBoots)
	}
	if o.verifyKey != "" {
		if len(args) != 1 {
			return usagef("--verify-key goes with an image: a kernel by itself has no signature")
		}
		if err := verifyImage(cmd.Context(), args[0], o.verifyKey); err != nil {
			return err
		}
	}
	p, err := o.plan(args, appArgs)
	if err != nil {
		return err
	}
	budget, err := o.budget(cmd, p.target.params)
	if err != nil {
		return err
	}
	if p.q, err = o.choose(cmd, &p.config, tell); err != nil {
		return err
	}
	if o.cpus > 1 && o.counting > 0 {
		tell.note("with %d CPUs the counts depend on how those take turns: they are exact, and differ from run to run", o.cpus)
	}
	if !o.dryRun {
		if err := o.setMilestones(p, tell); err != nil {
			return err
		}
	}
	if o.dryRun {
		first := p.target.unpacked(&p.config)
		line, err := p.q.CommandLine(p.config)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), first+line)
		return err
	}
	if tell.verbose {
		if line, err := p.q.CommandLine(p.config); err == nil {
			tell.detail("%s", line)
		}
	}
	dir, err := openFolder(first(o.out, p.target.stem()+".bootprof"))
	if err != nil {
		if o.out != "" {
			return err
		}
		tell.note("%v", err)
	}

	if p.io {
		if err := p.setDisks(tell); err != nil {
			return err
		}
	}
	rec := p.newRecording(started)
	s := series{timed: o.timed, counting: o.counting, traced: o.io && len(p.config.Disks) > 0, floor: o.timed >= 2 && !o.noFloor, mustCount: cmd.Flags().Changed("counting") || o.profile.exact}
	tails, err := s.run(cmd.Context(), p, rec, tell)
	if err == nil && o.profile.sample {
		rec.Sampled, err = p.sampled(cmd.Context(), rec, o.profileRuns, tell)
	}
	tell.clear()
	if err == nil && p.io {
		p.mapRequests(rec, tell)
	}
	if err != nil {
		if dir != nil {
			dir.giveUp()
		}
		return err
	}
	rec.Exact = p.exact
	for _, n := range p.notes {
		tell.note("%s", n)
	}
	var files []string
	if dir != nil {
		if files, err = dir.write(rec); err != nil {
			return errorf(exitFailed, "the boot is done, but its profiles could not be written: %w", err)
		}
	}
	if o.json {
		err = profile.NewObject(rec, files).WriteJSON(cmd.OutOrStdout())
	} else {
		err = o.report(cmd.OutOrStdout(), rec, tails, files)
	}
	if err != nil {
		return err
	}
	return o.judge(rec, budget)
}

// plan settles what to boot, without a look at the host.
func (o *qemuOptions) plan(args, appArgs []string) (*plan, error) {
	var t *target
	var err error
	if o.kernel != "" {
		t, err = openKernel(o.kernel, o.flavour)
	} else if t, err = openLinux(args[0]); t == nil && err == nil {
		t, err = openImage(args[0])
	}
	if err != nil {
		return nil, err
	}
	line := t.osvLine(o.line, o.disks, o.flavour)
	p := &plan{target: t, until: o.until, timeout: o.timeout, profile: o.profile, io: o.io || o.profile.exact, mustIO: o.io}
	var hints image.Machine
	if t.params != nil {
		hints = t.params.Machine
		p.until = first(p.until, t.params.Ready)
	}
	if p.until != "" {
		if err := new(appconfig.Ready).Set(p.until); err != nil {
			return nil, usagef("--until: %w", err)
		}
	}
	switch {
	case strings.HasPrefix(p.until, "listen:"):
		return nil, usagef("--until %s: the guest has no network yet, so nothing can listen in it; use --until mark:NAME, and let the app write NAME to /dev/mark when it listens", p.until)
	}
	if p.config, err = o.config(hints); err != nil {
		return nil, err
	}
	c := &p.config
	c.Balloon, c.Monitor = o.balloon, o.balloon
	c.Legacy = t.flavour != image.FlavourNative
	c.Kernel, c.Initrd = t.kernel, first(o.initrd, t.initrd)
	c.Disks = slices.Concat(t.disks, o.disks)
	for _, path := range slices.Concat([]string{o.initrd}, o.disks) {
		if path == "" {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, usagef("%w", err)
		}
		f.Close()
	}
	c.Append = line
	if o.verbose && t.flavour == image.FlavourNative {
		c.Append = strings.TrimSpace(c.Append + " verbose=1")
	}
	if c.Append, err = t.commandLine(c.Append, appArgs); err != nil {
		return nil, err
	}
	return p, nil
}

// isTerminal tells whether a stream is one.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
