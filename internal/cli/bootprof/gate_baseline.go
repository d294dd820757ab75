package bootprof

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/boottrace/budget"
	"github.com/firstlight-boot/firstlight/profile"
)

// compare says how the baseline was made otherwise than the boots: conflicts make the two not comparable, the rest is a warning. What
// is not known of one of them, as ready before the first boot, is left out.
func compare(base, rec *boottrace.Recording, timed bool) (conflicts, warnings []string) {
	for _, c := range []struct {
		what, x, y string
		conflict   bool
	}{
		{"flavour", base.Flavour, rec.Flavour, true},
		{"machine", base.Machine, rec.Machine, true},
		{"what ready means", base.Until(), rec.Until(), true},
		{"accelerator", base.Accel, rec.Accel, timed}, // instructions are counted under TCG always
		{"another image", filepath.Base(base.Image), filepath.Base(rec.Image), false},
		{"firmware", base.Firmware, rec.Firmware, false},
		{"VMM", base.VMM, rec.VMM, false},
		{"guest memory", mebibytes(base.MemoryBytes), mebibytes(rec.MemoryBytes), false},
		{"the host's CPU", base.CPU, rec.CPU, false},
	} {
		if c.x == c.y || c.x == "" || c.y == "" || c.what == "the host's CPU" && !timed {
			continue
		}
		text := fmt.Sprintf("%s: the baseline has %s, this is %s", c.what, printable(c.x), printable(c.y))
		if c.conflict {
			conflicts = append(conflicts, text)
		} else {
			warnings = append(warnings, text)
		}
	}
	return conflicts, warnings
}

func mebibytes(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// checkBaseline refuses a baseline that the boots cannot be compared with, and keeps what else is to be said of it.
func (g *gate) checkBaseline(force bool) error {
	if g.base == nil || !g.file.Uses(budget.Baseline) {
		return nil
	}
	timed := slices.ContainsFunc(g.file.Limits, func(l budget.Limit) bool {
		return l.Metric == budget.Time && l.Reference == budget.Baseline
	})
	conflicts, warnings := compare(g.base, g.rec, timed)
	if len(conflicts) > 0 && !force {
		return usagef("%s: the baseline is not comparable; record it anew, or compare all the same with --force\n  %s", g.baseName, strings.Join(conflicts, "\n  "))
	}
	g.warnings = slices.Concat(conflicts, warnings)
	return nil
}

// grown is how many functions are told for a limit that failed.
const grown = 5

// findGrown finds the functions that grew most against the baseline, for each limit that failed of time or instructions.
func (g *gate) findGrown() {
	if g.base == nil || g.base.Exact == nil || g.rec.Exact == nil {
		return
	}
	var all []profile.FunctionChange
	for i := range g.results {
		r := &g.results[i]
		if r.Verdict != budget.Fail || r.Metric != budget.Instructions && r.Metric != budget.Time {
			continue
		}
		if all == nil {
			d := profile.NewDiff(profile.NewSide(g.base, false), profile.NewSide(g.rec, false), len(g.base.Exact.Functions)+len(g.rec.Exact.Functions)+len(g.rec.Exact.Mappings)+1)
			all = d.Functions
		}
		if g.grown == nil {
			g.grown = make(map[*budget.Result][]profile.FunctionChange)
		}
		for _, f := range all {
			if f.Self > 0 && (r.Phase == "" || r.Phase == f.Phase) && len(g.grown[r]) < grown {
				g.grown[r] = append(g.grown[r], f)
			}
		}
	}
}
