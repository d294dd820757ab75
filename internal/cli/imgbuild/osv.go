package imgbuild

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/bootfsmod"
	"github.com/firstlight-boot/firstlight/fsmod/rofs1mod"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/appconfig"
	"github.com/firstlight-boot/firstlight/internal/kernelbuild"
	"github.com/firstlight-boot/firstlight/tree"
)

// osvOptions are flags that only images for OSv have a use for.
type osvOptions struct {
	rofsVersion int
	bootSector  string
}

func (o *osvOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&o.rofsVersion, "rofs-version", 0, "`VERSION` of ROFS: 1, which OSv mounts, or 2 (default 2; 1 with --flavour osv)")
	f.StringVar(&o.bootSector, "boot-sector", "", "OSv's boot.bin, a `FILE`: --kernel is its lzloader.elf, and the disk boots by itself")
}

// osvNoPlace are flags whose values OSv's layout has no place for.
var osvNoPlace = []string{"memory", "ready", "max-boot", "max-memory", "max-instructions"}

// module returns the name of the module for a root called name.
func (o *osvOptions) module(name, flavour string) (string, error) {
	version := o.rofsVersion
	if version == 0 && flavour == image.FlavourOSv {
		version = 1
	}
	switch {
	case name != "rofs" && o.rofsVersion != 0:
		return "", usagef("--rofs-version is of ROFS, and the root is %s", name)
	case version < 0 || version > 2:
		return "", usagef("--rofs-version %d is not known; there are 1 and 2", version)
	case name == "rofs" && version == 1:
		return "rofs1", nil
	}
	return name, nil
}

// checkFlags refuses what an OSv image cannot do.
func (o *osvOptions) checkFlags(cmd *cobra.Command, flavour, module string) error {
	if flavour != image.FlavourOSv {
		if o.bootSector != "" {
			return usagef("--boot-sector is OSv's: it needs --flavour %s", image.FlavourOSv)
		}
		if module == "rofs1" || module == "bootfs" {
			return usagef("only OSv has a driver for %s: it needs --flavour %s, or --no-kernel for the file system alone", module, image.FlavourOSv)
		}
		if first(flavour, image.FlavourNative) == image.FlavourNative && module != "rofs" && module != "ramfs" {
			return usagef("Firstlight's kernel has no driver for %s: take --rofs or --ramfs, --kernel FILE with --flavour %s or %s, or --no-kernel for the file system alone",
				module, image.FlavourLinux, image.FlavourOSv)
		}
		return nil
	}
	for _, name := range osvNoPlace {
		if cmd.Flags().Changed(name) {
			return usagef("OSv's layout has no place for --%s; give it to bootprof qemu", name)
		}
	}
	if _, ok := image.OSvRoot(module); !ok {
		switch module {
		case "rofs":
			return usagef("OSv mounts version 1 of ROFS, not version 2; leave --rofs-version out")
		case "ramfs", "bootfs":
			return usagef("OSv's RAM file system is linked into its kernel, so an image cannot hold it; use --rofs")
		}
		return usagef("OSv mounts no %s; use --rofs", module)
	}
	return nil
}

// planOSvKernel looks at the kernel: a file that stays beside the disk, or a loader that is put on it.
func (o *buildOptions) planOSvKernel(p *plan) error {
	if o.kernel == "" {
		return usagef("--flavour %s needs --kernel FILE: loader-stripped.elf, which stays beside the disk, or loader.img, which goes onto it; none is built in", o.flavour)
	}
	read := func(name string) ([]byte, error) {
		st, err := os.Stat(name)
		if err == nil && !st.Mode().IsRegular() {
			err = errors.New("not a regular file")
		}
		if err == nil && st.Size() > image.MaxKernel {
			err = fmt.Errorf("%s long; a kernel is at most %s", formatSize(st.Size()), formatSize(image.MaxKernel))
		}
		var b []byte
		if err == nil {
			b, err = os.ReadFile(name)
		}
		if err != nil {
			return nil, usageError{fmt.Errorf("%s: %w", name, err)}
		}
		return b, nil
	}
	b, err := read(o.kernel)
	if err != nil {
		return fmt.Errorf("--kernel: %w", err)
	}
	p.osv, p.osvKernel = &image.OSv{}, o.kernel
	p.kernel = kernelbuild.Kernel{Origin: filepath.Base(o.kernel)}
	elf := len(b) > 20 && string(b[:4]) == "\x7fELF"
	switch {
	case o.osv.bootSector != "":
		boot, err := read(o.osv.bootSector)
		if err != nil {
			return fmt.Errorf("--boot-sector: %w", err)
		}
		if p.osv.Loader, err = image.OSvLoader(boot, b); err != nil {
			return fmt.Errorf("--boot-sector %s, --kernel %s: %w", o.osv.bootSector, o.kernel, err)
		}
	case image.IsOSvLoader(b):
		p.osv.Loader = b
	case elf && b[4] == 1:
		return usagef("--kernel %s is a 32-bit ELF file, as lzloader.elf: it needs --boot-sector boot.bin; or give loader.img or loader-stripped.elf", o.kernel)
	case elf && (b[18] == 62 || b[18] == 183) && b[19] == 0: // EM_X86_64, EM_AARCH64
	case len(b) > 0x206 && string(b[0x202:0x206]) == "HdrS": // vmlinuz.bin, for hyperkit
	default:
		return usagef("--kernel %s is no kernel of OSv: want loader-stripped.elf, vmlinuz.bin, loader.img, or lzloader.elf with --boot-sector boot.bin", o.kernel)
	}
	return nil
}

// planOSv settles what is special about an image for OSv, once the rest is.
func (o *buildOptions) planOSv(p *plan, words, env []string) (err error) {
	c := &p.app.config
	if words == nil {
		words = slices.Concat(c.Command, c.Args)
	}
	if len(c.Command) == 0 && o.cmd == "" {
		only, err := p.app.osvExecutable()
		if err != nil {
			return err
		}
		words = append([]string{only}, words...)
	} else if info, err := p.app.tree.Stat(treePath(words[0])); err != nil || !info.Mode().IsRegular() {
		return usagef("command %s is not a file in %s", words[0], p.app.source)
	}
	params := &p.spec.Params
	params.Flavour, params.Args = o.flavour, words
	if params.Env, err = appconfig.MergeEnv(c.Env, env); err != nil {
		return err
	}
	if params.Cwd, err = p.app.cwd(first(o.cwd, c.Cwd)); err != nil {
		return err
	}
	root, _ := image.OSvRoot(p.spec.Module.Name())
	if p.osv.CommandLine, err = osvCommandLine(root, o.line, params); err != nil {
		return usageError{err}
	}
	if n := len(p.osv.CommandLine); n > image.MaxOSvCommandLine {
		return usagef("the command line has %d bytes, the most is %d", n, image.MaxOSvCommandLine)
	}
	return nil
}

// osvExecutable returns the only program of an app; OSv runs dynamically linked ones, too.
func (a *app) osvExecutable() (string, error) {
	found, err := tree.Executables(a.tree)
	if err != nil {
		return "", err
	}
	if len(found) == 1 {
		return "/" + found[0].Path, nil
	}
	return "", usagef("%s has %d executables, not one (%s); say what to run by --cmd", a.source, len(found), listExecutables(found))
}

// osvCommandLine spells a command line as OSv's kernel reads it: its options, whose blanks are escaped, then the app's words, which
// are quoted where that is needed. Source: core/commands.cc of github.com/cloudius-systems/osv.
func osvCommandLine(root, options string, p *image.Params) (string, error) {
	var words []string
	if !strings.Contains(" "+options, " --rootfs") {
		words = append(words, "--rootfs="+root)
	}
	if options = strings.TrimSpace(options); options != "" {
		if options[0] != '-' {
			return "", fmt.Errorf("--append %q: OSv's options begin with a dash; the app's own arguments belong into --cmd", options)
		}
		words = append(words, options)
	}
	escape := strings.NewReplacer(`\`, `\\`, " ", `\ `, "\t", "\\\t", "\n", "\\\n")
	for _, e := range p.Env {
		words = append(words, "--env="+escape.Replace(e))
	}
	if p.Cwd != "" {
		words = append(words, "--cwd="+escape.Replace(p.Cwd))
	}
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	for _, w := range p.Args {
		switch {
		case strings.Contains(w, "$"):
			return "", fmt.Errorf("argument %q: OSv replaces what begins with $ by a variable's value, and knows no way to say otherwise", w)
		case w == "":
			return "", errors.New("OSv cannot be given an empty argument")
		case strings.ContainsAny(w, " \t\n\r\v\f;&!\"\\'"):
			w = `"` + quote.Replace(w) + `"`
		}
		words = append(words, w)
	}
	return strings.Join(words, " "), nil
}

// osvBoot returns the command that boots an OSv image. The machine is q35, since stock OSv finds no clock in a microvm without
// KVM.
func (p *plan) osvBoot() []string {
	if p.osv.Loader != nil {
		return []string{"qemu-system-x86_64", "-M", "q35", "-m", "256", "-nographic", "-no-reboot", "-drive", "format=raw,if=virtio,snapshot=on,file=" + p.output}
	}
	return []string{"bootprof", "qemu", "--kernel", p.osvKernel, "--flavour", image.FlavourOSv, "--machine", "q35", "--disk", p.output}
}

// osvSummary says what an OSv image is, and how it is booted.
func (p *plan) osvSummary(r *report, res *image.Result) string {
	s := fmt.Sprintf("%s: %s; OSv disk; ", p.output, formatSize(res.Bytes))
	if p.osv.Loader != nil {
		s += fmt.Sprintf("loader %s; ", formatSize(res.Partitions[0].Length))
	}
	s += fmt.Sprintf("/dev/vblk0.1 %s: %s, %d entries, %s of content", formatSize(r.Root.Bytes), describeRoot(r.Root.RootFS), r.Root.Entries, formatSize(r.Root.ContentBytes))
	return s + fmt.Sprintf("; command line %s\nboot it by: %s", printable(p.osv.CommandLine), quoteWords(r.Boot))
}

// ordered returns m as it writes in the order of a manifest, if it can.
func ordered(m fsmod.Module, order []string) fsmod.Module {
	switch m.Name() {
	case "rofs1":
		return rofs1mod.Ordered(order)
	case "bootfs":
		return bootfsmod.Ordered(order)
	}
	return m
}
