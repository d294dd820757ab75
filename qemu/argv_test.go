package qemu

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/qemu/plugin"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// TestArgs compares the argv of each kind of machine with testdata/argv.golden: one argument a line.
func TestArgs(t *testing.T) {
	wired := wires{console: 1, ram: 3, marks: 4}
	var got strings.Builder
	for _, x := range []struct {
		name string
		c    Config
		w    wires
	}{
		{"native on microvm", Config{Kernel: "app.img", Disks: []string{"app.img"}}, wired},
		{"native on microvm, SeaBIOS, dry run", Config{Firmware: SeaBIOS, Kernel: "app.img", Disks: []string{"app.img"}}, wires{}},
		{"Linux on microvm", Config{Legacy: true, Kernel: "vmlinuz", Initrd: "initrd,2", Append: "console=ttyS0 a=1,2", MemoryBytes: 256 << 20}, wired},
		{"q35, two disks with commas", Config{Machine: Q35, Kernel: "k", Disks: []string{"a,b.img", ",,"}}, wired},
		{"pc, qboot, KVM, anonymous RAM", Config{Machine: PC, Firmware: QBoot, Accel: KVM, Kernel: "k", AnonymousRAM: true}, wires{console: 1, marks: 3}},
		{"counting, kernel in memory, monitor", Config{KernelImage: []byte{0}, Monitor: true, Counting: &Counting{}},
			wires{console: 1, ram: 3, marks: 4, monitor: 5, kernel: 6, plugin: "file=counter.so,out=7,point=0x100000:0xffffffffffffffff::"}},
		{"a balloon", Config{Kernel: "k", Disks: []string{"d"}, Monitor: true, Balloon: true}, wires{console: 1, ram: 3, marks: 4, monitor: 5}},
		{"a CPU of the user's", Config{CPU: "Nehalem,-sse4.2", Kernel: "k", MemoryBytes: 1 << 20}, wired},
	} {
		got.WriteString("# " + x.name + "\n" + strings.Join(x.c.args(x.w), "\n") + "\n\n")
	}
	golden := filepath.Join("testdata", "argv.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("argv (-golden +now):\n%s", diff)
	}
}

func TestCheck(t *testing.T) {
	good := Config{Kernel: "k"}
	if err := good.Check(); err != nil {
		t.Errorf("%+v: %v", good, err)
	}
	for want, c := range map[string]Config{
		"no kernel":        {},
		"two kernels":      {Kernel: "k", KernelImage: []byte{}},
		"machine \"vax\"":  {Kernel: "k", Machine: "vax"},
		"firmware \"ofw\"": {Kernel: "k", Firmware: "ofw"},
		"choose one":       {Kernel: "k", Accel: Auto},
		"\"hvf\"":          {Kernel: "k", Accel: "hvf"},
		"whole MiB":        {Kernel: "k", MemoryBytes: 8<<20 + 1},
		"1 MiB to 1 TiB":   {Kernel: "k", MemoryBytes: -1 << 20},
		"of 2199023255552": {Kernel: "k", MemoryBytes: 2 << 40},
		"only TCG":         {Kernel: "k", Accel: KVM, Counting: &Counting{}},
		"NUL byte":         {Kernel: "k", Append: "a\x00b"},
		"257 points":       {Kernel: "k", Points: make([]plugin.Point, 257)},
		"only TCG logs":    {Kernel: "k", Accel: KVM, Points: make([]plugin.Point, 1)},
		"without calling":  {Kernel: "k", Counting: &Counting{Memory: true}},
		"needs a monitor":  {Kernel: "k", Paused: true},
	} {
		if err := c.Check(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
