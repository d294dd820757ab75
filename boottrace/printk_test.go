package boottrace

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const consoleOfLinux = "Probing EDD (edd=off to disable)... ok\r\n" +
	"[    0.000000] Linux version 6.1.0\r\n" +
	"<6>[    0.463732][    T1] calling  init_hw_perf_events+0x0/0x683 @ 1\r\n" +
	"[   12.000001] Run /init as init process\r\n" +
	"hello [    1.000000] no\n[1.5] no\n[    x.000000] no\n[99999999999.000000] no\n" +
	"[    0.5] [  nothing\n[   13.000000]"

func TestMessagesOfLinux(t *testing.T) {
	run := Run{Output: []byte(consoleOfLinux), Marks: []Mark{
		{ID: 7, Name: "initcall init_hw_perf_events", HostNanos: 600e6}, {ID: 7, Name: "run_init_process", HostNanos: 12.2e9},
	}}
	run.SetMessages(func(off int) int64 { return int64(off) * 1e9 })
	want := []Told{
		{"Linux version 6.1.0", 0, 40e9, "", 0},
		{"calling  init_hw_perf_events+0x0/0x683 @ 1", 463732e3, 76e9, "initcall init_hw_perf_events", 600e6},
		{"Run /init as init process", 12000001e3, 146e9, "run_init_process", 12.2e9},
		{"", 13e9, int64(bytes.Index(run.Output, []byte("[   13"))) * 1e9, "", 0},
	}
	got := run.Told()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if zero, ok := GuestZero(got); !ok || zero != 12.2e9-12000001e3 {
		t.Errorf("the guest's clock was zero at %d, %t", zero, ok)
	}
	if zero, ok := GuestZero([]Told{{HostNanos: 5}, {GuestNanos: 7, HostNanos: 20}, {GuestNanos: 9, HostNanos: 19}}); !ok || zero != 10 {
		t.Errorf("without marks: %d, %t", zero, ok)
	}
	if zero, ok := GuestZero(nil); ok {
		t.Errorf("without messages: %d", zero)
	}
}

const consoleOfOSv = "OSv v0.57.0-398-g0e34e4dc\r\neth0: 192.168.122.15\r\n" +
	"\tdisk read (real mode): 58.62ms, (+58.62ms)\r\n\t.init functions: 74.18ms, (+15.56ms)\r\n\tTotal time: 151.70ms, (+8.26ms)\r\n" +
	"Booted up in 151.70 ms\r\n" +
	"\tno: 1ms, (+2.00ms)\n\tno: 1.00ms, (+2.0ms)\n: 1.00ms, (+1.00ms)\n\t: 1.00ms, (+1.00ms)\nBooted up in -1.00 ms\n"

func TestMessagesOfOSv(t *testing.T) {
	run := Run{Output: []byte(consoleOfOSv), Marks: []Mark{{ID: 7, Name: "main", HostNanos: 100e6}, {ID: MarkOSv, HostNanos: 178e6}}}
	run.SetMessages(func(int) int64 { return 1 })
	want := []Told{
		{"disk read (real mode)", 58620e3, 0, "", 0},
		{".init functions", 74180e3, 0, "main", 100e6},
		{"Total time", 151700e3, 0, "booted", 178e6},
		{"Total time", 151700e3, 0, "booted", 178e6},
	}
	if diff := cmp.Diff(want, run.Told()); diff != "" {
		t.Error(diff)
	}
}

func FuzzMessages(f *testing.F) {
	for _, seed := range []string{consoleOfLinux, consoleOfOSv} {
		run := Run{Output: []byte(seed)}
		if run.SetMessages(func(int) int64 { return 0 }); len(run.Messages) < 3 {
			f.Fatalf("a seed has %d messages", len(run.Messages))
		}
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, console []byte) {
		run := Run{Kind: Timed, Output: console[:min(len(console), MaxOutput)]}
		run.SetMessages(func(off int) int64 { return int64(off) + 1 })
		if err := run.checkValid(); err != nil {
			t.Error(err)
		}
		if told := run.Told(); len(told) != len(run.Messages) {
			t.Errorf("%d of %d messages", len(told), len(run.Messages))
		}
	})
}
