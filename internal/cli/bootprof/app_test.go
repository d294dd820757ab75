package bootprof

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/internal/cli/imgbuild"
	"github.com/firstlight-boot/firstlight/internal/needs"
)

// appImage builds an image of testdata/apps/behave.c with our kernel, with compressed ROFS unless the flags say otherwise.
func appImage(t *testing.T, flags ...string) string {
	t.Helper()
	if len(flags) == 0 {
		flags = []string{"--rofs", "--compress"}
	}
	needs.Tool(t, "cc", "gcc")
	dir := t.TempDir()
	app := filepath.Join(dir, "behave")
	if msg, err := exec.Command("cc", "-static", "-O1", "-o", app, "testdata/apps/behave.c").CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, msg)
	}
	img := filepath.Join(dir, "behave.img")
	var out bytes.Buffer
	if code := imgbuild.Main(append(flags, "--env", "GREETING=good morning", "-o", img, app), &out, &out); code != 0 {
		t.Fatalf("imgbuild: exit code %d\n%s", code, out.String())
	}
	return img
}

// TestApps boots a program that behaves and misbehaves in many ways.
func TestApps(t *testing.T) {
	needQEMU(t)
	img := appImage(t)
	for _, tt := range []struct {
		app      string
		flags    []string
		code     int
		exitCode int // -1: there is none
		output   string
		says     string
	}{
		{"", nil, 0, 0, "", ""},
		{"exit 7", nil, 1, 7, "", "the app exited with 7"},
		{"segv", nil, 1, 139, "", "the app was killed by SIGSEGV"},
		{"abort", nil, 1, 134, "", "the app was killed by SIGABRT"},
		{"stdin", nil, 0, 0, "read 0\n", ""},
		{"env", nil, 0, 0, "good morning\n", ""},
		{`args a\b "c"`, nil, 0, 0, "[/behave]\n[args]\n[a\\b]\n[\"c\"]\n", ""},
		{"args", []string{"--machine", "microvm", "--firmware", "seabios"}, 0, 0, "[/behave]\n[args]\n", ""},
		{"args", []string{"--until", "exit", "--memory", "16M"}, 0, 0, "[/behave]\n[args]\n", ""},
		{"mark", []string{"--until", "mark:listening"}, 0, -1, "", ""},
		{"mark", []string{"--until", "entry"}, 0, -1, "", ""},
		{"spin", []string{"--timeout", "2s", "--counting", "0"}, 1, -1, "", "never became ready within 2s"},
	} {
		args := append([]string{img}, tt.flags...)
		code, o, stderr := boot(t, append(append(args, "--"), strings.Fields(tt.app)...)...)
		if code != tt.code || !strings.Contains(stderr, tt.says) || tt.says == "" && stderr != "" {
			t.Errorf("%s %v: exit code %d, want %d and %q\n%s", tt.app, tt.flags, code, tt.code, tt.says, stderr)
		}
		if o == nil {
			if tt.app != "spin" {
				t.Errorf("%s %v: no JSON", tt.app, tt.flags)
			}
			continue
		}
		// Of a fatal signal the kernel says on the console where it was.
		if o.Output == nil || *o.Output != tt.output && tt.exitCode < 128 {
			t.Errorf("%s %v: output %q, want %q", tt.app, tt.flags, *o.Output, tt.output)
		}
		if tt.exitCode >= 0 && (o.ExitCode == nil || *o.ExitCode != tt.exitCode) || tt.exitCode < 0 && o.ExitCode != nil {
			t.Errorf("%s %v: the app's exit code is %v, want %d", tt.app, tt.flags, o.ExitCode, tt.exitCode)
		}
		if !strings.HasPrefix(phaseNames(o), "vmm firmware kernel") || o.Instructions == nil {
			t.Errorf("%s %v: phases %s, instructions %v", tt.app, tt.flags, phaseNames(o), o.Instructions)
		}
		checkSums(t, o)
	}
}

func TestAppMegabyte(t *testing.T) {
	needQEMU(t)
	img := appImage(t)
	code, o, stderr := boot(t, img, "--counting", "0", "--", "megabyte")
	if code != 0 || o.Output != nil {
		t.Fatalf("exit code %d, output in the JSON: %v\n%s", code, o.Output != nil, stderr)
	}
	rec, err := boottrace.Open(o.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	if n := rec.Runs[0].OutputBytes; n != 1<<20 {
		t.Errorf("the app printed %d bytes, want %d", n, 1<<20)
	}
}

// TestRAMFSRoot boots images whose root is a RAM disk.
func TestRAMFSRoot(t *testing.T) {
	needQEMU(t)
	for _, tt := range []struct{ compress, codec string }{{"", "ramfs:"}, {"--compress", "ramfs, lz4:"}, {"--compress=gzip", "ramfs, gzip:"}, {"--compress=zstd", "ramfs, zstd:"}} {
		flags := []string{"--ramfs"}
		if tt.compress != "" {
			flags = append(flags, tt.compress)
		}
		img := appImage(t, flags...)
		var out bytes.Buffer
		if imgbuild.Main([]string{"inspect", img}, &out, &out); !strings.Contains(out.String(), tt.codec) {
			t.Errorf("%q: inspect has no %q:\n%s", tt.compress, tt.codec, out.String())
		}
		code, o, stderr := boot(t, img, "--counting", "0", "--", "env")
		if code != 0 || o == nil || o.Output == nil || *o.Output != "good morning\n" {
			t.Errorf("%q: exit code %d, %+v\n%s", tt.compress, code, o, stderr)
		}
	}
}
