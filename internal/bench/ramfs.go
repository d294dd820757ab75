package main

import (
	"fmt"
	"strconv"
	"strings"
)

// ramfs prints the figures of RAMFS, which package ramfs's own benchmarks measure.
func (b *bench) ramfs() error {
	out, err := run("go", "test", "-run", "^$", "-bench", "^Benchmark(Append|Free)$", "-benchtime", "5x", "./ramfs")
	if err != nil {
		return err
	}
	got := map[string]float64{} // by unit
	words := strings.Fields(string(out))
	for i, w := range words[:max(len(words)-1, 0)] {
		if v, err := strconv.ParseFloat(w, 64); err == nil {
			got[words[i+1]] = v
		}
	}
	for _, unit := range []string{"last/first", "ms-to-pool", "blocks-left"} {
		if _, ok := got[unit]; !ok {
			return fmt.Errorf("the benchmarks of ./ramfs did not report %s:\n%s", unit, out)
		}
	}
	fmt.Printf("%-15s first ÷ last tenth of 50 MB in appends of 90 bytes %s\n", "ramfs", against(1/got["last/first"], 1.11))
	fmt.Printf("%-15s 1 GB of files back in the pool, ms %s; blocks left %s\n", "", against(got["ms-to-pool"], 10), strconv.FormatFloat(got["blocks-left"], 'f', 0, 64))
	return nil
}
