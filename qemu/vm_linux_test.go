package qemu

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
)

// find returns the host's QEMU with a cache directory of the test's own.
func find(t testing.TB) *QEMU {
	t.Helper()
	q, err := Find(t.Context(), "")
	if errors.Is(err, ErrNotFound) {
		needs.Missing(t, "qemu-system-x86_64 is not installed: apt-get install qemu-system-x86")
	}
	if err != nil {
		t.Fatal(err)
	}
	q.CacheDir = t.TempDir()
	return q
}

// limited is t's context, until nothing but a machine that hangs takes longer, however busy the host is.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// run boots c to its end with the console and the marks that came.
func run(t testing.TB, q *QEMU, c Config) (r *Result, console, marks string) {
	t.Helper()
	var out, mk strings.Builder
	vm, err := q.Start(limited(t), c, Events{
		Console: func(_ time.Duration, p []byte) { out.Write(p) },
		Mark:    func(_ time.Duration, p []byte) { mk.Write(p) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	r, err = vm.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return r, out.String(), mk.String()
}

func TestMachines(t *testing.T) {
	q := find(t)
	kernel := guest(say(0x3f0, "\x01\x02\x03"), say(0x3f8, "hello\n"), exitWith(7))
	for _, c := range []Config{
		{Machine: MicroVM, Firmware: QBoot},
		{Machine: MicroVM, Firmware: SeaBIOS},
		{Machine: MicroVM, Firmware: QBoot, Legacy: true},
		{Machine: MicroVM, Firmware: SeaBIOS, Legacy: true},
		{Machine: Q35, Firmware: QBoot},
		{Machine: Q35, Firmware: SeaBIOS},
		{Machine: PC, Firmware: QBoot},
		{Machine: PC, Firmware: SeaBIOS},
	} {
		name := string(c.Machine) + "-" + string(c.Firmware)
		if c.Legacy {
			name += "-legacy"
		}
		t.Run(name, func(t *testing.T) {
			c.KernelImage = kernel
			r, console, marks := run(t, q, c)
			if v, ok := r.GuestExit(); v != 7 || !ok {
				t.Errorf("exit %d %v, status %d", v, ok, r.Status)
			}
			if console != "hello\n" || marks != "\x01\x02\x03" {
				t.Errorf("console %q, marks %q", console, marks)
			}
			if r.Stderr != "" {
				t.Errorf("QEMU said %q", r.Stderr)
			}
		})
	}
}

func TestCounting(t *testing.T) {
	q := find(t)
	var first *Result
	for i := range 20 {
		r, _, _ := run(t, q, Config{KernelImage: FloorKernel(), Counting: &Counting{}, Points: []plugin.Point{{Addr: guestEntry + 9}, {Addr: guestEntry}}})
		if v, ok := r.GuestExit(); v != FloorExit || !ok {
			t.Fatalf("exit %d %v", v, ok)
		}
		if i == 0 {
			first = r
			t.Logf("%+v", *r.Counts)
		}
		c, f := r.Counts, first.Counts
		if c.Total != f.Total || c.Blocks != f.Blocks || len(c.Marks) != 2 {
			t.Fatalf("run %d: %+v, the first was %+v", i, *c, *f)
		}
		if c.Marks[0].Addr != guestEntry || c.Marks[0].Point != 1 || c.Marks[0].Nanos <= 0 || c.Marks[1].Nanos > int64(r.Wall) || c.Marks[1].Instructions != c.Marks[0].Instructions+2 || c.Total != c.Marks[1].Instructions+1 {
			t.Fatalf("run %d: marks %+v of %d", i, c.Marks, c.Total)
		}
	}
}

// TestExact compares the count with what is known of a loop.
func TestExact(t *testing.T) {
	q := find(t)
	total := func(turns byte) uint64 {
		r, _, _ := run(t, q, Config{KernelImage: guest([]byte{
			0xb9, 0, turns, 0, 0, // mov ecx, turns·256
			0x90,       // l: nop
			0xe2, 0xfd, // loop l
		}, exitWith(1)), Counting: &Counting{}})
		return r.Counts.Total
	}
	if few, many := total(1), total(101); many-few != 100*256*2 {
		t.Errorf("25,600 turns of two instructions are %d", many-few)
	}
}
