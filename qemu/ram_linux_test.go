package qemu

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// TestRAM compares where RAM lies with what QEMU says of its own address space.
func TestRAM(t *testing.T) {
	q := find(t)
	ram := regexp.MustCompile(`([0-9a-f]{16})-([0-9a-f]{16}) \(prio 0, ram\): ram(?: @([0-9a-f]{16}))?\s`)
	for _, machine := range []Machine{MicroVM, Q35, PC} {
		for _, mib := range []int64{64, 2815, 2816, 3072, 3583, 3584, 5000} {
			t.Run(fmt.Sprintf("%s %d MiB", machine, mib), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				c := Config{Machine: machine, MemoryBytes: mib << 20, KernelImage: FloorKernel(), Monitor: true, Paused: true}
				vm, err := q.Start(ctx, c, Events{})
				if err != nil {
					t.Fatal(err)
				}
				defer vm.Close()
				monitor, err := vm.Monitor(ctx)
				if err != nil {
					t.Fatal(err)
				}
				var text string
				if err := monitor.Execute(ctx, "human-monitor-command", map[string]string{"command-line": "info mtree -f"}, &text); err != nil {
					t.Fatal(err)
				}
				low, all := c.lowRAM(), c.MemoryBytes
				var last int64
				for _, m := range ram.FindAllStringSubmatch(text, -1) {
					hex := func(s string) int64 {
						n, _ := strconv.ParseInt("0"+s, 16, 64)
						return n
					}
					start, end, off := hex(m[1]), hex(m[2]), hex(m[3])
					for d, addr := range []int64{start, end} {
						want := off + int64(d)*(end-start)
						got, room := inFile(low, all, addr)
						if got != want || room == 0 {
							t.Errorf("%#x is at %#x with %d bytes behind it, QEMU says %#x", addr, got, room, want)
						}
						physical(low, want, 1, func(back, n int64) {
							if back != addr || n != 1 {
								t.Errorf("%#x in the file is at %#x, QEMU says %#x", want, back, addr)
							}
						})
					}
					last = max(last, off+end-start+1)
				}
				if last != all {
					t.Errorf("QEMU has %d bytes of RAM, want %d:\n%s", last, all, text)
				}
			})
		}
	}
}

func TestPhysical(t *testing.T) {
	got := ""
	physical(100, 90, 30, func(addr, size int64) { got += fmt.Sprint(addr, size, " ") })
	if want := fmt.Sprint(90, 10, " ", int64(highRAM), 20, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for addr, want := range map[int64]int64{-1: 0, 99: 1, 100: 0, highRAM - 1: 0, highRAM: 50, highRAM + 49: 1, highRAM + 50: 0} {
		if _, n := inFile(100, 150, addr); n != want {
			t.Errorf("at %d are %d bytes, want %d", addr, n, want)
		}
	}
}
