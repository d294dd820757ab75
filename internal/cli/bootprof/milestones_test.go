package bootprof

import (
	"strings"
	"testing"

	"github.com/firstlight-boot/firstlight/boottrace"
)

func TestParseMark(t *testing.T) {
	for _, tt := range []struct {
		s    string
		want customMark
		says string
	}{
		{"a=main", customMark{name: "a", symbol: "main"}, ""},
		{"a=operator==", customMark{name: "a", symbol: "operator=="}, ""},
		{"a=0x1000", customMark{name: "a", addr: 0x1000}, ""},
		{"a=4096", customMark{name: "a", addr: 4096}, ""},
		{"a=port:0xf4=7", customMark{name: "a", port: 0xf4, value: 7, onPort: true}, ""},
		{"a=port:0xf4", customMark{}, "want port:N=VALUE"},
		{"a=port:0xf4=256", customMark{}, "want port:N=VALUE"},
		{"a=port:65536=1", customMark{}, "want port:N=VALUE"},
		{"a=0xzz", customMark{}, "is no address"},
		{"a", customMark{}, "want NAME=SYMBOL"},
		{"=main", customMark{}, "want NAME=SYMBOL"},
		{"a=", customMark{}, "want NAME=SYMBOL"},
		{"a b=main", customMark{}, "has spaces"},
		{strings.Repeat("a", 256) + "=main", customMark{}, "too long"},
	} {
		got, err := parseMark(tt.s)
		if tt.says == "" && (err != nil || got != tt.want) || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%q: %+v, %v", tt.s, got, err)
		}
	}
}

// TestPortMarks listens to ports of a kernel of which nothing is known.
func TestPortMarks(t *testing.T) {
	needQEMU(t)
	kernel := osvKernel(t)
	code, o, stderr := boot(t, "--kernel", kernel, "--until", "mark:seven", "--profile", "exact",
		"--mark", "seven=port:0xf4=7", "--mark", "done=port:0x3f0=123", "--mark", "main=main")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	rec, err := boottrace.Open(o.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	run := rec.Of(boottrace.Counting)[0]
	var entry uint64
	for _, m := range run.Marks {
		if m.Label() == "entry" {
			entry = m.Instructions
		}
	}
	// _start up to its call, the loop and the four instructions after it.
	if want := entry + 3 + 1 + 2*500_000 + 4; run.Instructions != want {
		t.Errorf("%d instructions, want %d; marks %+v", run.Instructions, want, run.Marks)
	}
	if rec.Exact.Instructions() != run.Instructions {
		t.Errorf("%d instructions in the profile", rec.Exact.Instructions())
	}
	timed := rec.Of(boottrace.Timed)[0]
	if timed.Until != "mark:seven" || timed.ReadyNanos == 0 {
		t.Errorf("ready at %d (%s)", timed.ReadyNanos, timed.Until)
	}

	img := asmImage(t, "counts")
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{img, "--mark", "a=port:0x3f0=1"}, "writes its own marks to"},
		{[]string{img, "--mark", "a=port:0x3f8=1"}, "belongs to the serial port"},
		{[]string{img, "--mark", "a=port:0x503=1"}, "belongs to the exit port"},
		{[]string{"--kernel", kernel, "--mark", "a=do_main_treahd"}, "do_main_thread"},
		{[]string{img, "--smp", "0"}, "want 1 to"},
	} {
		if code, _, stderr := boot(t, tt.args...); code != exitUsage || !strings.Contains(stderr, tt.says) {
			t.Errorf("%v: exit code %d, want %q\n%s", tt.args, code, tt.says, stderr)
		}
	}
}

func TestCompleteMark(t *testing.T) {
	kernel := osvKernel(t)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--kernel", kernel, "--mark", "x=pre"}, "x=premain\n:4\n"},
		{[]string{"--kernel", kernel, "--mark", "x=do_m"}, "x=do_main_thread\n:4\n"},
		{[]string{"--kernel", kernel, "--mark", "x"}, ":6\n"},
		{[]string{"--kernel", kernel + ".not", "--mark", "x=pre"}, ":6\n"},
		{[]string{"--flavour", ""}, "native\nlinux\nosv\nother\n:4\n"},
		{[]string{"--machine", ""}, "microvm\nq35\npc\n:4\n"},
	} {
		code, stdout, stderr := bootprof(t, append([]string{"__complete", "qemu"}, tt.args...)...)
		if code != 0 || stdout != tt.want {
			t.Errorf("%v: exit code %d, %q, want %q\n%s", tt.args, code, stdout, tt.want, stderr)
		}
	}
}
