package qemu

import (
	"debug/elf"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/internal/needs"
	"github.com/firstlight-boot/firstlight/qemu/plugin"
)

// TestTree boots a guest of which it is known how many instructions each function executes, and from where.
func TestTree(t *testing.T) {
	q := find(t)
	kernel := assemble(t, "testdata/calls.S")
	e, err := elf.Open(kernel)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	syms, err := e.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	name := func(addr uint64) string {
		for _, s := range syms {
			if elf.ST_TYPE(s.Info) == elf.STT_FUNC && addr >= s.Value && addr < s.Value+s.Size {
				return s.Name
			}
		}
		return "firmware"
	}
	var landing plugin.Point
	for _, s := range syms {
		if s.Name == "main" {
			landing = plugin.Point{Addr: s.Value, Phase: plugin.PhaseFirst}
		}
	}
	for _, memory := range []bool{false, true} {
		r, _, _ := run(t, q, Config{Kernel: kernel, Counting: &Counting{Tree: true, Memory: memory}, Points: []plugin.Point{landing}})
		if v, ok := r.GuestExit(); !ok || v != 20 {
			t.Fatalf("the guest exited with %d, %v", v, ok)
		}
		tree := r.Counts.Tree
		self, contexts := map[string]uint64{}, map[string]uint64{}
		var pages uint64
		for i, ph := range tree.Phases {
			for _, s := range ph.Spent {
				pages += uint64(s.Pages)
				if s.Cell == 0 {
					continue
				}
				cell := tree.Cells[s.Cell]
				fn := name(tree.Blocks[cell.Block].Addr)
				self[fn] += s.Instructions
				if fn == "firmware" || fn == "start" || fn == "gate" {
					if i != 0 && fn == "gate" {
						t.Errorf("%s is in phase %d", fn, i)
					}
					continue
				}
				if i != 1 {
					t.Errorf("%s is in phase %d", fn, i)
				}
				stack := []string{fn}
				for n := cell.Node; n != 0; n = tree.Nodes[n].Parent {
					frame := name(tree.Nodes[n].Site)
					if tree.Nodes[n].Trap {
						frame += "!"
					}
					if frame == "start" || frame == "firmware" || frame == "firmware!" {
						break
					}
					stack = append([]string{frame}, stack...)
				}
				contexts[strings.Join(stack, ";")] += s.Instructions
			}
		}
		firmware := self["firmware"]
		delete(self, "firmware")
		want := map[string]uint64{
			"start": 18, "gate": 14, "main": 27, "f": 15, "modifier": 4, "modified": 4, "g": 13 * 202, "tailer": 2, "leaf": 9 * 3, "pointer": 3, "switcher": 15, "swap": 12,
			"coroutine": 8, "jumper": 6, "deep": 1, "deeper": 3, "thunked": 2, "thunk": 3, "on_int": 2, "on_ud": 3, "recurse": 42,
		}
		if diff := cmp.Diff(want, self); diff != "" {
			t.Errorf("instructions by function (-want +got):\n%s", diff)
		}
		sum := firmware
		for _, n := range want {
			sum += n
		}
		if sum != r.Counts.Total {
			t.Errorf("the functions have %d instructions with the firmware's %d, and %d were counted", sum, firmware, r.Counts.Total)
		}
		wantContexts := map[string]uint64{
			"main": 27, "main;f": 15, "main;modifier": 4, "main;modifier;modified": 4, "main;f;g": 2020, "main;tailer": 2, "main;leaf": 3, "main;pointer": 3, "main;pointer;leaf": 3,
			"main;switcher": 15, "main;switcher;leaf": 9, "main;switcher;swap": 6, "coroutine": 8, "coroutine;g": 606, "coroutine;swap": 6, // which nobody has called
			"main;jumper": 6, "main;jumper;deep": 1, "main;jumper;deep;deeper": 3, "main;jumper;leaf": 3,
			"main;thunked": 2, "main;thunked;thunk": 1, "main;thunked;thunk;thunk": 2, "main;thunked;leaf": 3,
			"main!;on_int": 2, "main!;on_int;leaf": 3, "main!;on_ud": 3, "main!;on_ud;leaf": 3,
		}
		calls := "recurse;"
		wantContexts["main;recurse"] = 3
		for i := range 10 {
			n := uint64(4)
			if i == 9 {
				n = 3
			}
			wantContexts["main;"+strings.Repeat(calls, i+1)+"recurse"] = n
		}
		if diff := cmp.Diff(wantContexts, contexts); diff != "" {
			t.Errorf("instructions by context (-want +got):\n%s", diff)
		}
		if (pages > 0) != memory || (tree.LoadedPages > 0) != memory {
			t.Errorf("memory %v: %d pages were loaded and %d touched", memory, tree.LoadedPages, pages)
		}
		if tree.Lost != 0 {
			t.Errorf("%d calls were lost", tree.Lost)
		}
	}
}

// assemble makes a kernel of an assembler source.
func assemble(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	object, kernel := filepath.Join(dir, "o"), filepath.Join(dir, "kernel")
	for _, argv := range [][]string{
		{"cc", "-m32", "-c", "-o", object, source},
		{"ld", "-m", "elf_i386", "-z", "noexecstack", "-N", "-Ttext=0x100000", "-e", "start", "-o", kernel, object},
	} {
		needs.Tool(t, argv[0], "gcc binutils")
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	return kernel
}
