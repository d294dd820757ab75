package imgbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/internal/appconfig"
	"github.com/firstlight-boot/firstlight/tree"
)

// app is what a user names on the command line: its files and its configuration.
type app struct {
	name   string // for a file made from it
	source string // for the image's parameters: no path of this machine
	tree   *tree.Tree
	config appconfig.Config
	linux  bool // a Linux kernel will run it
}

// goPrefix marks a Go package where an app is wanted.
const goPrefix = "go:"

// config reads the configuration of an app, which only a folder has.
func loadConfig(arg string) (appconfig.Config, error) {
	if st, err := os.Stat(arg); strings.HasPrefix(arg, goPrefix) || err != nil || !st.IsDir() {
		return appconfig.Config{}, nil
	}
	c, err := appconfig.Load(arg)
	if c == nil {
		c = new(appconfig.Config)
	}
	if err == nil {
		err = appconfig.CheckGlobs(append(c.RootFS.Raw, c.RootFS.Exclude...))
	}
	if err != nil {
		return appconfig.Config{}, usageError{err}
	}
	return *c, nil
}

// sourceOptions are the flags about what is taken from the host's files.
type sourceOptions struct {
	devices, keepOwner bool
}

func (o *sourceOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.devices, "devices", false, "let a folder's device nodes in, which are refused otherwise")
	f.BoolVar(&o.keepOwner, "keep-owner", false, "keep the owners and groups of the files (default: root owns all)")
}

// loadApp reads what arg names. An output that lies in the app's folder is not part of the app, nor is imgbuild.yaml.
func loadApp(ctx context.Context, arg, output string, exclude []string, from sourceOptions) (*app, error) {
	clamp, err := sourceDateEpoch()
	if err != nil {
		return nil, err
	}
	o := tree.Options{ClampTime: clamp, KeepOwner: from.keepOwner, Devices: from.devices}
	if pkg, ok := strings.CutPrefix(arg, goPrefix); ok {
		t, err := tree.FromGoPackage(ctx, pkg, "", o)
		if err != nil {
			return nil, appError(err)
		}
		name := path.Base(t.Entries[len(t.Entries)-1].Path)
		return &app{name: name, source: goPrefix + name, tree: t}, nil
	}
	st, err := os.Stat(arg)
	if err != nil {
		return nil, usageError{err}
	}
	abs, err := filepath.Abs(arg)
	if err != nil {
		return nil, err
	}
	a := &app{name: filepath.Base(abs)}
	if a.name == string(filepath.Separator) {
		a.name = "root"
	}
	a.source = a.name
	if !st.IsDir() {
		if a.tree, err = tree.FromELF(arg, o); err != nil {
			if errors.Is(err, tree.ErrNotELF) {
				err = fmt.Errorf("%w; an app is a folder, an ELF program or go:PACKAGE", err)
			}
			return nil, appError(err)
		}
		return a, nil
	}
	if a.config, err = loadConfig(arg); err != nil {
		return nil, err
	}
	o.Exclude = []string{"/" + appconfig.Name}
	for _, pattern := range slices.Concat(a.config.RootFS.Exclude, exclude) {
		o.Exclude = append(o.Exclude, strings.TrimRight(pattern, "/"))
	}
	if inside, ok := insideDir(arg, output); ok {
		o.Exclude = append(o.Exclude, "/"+globQuote.Replace(inside))
	}
	if a.tree, err = tree.FromDir(ctx, arg, o); err != nil {
		return nil, appError(err)
	}
	return a, nil
}

var globQuote = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// insideDir returns the path of file relative to dir if it lies there.
func insideDir(dir, file string) (string, bool) {
	if file == "" {
		return "", false
	}
	d, err1 := filepath.EvalSymlinks(dir)
	parent, err2 := filepath.EvalSymlinks(filepath.Dir(file))
	if err1 != nil || err2 != nil {
		return "", false
	}
	d, err1 = filepath.Abs(d)
	parent, err2 = filepath.Abs(parent)
	if err1 != nil || err2 != nil {
		return "", false
	}
	rel, err := filepath.Rel(d, filepath.Join(parent, filepath.Base(file)))
	if err != nil || !filepath.IsLocal(rel) {
		return "", false
	}
	return filepath.ToSlash(rel), true
}

// appError marks what is wrong with an app, in contrast to a failure to read it, as the caller's to mend.
func appError(err error) error {
	var fe *tree.FormatError
	if errors.As(err, &fe) || errors.Is(err, tree.ErrNotELF) {
		return usageError{err}
	}
	return err
}

// sourceDateEpoch reads SOURCE_DATE_EPOCH, after https://reproducible-builds.org/specs/source-date-epoch/.
func sourceDateEpoch() (time.Time, error) {
	v := os.Getenv("SOURCE_DATE_EPOCH")
	if v == "" {
		return time.Time{}, nil
	}
	sec, err := strconv.ParseInt(v, 10, 64)
	if err != nil || sec < 0 {
		return time.Time{}, usagef("SOURCE_DATE_EPOCH is %q; want seconds since 1970", v)
	}
	return time.Unix(sec, 0).UTC(), nil
}

// defaultPath is where a command without a slash is looked for, besides the root.
const defaultPath = "/:/bin:/usr/bin:/usr/local/bin:/sbin:/usr/sbin"

// command returns words as the app's argument list, with the program's full path first, and checks that the kernel can run
// it. Without words it is the only executable.
func (a *app) command(words []string) ([]string, error) {
	if len(words) == 0 {
		p, err := a.onlyExecutable()
		if err != nil {
			return nil, err
		}
		return []string{p}, nil
	}
	places := []string{"/"}
	if !strings.Contains(words[0], "/") {
		places = strings.Split(defaultPath, ":")
	}
	for _, dir := range places {
		p := path.Join(dir, words[0])
		info, err := a.tree.Stat(treePath(p))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, usagef("command %s: %w", p, err)
		}
		if err := a.checkProgram(info); err != nil {
			return nil, fmt.Errorf("command %s %w", p, err)
		}
		return append([]string{p}, words[1:]...), nil
	}
	found, err := tree.Executables(a.tree)
	if err != nil {
		return nil, err
	}
	return nil, usagef("command %s is not in %s; its executables: %s", words[0], a.source, listExecutables(found))
}

// checkProgram tells why the kernel cannot run a file; the error goes on after its name.
func (a *app) checkProgram(info fs.FileInfo) error {
	e := info.Sys().(*tree.Entry)
	switch {
	case info.IsDir():
		return usagef("is a directory")
	case !info.Mode().IsRegular():
		return usagef("is not a regular file")
	case info.Mode()&0o111 == 0:
		return usagef("is not executable: chmod +x it")
	}
	if a.linux {
		return a.checkLinuxProgram(e)
	}
	x, err := a.tree.ReadELF(e)
	if errors.Is(err, tree.ErrNotELF) {
		if line, ok := a.scriptLine(e); ok {
			return usagef("is a script (%s); the kernel runs ELF programs: name the interpreter as the command and the script as its argument", printable(line))
		}
		return usagef("is not an ELF program")
	}
	if err != nil {
		return appError(fmt.Errorf("cannot be run: %w", err))
	}
	if err := a.tree.Runnable(x); err != nil {
		return usageError{err}
	}
	return nil
}

// scriptLine returns a script's first line.
func (a *app) scriptLine(e *tree.Entry) (string, bool) {
	f, err := a.tree.Open(e.Path)
	if err != nil {
		return "", false
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 80))
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return string(line), bytes.HasPrefix(line, []byte("#!"))
}

// onlyExecutable returns the path of the app's only executable.
func (a *app) onlyExecutable() (string, error) {
	found, err := tree.Executables(a.tree)
	if err != nil {
		return "", err
	}
	if len(found) == 1 {
		if found[0].Err != nil && !a.linux {
			return "", usagef("/%s %w", found[0].Path, found[0].Err)
		}
		return "/" + found[0].Path, nil
	}
	how := fmt.Sprintf("say which to run by --cmd or by command in %s", appconfig.Name)
	if len(found) > 1 {
		return "", usagef("%s has %d executables: %s; %s", a.source, len(found), listExecutables(found), how)
	}
	return "", usagef("%s has no executable: %s; an app needs an ELF program with execute permission (--no-kernel packs any folder)", a.source, a.summary())
}

func listExecutables(found []tree.Executable) string {
	if len(found) == 0 {
		return "none"
	}
	const most = 20
	var names []string
	for _, x := range found[:min(len(found), most)] {
		names = append(names, printable("/"+x.Path))
	}
	if len(found) > most {
		names = append(names, fmt.Sprintf("and %d more", len(found)-most))
	}
	return strings.Join(names, ", ")
}

// summary says what there is instead of an executable.
func (a *app) summary() string {
	if len(a.tree.Entries) == 1 {
		return "it is empty"
	}
	var hints []string
	for i := range a.tree.Entries {
		e := &a.tree.Entries[i]
		if !e.Mode.IsRegular() || len(hints) == 3 {
			continue
		}
		name := printable("/" + e.Path)
		if x, err := a.tree.ReadELF(e); err == nil && x.IsProgram() && e.Mode&0o111 == 0 {
			hints = append(hints, name+" is a program without execute permission (chmod +x)")
		} else if _, script := a.scriptLine(e); script && e.Mode&0o111 != 0 {
			hints = append(hints, name+" is a script")
		}
	}
	if len(hints) > 0 {
		return strings.Join(hints, ", ")
	}
	return fmt.Sprintf("none of its %d entries is one", len(a.tree.Entries)-1)
}

// treePath turns a user's path into one of a tree: "/a/b", "a/b" and "./a/b" are the same.
func treePath(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	if p == "" {
		return "."
	}
	return p
}
