package boottrace

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lookupTens knows a function of 16 bytes at each multiple of 16 below 0x1000, with a line for each half of it, and an inlined
// function in the second half of those from 0x100 on.
func lookupTens(addr uint64) (int, []Frame) {
	if addr >= 0x1000 {
		return -1, nil
	}
	fn := Frame{Function: fmt.Sprintf("f%d", addr>>4), System: fmt.Sprintf("_f%d", addr>>4), File: "f.c", Line: int(addr >> 3), StartLine: 1}
	if addr >= 0x100 && addr&8 != 0 {
		return 0, []Frame{{Function: "inlined", System: "inlined"}, fn}
	}
	return 0, []Frame{fn}
}

func TestBuilder(t *testing.T) {
	b := NewBuilder(Exact, []Mapping{{Name: "kernel", Limit: 0x1000}}, lookupTens)
	boot := b.Phase("boot")
	if b.Phase("boot") != boot {
		t.Error("a phase twice")
	}
	call := b.Child(0, 0x12, 7)
	if again := b.Child(0, 0x14, 3); again != call {
		t.Errorf("the same line is %d, then %d", call, again)
	}
	leaf := b.Child(call, 0x10c, 8)
	far := b.Child(call, 0x2000, 9)
	loader := b.Named(0, "[loader]", 0)
	if b.Named(0, "[loader]", 0) != loader {
		t.Error("a name twice")
	}
	if got := b.Stack([]uint64{0x10f, 0x17}); got != leaf {
		t.Errorf("the same stack is %d, want %d", got, leaf)
	}
	b.Add(Sample{Stack: leaf, Phase: boot, Instructions: 5})
	b.Add(Sample{Stack: leaf, Phase: boot, Instructions: 6, TouchedBytes: 4096})
	b.Add(Sample{Stack: far, Phase: boot, User: true, Instructions: 1})
	b.Add(Sample{Stack: loader, Phase: -1, TouchedBytes: 8192})
	p := b.Profile()
	if err := p.CheckValid(); err != nil {
		t.Fatal(err)
	}
	want := &Profile{
		Kind:   Exact,
		Phases: []string{"boot"},
		Functions: []Function{
			{"f1", "_f1", "f.c", 1}, {"inlined", "", "", 0}, {"f16", "_f16", "f.c", 1}, {"[loader]", "", "", 0},
		},
		Mappings: []Mapping{{Name: "kernel", Limit: 0x1000}},
		Locations: []Location{
			{0, 0x12, []Line{{0, 2}}}, {0, 0x10c, []Line{{1, 0}, {2, 0x21}}}, {-1, 0x2000, nil}, {-1, 0, []Line{{3, 0}}},
		},
		Stacks:  []Stack{{0, -1, 0}, {0, 0, 0}, {1, 1, 0}, {1, 2, 9}, {0, 3, 0}},
		Samples: []Sample{{Stack: 2, Phase: 0, Instructions: 11, TouchedBytes: 4096}, {Stack: 3, Phase: 0, User: true, Instructions: 1}, {Stack: 4, Phase: -1, TouchedBytes: 8192}},
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
	if n := p.Instructions(); n != 12 {
		t.Errorf("%d instructions in all, want 12", n)
	}
}

func BenchmarkBuilder(b *testing.B) {
	for b.Loop() {
		bl := NewBuilder(Exact, nil, lookupTens)
		node := 0
		for i := range 2_000_000 {
			if i%50 == 0 {
				node = 0
			}
			node = bl.Child(node, uint64(i*7)%0x1000, uint64(i))
			bl.Add(Sample{Stack: node, Instructions: 1})
		}
	}
}
