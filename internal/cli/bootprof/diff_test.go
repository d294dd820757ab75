package bootprof

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
	bootview "github.com/firstlight-boot/firstlight/profile"
)

func TestDiffRecordings(t *testing.T) {
	a, b := save(t, recorded(1)), save(t, recorded(1.2))
	code, stdout, stderr := bootprof(t, "diff", a, filepath.Join(b, fileRecording))
	if code != 0 || stderr != "" || !strings.Contains(stdout, "slower (p < 0.0001") || !strings.Contains(stdout, "functions  exact; instructions") {
		t.Errorf("diff: exit code %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = bootprof(t, "diff", a, b, "--json", "--top", "3")
	var d bootview.Diff
	if err := json.Unmarshal([]byte(stdout), &d); code != 0 || err != nil || len(d.Functions) != 3 || d.Measures[0].Name != "boot" || d.Measures[0].Verdict != bootview.VerdictMore {
		t.Errorf("diff --json: exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
	for _, f := range d.Functions {
		if f.Self <= 0 {
			t.Errorf("%+v: every function takes more", f)
		}
	}
	if code, stdout, _ := bootprof(t, "diff", a, a); code != 0 || !strings.Contains(stdout, "no function changed") || strings.Contains(stdout, "slower") {
		t.Errorf("diff of the same: exit code %d\n%s", code, stdout)
	}
	if code, _, stderr := bootprof(t, "diff", a, b, "--fail-on-regression"); code != exitBudget || strings.Count(stderr, "regression") != 2 {
		t.Errorf("a regression: exit code %d\n%s", code, stderr)
	}
	if code, _, stderr := bootprof(t, "diff", b, a, "--fail-on-regression"); code != 0 || stderr != "" {
		t.Errorf("no regression: exit code %d\n%s", code, stderr)
	}
}

func TestDiffBadInput(t *testing.T) {
	a := save(t, recorded(1))
	other := recorded(1)
	other.Accel, other.Image = "kvm", "other.img"
	b := save(t, other)
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{a}, exitUsage, "want two recordings"},
		{[]string{a, b, a}, exitUsage, "one argument too many"},
		{[]string{a, t.TempDir()}, exitUsage, "holds no recording.fl"},
		{[]string{t.TempDir(), a}, exitUsage, "holds no recording.fl"},
		{[]string{a, b}, exitUsage, "accelerator: A has tcg, B has kvm"},
		{[]string{a, a, "--top", "-1"}, exitUsage, "--top -1"},
		{[]string{a, a, "--sample", "x"}, exitUsage, `--sample "x"`},
	} {
		code, stdout, stderr := bootprof(t, append([]string{"diff"}, tt.args...)...)
		if code != tt.code || stdout != "" || !strings.Contains(stderr, tt.says) {
			t.Errorf("diff %q: exit code %d, want %d and %q\n%s%s", tt.args, code, tt.code, tt.says, stdout, stderr)
		}
	}
	code, stdout, stderr := bootprof(t, "diff", a, b, "--force")
	if code != 0 || !strings.Contains(stdout, "not comparable: accelerator") || !strings.Contains(stdout, "another image: A has app.img, B has other.img") {
		t.Errorf("diff --force: exit code %d\n%s%s", code, stdout, stderr)
	}
	empty := save(t, &boottrace.Recording{Image: "app.img"})
	if code, stdout, stderr := bootprof(t, "diff", empty, a); code != 0 || !strings.Contains(stdout, "A has no boots") {
		t.Errorf("diff with a recording of nothing: exit code %d\n%s%s", code, stdout, stderr)
	}
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"newer.bootprof", "older.bootprof", "deep/er"} {
		r := recorded(1)
		r.TimeNanos -= int64(i) * 3600e9
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(save(t, r), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "broken.fl"), []byte("FLREC"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := bootprof(t, "list", dir)
	lines := strings.Split(stdout, "\n")
	if code != 0 || stderr != "" || len(lines) != 6 || !strings.Contains(lines[1], "deep") || !strings.Contains(lines[3], "newer") ||
		!strings.Contains(lines[3], "105.50 ms") || !strings.HasPrefix(lines[4], "cannot be read: ") || !strings.Contains(lines[4], "truncated") {
		t.Errorf("list: exit code %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = bootprof(t, "list", dir, "--json")
	var all []listed
	if err := json.Unmarshal([]byte(stdout), &all); code != 0 || err != nil || len(all) != 4 || all[0].Error == "" || *all[3].BootMS != 105.5 || all[3].Runs != 12 {
		t.Errorf("list --json: exit code %d, %v\n%s", code, err, stdout)
	}
	if code, stdout, _ := bootprof(t, "list", t.TempDir()); code != 0 || !strings.Contains(stdout, "no recordings") {
		t.Errorf("an empty folder: exit code %d\n%s", code, stdout)
	}
	if code, stdout, _ := bootprof(t, "list", t.TempDir(), "--json"); code != 0 || stdout != "[]\n" {
		t.Errorf("an empty folder as JSON: exit code %d\n%s", code, stdout)
	}
	if code, _, stderr := bootprof(t, "list", filepath.Join(dir, "none")); code != exitUsage || !strings.Contains(stderr, "no such file") {
		t.Errorf("no folder: exit code %d\n%s", code, stderr)
	}
	if code, _, stderr := bootprof(t, "list", dir, dir); code != exitUsage || !strings.Contains(stderr, "too many") {
		t.Errorf("two folders: exit code %d\n%s", code, stderr)
	}
}
