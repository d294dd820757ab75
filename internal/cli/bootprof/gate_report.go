package bootprof

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/firstlight-boot/firstlight/boottrace/budget"
	"github.com/firstlight-boot/firstlight/profile"
)

// gateHeads are the heads of the table's columns.
var gateHeads = []string{"budget", "limit", "measured", "interval", "verdict"}

// rows are the cells of the table.
func (g *gate) rows() [][]string {
	var rows [][]string
	for i := range g.results {
		r := &g.results[i]
		verdict := string(r.Verdict)
		if r.Runs > 0 {
			verdict += " (" + r.RunsText() + ")"
		}
		rows = append(rows, []string{r.Key, r.Text, r.MeasuredText(), r.IntervalText(), verdict})
	}
	return rows
}

// write writes the table for people.
func (g *gate) write(w io.Writer, style profile.Style) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  by %s\n\n", printable(g.rec.Image), printable(g.file.Name))
	rows := append([][]string{gateHeads}, g.rows()...)
	widths := make([]int, len(gateHeads))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = printable(cell)
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			b.WriteString(cell + strings.Repeat(" ", widths[i]+2-utf8.RuneCountInString(cell)))
		}
		verdict := row[len(row)-1]
		word, _, _ := strings.Cut(verdict, " ")
		if color := verdictColors[budget.Verdict(word)]; style.Color && color != "" {
			verdict = color + verdict + "\x1b[0m"
		}
		b.WriteString(verdict + "\n")
	}
	for i := range g.results {
		r := &g.results[i]
		if text := g.grownText(r); text != "" {
			fmt.Fprintf(&b, "\n%s: the functions that grew most against the baseline\n%s", r.Key, text)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var verdictColors = map[budget.Verdict]string{
	budget.Pass: "\x1b[32m", budget.Fail: "\x1b[31m", budget.Undecided: "\x1b[33m", budget.Unmeasured: "\x1b[31m",
}

// grownText lists the functions that grew, one a line; "" if there are none.
func (g *gate) grownText(r *budget.Result) string {
	var b strings.Builder
	for _, f := range g.grown[r] {
		fmt.Fprintf(&b, "%+12d instructions  %s\n", f.Self, printable(f.Name))
	}
	return b.String()
}

// gateObject is what --json prints. Fields that were not measured are absent.
type gateObject struct {
	Image    string         `json:"image"`
	Budget   string         `json:"budget"`
	Baseline string         `json:"baseline,omitempty"`
	Verdict  budget.Verdict `json:"verdict"` // the worst of all, or bootFailed
	Limits   []limitObject  `json:"limits"`
	Warnings []string       `json:"warnings,omitempty"`
	Files    []string       `json:"files,omitempty"`
}

type limitObject struct {
	Key      string           `json:"key"`
	Line     int              `json:"line"`
	Limit    string           `json:"limit"` // as the file has it
	Relative budget.Reference `json:"relative_to,omitempty"`
	Verdict  budget.Verdict   `json:"verdict"`
	Why      string           `json:"why,omitempty"`

	Unit     string   `json:"unit"` // of the figures below: ms, instructions, bytes, percent or ratio
	Bound    *float64 `json:"bound,omitempty"`
	Measured *float64 `json:"measured,omitempty"`
	Low      *float64 `json:"low,omitempty"`
	High     *float64 `json:"high,omitempty"`
	Runs     int      `json:"runs,omitempty"`

	Functions []profile.FunctionChange `json:"functions,omitempty"`
}

func (g *gate) writeJSON(w io.Writer) error {
	o := gateObject{Image: g.rec.Image, Budget: g.file.Name, Baseline: g.baseName, Verdict: g.worst(), Warnings: g.warnings, Files: g.files}
	for i := range g.results {
		r := &g.results[i]
		l := limitObject{Key: r.Key, Line: r.Line, Limit: r.Text, Relative: r.Reference, Verdict: r.Verdict, Why: r.Why, Runs: r.Runs, Functions: g.grown[r]}
		var scale float64
		l.Unit, scale = r.Unit()
		if r.Verdict != budget.Unmeasured {
			for _, f := range []struct {
				to **float64
				v  float64
			}{{&l.Bound, r.Bound}, {&l.Measured, r.Measured}, {&l.Low, r.Low}, {&l.High, r.High}} {
				if !math.IsInf(f.v, 0) && !math.IsNaN(f.v) {
					*f.to = new(f.v / scale)
				}
			}
		}
		o.Limits = append(o.Limits, l)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(o)
}

// bootFailed is the verdict of a gate whose app failed, whatever the limits say.
const bootFailed budget.Verdict = "boot failed"

// worst is the verdict of the gate as a whole.
func (g *gate) worst() budget.Verdict {
	if g.failed() {
		return bootFailed
	}
	for _, v := range []budget.Verdict{budget.Fail, budget.Unmeasured, budget.Undecided} {
		if slices.ContainsFunc(g.results, func(r budget.Result) bool { return r.Verdict == v }) {
			return v
		}
	}
	return budget.Pass
}

// cases are the limits as test cases.
func (g *gate) cases() []profile.Case {
	var all []profile.Case
	if g.failed() {
		all = append(all, profile.Case{Name: "boot", Failure: g.rec.Outcome().End.String(), Detail: string(g.tail)})
	}
	for i := range g.results {
		r := &g.results[i]
		c := profile.Case{Name: r.Key + " " + r.Text, Detail: fmt.Sprintf("%s:%d\n%s", g.file.Name, r.Line, r.Sentence())}
		if r.Metric == budget.Time {
			c.Nanos = int64(r.Value)
		}
		switch r.Verdict {
		case budget.Fail:
			c.Failure = r.Sentence()
			if text := g.grownText(r); text != "" {
				c.Detail += "\nThe functions that grew most:\n" + text
			}
		case budget.Undecided:
			c.Skipped = r.Sentence()
			if g.strict {
				c.Skipped, c.Failure = "", c.Skipped
			}
		case budget.Unmeasured:
			c.Error = r.Sentence()
		}
		all = append(all, c)
	}
	return all
}
