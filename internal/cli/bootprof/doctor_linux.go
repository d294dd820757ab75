package bootprof

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Least memory, in KiB, that a host should have left for a guest of the default size, its VMM and a counting boot.
const leastKiB = 512 << 10

// examineLinux looks at what the host's kernel says of itself. root is its root folder.
func examineLinux(root fs.FS) []finding {
	read := func(name string) string {
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(data))
	}
	return []finding{memory(read), hugePages(read), clock(read)}
}

func memory(read func(string) string) finding {
	for line := range strings.Lines(read("proc/meminfo")) {
		value, ok := strings.CutPrefix(line, "MemAvailable:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			break
		}
		if text := fmt.Sprintf("%d MiB available", kib>>10); kib < leastKiB {
			return finding{"memory", statusWarn, text + ": a host that swaps measures its swap", "end something, or boot with less --memory"}
		} else {
			return finding{"memory", statusOK, text, ""}
		}
	}
	return finding{"memory", statusWarn, "/proc/meminfo does not tell what is available", ""}
}

// hugePages tells whether the guest's RAM, a memfd, gets huge pages: then QEMU is started such that it does not.
func hugePages(read func(string) string) finding {
	mode := read("sys/kernel/mm/transparent_hugepage/shmem_enabled")
	_, mode, _ = strings.Cut(mode, "[")
	switch mode, _, _ = strings.Cut(mode, "]"); mode {
	case "":
		return finding{"huge pages", statusOK, "the kernel has none for shared memory", ""}
	case "never", "deny":
		return finding{"huge pages", statusOK, fmt.Sprintf("none for shared memory (%s), so touched pages are 4 KiB", mode), ""}
	}
	return finding{"huge pages", statusOK, fmt.Sprintf("for shared memory (%s); QEMU is started without any, so that touched pages are 4 KiB", mode), ""}
}

// clock looks at the TSC, which the phases of a boot are measured by.
func clock(read func(string) string) finding {
	source := read("sys/devices/system/clocksource/clocksource0/current_clocksource")
	flags := ""
	for line := range strings.Lines(read("proc/cpuinfo")) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "flags" {
			flags = " " + strings.TrimSpace(value) + " "
			break
		}
	}
	var lacks []string
	for _, flag := range []string{"constant_tsc", "nonstop_tsc"} {
		if !strings.Contains(flags, " "+flag+" ") {
			lacks = append(lacks, flag)
		}
	}
	switch {
	case len(lacks) > 0:
		return finding{"clock", statusWarn, fmt.Sprintf("the CPU does not promise %s: phases before the guest's first mark may be off", strings.Join(lacks, ", ")), "compare with boots on a newer CPU, or outside a virtual machine"}
	case source != "tsc" && source != "kvm-clock":
		return finding{"clock", statusWarn, fmt.Sprintf("the kernel keeps time by %q, not by the TSC, which it may have found unsteady", source), "see the kernel's messages: dmesg | grep -i tsc"}
	}
	return finding{"clock", statusOK, fmt.Sprintf("%s; the TSC is constant and does not stop", source), ""}
}
