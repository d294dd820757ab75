package dev

import (
	"github.com/firstlight-boot/firstlight/kernel/boot"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
)

// microvm is QEMU's machine of that name with acpi=off: virtio-mmio windows and their interrupts, hw/i386/microvm.c. It fills
// them from the last down.
var microvm = struct {
	base, stride uint64
	slots        uint64
	firstIRQ     uint32
}{0xfeb00000, 0x200, 8, 5}

// I/O APIC: Intel 82093AA datasheet, section 3.
const (
	ioapic         = layout.DirectMap + 0xfec00000
	ioapicData     = ioapic + 0x10
	ioapicRedirect = 0x10
	irqs           = 24
)

const (
	errNone   Error = "no virtio-blk disk: the machine needs one on virtio-mmio (QEMU: -M microvm -device virtio-blk-device)"
	errLegacy Error = "the virtio-mmio disk is of version 1: start QEMU with -global virtio-mmio.force-legacy=false"
)

// OpenDisk starts the first virtio-blk disk: in one of the given windows, or where the board has its own when none is given.
func OpenDisk(windows []boot.MMIO) (Disk, error) {
	if len(windows) > 0 {
		for _, w := range windows {
			if d, err := probe(w); d != nil || err != nil {
				return d, err
			}
		}
		return nil, errNone
	}
	for i := microvm.slots; i > 0; i-- {
		w := boot.MMIO{Addr: microvm.base + (i-1)*microvm.stride, IRQ: microvm.firstIRQ + uint32(i-1)}
		if d, err := probe(w); d != nil || err != nil {
			return d, err
		}
	}
	return nil, errNone
}

// probe starts the disk in a window; nil and no error means that there is none.
func probe(w boot.MMIO) (Disk, error) {
	const windowStart, windowEnd = 0xfea00000, 0xfec00000 // what the direct map has of the device windows
	if w.Addr < windowStart || w.Addr > windowEnd-0x200 || w.IRQ >= irqs {
		return nil, nil
	}
	d := &block{regs: layout.DirectMap + w.Addr}
	if d.reg(regMagic) != magic || d.reg(regDeviceID) != idBlock {
		return nil, nil
	}
	if d.reg(regVersion) != 2 {
		return nil, errLegacy
	}
	// Edge-triggered, to the first processor.
	cpu.Store32(ioapic, ioapicRedirect+2*w.IRQ+1)
	cpu.Store32(ioapicData, 0)
	cpu.Store32(ioapic, ioapicRedirect+2*w.IRQ)
	cpu.Store32(ioapicData, ring0.VectorDevice)
	if err := d.start(); err != nil {
		return nil, err
	}
	return d, nil
}
