// Package dev holds the drivers: virtio-blk over virtio-mmio. Where devices are is the board's business (board.go), what they
// are told is the driver's.
package dev

import (
	"unsafe"

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
	errMemory Error = "no memory for the disk's queue"
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
	regGeneration  = 0x0fc
	regConfig      = 0x100

	magic   = 0x74726976
	idBlock = 2

	statusAcknowledge = 1
	statusDriver      = 2
	statusDriverOK    = 4
	statusFeaturesOK  = 8
	statusNeedsReset  = 0x40
	featureVersion1   = 1      // bit 32, in the second word
	featureSizeMax    = 1 << 1 // of virtio-blk, section 5.2.3
	featureSegMax     = 1 << 2

	interruptConfig = 2

	// Of virtio-blk's configuration, section 5.2.4.
	configCapacity = 0
	configSizeMax  = 8
	configSegMax   = 12
)

// The virtqueue lies in one page: descriptors, available ring, used ring (section 2.7), then the request's header and status. The
// device may want it shorter.
const (
	queueSize  = 64
	leastQueue = 4 // a power of two: a header, a piece of memory and the status
	availOff   = 16 * queueSize
	usedOff    = 2048
	headerOff  = 3072
	statusOff  = headerOff + 16
	sectorOff  = 3584 // a buffer for pieces of sectors
	descNext   = 1
	descWrite  = 2
	sector     = 512
	maxPiece   = 1 << 30 // bytes: a descriptor has 32 bits for them
	maxSectors = 1 << 53
	typeRead   = 0
	statusOK   = 0
	statusNone = 0xff // what no device writes
	noInterval = ^uint64(0)

	// An interrupt need not mean that a request is done, but so many in a row mean that none ever will be.
	maxInterrupts = 1 << 12
)

// port is how the driver reaches its device. The one of the machine is mmio, in board.go; tests have others.
type port interface {
	load(off uint64) uint32
	store(off uint64, v uint32)
	wait(notify bool) bool                  // rings the doorbell if told to, waits for an interrupt, and reports whether one came in time
	route(irq uint32)                       // the interrupt of that number
	physical(p []byte) (phys uint64, n int) // where the device sees the first n bytes of p, which may be written
	page() ([]byte, uint64)                 // a page of zeros, and where the device sees it; nil: there is none
}

// block is a virtio-blk device. One request is on its way at a time.
type block struct {
	port
	addr    uint64 // of the registers, for messages
	queue   []byte // a page
	phys    uint64 // where the device sees it
	avail   uint16 // index of the next available entry
	entries uint16 // of the queue, a power of two
	pieces  int    // how many pieces of memory a request may have
	piece   int    // how many bytes each of them may have, a multiple of a sector
	sectors uint64
	broken  error // why the device was given up
}

func (d *block) store64(off uint64, v uint64) { d.store(off, uint32(v)); d.store(off+4, uint32(v>>32)) }

func (d *block) word(off int) *uint64 { return (*uint64)(unsafe.Pointer(&d.queue[off])) }

func (d *block) half(off int) *uint16 { return (*uint16)(unsafe.Pointer(&d.queue[off])) }

// failure is an error of this device.
func (d *block) failure(what string) Error {
	return "virtio-mmio at " + Error(hex(d.addr)) + ": " + Error(what)
}

// start brings the device up, with a page for its queue that it sees at phys: section 3.1.1.
func (d *block) start(page []byte, phys uint64) error {
	d.queue, d.phys = page, phys
	d.store(regStatus, 0)
	d.store(regStatus, statusAcknowledge|statusDriver)
	d.store(regFeaturesSel, 1)
	if d.load(regFeatures)&featureVersion1 == 0 {
		return d.failure("it offers no version 1 of virtio")
	}
	d.store(regFeaturesSel, 0)
	limits := d.load(regFeatures) & (featureSizeMax | featureSegMax)
	d.store(regDriverSel, 0)
	d.store(regDriver, limits)
	d.store(regDriverSel, 1)
	d.store(regDriver, featureVersion1)
	const features = statusAcknowledge | statusDriver | statusFeaturesOK
	d.store(regStatus, features)
	if d.load(regStatus)&statusFeaturesOK == 0 {
		return d.failure("it refuses the driver's features")
	}
	d.store(regQueueSel, 0)
	longest := d.load(regQueueMax)
	if d.load(regQueueReady) != 0 || longest < leastQueue {
		return d.failure("its queue is too short")
	}
	for d.entries = queueSize; uint32(d.entries) > longest; {
		d.entries /= 2
	}
	d.store(regQueueNum, uint32(d.entries))
	d.store64(regQueueDesc, phys)
	d.store64(regQueueDriver, phys+availOff)
	d.store64(regQueueDevice, phys+usedOff)
	d.store(regQueueReady, 1)
	d.store(regStatus, features|statusDriverOK)
	d.pieces, d.piece = 1, maxPiece // what a device takes that does not say
	for range 10 {
		generation := d.load(regGeneration)
		d.sectors = uint64(d.load(regConfig+configCapacity)) | uint64(d.load(regConfig+configCapacity+4))<<32
		if limits&featureSegMax != 0 {
			d.pieces = int(min(max(d.load(regConfig+configSegMax), 1), uint32(d.entries)-2))
		}
		if limits&featureSizeMax != 0 {
			d.piece = int(min(d.load(regConfig+configSizeMax), maxPiece) &^ (sector - 1))
		}
		if generation == d.load(regGeneration) && d.sectors <= maxSectors {
			if d.piece == 0 {
				return d.failure("it takes no whole sector in one piece of memory")
			}
			return nil
		}
	}
	return d.failure("its size makes no sense")
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
	if off%sector != 0 || len(p) < sector {
		return d.readPart(p, off)
	}
	// Physically contiguous pieces of p, one descriptor each.
	p = p[:len(p)&^(sector-1)]
	total, pieces := 0, 0
	start, length := noInterval, 0
	for total < len(p) {
		phys, n := d.physical(p[total:])
		n = min(n, d.piece)
		if start+uint64(length) != phys || start == noInterval || length > d.piece-n {
			if pieces == d.pieces {
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
	if total < sector { // all that one piece has before its page ends
		return d.readPart(p, off)
	}
	d.describe(pieces, start, length)
	// Pieces end where pages do, so a request that could not take all of p may end within a sector.
	if rest := total % sector; rest != 0 {
		d.describe(pieces, start, length-rest)
		total -= rest
	}
	return total, d.request(pieces, off/sector, total)
}

// readPart reads what p takes of the sector that off is in.
func (d *block) readPart(p []byte, off uint64) (int, error) {
	d.describe(1, d.phys+sectorOff, sector)
	if err := d.request(1, off/sector, sector); err != nil {
		return 0, err
	}
	return copy(p, d.queue[sectorOff+off%sector:sectorOff+sector]), nil
}

// describe fills descriptor i, of memory that the device writes.
func (d *block) describe(i int, phys uint64, n int) {
	*d.word(16 * i) = phys
	*d.word(16*i + 8) = uint64(uint32(n)) | (descNext|descWrite)<<32 | uint64(i+1)<<48
}

// request reads n bytes from a sector on into descriptors 1 to pieces and waits for it.
func (d *block) request(pieces int, at uint64, n int) error {
	if d.broken != nil {
		return d.broken
	}
	*d.word(0) = d.phys + headerOff
	*d.word(8) = 16 | descNext<<32 | 1<<48
	*d.word(headerOff) = typeRead
	*d.word(headerOff + 8) = at
	d.queue[statusOff] = statusNone
	*d.word(16 * (pieces + 1)) = d.phys + statusOff
	*d.word(16*(pieces+1) + 8) = 1 | descWrite<<32
	*d.half(availOff + 4 + 2*int(d.avail%d.entries)) = 0
	used := usedOff + 4 + 8*int(d.avail%d.entries)
	d.avail++
	*d.half(availOff + 2) = d.avail

	if err := d.await(); err != nil {
		d.broken = err
		d.store(regStatus, 0) // lest it write to memory later
		return err
	}
	ring0.AddDiskRead(n)
	// How much it wrote has the byte of status in it, which some devices forget to count.
	e := *d.word(used)
	if id, length := uint32(e), e>>32; id != 0 || length > uint64(n)+1 {
		d.broken = d.failure("it says that it is done with what it was not told to do")
		d.store(regStatus, 0)
		return d.broken
	} else if d.queue[statusOff] != statusOK || length < uint64(n) {
		return d.failure("read error at sector " + hex(at))
	}
	return nil
}

// await waits until the device is done with what is available.
func (d *block) await() error {
	notify := true
	for range maxInterrupts {
		if !d.wait(notify) && *d.half(usedOff + 2) != d.avail { // else only its interrupt was lost
			return d.failure("the disk does not answer")
		}
		notify = false
		why := d.load(regIRQStatus)
		d.store(regIRQAck, why)
		switch *d.half(usedOff + 2) {
		case d.avail:
			return nil
		case d.avail - 1:
		default:
			return d.failure("it says that it is done with what it was not told to do")
		}
		if why&interruptConfig != 0 && d.load(regStatus)&statusNeedsReset != 0 {
			return d.failure("the disk has failed and wants a reset")
		}
	}
	return d.failure("it interrupts without an end")
}

// hex returns v as 0x….
func hex(v uint64) string {
	var b [18]byte
	i := len(b)
	for {
		i--
		b[i] = "0123456789abcdef"[v&15]
		if v >>= 4; v == 0 {
			return "0x" + string(b[i:])
		}
	}
}
