package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/firstlight-boot/firstlight/internal/fsbench"
	"github.com/firstlight-boot/firstlight/rofs"
	"github.com/firstlight-boot/firstlight/tree"
)

// built is what one builder of images did, run after run.
type built struct {
	seconds []float64
	bytes   int64
	peak    int64 // bytes of memory, the most of all runs
}

func (x *built) String() string {
	s := slices.Sorted(slices.Values(x.seconds))
	return fmt.Sprintf("%6.2f s (%.2f to %.2f), %6.2f MB, peak %3d MiB", s[len(s)/2], s[0], s[len(s)-1], float64(x.bytes)/1e6, x.peak/mib)
}

func (x *built) median() float64 {
	s := slices.Sorted(slices.Values(x.seconds))
	return s[len(s)/2]
}

// build runs a command that writes the image out.
func (x *built) build(out string, args []string) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	cmd := exec.Command(args[0], args[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	x.seconds = append(x.seconds, time.Since(start).Seconds())
	x.peak = max(x.peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10)
	st, err := os.Stat(out)
	if err == nil {
		x.bytes = st.Size()
	}
	return err
}

// fileSystems prints the figures of the file systems: images of the Go toolchain's own folder, made in turns with other tools.
func (b *bench) fileSystems() error {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	root := strings.TrimSpace(string(out))
	image := filepath.Join(b.dir, "fs.img")
	ours := func(args ...string) []string {
		return append(append([]string{"bin/imgbuild", "--rofs", "--no-kernel", "-q", "-o", image}, args...), root)
	}
	squash := func(args ...string) []string {
		return append([]string{"mksquashfs", root, image, "-noappend", "-quiet", "-no-progress", "-processors", "2"}, args...)
	}
	erofs := []string{"mkfs.erofs", "-zlz4hc", "-C65536", image, root}
	fmt.Printf("Images of %s on %d cores, median (least to most) of runs in turns\n\n", root, runtime.GOMAXPROCS(0))
	for _, row := range []struct {
		name         string
		runs         int
		ours, theirs []string
		time, size   float64 // reach
		memory       int64
	}{
		{"lz4", b.runs, ours("--compress=lz4", "--cluster-size", "128K"), squash("-comp", "lz4"), 0.9, 0.98, 64},
		{"default", b.runs, ours("--compress"), squash("-comp", "lz4"), 0, 0, 64},
		{"lz4hc 64K", min(b.runs, 3), ours("--compress=lz4hc", "--cluster-size", "64K"), erofs, 0.35, 0.85, 64},
		{"lz4hc 128K", min(b.runs, 3), ours("--compress=lz4hc", "--cluster-size", "128K"), squash("-comp", "lz4", "-Xhc"), 0.35, 1.04, 64},
		{"zstd fast 128K", b.runs, ours("--compress=zstd", "--cluster-size", "128K"), nil, 0, 0, 150},
		{"zstd 128K", min(b.runs, 3), ours("--compress=zstd:19", "--cluster-size", "128K"), squash("-comp", "zstd"), 1, 1.08, 150},
		{"zstd 1M", 1, ours("--compress=zstd:6", "--cluster-size", "1M"), squash("-comp", "zstd"), 1, 1, 150},
	} {
		if len(row.theirs) > 0 {
			if _, err := exec.LookPath(row.theirs[0]); err != nil {
				fmt.Printf("%s: %s is not installed: apt-get install squashfs-tools erofs-utils\n", row.name, row.theirs[0])
				row.theirs = nil
			}
		}
		var x, y built
		for i := range row.runs {
			doing("%s: run %d of %d", row.name, i+1, row.runs)
			if err := x.build(image, row.ours); err != nil {
				return err
			}
			if row.theirs != nil {
				if err := y.build(image, row.theirs); err != nil {
					return err
				}
			}
		}
		fmt.Printf("%-15s rofs       %v\n", row.name, &x)
		if row.theirs != nil {
			fmt.Printf("%-15s %-10s %v\n", "", row.theirs[0], &y)
			fmt.Printf("%-15s ratios     time %s, size %s\n", "", against(x.median()/y.median(), row.time), against(float64(x.bytes)/float64(y.bytes), row.size))
		}
		fmt.Printf("%-15s memory     %s\n", "", against(float64(x.peak)/mib, float64(row.memory)))
	}
	doing("a million files")
	if err := b.million(); err != nil {
		return err
	}
	doing("ramfs")
	if err := b.ramfs(); err != nil {
		return err
	}
	for _, o := range []rofs.Options{{ClusterSize: 64 << 10}, {ClusterSize: 128 << 10}} {
		doing("reads %dK", o.ClusterSize>>10)
		if err := b.reads(root, o); err != nil {
			return err
		}
	}
	return nil
}

// doing says on standard error what is measured now, with the time: all of it takes ten minutes.
func doing(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// against is a figure beside the most that it should be.
func against(got, most float64) string {
	s := strconv.FormatFloat(got, 'f', 3, 64)
	if most == 0 {
		return s
	}
	word := "reached"
	if got > most {
		word = "NOT reached"
	}
	return fmt.Sprintf("%s (at most %v: %s)", s, most, word)
}

// million prints the memory that it takes to make an image of a million empty files.
func (b *bench) million() error {
	root := filepath.Join(b.dir, "million")
	for i := range 1000 {
		dir := filepath.Join(root, fmt.Sprintf("%03d", i))
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
		for k := range 1000 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("empty-file-%03d", k)), nil, 0o666); err != nil {
				return err
			}
		}
	}
	var x built
	image := filepath.Join(b.dir, "million.img")
	if err := x.build(image, []string{"bin/imgbuild", "--rofs", "--compress", "--no-kernel", "-q", "-o", image, root}); err != nil {
		return err
	}
	fmt.Printf("%-15s rofs       %v\n%-15s memory     %s\n", "million files", &x, "", against(float64(x.peak)/mib, 500))
	return os.RemoveAll(root)
}

// atLeast is a figure beside the least that it should be.
func atLeast(got, least float64) string {
	word := "reached"
	if got < least {
		word = "NOT reached"
	}
	return fmt.Sprintf("%.2f (at least %v: %s)", got, least, word)
}

// reads prints how fast the image of a folder is read through fs.FS, on one core, beside its decoder alone.
func (b *bench) reads(root string, o rofs.Options) error {
	t, err := tree.FromDir(context.Background(), root, tree.Options{})
	if err != nil {
		return err
	}
	name := filepath.Join(b.dir, "reads.img")
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = rofs.Write(context.Background(), f, t, o)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	x, err := fsbench.ReadPath(name, b.runs)
	if err != nil {
		return err
	}
	row := func(name, what string, args ...any) { fmt.Printf("%-15s %s\n", name, fmt.Sprintf(what, args...)) }
	row(fmt.Sprintf("reads %dK", o.ClusterSize>>10), "whole tree in order, 32 KiB a read: %.0f MB/s of processor time, to the decoder's %.0f on the same clusters: %s", x.Parts/1e6, x.Codec/1e6, atLeast(x.PartsRatio, 0.5))
	row("", "the same by fs.ReadFile: %.0f MB/s: %.2f; the system's work for the memory of the results included", x.Files/1e6, x.FilesRatio)
	row("", "4 KiB anywhere, cluster not in memory: %.1f µs, to %.1f for decoding all of one: %s", x.Cold/1e3, x.Decode/1e3, against(x.ColdRatio, 1.2))
	row("", "4 KiB anywhere, cluster in memory: %.2f µs: %s", x.Warm/1e3, against(x.WarmRatio, 0.02))
	return nil
}
