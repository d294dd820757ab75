package main

import (
	"fmt"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/mem"
)

// large is an array in BSS that no part of RAM is set aside for.
var large [32 << 20]byte

// bss touches a few pages of it.
func bss() error {
	before := mem.Owners()[abi.OwnBSS]
	if before > 100 {
		return fmt.Errorf("%d pages of BSS are there", before)
	}
	for i := 0; i < len(large); i += 8 << 20 {
		large[i]++
	}
	if n := mem.Owners()[abi.OwnBSS] - before; n < 3 || n > 8 { // the first may lie on the page of another
		return fmt.Errorf("four touches took %d pages", n)
	}
	return nil
}

// ram writes to both ends of each piece of RAM that is free, through the direct map, and reads that back when all are written: no two
// are the same memory.
func ram() error {
	var ends []mem.Frame
	free := uint64(0)
	mem.Fresh(func(start, end mem.Frame) {
		ends = append(ends, start, end-mem.PageSize)
		free += uint64(end-start) / mem.PageSize
	})
	for i, f := range ends {
		copy(f.Bytes(mem.PageSize), fmt.Sprintf("%d %x", i/2, f))
	}
	for i, f := range ends {
		want := fmt.Sprintf("%d %x", i/2, f)
		if got := string(f.Bytes(mem.PageSize)[:len(want)]); got != want {
			return fmt.Errorf("%x holds %q, not %q", f, got, want)
		}
		clear(f.Bytes(mem.PageSize))
	}
	if counted := mem.CountFree(); free > counted || counted > mem.Available()+64 || mem.Available() > counted+64 {
		return fmt.Errorf("%d pages are free by their number, %d when counted, %d never used", mem.Available(), counted, free)
	}
	total := uint64(0)
	for _, n := range mem.Owners() {
		total += n
	}
	fmt.Println("RAM of", total>>8, "MiB in", len(ends)/2, "pieces")
	return nil
}
