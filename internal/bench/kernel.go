package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/qemu"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
	"github.com/firstlight-boot/firstlight/symbols"
)

// filePages is the size of /data in the image of micro-programs: FILE_PAGES in kernel/testprog/bench/bench.c.
const filePages = 1536

// kernel prints what the kernel's single operations cost: make bench-kernel. All of it is counted, so it is exact. As a gate it is an
// error when one costs more than it may, and the examples are left out.
func (b *bench) kernel(gate bool) error {
	version, err := run("qemu-system-x86_64", "--version")
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(version), "\n")
	fmt.Printf("%s; microvm, qboot, TCG, counting boots (icount): guest instructions per operation\n\n", line)
	row := func(reach, format string, args ...any) { fmt.Printf("%-12s %s\n", reach, fmt.Sprintf(format, args...)) }

	image, err := b.microImage()
	if err != nil {
		return err
	}
	costs, err := b.micro(image)
	if err != nil {
		return err
	}
	var over []string
	limit := func(most, got float64, name string) {
		row(fmt.Sprintf("≤ %.0f", most), "%s: %.1f", name, got)
		if got > most {
			over = append(over, name)
		}
	}
	for _, op := range []struct {
		mark string
		most float64
		name string
	}{
		{"null", 400, "null system call from ring 3 and back"},
		{"read", 2500, "read(2) of 4 KiB from the page cache"},
		{"filefault", 2500, "page fault on a cached file page, which maps 16 pages"},
		{"freshfault", 1500, "page fault on fresh memory"},
		{"usedfault", 1500, "page fault on fresh memory, of a frame that was used before"},
		{"futex", 6000, "futex round trip between two threads"},
		{"areas", 12000, "mmap and munmap of a page below 65,000 areas"},
		{"middle", 16000, "mprotect of a page among 65,000 areas, and back"},
	} {
		c, ok := costs[op.mark]
		if !ok {
			return fmt.Errorf("the program wrote no marks %s", op.mark)
		}
		limit(op.most, c-costs["empty"], op.name)
	}
	ticks, err := b.idleInterrupts(image)
	if err != nil {
		return err
	}
	limit(5, float64(ticks), "timer interrupts during an idle second")
	if gate {
		if over != nil {
			return fmt.Errorf("more than it may be: %s", strings.Join(over, "; "))
		}
		return nil
	}

	for _, e := range []struct {
		name, touched, least string
	}{{"hello-c", "≤ 5 MiB", "≤ 6 MiB"}, {"hello-go", "", "≤ 10 MiB"}} {
		image, err := b.image(e.name, false)
		if err != nil {
			return err
		}
		r, err := b.boot(image, "-n", "1", "--no-floor")
		if err != nil {
			return err
		}
		row(e.touched, "%s, memory touched: %.2f MiB", e.name, float64(r.Memory.TouchedBytes)/mib)
		least, err := b.leastMemory(image)
		if err != nil {
			return err
		}
		row(e.least, "%s, least --memory: %d MiB", e.name, least)
	}
	return nil
}

// microImage builds the image of kernel/testprog/bench.
func (b *bench) microImage() (string, error) {
	dir := filepath.Join(b.dir, "micro")
	if err := os.Mkdir(dir, 0o777); err != nil {
		return "", err
	}
	data := make([]byte, filePages*4096)
	for i := range data {
		data[i] = byte(i * (i >> 12))
	}
	if err := os.WriteFile(filepath.Join(dir, "data"), data, 0o666); err != nil {
		return "", err
	}
	if _, err := run("cc", "-static", "-O2", "-pthread", "-o", filepath.Join(dir, "bench"), "kernel/testprog/bench/bench.c"); err != nil {
		return "", err
	}
	image := dir + ".img"
	_, err := run("bin/imgbuild", "--rofs", "--compress", "--quiet", "--cmd", "/bench", "-o", image, dir)
	return image, err
}

// micro returns the instructions of one operation of each loop of the program.
func (b *bench) micro(image string) (map[string]float64, error) {
	// How often each loop runs between its marks 0 and 1; between 1 and 2 it is twice as often.
	loops := map[string]float64{"empty": 4000, "null": 4000, "read": 500, "filefault": 150, "freshfault": 1000, "usedfault": 1000, "futex": 1000, "areas": 100, "middle": 100}
	rec, err := b.record(guestOf{name: "micro", args: []string{image}}, "micro-out", "-n", "0", "--counting", "1")
	if err != nil {
		return nil, err
	}
	at := map[string]uint64{}
	for _, run := range rec.Of(boottrace.Counting) {
		for _, m := range run.Marks {
			at[m.Name] = m.Instructions
		}
	}
	costs := map[string]float64{}
	for name, n := range loops {
		first, second, third := at[name+".0"], at[name+".1"], at[name+".2"]
		if first == 0 || second <= first || third <= second {
			return nil, fmt.Errorf("%s: no three marks in order", name)
		}
		costs[name] = (float64(third-second) - float64(second-first)) / n
	}
	return costs, nil
}

// idleInterrupts returns how many interrupts of the timer a second of sleep has, more than a boot without.
func (b *bench) idleInterrupts(image string) (int, error) {
	o, err := symbols.Open("internal/kernelbuild/embed/kernel.elf", symbols.Options{})
	if err != nil {
		return 0, err
	}
	defer o.Close()
	const serves = "github.com/firstlight-boot/firstlight/kernel/ring0.kernelTimer"
	addr, _, ok := o.Find(serves)
	if !ok {
		return 0, fmt.Errorf("the kernel has no function %s", serves)
	}
	ctx := context.Background()
	q, err := qemu.Find(ctx, "")
	if err != nil {
		return 0, err
	}
	count := func(ms int) (int, error) {
		vm, err := q.Start(ctx, qemu.Config{
			Accel: "tcg", Kernel: image, Disks: []string{image}, Counting: &qemu.Counting{}, Points: []plugin.Point{{Addr: addr}},
			Append: "arg=" + strconv.Itoa(ms),
		}, qemu.Events{})
		if err != nil {
			return 0, err
		}
		defer vm.Close()
		result, err := vm.Wait()
		if err != nil {
			return 0, err
		}
		if v, ok := result.GuestExit(); !ok || v != 0 || result.Counts == nil {
			return 0, errors.New("the program that sleeps did not end well")
		}
		n := 0
		for _, m := range result.Counts.Marks {
			if m.Addr == addr {
				n++
			}
		}
		return n, nil
	}
	without, err := count(0)
	if err != nil {
		return 0, err
	}
	with, err := count(1000)
	return with - without, err
}
