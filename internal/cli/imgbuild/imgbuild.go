// Package imgbuild is the command imgbuild: from an app to an image, and the verbs that read images.
//
// Exit codes: 0 fine; 1 the work failed, or verify found damage; 2 usage or bad input; 4 the host lacks a program. diff, as diff(1):
// 0 the same, 1 different, 2 trouble.
package imgbuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/fsmod"
	"github.com/firstlight-boot/firstlight/fsmod/hosttool"
	_ "github.com/firstlight-boot/firstlight/fsmod/rofsmod" // the file system that images have
	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/tree"
)

// Exit codes.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
	exitHost   = 4
)

// usageError is a mistake of the caller: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitError is an exit code whose reason was already printed.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Main runs the command with the process's signals and environment, and returns its exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer close(signals) // ends the goroutine
	defer signal.Stop(signals)
	go func() {
		if _, ok := <-signals; !ok {
			return
		}
		cancel()
		// One request may come as two signals: timeout(1) sends one to the process and one to its group, others pass on what the
		// terminal sent already. A third ends the process in the usual way, should the first not do.
		<-signals
		signal.Stop(signals)
	}()
	return run(ctx, args, stdout, stderr)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitFine
	}
	var code exitError
	if errors.As(err, &code) {
		return int(code)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		fmt.Fprintln(stderr, "imgbuild: interrupted")
		return exitFailed
	}
	fmt.Fprintf(stderr, "imgbuild: %v\n", err)
	if errors.Is(err, hosttool.ErrMissing) {
		return exitHost
	}
	if isUsage(err) {
		return exitUsage
	}
	return exitFailed
}

// isUsage tells errors that the caller can mend by other arguments or input from failures.
func isUsage(err error) bool {
	var ue usageError
	if errors.As(err, &ue) {
		return true
	}
	for _, bad := range []error{
		image.ErrInput, image.ErrFormat, image.ErrDamaged, image.ErrUnsupported, image.ErrTooLarge, fsmod.ErrUnsupported, fsmod.ErrDamaged, tree.ErrUnsupported, tree.ErrInvalid,
	} {
		if errors.Is(err, bad) {
			return true
		}
	}
	return false
}

func newCommand() *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:   "imgbuild [flags] APP",
		Short: "Turn an app into a bootable image",
		Long: `Turn an app into an image that boots: a disk with Firstlight's kernel and the app's files in a read-only file system.

APP is a folder, an ELF program, or go:PACKAGE for a Go main package. A folder called like one of the commands below is
given as ./NAME. In a folder, imgbuild.yaml says how the app is run; flags win. Without it, the folder's only executable is
run. SOURCE_DATE_EPOCH is honoured: later modification times are lowered to it.`,
		Example: `  imgbuild --rofs --compress app/                     # app.img, ready for: bootprof qemu app.img
  imgbuild --cmd "/bin/server --port 80" --env MODE=test -o out/server.img server/
  imgbuild go:./cmd/foo
  imgbuild --no-kernel -o data.rofs data/             # the file system alone
  imgbuild ls -l app.img /bin`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.manifest.file != "" {
				return rangeArgs(0, 1, "at most the folder of the manifest's sources")(cmd, args)
			}
			return exactArgs(1, "an app: a folder, an ELF program or go:PACKAGE")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, strings.Join(args, "")) },
	}
	o.flags(cmd)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	cmd.Version = toolVersion()
	cmd.SetVersionTemplate("imgbuild {{.Version}}\n")
	cmd.AddCommand(inspectCommand(), verifyCommand(), lsCommand(), catCommand(), extractCommand(), diffCommand(), convertCommand(), recoverCommand(), keygenCommand())
	return cmd
}

func exactArgs(n int, what string) cobra.PositionalArgs { return rangeArgs(n, n, what) }

func rangeArgs(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		if len(args) > most && !cmd.HasParent() && slices.Contains(allCodecs(), args[0]) {
			return usagef("a codec is given as --compress=%s", args[0])
		}
		if len(args) > most && !cmd.HasParent() {
			return usagef("%q is one argument too many: want %s; see %s --help", args[most], what, cmd.CommandPath())
		}
		return usagef("want %s; see %s --help", what, cmd.CommandPath())
	}
}

// openImage opens an image for a verb.
func openImage(path string) (*image.Image, error) {
	img, err := image.Open(path)
	if err == nil {
		return img, nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, usageError{err}
	case errors.Is(err, image.ErrDamaged):
		return nil, fmt.Errorf("%w; imgbuild verify %s says more", err, path)
	}
	return nil, err
}

// openTree opens an image and lists its root file system. The image stays open as long as the tree is used.
func openTree(path string) (*image.Image, *tree.Tree, error) {
	img, err := openImage(path)
	if err != nil {
		return nil, nil, err
	}
	fsys, err := img.Root()
	if err == nil {
		var t *tree.Tree
		if t, err = fsys.Tree(); err == nil {
			return img, t, nil
		}
	}
	img.Close()
	return nil, nil, fmt.Errorf("%s: %w", path, err)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// formatSize formats a number of bytes for people.
func formatSize(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), -1
	for f >= 1024 && unit < 4 {
		f, unit = f/1024, unit+1
	}
	if f < 10 {
		return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[unit])
	}
	return fmt.Sprintf("%.0f %ciB", f, "KMGTP"[unit])
}

// printable makes a name from an image safe to show: hostile control characters and what is not UTF-8 are escaped.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r == '\uFFFD' || r < ' ' || r >= 0x7f && r < 0xa0 }) < 0 {
		return s
	}
	q := fmt.Sprintf("%+q", s)
	return q
}
