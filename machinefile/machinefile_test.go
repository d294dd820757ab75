package machinefile

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/qemu"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var machines = []struct {
	name string
	m    Machine
}{
	{"plain", Machine{Name: "app", Image: "/srv/app.img"}},
	{"full", Machine{Name: "My_App 2.0", Image: "/srv/my app, <2>&co's.img", MemoryBytes: 16 << 20, CommandLine: `arg=a\ b arg=<&>'`, Accel: qemu.TCG, Container: "registry.example/team/app:2.0"}},
}

func TestGolden(t *testing.T) {
	for _, f := range Formats() {
		for _, tt := range machines {
			got, err := f.Write(tt.m)
			if err != nil {
				t.Errorf("%s %s: %v", f.Name, tt.name, err)
				continue
			}
			if again, _ := f.Write(tt.m); !bytes.Equal(got, again) {
				t.Errorf("%s %s: a second run writes another file", f.Name, tt.name)
			}
			golden := filepath.Join("testdata", tt.name+"."+f.Name)
			if *update {
				if err := os.WriteFile(golden, got, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", f.Name, tt.name, diff)
			}
		}
	}
}

// hostile are names that a format must take as they are, or refuse.
var hostile = []string{
	"/a b.img", "/a,b.img", "/a,,b=c.img", "/it's.img", `/a"b.img`, `/a\b.img`, `/a\"b.img`, "/<a>&b;.img", "/]]>.img", "/-->.img", "/a:b.img", "/a: b.img", "/a #b.img",
	"/%s%d.img", "/$(id)`id`.img", "/{{.Name}}.img", "/[device].img", "/é世界😀.img", "/\u2028.img", "/\ufeff.img", "/- a.img", "/~.img", "/null", "/0x10",
	"/a\nb.img", "/a\x00b.img", "/a\tb.img", "/a\x7fb.img", "/a\u0085b.img", "/a\xffb.img", "/\ufffe.img",
}

// imageIn parses a file with somebody else's parser, and returns what it says of the image, and of the command line.
func imageIn(t *testing.T, format string, data []byte) (images []string, line string) {
	t.Helper()
	switch format {
	case "qemu":
		for text := range strings.Lines(string(data)) {
			key, value, ok := strings.Cut(strings.TrimSuffix(text, "\n"), " = ")
			if !ok || strings.HasPrefix(text, "#") {
				continue
			}
			value = strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`)
			switch strings.TrimSpace(key) {
			case "kernel", "file.filename":
				images = append(images, value)
			case "append":
				line = value
			}
		}
	case "firecracker":
		var f firecracker
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		if err := d.Decode(&f); err != nil {
			t.Fatal(err)
		}
		images, line = []string{f.BootSource.KernelImagePath, f.Drives[0].PathOnHost}, f.BootSource.BootArgs
	case "libvirt":
		var d struct {
			OS struct {
				Kernel  string `xml:"kernel"`
				Cmdline string `xml:"cmdline"`
			} `xml:"os"`
			Args []struct {
				Value string `xml:"value,attr"`
			} `xml:"http://libvirt.org/schemas/domain/qemu/1.0 commandline>arg"`
		}
		if err := xml.Unmarshal(data, &d); err != nil {
			t.Fatal(err)
		}
		images, line = append(images, d.OS.Kernel), d.OS.Cmdline
		for _, a := range d.Args {
			if _, file, ok := strings.Cut(a.Value, "file.filename="); ok {
				images = append(images, strings.ReplaceAll(file, ",,", ","))
			}
		}
	case "kubevirt":
		var v struct {
			Kind string
			Spec struct {
				Domain struct {
					Firmware struct {
						KernelBoot struct {
							KernelArgs string `yaml:"kernelArgs"`
							Container  struct{ Image string }
						} `yaml:"kernelBoot"`
					}
				}
				Volumes []struct {
					ContainerDisk struct{ Image string } `yaml:"containerDisk"`
				}
			}
		}
		if err := yaml.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		boot := v.Spec.Domain.Firmware.KernelBoot
		images, line = []string{boot.Container.Image, v.Spec.Volumes[0].ContainerDisk.Image}, boot.KernelArgs
	}
	return images, line
}

func TestHostileNames(t *testing.T) {
	for _, f := range Formats() {
		for _, name := range hostile {
			// Everywhere at once: path, command line, container image, name.
			data, err := f.Write(Machine{Name: name, Image: name, CommandLine: "arg=" + name, Container: name})
			refused := !utf8.ValidString(name) || strings.ContainsAny(name, "\n\x00\t\x7f\u0085\ufffe") || f.Name == "qemu" && strings.Contains(name, `"`)
			if refused {
				if !errors.Is(err, ErrInput) || data != nil {
					t.Errorf("%s takes %q (%v)", f.Name, name, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s refuses %q: %v", f.Name, name, err)
				continue
			}
			images, line := imageIn(t, f.Name, data)
			if len(images) != 2 || images[0] != name || images[1] != name || line != "arg="+name {
				t.Errorf("%s: %q is read as %q with the line %q", f.Name, name, images, line)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		m    Machine
		says string
	}{
		{Machine{}, "no path"},
		{Machine{Image: "/a", MemoryBytes: 5}, "whole MiB"},
		{Machine{Image: "/a", MemoryBytes: -1 << 20}, "whole MiB"},
		{Machine{Image: "/a", MemoryBytes: 2 << 40}, "at most 1 TiB"},
		{Machine{Image: "/a", Accel: "hvf"}, "want auto, kvm or tcg"},
	} {
		for _, f := range Formats() {
			if _, err := f.Write(tt.m); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %+v: %v, want %q", f.Name, tt.m, err, tt.says)
			}
		}
	}
	if _, err := Libvirt(Machine{Image: "app.img"}); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "relative") {
		t.Errorf("libvirt takes a relative path: %v", err)
	}
	long := "/" + strings.Repeat("x", 2000)
	if _, err := QEMU(Machine{Image: long}); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "too many") {
		t.Errorf("QEMU's form takes a line of 2000 bytes: %v", err)
	}
}

func TestPlainName(t *testing.T) {
	for in, want := range map[string]string{
		"": "app", "app": "app", "My_App 2.0": "my-app-2-0", "--": "app", "-a-": "a", "é": "app", strings.Repeat("a", 80): strings.Repeat("a", 63), strings.Repeat("a", 62) + "_b": strings.Repeat("a", 62),
	} {
		if got := plainName(in); got != want {
			t.Errorf("plainName(%q) = %q, want %q", in, got, want)
		}
	}
}
