package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// page is what there is to say of one command.
type page struct {
	path     string // as "bootprof qemu"
	short    string
	synopsis string
	body     []block // the long description
	example  string
	flags    []option // by name
	see      []string
}

// name is the page's file name without its extension.
func (p *page) name() string { return fileName(p.path) }

func fileName(path string) string { return strings.ReplaceAll(path, " ", "-") }

// block is a paragraph, or lines that stay as they are.
type block struct {
	text     string
	verbatim bool
}

// option is an option as it is written, and what it does.
type option struct {
	short, long, value string
	usage              string
}

// pages lists a command and all below it, in the order of their names.
func pages(cmd *cobra.Command) []*page {
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	p := &page{
		path: cmd.CommandPath(), short: cmd.Short, synopsis: cmd.UseLine(), example: strings.TrimRight(dedent(cmd.Example), "\n"),
		body: blocks(cmd.Long),
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			p.flags = append(p.flags, newOption(f))
		}
	})
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			p.flags = append(p.flags, newOption(f))
		}
	})
	if cmd.HasParent() {
		p.see = append(p.see, cmd.Parent().CommandPath())
	}
	all := []*page{p}
	for _, c := range cmd.Commands() { // cobra sorts them
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		p.see = append(p.see, c.CommandPath())
		all = append(all, pages(c)...)
	}
	return all
}

func newOption(f *pflag.Flag) option {
	value, usage := pflag.UnquoteUsage(f)
	if plain, ok := map[string]string{"string": "TEXT", "stringArray": "TEXT", "strings": "LIST", "int": "N", "uint": "N", "float": "N", "duration": "TIME"}[value]; ok {
		value = plain
	}
	out := option{short: f.Shorthand, long: f.Name, value: value, usage: usage}
	switch f.DefValue {
	case "", "0", "0s", "false", "[]", "<nil>":
	default:
		if !strings.Contains(usage, "(default") {
			out.usage += " (default " + f.DefValue + ")"
		}
	}
	if f.NoOptDefVal != "" && f.Value.Type() != "bool" {
		out.value = "[=" + value + "]"
	}
	return out
}

// blocks takes a text apart: an empty line ends a paragraph, and lines that begin with a blank stay as they are.
func blocks(text string) []block {
	var all []block
	for part := range strings.SplitSeq(strings.Trim(text, "\n"), "\n\n") {
		if part = strings.Trim(part, "\n"); part == "" {
			continue
		}
		if strings.HasPrefix(part, " ") {
			all = append(all, block{dedent(part), true})
			continue
		}
		all = append(all, block{strings.Join(strings.Fields(part), " "), false})
	}
	return all
}

// dedent takes away the blanks that all lines begin with.
func dedent(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	least := -1
	for _, line := range lines {
		if n := len(line) - len(strings.TrimLeft(line, " ")); strings.TrimSpace(line) != "" && (least < 0 || n < least) {
			least = n
		}
	}
	for i, line := range lines {
		lines[i] = line[min(max(least, 0), len(line)):]
	}
	return strings.Join(lines, "\n")
}
