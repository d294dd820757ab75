package bootprof

// rdtsc reads the host's TSC. QEMU gives its guests a TSC of the same frequency.
func rdtsc() uint64
