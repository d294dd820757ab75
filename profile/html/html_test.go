package html

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/boottrace/tracetest"
)

func TestWriteIsDeterministic(t *testing.T) {
	var a, b bytes.Buffer
	if err := errors.Join(Write(&a, recorded(3000)), Write(&b, recorded(3000))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the same recording gives different reports")
	}
	if at := bytes.Index(a.Bytes(), []byte("%!")); at >= 0 {
		t.Errorf("a figure was not formatted: %s", a.Bytes()[at:at+40])
	}
}

func TestWriteFails(t *testing.T) {
	for _, n := range []int{0, 100, 60_000} {
		if err := Write(&short{n}, recorded(3000)); err == nil {
			t.Errorf("no error from a writer that fails after %d bytes", n)
		}
	}
}

// short is a writer that fails after so many bytes.
type short struct{ n int }

func (s *short) Write(p []byte) (int, error) {
	if s.n -= len(p); s.n < 0 {
		return 0, errors.New("no space")
	}
	return len(p), nil
}

// TestHostileNames checks that names are never markup: the page has the tags of the template and no others.
func TestHostileNames(t *testing.T) {
	tags := func(r *boottrace.Recording) map[string]bool {
		var b bytes.Buffer
		if err := Write(&b, r); err != nil {
			t.Fatal(err)
		}
		s := b.String()
		if strings.Contains(s, "bad=1</script>") || strings.Contains(s, "<img") || strings.Count(s, "</script") != 2 {
			t.Error("a name became markup")
		}
		start, end := strings.Index(s, `id="data">`)+len(`id="data">`), strings.LastIndex(s, "</script>\n<script>")
		var d data
		if err := json.Unmarshal([]byte(s[start:end]), &d); err != nil {
			t.Errorf("the block of JSON: %v", err)
		}
		set := make(map[string]bool)
		for _, tag := range regexp.MustCompile(`</?[a-zA-Z]+`).FindAllString(s[:start]+s[end:], -1) {
			set[tag] = true
		}
		return set
	}
	good := recorded(3000)
	good.Image = "app.img"
	good.Runs = append([]boottrace.Run(nil), good.Runs...)
	for i := range good.Runs {
		run := &good.Runs[i]
		run.Output = []byte("hello")
		run.Regions = nil
	}
	if diff := cmp.Diff(tags(good), tags(recorded(3000))); diff != "" {
		t.Errorf("names add tags:\n%s", diff)
	}
}

// decoded is a tree with its numbers read, as the page's script reads them.
type decoded struct {
	name          string
	parent, depth int
	self, total   []uint64
}

func decode(t *testing.T, tr *tree) []decoded {
	t.Helper()
	all := []decoded{{name: "all", total: make([]uint64, len(tr.Metrics))}}
	b, last := tr.Nodes, 0
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			t.Fatalf("no number at %d bytes from the end", len(b))
		}
		b = b[n:]
		return v
	}
	for range tr.Count {
		for up := next(); up > 0; up-- {
			last = all[last].parent
		}
		n := decoded{parent: last, depth: all[last].depth + 1, name: tr.Names[next()]}
		for range tr.Metrics {
			n.self = append(n.self, next())
		}
		n.total = append(n.total, n.self...)
		last = len(all)
		all = append(all, n)
	}
	if len(b) > 0 {
		t.Fatalf("%d bytes are left", len(b))
	}
	for i := len(all) - 1; i > 0; i-- {
		for m, v := range all[i].total {
			all[all[i].parent].total[m] += v
		}
	}
	return all
}

func TestTreeHoldsTheProfile(t *testing.T) {
	p := tracetest.Profile(5000)
	tr := newTree(p)
	all := decode(t, tr)
	var touched uint64
	perPhase := make(map[string]uint64)
	for _, s := range p.Samples {
		touched += s.TouchedBytes
		perPhase[p.Phases[s.Phase]] += s.Instructions
	}
	if got, want := all[0].total, []uint64{p.Instructions(), touched}; !cmp.Equal(got, want) {
		t.Errorf("the root has %d, want %d", got, want)
	}
	for _, n := range all {
		if n.depth == 1 && n.total[0] != perPhase[n.name] {
			t.Errorf("phase %s has %d instructions, want %d", n.name, n.total[0], perPhase[n.name])
		}
	}
	if !cmp.Equal(tr.Tones, []int{2, 3, 4}) {
		t.Errorf("the phases' colours are %d", tr.Tones)
	}
}

func TestTreeByHand(t *testing.T) {
	p := &boottrace.Profile{
		Kind: boottrace.Exact, Phases: []string{"kernel", "app"},
		Mappings:  []boottrace.Mapping{{Name: "libc"}},
		Functions: []boottrace.Function{{Name: "main"}, {Name: "f"}, {System: "_g"}, {Name: "f"}},
		Locations: []boottrace.Location{
			{Mapping: -1, Lines: []boottrace.Line{{Function: 0}}},
			{Mapping: -1, Lines: []boottrace.Line{{Function: 2}, {Function: 1}}}, // _g, inlined into f
			{Mapping: 0}, {Mapping: -1},
			{Mapping: -1, Lines: []boottrace.Line{{Function: 3}}}, // another function of the name f
		},
		Stacks: []boottrace.Stack{{Location: -1}, {Location: 0, First: 1}, {Parent: 1, Location: 1, First: 9}, {Parent: 1, Location: 2, First: 5}, {Parent: 1, Location: 4, First: 7}, {Parent: 0, Location: 3, First: 3}},
		Samples: []boottrace.Sample{
			{Stack: 2, Phase: 0, Instructions: 100}, {Stack: 3, Phase: 0, Instructions: 20}, {Stack: 4, Phase: 0, Instructions: 3}, {Stack: 1, Phase: 1, Instructions: 4},
			{Stack: 0, Phase: 1, Instructions: 50}, {Stack: 5, Phase: -1, Instructions: 6},
		},
	}
	var got []string
	for _, n := range decode(t, newTree(p))[1:] {
		got = append(got, strings.Repeat(" ", n.depth-1)+n.name+" "+count(float64(n.self[0]))+" of "+count(float64(n.total[0])))
	}
	want := []string{
		"kernel 0 of 123", " main 0 of 123", "  [libc] 20 of 20", "  f 3 of 103", "   _g 100 of 100",
		"app 50 of 54", " main 4 of 4",
		"[in no phase] 0 of 6", " [unknown] 6 of 6",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the tree (-want +got):\n%s", diff)
	}
}

// TestTreeBounds checks that what no sane profile has costs no more than its size.
func TestTreeBounds(t *testing.T) {
	const stacks = 200_000
	p := &boottrace.Profile{
		Kind: boottrace.Exact, Functions: []boottrace.Function{{Name: "f"}}, Locations: []boottrace.Location{{Mapping: -1, Lines: []boottrace.Line{{Function: 0}}}},
		Stacks: []boottrace.Stack{{Location: -1}},
	}
	for i := range stacks {
		p.Stacks = append(p.Stacks, boottrace.Stack{Parent: i})
		p.Phases = append(p.Phases, "")
		p.Samples = append(p.Samples, boottrace.Sample{Stack: i + 1, Phase: i, Instructions: 1<<64 - 1})
	}
	tr := newTree(p)
	if tr.Count != maxDepth {
		t.Errorf("%d nodes, want %d", tr.Count, maxDepth)
	}
	if newTree(&boottrace.Profile{Kind: boottrace.Sampled}) != nil || newTree(nil) != nil {
		t.Error("a profile with nothing in it has a tree")
	}
}

func TestFormats(t *testing.T) {
	for got, want := range map[string]string{
		count(0): "0", count(1234567): "1,234,567", size(0): "0 B", size(1536): "1.5 KiB", size(100 << 20): "100 MiB", size(1 << 60): "1048576 TiB",
		millis(1.5e6): "1.50", place("a.c", 3): "a.c:3", place("", 3): "", printable([]byte("a\x1b\r\n\xff\u202e")): "a␛\n\ufffd\ufffd",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for phase, want := range map[string]int{"vmm": 1, "vmm+firmware+kernel": 3, "app": 4, "": 0, "other": 0} {
		if got := tone(phase); got != want {
			t.Errorf("the tone of %q is %d, want %d", phase, got, want)
		}
	}
}
