package boottrace

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// PhaseAt returns the name of the phase of a counting run in which its n-th instruction was executed, counted from 0; or "" after
// ready.
func (run *Run) PhaseAt(n uint64) string {
	end := 0.0
	for _, p := range layOut(run.points()) {
		end += p.Nanos // which are instructions in a counting run
		if float64(n) < math.Round(end) {
			return strings.TrimPrefix(p.Name, phaseNames[vmm]+"+") // which is not the guest
		}
	}
	return ""
}

// PhaseAtMark is like PhaseAt for a counting run of which it is not known how many instructions came before ready: the phase is the
// one that the marks before n lead to.
func (run *Run) PhaseAtMark(n uint64) string {
	phase := firmware
	for _, m := range run.Marks {
		if m.Instructions <= n && m.Instructions > 0 {
			if ends := m.ends(); ends != noPhase {
				phase = max(phase, ends+1)
			}
		}
	}
	if !slices.ContainsFunc(run.Marks, func(m Mark) bool { return m.ends() == firmware && m.Instructions > 0 }) && phase <= kernel {
		return phaseNames[firmware] + "+" + phaseNames[kernel]
	}
	return phaseNames[min(phase, app)]
}

// AddMarks adds marks that the host found, in their order, to those that the guest wrote. At most MaxMarks are kept.
func (run *Run) AddMarks(marks []Mark) {
	run.Marks = append(run.Marks, marks...)
	slices.SortStableFunc(run.Marks, func(a, b Mark) int { return cmp.Compare(a.HostNanos, b.HostNanos) })
	run.Marks = run.Marks[:min(len(run.Marks), MaxMarks)]
}
