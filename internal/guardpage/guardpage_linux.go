// Package guardpage gives tests of assembly memory beside which any access is a fault.
package guardpage

import (
	"syscall"
	"testing"
)

// Alloc returns size bytes, rounded up to whole pages, that are followed and preceded by a page that cannot be accessed. They
// are gone when the test ends.
func Alloc(tb testing.TB, size int) []byte {
	tb.Helper()
	page := syscall.Getpagesize()
	size = (size + page - 1) / page * page
	all, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := syscall.Munmap(all); err != nil {
			tb.Error(err)
		}
	})
	b := all[page : page+size]
	if err := syscall.Mprotect(b, syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
		tb.Fatal(err)
	}
	return b
}
