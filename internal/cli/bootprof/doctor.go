package bootprof

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firstlight-boot/firstlight/hyperkit"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
)

// finding is what the doctor says of one thing.
type finding struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, warn or fail
	Text   string `json:"text"`
	Fix    string `json:"fix,omitempty"` // what to do
}

// The statuses of a finding: only what no boot can do without fails.
const (
	statusOK   = "ok"
	statusWarn = "warn"
	statusFail = "fail"
)

func doctorCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Find out what this host can measure, and what to install",
		Long: `Look at what bootprof needs of this host, by trying it: QEMU and its firmware, the accelerators and why one is or is not
used, a boot, the C compiler and the plugin that counts instructions, the cache, memory, clocks and optional tools. Each line
begins with ok, warn or fail; warn costs some of what bootprof can show, fail means that nothing boots.

Exit codes: 0 a guest boots; 4 it does not.`,
		Example: `  bootprof doctor
  bootprof doctor --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("%q is one argument too many: doctor takes none; see bootprof doctor --help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			found := examine(cmd.Context())
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			if err := writeFindings(cmd.OutOrStdout(), found, asJSON); err != nil {
				return err
			}
			var failed []string
			for _, f := range found {
				if f.Status == statusFail {
					failed = append(failed, f.Name)
				}
			}
			if len(failed) > 0 {
				return errorf(exitHost, "this host cannot boot a guest: %s", strings.Join(failed, ", "))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object instead of text")
	return cmd
}

func writeFindings(w io.Writer, found []finding, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			OK     bool      `json:"ok"`
			Checks []finding `json:"checks"`
		}{!slices.ContainsFunc(found, func(f finding) bool { return f.Status == statusFail }), found})
	}
	var b bytes.Buffer
	for _, f := range found {
		fmt.Fprintf(&b, "%-5s %-12s %s\n", f.Status, f.Name, f.Text)
		if f.Fix != "" {
			fmt.Fprintf(&b, "%-5s %-12s -> %s\n", "", "", f.Fix)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// examine looks at everything, in the order in which things depend on each other.
func examine(ctx context.Context) []finding {
	var found []finding
	if runtime.GOOS == "darwin" {
		found = append(found, examineHyperkit())
	}
	q, f := examineQEMU(ctx)
	found = append(found, f)
	if q != nil {
		found = append(found, examineFirmware(ctx, q), examineAccel(ctx, q), examineBoot(ctx, q))
	}
	found = append(found, examineCompiler(ctx))
	if q != nil {
		found = append(found, examinePlugin(ctx, q))
	}
	found = append(found, examineCache(), examineCPUs())
	found = append(found, examineLinux(os.DirFS("/"))...)
	return append(found, examineTools()...)
}

func examineHyperkit() finding {
	path, err := hyperkit.Find()
	if err != nil {
		return finding{"hyperkit", statusFail, err.Error(), ""}
	}
	return finding{"hyperkit", statusOK, path, ""}
}

func examineQEMU(ctx context.Context) (*qemu.QEMU, finding) {
	if runtime.GOOS != "linux" {
		return nil, finding{"qemu", statusWarn, "bootprof qemu runs on Linux only, and this is " + runtime.GOOS, ""}
	}
	q, err := qemu.Find(ctx, "")
	if err != nil {
		return nil, finding{"qemu", statusFail, err.Error(), "apt-get install qemu-system-x86"}
	}
	return q, finding{"qemu", statusOK, fmt.Sprintf("%v at %s, %v or later is needed", q.Version, q.Path, qemu.MinVersion), ""}
}

// firmwareFiles are the files that the machines of package qemu name, with the Debian package that has them. The first is
// needed.
var firmwareFiles = []struct{ name, pkg, use string }{
	{"qboot.rom", "qemu-system-data", "microvm's firmware"},
	{"bios-microvm.bin", "seabios", "microvm with SeaBIOS"},
	{"bios-256k.bin", "seabios", "pc and q35"},
}

func examineFirmware(ctx context.Context, q *qemu.QEMU) finding {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, q.Path, "-L", "help").Output()
	if err != nil {
		return finding{"firmware", statusWarn, fmt.Sprintf("%s -L help, which tells where it is: %v", q.Path, err), ""}
	}
	f := finding{"firmware", statusOK, "", ""}
	var there, missing, packages []string
	for i, file := range firmwareFiles {
		at := ""
		for dir := range strings.Lines(string(out)) {
			path := filepath.Join(strings.TrimSpace(dir), file.name)
			if _, err := os.Stat(path); err == nil && at == "" {
				at = path
			}
		}
		if at != "" {
			there = append(there, at)
			continue
		}
		missing, packages = append(missing, fmt.Sprintf("%s (%s)", file.name, file.use)), append(packages, file.pkg)
		if i == 0 {
			f.Status = statusFail
		} else if f.Status == statusOK {
			f.Status = statusWarn
		}
	}
	f.Text = strings.Join(there, ", ")
	if len(missing) > 0 {
		f.Text = "not found: " + strings.Join(missing, ", ")
		f.Fix = "apt-get install " + strings.Join(slices.Compact(packages), " ")
	}
	return f
}

func examineAccel(ctx context.Context, q *qemu.QEMU) finding {
	choice, err := q.Choose(ctx, qemu.Auto)
	switch {
	case err != nil:
		return finding{"accelerator", statusWarn, "the choice failed: " + oneLine(err), ""}
	case choice.Accel == qemu.KVM:
		return finding{"accelerator", statusOK, "kvm: " + choice.Reason, ""}
	}
	f := finding{"accelerator", statusWarn, fmt.Sprintf("tcg, many times slower than kvm: %s", choice.Reason), "boot on a host whose /dev/kvm works; of a virtual machine, switch nested virtualisation on"}
	if _, err := os.Stat("/dev/kvm"); err == nil && strings.Contains(choice.Reason, "not available") {
		f.Fix = "let the user open /dev/kvm: usermod -aG kvm USER, and log in again"
	}
	return f
}

// examineBoot boots the floor guest under TCG, which every host has.
func examineBoot(ctx context.Context, q *qemu.QEMU) finding {
	result, err := bootFloor(ctx, q, nil)
	if err != nil {
		return finding{"boot", statusFail, oneLine(err), "bootprof qemu --dry-run prints a command line to try by hand"}
	}
	return finding{"boot", statusOK, fmt.Sprintf("a guest that exits at once takes %v under tcg", result.Wall.Round(100*time.Microsecond)), ""}
}

func bootFloor(ctx context.Context, q *qemu.QEMU, counting *qemu.Counting) (*qemu.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	vm, err := q.Start(ctx, qemu.Config{Accel: qemu.TCG, KernelImage: qemu.FloorKernel(), Counting: counting}, qemu.Events{})
	if err != nil {
		return nil, err
	}
	defer vm.Close()
	result, err := vm.Wait()
	if err != nil {
		return nil, err
	}
	if v, ok := result.GuestExit(); !ok || v != qemu.FloorExit {
		return nil, fmt.Errorf("the guest did not end as it should (QEMU's exit status %d): %s", result.Status, result.Stderr)
	}
	return result, nil
}

func examineCompiler(ctx context.Context) finding {
	const fix = "apt-get install gcc libc6-dev"
	path, err := exec.LookPath("cc")
	if err != nil {
		return finding{"compiler", statusWarn, "there is no cc, so instructions cannot be counted and nothing be profiled exactly", fix}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return finding{"compiler", statusWarn, fmt.Sprintf("%s --version: %v", path, err), fix}
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return finding{"compiler", statusOK, fmt.Sprintf("%s: %s", path, line), ""}
}

// examinePlugin compiles the plugin and counts the floor guest's instructions with it.
func examinePlugin(ctx context.Context, q *qemu.QEMU) finding {
	path, err := plugin.Build(ctx, q.CacheDir, plugin.API(q.Version.Major))
	if err != nil {
		f := finding{"plugin", statusWarn, "it does not compile, so instructions cannot be counted: " + oneLine(err), "apt-get install gcc libc6-dev"}
		if errors.Is(err, plugin.ErrNoCompiler) {
			f.Text = "it needs a C compiler"
		}
		return f
	}
	result, err := bootFloor(ctx, q, &qemu.Counting{})
	if err != nil || result.Counts == nil || result.Counts.Total == 0 {
		return finding{"plugin", statusWarn, fmt.Sprintf("QEMU does not run it, so instructions cannot be counted: %s", oneLine(err)), "a QEMU that was built with --enable-plugins, as Debian's"}
	}
	return finding{"plugin", statusOK, fmt.Sprintf("%s counted the %d instructions of that guest", path, result.Counts.Total), ""}
}

func examineCache() finding {
	dir, err := os.UserCacheDir()
	if err == nil {
		dir = filepath.Join(dir, "firstlight")
		err = os.MkdirAll(dir, 0o700)
	}
	var f *os.File
	if err == nil {
		f, err = os.CreateTemp(dir, "doctor-*.tmp")
	}
	if err != nil {
		return finding{"cache", statusWarn, fmt.Sprintf("plugin and probes are made again in every run: %v", err), "set HOME or XDG_CACHE_HOME to a folder that can be written"}
	}
	f.Close()
	os.Remove(f.Name())
	return finding{"cache", statusOK, dir, ""}
}

func examineCPUs() finding {
	if n := runtime.NumCPU(); n < 2 {
		return finding{"cpus", statusWarn, "1: the guest and who watches it take turns, which timed boots show", "boot on a host with 2 CPUs or more"}
	}
	return finding{"cpus", statusOK, strconv.Itoa(runtime.NumCPU()), ""}
}

// examineTools looks for what makes some things easier.
func examineTools() []finding {
	var found []finding
	for _, tool := range []struct{ name, use, fix string }{
		{"go", "go tool pprof, and imgbuild go:PACKAGE", "https://go.dev/doc/install"},
		{"dot", "graphs in go tool pprof -http", "apt-get install graphviz"},
	} {
		if path, err := exec.LookPath(tool.name); err == nil {
			found = append(found, finding{tool.name, statusOK, path, ""})
		} else {
			found = append(found, finding{tool.name, statusWarn, "not found; optional, for " + tool.use, tool.fix})
		}
	}
	return found
}

// oneLine is an error without the end of a console.
func oneLine(err error) string {
	if err == nil {
		return "no instruction was counted"
	}
	var run *qemu.RunError
	if errors.As(err, &run) && strings.TrimSpace(run.Stderr) != "" {
		return strings.TrimSpace(run.Stderr)
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
