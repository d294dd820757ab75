package imgbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/tree"
)

// Exit codes of diff, as diff(1)'s.
const (
	exitDifferent   = 1
	exitDiffTrouble = 2
)

// difference is one thing that is not the same on both sides.
type difference struct {
	Path   string `json:"path"`   // or the name of a partition
	Change string `json:"change"` // "added", "removed" or "changed"
	// What changed: "type", "mode", "owner", "mtime", "size", "content", "link", "hard_link", "device", "xattrs".
	What   []string `json:"what,omitempty"`
	Detail string   `json:"detail,omitempty"`
}

func diffCommand() *cobra.Command {
	var asJSON, quiet bool
	var from sourceOptions
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two images or folders",
		Long: `Compare two images, file-system images or folders: which entries B has more (+), less (-) or otherwise (~) than A, and of
two bootable images also kernel and parameters. A folder is taken as imgbuild would pack it with these flags.

The two may be of different formats. What one of them has no place for, as modes and times in OSv's, is not compared, which is
said on stderr if the other has it.

Exit code 0 when they are the same, 1 when they differ, 2 when they cannot be compared.`,
		Example: "  imgbuild diff old.img new.img\n  imgbuild diff app/ app.img",
		Args:    exactArgs(2, "two images or folders"),
		RunE: func(cmd *cobra.Command, args []string) error {
			note := func(text string) {
				if !quiet {
					fmt.Fprintf(cmd.ErrOrStderr(), "imgbuild: %s\n", text)
				}
			}
			diffs, err := diff(cmd.Context(), args[0], args[1], from, note)
			if err == nil && asJSON {
				err = printJSON(cmd.OutOrStdout(), diffs)
			} else if err == nil && !quiet {
				for _, d := range diffs {
					if _, err = fmt.Fprintln(cmd.OutOrStdout(), d); err != nil {
						break
					}
				}
			}
			if err != nil { // trouble is 2, an interrupt included: 1 would say that they differ
				fmt.Fprintf(cmd.ErrOrStderr(), "imgbuild: %v\n", err)
				return exitError(exitDiffTrouble)
			}
			if err == nil && len(diffs) > 0 {
				err = exitError(exitDifferent)
			}
			return err
		},
	}
	cmd.Flags().SortFlags = false
	from.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing; the exit code tells")
	return cmd
}

func (d difference) String() string {
	sign := map[string]string{"added": "+", "removed": "-", "changed": "~"}[d.Change]
	s := sign + " " + printable(d.Path)
	if d.Detail != "" {
		s += ": " + d.Detail
	}
	return s
}

// side is one of the two things compared.
type side struct {
	img  *image.Image // nil: a folder
	tree *tree.Tree
}

func openSide(ctx context.Context, arg string, from sourceOptions) (*side, error) {
	if st, err := os.Stat(arg); err == nil && st.IsDir() {
		a, err := loadApp(ctx, arg, "", nil, from)
		if err != nil {
			return nil, err
		}
		return &side{tree: a.tree}, nil
	}
	img, t, err := openTree(arg)
	if err != nil {
		return nil, err
	}
	return &side{img, t}, nil
}

func (s *side) close() {
	if s.img != nil {
		s.img.Close()
	}
}

// format returns what a side is: "folder", or the module of its root.
func (s *side) format() (string, error) {
	if s.img == nil {
		return "folder", nil
	}
	m, err := s.img.Module()
	if err != nil {
		return "", err
	}
	return m.Name(), nil
}

// lacks returns what a side's format has no place for.
func (s *side) lacks() (fsmod.Attrs, error) {
	if s.img == nil {
		return 0, nil
	}
	m, err := s.img.Module()
	if err != nil {
		return 0, err
	}
	return fsmod.Lacks(m), nil
}

// level takes from both sides what one of them has no place for, and notes what is therefore not compared.
func level(a, b *side, note func(string)) error {
	lackA, err := a.lacks()
	if err != nil {
		return err
	}
	lackB, err := b.lacks()
	if err != nil {
		return err
	}
	// What neither has is not missed.
	ignored := lackA&^lackB&fsmod.Uses(b.tree) | lackB&^lackA&fsmod.Uses(a.tree)
	if ignored &^= fsmod.Devices | fsmod.Pipes; ignored != 0 {
		fa, err := a.format()
		if err != nil {
			return err
		}
		fb, err := b.format()
		if err != nil {
			return err
		}
		note(fmt.Sprintf("not compared, because not both of %s and %s have a place for it: %s", fa, fb, ignored))
	}
	// What a format without modes reads back is its own choice.
	if lack := lackA | lackB; lack != 0 {
		a.tree, b.tree = fsmod.Reduce(a.tree, lack), fsmod.Reduce(b.tree, lack)
	}
	return nil
}

func diff(ctx context.Context, argA, argB string, from sourceOptions, note func(string)) ([]difference, error) {
	a, err := openSide(ctx, argA, from)
	if err != nil {
		return nil, err
	}
	defer a.close()
	b, err := openSide(ctx, argB, from)
	if err != nil {
		return nil, err
	}
	defer b.close()
	if err := level(a, b, note); err != nil {
		return nil, err
	}

	diffs := []difference{} // an empty list is [] in JSON
	if a.img != nil && b.img != nil && a.img.Params != nil && b.img.Params != nil {
		diffs = append(diffs, diffBoot(a.img, b.img)...)
	}
	if a.img != nil && b.img != nil && a.img.OSv != nil && b.img.OSv != nil {
		diffs = append(diffs, diffOSv(a.img, b.img)...)
	}
	i, j := 0, 0
	for i < len(a.tree.Entries) || j < len(b.tree.Entries) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c := 0
		switch {
		case i == len(a.tree.Entries):
			c = 1
		case j == len(b.tree.Entries):
			c = -1
		default:
			c = tree.Compare(a.tree.Entries[i].Path, b.tree.Entries[j].Path)
		}
		switch {
		case c < 0:
			diffs = append(diffs, difference{Path: jsonName(absolute(a.tree.Entries[i].Path)), Change: "removed"})
			i++
		case c > 0:
			diffs = append(diffs, difference{Path: jsonName(absolute(b.tree.Entries[j].Path)), Change: "added"})
			j++
		default:
			d, err := diffEntry(ctx, a.tree, b.tree, &a.tree.Entries[i], &b.tree.Entries[j])
			if err != nil {
				return nil, err
			}
			if len(d.What) > 0 {
				diffs = append(diffs, d)
			}
			i++
			j++
		}
	}
	return diffs, nil
}

// diffBoot compares all of two images but their root file systems.
func diffBoot(a, b *image.Image) []difference {
	var diffs []difference
	pa, pb := *a.Params, *b.Params
	// Where partitions lie and what they were made from says nothing about how the image boots.
	for _, p := range []*image.Params{&pa, &pb} {
		p.Partitions, p.Sources, p.Tool = nil, nil, ""
	}
	var what []string
	va, vb := reflect.ValueOf(pa), reflect.ValueOf(pb)
	for i := range va.NumField() {
		if !reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			name, _, _ := strings.Cut(va.Type().Field(i).Tag.Get("json"), ",")
			what = append(what, name)
		}
	}
	if len(what) > 0 {
		diffs = append(diffs, difference{Path: image.PartParams, Change: "changed", What: what, Detail: strings.Join(what, ", ")})
	}
	diffs = append(diffs, diffKernel(a, b)...)
	return append(diffs, diffInitrd(a, b)...)
}

// diffOSv compares all of two OSv disks but their root file systems.
func diffOSv(a, b *image.Image) []difference {
	var diffs []difference
	if la, lb := a.OSv.CommandLine, b.OSv.CommandLine; la != lb {
		diffs = append(diffs, difference{Path: image.PartParams, Change: "changed", What: []string{"command_line"}, Detail: fmt.Sprintf("command line %q → %q", la, lb)})
	}
	both, d := diffPresence(a, b, image.PartKernel)
	if both {
		d = diffKernel(a, b)
	}
	return append(diffs, d...)
}

// diffPresence tells whether both images have a partition, and what is to be said if one has it.
func diffPresence(a, b *image.Image, name string) (both bool, diffs []difference) {
	_, hasA := a.Partition(name)
	_, hasB := b.Partition(name)
	switch {
	case hasA && !hasB:
		diffs = []difference{{Path: name, Change: "removed"}}
	case hasB && !hasA:
		diffs = []difference{{Path: name, Change: "added"}}
	}
	return hasA && hasB, diffs
}

// diffInitrd compares two images' initial RAM disks by the digests that the parameters have of them.
func diffInitrd(a, b *image.Image) []difference {
	both, diffs := diffPresence(a, b, image.PartInitrd)
	sum := func(img *image.Image) string {
		list := img.Partitions()
		return list[slices.IndexFunc(list, func(q image.Partition) bool { return q.Name == image.PartInitrd })].SHA256
	}
	if both && sum(a) != sum(b) {
		diffs = []difference{contentDiffers(image.PartInitrd)}
	}
	return diffs
}

// diffKernel compares two images' kernels.
func diffKernel(a, b *image.Image) []difference {
	ka, errA := kernelBuild(a)
	kb, errB := kernelBuild(b)
	if errA != nil || errB != nil || !bytes.Equal(ka, kb) {
		return []difference{contentDiffers(image.PartKernel)}
	}
	return nil
}

func contentDiffers(name string) difference {
	return difference{Path: name, Change: "changed", What: []string{"content"}, Detail: "content"}
}

// kernelBuild returns an image's kernel, one of our own without the parameters, which depend on the rest of the image.
func kernelBuild(img *image.Image) ([]byte, error) {
	r, ok := img.Partition(image.PartKernel)
	if !ok || r.Size() > image.MaxKernel {
		return nil, errors.New("no kernel")
	}
	b := make([]byte, r.Size())
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if img.Params == nil || img.Params.Flavour != image.FlavourNative {
		return b, nil
	}
	return b, image.ClearParams(b)
}

// diffEntry compares two entries of one name.
func diffEntry(ctx context.Context, ta, tb *tree.Tree, a, b *tree.Entry) (difference, error) {
	d := difference{Path: jsonName(absolute(a.Path)), Change: "changed"}
	var details []string
	note := func(what, format string, args ...any) {
		d.What = append(d.What, what)
		details = append(details, fmt.Sprintf(format, args...))
	}
	sameType := a.Mode.Type() == b.Mode.Type()
	if !sameType {
		note("type", "%s → %s", typeName(a.Mode), typeName(b.Mode))
	}
	if ma, mb := unixMode(a.Mode), unixMode(b.Mode); ma != mb {
		note("mode", "mode %04o → %04o", ma, mb)
	}
	if a.UID != b.UID || a.GID != b.GID {
		note("owner", "owner %d:%d → %d:%d", a.UID, a.GID, b.UID, b.GID)
	}
	if !a.ModTime.Equal(b.ModTime) {
		const layout = "2006-01-02T15:04:05.999999999Z"
		note("mtime", "mtime %s → %s", a.ModTime.UTC().Format(layout), b.ModTime.UTC().Format(layout))
	}
	if a.Link != b.Link {
		note("link", "link %q → %q", a.Link, b.Link)
	}
	if a.HardLink != b.HardLink {
		note("hard_link", "hard link of %q → of %q", a.HardLink, b.HardLink)
	}
	if a.Major != b.Major || a.Minor != b.Minor {
		note("device", "device %d:%d → %d:%d", a.Major, a.Minor, b.Major, b.Minor)
	}
	if !sameXattrs(a.Xattrs, b.Xattrs) {
		note("xattrs", "extended attributes")
	}
	if sameType && a.Mode.IsRegular() {
		if a.Size != b.Size {
			note("size", "size %d → %d", a.Size, b.Size)
		} else if same, err := sameContent(ctx, ta, tb, a.Path); err != nil {
			return d, err
		} else if !same {
			note("content", "content")
		}
	}
	d.Detail = strings.Join(details, ", ")
	return d, nil
}

// sameContent compares the content of a file of two trees.
func sameContent(ctx context.Context, ta, tb *tree.Tree, name string) (bool, error) {
	fa, err := ta.Open(name)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := tb.Open(name)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	ba, bb := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		na, errA := readBlock(ctx, fa, ba)
		nb, errB := readBlock(ctx, fb, bb)
		if err := errors.Join(errA, errB); err != nil {
			return false, fmt.Errorf("%s: %w", printable(absolute(name)), err)
		}
		if !bytes.Equal(ba[:na], bb[:nb]) {
			return false, nil
		}
		if na < len(ba) {
			return true, nil
		}
	}
}

// readBlock fills b as far as the file goes.
func readBlock(ctx context.Context, f fs.File, b []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(f, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return n, err
}
