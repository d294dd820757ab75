package bootprof

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/boottrace/budget"
	"github.com/firstlight-boot/firstlight/profile"
)

// gateOptions are the flags of bootprof gate; those of booting are as bootprof qemu has them.
type gateOptions struct {
	qemuOptions
	budget, baseline string
	junit            string
	github           bool
	strict, force    bool
	maxRuns          int
}

func gateCommand() *cobra.Command {
	var o gateOptions
	cmd := &cobra.Command{
		Use:   "gate {IMG | REC | --kernel K} --budget FILE [flags] [-- ARGS...]",
		Short: "Check a boot against a budget: pass, fail or undecided",
		Long: `Check what a boot costs against a budget file. An image is booted, as often as the limits need: once with its instructions
counted, and for limits of time until they are decided, interleaved with the floor. Of a recording, which is a recording.fl or
the folder that holds one, the boots in it are judged.

Limits are absolute, or relative to the floor or to a baseline recording. Each passes, fails or stays undecided; see
docs/budgets.md for the file and for how sure the verdicts are.

Exit codes: 0 all limits passed, or are undecided without --strict; 1 the boot failed, or the app did; 2 usage or bad input; 3 a
limit failed; 4 a limit could not be measured.`,
		Example: `  bootprof gate app.img --budget budget.yaml
  bootprof gate app.img --budget budget.yaml --baseline main.bootprof --junit gate.xml
  bootprof gate app.bootprof --budget budget.yaml --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd, args, "image or recording", "an image or a recording, or --kernel KERNEL"); err != nil {
				return err
			}
			if o.budget == "" {
				return usagef("want a budget: --budget FILE; see docs/budgets.md")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.budget, "budget", "", "the budget file")
	f.StringVar(&o.baseline, "baseline", "", "recording that limits may be relative to")
	f.StringVar(&o.junit, "junit", "", "file to write the limits to, as JUnit test cases")
	f.BoolVar(&o.github, "github", false, "write GitHub's annotations, and the job's summary if there is one (default: if GITHUB_ACTIONS is true)")
	f.BoolVar(&o.force, "force", false, "compare with a baseline that is not comparable")
	f.BoolVar(&o.strict, "strict", false, "fail if a limit stays undecided")
	f.IntVar(&o.maxRuns, "max-runs", 64, "how many timed boots to make at most")
	f.StringVarP(&o.out, "output", "o", "", "folder for the recording and the profiles of the boots (default: they are not kept)")
	o.toBoot.flags(cmd, qemuKernels)
	o.kindFlags(cmd)
	o.untilFlag(cmd)
	o.machineFlags.flags(cmd)
	// It fails for a flag that does not exist only.
	_ = cmd.RegisterFlagCompletionFunc("baseline", completeRecordings(math.MaxInt))
	_ = cmd.MarkFlagFilename("budget", "yaml", "yml")
	return cmd
}

// readBudget reads a budget file.
func readBudget(path string) (*budget.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("the budget: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, budget.MaxFile+1))
	if err != nil {
		return nil, usagef("the budget: %w", err)
	}
	file, err := budget.Parse(path, b)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return file, nil
}

func (o *gateOptions) run(cmd *cobra.Command, args []string) error {
	if o.maxRuns < 1 || o.maxRuns > maxBoots {
		return usagef("--max-runs %d: want 1 to %d", o.maxRuns, maxBoots)
	}
	var appArgs []string
	if at := cmd.ArgsLenAtDash(); at >= 0 {
		args, appArgs = args[:at], args[at:]
	}
	file, err := readBudget(o.budget)
	if err != nil {
		return err
	}
	g := &gate{file: file, baseName: o.baseline, strict: o.strict, tell: o.teller(cmd.ErrOrStderr())}
	if o.baseline != "" {
		if g.base, err = openRecording(o.baseline); err != nil {
			return err
		}
	} else if i := slices.IndexFunc(file.Limits, func(l budget.Limit) bool { return l.Reference == budget.Baseline }); i >= 0 {
		l := file.Limits[i]
		return usagef("%s:%d: %s: %s is relative to a baseline; name a recording with --baseline", file.Name, l.Line, l.Key, l.Text)
	}
	if o.kernel == "" && isRecording(args[0]) {
		if err := o.onlyJudged(cmd, appArgs); err != nil {
			return err
		}
		if g.rec, err = openRecording(args[0]); err != nil {
			return err
		}
		if err := g.checkBaseline(o.force); err != nil {
			return err
		}
		g.judge(1)
	} else if err := o.boots(cmd, g, args, appArgs); err != nil {
		return errors.Join(err, o.reportFailure(cmd, g, err))
	}
	g.findGrown()
	if err := o.report(cmd, g); err != nil {
		return err
	}
	return g.verdict()
}

// onlyJudged refuses flags that say how to boot, with a recording.
func (o *gateOptions) onlyJudged(cmd *cobra.Command, appArgs []string) error {
	if len(appArgs) > 0 {
		return usagef("arguments after -- are for an app that is booted; a recording is only judged")
	}
	for _, name := range []string{"max-runs", "append", "disk", "until", "mark", "output", "machine", "firmware", "accel", "memory", "smp", "timeout"} {
		if cmd.Flags().Changed(name) {
			return usagef("--%s says how to boot, and a recording is only judged", name)
		}
	}
	return nil
}

// report writes what the gate found to wherever it was asked for.
func (o *gateOptions) report(cmd *cobra.Command, g *gate) (err error) {
	out := cmd.OutOrStdout()
	annotations := out // GitHub reads both streams
	if o.json {
		annotations = cmd.ErrOrStderr()
		err = g.writeJSON(out)
	} else {
		err = g.write(out, style(out, false))
	}
	if err == nil && o.junit != "" {
		err = outputError(writeFile(o.junit, func(w io.Writer) error {
			return profile.WriteJUnit(w, "bootprof gate "+g.rec.Image, g.cases())
		}))
	}
	if err == nil && o.onGitHub() {
		err = g.annotate(annotations, inWorkspace(g.file.Name))
		if path := os.Getenv("GITHUB_STEP_SUMMARY"); err == nil && path != "" {
			err = g.summarize(path)
		}
	}
	return err
}

// reportFailure tells those who read reports of a boot that failed, which is judged by nothing.
func (o *gateOptions) reportFailure(cmd *cobra.Command, g *gate, boot error) (err error) {
	if code := exitCode(boot); code == exitUsage || cmd.Context().Err() != nil {
		return nil
	}
	if o.junit != "" {
		err = outputError(writeFile(o.junit, func(w io.Writer) error {
			return profile.WriteJUnit(w, "bootprof gate", []profile.Case{{Name: "boot", Error: boot.Error()}})
		}))
	}
	if err == nil && o.onGitHub() {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "::error title=The boot failed::%s\n", githubData(boot.Error()))
	}
	return err
}

// onGitHub reports whether GitHub's runner reads what is written.
func (o *gateOptions) onGitHub() bool { return o.github || os.Getenv("GITHUB_ACTIONS") == "true" }

// isRecording tells whether a path is a recording rather than an image: by what it begins with, since no image begins like that. A
// folder is none of an image's either.
func isRecording(path string) bool {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return true
	}
	f, err := os.Open(path)
	if err != nil {
		return filepath.Ext(path) == ".fl"
	}
	defer f.Close()
	b := make([]byte, len(recordingMagic))
	n, _ := io.ReadFull(f, b)
	return filepath.Ext(path) == ".fl" || n > 0 && bytes.HasPrefix([]byte(recordingMagic), b[:n])
}

// recordingMagic is what a recording begins with.
const recordingMagic = "FLRECORD"

// gate is a boot and what it is judged by.
type gate struct {
	file      *budget.File
	baseName  string               // "" without one
	rec, base *boottrace.Recording // base may be nil
	strict    bool
	tell      *teller

	results  []budget.Result
	warnings []string // of the baseline
	grown    map[*budget.Result][]profile.FunctionChange
	files    []string // that were written
	tail     []byte   // of the console of a boot whose app failed
}

// judge judges the boots so far.
func (g *gate) judge(looks int) {
	g.results = g.file.Judge(budget.NewSide(g.rec), budget.NewSide(g.base), looks)
}

// boots makes the boots that the limits need.
func (o *gateOptions) boots(cmd *cobra.Command, g *gate, args, appArgs []string) error {
	started := time.Now()
	p, err := o.plan(args, appArgs)
	if err != nil {
		return err
	}
	if p.q, err = o.choose(cmd, &p.config, g.tell); err != nil {
		return err
	}
	if err := o.setMilestones(p, g.tell); err != nil {
		return err
	}
	g.rec = p.newRecording(started)
	if err := g.checkBaseline(o.force); err != nil { // before any time is spent on booting
		return err
	}
	var dir *folder
	if o.out != "" {
		if dir, err = openFolder(o.out); err != nil {
			return err
		}
	}
	if err := o.make(cmd, g, p); err != nil {
		if dir != nil {
			dir.giveUp()
		}
		return err
	}
	if dir != nil {
		if g.files, err = dir.write(g.rec); err != nil {
			return errorf(exitFailed, "the boots are done, but they could not be written: %w", err)
		}
	}
	return g.checkBaseline(o.force) // now that it is known what ready was
}

// make makes the boots and judges them.
func (o *gateOptions) make(cmd *cobra.Command, g *gate, p *plan) error {
	boots := func(s series) error {
		at := len(g.rec.Runs)
		tails, err := s.run(cmd.Context(), p, g.rec, g.tell)
		g.tell.clear()
		for i, run := range g.rec.Runs[at:] {
			if run.End != nil && run.End.Failed() && i < len(tails) {
				g.tail = tails[i]
			}
		}
		return err
	}
	limits := g.file.Limiting
	p.profile.exact = limits(budget.Symbols) || limits(budget.Instructions) && g.base != nil && g.base.Exact != nil
	if p.profile.exact || limits(budget.Instructions) || limits(budget.Touched) {
		if err := boots(series{counting: 1, mustCount: true}); err != nil {
			return err
		}
	}
	if limits(budget.PSS) || limits(budget.RSS) { // with a profile the VMM takes more memory
		exact := p.profile
		if p.profile = (profiles{}); exact.exact || len(g.rec.Runs) == 0 {
			if err := boots(series{counting: 1, mustCount: true}); err != nil {
				return err
			}
		}
	}
	g.rec.Exact = p.exact
	if !limits(budget.Time) || g.failed() {
		g.judge(1)
		return nil
	}
	looks := budget.Looks(o.maxRuns)
	have := 0
	for _, n := range looks {
		if err := boots(series{timed: n - have, floor: true}); err != nil {
			return err
		}
		have = n
		if g.judge(len(looks)); g.failed() || !budget.MoreWouldTell(g.results) {
			break
		}
	}
	return nil
}

// failed reports whether a boot's app failed, so that what it took means little.
func (g *gate) failed() bool {
	if g.rec == nil {
		return false
	}
	run := g.rec.Outcome()
	return run != nil && run.End != nil && run.End.Failed()
}

// verdict is the error that the gate ends with: what failed, then what could not be measured.
func (g *gate) verdict() error {
	var app, failed, unmeasured failures
	if g.failed() {
		text := g.rec.Outcome().End.String()
		if tail := strings.TrimSpace(string(g.tail[max(0, len(g.tail)-shownEnd):])); tail != "" {
			text += "\nthe console ended with:\n" + tail
		}
		app = failures{&exitError{exitFailed, errors.New(text)}}
	}
	for _, text := range g.warnings {
		g.tell.warn("%s", text)
	}
	for i := range g.results {
		r := &g.results[i]
		text := errors.New(r.Sentence())
		switch {
		case r.Verdict == budget.Fail, r.Verdict == budget.Undecided && g.strict:
			failed = append(failed, &exitError{exitBudget, text})
		case r.Verdict == budget.Undecided:
			g.tell.warn("%v", text)
		case r.Verdict == budget.Unmeasured:
			unmeasured = append(unmeasured, &exitError{exitHost, text})
		}
	}
	if all := slices.Concat(app, failed, unmeasured); len(all) > 0 {
		return all
	}
	return nil
}

// warn says what is not well and yet no failure.
func (t *teller) warn(format string, args ...any) {
	t.clear()
	fmt.Fprintf(t.w, "warning: "+format+"\n", args...)
}
