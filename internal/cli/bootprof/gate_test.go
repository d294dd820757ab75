package bootprof

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// budgetFile writes a budget file.
func budgetFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "budget.yaml")
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGateRecording(t *testing.T) {
	t.Setenv("GITHUB_ACTIONS", "")
	dir := save(t, recorded(1))
	for _, tt := range []struct {
		budget string
		code   int
		says   string
	}{
		{"total: 250ms\ninstructions: 100M\nmemory: 4M\nsymbols: 50%", 0, ""},
		{"total: 90ms", exitBudget, "total is 105.50 ms, beyond the limit 90ms (12 boots)"},
		{"total: 105ms", 0, "warning: total is undecided"},
		{"total: floor * 2", exitBudget, "total is floor * 3.45 (105.50 ms), beyond the limit floor * 2"},
		{"total: floor * 4\nphases: {kernel: floor + 10ms}", 0, ""},
		{"instructions: 1k", exitBudget, "beyond the limit 1k (one boot)"},
		{"phases: {vmm: 1ms}", exitHost, "the timed boots have no phase vmm"},
	} {
		code, stdout, stderr := bootprof(t, "gate", dir, "--budget", budgetFile(t, tt.budget))
		if code != tt.code || stdout == "" || !strings.Contains(stderr, tt.says) || tt.says == "" && stderr != "" {
			t.Errorf("%q: exit code %d, want %d and %q\n%s%s", tt.budget, code, tt.code, tt.says, stdout, stderr)
		}
	}
	path := budgetFile(t, "total: 105ms")
	if code, _, stderr := bootprof(t, "gate", dir, "--budget", path, "--strict"); code != exitBudget || !strings.Contains(stderr, "undecided") {
		t.Errorf("--strict: exit code %d\n%s", code, stderr)
	}
}

func TestGateBoots(t *testing.T) {
	needQEMU(t)
	t.Setenv("GITHUB_ACTIONS", "")
	kernel := guest(t)
	for _, tt := range []struct {
		budget string
		code   int
		says   string
	}{
		{"instructions: 100M", 0, ""},
		{"instructions: 5", exitBudget, "instructions is "},
		{"total: 20s", 0, ""},
	} {
		code, stdout, stderr := bootprof(t, "gate", "--kernel", kernel, "--accel", "tcg", "--budget", budgetFile(t, tt.budget))
		if code != tt.code || !strings.Contains(stderr, tt.says) || tt.says == "" && stderr != "" {
			t.Errorf("%q: exit code %d, want %d and %q\n%s%s", tt.budget, code, tt.code, tt.says, stdout, stderr)
		}
	}
}
