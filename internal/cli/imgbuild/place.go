package imgbuild

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/internal/appconfig"
	"github.com/firstlight-boot/firstlight/profile"
	"github.com/firstlight-boot/firstlight/rofs"
	"github.com/firstlight-boot/firstlight/tree"
)

// placement are the flags that say where in the root file system content goes.
type placement struct {
	hot, layout, align string
	globs              []string // of hot, once it is read
}

func (o *placement) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.hot, "hot", "", "store the files that `FILE` lists, a path or glob a line, first and uncompressed: every boot reads them")
	f.StringVar(&o.layout, "layout", "", "store content in the order of its use, which `FILE` has: a recording, or what bootprof report --format layout writes")
	f.StringVar(&o.align, "align-exec", "", "place files so that they can be mapped without a copy: `WHICH` of auto (executables and shared objects; the default), all, none")
	for _, name := range []string{"hot", "layout"} {
		if err := cmd.MarkFlagFilename(name); err != nil {
			panic(err) // a flag's name is misspelt above
		}
	}
	if err := cmd.RegisterFlagCompletionFunc("align-exec", cobra.FixedCompletions([]string{"auto", "all", "none"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// apply completes the options for the module with that name.
func (o *placement) apply(module string, fo *fsmod.Options) error {
	if o.hot == "" && o.layout == "" && o.align == "" {
		return nil
	}
	if module != "rofs" && (module != "ramfs" || o.hot != "" || o.layout != "") {
		return usagef("--hot and --layout are for --rofs, --align-exec for --rofs and --ramfs; file system %s places its content itself", module)
	}
	switch rofs.Align(o.align) {
	case "", rofs.AlignAuto, rofs.AlignAll, rofs.AlignNone:
		fo.AlignExec = o.align
	default:
		return usagef("--align-exec %q: possible are auto, all and none", o.align)
	}
	if o.hot != "" {
		globs, err := readHot(o.hot)
		if err != nil {
			return usageError{fmt.Errorf("--hot: %w", err)}
		}
		o.globs = globs
		fo.Hot = func(name string) bool { return appconfig.Glob(globs, name) }
	}
	if o.layout != "" {
		var err error
		if fo.Layout, err = readLayout(o.layout); err != nil {
			return usageError{fmt.Errorf("--layout: %w", err)}
		}
	}
	return nil
}

// readHot reads a list of paths and globs: one a line, "#" begins a comment.
func readHot(path string) (globs []string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		globs = append(globs, line)
	}
	if err := appconfig.CheckGlobs(globs); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return globs, nil
}

// recordingMagic begins a recording.
const recordingMagic = "FLRECORD"

// readLayout reads the order of use of content from a recording or from the text that is made of one.
func readLayout(path string) ([]fsmod.Use, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it is only read
	r := bufio.NewReader(f)
	start, err := r.Peek(len(recordingMagic))
	if err != nil && len(start) == 0 {
		return nil, fmt.Errorf("%s is empty or cannot be read: %w", path, err)
	}
	var text strings.Builder
	if string(start) != recordingMagic {
		if _, err := r.WriteTo(&text); err != nil {
			return nil, err
		}
	} else {
		rec, err := boottrace.Read(r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		ok, err := profile.WriteLayout(&text, rec)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("%s: the recording has no disk requests that read files; bootprof qemu --io records them", path)
		}
	}
	uses, err := parseLayout(text.String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return uses, nil
}

// parseLayout reads lines of path, offset and length, as profile.WriteLayout writes them. Blanks may stand for the tabs.
func parseLayout(text string) (uses []fsmod.Use, err error) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		var fields [2]int64 // length, offset
		rest := line
		for i := range fields {
			rest = strings.TrimRight(rest, " \t")
			cut := strings.LastIndexAny(rest, " \t")
			v, err := strconv.ParseInt(rest[cut+1:], 10, 64)
			if cut < 0 || err != nil || v < 0 {
				return nil, fmt.Errorf("line %d: %q is not a path, an offset and a length", n, line)
			}
			fields[i], rest = v, rest[:cut]
		}
		name := strings.TrimRight(rest, " \t")
		if strings.HasPrefix(name, `"`) {
			if name, err = strconv.Unquote(name); err != nil {
				return nil, fmt.Errorf("line %d: the path %s is not quoted right", n, rest)
			}
		}
		if fields[1] > math.MaxInt64-fields[0] {
			return nil, fmt.Errorf("line %d: offset and length are more than a file can have", n)
		}
		uses = append(uses, fsmod.Use{Path: strings.TrimPrefix(name, "/"), Offset: fields[1], Length: fields[0]})
	}
	return uses, nil
}

// checkCompress refuses --compress= with nothing behind it, as a script's empty variable makes it.
func checkCompress(cmd *cobra.Command) error {
	if f := cmd.Flags().Lookup("compress"); f.Changed && f.Value.String() == "" {
		return usagef("--compress= names no codec; --compress alone is the default one, --compress=none is none")
	}
	return nil
}

// unmatched tells what of --hot, --raw and --layout names no file of t, and so has no effect: a line for each flag.
func unmatched(t *tree.Tree, hot, raw []string, layout []fsmod.Use) (notes []string) {
	note := func(flag, what string, all, gone []string) {
		if len(gone) > 0 {
			notes = append(notes, fmt.Sprintf("%s: %d of %d %s match no file, the first is %s", flag, len(gone), len(all), what, gone[0]))
		}
	}
	for _, list := range []struct {
		flag  string
		globs []string
	}{{"--hot", hot}, {"--raw", raw}} {
		var gone []string
		for _, glob := range list.globs {
			if strings.Contains(glob, "/") && t.Lookup(strings.Trim(glob, "/")) != nil {
				continue // a path, as most are
			}
			if !slices.ContainsFunc(t.Entries, func(e tree.Entry) bool { return appconfig.Glob([]string{glob}, e.Path) }) {
				gone = append(gone, glob)
			}
		}
		note(list.flag, "patterns", list.globs, gone)
	}
	var all, gone []string
	seen := make(map[string]bool)
	for _, u := range layout {
		if seen[u.Path] {
			continue
		}
		seen[u.Path] = true
		all = append(all, u.Path)
		if t.Lookup(u.Path) == nil {
			gone = append(gone, "/"+u.Path)
		}
	}
	note("--layout", "paths", all, gone)
	return notes
}

// splitCodec takes CODEC:LEVEL apart.
func splitCodec(s string) (codec string, level int, err error) {
	codec, text, given := strings.Cut(s, ":")
	if codec == "off" { // as ZFS says it
		codec = string(appconfig.CompressNone)
	}
	if given {
		if level, err = strconv.Atoi(text); err != nil || level < 1 {
			return "", 0, usagef("--compress=%s: the level is a number from 1 up, as in %s:9", s, codec)
		}
	}
	return codec, level, nil
}
