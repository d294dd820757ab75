// Package dev holds the drivers: virtio-blk over virtio-mmio. Where devices are is the board's business (board.go), what they
// are told is the driver's.
package dev

import (
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/boot/layout"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
	"github.com/firstlight-boot/firstlight/kernel/mem"
	"github.com/firstlight-boot/firstlight/kernel/ring0"
)

// Disk is a block device. ReadAt takes any offset and length; p is memory of the kernel.
type Disk interface {
	ReadAt(p []byte, off int64) (int, error)
	Size() int64 // bytes
}

// Error is a device's failure.
type Error string

func (e Error) Error() string { return string(e) }

const (
	errRange  Error = "read beyond the end of the disk"
	errDevice Error = "the disk reported an error"
	errMemory Error = "no memory for the disk's queue"
	errQueue  Error = "the disk's queue is broken"
)

// Registers of virtio-mmio, version 2: Virtual I/O Device (VIRTIO) 1.2, section 4.2.2.
const (
	regMagic       = 0x000
	regVersion     = 0x004
	regDeviceID    = 0x008
	regFeatures    = 0x010
	regFeaturesSel = 0x014
	regDriver      = 0x020
	regDriverSel   = 0x024
	regQueueSel    = 0x030
	regQueueMax    = 0x034
	regQueueNum    = 0x038
	regQueueReady  = 0x044
	regNotify      = 0x050
	regIRQStatus   = 0x060
	regIRQAck      = 0x064
	regStatus      = 0x070
	regQueueDesc   = 0x080
	regQueueDriver = 0x090
	regQueueDevice = 0x0a0
	regConfig      = 0x100

	magic   = 0x74726976
	idBlock = 2

	statusAcknowledge = 1
	statusDriver      = 2
	statusDriverOK    = 4
	statusFeaturesOK  = 8
	featureVersion1   = 1 // bit 32, in the second word
)

// The virtqueue lies in one page: descriptors, available ring, used ring (section 2.7), then the request's header and status.
const (
	queueSize  = 64
	availOff   = 16 * queueSize
	usedOff    = 2048
	headerOff  = 3072
	statusOff  = headerOff + 16
	sectorOff  = 3584 // a buffer for pieces of sectors
	descNext   = 1
	descWrite  = 2
	sector     = 512
	maxPieces  = queueSize - 2
	typeRead   = 0
	statusOK   = 0
	noInterval = ^uint64(0)
)

// block is a virtio-blk device. One request is on its way at a time.
type block struct {
	regs    uint64 // virtual address of the registers
	queue   mem.Frame
	avail   uint16 // index of the next available entry
	sectors uint64
}

func (d *block) reg(off uint64) uint32      { return cpu.Load32(d.regs + off) }
func (d *block) set(off uint64, v uint32)   { cpu.Store32(d.regs+off, v) }
func (d *block) set64(off uint64, v uint64) { d.set(off, uint32(v)); d.set(off+4, uint32(v>>32)) }

func (d *block) word(off int) *uint64 {
	return (*uint64)(unsafe.Pointer(&d.queue.Bytes(mem.PageSize)[off]))
}

// start brings the device up: section 3.1.1.
func (d *block) start() error {
	d.set(regStatus, 0)
	d.set(regStatus, statusAcknowledge|statusDriver)
	d.set(regDriverSel, 0)
	d.set(regDriver, 0)
	d.set(regDriverSel, 1)
	d.set(regDriver, featureVersion1)
	const features = statusAcknowledge | statusDriver | statusFeaturesOK
	d.set(regStatus, features)
	if d.reg(regStatus)&statusFeaturesOK == 0 {
		return errDevice
	}
	d.set(regQueueSel, 0)
	if d.reg(regQueueMax) < queueSize {
		return errQueue
	}
	if d.queue = mem.Alloc(abi.OwnDevice); d.queue == 0 {
		return errMemory
	}
	d.set(regQueueNum, queueSize)
	d.set64(regQueueDesc, uint64(d.queue))
	d.set64(regQueueDriver, uint64(d.queue)+availOff)
	d.set64(regQueueDevice, uint64(d.queue)+usedOff)
	d.set(regQueueReady, 1)
	d.set(regStatus, features|statusDriverOK)
	d.sectors = uint64(d.reg(regConfig)) | uint64(d.reg(regConfig+4))<<32
	return nil
}

// Size returns the disk's size in bytes.
func (d *block) Size() int64 { return int64(d.sectors * sector) }

// ReadAt reads len(p) bytes at off.
func (d *block) ReadAt(p []byte, off int64) (int, error) {
	size := d.Size()
	if off < 0 || off > size || int64(len(p)) > size-off {
		return 0, errRange
	}
	done := 0
	for done < len(p) {
		n, err := d.read(p[done:], uint64(off)+uint64(done))
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// read makes one request and returns how much of p it filled: whole sectors, or a piece of one by way of a buffer.
func (d *block) read(p []byte, off uint64) (int, error) {
	skip := off % sector
	if skip != 0 || len(p) < sector {
		d.describe(1, uint64(d.queue)+sectorOff, sector)
		if err := d.request(1, off/sector, sector); err != nil {
			return 0, err
		}
		return copy(p, d.queue.Bytes(mem.PageSize)[sectorOff+skip:sectorOff+sector]), nil
	}
	// Physically contiguous pieces of p, one descriptor each.
	p = p[:len(p)&^(sector-1)]
	total, pieces := 0, 0
	start, length := noInterval, 0
	for total < len(p) {
		va := uint64(uintptr(unsafe.Pointer(&p[total])))
		n := min(len(p)-total, mem.PageSize-int(va%mem.PageSize))
		phys := physical(&p[total])
		if start+uint64(length) != phys || start == noInterval {
			if pieces == maxPieces {
				break
			}
			if pieces > 0 {
				d.describe(pieces, start, length)
			}
			pieces++
			start, length = phys, 0
		}
		length += n
		total += n
	}
	d.describe(pieces, start, length)
	// Pieces end where pages do, so a request that could not take all of p may end within a sector.
	if rest := total % sector; rest != 0 {
		d.describe(pieces, start, length-rest)
		total -= rest
	}
	return total, d.request(pieces, off/sector, total)
}

// physical returns the physical address of a byte of kernel memory that may be written, which is there afterwards.
func physical(p *byte) uint64 {
	va := uint64(uintptr(unsafe.Pointer(p)))
	if va < layout.HeapBase {
		return va - layout.DirectMap
	}
	*p = 0 // maps the page
	return mem.Physical(va)
}

// describe fills descriptor i, of memory that the device writes.
func (d *block) describe(i int, phys uint64, n int) {
	*d.word(16 * i) = phys
	*d.word(16*i + 8) = uint64(uint32(n)) | (descNext|descWrite)<<32 | uint64(i+1)<<48
}

// request reads n bytes from a sector on into descriptors 1 to pieces and waits for it in HLT.
func (d *block) request(pieces int, at uint64, n int) error {
	q := d.queue.Bytes(mem.PageSize)
	*d.word(0) = uint64(d.queue) + headerOff
	*d.word(8) = 16 | descNext<<32 | 1<<48
	*d.word(headerOff) = typeRead
	*d.word(headerOff + 8) = at
	q[statusOff] = 0xff
	*d.word(16 * (pieces + 1)) = uint64(d.queue) + statusOff
	*d.word(16*(pieces+1) + 8) = 1 | descWrite<<32
	*(*uint16)(unsafe.Pointer(&q[availOff+4+2*int(d.avail%queueSize)])) = 0
	d.avail++
	*(*uint16)(unsafe.Pointer(&q[availOff+2])) = d.avail

	used := (*uint16)(unsafe.Pointer(&q[usedOff+2]))
	ring0.Notify(d.regs+regNotify, 0)
	for {
		const bufferUsed, config = 1, 2
		d.set(regIRQAck, d.reg(regIRQStatus)&(bufferUsed|config))
		if *used == d.avail {
			break
		}
		ring0.Idle(0)
	}
	ring0.AddDiskRead(n)
	if q[statusOff] != statusOK {
		return errDevice
	}
	return nil
}
