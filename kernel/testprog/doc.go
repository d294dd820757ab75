// Package testprog holds programs that test the kernel from the inside, and the test that boots them: C programs (folder c,
// built with glibc as static and as static PIE, and with musl) and a Go program (gosuite). Each prints "ok NAME" for every
// check that holds.
package testprog
