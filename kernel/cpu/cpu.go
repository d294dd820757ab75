// Package cpu names the amd64 instructions that Go has no words for. Every function is a few instructions, allocates nothing
// and may be called from kernel context.
package cpu

// Out8 writes a byte to an I/O port.
func Out8(port uint16, v uint8)

// Out32 writes 32 bits to an I/O port.
func Out32(port uint16, v uint32)

// In8 reads a byte from an I/O port.
func In8(port uint16) uint8

// OutString writes n bytes from p to an I/O port, in order.
//
//go:noescape
func OutString(port uint16, p *byte, n int)

// WriteMSR writes a model-specific register.
func WriteMSR(msr uint32, v uint64)

// ReadTSC reads the time-stamp counter.
func ReadTSC() uint64

// CPUID returns the registers of one CPUID leaf.
func CPUID(leaf, sub uint32) (a, b, c, d uint32)

// RandWord returns a word of RDRAND and whether the CPU gave one within ten tries. The CPU must have RDRAND.
func RandWord() (uint64, bool)

// InvalidatePage drops the TLB entry of a virtual address.
func InvalidatePage(va uint64)

// ReadCR3 returns the physical address of the active page table.
func ReadCR3() uint64

// WriteCR3 activates a page table.
func WriteCR3(v uint64)

// ReadCR4 returns control register 4.
func ReadCR4() uint64

// WriteCR4 sets control register 4.
func WriteCR4(v uint64)

// WriteXCR0 says which components of the extended state there are. CR4.OSXSAVE must be set.
func WriteXCR0(v uint64)

// LoadTables loads GDTR and IDTR from their ten-byte pseudo-descriptors and the task register from a selector. There is no LDT
// after it; a reset leaves one of 64 KiB at address 0.
//
//go:noescape
func LoadTables(gdtr, idtr *[10]byte, task uint16)

// Load32 and Store32 access a device register at a virtual address.
func Load32(va uint64) uint32

// Store32 writes a device register at a virtual address.
func Store32(va uint64, v uint32)

// Pause tells the CPU that it is in a loop that waits.
func Pause()

// Reset ends the machine by an empty interrupt table and a trap: a triple fault. It does not return.
func Reset()
