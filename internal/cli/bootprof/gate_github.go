package bootprof

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace/budget"
)

// annotate writes a workflow command for each limit that did not pass, with which GitHub marks the limit's line in the budget file.
// path is the file's, relative to the repository. The form is that of
// https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands.
func (g *gate) annotate(w io.Writer, path string) error {
	var b strings.Builder
	command := func(level string, line int, title, text string) {
		at := ""
		if line > 0 {
			at = fmt.Sprintf(",line=%d", line)
		}
		fmt.Fprintf(&b, "::%s file=%s%s,title=%s::%s\n", level, githubProperty(path), at, githubProperty(title), githubData(text))
	}
	if g.failed() {
		command("error", 0, "The boot failed", g.rec.Outcome().End.String())
	}
	for _, text := range g.warnings {
		command("warning", 0, "Baseline", text)
	}
	for i := range g.results {
		r := &g.results[i]
		level, title := "error", "Boot budget exceeded: "
		switch r.Verdict {
		case budget.Pass:
			continue
		case budget.Undecided:
			title = "Boot budget undecided: "
			if !g.strict {
				level = "warning"
			}
		case budget.Unmeasured:
			title = "Boot budget not measured: "
		}
		text := r.Sentence()
		if grown := g.grownText(r); grown != "" {
			text += "\nThe functions that grew most:\n" + strings.TrimRight(grown, "\n")
		}
		command(level, r.Line, title+r.Key, text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// githubData and githubProperty escape what stands behind and within the colons of a workflow command, as
// github.com/actions/toolkit, packages/core/src/command.ts does.
func githubData(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

func githubProperty(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(s)
}

// inWorkspace is a path relative to GitHub's checkout, or the path itself if it is not in there.
func inWorkspace(path string) string {
	workspace := os.Getenv("GITHUB_WORKSPACE")
	if workspace == "" {
		return path
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(workspace, full)
	if err != nil || !filepath.IsLocal(rel) {
		return path
	}
	return filepath.ToSlash(rel)
}

// summarize appends the table as Markdown to the file that GitHub shows as the job's summary.
func (g *gate) summarize(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, g.markdown())
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// markdown is the table as GitHub's Markdown has it.
func (g *gate) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### Boot budget of %s: %s\n\n", markdownText(g.rec.Image), g.worst())
	row := func(cells []string) {
		for _, c := range cells {
			b.WriteString("| " + markdownText(c) + " ")
		}
		b.WriteString("|\n")
	}
	row(gateHeads)
	b.WriteString(strings.Repeat("| --- ", len(gateHeads)) + "|\n")
	for _, cells := range g.rows() {
		row(cells)
	}
	for i := range g.results {
		r := &g.results[i]
		if len(g.grown[r]) > 0 {
			fmt.Fprintf(&b, "\nThe functions that grew most, of %s:\n\n", markdownText(r.Key))
		}
		for _, f := range g.grown[r] {
			fmt.Fprintf(&b, "- %+d instructions: %s\n", f.Self, markdownText(f.Name))
		}
	}
	for _, text := range g.warnings {
		fmt.Fprintf(&b, "\nBaseline: %s\n", markdownText(text))
	}
	b.WriteByte('\n')
	return b.String()
}

// markdownText escapes what Markdown, its tables and HTML take for their own.
func markdownText(s string) string {
	var b strings.Builder
	for _, r := range printable(s) {
		if strings.ContainsRune("\\`*_{}[]()<>#+!|~&$", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
