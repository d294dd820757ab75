package image_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/fsmod"
	_ "github.com/firstlight-boot/firstlight/fsmod/ramfsmod"
	"github.com/firstlight-boot/firstlight/image"
)

// bzImage is the least that passes for a Linux kernel.
func bzImage() []byte {
	b := make([]byte, 5*512+32)
	le := binary.LittleEndian
	b[0x1f1] = 4
	le.PutUint32(b[0x1f4:], 2)
	le.PutUint16(b[0x1fe:], 0xaa55)
	copy(b[0x202:], "HdrS")
	le.PutUint16(b[0x206:], 0x020f)
	b[0x211] = 1
	return b
}

func linuxSpec(t *testing.T) image.Spec {
	m, err := fsmod.Lookup("ramfs")
	if err != nil {
		t.Fatal(err)
	}
	s := spec(t)
	s.Module, s.Options, s.Kernel = m, fsmod.Options{Codec: "zstd"}, bzImage()
	s.Params.Flavour, s.Params.Append, s.Params.Cwd = image.FlavourLinux, image.LinuxAppend, ""
	return s
}

func TestLinuxImage(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.img")
	if _, err := image.WriteFile(t.Context(), name, linuxSpec(t)); err != nil {
		t.Fatal(err)
	}
	if problems, err := image.VerifyFile(t.Context(), name); err != nil || len(problems) > 0 {
		t.Fatalf("verify: %v, %v", problems, err)
	}
	img, err := image.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	r, _ := img.Partition(image.PartKernel)
	b := make([]byte, r.Size())
	if _, err := r.ReadAt(b, 0); err != nil || !bytes.Equal(b, bzImage()) {
		t.Errorf("the kernel is not what it was (%v)", err)
	}
	if _, err := img.Root(); err != nil {
		t.Error(err)
	}
}

func TestCheckLinux(t *testing.T) {
	if err := image.CheckLinux(bzImage()); err != nil {
		t.Error(err)
	}
	if err := image.CheckLinux(testKernel(nil)); err != nil { // which has a PVH note
		t.Error(err)
	}
	change := func(f func(b []byte) []byte) []byte { return f(bzImage()) }
	for want, b := range map[string][]byte{
		"neither a bzImage nor an ELF": []byte("hello"),
		"gzip -d":                      []byte("\x1f\x8b\x08"),
		"truncated":                    change(func(b []byte) []byte { return b[:5*512+31] }),
		"loaded low":                   change(func(b []byte) []byte { b[0x211] = 0; return b }),
		"no PVH note":                  bytes.Replace(testKernel(nil), []byte("Xen"), []byte("Xem"), 1),
		"64-bit x86":                   []byte("\x7fELF\x01"),
		"arm64":                        append(make([]byte, 0x38), "ARM\x64 and more"...),
	} {
		err := image.CheckLinux(b)
		if fe := (*image.FormatError)(nil); !errors.As(err, &fe) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func FuzzCheckLinux(f *testing.F) {
	f.Add(bzImage())
	f.Add(testKernel(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := image.CheckLinux(b)
		if fe := (*image.FormatError)(nil); err != nil && !errors.As(err, &fe) {
			t.Error(err)
		}
	})
}

// nextArg is next_arg of Linux 6.1, lib/cmdline.c, and repair_env_string of init/main.c after it.
func nextArg(args string) (param, rest string) {
	space := func(c byte) bool { return c == ' ' || c >= 9 && c <= 13 || c == 0xa0 }
	for args != "" && space(args[0]) {
		args = args[1:]
	}
	inQuote, quoted := false, false
	if strings.HasPrefix(args, `"`) {
		args, inQuote, quoted = args[1:], true, true
	}
	i, equals := 0, 0
	for ; i < len(args); i++ {
		if space(args[i]) && !inQuote {
			break
		}
		if equals == 0 && args[i] == '=' {
			equals = i
		}
		if args[i] == '"' {
			inQuote = !inQuote
		}
	}
	word := args[:i]
	if equals > 0 {
		k, v := word[:equals], word[equals+1:]
		if strings.HasPrefix(v, `"`) {
			v = strings.TrimSuffix(v[1:], `"`)
		}
		word = k + "=" + v
	}
	if quoted {
		word = strings.TrimSuffix(word, `"`)
	}
	if i < len(args) {
		i++
	}
	return word, args[i:]
}

func TestLinuxCommandLine(t *testing.T) {
	p := image.Params{
		Append: "console=ttyS0 quiet", Root: image.RootFS{Module: "ramfs"}, Args: []string{"/my app", "two words", "", "k=v w", "x\u00a0y", "--flag=1"},
		Env: []string{"A=", "GREETING=hi there"},
	}
	line, err := p.LinuxCommandLine("loglevel=7", "more")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for rest := line; rest != ""; {
		var word string
		word, rest = nextArg(rest)
		got = append(got, word)
	}
	want := []string{"console=ttyS0", "quiet", "loglevel=7", "rdinit=/my app", "A=", "GREETING=hi there", "--", "two words", "", "k=v w", "x\u00a0y", "--flag=1", "more"}
	if !slices.Equal(got, want) {
		t.Errorf("Linux reads %q\nas   %q\nwant %q", line, got, want)
	}
	p.Root.Module = "ext4"
	p.Partitions = []image.Partition{{Name: image.PartRoot, SHA256: strings.Repeat("0", 64)}}
	line, err = p.LinuxCommandLine("")
	if err != nil || !strings.Contains(line, " root=PARTUUID=") || !strings.Contains(line, ` rootfstype=ext4 ro init="/my app" `) {
		t.Errorf("%s, %v", line, err)
	}
	for module, want := range map[string]string{"erofs": "erofs", "squashfs": "squashfs", "iso": "iso9660", "fat": "vfat"} {
		q := p
		q.Root.Module = module
		if line, err := q.LinuxCommandLine(""); err != nil || !strings.Contains(line, " rootfstype="+want+" ro ") {
			t.Errorf("%s: %s, %v", module, line, err)
		}
	}
	for want, change := range map[string]func(p *image.Params){
		"cannot mount it": func(p *image.Params) { p.Root.Module = "rofs" },
		"double quotes":   func(p *image.Params) { p.Args = append(p.Args, `"`) },
		"second one":      func(p *image.Params) { p.Args = append(p.Args, "--") },
		"working dir":     func(p *image.Params) { p.Cwd = "/srv" },
		"with a dot":      func(p *image.Params) { p.Env = []string{"a.b=c"} },
		"arguments":       func(p *image.Params) { p.Args = make([]string, 40) },
		"Linux takes":     func(p *image.Params) { p.Append = strings.Repeat("x", 3000) },
		"no command":      func(p *image.Params) { p.Args = nil },
		"variables":       func(p *image.Params) { p.Env = slices.Repeat([]string{"A=b"}, 32) },
	} {
		q := p
		q.Args = slices.Clone(p.Args)
		change(&q)
		if _, err := q.LinuxCommandLine(""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
