package bootprof

import "github.com/spf13/cobra"

// toBoot are the flags that say what is booted, where that is no image.
type toBoot struct {
	kernel, initrd, line string
	flavour              string
	disks                []string
}

// flags adds all of them but --flavour; kernels says what --kernel may be.
func (o *toBoot) flags(cmd *cobra.Command, kernels string) {
	f := cmd.Flags()
	f.StringVar(&o.kernel, "kernel", "", "boot this kernel: "+kernels)
	f.StringVar(&o.initrd, "initrd", "", "initial RAM disk for --kernel")
	f.StringVar(&o.line, "append", "", "kernel command line")
	f.StringArrayVar(&o.disks, "disk", nil, "attach a raw disk image, read-only, after the image's own; may be repeated")
}

// qemuKernels says what kernels QEMU boots.
const qemuKernels = "an ELF file with a PVH note, or Linux's bzImage"

// check looks at a command's arguments but the app's own: one of what one names, or none if there is
// --kernel. want says that in whole.
func (o *toBoot) check(cmd *cobra.Command, args []string, one, want string) error {
	n := len(args)
	if at := cmd.ArgsLenAtDash(); at >= 0 {
		n = at
	}
	switch {
	case n > 1:
		return usagef("%q is one argument too many: want one %s; the app's own arguments come after --", args[1], one)
	case n == 0 && o.kernel == "":
		return usagef("want %s; see bootprof %s --help", want, cmd.Name())
	case n == 1 && o.kernel != "":
		return usagef("%q and --kernel %s: want one of the two; a disk for a kernel is given by --disk", args[0], o.kernel)
	case n == 1 && args[0] == "":
		return usagef("the image's name is empty")
	case n == 1 && o.initrd != "":
		return usagef("--initrd goes with --kernel; an image brings its own")
	case n == 1 && o.flavour != "":
		return usagef("--flavour goes with --kernel; an image says itself what its kernel is")
	}
	return nil
}

// untilFlag adds the flag that says when a boot under QEMU is ready.
func (o *qemuOptions) untilFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.until, "until", "", "when the boot is ready: entry, output, exit or mark:NAME (default: output or exit)")
	// It fails for a flag that does not exist only.
	_ = cmd.RegisterFlagCompletionFunc("until", cobra.FixedCompletions([]string{"entry", "output", "exit", "mark:"}, cobra.ShellCompDirectiveNoFileComp))
}

// kindFlags adds the flags about the kind of the kernel, and the marks that it has besides its own.
func (o *qemuOptions) kindFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.flavour, "flavour", "", "what --kernel is: native, linux, osv or other (default: as its headers say; osv has to be said)")
	f.StringArrayVar(&o.marks, "mark", nil, "NAME=SYMBOL, NAME=ADDRESS: add a mark where the kernel first executes it (under TCG); NAME=port:N=V: where it first writes the byte V to I/O port N; may be repeated")
	// It fails for a flag that does not exist only.
	_ = cmd.RegisterFlagCompletionFunc("mark", o.completeMark)
	_ = cmd.RegisterFlagCompletionFunc("flavour", cobra.FixedCompletions(flavours, cobra.ShellCompDirectiveNoFileComp))
}
