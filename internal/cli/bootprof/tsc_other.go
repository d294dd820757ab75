//go:build !amd64

package bootprof

// rdtsc returns 0 on hosts without a TSC.
func rdtsc() uint64 { return 0 }
