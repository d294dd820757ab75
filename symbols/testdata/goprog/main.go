// A program whose inlined functions the tests compare with what the runtime and DWARF say.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

var sink int

func leaf(x int) int {
	sink += x
	return x * 3
}

func middle(x int) int { return leaf(x) + leaf(sink) }

type box[T any] struct{ v T }

//go:noinline
func (b *box[T]) get(f func(T) int) int { return f(b.v) }

//go:noinline
func outer(x int) int {
	sum := 0
	for i := range x {
		sum += middle(i)
	}
	return sum + callers()
}

// callers is inlined into outer; the stack shows them as two functions.
func callers() int { return where() }

//go:noinline
func where() int {
	pcs := make([]uintptr, 16)
	pcs = pcs[:runtime.Callers(1, pcs)]
	frames := runtime.CallersFrames(pcs)
	for {
		f, more := frames.Next()
		fmt.Printf("%s %s:%d\n", f.Function, f.File, f.Line)
		if !more {
			return len(pcs)
		}
	}
}

func main() {
	b := &box[string]{strings.Repeat("x", len(os.Args))}
	fmt.Fprintln(os.Stderr, outer(3), b.get(func(s string) int { return len(s) + sink }))
}
