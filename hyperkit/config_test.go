package hyperkit

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/internal/needs"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var goldens = []struct {
	name string
	c    Config
}{
	{"smallest", Config{Kernel: "app.bzImage"}},
	{"image", Config{Kernel: "/tmp/app.bzImage", Disks: []string{"app.img"}, MemoryBytes: 16 << 20, CommandLine: "arg=a\\ b arg=c,d"}},
	{"linux", Config{Kernel: "vmlinuz", Initrd: "initrd.img", CommandLine: "console=ttyS0 earlyprintk=serial panic=-1", MemoryBytes: 4 << 30, Disks: []string{"a disk.img", "b's.img"}}},
}

func TestArgsGolden(t *testing.T) {
	var b strings.Builder
	for _, tt := range goldens {
		args, err := tt.c.Args()
		if err != nil {
			t.Fatal(err)
		}
		line, err := CommandLine("/usr/local/bin/hyperkit", tt.c)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "# %s\n# %s\n%s\n\n", tt.name, line, strings.Join(args, "\n"))
	}
	const golden = "testdata/argv.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("argv (-want +got):\n%s", diff)
	}
}

// parse reads an argv as hyperkit does: hyperkit.c (getopt string, firmware_parse, parse_memsize), pci_emul.c
// (pci_parse_slot), block_if.c (blockif_open), pci_lpc.c (lpc_device_parse).
func parse(t *testing.T, args []string) (c Config) {
	t.Helper()
	const options = "behvuwxMACHPWY:f:F:g:c:s:m:l:U:"
	occupied := map[string]bool{}
	lpc, com1, firmware := false, "", 0
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		at := strings.IndexByte(options, word[1])
		if word[0] != '-' || len(word) != 2 || at < 0 {
			t.Fatalf("getopt stops at %q", word)
		}
		value := ""
		if strings.HasPrefix(options[at+1:], ":") {
			value, args = args[0], args[1:]
		}
		part := strings.SplitN(value, ",", 3)
		switch word[1] {
		case 'm':
			var n int64
			var unit string
			if got, _ := fmt.Sscanf(value, "%d%s", &n, &unit); got != 2 || unit != "M" {
				t.Fatalf("-m %q", value)
			}
			c.MemoryBytes = n << 20
		case 's':
			var slot, function int
			if n, _ := fmt.Sscanf(part[0], "%d:%d", &slot, &function); n < 1 || slot > 31 || function > 7 || occupied[part[0]] {
				t.Fatalf("-s %q", value)
			}
			occupied[part[0]] = true
			switch part[1] {
			case "hostbridge":
			case "lpc":
				lpc = true
			case "virtio-blk":
				conf := strings.Split(part[2], ",")
				if !slices.Equal(conf[1:], []string{"ro"}) {
					t.Fatalf("Invalid device option in %q", value)
				}
				c.Disks = append(c.Disks, conf[0])
			default:
				t.Fatalf("unknown device %q", part[1])
			}
		case 'l':
			com1 = value
		case 'f':
			firmware++
			part = strings.SplitN(value, ",", 4)
			if part[0] != "kexec" || len(part) != 4 {
				t.Fatalf("-f %q", value)
			}
			c.Kernel, c.Initrd, c.CommandLine = part[1], part[2], part[3]
			if c.CommandLine == "" {
				c.CommandLine = "auto"
			}
		}
	}
	if firmware != 1 || !lpc || com1 != "com1,stdio" {
		t.Fatalf("%d -f, LPC bridge %v, serial port %q", firmware, lpc, com1)
	}
	return c
}

func TestArgsParse(t *testing.T) {
	for _, tt := range goldens {
		args, err := tt.c.Args()
		if err != nil {
			t.Fatal(err)
		}
		want := tt.c
		if want.MemoryBytes == 0 {
			want.MemoryBytes = DefaultMemory
		}
		if want.CommandLine == "" {
			want.CommandLine = " "
		}
		if diff := cmp.Diff(want, parse(t, args)); diff != "" {
			t.Errorf("%s: what hyperkit understands (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestCommandLine pastes a line into a shell.
func TestCommandLine(t *testing.T) {
	needs.Tool(t, "sh", "dash")
	for _, tt := range goldens {
		line, err := CommandLine("printf", tt.c)
		if err != nil {
			t.Fatal(err)
		}
		args, _ := tt.c.Args()
		out, err := exec.Command("sh", "-c", strings.Replace(line, "printf", `printf '%s\n'`, 1)).Output()
		if want := strings.Join(args, "\n") + "\n"; err != nil || string(out) != want {
			t.Errorf("%s: a shell takes it as %q (%v), want %q", tt.name, out, err, want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct {
		c    Config
		says string
	}{
		{Config{}, "no kernel"},
		{Config{Kernel: "a,b"}, "splits its options at commas"},
		{Config{Kernel: "k", Initrd: "a,b"}, "splits its options at commas"},
		{Config{Kernel: "k", Disks: []string{"d", "a,ro"}}, "splits its options at commas"},
		{Config{Kernel: "k", Disks: []string{"a\x00b"}}, "commas"},
		{Config{Kernel: "k", Disks: []string{""}}, "path of a disk is empty"},
		{Config{Kernel: "k", Disks: make([]string, 27)}, "27 disks"},
		{Config{Kernel: "k", MemoryBytes: 1}, "whole MiB"},
		{Config{Kernel: "k", MemoryBytes: -1 << 20}, "whole MiB"},
		{Config{Kernel: "k", MemoryBytes: MaxMemory * 2}, "at most 1 TiB"},
		{Config{Kernel: "k", CommandLine: "a\x00b"}, "NUL"},
	} {
		if _, err := tt.c.Args(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v, want %q", tt.c, err, tt.says)
		}
	}
}
