package bootprof

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace/budget"
	"github.com/firstlight-boot/firstlight/internal/cli/imgbuild"
	"github.com/firstlight-boot/firstlight/internal/needs"
)

// tunable builds an image whose boot executes 2 · turns instructions more than with none.
func tunable(t *testing.T, turns int) string {
	t.Helper()
	needs.Tool(t, "cc", "gcc")
	dir := t.TempDir()
	app, img := filepath.Join(dir, "tunable"), filepath.Join(dir, "tunable.img")
	if msg, err := exec.Command("cc", "-static", "-O1", fmt.Sprintf("-DTURNS=%dL", turns), "-o", app, "testdata/apps/tunable.c").CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, msg)
	}
	var out bytes.Buffer
	if code := imgbuild.Main([]string{"--rofs", "-o", img, app}, &out, &out); code != 0 {
		t.Fatalf("imgbuild: exit code %d\n%s", code, out.String())
	}
	return img
}

// gateJSON runs bootprof gate --json under TCG.
func gateJSON(t *testing.T, args ...string) (code int, o gateObject, stderr string) {
	t.Helper()
	needQEMU(t)
	t.Setenv("GITHUB_ACTIONS", "")
	code, stdout, stderr := bootprof(t, append([]string{"gate", "--json", "--accel", "tcg", "--timeout", "10m"}, args...)...)
	if err := json.Unmarshal([]byte(stdout), &o); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout, stderr)
	}
	return code, o, stderr
}

// TestGateSlower boots a kernel's image and one that executes 3 % more: a gate trips by instructions in one run, and names the
// function.
func TestGateSlower(t *testing.T) {
	img := tunable(t, 0)
	base := filepath.Join(t.TempDir(), "base")
	code, o, stderr := gateJSON(t, img, "--budget", budgetFile(t, "instructions: 10M\nsymbols: 90%"), "-o", base)
	if code != 0 || len(o.Files) == 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	count := *o.Limits[0].Measured
	relative := budgetFile(t, "instructions: {total: baseline + 1%, phases: {kernel: baseline + 1%}}\nimage: baseline + 1%\nmemory: baseline + 5%")
	code, o, stderr = gateJSON(t, img, "--budget", relative, "--baseline", base)
	if code != 0 || o.Verdict != budget.Pass || stderr != "" {
		t.Errorf("the same image: exit code %d, %s\n%s", code, o.Verdict, stderr)
	}
	slower := tunable(t, int(math.Round(count*0.03/2)))
	code, o, stderr = gateJSON(t, slower, "--budget", relative, "--baseline", base)
	total := o.Limits[0]
	if code != exitBudget || total.Verdict != budget.Fail || total.Runs != 1 || math.Abs(*total.Measured-1.03) > 0.002 {
		t.Errorf("3 %% more: exit code %d, %+v\n%s", code, total, stderr)
	}
	if len(total.Functions) == 0 || !strings.Contains(total.Functions[0].Name, "work") || o.Limits[1].Verdict != budget.Pass {
		t.Errorf("functions %+v; the kernel's phase %+v", total.Functions, o.Limits[1])
	}
	code, o, stderr = gateJSON(t, slower, "--budget", budgetFile(t, "instructions: baseline + 3.5%"), "--baseline", base)
	if code != 0 || o.Verdict != budget.Pass {
		t.Errorf("with more room: exit code %d, %+v\n%s", code, o, stderr)
	}
}

// TestGateAppFails gates an app that exits with 7.
func TestGateAppFails(t *testing.T) {
	img := appImage(t)
	junit := filepath.Join(t.TempDir(), "gate.xml")
	code, o, stderr := gateJSON(t, img, "--github", "--junit", junit, "--budget", budgetFile(t, "total: 30s\ninstructions: 1G"), "--", "exit", "7")
	if code != exitFailed || !strings.Contains(stderr, "bootprof: the app exited with 7") || len(o.Limits) != 2 || o.Verdict != bootFailed {
		t.Errorf("exit code %d, %s\n%s", code, o.Verdict, stderr)
	}
	if b, err := os.ReadFile(junit); err != nil || !strings.Contains(string(b), `<failure message="the app exited with 7">`) || !strings.Contains(stderr, "title=The boot failed::the app exited with 7") {
		t.Errorf("%v\n%s\n%s", err, b, stderr)
	}
}

// TestGateBootFails gates an app that never gets anywhere.
func TestGateBootFails(t *testing.T) {
	needQEMU(t)
	t.Setenv("GITHUB_ACTIONS", "true")
	img := appImage(t)
	junit := filepath.Join(t.TempDir(), "gate.xml")
	code, stdout, stderr := bootprof(t, "gate", img, "--accel", "tcg", "--timeout", "3s", "--junit", junit, "--budget", budgetFile(t, "total: 1s"), "--", "spin")
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, "::error title=The boot failed::boot 1 of 8: the guest never became ready within 3s") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if b, err := os.ReadFile(junit); err != nil || !strings.Contains(string(b), `errors="1"`) {
		t.Errorf("%v\n%s", err, b)
	}
}

// TestGateImageOnly gates what needs no boot.
func TestGateImageOnly(t *testing.T) {
	img := tunable(t, 0)
	info, err := os.Stat(img)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		limit int64
		code  int
	}{{info.Size(), 0}, {info.Size() - 1, exitBudget}} {
		code, o, stderr := gateJSON(t, img, "--budget", budgetFile(t, fmt.Sprintf("image: %d", tt.limit)))
		if code != tt.code || o.Limits[0].Runs != 0 || *o.Limits[0].Measured != float64(info.Size()) {
			t.Errorf("at most %d: exit code %d, %+v\n%s", tt.limit, code, o.Limits[0], stderr)
		}
	}
}
