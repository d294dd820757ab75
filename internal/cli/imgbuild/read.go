package imgbuild

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/tree"
)

// inspection is what inspect prints.
type inspection struct {
	Image      string            `json:"image"`
	Kind       string            `json:"kind"` // "image", "osv" for an OSv disk, or "filesystem"
	ID         string            `json:"id,omitempty"`
	Bytes      int64             `json:"bytes"`
	Params     *image.Params     `json:"params,omitempty"`
	Partitions []image.Partition `json:"partitions,omitempty"`
	Root       rootReport        `json:"root"`
	// Of an OSv disk.
	CommandLine string       `json:"command_line,omitempty"`
	Storage     *fsmod.Usage `json:"storage,omitempty"`
	Pool        *poolReport  `json:"pool,omitempty"`
}

func inspectCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "inspect IMG",
		Short:   "Show what an image is made of",
		Example: "  imgbuild inspect app.img\n  imgbuild inspect --json app.img",
		Args:    exactArgs(1, "one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, t, err := openTree(args[0])
			if err != nil {
				return err
			}
			defer img.Close()
			m, err := img.Module()
			if err != nil {
				return err
			}
			in := inspection{Image: args[0], Kind: "filesystem", ID: img.ID(), Bytes: img.Size(), Params: img.Params}
			in.Root.RootFS = image.RootFS{Module: m.Name()}
			in.Root.Bytes = img.Size()
			if img.OSv != nil {
				in.Kind, in.CommandLine, in.Partitions = "osv", img.OSv.CommandLine, img.Partitions()
				in.Root.Bytes = img.OSv.Root.Length
			}
			if img.Params != nil {
				in.Kind = "image"
				in.Root.RootFS = img.Params.Root
				in.Partitions = img.Partitions()
				in.Root.Bytes = in.Partitions[len(in.Partitions)-1].Length
			}
			in.Root.Entries, in.Root.ContentBytes = (&app{tree: t}).size()
			if in.Storage, err = storage(img); err != nil {
				return withPath(args[0], err)
			}
			if in.Pool, err = inspectPool(img); err != nil {
				return withPath(args[0], err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), in)
			}
			return in.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (in *inspection) print(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-8s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("image", "%s: %s, %d bytes", in.Image, in.Kind, in.Bytes)
	if p := in.Params; p != nil {
		line("id", "%s", in.ID)
		line("made by", "%s from %s", printable(p.Tool), printable(strings.Join(p.Sources, ", ")))
		line("kernel", "%s", p.Flavour)
		line("command", "%s", quoteWords(p.Args))
		for _, e := range p.Env {
			line("env", "%s", printable(e))
		}
		if p.Cwd != "" {
			line("cwd", "%s", printable(p.Cwd))
		}
		printHints(line, p.Machine, printable(p.Ready), p.Budgets)
	}
	if in.CommandLine != "" {
		line("command", "%s", printable(in.CommandLine))
	}
	line("root", "%s: %d entries, %s of content in %s", printable(describeRoot(in.Root.RootFS)), in.Root.Entries, formatSize(in.Root.ContentBytes), formatSize(in.Root.Bytes))
	if in.Storage != nil {
		printStorage(line, in.Storage)
	}
	if in.Pool != nil {
		in.Pool.print(line)
	}
	if len(in.Partitions) > 0 {
		fmt.Fprintf(&b, "\n%-10s %12s %12s  %s\n", "partition", "offset", "length", "sha256")
		for _, q := range in.Partitions {
			fmt.Fprintf(&b, "%-10s %12d %12d  %s\n", q.Name, q.Offset, q.Length, q.SHA256)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func verifyCommand() *cobra.Command {
	var asJSON, quiet bool
	var keyFile string
	cmd := &cobra.Command{
		Use:   "verify IMG",
		Short: "Check every bit of an image",
		Long: `Check every bit of an image: boot sector, partition tables, digests, padding, and the file system.

Each problem names its bytes. With --key, the image must be signed with the private key that belongs to that public key. Exit code
0 when all is well, 1 when the image is damaged, not signed or signed with another key, 2 when it is no image.`,
		Example: "  imgbuild verify app.img\n  imgbuild verify --key release.key.pub app.img",
		Args:    exactArgs(1, "one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var key ed25519.PublicKey
			if keyFile != "" {
				var err error
				if key, err = readKey(keyFile, image.ParsePublicKey); err != nil {
					return err
				}
			}
			problems, err := image.VerifyFile(cmd.Context(), args[0])
			if errors.Is(err, fs.ErrNotExist) {
				err = usageError{err}
			}
			if err != nil {
				return withPath(args[0], err)
			}
			sig, err := checkSignature(cmd.Context(), args[0], key)
			if err != nil {
				return withPath(args[0], err)
			}
			refused := sig != nil && sig.err != nil
			w := cmd.OutOrStdout()
			if asJSON {
				err = printJSON(w, struct {
					Image     string           `json:"image"`
					OK        bool             `json:"ok"`
					Signature *signatureReport `json:"signature,omitempty"`
					Problems  []problemReport  `json:"problems"`
				}{args[0], len(problems) == 0 && !refused, sig, reportProblems(problems)})
			} else if !quiet {
				if len(problems) == 0 && !refused {
					_, err = fmt.Fprintf(w, "%s: fine\n", args[0])
				}
				if err == nil && sig != nil {
					_, err = fmt.Fprintf(w, "%s: %v\n", args[0], sig)
				}
				for _, p := range problems {
					if err == nil {
						_, err = fmt.Fprintf(w, "%s: %v\n", args[0], p)
					}
				}
			}
			if err == nil && (len(problems) > 0 || refused) {
				err = exitError(exitFailed)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "the image must be signed by the owner of the Ed25519 public key in the PEM file `PUB`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing; the exit code tells")
	return cmd
}

type problemReport struct {
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	What   string `json:"what"`
}

func reportProblems(problems []fsmod.Problem) []problemReport {
	list := []problemReport{}
	for _, p := range problems {
		list = append(list, problemReport{p.Offset, p.Length, p.What})
	}
	return list
}

// withPath names the file in an error that does not.
func withPath(name string, err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// entryReport is an entry as JSON.
type entryReport struct {
	Path     string            `json:"path"`
	PathRaw  []byte            `json:"path_base64,omitempty"` // where Path is not UTF-8 and shows escapes
	Type     string            `json:"type"`
	Mode     string            `json:"mode"` // octal
	UID      uint32            `json:"uid"`
	GID      uint32            `json:"gid"`
	Size     int64             `json:"size"`
	ModTime  time.Time         `json:"mtime"`
	Link     string            `json:"link,omitempty"`
	HardLink string            `json:"hard_link,omitempty"`
	Major    uint32            `json:"major,omitempty"`
	Minor    uint32            `json:"minor,omitempty"`
	Xattrs   map[string]string `json:"xattrs,omitempty"` // values in base64
}

func reportEntry(e *tree.Entry) entryReport {
	r := entryReport{
		Path: jsonName(absolute(e.Path)), Type: typeName(e.Mode), Mode: fmt.Sprintf("%04o", unixMode(e.Mode)), UID: e.UID, GID: e.GID, Size: e.Size,
		ModTime: e.ModTime.UTC(), Link: jsonName(e.Link), Major: e.Major, Minor: e.Minor,
	}
	if !utf8.ValidString(e.Path) {
		r.PathRaw = []byte(absolute(e.Path))
	}
	if e.HardLink != "" {
		r.HardLink = jsonName(absolute(e.HardLink))
	}
	for _, x := range e.Xattrs {
		if r.Xattrs == nil {
			r.Xattrs = map[string]string{}
		}
		r.Xattrs[jsonName(x.Name)] = base64.StdEncoding.EncodeToString(x.Value)
	}
	return r
}

// jsonName returns a name as it is if JSON can hold it, and escaped if not.
func jsonName(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return printable(s)
}

func absolute(p string) string {
	if p == "." {
		return "/"
	}
	return "/" + p
}

func typeName(m fs.FileMode) string {
	switch m.Type() {
	case 0:
		return "file"
	case fs.ModeDir:
		return "dir"
	case fs.ModeSymlink:
		return "symlink"
	case fs.ModeNamedPipe:
		return "fifo"
	case fs.ModeDevice:
		return "block"
	case fs.ModeDevice | fs.ModeCharDevice:
		return "char"
	}
	return "other"
}

// unixMode returns the permission bits as chmod takes them.
func unixMode(m fs.FileMode) uint32 {
	u := uint32(m.Perm())
	for _, b := range []struct {
		m fs.FileMode
		u uint32
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&b.m != 0 {
			u |= b.u
		}
	}
	return u
}

// modeString spells a mode as ls -l does.
func modeString(m fs.FileMode) string {
	b := []byte("----------")
	b[0] = map[string]byte{"file": '-', "dir": 'd', "symlink": 'l', "fifo": 'p', "block": 'b', "char": 'c', "other": '?'}[typeName(m)]
	for i, c := range "rwxrwxrwx" {
		if m&(1<<(8-i)) != 0 {
			b[1+i] = byte(c)
		}
	}
	for _, s := range []struct {
		m    fs.FileMode
		at   int
		x, o byte
	}{{fs.ModeSetuid, 3, 's', 'S'}, {fs.ModeSetgid, 6, 's', 'S'}, {fs.ModeSticky, 9, 't', 'T'}} {
		if m&s.m != 0 {
			if b[s.at] == 'x' {
				b[s.at] = s.x
			} else {
				b[s.at] = s.o
			}
		}
	}
	return string(b)
}

// longLine shows an entry as ls -l does, with the name given.
func longLine(e *tree.Entry, name string) string {
	size := fmt.Sprint(e.Size)
	if e.Mode&fs.ModeDevice != 0 {
		size = fmt.Sprintf("%d, %d", e.Major, e.Minor)
	}
	s := fmt.Sprintf("%s %5d %5d %10s %s %s", modeString(e.Mode), e.UID, e.GID, size, e.ModTime.UTC().Format("2006-01-02 15:04:05"), printable(name))
	if e.Link != "" {
		s += " -> " + printable(e.Link)
	}
	if e.HardLink != "" {
		s += " = " + printable(absolute(e.HardLink))
	}
	return s
}

func lsCommand() *cobra.Command {
	var long, recursive, asJSON bool
	cmd := &cobra.Command{
		Use:     "ls IMG [PATH]",
		Short:   "List files in an image",
		Example: "  imgbuild ls app.img\n  imgbuild ls -l -R app.img /etc",
		Args:    rangeArgs(1, 2, "an image and perhaps a path in it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, t, err := openTree(args[0])
			if err != nil {
				return err
			}
			defer img.Close()
			start := "."
			if len(args) == 2 {
				start = treePath(args[1])
			}
			list, err := listing(t, start, recursive)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", args[0], absolute(start), bare(err))
			}
			w := cmd.OutOrStdout()
			if asJSON {
				out := []entryReport{}
				for _, l := range list {
					out = append(out, reportEntry(l.e))
				}
				return printJSON(w, out)
			}
			for _, l := range list {
				s := printable(l.name)
				if long {
					s = longLine(l.e, l.name)
				}
				if _, err := fmt.Fprintln(w, s); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&long, "long", "l", false, "show mode, owner, group, size, time (UTC) and link")
	cmd.Flags().BoolVarP(&recursive, "recursive", "R", false, "list what is below, by full path")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// bare strips an error of the path that it names inside the tree, where the caller names it better.
func bare(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

type listed struct {
	e    *tree.Entry
	name string
}

// listing lists what is in a directory, or below it, or a single file. Like ls, it follows a symbolic link that is named.
func listing(t *tree.Tree, start string, recursive bool) ([]listed, error) {
	info, err := t.Stat(start)
	if err != nil {
		return nil, err
	}
	e := info.Sys().(*tree.Entry)
	if !info.IsDir() {
		return []listed{{e, absolute(start)}}, nil
	}
	var list []listed
	for i := range t.Entries {
		c := &t.Entries[i]
		switch {
		case recursive && (e.Path == "." || c == e || strings.HasPrefix(c.Path, e.Path+"/")):
			list = append(list, listed{c, absolute(c.Path)})
		case !recursive && c.Path != "." && path.Dir(c.Path) == e.Path:
			list = append(list, listed{c, path.Base(c.Path)})
		}
	}
	return list, nil
}

func catCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "cat IMG PATH",
		Short:   "Print a file of an image",
		Example: "  imgbuild cat app.img /etc/motd",
		Args:    exactArgs(2, "an image and a path in it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, t, err := openTree(args[0])
			if err != nil {
				return err
			}
			defer img.Close()
			name := treePath(args[1])
			fail := func(err error) error { return fmt.Errorf("%s: %s: %w", args[0], absolute(name), err) }
			f, err := t.Open(name)
			if err != nil {
				return fail(bare(err))
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				return fail(err)
			}
			if !info.Mode().IsRegular() {
				return fail(fmt.Errorf("not a regular file: %s", typeName(info.Mode())))
			}
			if _, err = io.Copy(cmd.OutOrStdout(), f); err != nil {
				return fail(err)
			}
			return nil
		},
	}
}

// sameXattrs compares extended attributes, which are sorted.
func sameXattrs(a, b []tree.Xattr) bool {
	return slices.EqualFunc(a, b, func(x, y tree.Xattr) bool { return x.Name == y.Name && string(x.Value) == string(y.Value) })
}
