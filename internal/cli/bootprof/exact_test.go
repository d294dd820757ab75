package bootprof

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/internal/cli/imgbuild"
	"github.com/firstlight-boot/firstlight/internal/needs"
)

// asmImage builds an image of testdata/apps/NAME.S with our kernel.
func asmImage(t *testing.T, name string) string {
	t.Helper()
	needs.Tool(t, "cc", "gcc")
	dir := t.TempDir()
	app := filepath.Join(dir, name)
	if msg, err := exec.Command("cc", "-nostdlib", "-static", "-o", app, "testdata/apps/"+name+".S").CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, msg)
	}
	img := filepath.Join(dir, name+".img")
	var out bytes.Buffer
	if code := imgbuild.Main([]string{"--rofs", "--compress", "-o", img, app}, &out, &out); code != 0 {
		t.Fatalf("imgbuild: exit code %d\n%s", code, out.String())
	}
	return img
}

// byFunction sums up a profile by the function that was executed, and by stack in functions of the given mapping.
func byFunction(p *boottrace.Profile, mapping string) (self, stacks map[string]uint64) {
	self, stacks = map[string]uint64{}, map[string]uint64{}
	frame := func(stack int) (name, mapping string) {
		l := p.Locations[p.Stacks[stack].Location]
		name = "?"
		if len(l.Lines) > 0 {
			name = p.Functions[l.Lines[0].Function].Name
		}
		if l.Mapping >= 0 {
			mapping = p.Mappings[l.Mapping].Name
		}
		return name, mapping
	}
	for _, s := range p.Samples {
		if s.Stack == 0 {
			self["root"] += s.Instructions
			continue
		}
		name, where := frame(s.Stack)
		self[name] += s.Instructions
		if where != mapping {
			continue
		}
		var names []string
		for i := s.Stack; i != 0; i = p.Stacks[i].Parent {
			name, _ := frame(i)
			names = append([]string{name}, names...)
		}
		stacks[strings.Join(names, ";")] += s.Instructions
	}
	return self, stacks
}

// TestExact compares an exact profile with what is known of a program, and with the plain count.
func TestExact(t *testing.T) {
	needQEMU(t)
	img := asmImage(t, "counts")
	var first *boottrace.Profile
	for _, kinds := range []string{"exact", "exact,memory", "exact"} {
		code, o, stderr := boot(t, img, "--profile", kinds, "--until", "exit", "-n", "0")
		if code != 0 {
			t.Fatalf("--profile %s: exit code %d\n%s", kinds, code, stderr)
		}
		rec, err := boottrace.Open(o.Files[0])
		if err != nil {
			t.Fatal(err)
		}
		p := rec.Exact
		if p == nil {
			t.Fatalf("--profile %s: the recording has no profile", kinds)
		}
		run := rec.Of(boottrace.Counting)[0]
		if p.Instructions() != run.Instructions {
			t.Errorf("--profile %s: %d instructions in the profile, %d in all", kinds, p.Instructions(), run.Instructions)
		}
		self, stacks := byFunction(p, "/counts")
		want := map[string]uint64{"_start": 26, "_start;outer": 7 * 3, "_start;outer;inner": 14 * 2002}
		if diff := cmp.Diff(want, stacks); diff != "" {
			t.Errorf("--profile %s: the program (-want +got):\n%s", kinds, diff)
		}
		named := run.Instructions - self["?"] - self["root"]
		if float64(named) < 0.99*float64(run.Instructions) {
			t.Errorf("--profile %s: only %d of %d instructions are in functions with a name", kinds, named, run.Instructions)
		}
		var touched uint64
		for _, s := range p.Samples {
			touched += s.TouchedBytes
		}
		if memory := strings.Contains(kinds, "memory"); memory && touched != run.TouchedBytes || !memory && touched != 0 {
			t.Errorf("--profile %s: %d bytes in the profile, %d touched", kinds, touched, run.TouchedBytes)
		}
		switch {
		case first == nil:
			first = p
		case kinds == "exact":
			if diff := cmp.Diff(first, p); diff != "" {
				t.Logf("two boots differ:\n%.2000s", diff)
			}
		}
	}
	if code, _, stderr := boot(t, img, "--profile", "exact", "--counting", "0"); code != exitUsage || !strings.Contains(stderr, "--counting 0") {
		t.Errorf("without a counting boot: exit code %d\n%s", code, stderr)
	}
	if code, _, stderr := boot(t, img, "--profile", "exactly"); code != exitUsage || !strings.Contains(stderr, "want exact") {
		t.Errorf("another kind: exit code %d\n%s", code, stderr)
	}
}
