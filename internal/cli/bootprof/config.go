package bootprof

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/internal/appconfig"
	"github.com/firstlight-boot/firstlight/machinefile"
	"github.com/firstlight-boot/firstlight/qemu"
)

// configOptions are the flags of bootprof config.
type configOptions struct {
	format, out, path, line, accel, name, container string
	memory                                          appconfig.Size
	quiet                                           bool
}

func configCommand() *cobra.Command {
	var o configOptions
	var formats []string
	for _, f := range machinefile.Formats() {
		formats = append(formats, f.Name)
	}
	cmd := &cobra.Command{
		Use:   "config IMG --for {" + strings.Join(formats, "|") + "} [flags] [-- ARGS...]",
		Short: "Write the file that another program starts an image by",
		Long: `Write the configuration file by which another program starts the virtual machine of an image: QEMU (-readconfig),
Firecracker (--config-file), libvirt (domain XML) or KubeVirt (VirtualMachineInstance). The machine is the smallest that the
image needs: one CPU, its memory, a serial console, the image as a read-only disk, no network. ARGS replace the app's own
arguments. The same image and flags give the same file, but for --accel auto, which tries this host.

The file names the image by its absolute path, unless --path says how the other program is to find it. A name that a format
cannot hold is refused. What a monitor still cannot boot is said in a note; docs/machine-files.md has the details.`,
		Example: `  bootprof config app.img --for qemu -o app.cfg
  qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -cpu max -readconfig app.cfg
  bootprof config app.img --for libvirt --accel kvm -o app.xml
  bootprof config app.img --for firecracker --path /app.img -o vm.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				args = args[:at]
			}
			return oneImage(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0], args[1:]) },
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "for", "", "the program that reads the file: "+strings.Join(formats, ", "))
	f.StringVarP(&o.out, "output", "o", "-", "the file to write; - is standard output")
	f.StringVar(&o.path, "path", "", "the image's path in the file (default: its absolute path)")
	f.StringVar(&o.name, "name", "", "the machine's name (default: the image's)")
	f.StringVar(&o.line, "append", "", "kernel command line")
	f.Var(&o.memory, "memory", "the guest's RAM, whole MiB, as 64M (default: the image's, or 64M)")
	f.StringVar(&o.accel, "accel", string(qemu.Auto), "for QEMU and libvirt: auto, kvm or tcg; auto takes KVM if a small guest ran under it here")
	f.StringVar(&o.container, "container", "", "for KubeVirt: the container image that has kernel and disk (default: NAME:latest)")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no notes")
	for flag, values := range map[string][]string{"for": formats, "accel": {"auto", "kvm", "tcg"}} {
		// It fails for a flag that does not exist only.
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

func (o *configOptions) run(cmd *cobra.Command, img string, appArgs []string) error {
	var format *machinefile.Format
	var names []string
	for _, f := range machinefile.Formats() {
		if names = append(names, f.Name); f.Name == o.format {
			format = &f
		}
	}
	if format == nil {
		return usagef("--for %q: want %s", o.format, strings.Join(names, ", "))
	}
	t, err := openImage(img)
	if err != nil {
		return err
	}
	m := machinefile.Machine{
		Name: first(o.name, t.stem()), Image: o.path, CommandLine: o.line, Accel: qemu.Accel(o.accel), Container: o.container,
		MemoryBytes: first(int64(o.memory), t.params.Machine.MemoryBytes),
	}
	if m.Image == "" {
		if m.Image, err = filepath.Abs(img); err != nil {
			return usagef("%w; say with --path where the image will be", err)
		}
	}
	if len(appArgs) > 0 {
		m.CommandLine = t.appendArgs(m.CommandLine, appArgs)
	}
	if m.Accel == qemu.Auto && (format.Name == "qemu" || format.Name == "libvirt") {
		// Where there is no QEMU, the file is for another host, and KVM may be there.
		if q, err := qemu.Find(cmd.Context(), ""); err == nil {
			if choice, err := q.Choose(cmd.Context(), qemu.Auto); err == nil {
				m.Accel = choice.Accel
			}
		}
	}
	data, err := format.Write(m)
	if err != nil {
		return usagef("%w; --path gives the image another path, as that of a link", err)
	}
	if format.Lacks != "" {
		tell := &teller{w: cmd.ErrOrStderr(), quiet: o.quiet}
		tell.note("%s", format.Lacks)
	}
	return writeDerived(cmd, img, o.out, data)
}
