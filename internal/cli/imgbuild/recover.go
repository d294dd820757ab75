package imgbuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/rofs"
	"github.com/firstlight-boot/firstlight/tree"
)

// lossReport is something that recover could not save, as JSON.
type lossReport struct {
	Path   string `json:"path,omitempty"`
	Inode  uint32 `json:"inode,omitempty"`
	Offset int64  `json:"offset,omitempty"`
	Length int64  `json:"length,omitempty"` // of the content that is lost; 0 where it is about something else
	Why    string `json:"why"`
}

func recoverCommand() *cobra.Command {
	var asJSON, quiet bool
	offset := int64(-1)
	cmd := &cobra.Command{
		Use:   "recover DAMAGED OUTDIR",
		Short: "Save what is left of a damaged image",
		Long: `Save what is left of a damaged image with a ROFS root, or of a bare ROFS, to a folder that is empty or new.

The whole file is searched for metadata: partition tables, superblock and any part of the tables may be gone. What has lost its
name goes to lost+found under its inode number; zeros stand for content that is lost. What could not be saved is listed, and the
exit code is then 1. Nothing is written outside the folder, whatever the image holds.`,
		Example: "  imgbuild recover damaged.img out/",
		Args:    exactArgs(2, "a damaged image and a folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := salvage(cmd, args[0], args[1], offset, asJSON || quiet)
			if err != nil {
				return withPath(args[0], err)
			}
			w := cmd.OutOrStdout()
			if asJSON {
				out := struct {
					Image string       `json:"image"`
					Lost  []lossReport `json:"lost"`
				}{args[0], []lossReport{}}
				for _, l := range list {
					r := lossReport{Inode: l.Inode, Offset: l.Offset, Length: l.Length, Why: l.Why}
					if l.Path != "" {
						r.Path = jsonName(absolute(l.Path))
					}
					out.Lost = append(out.Lost, r)
				}
				err = printJSON(w, out)
			} else if !quiet {
				for _, l := range list {
					if err == nil {
						_, err = fmt.Fprintln(w, printable(l.String()))
					}
				}
			}
			if err == nil && len(list) > 0 {
				err = exitError(exitFailed)
			}
			return err
		},
	}
	cmd.Flags().Int64Var(&offset, "offset", -1, "the file system begins at this `BYTE` of the file (default: where the first is found)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what is lost as JSON")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing but errors")
	return cmd
}

// salvage recovers the image in the file called name to dir and returns what is lost.
func salvage(cmd *cobra.Command, name, dir string, offset int64, quiet bool) ([]rofs.Lost, error) {
	ctx := cmd.Context()
	f, err := os.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = usageError{err}
		}
		return nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd) // of a disk, too
	if st, statErr := f.Stat(); err == nil && statErr == nil && st.IsDir() {
		err = errors.New("a folder, not an image")
	}
	if err != nil {
		return nil, usageError{err}
	}
	if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
		return nil, usagef("%s is not empty; recover to another folder", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, usageError{err}
	}
	rec, err := rofs.Recover(ctx, f, size, offset)
	if errors.Is(err, rofs.ErrNothing) {
		return nil, usageError{fmt.Errorf("%w; recover knows version 2 of ROFS", err)}
	}
	if err != nil {
		return nil, err
	}
	say := func(format string, args ...any) {
		if !quiet {
			fmt.Fprintf(cmd.ErrOrStderr(), "imgbuild: "+format+"\n", args...)
		}
	}
	for _, o := range rec.Others {
		say("another file system begins at byte %d: --offset %d recovers that", o, o)
	}
	list := rec.Lost
	x := extractor{ctx: ctx, t: rec.Tree, lenient: true, content: func(ctx context.Context, e *tree.Entry, f *os.File) error {
		lost, err := rec.Content(ctx, e.Path, f)
		list = append(list, lost...)
		return err
	}}
	x.warn = func(err error) { list = append(list, rofs.Lost{Why: err.Error()}) }
	if err := x.run(dir, false); err != nil {
		return nil, err
	}
	say("%d entries recovered to %s, %d losses", len(rec.Tree.Entries), dir, len(list))
	return list, nil
}
