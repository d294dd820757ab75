package bootprof

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/qemu"
)

// findings runs the doctor and returns what it found by name.
func findings(t *testing.T, want int) (ok bool, found map[string]finding) {
	t.Helper()
	code, stdout, stderr := bootprof(t, "doctor", "--json")
	var all struct {
		OK     bool
		Checks []finding
	}
	if err := json.Unmarshal([]byte(stdout), &all); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	if code != want || all.OK != (want == 0) || (stderr == "") != (want == 0) {
		t.Errorf("exit code %d, want %d, ok %v\n%s%s", code, want, all.OK, stdout, stderr)
	}
	found = map[string]finding{}
	for _, f := range all.Checks {
		if f.Status != statusOK && f.Status != statusWarn && f.Status != statusFail || f.Text == "" {
			t.Errorf("%+v", f)
		}
		if _, twice := found[f.Name]; twice {
			t.Errorf("%s comes twice", f.Name)
		}
		found[f.Name] = f
	}
	return all.OK, found
}

func TestDoctor(t *testing.T) {
	needQEMU(t)
	needs.Tool(t, "cc", "gcc")
	_, found := findings(t, 0)
	for name, says := range map[string]string{
		"qemu": "6.1.0 or later", "firmware": "qboot.rom", "boot": "under tcg", "compiler": "cc", "plugin": "instructions of that guest", "cache": "firstlight",
	} {
		if f := found[name]; f.Status != statusOK || !strings.Contains(f.Text, says) {
			t.Errorf("%+v, want ok and %q", f, says)
		}
	}
	for _, name := range []string{"accelerator", "cpus", "memory", "huge pages", "clock", "go", "dot"} {
		if f := found[name]; f.Status != statusOK && f.Status != statusWarn {
			t.Errorf("%s: %+v", name, f)
		}
	}
	code, stdout, stderr := bootprof(t, "doctor")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "ok    qemu ") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	for line := range strings.Lines(stdout) {
		if status := strings.Fields(line)[0]; status != "ok" && status != "warn" && status != "->" {
			t.Errorf("a line begins with %q: %s", status, line)
		}
	}
}

func TestDoctorEmptyPath(t *testing.T) {
	t.Setenv(qemu.EnvBinary, "")
	t.Setenv("PATH", "")
	_, found := findings(t, 4)
	if f := found["qemu"]; f.Status != statusFail || f.Fix != "apt-get install qemu-system-x86" {
		t.Errorf("%+v", f)
	}
	if f := found["compiler"]; f.Status != statusWarn || f.Fix != "apt-get install gcc libc6-dev" {
		t.Errorf("%+v", f)
	}
}

// TestDoctorBadParts gives it a QEMU that is too old, one that boots nothing, a compiler that fails and no cache.
func TestDoctorBadParts(t *testing.T) {
	t.Setenv(qemu.EnvBinary, script(t, "echo QEMU emulator version 4.2.0"))
	if _, found := findings(t, 4); !strings.Contains(found["qemu"].Text, "6.1.0 is needed") {
		t.Errorf("%+v", found["qemu"])
	}
	t.Setenv(qemu.EnvBinary, script(t, `case $1 in --version) echo QEMU emulator version 7.2.0;; -L) ;; *) echo broken >&2; exit 1;; esac`))
	_, found := findings(t, 4)
	if f := found["boot"]; f.Status != statusFail || !strings.Contains(f.Text, "broken") {
		t.Errorf("%+v", f)
	}
	if f := found["firmware"]; f.Status != statusFail || !strings.Contains(f.Text, "qboot.rom") || !strings.Contains(f.Fix, "qemu-system-data seabios") {
		t.Errorf("%+v", f)
	}
	if f := found["plugin"]; f.Status != statusWarn {
		t.Errorf("%+v", f)
	}
	needQEMU(t)
	t.Setenv(qemu.EnvBinary, "")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cc"), []byte("#!/bin/sh\necho no good >&2\nexit 1\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("XDG_CACHE_HOME", "/proc/none")
	_, found = findings(t, 0)
	for _, name := range []string{"compiler", "plugin", "cache"} {
		if f := found[name]; f.Status != statusWarn || f.Fix == "" {
			t.Errorf("%+v", f)
		}
	}
}

func TestDoctorUsage(t *testing.T) {
	for _, args := range [][]string{{"x"}, {"--no-such-flag"}} {
		if code, stdout, stderr := bootprof(t, append([]string{"doctor"}, args...)...); code != 2 || stdout != "" || stderr == "" {
			t.Errorf("%q: exit code %d\n%s%s", args, code, stdout, stderr)
		}
	}
}
