package bootprof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/hyperkit"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/appconfig"
	"github.com/firstlight-boot/firstlight/kernel/link"
	"github.com/firstlight-boot/firstlight/profile"
)

// hyperkitOptions are the flags of bootprof hyperkit.
type hyperkitOptions struct {
	toBoot
	memory               appconfig.Size
	timed                int
	until, out           string
	timeout              time.Duration
	json, quiet, verbose bool
	dryRun               bool
}

func hyperkitCommand() *cobra.Command {
	var o hyperkitOptions
	cmd := &cobra.Command{
		Use:   "hyperkit {IMG | --kernel BZIMAGE} [flags] [-- ARGS...]",
		Short: "Boot an image, or any bzImage, under hyperkit on macOS",
		Long: `Boot an image that imgbuild made, or any bzImage, under hyperkit, the hypervisor of macOS on x86-64, and measure how long it
takes until its first output on the serial port, or its end. ARGS replace the app's own arguments.

Of an image, the kernel goes to hyperkit as a bzImage, in a temporary file; bootprof kernel writes one to keep. --dry-run
prints the command line on every system, with the bzImage in the current folder. hyperkit splits its options at commas, so a
file whose name has one cannot be passed. $FIRSTLIGHT_HYPERKIT names another hyperkit than that of PATH.

hyperkit has neither a mark port nor an exit port: the phases before the first output are one, and the app's exit code is
not known. Its disks are on PCI, for which this version's kernel has no driver: an image's kernel comes up and says so.`,
		Example: `  bootprof hyperkit app.img --dry-run
  bootprof kernel app.img -o app.bzImage && bootprof hyperkit --kernel app.bzImage --disk app.img
  bootprof hyperkit --kernel vmlinuz --initrd initrd.img --append "console=ttyS0 panic=-1" -n 10`,
		Args: func(cmd *cobra.Command, args []string) error {
			return o.check(cmd, args, "image", "an image, or --kernel BZIMAGE")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var appArgs []string
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				args, appArgs = args[:at], args[at:]
			}
			return o.run(cmd, args, appArgs)
		},
	}
	o.toBoot.flags(cmd, "Linux's bzImage, or what bootprof kernel writes")
	f := cmd.Flags()
	f.Var(&o.memory, "memory", "the guest's RAM, whole MiB, as 64M (default: the image's, or 64M)")
	f.IntVarP(&o.timed, "timed", "n", 1, "how many timed boots to make")
	f.StringVar(&o.until, "until", "", "when the boot is ready: output or exit (default: output or exit)")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "how long each boot may take before it is stopped and has failed")
	f.StringVarP(&o.out, "output", "o", "", "folder for the recording and the profiles")
	f.BoolVar(&o.json, "json", false, "print one JSON object instead of text")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no progress and no notes")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say how things are done")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the command that starts hyperkit, and do not")
	// It fails for a flag that does not exist only.
	_ = cmd.RegisterFlagCompletionFunc("until", cobra.FixedCompletions([]string{"output", "exit"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// hyperkitPlan is what to boot.
type hyperkitPlan struct {
	target *target
	config hyperkit.Config
	until  string
	kernel []byte // of an image: its bzImage, which goes to the file config.Kernel
}

// plan settles what to boot, without a look at the host.
func (o *hyperkitOptions) plan(args, appArgs []string) (*hyperkitPlan, error) {
	p := &hyperkitPlan{until: o.until}
	c := &p.config
	c.Disks, c.Initrd, c.CommandLine, c.MemoryBytes = o.disks, o.initrd, o.line, int64(o.memory)
	if o.kernel != "" {
		var err error
		if p.target, err = openBzImage(o.kernel); err != nil {
			return nil, err
		}
		c.Kernel = o.kernel
	} else {
		t, elf, err := imageKernel(args[0])
		if err != nil {
			return nil, err
		}
		if p.kernel, err = link.BzImage(elf); err != nil {
			return nil, usagef("%s: %w; build it again with this version's imgbuild", args[0], err)
		}
		p.target = t
		c.Kernel = t.stem() + ".bzImage"
		c.Disks = append(t.disks, o.disks...)
		c.MemoryBytes = first(c.MemoryBytes, t.params.Machine.MemoryBytes)
		p.until = first(p.until, t.params.Ready)
	}
	if p.until != "" && p.until != boottrace.UntilOutput && p.until != boottrace.UntilExit {
		return nil, usagef("--until %s: hyperkit shows no marks; want output or exit", p.until)
	}
	if len(appArgs) > 0 {
		c.CommandLine = p.target.appendArgs(c.CommandLine, appArgs)
	}
	if _, err := c.Args(); err != nil {
		return nil, usagef("%w", err)
	}
	return p, p.check()
}

// check looks at the files as hyperkit will.
func (p *hyperkitPlan) check() error {
	initrd := int64(-1)
	for _, path := range append([]string{p.config.Initrd}, p.config.Disks...) {
		if path == "" {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return usagef("%w", err)
		}
		st, err := f.Stat()
		f.Close()
		if err != nil {
			return usagef("%w", err)
		}
		if st.IsDir() {
			return usagef("%s is a folder", path)
		}
		if path == p.config.Initrd {
			initrd = st.Size()
		}
	}
	name, r, size := p.target.name, io.ReaderAt(bytes.NewReader(p.kernel)), int64(len(p.kernel))
	if p.kernel == nil {
		f, err := os.Open(p.config.Kernel)
		if err != nil {
			return usagef("%w", err)
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return usagef("%w", err)
		}
		r, size = f, st.Size()
	}
	if err := p.config.CheckKernel(r, size, initrd); err != nil {
		return usagef("%s: %w", name, err)
	}
	return nil
}

// openBzImage opens a kernel for hyperkit. Of which kind it is decides how arguments of the app are spelt.
func openBzImage(path string) (*target, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("%w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, usagef("%w", err)
	} else if st.IsDir() {
		return nil, usagef("%s is a folder, not a kernel", path)
	}
	t := &target{name: path, kernel: path, flavour: image.FlavourLinux}
	at, name := make([]byte, 2), make([]byte, len("Firstlight\x00"))
	if _, err := f.ReadAt(at, 0x20e); err == nil { // kernel_version, relative to 0x200
		if _, err := f.ReadAt(name, 0x200+int64(at[0])+int64(at[1])<<8); err == nil && string(name) == "Firstlight\x00" {
			t.flavour = image.FlavourNative
		}
	}
	return t, nil
}

func (o *hyperkitOptions) run(cmd *cobra.Command, args, appArgs []string) error {
	started := time.Now()
	tell := &teller{w: cmd.ErrOrStderr(), terminal: isTerminal(cmd.ErrOrStderr()), quiet: o.quiet, verbose: o.verbose}
	switch {
	case o.timed < 1 || o.timed > maxBoots:
		return usagef("-n %d: want 1 to %d boots", o.timed, maxBoots)
	case o.timeout <= 0:
		return usagef("--timeout %v: want a time of more than 0", o.timeout)
	}
	p, err := o.plan(args, appArgs)
	if err != nil {
		return err
	}
	warn := func() {
		if p.target.flavour == image.FlavourNative {
			tell.note("hyperkit's disks are on PCI, for which this version's kernel has no driver: it will not find its root")
		}
	}
	if o.dryRun {
		warn()
		path, err := hyperkit.Find()
		if err != nil {
			path = "hyperkit"
		}
		line, err := hyperkit.CommandLine(path, p.config)
		if err != nil {
			return err
		}
		if p.kernel != nil {
			tell.note("the kernel has to be in %s: bootprof kernel %s -o %[1]s", p.config.Kernel, args[0])
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
		return err
	}
	path, err := hyperkit.Find()
	if err != nil {
		return &exitError{exitHost, err}
	}
	warn()
	if p.kernel != nil {
		remove, err := p.keepKernel()
		if err != nil {
			return err
		}
		defer remove()
	}
	if line, err := hyperkit.CommandLine(path, p.config); err == nil {
		tell.detail("%s", line)
	}
	dir, err := openFolder(first(o.out, p.target.stem()+".bootprof"))
	if err != nil {
		if o.out != "" {
			return err
		}
		tell.note("%v", err)
	}
	rec := &boottrace.Recording{
		Image: p.target.name, Flavour: p.target.flavour, VMM: "hyperkit", Accel: "hypervisor.framework", Machine: "hyperkit", Firmware: "kexec",
		MemoryBytes: uint64(first(p.config.MemoryBytes, hyperkit.DefaultMemory)), TimeNanos: started.UnixNano(),
		PrepareNanos: time.Since(started).Nanoseconds(),
	}
	var tails [][]byte
	pace := newPace(o.timed)
	for i := range o.timed {
		tell.progress("boot %d of %d%s", i+1, o.timed, pace.left(i))
		run, tail, err := p.boot(cmd.Context(), path, o.timeout)
		if err != nil {
			tell.clear()
			if dir != nil {
				dir.giveUp()
			}
			return inSeries(err, "boot", i, o.timed)
		}
		rec.Runs, tails = append(rec.Runs, *run), append(tails, tail)
	}
	tell.clear()
	var files []string
	if dir != nil {
		if files, err = dir.write(rec); err != nil {
			return errorf(exitFailed, "the boot is done, but its profiles could not be written: %w", err)
		}
	}
	if o.json {
		return profile.NewObject(rec, files).WriteJSON(cmd.OutOrStdout())
	}
	return (&qemuOptions{}).report(cmd.OutOrStdout(), rec, tails, files)
}

// keepKernel writes the bzImage to a temporary file.
func (p *hyperkitPlan) keepKernel() (remove func(), err error) {
	dir, err := os.MkdirTemp("", "bootprof-")
	if err != nil {
		return nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	p.config.Kernel = filepath.Join(dir, "kernel")
	if err := os.WriteFile(p.config.Kernel, p.kernel, 0o600); err != nil {
		remove()
		return nil, err
	}
	if _, err := p.config.Args(); err != nil {
		remove()
		return nil, usagef("%w; $TMPDIR names the folder", err)
	}
	return remove, nil
}

// boot makes one run. What the guest says is kept up to a limit, and its end beside it.
func (p *hyperkitPlan) boot(ctx context.Context, path string, timeout time.Duration) (*boottrace.Run, []byte, error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	enough, stop := context.WithCancel(limited)
	defer stop()
	run := &boottrace.Run{Kind: boottrace.Timed}
	var tail []byte
	r, err := hyperkit.Run(enough, path, p.config, func(at time.Duration, b []byte) {
		if run.OutputBytes == 0 && p.until != boottrace.UntilExit {
			run.Until, run.ReadyNanos = boottrace.UntilOutput, at.Nanoseconds()
			if p.until == boottrace.UntilOutput {
				stop()
			}
		}
		run.OutputBytes += uint64(len(b))
		run.Output = append(run.Output, b[:min(len(b), boottrace.MaxOutput-len(run.Output))]...)
		tail = append(tail, b...)
		tail = tail[max(0, len(tail)-shownEnd):]
	})
	stopped := enough.Err() != nil && limited.Err() == nil
	if stopped {
		return run, tail, nil
	}
	ended := strings.TrimSpace(strings.ReplaceAll(string(tail), "\r", ""))
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, nil, errorf(exitFailed, "the guest did not exit within %v: a hang, or give it more with --timeout; a server ends its boot with --until output\n%w\nthe console ended with:\n%s", timeout, err, ended)
	}
	if err != nil {
		return nil, nil, errorf(exitFailed, "%w\nthe console ended with:\n%s", err, ended)
	}
	run.ExitNanos = r.Wall.Nanoseconds()
	if run.ReadyNanos == 0 {
		run.Until, run.ReadyNanos = boottrace.UntilExit, run.ExitNanos
	}
	// Our kernel has no other way to say that it gave up: its end is a reset, like every other.
	gaveUp := p.target.flavour == image.FlavourNative && strings.HasPrefix(ended[strings.LastIndexByte(ended, '\n')+1:], "firstlight: ")
	switch {
	case r.End == hyperkit.TripleFault:
		return nil, nil, errorf(exitFailed, "the guest crashed (triple fault) after %v\nthe console ended with:\n%s", r.Wall.Round(time.Millisecond), ended)
	case p.until == boottrace.UntilOutput:
		return nil, nil, errorf(exitFailed, "the guest ended after %v and was never ready (--until output)", r.Wall.Round(time.Millisecond))
	case gaveUp:
		return nil, nil, errorf(exitFailed, "the boot failed\nthe console ended with:\n%s", ended)
	}
	return run, tail, nil
}
