package main

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
)

// linuxKernel is where scripts/linux-kernel puts Debian's kernel.
const linuxKernel = "out/linux/vmlinuz"

// initSource is an init that prints a line and ends the VM through the exit port.
const initSource = `#include <stdio.h>
#include <sys/io.h>
#include <unistd.h>
int main(void) { puts("hello from init"); fflush(stdout); iopl(3); outl(0, 0x501); for (;;) pause(); }
`

// guestOf is what profiles are taken of.
type guestOf struct {
	name string
	args []string // of bootprof qemu
	runs int      // of each kind
}

// profiles prints the figures of profiling: make bench-prof.
func (b *bench) profiles() error {
	version, err := run("qemu-system-x86_64", "--version")
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(version), "\n")
	fmt.Printf("%s; microvm, qboot, TCG, counting boots (icount); kinds of boots interleaved\n\n", line)
	row := func(reach, format string, args ...any) { fmt.Printf("%-12s %s\n", reach, fmt.Sprintf(format, args...)) }

	image, err := b.image("hello-c", false)
	if err != nil {
		return err
	}
	initrd, err := b.initrd()
	if err != nil {
		return err
	}
	ours := guestOf{"hello-c", []string{image}, 10}
	linux := guestOf{"Linux", []string{"--kernel", linuxKernel, "--initrd", initrd, "--append", "console=ttyS0 quiet", "--memory", "256M"}, 3}
	for _, g := range []guestOf{ours, linux} {
		if err := b.exact(g, row); err != nil {
			return err
		}
	}
	if err := b.counts(ours, row); err != nil {
		return err
	}
	if err := b.marks(image, row); err != nil {
		return err
	}
	return b.reports(row)
}

// initrd builds an initial RAM disk with initSource as its init.
func (b *bench) initrd() (string, error) {
	source, program, path := filepath.Join(b.dir, "init.c"), filepath.Join(b.dir, "init"), filepath.Join(b.dir, "initrd")
	if err := os.WriteFile(source, []byte(initSource), 0o666); err != nil {
		return "", err
	}
	if _, err := run("cc", "-static", "-O2", "-o", program, source); err != nil {
		return "", err
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	w := cpio.Newc.Writer(f)
	err = cpio.WriteRecords(w, []cpio.Record{cpio.StaticFile("init", string(content), 0o755)})
	if err == nil {
		err = cpio.WriteTrailer(w)
	}
	return path, errors.Join(err, f.Close())
}

// record runs bootprof on a guest and returns the recording, which stays in the folder out.
func (b *bench) record(g guestOf, out string, args ...string) (*boottrace.Recording, error) {
	dir := filepath.Join(b.dir, out)
	args = slices.Concat([]string{"qemu"}, g.args, []string{"--until", "exit", "--accel", "tcg", "--json", "--quiet", "--timeout", "5m", "-o", dir}, args)
	if _, err := run("bin/bootprof", args...); err != nil {
		return nil, err
	}
	return boottrace.Open(filepath.Join(dir, "recording.fl"))
}

// exact compares counting boots without a profile, with an exact one, and with memory.
func (b *bench) exact(g guestOf, row func(reach, format string, args ...any)) error {
	walls := map[string][]float64{}
	var plain, exact, named, spent uint64
	kinds := []struct{ name, reach string }{{"", ""}, {"exact", "≤ 1.6"}, {"exact,memory", "≤ 3"}}
	for i := range g.runs {
		for _, kind := range kinds {
			args := []string{"-n", "0"}
			if kind.name != "" {
				args = append(args, "--profile", kind.name)
			}
			rec, err := b.record(g, g.name+"-"+kind.name, args...)
			if err != nil {
				return err
			}
			run := rec.Of(boottrace.Counting)[0]
			walls[kind.name] = append(walls[kind.name], float64(run.ExitNanos)/1e6)
			switch {
			case i > 0:
			case kind.name == "":
				plain = run.Instructions
			case kind.name == "exact":
				exact = rec.Exact.Instructions()
				named, spent = share(rec.Exact)
			}
		}
	}
	base := median(walls[""])
	for _, kind := range kinds[1:] {
		w := walls[kind.name]
		row(kind.reach, "%s, --profile=%s: wall ÷ plain counting boot %.2f (medians %.0f and %.0f ms, min %.0f, max %.0f, of %d)", g.name, kind.name, median(w)/base, median(w), base, slices.Min(w), slices.Max(w), len(w))
	}
	row("1.000", "%s, instructions of the profile ÷ plain count: %.6f (%d and %d)", g.name, float64(exact)/float64(plain), exact, plain)
	row(map[bool]string{true: "≥ 98 %", false: "≥ 99 %"}[g.name == "Linux"], "%s, instructions in functions with a name: %.2f %%", g.name, 100*float64(named)/float64(spent))
	return nil
}

// share returns how many of a profile's instructions are in functions with a name.
func share(p *boottrace.Profile) (named, all uint64) {
	for _, s := range p.Samples {
		all += s.Instructions
		if s.Stack != 0 && len(p.Locations[p.Stacks[s.Stack].Location].Lines) > 0 {
			named += s.Instructions
		}
	}
	return named, all
}

// counts says how far 20 counting boots agree.
func (b *bench) counts(g guestOf, row func(reach, format string, args ...any)) error {
	rec, err := b.record(g, "counts", "-n", "0", "--counting", "20")
	if err != nil {
		return err
	}
	var all []uint64
	for _, r := range rec.Of(boottrace.Counting) {
		all = append(all, r.Instructions)
	}
	slices.Sort(all)
	row("≤ 0.1 %", "%s, spread of 20 counting boots, disk included: %.4f %% (%d to %d)", g.name, 100*float64(all[19]-all[0])/float64(all[10]), all[0], all[19])
	return nil
}

// reports times report and diff of a Linux recording, and reads their memory.
func (b *bench) reports(row func(reach, format string, args ...any)) error {
	rec := filepath.Join(b.dir, "Linux-exact")
	for _, args := range [][]string{
		{"report", rec}, {"report", rec, "--format", "pprof", "-o", filepath.Join(b.dir, "p")}, {"report", rec, "--format", "perfetto", "-o", filepath.Join(b.dir, "p")},
		{"report", rec, "--format", "html", "-o", filepath.Join(b.dir, "p")}, {"diff", rec, filepath.Join(b.dir, "Linux-exact,memory")},
	} {
		cmd := exec.Command("bin/bootprof", args...)
		start := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("bootprof %s: %w\n%s", args[0], err, out)
		}
		wall := time.Since(start)
		peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss / 1024
		name := args[0]
		if len(args) > 3 {
			name += " --format " + args[3]
		}
		row("≤ 2 s, 500", "%s of a Linux recording: %.2f s, %d MB", name, wall.Seconds(), peak)
	}
	return nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// kernelNote returns what the kernel says of itself: where its boot record is, in physical memory, and the address of the instruction
// that writes marks (docs/guest-abi.md, note 2).
func kernelNote(path string) (record int64, mark uint64, err error) {
	e, err := elf.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer e.Close()
	for _, p := range e.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		b, err := io.ReadAll(p.Open())
		if err != nil {
			return 0, 0, err
		}
		le := binary.LittleEndian
		for len(b) >= 12 {
			name, desc := int(le.Uint32(b)), int(le.Uint32(b[4:]))
			at := 12 + (name+3)&^3
			if string(b[12:12+name]) == abi.NoteName+"\x00" && le.Uint32(b[8:]) == abi.NoteRecord && desc == 24 {
				return int64(le.Uint64(b[at:])), le.Uint64(b[at+16:]), nil
			}
			b = b[min(len(b), at+(desc+3)&^3):]
		}
	}
	return 0, 0, fmt.Errorf("%s has no note on its boot record", path)
}

// marks compares the phase boundaries of timed boots, as bootprof works them out of the marks, with the times at which the plugin saw
// the marks written.
func (b *bench) marks(image string, row func(reach, format string, args ...any)) error {
	ctx := context.Background()
	record, mark, err := kernelNote(image)
	if err != nil {
		return err
	}
	q, err := qemu.Find(ctx, "")
	if err != nil {
		return err
	}
	var off []float64
	for range b.runs {
		var stream boottrace.MarkStream
		vm, err := q.Start(ctx, qemu.Config{Kernel: image, Disks: []string{image}, Points: []plugin.Point{{Addr: mark}}}, qemu.Events{
			Mark: func(at time.Duration, p []byte) { stream.Write(at.Nanoseconds(), p) },
		})
		if err != nil {
			return err
		}
		result, err := vm.Wait()
		page := make([]byte, abi.RecordSize)
		if err == nil {
			_, err = vm.ReadAt(page, record)
		}
		vm.Close()
		if err != nil {
			return err
		}
		r, err := boottrace.ParseRecord(page)
		if err != nil {
			return err
		}
		run := boottrace.Run{Kind: boottrace.Timed, Until: boottrace.UntilExit, Marks: stream.Marks}
		run.SetRecord(r)
		run.SetReady(result.Wall.Nanoseconds())
		rec := boottrace.Recording{Runs: []boottrace.Run{run}}
		at := 0.0
		for _, p := range rec.Phases() {
			at += p.Nanos
			for i, m := range stream.Marks {
				if p.Name == "firmware" && m.ID == abi.MarkEntry || p.Name == "kernel" && m.ID == abi.MarkApp {
					off = append(off, math.Abs(at-float64(result.Counts.Marks[stream.First[i]].Nanos))/1e6)
				}
			}
		}
	}
	if len(off) == 0 {
		return errors.New("no phase ends at a mark")
	}
	slices.Sort(off)
	row("≤ 0.2 ms", "phase boundaries against the plugin's clock: median %.3f ms off, p95 %.3f, max %.3f (%d boundaries)", off[len(off)/2], off[len(off)*95/100], off[len(off)-1], len(off))
	return nil
}
