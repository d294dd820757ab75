package bootprof

import (
	"math"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// byStack sums up a profile's instructions or samples by the functions of its stacks, the outermost first.
func byStack(p *boottrace.Profile) (instructions, samples map[string]float64) {
	instructions, samples = map[string]float64{}, map[string]float64{}
	for _, s := range p.Samples {
		var names []string
		for i := s.Stack; i != 0; i = p.Stacks[i].Parent {
			name := "?"
			if l := p.Locations[p.Stacks[i].Location]; len(l.Lines) > 0 {
				name = p.Functions[l.Lines[0].Function].Name
			}
			names = append([]string{name}, names...)
		}
		stack := strings.Join(names, ";")
		instructions[stack] += float64(s.Instructions)
		samples[stack] += float64(s.Count)
	}
	return instructions, samples
}

// TestSample compares a sampled profile with an exact one of the same guest. Its time goes to a loop that is reached in two ways, so
// that the shares of instructions are those of time.
func TestSample(t *testing.T) {
	needQEMU(t)
	img := asmImage(t, "shares")
	code, o, stderr := boot(t, img, "--profile", "exact,sample", "--until", "exit")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	rec, err := boottrace.Open(o.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	if rec.Exact == nil || rec.Sampled == nil {
		t.Fatalf("profiles: exact %v, sampled %v", rec.Exact != nil, rec.Sampled != nil)
	}
	const first, second = "_start;first;spin", "_start;second;spin"
	exact, _ := byStack(rec.Exact)
	_, sampled := byStack(rec.Sampled)
	n := sampled[first] + sampled[second]
	if n < 100 {
		t.Fatalf("only %v samples in the program's loop, of %v", n, sampled)
	}
	want, got := exact[first]/(exact[first]+exact[second]), sampled[first]/n
	// Four standard deviations of a share of n samples: one run in 16,000 is off by more.
	if sigma := math.Sqrt(want * (1 - want) / n); math.Abs(got-want) > 4*sigma {
		t.Errorf("%s: %.1f %% of %v samples, %.1f %% of the instructions", first, 100*got, n, 100*want)
	}
	// The program's share of the whole boot differs by as much as its instructions are faster than others.
	all := 0.0
	for _, v := range sampled {
		all += v
	}
	if n < all/3 {
		t.Errorf("%v of %v samples are in the program's loop, which has nearly all instructions: %v", n, all, sampled)
	}
	var nanos int64
	for _, s := range rec.Sampled.Samples {
		nanos += s.Nanos
	}
	if nanos == 0 || rec.Sampled.PeriodNanos < 500_000 {
		t.Errorf("%d ns in the profile, a sample every %d ns", nanos, rec.Sampled.PeriodNanos)
	}
}
