package bootprof

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// listed is a line of bootprof list.
type listed struct {
	Path         string   `json:"path"`
	Time         string   `json:"time,omitempty"` // when it was recorded, RFC 3339
	Image        string   `json:"image,omitempty"`
	Flavour      string   `json:"flavour,omitempty"`
	Accel        string   `json:"accel,omitempty"`
	Machine      string   `json:"machine,omitempty"`
	Until        string   `json:"until,omitempty"`
	Runs         int      `json:"runs"`     // timed boots
	Counting     int      `json:"counting"` // counting boots
	BootMS       *float64 `json:"boot_ms,omitempty"`
	Instructions *int64   `json:"instructions,omitempty"`
	TouchedBytes *int64   `json:"touched_bytes,omitempty"`
	Error        string   `json:"error,omitempty"` // why it cannot be read

	nanos int64
}

func listCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [DIR]",
		Short: "List the recordings under a folder, the newest last",
		Long: `List the recordings (files *.fl) in a folder and the folders below it, by default the current one. The newest comes last. Files that
cannot be read are listed with the reason.`,
		Example: `  bootprof list
  bootprof list ci-artifacts --json`,
		Args: wantArgs(0, 1, "at most one folder"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			all, err := listRecordings(dir)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetEscapeHTML(false)
				e.SetIndent("", "  ")
				return e.Encode(all)
			}
			return writeList(cmd.OutOrStdout(), dir, all)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array instead of text")
	return cmd
}

// listRecordings reads what there is of recordings under a folder, or the one that a file is.
func listRecordings(dir string) ([]listed, error) {
	all := []listed{} // which is an array in JSON, if an empty one
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil && path == dir:
			return usagef("%w", err)
		case err != nil:
			all = append(all, listed{Path: path, Error: reason(err)})
			return nil
		case e.IsDir() || filepath.Ext(path) != ".fl" && path != dir:
			return nil
		}
		all = append(all, list(path))
		return nil
	})
	slices.SortStableFunc(all, func(a, b listed) int { return cmp.Compare(a.nanos, b.nanos) }) // WalkDir goes by name
	return all, err
}

func list(path string) listed {
	l := listed{Path: path}
	rec, err := boottrace.OpenRuns(path)
	if err != nil {
		l.Error = reason(err)
		return l
	}
	s := rec.Summarize()
	l.Image, l.Flavour, l.Accel, l.Machine, l.Until = rec.Image, rec.Flavour, rec.Accel, rec.Machine, rec.Until()
	l.Runs, l.Counting, l.nanos = len(rec.Of(boottrace.Timed)), len(rec.Of(boottrace.Counting)), rec.TimeNanos
	if rec.TimeNanos != 0 {
		l.Time = time.Unix(0, rec.TimeNanos).UTC().Format(time.RFC3339)
	}
	if s.TotalNanos != nil {
		l.BootMS = new(s.TotalNanos.Median / 1e6)
	}
	if s.Instructions != nil {
		l.Instructions = new(int64(s.Instructions.Median))
	}
	if s.TouchedBytes != nil {
		l.TouchedBytes = new(int64(s.TouchedBytes.Median))
	}
	return l
}

// reason is an error without the path, which is told already.
func reason(err error) string {
	var format *boottrace.FormatError
	var path *fs.PathError
	switch {
	case errors.As(err, &format):
		return format.Error()
	case errors.As(err, &path):
		return path.Err.Error()
	}
	return err.Error()
}

func writeList(w io.Writer, dir string, all []listed) error {
	if len(all) == 0 {
		_, err := fmt.Fprintf(w, "no recordings under %s\n", dir)
		return err
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHEN\tIMAGE\tACCEL\tBOOTS\tBOOT\tINSTRUCTIONS\tMEMORY\tRECORDING")
	orDash := func(ok bool, format string, v func() any) string {
		if !ok {
			return "-"
		}
		return fmt.Sprintf(format, v())
	}
	for _, l := range all {
		if l.Error != "" {
			continue
		}
		when := "-"
		if l.nanos != 0 {
			when = time.Unix(0, l.nanos).Local().Format("2006-01-02 15:04:05")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d+%d\t%s\t%s\t%s\t%s\n", when, printable(l.Image), printable(l.Accel), l.Runs, l.Counting,
			orDash(l.BootMS != nil, "%.2f ms", func() any { return *l.BootMS }),
			orDash(l.Instructions != nil, "%d", func() any { return *l.Instructions }),
			orDash(l.TouchedBytes != nil, "%.2f MiB", func() any { return float64(*l.TouchedBytes) / (1 << 20) }), printable(l.Path))
	}
	t.Flush()
	for _, l := range all {
		if l.Error != "" {
			fmt.Fprintf(&b, "cannot be read: %s: %s\n", printable(l.Path), printable(l.Error))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printable takes out of a text what could do something to a terminal or a table.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\ufffd'
		}
		return r
	}, s)
}
