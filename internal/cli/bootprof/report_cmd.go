package bootprof

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/internal/appconfig"
	"github.com/firstlight-boot/firstlight/profile"
	"github.com/firstlight-boot/firstlight/profile/html"
)

// openRecording opens a recording: a file, or the folder that holds it.
func openRecording(path string) (*boottrace.Recording, error) {
	if path == "" {
		return nil, usagef("the recording's name is empty")
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		dir := path
		path = filepath.Join(dir, fileRecording)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil, usagef("%s holds no %s; want a recording, or the folder that bootprof qemu wrote one to", dir, fileRecording)
		}
	}
	rec, err := boottrace.Open(path)
	var format *boottrace.FormatError
	switch {
	case errors.As(err, &format) && errors.Is(err, boottrace.ErrUnsupported):
		return nil, usagef("%w; want the bootprof that wrote it, or a newer one", err)
	case errors.As(err, &format) && errors.Is(err, boottrace.ErrFormat):
		return nil, usagef("%w; want a recording.fl as bootprof qemu writes it", err)
	case errors.As(err, &format):
		return nil, usagef("%w; the file is damaged: record the boot again", err)
	case err != nil:
		return nil, usagef("%w", err)
	}
	return rec, nil
}

// completeRecordings completes the names of recordings and of folders, for the first n arguments.
func completeRecordings(n int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return []cobra.Completion{"fl"}, cobra.ShellCompDirectiveFilterFileExt // which lets folders through
	}
}

// wantArgs returns a check that a command has that many arguments, which are called what.
func wantArgs(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("want %s; see %s --help", what, cmd.CommandPath())
		case len(args) > most:
			return usagef("%q is one argument too many: want %s", args[most], what)
		}
		return nil
	}
}

// reportOptions are the flags of bootprof report.
type reportOptions struct {
	format, out, sample, metric string
	verbose                     bool
	maxBoot                     time.Duration
	maxMemory                   appconfig.Size
	maxInstructions             uint64
}

// reportFormats are the values of --format in the order of the help, each with its writer.
var reportFormats = []struct {
	name, about string
	write       func(o *reportOptions, w io.Writer, rec *boottrace.Recording) error
}{
	{"table", "text for people", (*reportOptions).table},
	{"json", "the object of bootprof qemu --json, with functions, memory and disk requests", (*reportOptions).json},
	{"pprof", "profile for go tool pprof", (*reportOptions).pprof},
	{"perfetto", "trace for ui.perfetto.dev and chrome://tracing", (*reportOptions).perfetto},
	{"html", "one page for any browser, with nothing to load", (*reportOptions).html},
	{"folded", "folded stacks, for flame graphs", (*reportOptions).folded},
	{"junit", "test cases: each boot, and each budget that a flag sets", (*reportOptions).junit},
	{"layout", "which parts of files were read, in order, for imgbuild --layout", (*reportOptions).layout},
}

func formatNames() (names []string) {
	for _, f := range reportFormats {
		names = append(names, f.name)
	}
	return names
}

func reportCommand() *cobra.Command {
	var o reportOptions
	var formats strings.Builder
	for _, f := range reportFormats {
		fmt.Fprintf(&formats, "  %-9s %s\n", f.name, f.about)
	}
	cmd := &cobra.Command{
		Use:   "report REC [flags]",
		Short: "Show a recording: as text, JSON, profile, trace or test report",
		Long: `Show what a recording holds. REC is a recording.fl, or the folder that holds one. The formats:

` + formats.String() + `
The report goes to standard output, unless -o names a file; a file is written beside its name and renamed.`,
		Example: `  bootprof report app.bootprof
  bootprof report app.bootprof --format perfetto -o app.trace.json
  bootprof report app.bootprof --format html -o app.html
  bootprof report app.bootprof --format folded --metric touched -o touched.folded
  bootprof report app.bootprof --format layout -o app.layout`,
		Args:              wantArgs(1, 1, "a recording"),
		ValidArgsFunction: completeRecordings(1),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "table", strings.Join(formatNames(), ", "))
	f.StringVarP(&o.out, "output", "o", "", "file to write, instead of standard output")
	f.StringVar(&o.sample, "sample", "", "the profile to take functions from, of two: exact or sampled (default: exact)")
	f.StringVar(&o.metric, "metric", "instructions", "what folded stacks are weighed by: "+strings.Join(profile.Metrics(), ", "))
	f.BoolVarP(&o.verbose, "verbose", "v", false, "in a table: list the marks on the clocks of host and guest")
	f.DurationVar(&o.maxBoot, "max-boot", 0, "budget for junit: the median boot may take this long, as 100ms")
	f.Var(&o.maxMemory, "max-memory", "budget for junit: this much guest memory may be touched, as 8M")
	f.Uint64Var(&o.maxInstructions, "max-instructions", 0, "budget for junit: the boot may execute this many guest instructions")
	for flag, values := range map[string][]string{"format": formatNames(), "sample": {"exact", "sampled"}, "metric": profile.Metrics()} {
		// It fails for a flag that does not exist only.
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

func (o *reportOptions) run(cmd *cobra.Command, path string) error {
	i := slices.Index(formatNames(), o.format)
	if i < 0 {
		return usagef("--format %q: want %s", o.format, strings.Join(formatNames(), ", "))
	}
	if !slices.Contains(profile.Metrics(), o.metric) {
		return usagef("--metric %q: want %s", o.metric, strings.Join(profile.Metrics(), ", "))
	}
	defer smallHeap()()
	rec, err := openRecording(path)
	if err != nil {
		return err
	}
	switch {
	case o.sample == "exact" && rec.Exact == nil, o.sample == "sampled" && rec.Sampled == nil:
		return usagef("--sample %s: %s has no such profile; bootprof qemu --profile=%s takes one", o.sample, path, map[string]string{"exact": "exact", "sampled": "sample"}[o.sample])
	case o.sample == "exact":
		rec.Sampled = nil
	case o.sample == "sampled":
		rec.Exact = nil
	case o.sample != "":
		return usagef("--sample %q: want exact or sampled", o.sample)
	}
	if o.format == "layout" {
		noteChanged(cmd.ErrOrStderr(), rec)
	}
	write := func(w io.Writer) error { return reportFormats[i].write(o, w, rec) }
	if o.out != "" && o.out != "-" {
		if err := writeFile(o.out, write); err != nil {
			return outputError(err)
		}
		return nil
	}
	if o.format == "pprof" && isTerminal(cmd.OutOrStdout()) {
		return usagef("a pprof profile is no text for a terminal; name a file with -o, as -o boot.pb.gz")
	}
	if o.format == "html" && isTerminal(cmd.OutOrStdout()) {
		return usagef("a page is no text for a terminal; name a file with -o, as -o boot.html")
	}
	return write(cmd.OutOrStdout())
}

// outputError is bad input if the file of -o cannot be made.
func outputError(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return usagef("cannot write the report: %w", err)
	}
	return err
}

// profile is the profile that functions are taken from, or nil.
func profileOf(rec *boottrace.Recording) *boottrace.Profile {
	if rec.Exact != nil {
		return rec.Exact
	}
	return rec.Sampled
}

func (o *reportOptions) table(w io.Writer, rec *boottrace.Recording) error {
	return profile.WriteTable(w, rec, profileOf(rec), style(w, o.verbose))
}

func (o *reportOptions) json(w io.Writer, rec *boottrace.Recording) error {
	return profile.NewReport(rec, profileOf(rec)).WriteJSON(w)
}

func (o *reportOptions) pprof(w io.Writer, rec *boottrace.Recording) error {
	p := profile.BootProfile(rec)
	if p == nil {
		return usagef("the recording has nothing for a profile: neither time nor instructions were measured")
	}
	return p.Write(w)
}

func (o *reportOptions) perfetto(w io.Writer, rec *boottrace.Recording) error {
	return profile.WriteTrace(w, rec, profileOf(rec))
}

func (o *reportOptions) html(w io.Writer, rec *boottrace.Recording) error {
	return html.Write(w, rec)
}

func (o *reportOptions) folded(w io.Writer, rec *boottrace.Recording) error {
	ok, err := profile.WriteFolded(w, rec, o.metric)
	if err == nil && !ok {
		return usagef("the recording has no %s to fold into stacks", o.metric)
	}
	return err
}

func (o *reportOptions) layout(w io.Writer, rec *boottrace.Recording) error {
	var b bytes.Buffer
	ok, err := profile.WriteLayout(&b, rec)
	if err != nil {
		return err
	}
	if !ok {
		return usagef("the recording has no disk requests that read files; bootprof qemu --io records them")
	}
	_, err = w.Write(b.Bytes())
	return err
}

func (o *reportOptions) junit(w io.Writer, rec *boottrace.Recording) error {
	var b boottrace.Budget
	if o.maxBoot > 0 {
		b.Boot = &o.maxBoot
	}
	if o.maxMemory > 0 {
		b.MemoryBytes = new(uint64(o.maxMemory))
	}
	if o.maxInstructions > 0 {
		b.Instructions = &o.maxInstructions
	}
	return profile.WriteJUnit(w, "bootprof "+rec.Image, profile.Cases(rec, b))
}
