package imgbuild

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/internal/appconfig"
	"github.com/firstlight-boot/firstlight/tree"
)

// convertOptions are the flags of convert.
type convertOptions struct {
	to, compress string
	skip         bool
	source       sourceOptions
	sync         bool
	json, quiet  bool
}

// conversion is what convert prints as JSON.
type conversion struct {
	Input   string   `json:"input"`
	Output  string   `json:"output"`
	From    string   `json:"from"` // "folder", or a module
	To      string   `json:"to"`
	Bytes   int64    `json:"bytes"`
	Entries int      `json:"entries"`
	Lost    []string `json:"lost"`     // what the tree uses and the new format lacks
	LeftOut []string `json:"left_out"` // entries that it cannot hold
}

func convertCommand() *cobra.Command {
	var o convertOptions
	cmd := &cobra.Command{
		Use:   "convert IN OUT --to MODULE",
		Short: "Write the files of one file system as another",
		Long: `Write the root file system of an image, or a file-system image, or a folder, as a file-system image of another kind: rofs,
rofs1 (OSv's ROFS), ramfs (a newc archive), bootfs (OSv's), or another of the modules.

What the new format has no place for is said before anything is written: metadata that the files have and that is lost, and
entries that it cannot hold at all. Where there are such entries, nothing is written, unless --skip leaves them out.`,
		Example: "  imgbuild convert usr.rofs app.rofs --to rofs --compress\n  imgbuild convert bootfs.bin initrd.cpio --to ramfs\n  imgbuild convert app.img app.bootfs --to bootfs --skip",
		Args:    exactArgs(2, "an image or folder, and a file to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.to == "" {
				return usagef("say the new format by --to: %s", strings.Join(fsmod.Names(), ", "))
			}
			return o.run(cmd, args[0], args[1])
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.to, "to", "", "write the file system of this `MODULE`: "+strings.Join(fsmod.Names(), ", "))
	f.StringVar(&o.compress, "compress", "", "compress it, with a `CODEC[:LEVEL]` if named")
	f.Lookup("compress").NoOptDefVal = string(appconfig.CompressDefault)
	o.source.flags(cmd)
	f.BoolVar(&o.skip, "skip", false, "leave out entries that the new format cannot hold")
	f.BoolVar(&o.sync, "sync", false, "wait until the output is on stable storage")
	f.BoolVar(&o.json, "json", false, "print the result as JSON")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing but errors")
	if err := cmd.RegisterFlagCompletionFunc("to", cobra.FixedCompletions(fsmod.Names(), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag's name is misspelt
	}
	return cmd
}

func (o *convertOptions) run(cmd *cobra.Command, in, out string) error {
	if err := checkCompress(cmd); err != nil {
		return err
	}
	m, err := fsmod.Lookup(o.to)
	if err != nil {
		return err
	}
	options := fsmod.Options{}
	if options.Codec, options.Level, err = chooseCodec(m, o.compress); err != nil {
		return err
	}
	src, err := openSide(cmd.Context(), in, o.source)
	if err != nil {
		return err
	}
	defer src.close()
	from, err := src.format()
	if err != nil {
		return err
	}
	if err := checkOutput(out, ""); err != nil {
		return err
	}
	c := conversion{Input: in, Output: out, From: from, To: o.to, Lost: []string{}, LeftOut: []string{}}
	t, left, err := fitting(cmd.Context(), m, src.tree)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) {
		if !o.quiet {
			fmt.Fprintf(cmd.ErrOrStderr(), "imgbuild: "+format+"\n", args...)
		}
	}
	for _, l := range left {
		c.LeftOut = append(c.LeftOut, jsonName(absolute(l.path)))
		say("%s cannot hold %s: %s", o.to, printable(absolute(l.path)), printable(bare(l.err).Error()))
	}
	if len(left) > 0 && !o.skip {
		return usagef("%s: %d of %d entries have no place in %s, the first is %s; nothing was written: --skip leaves them out",
			in, len(left), len(src.tree.Entries), o.to, printable(absolute(left[0].path)))
	}
	// What comes out of a format that lacks the same is as it was.
	if lost := fsmod.Lacks(m) & fsmod.Uses(t); lost != 0 {
		c.Lost = strings.Split(lost.String(), ", ")
		say("%s has no place for %s: lost", o.to, lost)
	}
	t = fsmod.Reduce(t, fsmod.Lacks(m))
	res, err := image.WriteFSFile(cmd.Context(), out, image.Spec{Tree: t, Module: m, Options: options, Sync: o.sync, NoDigest: true})
	if err != nil {
		return withPath(out, err)
	}
	c.Bytes, c.Entries = res.Bytes, len(t.Entries)
	switch {
	case o.json:
		return printJSON(cmd.OutOrStdout(), c)
	case o.quiet:
		return nil
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s; %s, %d entries, from %s of %s\n", out, formatSize(res.Bytes), o.to, c.Entries, from, in)
	return err
}

// chooseCodec returns the codec and level that --compress means for m.
func chooseCodec(m fsmod.Module, compress string) (codec string, level int, err error) {
	if codec, level, err = splitCodec(compress); err != nil {
		return "", 0, err
	}
	switch {
	case codec == string(appconfig.CompressNone):
		return "", 0, nil
	case codec == string(appconfig.CompressDefault) && len(m.Codecs()) > 0:
		return m.Codecs()[0], level, nil
	case codec != "" && !slices.Contains(m.Codecs(), codec):
		return "", 0, usagef("compression is not supported by %s; available: %s", m.Name(), strings.Join(append(m.Codecs(), "none"), ", "))
	}
	return codec, level, nil
}

// leftOut is an entry that a format cannot hold.
type leftOut struct {
	path string
	err  error
}

// fitting returns t without the entries that m's format cannot hold, and without what lies in such directories, and lists them.
func fitting(ctx context.Context, m fsmod.Module, t *tree.Tree) (*tree.Tree, []leftOut, error) {
	l, ok := m.(fsmod.Lacker)
	if !ok {
		return t, nil, nil
	}
	out := &tree.Tree{}
	var left []leftOut
	gone := map[string]bool{}
	first := map[string]string{} // of hard links whose first name is gone, the next one
	for i := range t.Entries {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		e := t.Entries[i]
		err := l.CanHold(&e)
		if err == nil && gone[parent(e.Path)] {
			err = errors.New("it lies in a directory that it cannot hold")
		}
		if err != nil {
			gone[e.Path] = true
			left = append(left, leftOut{e.Path, err})
			continue
		}
		if gone[e.HardLink] {
			if next, ok := first[e.HardLink]; ok {
				e.HardLink = next
			} else {
				first[e.HardLink] = e.Path
				e.Source, e.HardLink = t.Lookup(e.HardLink).Source, ""
			}
		}
		out.Entries = append(out.Entries, e)
	}
	return out, left, nil
}

func parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return "."
}
