package testprog

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/qemu"
)

var realRounds = flag.Int("real", 1, "times that TestReal boots each program")

// realPrograms are programs that others wrote and built. Each runs under the host's Linux and in the guest, in the folder /work; what it
// writes goes to ../tmp, which is /tmp in the guest. WORK in an argument becomes the folder's path on the host.
var realPrograms = []struct {
	name, file, pkg string // file is the program on the host; without a folder it is one of the Go distribution
	env             string
	args            []string
}{
	{"busybox-sha256sum", "/bin/busybox", "busybox-static", "", []string{"sha256sum", "bytes", "text"}},
	{"busybox-awk", "/bin/busybox", "busybox-static", "", []string{"awk", "{n += NF; c[length($2)]++} END {for (i = 0; i < 9; i++) print i, c[i]; print n; exit 3}", "text"}},
	{"busybox-sort", "/bin/busybox", "busybox-static", "", []string{"sort", "-k2", "-r", "text"}},
	{"busybox-gzip", "/bin/busybox", "busybox-static", "", []string{"gzip", "-9", "-c", "text"}},
	{"busybox-cat", "/bin/busybox", "busybox-static", "", []string{"cat", "text", "none"}},
	{"python", "/usr/bin/python3", "python3-minimal", "PYTHONDONTWRITEBYTECODE=1", []string{"-S", "real.py"}},
	{"perl", "/usr/bin/perl", "perl-base", "", []string{"real.pl"}},
	{"lua", "/usr/bin/lua5.4", "lua5.4", "", []string{"real.lua"}},
	{"sqlite", "/usr/bin/sqlite3", "sqlite3", "HOME=/", []string{"-batch", "../tmp/db", ".read real.sql"}},
	{"openssl", "/usr/bin/openssl", "openssl", "", []string{"dgst", "-sha3-256", "bytes", "text"}},
	{"xz", "/usr/bin/xz", "xz-utils", "", []string{"-T2", "--block-size=64KiB", "-c", "bytes"}},
	{"zstd", "/usr/bin/zstd", "zstd", "", []string{"-T2", "-q", "-c", "text"}},
	{"git", "/usr/bin/git", "git", "HOME=/none", []string{"hash-object", "text", "bytes"}},
	{"gofmt", "gofmt", "", "", []string{"-s", "list.go"}},
	{"go-compile", "compile", "", "", []string{"-p", "list", "-c", "4", "-trimpath", "WORK=>;/work=>", "-S", "-o", "../tmp/list.o", "list.go"}},
}

// TestReal runs real programs on the host and in the guest: output and exit status have to be the same. All are in one image.
func TestReal(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the host is not Linux on x86-64")
	}
	q := emulator(t)
	root := t.TempDir()
	work := filepath.Join(root, "work")
	realData(t, work)
	if err := os.Mkdir(filepath.Join(root, "tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	inGuest := make([]string, len(realPrograms))
	missing := make([]error, len(realPrograms))
	for i, p := range realPrograms {
		if !strings.Contains(p.file, "/") {
			inGuest[i] = "/go/" + p.file
			stageFile(t, root, goProgram(t, p.file), inGuest[i])
			continue
		}
		inGuest[i] = p.file
		if _, missing[i] = os.Stat(p.file); missing[i] == nil {
			stage(t, root, p.file)
		}
	}
	stagePython(t, root)
	img := makeImage(t, vmSpec{dir: root, args: []string{"/none"}})
	for i, p := range realPrograms {
		t.Run(p.name, func(t *testing.T) {
			if missing[i] != nil {
				needs.Missing(t, fmt.Sprintf("%s is not installed: apt-get install %s", p.file, p.pkg))
			}
			if err := os.RemoveAll(filepath.Join(root, "tmp")); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(root, "tmp"), 0o777); err != nil {
				t.Fatal(err)
			}
			env := []string{"LC_ALL=C"}
			if p.env != "" {
				env = append(env, p.env)
			}
			args := slices.Clone(p.args)
			for j := range args {
				args[j] = strings.ReplaceAll(args[j], "WORK", work)
			}
			host := exec.CommandContext(limited(t), filepath.Join(root, inGuest[i]), args...)
			host.Args[0], host.Dir, host.Env = inGuest[i], work, env
			want, err := host.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			escape := strings.NewReplacer(`\`, `\\`, " ", `\ `).Replace
			line := "cwd=/work init=" + inGuest[i]
			for _, a := range args {
				line += " arg=" + escape(a)
			}
			for _, e := range env {
				line += " env=" + escape(e)
			}
			for range *realRounds {
				e, err := runImage(t.Context(), q, qemu.Config{Kernel: img, Disks: []string{img}, MemoryBytes: 256 << 20, Append: line}, 0)
				if err != nil {
					t.Fatal(err)
				}
				// The console's text comes without carriage returns, which binary output may have.
				got, want := e.console, strings.ReplaceAll(string(want), "\r", "")
				if e.how != abi.EndExited || int(e.code) != host.ProcessState.ExitCode() || got != want {
					at := 0
					for at < min(len(got), len(want)) && got[at] == want[at] {
						at++
					}
					t.Fatalf("on the host: exit %d, %d bytes of output; the guest's %d differ from byte %d on: %.80q, want %.80q\n%v",
						host.ProcessState.ExitCode(), len(want), len(got), at, got[at:], want[at:], e)
				}
			}
		})
	}
}

// realData makes the files that the programs read.
func realData(t *testing.T, work string) {
	data(t, work)
	var text bytes.Buffer
	words := strings.Fields("a unikernel is the program and what it needs of a kernel; nothing else aa bookkeeper Aardvark lies in between")
	for i := range 2000 {
		fmt.Fprintf(&text, "%d %s %s\n", i*i, words[i*i%97%len(words)], words[i%len(words)])
	}
	write(t, filepath.Join(work, "text"), text.Bytes(), 0o644)
	scripts, err := filepath.Glob("real/*")
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	for _, s := range scripts {
		stageFile(t, work, s, filepath.Base(s))
	}
	stageFile(t, work, filepath.Join(goEnv(t, "GOROOT"), "src/container/list/list.go"), "list.go")
}

func goEnv(t *testing.T, name string) string {
	out, err := exec.CommandContext(limited(t), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// goProgram returns the path of a program of the Go distribution.
func goProgram(t *testing.T, name string) string {
	if name == "compile" {
		return filepath.Join(goEnv(t, "GOTOOLDIR"), name)
	}
	return filepath.Join(goEnv(t, "GOROOT"), "bin", name)
}

// stageFile copies a file of the host into a folder that becomes a root.
func stageFile(t *testing.T, root, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	to = filepath.Join(root, to)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, to, b, info.Mode().Perm())
}

// stage copies a program of the host, or a library, and the libraries that it needs to the same paths in root.
func stage(t *testing.T, root, file string) {
	t.Helper()
	stageFile(t, root, file, file)
	stageLibraries(t, root, file)
}

var libraryPath = regexp.MustCompile(`(?m)^\s(?:\S+ => )?(/\S+) \(0x`)

func stageLibraries(t *testing.T, root, file string) {
	t.Helper()
	out, _ := exec.CommandContext(limited(t), needs.Tool(t, "ldd", "libc-bin"), file).Output() // it fails for a static program
	for _, m := range libraryPath.FindAllStringSubmatch(string(out), -1) {
		stageFile(t, root, m[1], m[1])
	}
}

// stagePython copies the modules that real.py imports, in that the host's Python tells where it found them.
func stagePython(t *testing.T, root string) {
	const list = `import re, sys
exec(next(l for l in open("real/real.py") if l.startswith("import ")))
import encodings.ascii, encodings.latin_1
print("\n".join(m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)))`
	out, err := exec.CommandContext(limited(t), "/usr/bin/python3", "-S", "-c", list).Output()
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range strings.Fields(string(out)) {
		stageFile(t, root, file, file)
		if strings.HasSuffix(file, ".so") {
			stageLibraries(t, root, file)
		}
	}
}

// A dynamic program reads the clock without the kernel too, and a static one's checks of time hold for it.
func TestDynamicClock(t *testing.T) {
	dir := t.TempDir()
	needs.Tool(t, "gcc", "gcc libc6-dev")
	prog := filepath.Join(dir, "sched")
	run(t, "gcc", "-O1", "-w", "-pthread", "-o", prog, "c/sched.c")
	stageLibraries(t, dir, prog)
	e := boot(t, vmSpec{dir: dir, args: []string{"/sched"}, counting: true})
	if e.how != abi.EndExited || e.code != 0 || !strings.Contains(e.console, "ok vdso\n") {
		t.Error(e)
	}
}
