package bootprof

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/firstlight-boot/firstlight/boottrace/budget"
)

func writef(w io.Writer, format string, args ...any) { fmt.Fprintf(w, format, args...) }

// write writes the table for people.
func (g *gate) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s\n\n", printable(g.rec.Image), printable(g.file.Name))
	rows := [][]string{{"", "limit", "measured", "interval", "verdict"}}
	for i := range g.results {
		r := &g.results[i]
		rows = append(rows, []string{r.Key, r.Text, r.MeasuredText(), r.IntervalText(), verdictText(r)})
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		for i, cell := range row {
			if i < len(row)-1 {
				cell += strings.Repeat(" ", widths[i]+2-utf8.RuneCountInString(cell))
			}
			b.WriteString(cell)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func verdictText(r *budget.Result) string {
	if r.Runs == 0 {
		return string(r.Verdict)
	}
	return fmt.Sprintf("%s (%s)", r.Verdict, r.RunsText())
}
