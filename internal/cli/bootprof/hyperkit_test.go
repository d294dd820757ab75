package bootprof

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/hyperkit"
	bootview "github.com/firstlight-boot/firstlight/profile"
)

// bzImageOf takes the kernel out of an image.
func bzImageOf(t *testing.T, img string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.bzImage")
	if code, _, stderr := bootprof(t, "kernel", img, "-o", path); code != 0 {
		t.Fatal(stderr)
	}
	return path
}

func TestHyperkitDryRun(t *testing.T) {
	t.Setenv(hyperkit.EnvBinary, "")
	img := appImage(t)
	t.Chdir(filepath.Dir(img))
	const start = "hyperkit -A -u -c 1 -m 64M -s 0:0,hostbridge -s 31,lpc -l com1,stdio "
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"behave.img"}, start + "-s 2:0,virtio-blk,behave.img,ro -f 'kexec,behave.bzImage,, '\n"},
		{[]string{"behave.img", "--memory", "16M", "--append", "verbose=1", "--", "a b", "c,d"}, strings.Replace(start, "64M", "16M", 1) +
			`-s 2:0,virtio-blk,behave.img,ro -f 'kexec,behave.bzImage,,verbose=1 arg=a\ b arg=c,d'` + "\n"},
		{[]string{"--kernel", "k", "--disk", "behave.img", "--disk", "k", "--", "x"}, start + "-s 2:0,virtio-blk,behave.img,ro -s 3:0,virtio-blk,k,ro -f kexec,k,,arg=x\n"},
	} {
		if code, _, stderr := bootprof(t, "kernel", "behave.img", "-o", "k"); code != 0 {
			t.Fatal(stderr)
		}
		code, stdout, stderr := bootprof(t, append([]string{"hyperkit", "--dry-run"}, tt.args...)...)
		if line := strings.TrimPrefix(stdout, strings.TrimSuffix(stdout[:strings.Index(stdout, " ")], "hyperkit")); code != 0 || line != tt.want {
			t.Errorf("%q: exit code %d, %s\nwant %s\n%s", tt.args, code, stdout, tt.want, stderr)
		}
		if tt.args[0] == "behave.img" && !strings.Contains(stderr, "bootprof kernel behave.img -o behave.bzImage") {
			t.Errorf("%q: it is not said where the kernel comes from: %s", tt.args, stderr)
		}
		if !strings.Contains(stderr, "has no driver") {
			t.Errorf("%q: what the kernel lacks is not said: %s", tt.args, stderr)
		}
	}
	if _, err := os.Stat("behave.bzImage"); err == nil {
		t.Error("a dry run wrote a file")
	}
	if runtime.GOOS == "darwin" {
		return
	}
	code, stdout, stderr := bootprof(t, "hyperkit", img)
	if code != 4 || stdout != "" || !strings.Contains(stderr, "runs on macOS only") || !strings.Contains(stderr, "--dry-run") {
		t.Errorf("a run: exit code %d, %s%s", code, stdout, stderr)
	}
}

func TestHyperkitUsage(t *testing.T) {
	img := appImage(t)
	dir := filepath.Dir(img)
	bz := bzImageOf(t, img)
	comma := filepath.Join(dir, "a,b.img")
	if err := os.Symlink(img, comma); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		says string
	}{
		{nil, "want an image"},
		{[]string{""}, "name is empty"},
		{[]string{img, img}, "one argument too many"},
		{[]string{img, "--kernel", bz}, "want one of the two"},
		{[]string{img, "--initrd", bz}, "--initrd goes with --kernel"},
		{[]string{comma}, "splits its options at commas"},
		{[]string{"--kernel", bz, "--disk", comma}, "splits its options at commas"},
		{[]string{"--kernel", bz, "--disk", filepath.Join(dir, "none")}, "no such file"},
		{[]string{"--kernel", bz, "--disk", dir}, "is a folder"},
		{[]string{"--kernel", dir}, "is a folder"},
		{[]string{"--kernel", img}, "ELF file, and hyperkit takes bzImages only"},
		{[]string{"--kernel", filepath.Join(dir, "behave")}, "ELF file"},
		{[]string{"--kernel", "testdata/guest.S"}, "no bzImage"},
		{[]string{img, "--memory", "2M"}, "the machine has 2"},
		{[]string{img, "--append", strings.Repeat("x", 5000)}, "takes 4094"},
		{[]string{img, "--until", "entry"}, "hyperkit shows no marks"},
		{[]string{img, "-n", "0"}, "want 1 to"},
		{[]string{img, "--timeout", "0s"}, "more than 0"},
	} {
		code, stdout, stderr := bootprof(t, append([]string{"hyperkit", "--dry-run"}, tt.args...)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, tt.says) {
			t.Errorf("%q: exit code %d, want 2 and %q\n%s%s", tt.args, code, tt.says, stdout, stderr)
		}
	}
}

// TestHyperkitRun lets a script stand in for hyperkit.
func TestHyperkitRun(t *testing.T) {
	img := appImage(t)
	t.Chdir(t.TempDir())
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	for _, tt := range []struct {
		script, args string
		code         int
		until, says  string
	}{
		{`printf 'hello\r\n'; exit 2`, "-n 3", 0, "output", ""},
		{`exit 0`, "", 0, "exit", ""},
		{`echo up; exec sleep 1000`, "--until output", 0, "output", ""},
		{`printf 'hello\r\n'; exit 2`, "--until exit", 0, "exit", ""},
		{`exec sleep 1000`, "--timeout 100ms", 1, "", "did not exit within 100ms"},
		{`exit 2`, "--until output", 1, "", "never ready"},
		{`echo some; exit 3`, "", 1, "", "triple fault"},
		{`printf 'firstlight: cannot mount the root: no disk\r\n'; exit 2`, "", 1, "", "no disk"},
		{`echo 'Unable to create VM' >&2; exit 1`, "", 1, "", "Unable to create VM"},
		{`for last; do :; done; k=${last#kexec,}; cp "${k%%,*}" kernel.copy; exit 2`, "", 0, "exit", ""},
	} {
		t.Setenv(hyperkit.EnvBinary, script(t, tt.script))
		code, stdout, stderr := bootprof(t, append([]string{"hyperkit", img, "--json", "-o", "out"}, strings.Fields(tt.args)...)...)
		if code != tt.code || !strings.Contains(stderr, tt.says) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s", tt.script, code, tt.code, tt.says, stderr)
			continue
		}
		if tt.code != 0 {
			continue
		}
		var o bootview.Object
		if err := json.Unmarshal([]byte(stdout), &o); err != nil || o.Until != tt.until || o.TotalMS.Median <= 0 || o.ExitCode != nil || o.Machine != "hyperkit" {
			t.Errorf("%s: %v, %s", tt.script, err, stdout)
		}
		if _, err := boottrace.Open("out/recording.fl"); err != nil {
			t.Error(err)
		}
		os.RemoveAll("out")
	}
	want, err := os.ReadFile(bzImageOf(t, img))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile("kernel.copy"); err != nil || string(got) != string(want) {
		t.Errorf("hyperkit got another kernel than bootprof kernel writes (%v)", err)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "bootprof-*")); len(left) > 0 {
		t.Errorf("temporary files were left behind: %v", left)
	}
}
