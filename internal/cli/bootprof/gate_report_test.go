package bootprof

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/boottrace/budget"
)

var updateGate = flag.Bool("update-gate", false, "write testdata/gate anew")

// goldenGate compares with a file of testdata/gate.
func goldenGate(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "gate", name)
	if *updateGate {
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s:\n%s", name, diff)
	}
}

// gateHere runs bootprof gate in a folder of its own with a recording of a boot that takes a fifth more than the baseline.
func gateHere(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("testdata", "gate"))
	if err != nil {
		t.Fatal(err)
	}
	base, rec := save(t, recorded(1)), save(t, recorded(1.2))
	file, err := os.ReadFile(filepath.Join(dir, "budget.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for from, to := range map[string]string{base: "base", rec: "rec"} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("budget.yaml", file, 0o666); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = bootprof(t, append([]string{"gate", "rec", "--baseline", "base", "--budget", "budget.yaml"}, args...)...)
	here, _ := os.Getwd()
	t.Chdir(filepath.Dir(filepath.Dir(dir)))
	return code, stdout, strings.ReplaceAll(stderr, here, "HERE")
}

func TestGateGolden(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "")
	dir := t.TempDir()
	junit, summary := filepath.Join(dir, "gate.xml"), filepath.Join(dir, "summary.md")
	t.Setenv("GITHUB_STEP_SUMMARY", summary)
	code, stdout, stderr := gateHere(t, "--github", "--junit", junit)
	if code != exitBudget {
		t.Errorf("exit code %d", code)
	}
	goldenGate(t, "text.golden", stdout+stderr)
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	goldenGate(t, "junit.golden", read(junit))
	goldenGate(t, "summary.golden", read(summary))
	if err := xml.Unmarshal([]byte(read(junit)), new(struct{ XMLName xml.Name })); err != nil {
		t.Error(err)
	}
}

func TestGateJSON(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "true")
	t.Setenv("GITHUB_STEP_SUMMARY", "")
	code, stdout, stderr := gateHere(t, "--json", "--strict")
	goldenGate(t, "json.golden", stdout)
	var o gateObject
	if err := json.Unmarshal([]byte(stdout), &o); err != nil || code != exitBudget || o.Verdict != budget.Fail {
		t.Errorf("exit code %d, verdict %s, %v", code, o.Verdict, err)
	}
	if n := strings.Count(stderr, "::error file=budget.yaml,line="); n != 7 || strings.Contains(stderr, "::warning file=budget.yaml,line=") {
		t.Errorf("%d annotations with GITHUB_ACTIONS=true and --strict\n%s", n, stderr)
	}
}

// TestGithubEscapes takes apart what was escaped, as GitHub's runner does.
func TestGithubEscapes(t *testing.T) {
	f, err := budget.Parse("a,b:c%.yaml", []byte("total: 1ms"))
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{file: f, results: []budget.Result{{Limit: &f.Limits[0], Verdict: budget.Unmeasured, Why: "100%\r\n::error::no"}}}
	var b bytes.Buffer
	if err := g.annotate(&b, f.Name); err != nil {
		t.Fatal(err)
	}
	want := "::error file=a%2Cb%3Ac%25.yaml,line=1,title=Boot budget not measured%3A total::total 1ms could not be measured: 100%25%0D%0A::error::no\n"
	if b.String() != want {
		t.Errorf("got %q\nwant %q", b.String(), want)
	}
}

func TestInWorkspace(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, tt := range []struct{ workspace, path, want string }{
		{"", "x/b.yaml", "x/b.yaml"},
		{dir, "x/b.yaml", "x/b.yaml"},
		{filepath.Dir(dir), "b.yaml", filepath.Base(dir) + "/b.yaml"},
		{filepath.Join(dir, "other"), "b.yaml", "b.yaml"},
	} {
		t.Setenv("GITHUB_WORKSPACE", tt.workspace)
		if got := inWorkspace(tt.path); got != tt.want {
			t.Errorf("%s in %s: %s, want %s", tt.path, tt.workspace, got, tt.want)
		}
	}
}
