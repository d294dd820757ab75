// Command bench measures what Firstlight promises and prints it beside the promise. It runs bin/imgbuild and bin/bootprof as
// a user would; "make bench" builds them first.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/kernel/abi"
)

const mib = 1 << 20

func main() {
	runs := flag.Int("n", 20, "timed boots of each kind")
	boots := flag.Int("boots", 200, "boots in a row of each example")
	prof := flag.Bool("prof", false, "print the figures of profiling instead")
	kernel := flag.Bool("kernel", false, "print what the kernel's single operations cost instead")
	gate := flag.Bool("gate", false, "with -kernel: fail when one costs more than it may, and leave the examples out")
	files := flag.Bool("fs", false, "print the figures of the file systems instead")
	zfs := flag.Bool("zfs", false, "print the figures of ZFS pools instead")
	flag.Parse()
	b := bench{runs: *runs}
	dir, err := os.MkdirTemp("", "firstlight-bench-")
	if err == nil {
		b.dir = dir
		if *files {
			err = b.fileSystems()
		} else if *zfs {
			err = b.pools()
		} else if *kernel {
			err = b.kernel(*gate)
		} else if *prof {
			err = b.profiles()
		} else {
			err = b.figures(*boots)
		}
		os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	dir  string
	runs int
}

type spread struct{ Min, Median, P95, Max float64 }

func (s spread) String() string {
	return fmt.Sprintf("median %.1f ms, min %.1f, p95 %.1f, max %.1f", s.Median, s.Min, s.P95, s.Max)
}

// result is what bench reads of bootprof's JSON.
type result struct {
	TotalMS      spread  `json:"total_ms"`
	FloorMS      *spread `json:"floor_ms"`
	Instructions *struct{ Min, Median, Max uint64 }
	Memory       struct {
		TouchedBytes uint64 `json:"touched_bytes"`
	}
}

// image builds an example's image and returns its path.
func (b *bench) image(example string, raw bool) (string, error) {
	path := filepath.Join(b.dir, fmt.Sprintf("%s-%v.img", example, raw))
	args := []string{"--rofs", "--compress", "--quiet", "-o", path}
	if raw {
		args = append(args, "--raw", example)
	}
	_, err := run("bin/imgbuild", append(args, "out/examples/"+example)...)
	return path, err
}

// boot runs bootprof on an image until the app's exit.
func (b *bench) boot(image string, args ...string) (r result, err error) {
	args = append([]string{"qemu", image, "--until", "exit", "--json", "--quiet", "-o", filepath.Join(b.dir, "out")}, args...)
	out, err := run("bin/bootprof", args...)
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	return r, err
}

func run(name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, nil
}

func (b *bench) figures(boots int) error {
	version, err := run("qemu-system-x86_64", "--version")
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(version), "\n")
	fmt.Printf("%s; microvm, qboot, TCG; %d timed boots of each kind, interleaved with the floor; spawn to exit\n\n", line, b.runs)
	row := func(reach, format string, args ...any) { fmt.Printf("%-12s %s\n", reach, fmt.Sprintf(format, args...)) }

	images := map[string]string{}
	for _, kind := range []struct {
		name, example string
		raw           bool
		ratio, count  string
	}{
		{"hello-c", "hello-c", false, "≤ 3.0", "≤ 1.6 M"},
		{"hello-c, raw", "hello-c", true, "", "≤ 0.9 M"},
		{"hello-go", "hello-go", false, "≤ 6", ""},
	} {
		img, err := b.image(kind.example, kind.raw)
		if err != nil {
			return err
		}
		images[kind.name] = img
		r, err := b.boot(img, "-n", strconv.Itoa(b.runs), "--counting", "20", "--accel", "tcg")
		if err != nil {
			return err
		}
		if r.FloorMS == nil || r.Instructions == nil {
			return errors.New("bootprof measured no floor or no instructions")
		}
		row(kind.ratio, "%s ÷ floor: %.2f (%v; floor: %v)", kind.name, r.TotalMS.Median/r.FloorMS.Median, r.TotalMS, r.FloorMS)
		row(kind.count, "%s, instructions: median %d, min %d, max %d of 20 counting boots", kind.name, r.Instructions.Median, r.Instructions.Min, r.Instructions.Max)
		row("≤ 0.2 %", "%s, spread of instructions: %.4f %%", kind.name, 100*float64(r.Instructions.Max-r.Instructions.Min)/float64(r.Instructions.Median))
		row("", "%s, memory touched: %.2f MiB", kind.name, float64(r.Memory.TouchedBytes)/mib)
	}

	if err := b.withoutDisk(row); err != nil {
		return err
	}
	for _, m := range []struct{ name, reach string }{{"hello-c", "≤ 8 MiB"}, {"hello-go", "≤ 12 MiB"}} {
		least, err := b.leastMemory(images[m.name])
		if err != nil {
			return err
		}
		row(m.reach, "%s, least --memory: %d MiB", m.name, least)
	}
	for _, f := range []struct{ name, path, reach string }{
		{"kernel", "internal/kernelbuild/embed/kernel.elf", "≤ 2.5 MiB"}, {"hello-c image", images["hello-c"], "≤ 4 MiB"},
	} {
		st, err := os.Stat(f.path)
		if err != nil {
			return err
		}
		row(f.reach, "%s: %.2f MiB", f.name, float64(st.Size())/mib)
	}
	if err := b.overhead(images["hello-c"], row); err != nil {
		return err
	}
	for _, name := range []string{"hello-c", "hello-go"} {
		if _, err := b.boot(images[name], "-n", strconv.Itoa(boots), "--no-floor", "--counting", "0"); err != nil {
			return err
		}
		row("all", "%s: %d of %d boots in a row succeeded", name, boots, boots)
	}
	return nil
}

// withoutDisk says how far the counting boots of the last recording agree up to the first disk request, which the kernel makes
// after its mark main.
func (b *bench) withoutDisk(row func(reach, format string, args ...any)) error {
	rec, err := boottrace.Open(filepath.Join(b.dir, "out", "recording.fl"))
	if err != nil {
		return err
	}
	var counts []uint64
	for _, run := range rec.Runs {
		for _, m := range run.Marks {
			if run.Kind == boottrace.Counting && m.ID == abi.MarkMain {
				counts = append(counts, m.Instructions)
			}
		}
	}
	if len(counts) == 0 {
		return errors.New("no counting boot has the mark main")
	}
	same := 0
	for _, c := range counts {
		if c == counts[0] {
			same++
		}
	}
	row("20 of 20", "without disk I/O (power-on to the kernel's main), boots with the same count: %d of %d (%d)", same, len(counts), counts[0])
	return nil
}

// leastMemory returns the least RAM, in MiB, with which an image's app exits with 0.
func (b *bench) leastMemory(image string) (int, error) {
	for m := 16; ; m-- {
		if m == 0 {
			return 1, nil
		}
		_, err := b.boot(image, "--memory", strconv.Itoa(m)+"M", "--counting", "0", "--timeout", "20s")
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			if m == 16 {
				return 0, err
			}
			return m + 1, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// overhead times boots under bootprof and of the same command by hand, in turn.
func (b *bench) overhead(image string, row func(reach, format string, args ...any)) error {
	line, err := run("bin/bootprof", "qemu", image, "--dry-run")
	if err != nil {
		return err
	}
	var ours, byHand []float64
	for range b.runs {
		r, err := b.boot(image, "-n", "1", "--counting", "0")
		if err != nil {
			return err
		}
		ours = append(ours, r.TotalMS.Median)
		// exec: the shell's own start is no part of the boot, and its end is not waited for.
		cmd := exec.Command("sh", "-c", "exec "+strings.TrimSpace(string(line)))
		start := time.Now()
		out, err := cmd.CombinedOutput()
		byHand = append(byHand, float64(time.Since(start).Microseconds())/1000)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !bytes.Contains(out, []byte("Hello")) {
			return fmt.Errorf("by hand: %v\n%s", err, out)
		}
	}
	slices.Sort(ours)
	slices.Sort(byHand)
	m, h := ours[len(ours)/2], byHand[len(byHand)/2]
	row("≤ 1.05", "boot under bootprof ÷ the same by hand: %.3f (medians %.1f and %.1f ms, of %d)", m/h, m, h, b.runs)
	return nil
}
