package main

import (
	"fmt"
	"strings"
)

// markdown writes a page in GitHub's Markdown.
func markdown(p *page) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- Made by make docs from the command itself. -->\n\n# %s\n\n%s.\n\n    %s\n", p.path, plainMarkdown(p.short), p.synopsis)
	for _, part := range p.body {
		if part.verbatim {
			b.WriteString("\n" + indent(part.text) + "\n")
		} else {
			b.WriteString("\n" + plainMarkdown(part.text) + "\n")
		}
	}
	if p.example != "" {
		b.WriteString("\n## Examples\n\n" + indent(p.example) + "\n")
	}
	b.WriteString("\n## Options\n\n")
	for _, f := range p.flags {
		b.WriteString("- `" + strings.Join(f.spellings(), "`, `") + "`: " + plainMarkdown(f.usage) + "\n")
	}
	if len(p.see) > 0 {
		b.WriteString("\n## See also\n\n")
		for _, path := range p.see {
			fmt.Fprintf(&b, "- [%s](%s.md)\n", path, fileName(path))
		}
	}
	return b.String()
}

// spellings are the ways to write a flag, the last with its value.
func (f option) spellings() []string {
	long := "--" + f.long
	switch {
	case strings.HasPrefix(f.value, "["):
		long += f.value
	case f.value != "":
		long += " " + f.value
	}
	if f.short != "" {
		return []string{"-" + f.short, long}
	}
	return []string{long}
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.ReplaceAll(text, "\n", "\n    "), "\n    \n", "\n\n")
}

var markdownEscapes = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "<", "&lt;", ">", "&gt;", "[", `\[`, "]", `\]`, "|", `\|`)

func plainMarkdown(s string) string { return markdownEscapes.Replace(s) }

// man writes a page for man, in the macros of man(7).
func man(p *page) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".\\\" Made by make docs from the command itself.\n.TH %s 1 \"\" Firstlight \"Firstlight\"\n", roffWord(strings.ToUpper(p.name())))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(p.name()), roff(lower(p.short)))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n\\fB%s\\fR%s\n", roff(p.path), roff(strings.TrimPrefix(p.synopsis, p.path)))
	b.WriteString(".SH DESCRIPTION\n")
	if len(p.body) == 0 {
		b.WriteString(roffLine(p.short+".") + "\n")
	}
	for i, part := range p.body {
		switch {
		case part.verbatim:
			b.WriteString(roffVerbatim(part.text))
		case i > 0:
			b.WriteString(".PP\n" + roffLine(part.text) + "\n")
		default:
			b.WriteString(roffLine(part.text) + "\n")
		}
	}
	b.WriteString(".SH OPTIONS\n")
	for _, f := range p.flags {
		b.WriteString(".TP\n")
		for i, s := range f.spellings() {
			if i > 0 {
				b.WriteString(", ")
			}
			name, value, _ := strings.Cut(s, " ")
			name, optional, bracket := strings.Cut(name, "[")
			b.WriteString(`\fB` + roff(name) + `\fR`)
			if bracket {
				b.WriteString(roff("[" + optional))
			} else if value != "" {
				b.WriteString(` \fI` + roff(value) + `\fR`)
			}
		}
		b.WriteString("\n" + roffLine(f.usage) + "\n")
	}
	if p.example != "" {
		b.WriteString(".SH EXAMPLES\n" + roffVerbatim(p.example))
	}
	if len(p.see) > 0 {
		b.WriteString(".SH SEE ALSO\n")
		for i, path := range p.see {
			if i > 0 {
				b.WriteString(",\n")
			}
			fmt.Fprintf(&b, "\\fB%s\\fR(1)", roff(fileName(path)))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// lower begins a sentence in lower case, as NAME has it, unless the word is all capitals.
func lower(s string) string {
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// roff escapes a text for groff: nothing in it is an escape, hyphens are those of the keyboard, and what is not ASCII is named
// by its code point (groff_char(7)).
func roff(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r > 0x7e:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// roffLine escapes a text that begins a line, where a period would begin a request.
func roffLine(s string) string {
	if strings.HasPrefix(s, ".") {
		return `\&` + roff(s)
	}
	return roff(s)
}

// roffWord escapes a text for a request's argument.
func roffWord(s string) string { return `"` + strings.ReplaceAll(roff(s), `"`, `\(dq`) + `"` }

func roffVerbatim(text string) string {
	var b strings.Builder
	b.WriteString(".PP\n.RS 4\n.nf\n")
	for line := range strings.SplitSeq(text, "\n") {
		b.WriteString(roffLine(line) + "\n")
	}
	b.WriteString(".fi\n.RE\n")
	return b.String()
}
