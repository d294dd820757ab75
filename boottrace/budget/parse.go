package budget

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/firstlight-boot/firstlight/internal/spelling"
)

// MaxFile bounds the size of a budget file in bytes: the YAML package takes time that grows with the square of some files' size.
const MaxFile = 16 << 10

// maxLimits bounds the limits of one file.
const maxLimits = 256

// File is a budget file.
type File struct {
	Name   string
	Limits []Limit // in the file's order; at least one
}

// Uses reports whether a limit refers to r.
func (f *File) Uses(r Reference) bool {
	return slices.ContainsFunc(f.Limits, func(l Limit) bool { return l.Reference == r })
}

// Limiting reports whether there is a limit of m.
func (f *File) Limiting(m Metric) bool {
	return slices.ContainsFunc(f.Limits, func(l Limit) bool { return l.Metric == m })
}

// Error is what is wrong in a budget file.
type Error struct {
	Name string
	Line int // 0: of the file as a whole
	Err  error
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Name + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s:%d: %v", e.Name, e.Line, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Parse reads the content of the budget file called name. Its errors are of type *Error.
func Parse(name string, b []byte) (f *File, err error) {
	p := parsing{file: &File{Name: name}}
	// The YAML package has panicked on malformed tags before; a user's typo is to end in a message all the same.
	defer func() {
		if r := recover(); r != nil {
			f, err = nil, p.errorf(0, "malformed YAML (%v)", r)
		}
	}()
	if len(b) > MaxFile {
		return nil, p.errorf(0, "longer than %d bytes", MaxFile)
	}
	doc, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, p.syntax(err)
	}
	if len(doc.Docs) > 1 {
		return nil, p.errorf(doc.Docs[1].GetToken().Position.Line, "more than one YAML document")
	}
	if len(doc.Docs) == 1 && doc.Docs[0].Body != nil {
		if err := p.mapping(doc.Docs[0].Body, "", keys); err != nil {
			return nil, err
		}
	}
	if len(p.file.Limits) == 0 {
		return nil, p.errorf(0, "it has no limit; want as \"total: 250ms\", with any of the keys %s", keys.list())
	}
	return p.file, nil
}

// key is a key of the file: one with a limit, or one with keys below it.
type key struct {
	name   string
	metric Metric
	phase  string
	below  schema // nil: it has a limit
	short  bool   // a limit may stand in place of what is below: it is that of the first key there
}

type schema []key

var keys = schema{
	{name: "total", metric: Time},
	{name: "phases", below: phases(Time)},
	{name: "instructions", short: true, below: schema{
		{name: "total", metric: Instructions},
		{name: "phases", below: phases(Instructions)},
	}},
	{name: "memory", short: true, below: schema{
		{name: "touched", metric: Touched}, {name: "rss", metric: RSS}, {name: "pss", metric: PSS},
	}},
	{name: "image", metric: ImageSize},
	{name: "symbols", metric: Symbols},
}

// phases are the keys for phases: their names, and those of neighbours that a recording could not tell apart.
func phases(m Metric) schema {
	names := []string{"vmm", "firmware", "kernel", "app"}
	var s schema
	for n := 1; n <= len(names); n++ {
		for i := 0; i+n <= len(names); i++ {
			name := strings.Join(names[i:i+n], "+")
			s = append(s, key{name: name, metric: m, phase: name})
		}
	}
	return s
}

func (s schema) list() string {
	var names []string
	for _, k := range s {
		if !strings.Contains(k.name, "+") {
			names = append(names, k.name)
		}
	}
	return strings.Join(names, ", ")
}

// nearest returns the known key that is likely meant, or "".
func (s schema) nearest(name string) string {
	best, least := "", max(2, len(name)/2)+1
	for _, k := range s {
		if d := spelling.Distance(strings.ToLower(name), k.name); d < least {
			best, least = k.name, d
		}
	}
	return best
}

type parsing struct{ file *File }

func (p *parsing) errorf(line int, format string, args ...any) error {
	return &Error{p.file.Name, line, fmt.Errorf(format, args...)}
}

// syntax makes one line of an error of the YAML package.
func (p *parsing) syntax(err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) || ye.GetToken() == nil {
		text, _, _ := strings.Cut(err.Error(), "\n")
		return p.errorf(0, "%s", text)
	}
	hint := ""
	if strings.Contains(ye.GetMessage(), "invalid header option") {
		hint = `; in YAML a value that begins with ">" stands in quotes, as ">= 99%"`
	}
	return p.errorf(ye.GetToken().Position.Line, "%s%s", ye.GetMessage(), hint)
}

func (p *parsing) mapping(n ast.Node, where string, s schema) error {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		what := "the file"
		if where != "" {
			what = strings.TrimSuffix(where, ".")
		}
		return p.errorf(line(n), "%s must be a mapping with keys of %s", what, s.list())
	}
	for _, v := range m.Values {
		name := v.Key.GetToken().Value
		i := slices.IndexFunc(s, func(k key) bool { return k.name == name })
		if i < 0 {
			did := ""
			if near := s.nearest(name); near != "" {
				did = fmt.Sprintf("did you mean %q? ", where+near)
			}
			return p.errorf(line(v.Key), "unknown key %q; %sknown are %s", where+name, did, s.list())
		}
		var err error
		_, isMapping := v.Value.(*ast.MappingNode)
		switch k := s[i]; {
		case k.below == nil:
			err = p.limits(v.Value, where+name, k)
		case k.short && !isMapping:
			err = p.limits(v.Value, where+name, k.below[0])
		default:
			err = p.mapping(v.Value, where+name+".", k.below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// limits reads one limit or a list of them.
func (p *parsing) limits(n ast.Node, name string, k key) error {
	if list, ok := n.(*ast.SequenceNode); ok {
		for _, v := range list.Values {
			if err := p.limit(v, name, k); err != nil {
				return err
			}
		}
		return nil
	}
	return p.limit(n, name, k)
}

func (p *parsing) limit(n ast.Node, name string, k key) error {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode:
	default:
		return p.errorf(line(n), "%s: want a limit, as %s", name, units[k.metric].example)
	}
	l := Limit{Key: name, Line: line(n), Metric: k.metric, Phase: k.phase}
	if err := l.setText(n.GetToken().Value); err != nil {
		return p.errorf(l.Line, "%s: %w", name, err)
	}
	if p.file.Limits = append(p.file.Limits, l); len(p.file.Limits) > maxLimits {
		return p.errorf(l.Line, "more than %d limits", maxLimits)
	}
	return nil
}

func line(n ast.Node) int {
	if t := n.GetToken(); t != nil {
		return t.Position.Line
	}
	return 0
}
