package bootprof

import (
	"bufio"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/firstlight-boot/firstlight/boottrace"
)

// newRecording is the recording of the plan's boots, before they are made. started is when the command began its work.
func (p *plan) newRecording(started time.Time) *boottrace.Recording {
	return &boottrace.Recording{
		Image: p.target.name, ImageID: p.target.id, ImageBytes: p.imageBytes(), Flavour: p.target.flavour, VMM: "QEMU " + p.q.Version.String(),
		Accel: string(p.config.Accel), Machine: string(p.config.Machine), Firmware: string(p.config.Firmware), CPU: hostCPU(),
		MemoryBytes: uint64(p.config.MemoryBytes), TimeNanos: started.UnixNano(),
		PrepareNanos: time.Since(started).Nanoseconds(),
	}
}

// imageBytes is the size of all files that are booted.
func (p *plan) imageBytes() uint64 {
	files := slices.Concat([]string{p.config.Kernel, p.config.Initrd}, p.config.Disks)
	slices.Sort(files)
	var n uint64
	for _, path := range slices.Compact(files) {
		if info, err := os.Stat(path); path != "" && err == nil {
			n += uint64(info.Size())
		}
	}
	return n
}

// hostCPU is the model of the host's CPU, on Linux; "" elsewhere.
func hostCPU() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	s := bufio.NewScanner(io.LimitReader(f, 1<<16))
	for s.Scan() {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
