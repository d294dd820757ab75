// Package scripts tests the scripts of its folder.
package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fakeSystem is a folder of commands that stands for a whole system: bash, and these scripts of one line each.
func fakeSystem(t *testing.T, commands map[string]string) string {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"bash", "env"} {
		real, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(real, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, script := range commands {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!"+bin+"/bash\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

func TestSetup(t *testing.T) {
	// What dpkg-query says if all packages that it is asked for are installed but the one named.
	without := func(missing string) string {
		return `for p in "${@:3}"; do if [ $p != "` + missing + `" ]; then printf "$p=installed "; fi; done; [ -z "` + missing + `" ]`
	}
	const apt = `echo "apt-get as $(id -u): ${*: -1}"`
	for _, c := range []struct {
		name     string
		commands map[string]string
		args     []string
		ok       bool
		want     []string // parts of the output; none if there is to be no output
	}{
		{"all there", map[string]string{"go": "", "dpkg-query": without("")}, []string{"test"}, true, nil},
		{"removed, not purged", map[string]string{"go": "", "dpkg-query": `printf "%s=config-files " "${@:3}"`}, nil, false, []string{"missing for make demo: qemu-system-x86"}},
		{"not for this group", map[string]string{"go": "", "dpkg-query": without("gdisk")}, []string{"demo"}, true, nil},
		{"root", map[string]string{"go": "", "dpkg-query": without("gdisk"), "apt-get": apt, "id": "echo 0"}, []string{"test"}, true,
			[]string{"apt-get as 0: update", "apt-get as 0: gdisk"}},
		{"a mirror is away", map[string]string{"go": "", "dpkg-query": without("seabios"), "apt-get": `echo "apt-get: ${*: -1}"; [ "${*: -1}" != update ]`, "id": "echo 0"},
			nil, true, []string{"apt-get: seabios"}},
		{"install fails", map[string]string{"go": "", "dpkg-query": without("seabios"), "apt-get": "exit 100", "id": "echo 0"}, nil, false, []string{"seabios"}},
		{"sudo", map[string]string{"go": "", "dpkg-query": without("gcc"), "apt-get": apt, "id": "echo 1000", "sudo": `echo "sudo: $*"`}, nil, true,
			[]string{"sudo: env DEBIAN_FRONTEND=noninteractive apt-get", "install --no-install-recommends gcc"}},
		{"neither root nor sudo", map[string]string{"go": "", "dpkg-query": without("gcc"), "apt-get": apt, "id": "echo 1000"}, nil, false,
			[]string{"as root, run: apt-get install gcc"}},
		{"no apt", map[string]string{"go": "", "cc": "", "make": "", "git": ""}, []string{"test"}, false,
			[]string{"no apt-get here", ": qemu-system-x86 ", " musl-tools binutils gdisk fdisk "}},
		{"no apt, all there", map[string]string{"go": "", "cc": "", "make": "", "git": "", "qemu-system-x86_64": ""}, nil, true, nil},
		{"no go", map[string]string{"dpkg-query": without("")}, nil, false, []string{"install Go 1.26 or later"}},
		{"no such group", map[string]string{"go": "", "dpkg-query": without("")}, []string{"all"}, false, []string{"usage"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bin := fakeSystem(t, c.commands)
			cmd := exec.Command(filepath.Join(bin, "bash"), append([]string{"setup"}, c.args...)...)
			cmd.Env = []string{"PATH=" + bin}
			out, err := cmd.CombinedOutput()
			if (err == nil) != c.ok {
				t.Errorf("setup %q: %v\n%s", c.args, err, out)
			}
			if len(c.want) == 0 && len(out) > 0 {
				t.Errorf("setup %q says: %s", c.args, out)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("setup %q says nothing of %q:\n%s", c.args, want, out)
				}
			}
		})
	}
}
