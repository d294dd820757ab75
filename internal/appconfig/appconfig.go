// Package appconfig reads imgbuild.yaml, in which an app's folder says how the app is run and its image made. docs of the
// keys are in Config's fields.
package appconfig

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Name is the file's name in the app's folder.
const Name = "imgbuild.yaml"

// maxFile bounds the file's size in bytes: the YAML package takes time that grows with the square of some files' size.
const maxFile = 64 << 10

// Config is what imgbuild.yaml says. A zero field means that it says nothing.
type Config struct {
	// Command is the program and its first arguments: a line as for a shell, or a list.
	Command Words `yaml:"command"`
	// Args are further arguments.
	Args []string `yaml:"args"`
	// Env is the app's environment: a map, or a list of K=V.
	Env Env `yaml:"env"`
	// Cwd is the app's working directory.
	Cwd string `yaml:"cwd"`
	// Memory is the guest's, as "64M".
	Memory Size `yaml:"memory"`
	// RootFS says how the root file system is written.
	RootFS RootFS `yaml:"rootfs"`
	// Ready is when the app counts as booted: entry, output, exit, listen:PORT or mark:NAME.
	Ready Ready `yaml:"ready"`
	// Budgets are limits of a boot.
	Budgets Budgets `yaml:"budgets"`
}

// RootFS says how the root file system is written.
type RootFS struct {
	Type        string   `yaml:"type"` // the file-system module's name
	Compress    Compress `yaml:"compress"`
	ClusterSize Size     `yaml:"cluster-size"`
	Raw         []string `yaml:"raw"`     // files to store uncompressed
	Exclude     []string `yaml:"exclude"` // files to leave out
	ZFS         ZFS      `yaml:"zfs"`
}

// ZFS says what kind of pool a root of the type zfs is; package zfsmod says what each means.
type ZFS struct {
	Compat   string    `yaml:"compat"`
	Pool     string    `yaml:"pool"`
	Ashift   int       `yaml:"ashift"`
	Size     Size      `yaml:"size"`
	Free     Size      `yaml:"free"`
	Bootfs   string    `yaml:"bootfs"`
	Datasets []Dataset `yaml:"datasets"`
}

// Dataset is a file system of a pool.
type Dataset struct {
	Name       string            `yaml:"name"`
	Path       string            `yaml:"path"`
	Properties map[string]string `yaml:"properties"`
}

// Budgets are limits of a boot.
type Budgets struct {
	Boot         Duration `yaml:"boot"`
	Memory       Size     `yaml:"memory"`
	Instructions Count    `yaml:"instructions"`
}

// Load reads the file called name in fsys. A file that does not exist is no error: the Config is then nil.
func Load(dir string) (*Config, error) {
	name := dir + string(os.PathSeparator) + Name
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s: longer than %d bytes", name, maxFile)
	}
	c, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// Parse decodes the content of an imgbuild.yaml. Errors name the line; that of an unknown key lists the known ones.
func Parse(b []byte) (c *Config, err error) {
	// The YAML package has panicked on malformed tags before; a user's typo is to end in a message all the same.
	defer func() {
		if p := recover(); p != nil {
			c, err = nil, fmt.Errorf("malformed YAML (%v)", p)
		}
	}()
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, plain(err)
	}
	c = new(Config)
	if len(file.Docs) > 1 {
		return nil, errors.New("more than one YAML document")
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return c, nil
	}
	body := file.Docs[0].Body
	var v plainYAML
	if ast.Walk(&v, body); v.err != nil {
		return nil, v.err
	}
	if err := checkKeys(body, reflect.TypeFor[Config](), ""); err != nil {
		return nil, err
	}
	if err := yaml.NodeToValue(body, c, yaml.Strict()); err != nil {
		return nil, plain(err)
	}
	return c, nil
}

// plainYAML is an ast.Visitor that refuses what no configuration needs: tags, and anchors, by which a small file can stand
// for a huge one.
type plainYAML struct{ err error }

func (v *plainYAML) Visit(n ast.Node) ast.Visitor {
	if v.err != nil {
		return nil
	}
	switch n.(type) {
	case *ast.TagNode, *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.DirectiveNode:
		v.err = fmt.Errorf("line %d: YAML's tags, anchors and aliases are not supported", n.GetToken().Position.Line)
		return nil
	}
	return v
}

// plain turns an error of the YAML package into one line: "line 3: …".
func plain(err error) error {
	var ye yaml.Error
	if errors.As(err, &ye) && ye.GetToken() != nil {
		return fmt.Errorf("line %d: %s", ye.GetToken().Position.Line, ye.GetMessage())
	}
	msg, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(msg)
}

// checkKeys compares the keys of a mapping with the fields of the struct t, and so on inside. The YAML package's own check
// cannot tell what would have been right.
func checkKeys(n ast.Node, t reflect.Type, where string) error {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		if _, null := n.(*ast.NullNode); null {
			return nil
		}
		what := "the file"
		if where != "" {
			what = strings.TrimSuffix(where, ".")
		}
		return fmt.Errorf("line %d: %s must be a mapping with keys of %s", n.GetToken().Position.Line, what, strings.Join(keys(t), ", "))
	}
	for _, v := range m.Values {
		key := v.Key.GetToken().Value
		i := slices.Index(keys(t), key)
		if i < 0 {
			return fmt.Errorf("line %d: unknown key %q; known are %s", v.Key.GetToken().Position.Line, where+key, strings.Join(keys(t), ", "))
		}
		switch ft := t.Field(i).Type; {
		case ft.Kind() == reflect.Struct:
			if err := checkKeys(v.Value, ft, where+key+"."); err != nil {
				return err
			}
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			if list, ok := v.Value.(*ast.SequenceNode); ok {
				for _, e := range list.Values {
					if err := checkKeys(e, ft.Elem(), where+key+"."); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func keys(t reflect.Type) []string {
	var k []string
	for i := range t.NumField() {
		k = append(k, t.Field(i).Tag.Get("yaml"))
	}
	return k
}

// Words is a command line: in YAML a string as for a shell, or a list.
type Words []string

// UnmarshalYAML implements yaml.InterfaceUnmarshaler.
func (w *Words) UnmarshalYAML(decode func(any) error) error {
	var list []string
	if err := decode(&list); err == nil {
		*w = list
		return nil
	}
	var line string
	if err := decode(&line); err != nil {
		return errors.New("must be a line or a list of words")
	}
	words, err := Split(line)
	*w = words
	return err
}

// Env is an environment, K=V each, sorted by K: in YAML a mapping or a list.
type Env []string

// UnmarshalYAML implements yaml.InterfaceUnmarshaler.
func (e *Env) UnmarshalYAML(decode func(any) error) error {
	var list []string
	if decode(&list) != nil {
		var m map[string]string
		if err := decode(&m); err != nil {
			return errors.New("must be a mapping of names to values, or a list of NAME=VALUE")
		}
		for k, v := range m {
			list = append(list, k+"="+v)
		}
	}
	merged, err := MergeEnv(list)
	*e = merged
	return err
}

// MergeEnv joins environments; later settings of a name win. The result is sorted by name.
func MergeEnv(lists ...[]string) (Env, error) {
	m := map[string]string{}
	for _, kv := range slices.Concat(lists...) {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" || strings.ContainsRune(kv, 0) {
			return nil, fmt.Errorf("environment %q: want NAME=VALUE", kv)
		}
		m[k] = v
	}
	var e Env
	for k := range m {
		e = append(e, k)
	}
	slices.Sort(e)
	for i, k := range e {
		e[i] = k + "=" + m[k]
	}
	return e, nil
}

// Compress is a codec's name; in YAML also true, for the module's default, or false. It is empty when nothing was said,
// CompressDefault and CompressNone for true and false.
type Compress string

// What Compress holds when it is no codec's name.
const (
	CompressDefault Compress = "default"
	CompressNone    Compress = "none"
)

// UnmarshalYAML implements yaml.InterfaceUnmarshaler.
func (c *Compress) UnmarshalYAML(decode func(any) error) error {
	var b bool
	if decode(&b) == nil {
		*c = CompressNone
		if b {
			*c = CompressDefault
		}
		return nil
	}
	var s string
	if err := decode(&s); err != nil || s == "" {
		return errors.New("must be true, false or a codec's name")
	}
	*c = Compress(s)
	return nil
}

// Size is a number of bytes.
type Size int64

// UnmarshalYAML implements yaml.InterfaceUnmarshaler.
func (s *Size) UnmarshalYAML(decode func(any) error) error {
	return parseScalar(decode, s.Set)
}

// Set parses a size, as a flag's value.
func (s *Size) Set(text string) (err error) {
	n, err := ParseSize(text)
	*s = Size(n)
	return err
}

// String formats the size in the largest binary unit that keeps it exact.
func (s *Size) String() string {
	n, unit := int64(*s), 0
	for n != 0 && n%1024 == 0 && unit < 4 {
		n, unit = n/1024, unit+1
	}
	return strconv.FormatInt(n, 10) + [...]string{"", "K", "M", "G", "T"}[unit]
}

// Type names the kind of a flag's value.
func (*Size) Type() string { return "SIZE" }

// Count is a number, in YAML also with a suffix k, M or G for thousands, millions and thousand millions: "1.6M".
type Count int64

// UnmarshalYAML implements yaml.InterfaceUnmarshaler.
func (c *Count) UnmarshalYAML(decode func(any) error) error {
	return parseScalar(decode, func(text string) error {
		num := strings.TrimRight(text, "kKMG")
		scale, ok := map[string]float64{"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}[text[len(num):]]
		f, err := strconv.ParseFloat(strings.ReplaceAll(num, "_", ""), 64)
		if err != nil || !ok || !(f*scale >= 1 && f*scale < 1<<62) {
			return fmt.Errorf("%q is no count; want as 1600000, 1600k or 1.6M", text)
		}
		*c = Count(f*scale + 0.5)
		return nil
	})
}

// Duration is a length of time.
type Duration time.Duration

// UnmarshalYAML implements yaml.InterfaceUnmarshaler.
func (d *Duration) UnmarshalYAML(decode func(any) error) error {
	return parseScalar(decode, func(text string) error {
		v, err := time.ParseDuration(text)
		if err != nil || v <= 0 {
			return fmt.Errorf("%q is no length of time; want as 100ms or 1.5s", text)
		}
		*d = Duration(v)
		return nil
	})
}

// Ready is a ready condition.
type Ready string

// UnmarshalYAML implements yaml.InterfaceUnmarshaler.
func (r *Ready) UnmarshalYAML(decode func(any) error) error {
	return parseScalar(decode, r.Set)
}

// Set parses a ready condition.
func (r *Ready) Set(text string) error {
	kind, arg, has := strings.Cut(text, ":")
	ok := false
	switch kind {
	case "entry", "output", "exit":
		ok = !has
	case "listen":
		port, err := strconv.ParseUint(arg, 10, 16)
		ok = err == nil && port > 0
	case "mark":
		ok = arg != "" && len(arg) < 256
	}
	if !ok {
		return fmt.Errorf("%q is no ready condition; want entry, output, exit, listen:PORT or mark:NAME", text)
	}
	*r = Ready(text)
	return nil
}

func parseScalar(decode func(any) error, parse func(string) error) error {
	var text string
	if err := decode(&text); err != nil {
		return err
	}
	return parse(strings.TrimSpace(text))
}

// ParseSize parses a positive number of bytes with an optional binary suffix: "4096", "64K", "8M", "8MiB", "1GB".
func ParseSize(text string) (int64, error) {
	t := strings.ToUpper(strings.TrimSpace(text))
	t = strings.TrimSuffix(strings.TrimSuffix(t, "B"), "I")
	num := strings.TrimRight(t, "KMGT")
	shift, ok := map[string]int{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[t[len(num):]]
	n, err := strconv.ParseInt(strings.TrimSpace(num), 10, 64)
	if err != nil || !ok || n <= 0 || n > 1<<62>>shift {
		return 0, fmt.Errorf("%q is no size; want bytes, as 65536, 64K, 8M or 1G", text)
	}
	return n << shift, nil
}

// Split splits a command line into words as a POSIX shell does: at blanks; single quotes keep all, double quotes keep all
// but backslashes before $, `, ", \ and newline, and a backslash keeps the next character. Nothing is expanded.
func Split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	quote := byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '\'' && c != '\'', quote == '"' && c != '"' && c != '\\':
			word.WriteByte(c)
		case c == quote && quote != 0:
			quote = 0
		case c == '\'' && quote == 0, c == '"' && quote == 0:
			quote, inWord = c, true
		case c == '\\':
			if i+1 == len(line) {
				return nil, fmt.Errorf("command line %q ends with a backslash", line)
			}
			i++
			if quote == '"' && !strings.ContainsRune("$`\"\\\n", rune(line[i])) {
				word.WriteByte('\\')
			}
			if line[i] != '\n' {
				word.WriteByte(line[i])
			}
			inWord = true
		case strings.IndexByte(" \t\r\n", c) >= 0:
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("command line %q: a quote %c is not closed", line, quote)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// Glob tells whether one of the patterns matches an entry's path in a tree. A pattern is path.Match's; one without a slash is matched with
// each component of the path, one with a slash with the path from the root and with each directory that leads to it.
func Glob(patterns []string, p string) bool {
	for ; p != "." && p != "/"; p = path.Dir(p) {
		for _, pat := range patterns {
			name := p
			if pat = strings.TrimRight(pat, "/"); !strings.Contains(pat, "/") {
				name = path.Base(p)
			}
			if ok, _ := path.Match(strings.TrimPrefix(pat, "/"), name); ok {
				return true
			}
		}
	}
	return false
}

// CheckGlobs refuses malformed patterns.
func CheckGlobs(patterns []string) error {
	for _, pat := range patterns {
		if _, err := path.Match(pat, ""); err != nil || strings.Trim(pat, "/") == "" {
			return fmt.Errorf("pattern %q: want *, ? and [a-z] as in a shell", pat)
		}
	}
	return nil
}
