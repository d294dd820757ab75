package bootprof

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestDoctorLinux shows it hosts of several kinds.
func TestDoctorLinux(t *testing.T) {
	const (
		meminfo = "proc/meminfo"
		shmem   = "sys/kernel/mm/transparent_hugepage/shmem_enabled"
		source  = "sys/devices/system/clocksource/clocksource0/current_clocksource"
		cpuinfo = "proc/cpuinfo"
	)
	good := map[string]string{
		meminfo: "MemTotal:       24000000 kB\nMemAvailable:   23000000 kB\n", shmem: "always within_size advise [never] deny force\n",
		source: "tsc\n", cpuinfo: "processor\t: 0\nflags\t\t: fpu tsc constant_tsc nonstop_tsc\n",
	}
	for _, tt := range []struct {
		file, text   string // in place of the good one; no text: it is not there
		name, status string
		says         string
	}{
		{"", "", "memory", statusOK, "22460 MiB"},
		{"", "", "huge pages", statusOK, "never"},
		{"", "", "clock", statusOK, "tsc"},
		{meminfo, "MemAvailable: 1000 kB", "memory", statusWarn, "0 MiB"},
		{meminfo, "MemAvailable: many kB", "memory", statusWarn, "does not tell"},
		{meminfo, "", "memory", statusWarn, "does not tell"},
		{shmem, "always [advise] never", "huge pages", statusOK, "(advise); QEMU is started without"},
		{shmem, "", "huge pages", statusOK, "none for shared memory"},
		{source, "hpet", "clock", statusWarn, `"hpet"`},
		{source, "kvm-clock", "clock", statusOK, "kvm-clock"},
		{source, "", "clock", statusWarn, "not by the TSC"},
		{cpuinfo, "flags : fpu tsc constant_tsc_2", "clock", statusWarn, "constant_tsc, nonstop_tsc"},
		{cpuinfo, "", "clock", statusWarn, "constant_tsc, nonstop_tsc"},
	} {
		root := fstest.MapFS{}
		for name, text := range good {
			if name == tt.file {
				text = tt.text
			}
			if text != "" {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
		}
		for _, f := range examineLinux(root) {
			if f.Name == tt.name && (f.Status != tt.status || !strings.Contains(f.Text, tt.says)) {
				t.Errorf("%s = %q: %+v, want %s and %q", tt.file, tt.text, f, tt.status, tt.says)
			}
		}
	}
}
