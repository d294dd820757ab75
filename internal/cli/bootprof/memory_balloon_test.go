package bootprof

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstlight-boot/firstlight/boottrace"
	"github.com/firstlight-boot/firstlight/internal/needs"
)

// TestBalloon boots a guest with a driver for QEMU's balloon, and one without.
func TestBalloon(t *testing.T) {
	needQEMU(t)
	needs.Tool(t, "cc", "gcc")
	for _, tt := range []struct {
		name, def, note string
		want            map[string]uint64
	}{
		{"driver", "-DTELL", "", map[string]uint64{"actual": 64 << 20, "stat-free-memory": 12345678, "stat-total-memory": 66666666}},
		{"no driver", "-DNONE", "no driver", map[string]uint64{"actual": 64 << 20}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kernel := filepath.Join(t.TempDir(), "balloon.elf")
			if msg, err := exec.Command("cc", "-m32", "-O1", "-Wall", "-ffreestanding", "-fno-pic", "-fno-stack-protector", "-nostdlib", "-static", "-no-pie",
				"-Wl,-T,testdata/guest.ld,--build-id=none", tt.def, "-o", kernel, "testdata/balloon.c").CombinedOutput(); err != nil {
				t.Fatalf("cc: %v\n%s", err, msg)
			}
			code, o, stderr := boot(t, "--kernel", kernel, "--balloon", "-n", "1", "--counting", "1", "--until", "output")
			if code != 0 {
				t.Fatalf("exit code %d\n%s", code, stderr)
			}
			rec, err := boottrace.Open(o.Files[0])
			if err != nil {
				t.Fatal(err)
			}
			for _, run := range rec.Runs {
				if diff := cmp.Diff(tt.want, run.Memory.Balloon); diff != "" {
					t.Errorf("%s (-want +got):\n%s", run.Kind, diff)
				}
			}
			if m := rec.Of(boottrace.Timed)[0]; m.Memory.RSSBytes < m.PSSBytes || m.PSSBytes == 0 || m.Memory.ReadyBytes == 0 {
				t.Errorf("PSS %d, %+v", m.PSSBytes, m.Memory)
			}
			if !strings.Contains(stderr, tt.note) {
				t.Errorf("no note:\n%s", stderr)
			}
		})
	}
}
