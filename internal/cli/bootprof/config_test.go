package bootprof

import (
	"context"
	"encoding/xml"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firstlight-boot/firstlight/machinefile"
)

// bootArgv boots a guest by somebody's argv for QEMU, and returns its output and QEMU's exit status.
func bootArgv(t *testing.T, args ...string) (output string, status int) {
	t.Helper()
	needQEMU(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", args...).Output()
	out = out[:min(len(out), 4<<10)] // a guest that panics can go on for ever
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		t.Logf("QEMU says: %s", exit.Stderr)
		status = exit.ExitCode()
	}
	return strings.ReplaceAll(string(out), "\r", ""), status
}

// linked gives an image another name.
func linked(t *testing.T, img, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(img, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigQEMUBoots(t *testing.T) {
	img := appImage(t)
	t.Chdir(t.TempDir())
	for _, name := range []string{"app.img", "my app, it's <50%> of #1 = [x]: \\ é.img"} {
		path := linked(t, img, name)
		if code, stdout, stderr := bootprof(t, "config", path, "--for", "qemu", "--accel", "tcg", "--memory", "16M", "-o", "app.cfg", "--", "args", "a b", `c\d`); code != 0 || stdout+stderr != "" {
			t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
		}
		out, status := bootArgv(t, append(slices.Clone(machinefile.QEMUArgs), "app.cfg")...)
		if want := "[/behave]\n[args]\n[a b]\n[c\\d]\n"; out != want || status != 1 {
			t.Errorf("%s: output %q, want %q; exit status %d", name, out, want, status)
		}
	}
	// The accelerator of this host, whatever it is, and QEMU's defaults beside the file.
	if code, _, stderr := bootprof(t, "config", img, "--for", "qemu", "-o", "auto.cfg", "--", "args"); code != 0 {
		t.Fatal(stderr)
	}
	if out, status := bootArgv(t, "-display", "none", "-readconfig", "auto.cfg"); out != "[/behave]\n[args]\n" || status != 1 {
		t.Errorf("--accel auto: output %q; exit status %d", out, status)
	}
	// What the comment says, pasted; the app's exit code shows.
	if code, _, stderr := bootprof(t, "config", img, "--for", "qemu", "--accel", "tcg", "-o", "FILE", "--", "exit", "7"); code != 0 {
		t.Fatal(stderr)
	}
	data, err := os.ReadFile("FILE")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(data), "#   qemu-system-x86_64 ")
	line, _, _ = strings.Cut(line, "\n")
	if _, status := bootArgv(t, strings.Fields(line)...); status != 15 {
		t.Errorf("qemu-system-x86_64 %s: exit status %d, want 15", line, status)
	}
}

// TestConfigLibvirtBoots boots the domain by the argv that libvirt makes of these elements (src/qemu/qemu_command.c).
func TestConfigLibvirtBoots(t *testing.T) {
	path := linked(t, appImage(t), "my app, it's <50%> & é.img")
	code, stdout, stderr := bootprof(t, "config", path, "--for", "libvirt", "--accel", "tcg", "--", "args", "<&>")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	var d struct {
		Type   string `xml:"type,attr"`
		Name   string `xml:"name"`
		Memory struct {
			Unit  string `xml:"unit,attr"`
			Value string `xml:",chardata"`
		} `xml:"memory"`
		OS struct {
			Type struct {
				Machine string `xml:"machine,attr"`
			} `xml:"type"`
			Kernel  string `xml:"kernel"`
			Cmdline string `xml:"cmdline"`
		} `xml:"os"`
		Args []struct {
			Value string `xml:"value,attr"`
		} `xml:"http://libvirt.org/schemas/domain/qemu/1.0 commandline>arg"`
	}
	if err := xml.Unmarshal([]byte(stdout), &d); err != nil {
		t.Fatal(err)
	}
	if d.Type != "qemu" || d.Memory.Unit != "MiB" || d.OS.Kernel != path {
		t.Fatalf("%+v", d)
	}
	args := []string{
		"-name", "guest=" + d.Name, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		"-machine", d.OS.Type.Machine + ",usb=off,dump-guest-core=off,acpi=off", "-accel", "tcg", "-cpu", "max", "-m", "size=" + d.Memory.Value + "M", "-smp", "1",
		"-kernel", d.OS.Kernel, "-append", d.OS.Cmdline,
		"-chardev", "stdio,id=charserial0", "-device", "isa-serial,chardev=charserial0,id=serial0,index=0",
	}
	for _, a := range d.Args {
		args = append(args, a.Value)
	}
	if out, status := bootArgv(t, args...); out != "[/behave]\n[args]\n[<&>]\n" || status != 1 {
		t.Errorf("output %q, exit status %d", out, status)
	}
}

func TestConfig(t *testing.T) {
	img := imageOf(t, guest(t))
	t.Chdir(filepath.Dir(img))
	for _, f := range machinefile.Formats() {
		var files []string
		for range 2 {
			code, stdout, stderr := bootprof(t, "config", "app.img", "--for", f.Name)
			if code != 0 || (stderr != "") != (f.Lacks != "") {
				t.Errorf("%s: exit code %d\n%s", f.Name, code, stderr)
			}
			files = append(files, stdout)
		}
		if files[0] != files[1] {
			t.Errorf("%s: two runs differ", f.Name)
		}
		if f.Name != "kubevirt" && !strings.Contains(files[0], filepath.Join(filepath.Dir(img), "app.img")) {
			t.Errorf("%s: there is no absolute path in\n%s", f.Name, files[0])
		}
		code, stdout, stderr := bootprof(t, "config", "app.img", "--for", f.Name, "--path", "/jail/x.img", "--name", "other", "--memory", "128M", "-q", "-o", "file."+f.Name)
		if code != 0 || stdout+stderr != "" {
			t.Errorf("%s: exit code %d\n%s%s", f.Name, code, stdout, stderr)
		}
		data, err := os.ReadFile("file." + f.Name)
		if err != nil || !strings.Contains(string(data), "128") || strings.Contains(string(data), filepath.Dir(img)) {
			t.Errorf("%s: %v\n%s", f.Name, err, data)
		}
	}
	for _, tt := range []struct {
		args []string
		says string
	}{
		{nil, "want an image"},
		{[]string{"app.img"}, `--for "": want qemu, firecracker, libvirt, kubevirt`},
		{[]string{"app.img", "--for", "xen"}, "want qemu"},
		{[]string{"app.img", "b.img", "--for", "qemu"}, "one argument too many"},
		{[]string{"none.img", "--for", "qemu"}, "no such file"},
		{[]string{"app.img", "--for", "qemu", "--accel", "hvf"}, "want auto, kvm or tcg"},
		{[]string{"app.img", "--for", "qemu", "--path", "a\nb"}, "control character"},
		{[]string{"app.img", "--for", "qemu", "--path", `a"b`}, "double quote"},
		{[]string{"app.img", "--for", "libvirt", "--path", "app.img"}, "absolute ones only"},
		{[]string{"app.img", "--for", "qemu", "-o", "app.img"}, "would replace the image itself"},
		{[]string{"app.img", "--for", "qemu", "-o", "none/x"}, "cannot write"},
		{[]string{"app.img", "--for", "qemu", "--memory", "2T"}, "at most 1 TiB"},
	} {
		code, stdout, stderr := bootprof(t, append([]string{"config"}, tt.args...)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, tt.says) {
			t.Errorf("%q: exit code %d, want 2 and %q\n%s%s", tt.args, code, tt.says, stdout, stderr)
		}
	}
}
