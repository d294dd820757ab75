package bootprof

import (
	"cmp"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/profile"
)

// diffOptions are the flags of bootprof diff.
type diffOptions struct {
	json, force, fail bool
	top               int
	sample            string
}

func diffCommand() *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff A B [flags]",
		Short: "Compare two recordings: what got slower, by phase and by function",
		Long: `Compare recording B with recording A: time, instructions, memory and disk, by phase and by function.

Instructions were counted, so one counting boot of each decides. Times vary: a difference is told as such only if the
Mann-Whitney test finds it significant (p < 0.05), with the 95 % confidence interval of Hodges and Lehmann; four timed
boots of each are the least that can. "boot ÷ floor" takes the host's speed out of it, if both have floor runs.

Recordings with different accelerators, machines or ready conditions are not comparable, and are refused without --force.`,
		Example: `  bootprof diff before.bootprof after.bootprof
  bootprof diff before.bootprof after.bootprof --json --top 100`,
		Args:              wantArgs(2, 2, "two recordings"),
		ValidArgsFunction: completeRecordings(2),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print one JSON object instead of text")
	f.IntVar(&o.top, "top", 20, "how many functions to show")
	f.StringVar(&o.sample, "sample", "", "the profiles to compare functions by, of two: exact or sampled (default: exact)")
	f.BoolVar(&o.force, "force", false, "compare what is not comparable")
	f.BoolVar(&o.fail, "fail-on-regression", false, "exit code 3 if B is slower, or executes more instructions, for certain")
	// It fails for a flag that does not exist only.
	_ = cmd.RegisterFlagCompletionFunc("sample", cobra.FixedCompletions([]string{"exact", "sampled"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (o *diffOptions) run(cmd *cobra.Command, args []string) error {
	if o.top < 0 {
		return usagef("--top %d: want no negative number", o.top)
	}
	if o.sample != "" && o.sample != "exact" && o.sample != "sampled" {
		return usagef("--sample %q: want exact or sampled", o.sample)
	}
	defer smallHeap()()
	var sides [2]*profile.Side
	var errs [2]error
	var both sync.WaitGroup
	for i, path := range args {
		both.Go(func() {
			rec, err := openRecording(path)
			if err != nil {
				errs[i] = err
				return
			}
			sides[i] = profile.NewSide(rec, o.sample == "sampled")
		})
	}
	both.Wait()
	if err := cmp.Or(errs[0], errs[1]); err != nil {
		return err
	}
	d := profile.NewDiff(sides[0], sides[1], o.top)
	if len(d.Conflicts) > 0 && !o.force {
		return usagef("%s and %s are not comparable; --force compares them all the same\n  %s", args[0], args[1], strings.Join(d.Conflicts, "\n  "))
	}
	var err error
	if o.json {
		err = d.WriteJSON(cmd.OutOrStdout())
	} else {
		err = d.WriteTable(cmd.OutOrStdout(), style(cmd.OutOrStdout(), false))
	}
	if err != nil || !o.fail {
		return err
	}
	var all failures
	for _, c := range d.Regressions() {
		all = append(all, errorf(exitBudget, "B is a regression: %s went from %.6g to %.6g %s", c.Name, c.A, c.B, c.Unit))
	}
	if len(all) > 0 {
		return all
	}
	return nil
}

// smallHeap has the heap grow less between collections, since recordings are large and hold few pointers; it returns what
// undoes it.
func smallHeap() func() {
	percent := debug.SetGCPercent(50)
	return func() { debug.SetGCPercent(percent) }
}
