package imgbuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/tree"
)

// manifestOptions are the flags about a manifest of OSv.
type manifestOptions struct {
	file    string
	defines []string
}

func (o *manifestOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.file, "manifest", "", "pack what this `FILE` in OSv's manifest syntax lists; APP is then the folder of its sources")
	f.StringArrayVar(&o.defines, "define", nil, "a manifest's variable, `VAR=VALUE`; those not defined are the environment's; may repeat")
}

// load reads the manifest. Relative sources are looked for in the folder dir, if one is given, then in the current directory,
// where OSv's tools look, then in the manifest's own. It returns the order of its entries and notes for the user.
func (o *manifestOptions) load(ctx context.Context, dir string, from sourceOptions) (a *app, order, notes []string, err error) {
	vars := map[string]string{}
	for _, d := range o.defines {
		name, value, ok := strings.Cut(d, "=")
		if !ok || name == "" {
			return nil, nil, nil, usagef("--define %s: want VAR=VALUE", d)
		}
		vars[name] = value
	}
	clamp, err := sourceDateEpoch()
	if err != nil {
		return nil, nil, nil, err
	}
	f, err := os.Open(o.file)
	if err != nil {
		return nil, nil, nil, usageError{fmt.Errorf("--manifest: %w", err)}
	}
	defer f.Close()
	mo := tree.ManifestOptions{Options: tree.Options{ClampTime: clamp, KeepOwner: from.keepOwner}, Dirs: []string{".", filepath.Dir(o.file)}}
	if dir != "" {
		if st, err := os.Stat(dir); err != nil {
			return nil, nil, nil, usageError{err}
		} else if !st.IsDir() {
			return nil, nil, nil, usagef("%s is not a folder: with --manifest, APP is where its sources are", dir)
		}
		mo.Dirs = append([]string{dir}, mo.Dirs...)
	}
	mo.Var = func(name string) (string, bool) {
		if v, ok := vars[name]; ok {
			return v, true
		}
		return os.LookupEnv(name)
	}
	m, err := tree.FromManifest(ctx, f, mo)
	if err != nil {
		if errors.Is(err, tree.ErrManifest) || errors.Is(err, fs.ErrNotExist) {
			err = usageError{err}
		}
		return nil, nil, nil, fmt.Errorf("%s: %w", o.file, err)
	}
	base := filepath.Base(o.file)
	name := strings.TrimSuffix(base, filepath.Ext(base))
	if name == "" {
		name = base
	}
	return &app{name: name, source: base, tree: m.Tree}, m.Order, m.Notes, nil
}

// printNotes tells what a manifest did not say as it is packed.
func printNotes(w io.Writer, file string, notes []string) {
	for _, n := range notes {
		fmt.Fprintf(w, "imgbuild: %s: %s\n", file, printable(n))
	}
}
