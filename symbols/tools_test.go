package symbols

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/internal/needs"
)

// run runs a command and returns its output.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, stderr.String())
	}
	return stdout.String()
}

func open(t testing.TB, path string) *Object {
	t.Helper()
	// Without the system's debug files, which other machines do not have.
	o, err := Open(path, Options{DebugDirs: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	if n := o.Notices(); len(n) > 0 {
		t.Errorf("%s: %q", path, n)
	}
	return o
}

// place is what addr2line says of a frame.
type place struct{ function, at string }

// addr2line asks binutils for the frames at each address.
func addr2line(t testing.TB, path string, addrs []uint64, flags ...string) [][]place {
	t.Helper()
	cmd := exec.Command("addr2line", append([]string{"-a", "-f", "-i", "-e", path}, flags...)...)
	var in strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&in, "%#x\n", a)
	}
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("addr2line: %v", err)
	}
	var all [][]place
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i := 0; i < len(lines); {
		if strings.HasPrefix(lines[i], "0x") {
			all = append(all, nil)
			i++
			continue
		}
		at, _, _ := strings.Cut(lines[i+1], " (discriminator")
		all[len(all)-1] = append(all[len(all)-1], place{lines[i], at})
		i += 2
	}
	if len(all) != len(addrs) {
		t.Fatalf("addr2line answered %d of %d", len(all), len(addrs))
	}
	return all
}

func places(frames []Frame) []place {
	var p []place
	for _, f := range frames {
		at := f.File
		if at == "" {
			at = "??"
		}
		line := "?"
		if f.Line > 0 {
			line = strconv.Itoa(f.Line)
		}
		p = append(p, place{f.Function, at + ":" + line})
	}
	return p
}

// TestLines compares all of a C program's text with addr2line, in every form in which compilers write its lines.
func TestLines(t *testing.T) {
	needs.Tool(t, "gcc", "gcc")
	needs.Tool(t, "addr2line", "binutils")
	dir := t.TempDir()
	for _, flags := range []string{
		"-gdwarf-5 -O2", "-gdwarf-4 -O2", "-gdwarf-5 -O0", "-gdwarf-5 -O2 -no-pie", "-gdwarf-5 -O2 -gz=zlib", "-gdwarf-4 -O3 -flto",
		"-gdwarf-5 -O2 -static", "-gdwarf-5 -O2 -ffunction-sections -Wl,--gc-sections", "-gdwarf-5 -O2 -shared -fPIC", "-g -O2 -gdwarf64",
	} {
		t.Run(flags, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(flags, " ", ""))
			run(t, "gcc", append(strings.Fields(flags), "-o", path, "testdata/prog.c")...)
			o := open(t, path)
			if want := "[symtab dwarf]"; fmt.Sprint(o.Sources()) != want {
				t.Errorf("sources %v, want %s", o.Sources(), want)
			}
			// binutils 2.40 reads no 64-bit DWARF; the code is the same.
			if twin := strings.TrimSuffix(flags, " -gdwarf64"); twin != flags {
				path += "-twin"
				run(t, "gcc", append(strings.Fields(twin), "-o", path, "testdata/prog.c")...)
			}
			checkLines(t, o, path, []string{"main", "split", "alone", "rare", "split.cold"})
		})
	}
}

// checkLines compares functions with addr2line, at every address.
func checkLines(t *testing.T, o *Object, path string, functions []string) {
	t.Helper()
	var addrs []uint64
	for _, name := range functions {
		addr, size, ok := o.Find(name)
		if !ok {
			continue // inlined, or split not
		}
		for a := addr; a < addr+size; a++ {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) < 100 {
		t.Fatalf("only %d addresses", len(addrs))
	}
	inlined := 0
	for i, want := range addr2line(t, path, addrs) {
		frames := o.Lookup(addrs[i])
		got := places(frames)
		if len(got) > 1 {
			inlined++
		}
		for j := range got {
			got[j].function = strings.TrimSuffix(got[j].function, ".cold") // which DWARF knows nothing of
		}
		for j := range want {
			want[j].function = strings.TrimSuffix(want[j].function, ".cold")
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%#x: got %v, addr2line says %v", addrs[i], got, want)
		}
		if addr, _, ok := o.Find(frames[len(frames)-1].System); !ok || addr != frames[0].Start {
			t.Fatalf("%#x: function starts at %#x, %s is at %#x", addrs[i], frames[0].Start, frames[len(frames)-1].System, addr)
		}
	}
	t.Logf("%d addresses, %d of them inlined", len(addrs), inlined)
}

// TestNames compares the symbols with nm, by name and by address.
func TestNames(t *testing.T) {
	needs.Tool(t, "gcc", "gcc")
	needs.Tool(t, "nm", "binutils")
	path := filepath.Join(t.TempDir(), "prog")
	run(t, "gcc", "-O2", "-static", "-o", path, "testdata/prog.c")
	o := open(t, path)
	checkNames(t, o, path)
	if got, want := fmt.Sprint(o.Names("__libc_st")), "[__libc_stack_end __libc_start_call_main __libc_start_main __libc_start_main_impl"; !strings.HasPrefix(got, want) {
		t.Errorf("names %s, want %s", got, want)
	}
	if _, _, ok := o.Find("no such function"); ok {
		t.Error("found what is not there")
	}
	if o.Lookup(0) != nil || o.Lookup(1<<63) != nil {
		t.Error("found a name for no address")
	}
}

// checkNames finds each function that nm lists, and each at its addresses.
func checkNames(t *testing.T, o *Object, path string) {
	t.Helper()
	type at struct{ addr, size uint64 }
	places, alias := map[string][]at{}, map[string][]at{}
	s := bufio.NewScanner(strings.NewReader(run(t, "nm", "-S", "--defined-only", path)))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		f := strings.SplitN(s.Text(), " ", 4)
		if len(f) != 4 || !strings.Contains("tTwW", f[2]) {
			continue
		}
		addr, err1 := strconv.ParseUint(f[0], 16, 64)
		size, err2 := strconv.ParseUint(f[1], 16, 64)
		if err1 == nil && err2 == nil && size > 0 {
			places[f[3]] = append(places[f[3]], at{addr, size})
			// Go's own table does not tell a function from the other calling convention's.
			if name, ok := strings.CutSuffix(f[3], ".abi0"); ok {
				alias[name] = append(alias[name], at{addr, size})
			}
		}
	}
	if len(places) < 100 {
		t.Fatalf("nm lists only %d functions", len(places))
	}
	for name, want := range places {
		addr, size, ok := o.Find(name)
		if !ok || !slices.Contains(want, at{addr, size}) {
			t.Errorf("%s: got %#x + %d, %v, nm says %#x", name, addr, size, ok, want)
		}
		for _, w := range want {
			for _, a := range []uint64{w.addr, w.addr + w.size/2, w.addr + w.size - 1} {
				frames := o.Lookup(a)
				if len(frames) == 0 {
					t.Errorf("%#x in %s has no name", a, name)
					continue
				}
				// Several names may stand for one address.
				got := strings.ReplaceAll(frames[len(frames)-1].System, "·", ".")
				if got != name && !slices.ContainsFunc(append(alias[got], places[got]...), func(p at) bool { return p.addr <= a && a < p.addr+p.size }) {
					t.Errorf("%#x in %s is in %s", a, name, got)
				}
			}
		}
	}
}

// TestCPlusPlus compares demangled names.
func TestCPlusPlus(t *testing.T) {
	needs.Tool(t, "g++", "g++")
	needs.Tool(t, "addr2line", "binutils")
	path := filepath.Join(t.TempDir(), "prog")
	run(t, "g++", "-g", "-O2", "-o", path, "testdata/prog.cc")
	o := open(t, path)
	for _, name := range []string{
		"outer::(anonymous namespace)::Hidden::get", "outer::Box<int>::add", "outer::Box<double>::add", "outer::use", "outer::Box<int>::operator<",
	} {
		addr, size, ok := o.Find(name)
		if !ok || size == 0 {
			t.Errorf("%s is not there", name)
			continue
		}
		for i, want := range addr2line(t, path, []uint64{addr, addr + size - 1}, "-C") {
			frames := o.Lookup(addr + uint64(i)*(size-1))
			last, outer := frames[len(frames)-1], want[len(want)-1]
			// binutils shows parameters, and const behind them.
			if function := strings.TrimSuffix(outer.function, " const"); last.Function != name || !strings.HasPrefix(function, name+"(") {
				t.Errorf("%s: got %+v, addr2line says %v", name, frames, want)
			}
			if len(frames) != len(want) || last.System == last.Function || last.Line == 0 {
				t.Errorf("%s: got %+v, addr2line says %v", name, frames, want)
			}
		}
	}
	// helper is inlined into twice, and that into main's lambda or into main.
	found := false
	for _, r := range o.Text() {
		for a := r.Start; a < r.Limit; a++ {
			frames := o.Lookup(a)
			found = found || len(frames) > 1 && frames[0].Function == "outer::Box<int>::helper" && frames[0].Line == 25
		}
	}
	if !found {
		t.Error("no trace of outer::Box<int>::helper, which is inlined")
	}
	for _, c := range [][2]string{
		{"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad"},
		{"_RNvCs1234_7mycrate3foo", "mycrate::foo"},
		{"_RNvCs", "_RNvCs"},
		{"_Zebra", "_Zebra"},
		{"runtime.main", "runtime.main"},
	} {
		if got := demangled(c[0]); got != c[1] {
			t.Errorf("%s is %s, want %s", c[0], got, c[1])
		}
	}
}

// TestStubs names the ways through which calls to libraries go.
func TestStubs(t *testing.T) {
	needs.Tool(t, "gcc", "gcc")
	needs.Tool(t, "objdump", "binutils")
	for _, flags := range []string{"-O2", "-O2 -fcf-protection=full", "-O2 -fcf-protection=none -Wl,-z,now", "-O2 -no-pie"} {
		path := filepath.Join(t.TempDir(), "prog")
		run(t, "gcc", append(strings.Fields(flags), "-o", path, "testdata/prog.c")...)
		run(t, "strip", path)
		o := open(t, path)
		if want := "[dynsym]"; fmt.Sprint(o.Sources()) != want {
			t.Errorf("%s: sources %v, want %s", flags, o.Sources(), want)
		}
		stubs := 0
		for line := range strings.Lines(run(t, "objdump", "-d", path)) {
			// 0000000000001030 <puts@plt>:
			addr, name, ok := strings.Cut(strings.TrimSpace(line), " <")
			name, plt := strings.CutSuffix(name, "@plt>:")
			if !ok || !plt {
				continue
			}
			stubs++
			a, err := strconv.ParseUint(addr, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			if frames := o.Lookup(a); len(frames) != 1 || frames[0].Function != name+"@plt" {
				t.Errorf("%s: %#x: got %v, objdump says %s", flags, a, frames, name)
			}
		}
		if stubs < 3 {
			t.Errorf("%s: objdump names %d stubs", flags, stubs)
		}
	}
}

// TestDebugFile splits a program's debug information off, as distributions do.
func TestDebugFile(t *testing.T) {
	needs.Tool(t, "gcc", "gcc")
	needs.Tool(t, "objcopy", "binutils")
	dir := t.TempDir()
	full, stripped := filepath.Join(dir, "full"), filepath.Join(dir, "bin", "prog")
	run(t, "gcc", "-g", "-O2", "-Wl,--build-id=sha1", "-o", full, "testdata/prog.c")
	want := open(t, full)
	id := want.BuildID()
	if notes := run(t, "readelf", "-n", full); len(id) != 40 || !strings.Contains(notes, id) {
		t.Fatalf("build ID %q, readelf says %s", id, notes)
	}
	system := filepath.Join(dir, "debug")
	byID := filepath.Join(system, ".build-id", id[:2], id[2:]+".debug")
	for _, d := range []string{filepath.Dir(stripped), filepath.Dir(byID), filepath.Join(system, filepath.Dir(stripped)), filepath.Join(dir, "bin", ".debug")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	debug := filepath.Join(dir, "prog.debug")
	run(t, "objcopy", "--only-keep-debug", full, debug)
	run(t, "objcopy", "--strip-all", "--add-gnu-debuglink="+debug, full, stripped)

	other := filepath.Join(dir, "other.debug")
	run(t, "gcc", "-g", "-O1", "-Wl,--build-id=sha1", "-o", other, "testdata/prog.c")
	noID, noIDDebug := filepath.Join(dir, "noid"), filepath.Join(dir, "noid.debug")
	run(t, "gcc", "-g", "-O2", "-Wl,--build-id=none", "-o", noID, "testdata/prog.c")
	run(t, "objcopy", "--only-keep-debug", noID, noIDDebug)
	noIDStripped := filepath.Join(dir, "bin", "noid")
	run(t, "objcopy", "--strip-all", "--add-gnu-debuglink="+noIDDebug, noID, noIDStripped)

	for _, c := range []struct {
		name, program, debug, at string
		used                     bool
		notice                   string
	}{
		{"none", stripped, "", "", false, ""},
		{"by build ID", stripped, debug, byID, true, ""},
		{"by link", stripped, debug, filepath.Join(dir, "bin", "prog.debug"), true, ""},
		{"by link, hidden", stripped, debug, filepath.Join(dir, "bin", ".debug", "prog.debug"), true, ""},
		{"by link, system", stripped, debug, filepath.Join(system, dir, "bin", "prog.debug"), true, ""},
		{"another build, by build ID", stripped, other, byID, false, "has build ID"},
		{"another build, by link", stripped, other, filepath.Join(dir, "bin", "prog.debug"), false, "has build ID"},
		{"no build ID", noIDStripped, noIDDebug, filepath.Join(dir, "bin", "noid.debug"), true, ""},
		{"no build ID, another build", noIDStripped, debug, filepath.Join(dir, "bin", "noid.debug"), false, "CRC-32"},
		{"damaged", stripped, "testdata/prog.c", byID, false, "debug file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.debug != "" {
				b, err := os.ReadFile(c.debug)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(c.at, b, 0o644); err != nil {
					t.Fatal(err)
				}
				defer os.Remove(c.at)
			}
			o, err := Open(c.program, Options{DebugDirs: []string{system}})
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			if used := slices.Contains(o.Sources(), "debug file "+c.at); used != c.used {
				t.Errorf("sources %q", o.Sources())
			}
			if notices := strings.Join(o.Notices(), "\n"); !strings.Contains(notices, c.notice) || c.notice == "" && notices != "" {
				t.Errorf("notices %q, want %q", notices, c.notice)
			}
			addr, size, _ := want.Find("alone")
			for a := addr; a < addr+size; a++ {
				got := o.Lookup(a)
				if !c.used && got != nil {
					t.Fatalf("%#x: %v, without symbols", a, got)
				}
				if w := want.Lookup(a); c.used && !slices.Equal(got, w) {
					t.Fatalf("%#x: got %v, want %v", a, got, w)
				}
			}
			if p := make([]byte, 4); o.Code(addr, p) != 4 || bytes.Equal(p, make([]byte, 4)) {
				t.Errorf("code at %#x: %x", addr, p)
			}
		})
	}
}

// TestText compares segments and their bytes with debug/elf.
func TestText(t *testing.T) {
	needs.Tool(t, "gcc", "gcc")
	path := filepath.Join(t.TempDir(), "prog")
	run(t, "gcc", "-O2", "-o", path, "testdata/prog.c")
	o := open(t, path)
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var want []Range
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 {
			want = append(want, Range{p.Vaddr, p.Vaddr + p.Filesz, p.Off})
			code := make([]byte, p.Filesz)
			if _, err := io.ReadFull(p.Open(), code); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, p.Filesz)
			if n := o.Code(p.Vaddr, got); n != len(got) || !bytes.Equal(got, code) {
				t.Errorf("code of %#x: %d bytes", p.Vaddr, n)
			}
		}
	}
	if got := o.Text(); !slices.Equal(got, want) {
		t.Errorf("text %v, want %v", got, want)
	}
	if n := o.Code(0xdead0000, make([]byte, 4)); n != 0 {
		t.Errorf("%d bytes of code where there is none", n)
	}
}
