package dev

import (
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
)

// board is where a machine has its virtio-mmio devices when its command line does not say: count windows, each with an interrupt
// one above the last.
type board struct {
	base, stride uint64
	count        uint32
	firstIRQ     uint32
	down         bool // the first device is in the last window
}

// boards are tried in this order. A machine with PCI (q35, pc) would have an entry of another kind here.
var boards = []board{
	// QEMU's microvm with acpi=off: hw/i386/microvm.c.
	{base: 0xfeb00000, stride: 0x200, count: 8, firstIRQ: 5, down: true},
	// Firecracker: src/vmm/src/arch/x86_64/layout.rs. It names its devices on the command line as well.
	{base: 0xd0000000, stride: 0x1000, count: 8, firstIRQ: 5},
}

// window returns the board's window i, in the order in which the machine fills them.
func (b *board) window(i uint32) boot.MMIO {
	if b.down {
		i = b.count - 1 - i
	}
	return boot.MMIO{Addr: b.base + uint64(i)*b.stride, IRQ: b.firstIRQ + i}
}

// I/O APIC: Intel 82093AA datasheet, section 3.
const (
	ioapic         = layout.DirectMap + 0xfec00000
	ioapicData     = ioapic + 0x10
	ioapicRedirect = 0x10
	irqs           = 24
)

const errNone Error = "no virtio-blk disk: the machine needs one on virtio-mmio (QEMU: -M microvm -device virtio-blk-device)"

// OpenDisk starts the first virtio-blk disk: in one of the given windows, or where the boards have theirs when none is given.
func OpenDisk(windows []boot.MMIO) (Disk, error) { return openDisk(windows, machine) }

// openDisk starts the first disk that the machine has in the windows, or on the boards when none is given. A disk that does not start
// is an error, since the next one is another disk.
func openDisk(windows []boot.MMIO, machine func(boot.MMIO) (port, error)) (Disk, error) {
	var unusable error
	for _, w := range windows {
		p, err := machine(w)
		if err != nil {
			unusable = err
		} else if d, err := probe(w, p); d != nil || err != nil {
			return d, err
		}
	}
	if unusable != nil {
		return nil, unusable
	}
	if len(windows) > 0 {
		return nil, errNone
	}
	for i := range boards {
		for n := range boards[i].count {
			w := boards[i].window(n)
			if p, err := machine(w); err != nil {
				break // the machine has something else there
			} else if d, err := probe(w, p); d != nil || err != nil {
				return d, err
			}
		}
	}
	return nil, errNone
}

// probe starts the disk in a window; nil and no error means that there is none.
func probe(w boot.MMIO, p port) (Disk, error) {
	if p.load(regMagic) != magic || p.load(regDeviceID) != idBlock {
		return nil, nil
	}
	if p.load(regVersion) != 2 {
		return nil, "virtio-mmio at " + Error(hex(w.Addr)) + " is a legacy device: start QEMU with -global virtio-mmio.force-legacy=false"
	}
	page, phys := p.page()
	if page == nil {
		return nil, errMemory
	}
	p.route(w.IRQ)
	d := &block{port: p, addr: w.Addr}
	if err := d.start(page, phys); err != nil {
		p.store(regStatus, 0)
		return nil, err
	}
	return d, nil
}

// mmio is the virtual address of a device's registers.
type mmio uint64

// machine returns the port of a window of the machine that the kernel runs on.
func machine(w boot.MMIO) (port, error) {
	const registers = 0x200
	if w.Addr%4 != 0 || w.Addr%mem.PageSize > mem.PageSize-registers || w.IRQ >= irqs || !mem.MapDevice(w.Addr) {
		return nil, "virtio-mmio at " + Error(hex(w.Addr)) + ": no device can be there: it has to lie between 3 and 4 GiB, " +
			"away from RAM, with an interrupt below 24"
	}
	return mmio(layout.DirectMap + w.Addr), nil
}

func (m mmio) load(off uint64) uint32     { return cpu.Load32(uint64(m) + off) }
func (m mmio) store(off uint64, v uint32) { cpu.Store32(uint64(m)+off, v) }

func (m mmio) wait(notify bool) bool {
	if notify {
		return ring0.Notify(uint64(m)+regNotify, 0)
	}
	return ring0.Await()
}

func (m mmio) page() ([]byte, uint64) {
	f := mem.Alloc(abi.OwnDevice)
	if f == 0 {
		return nil, 0
	}
	return f.Bytes(mem.PageSize), uint64(f)
}

// route has the I/O APIC deliver the interrupt on its edge, so that a device that never lowers it interrupts once; to the first
// processor.
func (m mmio) route(irq uint32) {
	cpu.Store32(ioapic, ioapicRedirect+2*irq+1)
	cpu.Store32(ioapicData, 0)
	cpu.Store32(ioapic, ioapicRedirect+2*irq)
	cpu.Store32(ioapicData, ring0.VectorDevice)
}

// physical returns the physical address of the first n bytes of kernel memory that may be written, which is there afterwards.
func (m mmio) physical(p []byte) (phys uint64, n int) {
	va := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p))))
	if va < layout.HeapBase {
		return va - layout.DirectMap, len(p)
	}
	p[0] = 0 // maps the page
	return mem.Physical(va), min(len(p), mem.PageSize-int(va%mem.PageSize))
}
