package bootprof

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
)

func TestGateBadInput(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "")
	dir := t.TempDir()
	rec := save(t, recorded(1))
	whole, err := os.ReadFile(filepath.Join(rec, fileRecording))
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	newer := []byte(string(whole))
	newer[8] = 99
	good := file("good.yaml", "total: 1s")
	relative := file("relative.yaml", "memory: 8M\nphases:\n  kernel: baseline + 3%")
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{}, "want an image or a recording"},
		{[]string{rec}, "want a budget: --budget FILE"},
		{[]string{"", "--budget", good}, "the image's name is empty"},
		{[]string{rec, rec, "--budget", good}, "one argument too many"},
		{[]string{rec, "--kernel", "k", "--budget", good}, "want one of the two"},
		{[]string{rec, "--initrd", "i", "--budget", good}, "--initrd goes with --kernel"},
		{[]string{rec, "--budget", good, "--max-runs", "0"}, "--max-runs 0"},
		{[]string{rec, "--budget", good, "--memory", "64M"}, "--memory says how to boot"},
		{[]string{rec, "--budget", good, "-o", "x"}, "--output says how to boot"},
		{[]string{rec, "--budget", good, "--", "arg"}, "a recording is only judged"},
		{[]string{rec, "--budget", good, "--junit", filepath.Join(dir, "no", "x.xml")}, "cannot write the report"},

		{[]string{rec, "--budget", filepath.Join(dir, "none.yaml")}, "no such file"},
		{[]string{rec, "--budget", dir}, "is a directory"},
		{[]string{rec, "--budget", file("empty.yaml", "")}, "empty.yaml: it has no limit"},
		{[]string{rec, "--budget", file("key.yaml", "total: 1s\nmemroy: 8M")}, `key.yaml:2: unknown key "memroy"; did you mean "memory"?`},
		{[]string{rec, "--budget", file("unit.yaml", "instructions: 250ms")}, "unit.yaml:1: instructions: \"250ms\" is no number of instructions"},
		{[]string{rec, "--budget", relative}, "relative.yaml:3: phases.kernel: baseline + 3% is relative to a baseline; name a recording with --baseline"},

		{[]string{rec, "--budget", relative, "--baseline", filepath.Join(dir, "none")}, "no such file"},
		{[]string{rec, "--budget", relative, "--baseline", dir}, "holds no recording.fl"},
		{[]string{rec, "--budget", relative, "--baseline", file("cut.fl", string(whole[:len(whole)/2]))}, "cut.fl"},
		{[]string{rec, "--budget", relative, "--baseline", file("nothing.fl", "")}, "nothing.fl"},
		{[]string{filepath.Join(dir, "cut.fl"), "--budget", good}, "the file is damaged"},
		{[]string{file("cut", string(whole[:20])), "--budget", good}, "truncated"},
		{[]string{file("newer.fl", string(newer)), "--budget", good}, "newer.fl"},
		{[]string{filepath.Join(dir, "nothing.fl"), "--budget", good}, "nothing.fl"},
		{[]string{file("nothing.img", ""), "--budget", good}, "nothing.img"},
		{[]string{file("noise.img", "noise"), "--budget", good}, "noise.img"},
		{[]string{filepath.Join(dir, "none.img"), "--budget", good}, "no such file"},
		{[]string{dir, "--budget", good}, "holds no recording.fl"},
	} {
		code, stdout, stderr := bootprof(t, append([]string{"gate"}, tt.args...)...)
		if junit := len(tt.args) > 3 && tt.args[3] == "--junit"; code != exitUsage || stdout != "" && !junit || !strings.Contains(stderr, tt.says) {
			t.Errorf("gate %q: exit code %d, want %d and %q\n%s%s", tt.args, code, exitUsage, tt.says, stdout, stderr)
		}
	}
}

func TestGateOtherBaseline(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "")
	rec := save(t, recorded(1))
	relative, absolute := budgetFile(t, "instructions: baseline + 1%"), budgetFile(t, "instructions: 1G")
	timed := budgetFile(t, "total: baseline + 50%")
	for _, tt := range []struct {
		name   string
		change func(r *boottrace.Recording)
		budget string
		code   int
		says   string
	}{
		{"the same", func(r *boottrace.Recording) {}, relative, 0, ""},
		{"image", func(r *boottrace.Recording) { r.Image = "x/other.img" }, relative, 0, "warning: another image: the baseline has other.img, this is app.img"},
		{"folder", func(r *boottrace.Recording) { r.Image = "out/app.img" }, relative, 0, ""},
		{"QEMU", func(r *boottrace.Recording) { r.VMM = "QEMU 9.2.0" }, relative, 0, "warning: VMM: the baseline has QEMU 9.2.0, this is QEMU 7.2.22"},
		{"memory", func(r *boottrace.Recording) { r.MemoryBytes = 1 << 30 }, relative, 0, "warning: guest memory: the baseline has 1024 MiB, this is 64 MiB"},
		{"machine", func(r *boottrace.Recording) { r.Machine = "q35" }, relative, exitUsage, "machine: the baseline has q35, this is microvm"},
		{"flavour", func(r *boottrace.Recording) { r.Flavour = "linux" }, relative, exitUsage, "is not comparable"},
		{"ready", func(r *boottrace.Recording) {
			for i := range r.Runs {
				r.Runs[i].Until = boottrace.UntilExit
			}
		}, relative, exitUsage, "what ready means: the baseline has exit, this is output"},
		{"accelerator of counts", func(r *boottrace.Recording) { r.Accel = "kvm" }, relative, 0, "warning: accelerator: the baseline has kvm, this is tcg"},
		{"accelerator of times", func(r *boottrace.Recording) { r.Accel = "kvm" }, timed, exitUsage, "accelerator: the baseline has kvm"},
		{"CPU", func(r *boottrace.Recording) { r.CPU = "Old CPU" }, timed, 0, ""}, // that of the other is not known
		{"no boots", func(r *boottrace.Recording) { r.Runs = nil }, relative, exitHost, "the baseline has none: there is no counting boot"},
		{"no boots", func(r *boottrace.Recording) { r.Runs = nil }, timed, exitHost, "the baseline has none: there is no timed boot"},
		{"nothing relative", func(r *boottrace.Recording) { r.Machine = "q35" }, absolute, 0, ""},
	} {
		r := recorded(1)
		tt.change(r)
		base := save(t, r)
		code, _, stderr := bootprof(t, "gate", rec, "--baseline", base, "--budget", tt.budget)
		if code != tt.code || !strings.Contains(stderr, tt.says) || tt.says == "" && stderr != "" {
			t.Errorf("%s: exit code %d, want %d and %q\n%s", tt.name, code, tt.code, tt.says, stderr)
		}
		if tt.code == exitUsage {
			code, _, stderr = bootprof(t, "gate", rec, "--baseline", base, "--budget", tt.budget, "--force")
			if code != 0 || !strings.Contains(stderr, "warning: ") {
				t.Errorf("%s with --force: exit code %d\n%s", tt.name, code, stderr)
			}
		}
	}
}
