package imgbuild

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firstlight-boot/firstlight/image"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/tree"
)

// The test binary is the command too, for tests that need a process.
func TestMain(m *testing.M) {
	if os.Getenv("IMGBUILD_TEST_MAIN") == "1" {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// program makes an ELF file that is all headers.
func program(machine elf.Machine, interp string) []byte {
	h := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Entry: 0x400000, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	progs := []elf.Prog64{{Type: uint32(elf.PT_LOAD), Flags: 5, Vaddr: 0x400000, Paddr: 0x400000, Filesz: 512, Memsz: 512, Align: 4096}}
	if interp != "" {
		h.Phnum = 2
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_INTERP), Flags: 4, Off: 256, Filesz: uint64(len(interp) + 1), Memsz: uint64(len(interp) + 1), Align: 1})
	}
	var b bytes.Buffer
	for _, v := range []any{h, progs} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	out := append(b.Bytes(), make([]byte, 512-b.Len())...)
	copy(out[256:], interp)
	return out
}

var hello = program(elf.EM_X86_64, "")

// kernelFile makes the smallest kernel that docs/guest-abi.md allows.
func kernelFile(t testing.TB) string {
	t.Helper()
	le := binary.LittleEndian
	note := func(name string, typ uint32, desc []byte) []byte {
		b := le.AppendUint32(nil, uint32(len(name)+1))
		b = le.AppendUint32(b, uint32(len(desc)))
		b = le.AppendUint32(b, typ)
		b = append(b, name...)
		b = append(b, make([]byte, 4-len(name)%4)...)
		return append(b, desc...)
	}
	notes := append(note(abi.XenNoteName, abi.XenNotePhys32, make([]byte, 8)), note(abi.NoteName, abi.NoteParams, make([]byte, abi.ParamsSize))...)
	h := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: 2, Machine: 62, Version: 1, Entry: 0x100000, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2,
	}
	n := uint64(len(notes))
	progs := []elf.Prog64{{Type: 1, Flags: 5, Off: 4096, Paddr: 0x100000, Filesz: n, Memsz: n}, {Type: 4, Off: 4096, Paddr: 0x100000, Filesz: n, Memsz: n}}
	var b bytes.Buffer
	for _, v := range []any{h, progs} {
		if err := binary.Write(&b, le, v); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(t.TempDir(), "kernel.elf")
	put(t, name, append(append(b.Bytes(), make([]byte, 4096-b.Len())...), notes...), 0o644)
	return name
}

func put(t testing.TB, name string, b []byte, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, mode), os.Chmod(name, mode)); err != nil {
		t.Fatal(err)
	}
}

// folder makes a folder of files; names that end in * are executable.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "app")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		mode := fs.FileMode(0o644)
		if n, ok := strings.CutSuffix(name, "*"); ok {
			name, mode = n, 0o755
		}
		put(t, filepath.Join(dir, name), []byte(text), mode)
	}
	return dir
}

// imgbuild runs the command and returns what it prints. It fails the test on another exit code.
func imgbuild(t testing.TB, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(t.Context(), args, &out, &errs); got != code {
		t.Fatalf("imgbuild %q: exit code %d, want %d\nstdout: %sstderr: %s", args, got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

func contains(t testing.TB, what, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not say %q:\n%s", what, w, text)
		}
	}
}

func names(t testing.TB, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestBuildAndRead(t *testing.T) {
	app := folder(t, map[string]string{
		"bin/hello*": string(hello), "etc/motd": "welcome\n", "x.o": "object",
		"imgbuild.yaml": `
command: bin/hello
args: [one, "two words"]
env: {A: "1", B: "2"}
cwd: /etc
memory: 32M
ready: output
rootfs: {compress: lz4, exclude: ["*.o"], raw: [bin/hello]}
budgets: {boot: 100ms, memory: 8M, instructions: 1.6M}
`})
	if err := os.Symlink("etc/motd", filepath.Join(app, "motd")); err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(t.TempDir(), "out.img")
	out, _ := imgbuild(t, 0, "--rofs", "--compress", "--kernel", kernelFile(t), "--env", "B=3", "-o", img, app)
	contains(t, "the summary", out, img, "rofs, lz4", "/bin/hello one 'two words'")

	out, _ = imgbuild(t, 0, "inspect", "--json", img)
	var in struct {
		Kind   string
		Params image.Params
	}
	if err := json.Unmarshal([]byte(out), &in); err != nil {
		t.Fatal(err)
	}
	p := in.Params
	if in.Kind != "image" || !slices.Equal(p.Args, []string{"/bin/hello", "one", "two words"}) || !slices.Equal(p.Env, []string{"A=1", "B=3"}) || p.Cwd != "/etc" ||
		p.Machine.MemoryBytes != 32<<20 || p.Ready != "output" || p.Budgets != (image.Budgets{BootNanos: 1e8, MemoryBytes: 8 << 20, Instructions: 1_600_000}) ||
		!slices.Equal(p.Sources, []string{"app"}) || p.Root.Module != "rofs" || p.Root.Codec != "lz4" {
		t.Errorf("inspect --json: %s", out)
	}
	out, _ = imgbuild(t, 0, "inspect", img)
	contains(t, "inspect", out, "/bin/hello one 'two words'", "32 MiB", "100ms", "kernel", "sha256")

	if out, _ = imgbuild(t, 0, "verify", img); out != img+": fine\n" {
		t.Errorf("verify: %q", out)
	}
	if out, _ = imgbuild(t, 0, "ls", img); out != "bin\netc\nmotd\n" {
		t.Errorf("ls: %q", out)
	}
	if out, _ = imgbuild(t, 0, "ls", "-R", img, "/"); out != "/\n/bin\n/bin/hello\n/etc\n/etc/motd\n/motd\n" {
		t.Errorf("ls -R: %q", out)
	}
	if out, _ = imgbuild(t, 0, "ls", img, "bin/hello"); out != "/bin/hello\n" {
		t.Errorf("ls of a file: %q", out)
	}
	out, _ = imgbuild(t, 0, "ls", "-l", img)
	contains(t, "ls -l", out, "lrwxrwxrwx", "motd -> etc/motd")
	if out, _ = imgbuild(t, 0, "cat", img, "motd"); out != "welcome\n" {
		t.Errorf("cat: %q", out)
	}
	_, stderr := imgbuild(t, 1, "cat", img, "/none")
	contains(t, "cat of nothing", stderr, "/none", "not exist")
	_, stderr = imgbuild(t, 1, "cat", img, "/etc")
	contains(t, "cat of a directory", stderr, "/etc", "dir")

	dir := filepath.Join(t.TempDir(), "copy")
	imgbuild(t, 0, "extract", img, dir)
	if got, err := os.ReadFile(filepath.Join(dir, "motd")); string(got) != "welcome\n" || err != nil {
		t.Errorf("extracted: %q, %v", got, err)
	}
	if out, _ = imgbuild(t, 0, "diff", app, img); out != "" {
		t.Errorf("diff with the folder: %s", out)
	}
	imgbuild(t, 0, "diff", dir, img)
	_, stderr = imgbuild(t, 2, "extract", img, dir)
	contains(t, "extract into a full folder", stderr, "not empty", "--force")
	imgbuild(t, 0, "extract", "--force", img, dir)
	imgbuild(t, 0, "diff", dir, img)
}

func TestSameInputSameBytes(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1000000000")
	kernel := kernelFile(t)
	var images [2][]byte
	for i := range images {
		app := folder(t, map[string]string{"hello*": string(hello), "data": "x", "b/c": "y"}) // at another place and time
		img := filepath.Join(t.TempDir(), "x.img")
		imgbuild(t, 0, "--compress", "--kernel", kernel, "-o", img, app)
		var err error
		if images[i], err = os.ReadFile(img); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two builds with SOURCE_DATE_EPOCH differ")
	}
	if bytes.Contains(images[0], []byte(os.TempDir())) {
		t.Error("the image holds a path of this machine")
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	_, stderr := imgbuild(t, 2, "--no-kernel", "-o", filepath.Join(t.TempDir(), "x"), folder(t, nil))
	contains(t, "the error", stderr, "SOURCE_DATE_EPOCH", "yesterday")
}

func TestBadApps(t *testing.T) {
	kernel := kernelFile(t)
	s := string(hello)
	for name, c := range map[string]struct {
		files map[string]string
		args  []string
		want  []string
	}{
		"empty":            {nil, nil, []string{"no executable", "empty", "--no-kernel"}},
		"no executable":    {map[string]string{"a": "x", "b": s}, nil, []string{"no executable", "/b is a program without execute permission"}},
		"script":           {map[string]string{"a*": "#!/bin/sh\n"}, nil, []string{"/a is a script"}},
		"two":              {map[string]string{"a*": s, "b/c*": s}, nil, []string{"2 executables: /a, /b/c", "--cmd"}},
		"dynamic":          {map[string]string{"a*": string(program(elf.EM_X86_64, "/lib64/ld-linux-x86-64.so.2"))}, nil, []string{"/a", "dynamically linked", "-static"}},
		"machine":          {map[string]string{"a*": string(program(elf.EM_AARCH64, ""))}, nil, []string{"/a", "another machine", "AARCH64"}},
		"damaged":          {map[string]string{"a*": s[:70]}, nil, []string{"/a", "damaged ELF"}},
		"no such command":  {map[string]string{"a*": s}, []string{"--cmd", "b"}, []string{"command b is not in app", "/a"}},
		"command no x":     {map[string]string{"a": s}, []string{"--cmd", "/a"}, []string{"command /a is not executable", "chmod"}},
		"command dir":      {map[string]string{"a/b*": s}, []string{"--cmd", "/a"}, []string{"command /a is a directory"}},
		"command script":   {map[string]string{"a*": "#!/bin/sh\n"}, []string{"--cmd", "/a"}, []string{"is a script (#!/bin/sh)"}},
		"command dynamic":  {map[string]string{"a*": string(program(elf.EM_X86_64, "/ld.so"))}, []string{"--cmd", "/a x"}, []string{"command /a is dynamically linked", "/ld.so"}},
		"quote":            {map[string]string{"a*": s}, []string{"--cmd", "'/a"}, []string{"--cmd", "not closed"}},
		"empty command":    {map[string]string{"a*": s}, []string{"--cmd", " "}, []string{"--cmd is empty"}},
		"cwd":              {map[string]string{"a*": s}, []string{"--cwd", "/none"}, []string{"/none"}},
		"env":              {map[string]string{"a*": s}, []string{"--env", "X"}, []string{"--env", "NAME=VALUE"}},
		"configuration":    {map[string]string{"a*": s, "imgbuild.yaml": "x: 1"}, nil, []string{"imgbuild.yaml: line 1", `"x"`, "command, args"}},
		"non-UTF-8":        {map[string]string{"a\xff*": s}, nil, []string{"UTF-8"}},
		"parameters":       {map[string]string{"a*": s}, []string{"--env", "X=" + strings.Repeat("x", 9000)}, []string{"too large"}},
		"ramfs":            {map[string]string{"a*": s}, []string{"--ramfs", "--compress=xz"}, []string{"ramfs", "available: gzip, zstd, lz4"}},
		"fs":               {map[string]string{"a*": s}, []string{"--fs", "ntfs"}, []string{"zfs", "available: ", "rofs"}},
		"codec":            {map[string]string{"a*": s}, []string{"--compress=lzma"}, []string{"lzma", "available: lz4, lz4hc, zstd"}},
		"no levels":        {map[string]string{"a*": s}, []string{"--compress=lz4:3"}, []string{"lz4", "no levels"}},
		"level":            {map[string]string{"a*": s}, []string{"--compress=zstd:99"}, []string{"level 99", "1 to 22"}},
		"no level":         {map[string]string{"a*": s}, []string{"--compress=zstd:x"}, []string{"zstd:x", "zstd:9"}},
		"empty codec":      {map[string]string{"a*": s}, []string{"--compress="}, []string{"--compress= names no codec", "--compress=none"}},
		"output":           {map[string]string{"a*": s}, []string{"-o", "-"}, []string{"output -", "standard output", "./-"}},
		"align":            {map[string]string{"a*": s}, []string{"--align-exec", "some"}, []string{"some", "auto, all and none"}},
		"hot":              {map[string]string{"a*": s}, []string{"--hot", "/none"}, []string{"--hot", "/none"}},
		"layout":           {map[string]string{"a*": s}, []string{"--layout", "/none"}, []string{"--layout", "/none"}},
		"linux":            {map[string]string{"a*": s}, []string{"--flavour", "linux", "--kernel", ""}, []string{"linux", "--kernel FILE"}},
		"flavour":          {map[string]string{"a*": s}, []string{"--flavour", "dos"}, []string{"dos", "available: native"}},
		"cluster size":     {map[string]string{"a*": s}, []string{"--cluster-size", "5000"}, []string{"cluster size", "powers of two"}},
		"bad cluster size": {map[string]string{"a*": s}, []string{"--cluster-size", "big"}, []string{"cluster-size", "big"}},
		"glob":             {map[string]string{"a*": s}, []string{"--raw", "["}, []string{"pattern"}},
		"two file systems": {map[string]string{"a*": s}, []string{"--rofs", "--ramfs"}, []string{"rofs", "ramfs"}},
		"no kernel, cmd":   {map[string]string{"a*": s}, []string{"--no-kernel", "--cmd", "/a"}, []string{"--no-kernel", "--"}},
		"unknown flag":     {map[string]string{"a*": s}, []string{"--frobnicate"}, []string{"--frobnicate", "--help"}},
		"two apps":         {map[string]string{"a*": s}, []string{"other"}, []string{"one argument too many"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			args := append([]string{"--kernel", kernel, "-o", filepath.Join(dir, "x.img"), folder(t, c.files)}, c.args...)
			_, stderr := imgbuild(t, 2, args...)
			contains(t, "the error", stderr, c.want...)
			if !strings.HasPrefix(stderr, "imgbuild: ") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("the error is not one line: %q", stderr)
			}
			if got := names(t, dir); len(got) > 0 {
				t.Errorf("left behind: %q", got)
			}
		})
	}
	for name, c := range map[string]struct {
		app  string
		want string
	}{
		"nothing": {"/none/such", "no such file"},
		"text":    {filepath.Join(folder(t, map[string]string{"t*": "text"}), "t"), "not an ELF file"},
		"dynamic": {filepath.Join(folder(t, map[string]string{"d*": string(program(elf.EM_X86_64, "/ld.so"))}), "d"), "dynamically linked"},
	} {
		_, stderr := imgbuild(t, 2, "--kernel", kernel, "-o", filepath.Join(t.TempDir(), "x"), c.app)
		contains(t, name, stderr, c.want)
	}
	imgbuild(t, 2)
	_, stderr := imgbuild(t, 2, "--no-kernel", "--fs", "bootfs", "--cluster-size", "4K", "-o", filepath.Join(t.TempDir(), "x"), folder(t, map[string]string{"a*": s}))
	contains(t, "clusters of what has none", stderr, "a cluster size: not supported by BootFS")
	_, stderr = imgbuild(t, 2, "--compress", "lz4", folder(t, nil))
	contains(t, "a codec as an argument", stderr, "--compress=lz4")
	_, stderr = imgbuild(t, 2, "--kernel", "/none", "-o", filepath.Join(t.TempDir(), "x"), folder(t, map[string]string{"a*": s}))
	contains(t, "a kernel that is not there", stderr, "--kernel", "/none")
	_, stderr = imgbuild(t, 2, "--kernel", filepath.Join(folder(t, map[string]string{"k": "MZ"}), "k"), "-o", filepath.Join(t.TempDir(), "x"), folder(t, map[string]string{"a*": s}))
	contains(t, "no kernel", stderr, "--kernel", "not an ELF file")
}

// Names of 255 bytes and names that are not UTF-8 are a file system's to have; a name of 300 bytes is nobody's.
func TestNames(t *testing.T) {
	long := strings.Repeat("n", 255)
	app := folder(t, map[string]string{long: "long", "\xff\xfe": "raw", "new\nline": "x"})
	img := filepath.Join(t.TempDir(), "x")
	imgbuild(t, 0, "--no-kernel", "-o", img, app)
	out, _ := imgbuild(t, 0, "ls", img)
	if want := "\"new\\nline\"\n" + long + "\n\"\\xff\\xfe\"\n"; out != want {
		t.Errorf("ls: %q, want %q", out, want)
	}
	if out, _ = imgbuild(t, 0, "cat", img, "/\xff\xfe"); out != "raw" {
		t.Errorf("cat: %q", out)
	}
	out, _ = imgbuild(t, 0, "ls", "--json", img)
	contains(t, "ls --json", out, `"path_base64": "L//+"`)
	dir := filepath.Join(t.TempDir(), "d")
	imgbuild(t, 0, "extract", img, dir)
	imgbuild(t, 0, "diff", app, dir)
	_, stderr := imgbuild(t, 2, "--no-kernel", "-o", filepath.Join(t.TempDir(), strings.Repeat("n", 300)), app)
	contains(t, "an output with a name of 300 bytes", stderr, "name too long")
}

func TestOutputs(t *testing.T) {
	app := folder(t, map[string]string{"a*": string(hello)})
	imgbuild(t, 2, "--no-kernel", "-o", t.TempDir(), app)
	imgbuild(t, 2, "--no-kernel", "-o", os.DevNull, app)
	_, stderr := imgbuild(t, 2, "--no-kernel", "-o", "/none/such/x.img", app)
	contains(t, "no folder", stderr, "/none/such")
	prog := filepath.Join(app, "a")
	_, stderr = imgbuild(t, 2, "--no-kernel", "-o", prog, prog)
	contains(t, "output over input", stderr, "the app itself")

	// By default the image is in the current folder, which may be the app: a build does not pack what the last one made.
	t.Chdir(app)
	imgbuild(t, 0, "--no-kernel", ".")
	first, err := os.ReadFile("app.img")
	if err != nil {
		t.Fatal(err)
	}
	out, _ := imgbuild(t, 0, "ls", "app.img")
	imgbuild(t, 0, "--no-kernel", app)
	if out2, _ := imgbuild(t, 0, "ls", "app.img"); out != "a\n" || out2 != out {
		t.Errorf("ls after one build: %q, after two: %q", out, out2)
	}
	imgbuild(t, 0, "--no-kernel", "a")
	if second, err := os.ReadFile("app.img"); err != nil || len(second) != len(first) {
		t.Errorf("the second image has %d bytes, the first %d, %v", len(second), len(first), err)
	}
	if got := names(t, "."); !slices.Equal(got, []string{"a", "a.img", "app.img"}) {
		t.Errorf("the folder holds %q", got)
	}
}

// A file that vanishes or changes between the look at the folder and the packing of its content.
func TestChangingFile(t *testing.T) {
	for what, change := range map[string]func(name string) error{
		"vanished": os.Remove,
		"changed":  func(name string) error { return os.WriteFile(name, []byte("longer than before"), 0o644) },
	} {
		app := folder(t, map[string]string{"file": "content"})
		a, err := loadApp(t.Context(), app, "", nil, sourceOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := change(filepath.Join(app, "file")); err != nil {
			t.Fatal(err)
		}
		var o buildOptions
		cmd := newCommand()
		cmd.SetContext(t.Context())
		o.noKernel = true
		p, err := o.plan(cmd, app)
		if err != nil {
			t.Fatal(err)
		}
		p.spec.Tree = a.tree
		dir := t.TempDir()
		if _, err = image.WriteFSFile(t.Context(), filepath.Join(dir, "x"), p.spec); err == nil || !strings.Contains(err.Error(), "file") || isUsage(err) {
			t.Errorf("%s: error %v", what, err)
		}
		if got := names(t, dir); len(got) > 0 {
			t.Errorf("%s: left behind: %q", what, got)
		}
	}
}

// SIGINT and SIGTERM, once or twice, leave the old image and nothing else.
func TestInterrupted(t *testing.T) {
	app := folder(t, nil)
	f, err := os.Create(filepath.Join(app, "huge"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(64<<30), f.Close()); err != nil { // a hole: minutes to read, nothing to store
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		dir := t.TempDir()
		img := filepath.Join(dir, "x.img")
		put(t, img, []byte("old"), 0o644)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, exe, "--no-kernel", "-o", img, app)
		cmd.Env = append(os.Environ(), "IMGBUILD_TEST_MAIN=1")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for len(names(t, dir)) < 2 && ctx.Err() == nil { // until it writes
			runtime.Gosched()
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		// timeout(1) sends two. When the process has taken the first it may be gone before the second.
		status := fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)
		for taken := false; !taken && ctx.Err() == nil; runtime.Gosched() {
			b, err := os.ReadFile(status)
			taken = err != nil || bytes.Contains(b, []byte("ShdPnd:\t0000000000000000"))
		}
		if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "interrupted") {
			t.Errorf("%v: %v, %s", sig, err, &stderr)
		}
		if got, err := os.ReadFile(img); string(got) != "old" || err != nil {
			t.Errorf("%v: the old file is now %d bytes, %v", sig, len(got), err)
		}
		if got := names(t, dir); len(got) != 1 {
			t.Errorf("%v: left behind: %q", sig, got)
		}
	}
}

func TestVerifyDamaged(t *testing.T) {
	img := filepath.Join(t.TempDir(), "x.img")
	imgbuild(t, 0, "--kernel", kernelFile(t), "-o", img, folder(t, map[string]string{"a*": string(hello)}))
	good, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{5, 450, 520, 700, 1100, 19000, 20500, 24600, len(good) / 2, len(good) - 10} {
		b := slices.Clone(good)
		b[at] ^= 4
		put(t, img, b, 0o644)
		out, _ := imgbuild(t, 1, "verify", img)
		contains(t, "verify", out, "bytes ")
		out, _ = imgbuild(t, 1, "verify", "--json", img)
		contains(t, "verify --json", out, `"ok": false`, `"offset"`)
	}
	put(t, img, good[:len(good)-100], 0o644)
	out, _ := imgbuild(t, 1, "verify", img)
	contains(t, "verify of a truncated image", out, "truncated")
	_, stderr := imgbuild(t, 2, "ls", img)
	contains(t, "ls of a truncated image", stderr, "truncated", img)
	put(t, img, []byte("text"), 0o644)
	for _, verb := range []string{"verify", "inspect", "ls"} {
		_, stderr = imgbuild(t, 2, verb, img)
		contains(t, verb+" of text", stderr, "not a Firstlight image", img)
	}
	_, stderr = imgbuild(t, 2, "verify", "/none/such")
	contains(t, "verify of nothing", stderr, "/none/such")
}

func TestDiff(t *testing.T) {
	kernel := kernelFile(t)
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	t.Setenv("SOURCE_DATE_EPOCH", "0")
	imgbuild(t, 0, "--kernel", kernel, "-o", a, folder(t, map[string]string{"p*": string(hello), "gone": "", "same": "s", "changed": "1", "mode": ""}))
	imgbuild(t, 0, "--kernel", kernel, "--env", "A=B", "-o", b, folder(t, map[string]string{"p*": string(hello), "new": "", "same": "s", "changed": "2", "mode*": ""}))
	out, _ := imgbuild(t, 1, "diff", a, b)
	if want := "~ params: env\n~ /changed: content\n- /gone\n~ /mode: mode 0644 → 0755\n+ /new\n"; out != want {
		t.Errorf("diff: %s\nwant: %s", out, want)
	}
	out, _ = imgbuild(t, 1, "diff", "--json", a, b)
	var list []difference
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 5 {
		t.Errorf("diff --json: %v, %s", err, out)
	}
	if out, _ = imgbuild(t, 0, "diff", "--json", a, a); out != "[]\n" {
		t.Errorf("diff --json of the same: %q", out)
	}
	imgbuild(t, 2, "diff", a, "/none/such")
}

func TestDryRun(t *testing.T) {
	dir := t.TempDir()
	app := folder(t, map[string]string{"a*": string(hello)})
	args := []string{"--dry-run", "--kernel", kernelFile(t), "-o", filepath.Join(dir, "x.img"), app}
	out, _ := imgbuild(t, 0, args...)
	contains(t, "--dry-run", out, "x.img", "/a", "native", "rofs")
	out, _ = imgbuild(t, 0, append(args, "--json")...)
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || !r.DryRun || !slices.Equal(r.Args, []string{"/a"}) {
		t.Errorf("--dry-run --json: %v, %s", err, out)
	}
	if got := names(t, dir); len(got) > 0 {
		t.Errorf("a dry run left %q", got)
	}
	out, _ = imgbuild(t, 0, append(args[1:], "--json")...)
	r = report{}
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.DryRun || r.Bytes == 0 || len(r.Partitions) != 3 || r.Root.Ratio == 0 {
		t.Errorf("--json: %v, %s", err, out)
	}
	if out, stderr := imgbuild(t, 0, append(args[1:], "--quiet")...); out+stderr != "" {
		t.Errorf("--quiet prints %q", out+stderr)
	}
}

// extractTree extracts a tree that no writer of ours would make.
func extractTree(t *testing.T, tr *tree.Tree, dir string) error {
	x := extractor{ctx: t.Context(), t: tr, warn: func(err error) { t.Log(err) }}
	return x.run(dir, true)
}

// Whatever an image says, nothing outside the folder is written.
func TestExtractStaysInside(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	put(t, secret, []byte("secret"), 0o644)
	text := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("evil")), nil }
	root := tree.Entry{Path: ".", Mode: fs.ModeDir | 0o755}
	for name, entries := range map[string][]tree.Entry{
		"dots":         {{Path: "../evil", Mode: 0o644, Size: 4, Source: text}},
		"deep dots":    {{Path: "a", Mode: fs.ModeDir | 0o755}, {Path: "a/../../evil", Mode: 0o644, Size: 4, Source: text}},
		"absolute":     {{Path: outside + "/evil", Mode: 0o644, Size: 4, Source: text}},
		"through link": {{Path: "l", Mode: fs.ModeSymlink | 0o777, Link: outside}, {Path: "l/evil", Mode: 0o644, Size: 4, Source: text}},
		"hard link":    {{Path: "l", Mode: fs.ModeSymlink | 0o777, Link: outside}, {Path: "x", Mode: 0o644, HardLink: "l/secret"}},
		"hard link up": {{Path: "x", Mode: 0o644, HardLink: "../../" + filepath.Base(outside) + "/secret"}},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		if err := extractTree(t, &tree.Tree{Entries: append([]tree.Entry{root}, entries...)}, dir); err == nil {
			t.Errorf("%s: no error", name)
		}
		if got := names(t, outside); !slices.Equal(got, []string{"secret"}) {
			t.Fatalf("%s: outside are now %q", name, got)
		}
		if got := names(t, filepath.Dir(dir)); len(got) != 1 {
			t.Fatalf("%s: beside the folder are now %q", name, got)
		}
		if st, err := os.Stat(secret); err != nil || st.Sys().(*syscall.Stat_t).Nlink != 1 {
			t.Errorf("%s: the file outside was linked (%v)", name, err)
		}
	}

	// Links that were in the folder before are as dangerous.
	dir := t.TempDir()
	for link, to := range map[string]string{"d": outside, "f": secret} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	err := extractTree(t, &tree.Tree{Entries: []tree.Entry{
		root, {Path: "d", Mode: fs.ModeDir | 0o755}, {Path: "d/x", Mode: 0o644, Size: 4, Source: text}, {Path: "f", Mode: 0o644, Size: 4, Source: text},
	}}, dir)
	if err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(secret); string(b) != "secret" || err != nil || len(names(t, outside)) != 1 {
		t.Errorf("outside: %q, %v, %q", b, err, names(t, outside))
	}
	if b, err := os.ReadFile(filepath.Join(dir, "d", "x")); string(b) != "evil" || err != nil {
		t.Errorf("inside: %q, %v", b, err)
	}
}

func TestExtractMetadata(t *testing.T) {
	app := folder(t, map[string]string{"ro/file": "x", "suid*": "s"})
	when := time.Unix(1_234_567_890, 123456789)
	if err := errors.Join(
		os.Link(filepath.Join(app, "ro/file"), filepath.Join(app, "second")),
		os.Symlink("none", filepath.Join(app, "dangling")),
		os.Chmod(filepath.Join(app, "suid"), fs.ModeSetuid|0o755),
		syscall.Mkfifo(filepath.Join(app, "fifo"), 0o640),
		os.Chtimes(filepath.Join(app, "ro/file"), when, when),
		os.Chmod(filepath.Join(app, "ro"), 0o500),
		os.Chtimes(filepath.Join(app, "ro"), when, when),
	); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(app, "ro"), 0o700) })
	xattrs := unix.Setxattr(filepath.Join(app, "suid"), "user.comment", []byte("hi"), 0) == nil
	img := filepath.Join(t.TempDir(), "x")
	imgbuild(t, 0, "--no-kernel", "-o", img, app)
	dir := filepath.Join(t.TempDir(), "d")
	imgbuild(t, 0, "extract", img, dir)
	t.Cleanup(func() { os.Chmod(filepath.Join(dir, "ro"), 0o700) })
	if out, _ := imgbuild(t, 0, "diff", img, dir); out != "" {
		t.Errorf("the copy differs:\n%s", out)
	}
	st, err := os.Stat(filepath.Join(dir, "ro/file"))
	if err != nil || !st.ModTime().Equal(when) || st.Sys().(*syscall.Stat_t).Nlink != 2 {
		t.Errorf("ro/file: %+v, %v", st, err)
	}
	if xattrs {
		b := make([]byte, 10)
		if n, err := unix.Getxattr(filepath.Join(dir, "suid"), "user.comment", b); err != nil || string(b[:n]) != "hi" {
			t.Errorf("extended attribute: %q, %v", b[:max(n, 0)], err)
		}
	}
}

// TestExtractHoles has holes extracted as holes.
func TestExtractHoles(t *testing.T) {
	app := folder(t, map[string]string{"zeros": strings.Repeat("\x00", 100<<10), "small": "\x00"})
	f, err := os.Create(filepath.Join(app, "holes"))
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := f.WriteAt([]byte("middle"), 40<<20-3)
	_, err2 := f.WriteAt([]byte("\x00end"), 80<<20)
	if err := errors.Join(err1, err2, f.Truncate(128<<20+1), f.Close()); err != nil {
		t.Fatal(err)
	}
	img, dir := filepath.Join(t.TempDir(), "x"), filepath.Join(t.TempDir(), "d")
	imgbuild(t, 0, "--no-kernel", "-o", img, app)
	imgbuild(t, 0, "extract", img, dir)
	if out, _ := imgbuild(t, 0, "diff", img, dir); out != "" {
		t.Errorf("the copy differs:\n%s", out)
	}
	st, err := os.Stat(filepath.Join(dir, "holes"))
	if err != nil {
		t.Fatal(err)
	}
	if got := st.Sys().(*syscall.Stat_t).Blocks * 512; got > 8<<20 {
		t.Errorf("a file of %d bytes, nearly all of them in holes, takes %d", st.Size(), got)
	}
}

// TestCopyHoles has the errors of a reader told, and what came before them written.
func TestCopyHoles(t *testing.T) {
	for _, want := range []error{nil, io.ErrUnexpectedEOF, fs.ErrInvalid} {
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		r := io.Reader(iotest.OneByteReader(strings.NewReader("start")))
		if want != nil {
			r = io.MultiReader(r, iotest.ErrReader(want))
		}
		err = copyHoles(f, r)
		f.Close()
		if b, _ := os.ReadFile(f.Name()); !errors.Is(err, want) || string(b) != "start" {
			t.Errorf("%q, %v, want %v", b, err, want)
		}
	}
}

// TestDevicesAndOwners packs device nodes and owners when asked to, and only then.
func TestDevicesAndOwners(t *testing.T) {
	app := folder(t, map[string]string{"file": "x"})
	for name, dev := range map[string]uint64{"null": unix.Mkdev(1, 3), "big": unix.Mkdev(259, 70000)} {
		if err := unix.Mknod(filepath.Join(app, name), unix.S_IFCHR|0o600, int(dev)); err != nil {
			t.Skipf("this user cannot make device nodes: %v", err)
		}
	}
	if err := os.Lchown(filepath.Join(app, "file"), 1000, 70000); err != nil {
		t.Skipf("this user cannot change owners: %v", err)
	}
	img := filepath.Join(t.TempDir(), "x")
	_, stderr := imgbuild(t, 2, "--no-kernel", "-o", img, app)
	contains(t, "a device", stderr, "big is a device node", "--devices")
	imgbuild(t, 2, "convert", app, img, "--to", "rofs")
	imgbuild(t, 2, "diff", app, app)

	imgbuild(t, 0, "--no-kernel", "--devices", "-o", img, app)
	out, _ := imgbuild(t, 0, "ls", "-l", img)
	contains(t, "ls", out, "crw-------     0     0 259, 70000 ", "crw-------     0     0       1, 3 ", "-rw-r--r--     0     0 ")
	imgbuild(t, 0, "diff", "--devices", app, img)
	out, _ = imgbuild(t, 1, "diff", "--devices", "--keep-owner", app, img)
	contains(t, "diff", out, "~ /file: owner")

	imgbuild(t, 0, "--no-kernel", "--devices", "--keep-owner", "--fs", "ext4", "-o", img, app)
	imgbuild(t, 0, "diff", "--devices", "--keep-owner", app, img)
	out, _ = imgbuild(t, 0, "ls", "-l", img)
	contains(t, "ls", out, " 1000 70000 ")
	rofs := img + ".rofs"
	imgbuild(t, 0, "convert", app, rofs, "--to", "rofs", "--devices", "--keep-owner")
	imgbuild(t, 0, "diff", "--devices", "--keep-owner", app, rofs)

	manifest := filepath.Join(t.TempDir(), "usr.manifest")
	if err := os.WriteFile(manifest, []byte("/file: file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	imgbuild(t, 0, "--no-kernel", "--keep-owner", "--manifest", manifest, "-o", img, app)
	out, _ = imgbuild(t, 0, "ls", "-l", img)
	contains(t, "ls", out, " 1000 70000 ")
	_, stderr = imgbuild(t, 2, "--no-kernel", "--devices", "--manifest", manifest, "-o", img, app)
	contains(t, "a manifest", stderr, "--devices is for folders")
}

func TestHelpAndCompletion(t *testing.T) {
	out, _ := imgbuild(t, 0, "--help")
	contains(t, "--help", out, "imgbuild --rofs --compress app/", "--no-kernel", "--cluster-size", "extract", "diff")
	out, _ = imgbuild(t, 0, "completion", "bash")
	contains(t, "completion", out, "imgbuild")
	out, _ = imgbuild(t, 0, "__complete", "--compress=")
	contains(t, "completion of --compress", out, "lz4hc")
	imgbuild(t, 0, "--version")
}
