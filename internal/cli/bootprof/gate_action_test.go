package bootprof

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// action is what these tests read of action.yml and of workflows.
type action struct {
	Inputs map[string]struct {
		Required bool   `yaml:"required"`
		Default  string `yaml:"default"`
	} `yaml:"inputs"`
	Runs struct {
		Steps []step `yaml:"steps"`
	} `yaml:"runs"`
	Jobs map[string]struct {
		Steps []step `yaml:"steps"`
	} `yaml:"jobs"`
}

type step struct {
	Name string            `yaml:"name"`
	Uses string            `yaml:"uses"`
	Run  string            `yaml:"run"`
	With map[string]string `yaml:"with"`
	Env  map[string]string `yaml:"env"`
}

func readAction(t *testing.T, path string) (a action) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &a); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return a
}

const repository = "../../.."

// TestAction runs the steps of action.yml as GitHub's runner does, but for setting up Go and QEMU, which are here.
func TestAction(t *testing.T) {
	needQEMU(t)
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	a := readAction(t, filepath.Join(root, "action.yml"))
	img := tunable(t, 0)
	work, temp := t.TempDir(), t.TempDir()
	budgets := map[string]string{"good.yaml": "instructions: 1G\nimage: 64M\n", "bad.yaml": "# too little\ninstructions: 5\n"}
	for name, text := range budgets {
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	run := func(inputs map[string]string) (code int, out string) {
		for _, s := range a.Runs.Steps {
			if s.Run == "" || s.Name == "Install QEMU" {
				continue
			}
			env := append(os.Environ(), "GITHUB_ACTIONS=true", "GITHUB_ACTION_PATH="+root, "GITHUB_WORKSPACE="+work,
				"RUNNER_TEMP="+temp, "GITHUB_STEP_SUMMARY="+filepath.Join(temp, "summary.md"))
			for k, v := range s.Env {
				for name, input := range a.Inputs {
					value, ok := inputs[name]
					if !ok {
						value = input.Default
					}
					v = strings.ReplaceAll(v, "${{ inputs."+name+" }}", value)
				}
				env = append(env, k+"="+v)
			}
			cmd := exec.Command("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", s.Run)
			cmd.Dir, cmd.Env = work, env
			b, err := cmd.CombinedOutput()
			out += string(b)
			if err != nil {
				return cmd.ProcessState.ExitCode(), fmt.Sprintf("%s: %v\n%s", s.Name, err, out)
			}
		}
		return 0, out
	}
	code, out := run(map[string]string{"image": img, "budget": "good.yaml", "args": "--accel tcg -o base"})
	if code != 0 || strings.Contains(out, "::") {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	code, out = run(map[string]string{"image": img, "budget": "bad.yaml", "baseline": "base", "args": "--accel tcg --junit $(touch${IFS}evil).xml"})
	if code != exitBudget || !strings.Contains(out, "::error file=bad.yaml,line=2,title=Boot budget exceeded%3A instructions::") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if _, err := os.Stat(filepath.Join(work, "evil")); err == nil {
		t.Error("an input was run as code")
	}
	summary, err := os.ReadFile(filepath.Join(temp, "summary.md"))
	if err != nil || strings.Count(string(summary), "### Boot budget of") != 2 {
		t.Errorf("summary: %v\n%s", err, summary)
	}
}

// TestExamplesOfCI checks that the example workflow uses the action as it is, and that the budgets are valid.
func TestExamplesOfCI(t *testing.T) {
	inputs := readAction(t, filepath.Join(repository, "action.yml")).Inputs
	uses := 0
	for name, job := range readAction(t, filepath.Join(repository, "examples", "ci", "boot-budget.yml")).Jobs {
		for _, s := range job.Steps {
			if !strings.HasPrefix(s.Uses, "firstlight-boot/firstlight@") {
				continue
			}
			uses++
			for key := range s.With {
				if _, ok := inputs[key]; !ok {
					t.Errorf("%s: %s: action.yml has no input %s", name, s.Name, key)
				}
			}
			for key, input := range inputs {
				if _, ok := s.With[key]; input.Required && !ok {
					t.Errorf("%s: %s: the input %s is missing", name, s.Name, key)
				}
			}
		}
	}
	budgets, err := filepath.Glob(filepath.Join(repository, "examples", "ci", "*.yaml"))
	if err != nil || len(budgets) < 3 || uses < 2 {
		t.Fatalf("%d budgets, %d uses, %v", len(budgets), uses, err)
	}
	for _, path := range budgets {
		if _, err := readBudget(path); err != nil {
			t.Error(err)
		}
	}
}
