package imgbuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/appconfig"
	"github.com/firstlight-boot/firstlight/internal/kernelbuild"
)

// buildOptions are the flags of the command that builds.
type buildOptions struct {
	rofs, ramfs  bool
	fs           string
	compress     string
	clusterSize  appconfig.Size
	raw, exclude []string
	place        placement
	source       sourceOptions
	osv          osvOptions
	zfs          zfsOptions
	manifest     manifestOptions
	noKernel     bool
	kernel       string
	flavour      string
	initrd       string // of a kernel of flavour linux
	line         string // of a kernel of flavour linux
	cmd          string
	env          []string
	cwd          string
	memory       appconfig.Size
	ready        string
	maxBoot      time.Duration
	maxMemory    appconfig.Size
	maxInstr     int64
	output       string
	sign         string
	sync         bool
	dryRun       bool
	json         bool
	quiet        bool
}

// kernelFlags have no meaning without a kernel.
var kernelFlags = []string{"kernel", "boot-sector", "flavour", "initrd", "append", "cmd", "env", "cwd", "memory", "ready", "max-boot", "max-memory", "max-instructions"}

func (o *buildOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&o.rofs, "rofs", false, "root is a compressed read-only file system (the default)")
	o.osv.flags(cmd)
	f.BoolVar(&o.ramfs, "ramfs", false, "root is a RAM file system")
	f.StringVar(&o.fs, "fs", "", "root is the file system of this `MODULE`: "+strings.Join(fsmod.Names(), ", "))
	o.zfs.flags(cmd)
	f.StringVar(&o.compress, "compress", "", "compress the root, with a `CODEC[:LEVEL]` if named: "+strings.Join(allCodecs(), ", ")+" or none")
	f.Lookup("compress").NoOptDefVal = string(appconfig.CompressDefault)
	f.Var(&o.clusterSize, "cluster-size", "content bytes compressed together, as 64K")
	f.StringArrayVar(&o.raw, "raw", nil, "store files that match `GLOB` uncompressed; may repeat")
	o.place.flags(cmd)
	f.StringArrayVar(&o.exclude, "exclude", nil, "leave out what matches `GLOB`; may repeat")
	o.source.flags(cmd)
	o.manifest.flags(cmd)
	f.BoolVar(&o.noKernel, "no-kernel", false, "write the file system alone")
	f.StringVar(&o.kernel, "kernel", "", "boot this kernel `FILE` instead of the built-in one")
	f.StringVar(&o.flavour, "flavour", image.FlavourNative, "what kind of kernel --kernel is: native, linux or osv")
	f.StringVar(&o.initrd, "initrd", "", "the initial RAM disk `FILE` of a kernel of flavour linux that needs one to mount the root")
	f.StringVar(&o.line, "append", "", "the `PARAMETERS` of a kernel of flavour linux or osv (default of linux \""+image.LinuxAppend+"\")")
	f.StringVar(&o.cmd, "cmd", "", "the app's `COMMAND` with arguments, quoted as for a shell")
	f.StringArrayVar(&o.env, "env", nil, "set `K=V` in the app's environment; may repeat")
	f.StringVar(&o.cwd, "cwd", "", "the app's working `DIR`")
	f.Var(&o.memory, "memory", "the guest's memory, as 64M")
	f.StringVar(&o.ready, "ready", "", "`WHEN` the app counts as booted: entry, output, exit, listen:PORT or mark:NAME")
	f.DurationVar(&o.maxBoot, "max-boot", 0, "budget of a boot's time, for bootprof")
	f.Var(&o.maxMemory, "max-memory", "budget of a boot's memory, for bootprof")
	f.Int64Var(&o.maxInstr, "max-instructions", 0, "budget of a boot's instructions, for bootprof")
	f.StringVarP(&o.output, "output", "o", "", "write the image to `IMG` (default NAME.img)")
	f.StringVar(&o.sign, "sign", "", "sign the image with the Ed25519 private key in the PEM file `KEY`")
	f.BoolVar(&o.sync, "sync", false, "wait until the image is on stable storage")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be done, and do nothing")
	f.BoolVar(&o.json, "json", false, "print the result as JSON")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing but errors")
	for name, ext := range map[string][]string{"kernel": {}, "initrd": {}, "output": {"img"}, "sign": {}} {
		if err := cmd.MarkFlagFilename(name, ext...); err != nil {
			panic(err) // a flag's name is misspelt above
		}
	}
	complete := func(values ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	}
	for name, fn := range map[string]cobra.CompletionFunc{
		"fs": complete(fsmod.Names()...), "compress": complete(allCodecs()...), "flavour": complete(image.FlavourNative, image.FlavourLinux, image.FlavourOSv),
	} {
		if err := cmd.RegisterFlagCompletionFunc(name, fn); err != nil {
			panic(err)
		}
	}
}

// allCodecs lists the codecs of all modules.
func allCodecs() []string {
	var all []string
	for _, n := range fsmod.Names() {
		if m, err := fsmod.Lookup(n); err == nil {
			all = append(all, m.Codecs()...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// plan is what a build will do.
type plan struct {
	app    *app
	output string
	spec   image.Spec
	kernel kernelbuild.Kernel
	bare   bool
	osv    *image.OSv // of an image for OSv
	notes  []string   // about a manifest

	osvKernel string // path of the kernel file
}

func (o *buildOptions) run(cmd *cobra.Command, arg string) error {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(320 << 20) // beyond it, garbage of a tree of a million files is collected sooner
	}
	ctx := cmd.Context()
	p, err := o.plan(cmd, arg)
	if err != nil {
		return err
	}
	if !o.quiet {
		printNotes(cmd.ErrOrStderr(), o.manifest.file, p.notes)
		for _, n := range unmatched(p.app.tree, o.place.globs, o.raw, p.spec.Options.Layout) {
			fmt.Fprintf(cmd.ErrOrStderr(), "imgbuild: %s\n", printable(n))
		}
	}
	if o.dryRun {
		if o.json {
			return printJSON(cmd.OutOrStdout(), p.report(nil))
		}
		return p.print(cmd.OutOrStdout())
	}
	progress := newProgress(cmd.ErrOrStderr(), o.quiet || o.json)
	defer progress.clear()
	p.spec.Options.Progress = progress.update
	var res *image.Result
	if p.bare {
		p.spec.NoDigest = !o.json // nobody sees it
		res, err = image.WriteFSFile(ctx, p.output, p.spec)
	} else if p.osv != nil {
		res, err = image.WriteOSvFile(ctx, p.output, *p.osv, p.spec)
	} else {
		progress.say("kernel: " + p.kernel.Origin)
		if p.spec.Kernel, err = p.kernel.Load(ctx); err != nil {
			return err
		}
		res, err = image.WriteFile(ctx, p.output, p.spec)
	}
	progress.clear()
	if err != nil {
		// Unlike the temporary file's, this name is what the user asked for.
		if pe := (*fs.PathError)(nil); !errors.As(err, &pe) || pe.Path != p.output {
			err = fmt.Errorf("%s: %w", p.output, err)
		}
		return err
	}
	switch {
	case o.json:
		return printJSON(cmd.OutOrStdout(), p.report(res))
	case o.quiet:
		return nil
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), p.summary(res))
	return err
}

// plan decides everything that can be decided before a byte is written.
func (o *buildOptions) plan(cmd *cobra.Command, arg string) (*plan, error) {
	if o.noKernel {
		for _, name := range kernelFlags {
			if cmd.Flags().Changed(name) {
				return nil, usagef("--no-kernel writes the file system alone: --%s has no place in it", name)
			}
		}
	}
	if err := checkCompress(cmd); err != nil {
		return nil, err
	}
	if o.rofs && o.ramfs || o.fs != "" && (o.rofs || o.ramfs) {
		return nil, usagef("--rofs, --ramfs and --fs exclude each other: a root is one file system")
	}
	if o.manifest.file != "" && len(o.exclude) > 0 || o.manifest.file == "" && len(o.manifest.defines) > 0 {
		return nil, usagef("--exclude is for folders, --define for --manifest")
	}
	if o.manifest.file != "" && o.source.devices {
		return nil, usagef("--devices is for folders: a manifest has no device nodes")
	}
	if err := appconfig.CheckGlobs(append(slices.Clone(o.raw), o.exclude...)); err != nil {
		return nil, usageError{err}
	}
	env, err := appconfig.MergeEnv(o.env)
	if err != nil {
		return nil, usageError{fmt.Errorf("--env: %w", err)}
	}
	var ready appconfig.Ready
	if o.ready != "" {
		if err := ready.Set(o.ready); err != nil {
			return nil, usageError{fmt.Errorf("--ready: %w", err)}
		}
	}
	if o.maxBoot < 0 || o.maxInstr < 0 {
		return nil, usagef("a budget cannot be negative")
	}
	words, err := appconfig.Split(o.cmd)
	if err != nil {
		return nil, usageError{fmt.Errorf("--cmd: %w", err)}
	}
	if cmd.Flags().Changed("cmd") && len(words) == 0 {
		return nil, usagef("--cmd is empty")
	}

	// What is not there is refused before a folder is read or a package is built.
	config, err := loadConfig(arg)
	if err != nil {
		return nil, err
	}
	p := &plan{bare: o.noKernel}
	if err := o.planRoot(p, &config.RootFS); err != nil {
		return nil, err
	}
	if !p.bare {
		if err := o.osv.checkFlags(cmd, o.flavour, p.spec.Module.Name()); err != nil {
			return nil, err
		}
		if err := o.planKernel(p); err != nil {
			return nil, err
		}
		if err := o.planInitrd(p); err != nil {
			return nil, err
		}
	}
	if o.sign != "" {
		if p.osv != nil || p.bare && p.spec.Module.Name() != "rofs" {
			return nil, usagef("--sign: only images with a kernel of flavour %s or %s, and ROFS alone, have a place for a signature", image.FlavourNative, image.FlavourLinux)
		}
		if p.spec.Sign, err = readKey(o.sign, image.ParsePrivateKey); err != nil {
			return nil, err
		}
	}
	if o.manifest.file != "" {
		var order []string
		if p.app, order, p.notes, err = o.manifest.load(cmd.Context(), arg, o.source); err == nil {
			p.spec.Module = ordered(p.spec.Module, order)
		}
	} else {
		p.app, err = loadApp(cmd.Context(), arg, o.outputFor(arg), o.exclude, o.source)
	}
	if err != nil {
		return nil, err
	}
	p.output = o.output
	if p.output == "" {
		p.output = p.app.name + ".img"
	}
	if err := checkOutput(p.output, arg); err != nil {
		return nil, err
	}
	p.spec.Tree = p.app.tree
	p.spec.Sync = o.sync
	if p.bare {
		return p, nil
	}

	if p.osv != nil {
		return p, o.planOSv(p, words, env)
	}
	c := &p.app.config
	if words == nil {
		words = slices.Concat(c.Command, c.Args)
		if len(c.Command) == 0 && len(c.Args) > 0 {
			only, err := p.app.onlyExecutable()
			if err != nil {
				return nil, err
			}
			words = append([]string{only}, c.Args...)
		}
	}
	params := &p.spec.Params
	params.Tool = "imgbuild " + toolVersion()
	params.Sources = []string{strings.ToValidUTF8(p.app.source, "?")}
	params.Flavour = o.flavour
	command := p.app.command
	if o.flavour == image.FlavourLinux {
		command = p.app.linuxCommand
	} else if o.line != "" {
		return nil, usagef("--append is for kernels of flavour %s; bootprof qemu --append tells any kernel more", image.FlavourLinux)
	}
	if params.Args, err = command(words); err != nil {
		return nil, err
	}
	if params.Env, err = appconfig.MergeEnv(c.Env, env); err != nil {
		return nil, err
	}
	if params.Cwd, err = p.app.cwd(first(o.cwd, c.Cwd)); err != nil {
		return nil, err
	}
	params.Machine = image.Machine{Type: "microvm", MemoryBytes: int64(first(o.memory, c.Memory))}
	params.Ready = string(first(ready, c.Ready))
	params.Budgets = image.Budgets{
		BootNanos:    int64(first(o.maxBoot, time.Duration(c.Budgets.Boot))),
		MemoryBytes:  int64(first(o.maxMemory, c.Budgets.Memory)),
		Instructions: first(o.maxInstr, int64(c.Budgets.Instructions)),
	}
	if o.flavour == image.FlavourLinux {
		return p, o.planLinux(p)
	}
	return p, nil
}

// first returns the first value that is not zero: a flag wins over the configuration.
func first[T comparable](values ...T) T {
	var zero T
	for _, v := range values {
		if v != zero {
			return v
		}
	}
	return zero
}

// outputFor returns the output's name as far as it can be known before the app is read.
func (o *buildOptions) outputFor(arg string) string {
	if o.output != "" {
		return o.output
	}
	if abs, err := filepath.Abs(arg); err == nil {
		return filepath.Base(abs) + ".img"
	}
	return ""
}

// planRoot chooses the root's file system.
func (o *buildOptions) planRoot(p *plan, c *appconfig.RootFS) error {
	name := first(o.fs, c.Type, "rofs")
	if o.flavour == image.FlavourLinux && !o.noKernel {
		name = first(o.fs, c.Type, "ramfs")
	}
	if o.rofs {
		name = "rofs"
	}
	if o.ramfs {
		name = "ramfs"
	}
	name, err := o.osv.module(name, o.flavour)
	if err != nil {
		return err
	}
	m, err := fsmod.Lookup(name)
	if err == nil {
		m, err = o.zfs.module(m, &c.ZFS, o.flavour)
	}
	if err != nil {
		return err
	}
	codec, level, err := splitCodec(first(o.compress, string(c.Compress)))
	if err != nil {
		return err
	}
	switch codec {
	case string(appconfig.CompressNone):
		codec = ""
	case string(appconfig.CompressDefault):
		if len(m.Codecs()) == 0 {
			return usagef("file system %s does not compress", name)
		}
		codec = m.Codecs()[0]
		if o.ramfs && !o.noKernel && first(o.flavour, image.FlavourNative) == image.FlavourNative {
			codec = "lz4" // which our kernel unpacks with a fifth of the instructions that gzip takes; every Linux takes that
		}
	}
	if codec != "" && !slices.Contains(m.Codecs(), codec) {
		return usagef("compression %q is not supported by %s; available: %s", codec, name, strings.Join(m.Codecs(), ", "))
	}
	if level != 0 && codec == "" {
		return usagef("no compression has no level %d", level)
	}
	size := int64(first(o.clusterSize, c.ClusterSize))
	if size > 1<<30 {
		return usagef("cluster size %d: the most is 1G", size)
	}
	raw := append(slices.Clone(c.Raw), o.raw...)
	p.spec.Module = m
	p.spec.Options = fsmod.Options{Codec: codec, Level: level, ClusterSize: int(size)}
	if err := o.place.apply(name, &p.spec.Options); err != nil {
		return err
	}
	if len(raw) > 0 {
		p.spec.Params.Root.Raw = raw
		p.spec.Options.Raw = func(name string) bool { return appconfig.Glob(raw, name) }
	}
	return nil
}

// planKernel chooses the kernel.
func (o *buildOptions) planKernel(p *plan) (err error) {
	check := image.CheckKernel
	switch o.flavour {
	case image.FlavourNative:
	case image.FlavourLinux:
		if o.kernel == "" {
			return usagef("--flavour %s needs --kernel FILE, a bzImage or a vmlinux: none is built in", o.flavour)
		}
		check = image.CheckLinux
	case image.FlavourOSv:
		return o.planOSvKernel(p)
	default:
		return usagef("kernel flavour %q is unknown; available: %s, %s, %s", o.flavour, image.FlavourNative, image.FlavourLinux, image.FlavourOSv)
	}
	if o.kernel == "" {
		p.kernel, err = kernelbuild.Find()
		return err
	}
	st, err := os.Stat(o.kernel)
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", o.kernel)
	}
	if err != nil {
		return usageError{fmt.Errorf("--kernel: %w", err)}
	}
	if st.Size() > image.MaxKernel {
		return usagef("--kernel: %s is %s long; a kernel is at most %s", o.kernel, formatSize(st.Size()), formatSize(image.MaxKernel))
	}
	p.kernel = kernelbuild.Kernel{Origin: filepath.Base(o.kernel), Load: func(context.Context) ([]byte, error) {
		b, err := os.ReadFile(o.kernel)
		if err == nil {
			err = check(b)
		}
		if err != nil {
			return nil, usageError{fmt.Errorf("--kernel %s: %w", o.kernel, err)}
		}
		return b, nil
	}}
	return nil
}

// checkOutput refuses an output that would replace the app, or that cannot be a file.
func checkOutput(output, arg string) error {
	if output == "-" {
		return usagef("output -: an image is not written in one go, so not to standard output; name a file, as ./- if that is what it is called")
	}
	out, err := os.Stat(output)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return usageError{fmt.Errorf("output: %w", err)}
		}
		if dir, err := os.Stat(filepath.Dir(output)); err != nil {
			return usageError{fmt.Errorf("output %s: %w", output, err)}
		} else if !dir.IsDir() {
			return usagef("output %s: %s is not a directory", output, filepath.Dir(output))
		}
		return nil
	}
	if out.IsDir() {
		return usagef("output %s is a directory; name a file by -o", output)
	}
	if !out.Mode().IsRegular() {
		return usagef("output %s is not a regular file", output)
	}
	if in, err := os.Stat(arg); err == nil && os.SameFile(in, out) {
		return usagef("output %s is the app itself; name another file by -o", output)
	}
	return nil
}

// cwd checks the app's working directory.
func (a *app) cwd(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	dir = path.Join("/", dir)
	info, err := a.tree.Stat(treePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return "", usagef("working directory %s is not in %s", dir, a.source)
	}
	if err != nil {
		return "", usagef("working directory %s: %w", dir, err)
	}
	if !info.IsDir() {
		return "", usagef("working directory %s is not a directory", dir)
	}
	return dir, nil
}

// toolVersion is the module's version as the go command recorded it.
func toolVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && !strings.HasPrefix(info.Main.Version, "(") {
		return info.Main.Version
	}
	return "devel"
}

// report is a build's plan or result as JSON.
type report struct {
	Image      string            `json:"image"`
	DryRun     bool              `json:"dry_run,omitempty"`
	ID         string            `json:"id,omitempty"`
	Bytes      int64             `json:"bytes,omitempty"`
	Flavour    string            `json:"flavour,omitempty"`
	Kernel     string            `json:"kernel,omitempty"`
	Args       []string          `json:"args,omitempty"`
	Env        []string          `json:"env,omitempty"`
	Cwd        string            `json:"cwd,omitempty"`
	Machine    image.Machine     `json:"machine,omitzero"`
	Ready      string            `json:"ready,omitempty"`
	Budgets    image.Budgets     `json:"budgets,omitzero"`
	Sources    []string          `json:"sources"`
	Root       rootReport        `json:"root"`
	Partitions []image.Partition `json:"partitions,omitempty"`
	// Of an image for OSv: what its kernel is told, and how the image is booted.
	CommandLine string   `json:"command_line,omitempty"`
	Boot        []string `json:"boot,omitempty"`
	Notes       []string `json:"notes,omitempty"` // what a manifest leaves out
}

type rootReport struct {
	image.RootFS
	Entries      int     `json:"entries"`
	ContentBytes int64   `json:"content_bytes"`
	StoredBytes  int64   `json:"stored_bytes,omitempty"`
	Bytes        int64   `json:"bytes,omitempty"`
	Ratio        float64 `json:"ratio,omitempty"` // stored ÷ content
}

func (p *plan) report(res *image.Result) report {
	s := &p.spec
	r := report{
		Image: p.output, DryRun: res == nil, Flavour: s.Params.Flavour, Kernel: p.kernel.Origin, Args: s.Params.Args, Env: s.Params.Env, Cwd: s.Params.Cwd,
		Machine: s.Params.Machine, Ready: s.Params.Ready, Budgets: s.Params.Budgets, Sources: []string{p.app.source},
	}
	r.Root.RootFS = image.RootFS{Module: s.Module.Name(), Codec: s.Options.Codec, ClusterSize: s.Options.ClusterSize, Raw: s.Params.Root.Raw}
	r.Root.Entries, r.Root.ContentBytes = p.app.size()
	r.Notes = p.notes
	if p.osv != nil {
		r.CommandLine, r.Boot = p.osv.CommandLine, p.osvBoot()
	}
	if res != nil {
		r.ID, r.Bytes, r.Partitions = res.ID, res.Bytes, res.Partitions
		r.Root.Bytes, r.Root.StoredBytes = res.Root.Bytes, res.Root.StoredBytes
		if r.Root.ContentBytes > 0 {
			r.Root.Ratio = float64(r.Root.StoredBytes) / float64(r.Root.ContentBytes)
		}
	}
	return r
}

// size returns the number of entries and the bytes of their content.
func (a *app) size() (entries int, bytes int64) {
	for _, e := range a.tree.Entries {
		if e.HardLink == "" {
			bytes += e.Size
		}
	}
	return len(a.tree.Entries), bytes
}

// print shows the plan to people.
func (p *plan) print(w io.Writer) error {
	r := p.report(nil)
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-8s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("image", "%s", r.Image)
	if !p.bare {
		line("kernel", "%s (%s)", r.Kernel, r.Flavour)
		line("command", "%s", quoteWords(r.Args))
		for _, e := range r.Env {
			line("env", "%s", printable(e))
		}
		if r.Cwd != "" {
			line("cwd", "%s", printable(r.Cwd))
		}
		printHints(line, r.Machine, r.Ready, r.Budgets)
	}
	line("root", "%s: %d entries, %s of content", describeRoot(r.Root.RootFS), r.Root.Entries, formatSize(r.Root.ContentBytes))
	for i := range p.app.tree.Entries {
		e := &p.app.tree.Entries[i]
		line("", "%s", longLine(e, "/"+strings.TrimPrefix(e.Path, ".")))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printHints shows what an image says about how it is booted.
func printHints(line func(name, format string, args ...any), m image.Machine, ready string, b image.Budgets) {
	if m.MemoryBytes > 0 {
		line("memory", "%s", formatSize(m.MemoryBytes))
	}
	if ready != "" {
		line("ready", "%s", ready)
	}
	var limits []string
	if b.BootNanos > 0 {
		limits = append(limits, "boot "+time.Duration(b.BootNanos).String())
	}
	if b.MemoryBytes > 0 {
		limits = append(limits, "memory "+formatSize(b.MemoryBytes))
	}
	if b.Instructions > 0 {
		limits = append(limits, fmt.Sprintf("%d instructions", b.Instructions))
	}
	if len(limits) > 0 {
		line("budgets", "%s", strings.Join(limits, ", "))
	}
}

func describeRoot(r image.RootFS) string {
	s := r.Module
	if r.Codec != "" {
		s += ", " + r.Codec
	}
	if r.ClusterSize > 0 {
		s += ", clusters of " + formatSize(int64(r.ClusterSize))
	}
	if len(r.Raw) > 0 {
		s += ", raw " + quoteWords(r.Raw)
	}
	return s
}

// quoteWords shows a list of words so that a shell would read them back.
func quoteWords(words []string) string {
	var out []string
	for _, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\n'\"\\$`*?[]<>|&;(){}~#!") {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		out = append(out, printable(w))
	}
	return strings.Join(out, " ")
}

// summary is the one line that a successful build prints.
func (p *plan) summary(res *image.Result) string {
	r := p.report(res)
	if p.osv != nil {
		return p.osvSummary(&r, res)
	}
	s := fmt.Sprintf("%s: %s", p.output, formatSize(res.Bytes))
	if !p.bare {
		kernel := res.Partitions[slices.IndexFunc(res.Partitions, func(q image.Partition) bool { return q.Name == image.PartKernel })]
		s += fmt.Sprintf("; kernel %s", formatSize(kernel.Length))
	}
	s += fmt.Sprintf("; root %s: %s, %d entries, %s of content", formatSize(r.Root.Bytes), describeRoot(r.Root.RootFS), r.Root.Entries, formatSize(r.Root.ContentBytes))
	if r.Root.Ratio > 0 && r.Root.Codec != "" {
		s += fmt.Sprintf(" stored in %.0f %%", 100*r.Root.Ratio)
	}
	if !p.bare {
		s += "; runs " + quoteWords(r.Args)
	}
	return s
}

// progress shows how far a build is on a terminal, and nothing elsewhere.
type progress struct {
	w     io.Writer // nil: show nothing
	last  time.Time
	shown bool
}

func newProgress(w io.Writer, quiet bool) *progress {
	if f, ok := w.(*os.File); ok && !quiet && term.IsTerminal(int(f.Fd())) {
		return &progress{w: w}
	}
	return &progress{}
}

func (p *progress) update(done, total int64) {
	if now := time.Now(); p.w != nil && total > 0 && now.Sub(p.last) > 100*time.Millisecond {
		p.last = now
		p.say(fmt.Sprintf("packing %3d %% of %s", 100*done/total, formatSize(total)))
	}
}

// say shows a line that the next one replaces.
func (p *progress) say(line string) {
	if p.w != nil {
		p.shown = true
		fmt.Fprintf(p.w, "\r\x1b[K%s", line)
	}
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
