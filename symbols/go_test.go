package symbols

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/internal/needs"
)

// buildGo builds a Go package.
func buildGo(t testing.TB, flags ...string) string {
	t.Helper()
	needs.Tool(t, "go", "golang")
	path := filepath.Join(t.TempDir(), "prog")
	run(t, "go", append(append([]string{"build", "-o", path}, flags...), "./testdata/goprog")...)
	return path
}

// TestGoLines compares what the runtime's table says with what DWARF says, which is what TestLines has judged by binutils; those
// cannot read Go's version of it.
func TestGoLines(t *testing.T) {
	path := buildGo(t)
	o, stripped, dwarf := open(t, path), open(t, buildGo(t, "-ldflags=-s -w")), open(t, path)
	if got, want := fmt.Sprint(o.Sources(), stripped.Sources()), "[symtab pclntab dwarf] [pclntab]"; got != want {
		t.Errorf("sources %s, want %s", got, want)
	}
	dwarf.pclntab = nil
	same, inlined, all := 0, 0, 0
	for _, name := range o.Names("") {
		addr, size, _ := o.Find(name)
		if !strings.HasPrefix(name, "main.") && !strings.HasPrefix(name, "runtime.m") && !strings.HasPrefix(name, "fmt.") || !o.elf.executable(addr) {
			continue
		}
		for a := addr; a < addr+size; a += 3 {
			got, want := o.Lookup(a), dwarf.Lookup(a)
			if len(got) == 0 {
				continue
			}
			if again := stripped.Lookup(a); !slices.Equal(got, again) {
				t.Fatalf("%#x: got %v, %v when stripped", a, got, again)
			}
			all++
			if len(got) > 1 {
				inlined++
			}
			got, want = slices.Clone(got), slices.Clone(want)
			for i := range want {
				want[i].StartLine, want[i].System = 0, ""
			}
			for i := range got {
				got[i].StartLine, got[i].System = 0, ""
			}
			if slices.Equal(got, want) {
				same++
			} else if all-same < 4 {
				t.Logf("%#x: got %v, DWARF says %v", a, got, want)
			}
		}
	}
	t.Logf("%d addresses, %d inlined, %d as DWARF has them", all, inlined, same)
	// The two tables are made apart; some instructions have a line in one of them only.
	if inlined < 1000 || same < all*95/100 {
		t.Errorf("%d of %d addresses are as DWARF has them, %d inlined", same, all, inlined)
	}
}

// generic is what the runtime leaves out of names.
var generic = regexp.MustCompile(`\[.*\]`)

// TestGoRuntime compares all of the test's own code with what the runtime says of it.
func TestGoRuntime(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the test itself is no 64-bit ELF file")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := open(t, self)
	addr, _, ok := o.Find("runtime.main")
	if !ok {
		t.Fatal("runtime.main is not there")
	}
	frame, _ := runtime.CallersFrames([]uintptr{uintptr(addr) + 1}).Next()
	if frame.Function != "runtime.main" {
		t.Skip("the test was built position-independent: the runtime's addresses are others")
	}
	checked := 0
	text := o.Text()[0]
	for a := text.Start + 7; a < text.Limit; a += 101 {
		frame, _ := runtime.CallersFrames([]uintptr{uintptr(a) + 1}).Next()
		frames := o.Lookup(a)
		if frame.Function == "" || uint64(frame.Entry) > a {
			continue // no function, or just before one
		}
		checked++
		if len(frames) == 0 {
			t.Fatalf("%#x: nothing, the runtime says %+v", a, frame)
		}
		f := frames[0]
		if f.File == "" {
			f.File = "?"
		}
		if generic.ReplaceAllString(f.Function, "[...]") != frame.Function || f.File != frame.File || f.Line != frame.Line || f.Start != uint64(frame.Entry) {
			t.Fatalf("%#x: got %+v, the runtime says %+v", a, f, frame)
		}
	}
	t.Logf("%d addresses", checked)
	if checked < 1000 {
		t.Errorf("only %d addresses were checked", checked)
	}
}

// TestGoStack compares a stack with inlined functions in it with what the program itself prints.
func TestGoStack(t *testing.T) {
	needs.Tool(t, "gcc", "gcc")
	for _, flags := range [][]string{nil, {"-ldflags=-s -w"}, {"-buildmode=pie"}, {"-buildmode=pie", "-ldflags=-s -w"}, {"-ldflags=-linkmode=external -s"}, {"-trimpath"}} {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			path := buildGo(t, flags...)
			o := open(t, path)
			want := run(t, path)
			addr, size, ok := o.Find("main.outer")
			if !ok {
				t.Fatal("main.outer is not there")
			}
			found := false
			for a := addr; a < addr+size; a++ {
				var got strings.Builder
				for _, f := range o.Lookup(a) {
					fmt.Fprintf(&got, "%s %s:%d\n", f.Function, f.File, f.Line)
				}
				found = found || strings.HasPrefix(got.String(), "main.callers ") && strings.Contains(want, got.String())
			}
			if !found {
				t.Errorf("no address in main.outer is in main.callers as the program says:\n%s", want)
			}
			frames := o.Lookup(addr)
			if f := frames[len(frames)-1]; f.StartLine != 26 || f.Start != addr || !strings.HasSuffix(f.File, "goprog/main.go") {
				t.Errorf("main.outer is %+v", f)
			}
		})
	}
}

func TestGoNames(t *testing.T) {
	needs.Tool(t, "nm", "binutils")
	path := buildGo(t)
	o := open(t, path)
	checkNames(t, o, path)
	if got := o.BuildID(); len(got) < 40 {
		t.Errorf("build ID %q", got)
	}
	if names := o.Names("main."); !slices.Contains(names, "main.outer") || !slices.Contains(names, "main.main") {
		t.Errorf("names %q", names)
	}
	for _, name := range []string{"main.outer", "main.main", "runtime.rt0_go", "runtime.memmove"} {
		want, _, _ := o.Find(name)
		stripped := open(t, buildGo(t, "-ldflags=-s -w"))
		if got, size, ok := stripped.Find(name); !ok || got != want || size == 0 {
			t.Errorf("%s: %#x stripped, %#x otherwise", name, got, want)
		}
	}
}

// TestKernel looks into our own kernel, which has no section headers, and into an image, which has it further on.
func TestKernel(t *testing.T) {
	const path = "../internal/kernelbuild/embed/kernel.elf"
	if st, err := os.Stat(path); err != nil || st.Size() < 1<<16 {
		needs.Missing(t, path+" is not built: make kernel")
	}
	o := open(t, path)
	if got := fmt.Sprint(o.Sources()); got != "[pclntab]" {
		t.Errorf("sources %s", got)
	}
	for _, name := range []string{"runtime.schedinit", "main.main", "github.com/firstlight-boot/firstlight/kernel/ring0.entry"} {
		addr, size, ok := o.Find(name)
		if !ok || size == 0 {
			t.Errorf("%s is not there", name)
			continue
		}
		frames := o.Lookup(addr)
		if len(frames) == 0 || frames[len(frames)-1].Function != name || frames[0].Line == 0 {
			t.Errorf("%s at %#x: %+v", name, addr, frames)
		}
	}
	if n := len(o.Names("github.com/firstlight-boot/firstlight/kernel/ring0.")); n < 50 {
		t.Errorf("%d names in ring0", n)
	}
	// Between functions is nothing but padding.
	unnamed, inlined, all := 0, 0, 0
	for _, r := range o.Text() {
		if r.Start < 1<<63 {
			continue // the trampoline, which no compiler made
		}
		code := make([]byte, r.Limit-r.Start)
		o.Code(r.Start, code)
		for i, c := range code {
			frames := o.Lookup(r.Start + uint64(i))
			if c != 0 && c != 0xcc {
				all++
				if len(frames) == 0 {
					unnamed++
				}
			}
			if len(frames) > 1 {
				inlined++
			}
		}
	}
	t.Logf("%d bytes of code, %d without a name, %d inlined", all, unnamed, inlined)
	if unnamed > all/1000 || inlined < all/100 {
		t.Errorf("%d of %d bytes of code have no name, %d are inlined", unnamed, all, inlined)
	}

	// A disk has a copy of the program headers in its first block, moved to where the kernel is.
	kernel, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const moved = 24576
	disk := make([]byte, moved+len(kernel))
	copy(disk, kernel[:512])
	copy(disk[moved:], kernel)
	for i := range int(kernel[56]) {
		off := disk[64+56*i+8:]
		le.PutUint64(off, le.Uint64(off)+moved)
	}
	image := filepath.Join(t.TempDir(), "app.img")
	if err := os.WriteFile(image, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	i := open(t, image)
	addr, _, _ := o.Find("main.main")
	if got, want := i.Lookup(addr), o.Lookup(addr); !slices.Equal(got, want) {
		t.Errorf("in an image: %+v, in the kernel %+v", got, want)
	}
}
