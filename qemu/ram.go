package qemu

// highRAM is where the RAM goes on that has no room below the hole for devices, which ends there.
const highRAM = 4 << 30

// lowRAM returns how much of the guest's RAM lies below the hole for devices (QEMU, hw/i386: pc_q35.c, pc_piix.c and, since version 5.1,
// microvm.c).
func (c Config) lowRAM() int64 {
	low := int64(3 << 30)
	switch {
	case c.Machine == Q35 && c.MemoryBytes >= 0xb0000000:
		low = 2 << 30
	case c.Machine == PC && c.MemoryBytes < 0xe0000000:
		low = c.MemoryBytes
	}
	return min(low, c.MemoryBytes)
}

// physicalVersion is the first QEMU that tells plugins physical addresses, and not offsets in RAM.
var physicalVersion = Version{8, 2, 0}

// physical splits a range of the backing file of RAM, of which low bytes lie below the hole, and calls f with its parts' physical addresses.
func physical(low, off, size int64, f func(addr, size int64)) {
	if off < low {
		n := min(size, low-off)
		f(off, n)
		off, size = off+n, size-n
	}
	if size > 0 {
		f(off-low+highRAM, size)
	}
}

// inFile returns the offset of a physical address in the backing file of RAM, and how much of it follows there; 0 if it is no RAM.
func inFile(low, all, addr int64) (off, n int64) {
	switch {
	case addr >= 0 && addr < low:
		return addr, low - addr
	case addr >= highRAM && addr-highRAM < all-low:
		off = addr - highRAM + low
		return off, all - off
	}
	return 0, 0
}
