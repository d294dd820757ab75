package bootprof

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/term"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/profile"
)

// report writes what people read: the app's output, the timeline and the files.
func (o *qemuOptions) report(w io.Writer, rec *boottrace.Recording, tails [][]byte, files []string) error {
	var b bytes.Buffer
	for i := range rec.Runs {
		if run := &rec.Runs[i]; run == rec.Outcome() {
			writeOutput(&b, run, tails[i], isTerminal(w))
		}
	}
	if err := profile.WriteTimeline(&b, rec, style(w, o.verbose)); err != nil {
		return err
	}
	for i, path := range files {
		name := ""
		if i == 0 {
			name = "files"
		}
		fmt.Fprintf(&b, "%-14s%s\n", name, path)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// style is the style that suits a stream.
func style(w io.Writer, marks bool) profile.Style {
	s := profile.Style{Marks: marks}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		_, no := os.LookupEnv("NO_COLOR")
		s.Color = (!no || os.Getenv("NO_COLOR") == "") && os.Getenv("TERM") != "dumb"
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			s.Width = min(width, 120)
		}
	}
	return s
}

// How much of a long output is shown.
const (
	maxShown = 8 << 10 // an output up to this is shown whole
	shownEnd = 2 << 10 // of a longer one, its start and this much of its end
)

// writeOutput writes the app's output, of a long one its start and its end, and an empty line. A terminal gets no control
// characters, with which an app could do as it likes to it.
func writeOutput(w io.Writer, run *boottrace.Run, tail []byte, terminal bool) {
	if run.OutputBytes == 0 {
		return
	}
	out := run.Output
	if run.OutputBytes > maxShown {
		tail = tail[max(0, len(tail)-shownEnd):]
		head := out[:maxShown-shownEnd]
		left := run.OutputBytes - uint64(len(head)) - uint64(len(tail))
		out = fmt.Appendf(bytes.Clone(head), "\n[... %d bytes of output are not shown ...]\n", left)
		out = append(out, tail...)
	}
	if terminal {
		out = bytes.Map(func(r rune) rune {
			if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
				return '\ufffd'
			}
			return r
		}, bytes.ReplaceAll(out, []byte("\r\n"), []byte("\n")))
	}
	w.Write(out)
	if !bytes.HasSuffix(out, []byte("\n")) {
		io.WriteString(w, "\n")
	}
	io.WriteString(w, "\n")
}

// judge says what was wrong with boots that came to their end: the app's failure, and then each budget that was exceeded or
// could not be measured.
func (o *qemuOptions) judge(rec *boottrace.Recording, budget boottrace.Budget) error {
	var failed, exceeded, unmeasured failures
	if run := rec.Outcome(); run != nil && run.End != nil && run.End.Failed() {
		failed = failures{errorf(exitFailed, "%s", run.End)}
	}
	for _, v := range budget.Check(rec.Summarize()) {
		switch {
		case v.Measured == nil:
			unmeasured = append(unmeasured, errorf(exitHost, "the budget max-%s could not be measured%s", v.Budget, o.unmeasured(rec, v.Budget)))
		case v.Exceeded():
			exceeded = append(exceeded, errorf(exitBudget, "budget exceeded: %s, %s over max-%s", spent(v), amount(v.Budget, v.Over()), limit(v)))
		}
	}
	if all := slices.Concat(failed, exceeded, unmeasured); len(all) > 0 {
		return all
	}
	return nil
}

// unmeasured says why a budget was not measured.
func (o *qemuOptions) unmeasured(rec *boottrace.Recording, budget string) string {
	switch {
	case budget == "boot" && o.timed == 0:
		return ": there was no timed boot (-n 0)"
	case budget == "instructions" && o.counting == 0:
		return ": there was no counting boot (--counting 0)"
	case budget == "instructions" && len(rec.Of(boottrace.Counting)) > 0:
		return ": this kernel does not tell when its output starts; with --until exit the whole boot is counted"
	case budget == "instructions":
		return ": no counting boot could be made"
	}
	return ""
}

func spent(v boottrace.Verdict) string {
	runs := "one boot"
	if v.Measured.Runs > 1 {
		runs = fmt.Sprintf("median of %d boots", v.Measured.Runs)
	}
	what := map[string]string{"boot": "the boot took %s", "memory": "%s of guest memory were touched", "instructions": "%s guest instructions were executed"}[v.Budget]
	return fmt.Sprintf(what, amount(v.Budget, v.Measured.Median)) + " (" + runs + ")"
}

// limit spells a budget as its flag and imgbuild.yaml do.
func limit(v boottrace.Verdict) string {
	if v.Budget == "boot" {
		return "boot " + time.Duration(v.Limit).String()
	}
	return fmt.Sprintf("%s %.0f", v.Budget, v.Limit)
}

// amount formats an amount of what a budget limits.
func amount(budget string, n float64) string {
	switch budget {
	case "boot":
		return fmt.Sprintf("%.2f ms", n/1e6)
	case "memory":
		return fmt.Sprintf("%.0f bytes", n)
	}
	return fmt.Sprintf("%.0f", n)
}
