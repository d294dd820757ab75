package dev

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/boot"
)

var le = binary.LittleEndian

// fake is a virtio-blk device in the driver's terms: registers, and memory of its own in which nothing is contiguous beyond a page.
type fake struct {
	magic, version, id uint32
	features           [2]uint32
	queueMax, segMax   uint32
	sizeMax, entries   uint32
	sectors            uint64
	status, selected   uint32
	driver             [2]uint32
	generation         uint32
	moves              bool // the generation is never the same twice
	queue              [3]uint64
	ready              uint32
	irqStatus          uint32
	irq                uint32
	memory             []byte // pages; the device sees them in reverse order
	disk               []byte
	used               uint16
	requests, resets   int
	segments           int // of the last request

	// misbehave, if there is one, serves a request, or an interrupt that the driver waits for, instead of serve.
	misbehave func(f *fake, notify bool) bool
}

const fakeBase, fakePages = 0x40000000, 64

func newFake() *fake {
	f := &fake{magic: magic, version: 2, id: idBlock, features: [2]uint32{featureSegMax, featureVersion1}, queueMax: 256, segMax: 254}
	room := make([]byte, (fakePages+1)*4096)
	skip := -uintptr(unsafe.Pointer(&room[0])) & 4095
	f.memory = room[skip : skip+fakePages*4096]
	f.disk = make([]byte, 40*4096)
	for i := range f.disk {
		f.disk[i] = byte(i ^ i>>8 ^ i>>16)
	}
	f.sectors = uint64(len(f.disk) / sector)
	return f
}

func (f *fake) load(off uint64) uint32 {
	switch off {
	case regMagic:
		return f.magic
	case regVersion:
		return f.version
	case regDeviceID:
		return f.id
	case regFeatures:
		return f.features[f.selected&1]
	case regQueueMax:
		return f.queueMax
	case regQueueReady:
		return f.ready
	case regIRQStatus:
		return f.irqStatus
	case regStatus:
		return f.status
	case regGeneration:
		if f.moves {
			f.generation++
		}
		return f.generation
	case regConfig + configCapacity:
		return uint32(f.sectors)
	case regConfig + configCapacity + 4:
		return uint32(f.sectors >> 32)
	case regConfig + configSizeMax:
		return f.sizeMax
	case regConfig + configSegMax:
		return f.segMax
	}
	return ^uint32(0)
}

func (f *fake) store(off uint64, v uint32) {
	put := func(i int, high bool) {
		if high {
			f.queue[i] |= uint64(v) << 32
		} else {
			f.queue[i] = uint64(v)
		}
	}
	switch off {
	case regStatus:
		if v == 0 {
			f.resets++
			f.ready, f.used, f.irqStatus = 0, 0, 0
		}
		if f.driver[1]&featureVersion1 == 0 {
			v &^= statusFeaturesOK
		}
		f.status = v
	case regFeaturesSel, regDriverSel:
		f.selected = v
	case regDriver:
		f.driver[f.selected&1] = v
	case regQueueNum:
		f.entries = v
	case regQueueReady:
		f.ready = v
	case regIRQAck:
		f.irqStatus &^= v
	case regQueueDesc, regQueueDesc + 4:
		put(0, off != regQueueDesc)
	case regQueueDriver, regQueueDriver + 4:
		put(1, off != regQueueDriver)
	case regQueueDevice, regQueueDevice + 4:
		put(2, off != regQueueDevice)
	}
}

func (f *fake) wait(notify bool) bool {
	if f.misbehave != nil {
		return f.misbehave(f, notify)
	}
	f.serve(func() (uint32, uint32, byte) { return 0, 0, statusOK })
	return true
}

func (f *fake) route(irq uint32) { f.irq = irq }

func (f *fake) page() ([]byte, uint64) {
	phys, _ := f.physical(f.memory[:1])
	return f.memory[:4096], phys
}

// physical is linear backwards by pages.
func (f *fake) physical(p []byte) (uint64, int) {
	off := uint64(uintptr(unsafe.Pointer(&p[0])) - uintptr(unsafe.Pointer(&f.memory[0])))
	return fakeBase + (fakePages-1-off/4096)*4096 + off%4096, min(len(p), int(4096-off%4096))
}

// at returns n bytes of memory by its physical address, which lie within a page.
func (f *fake) at(phys, n uint64) []byte {
	page := fakePages - 1 - (phys-fakeBase)/4096
	if phys < fakeBase || page >= fakePages || phys%4096+n > 4096 {
		panic(fmt.Sprintf("the driver gives %d bytes at %#x", n, phys))
	}
	return f.memory[page*4096+phys%4096:][:n]
}

// serve does what is available. answer changes what the used entry says, its id and how much more than it should, and the status.
func (f *fake) serve(answer func() (id, more uint32, status byte)) {
	f.requests++
	entries := uint16(f.entries)
	if f.entries > f.queueMax || entries&(entries-1) != 0 {
		panic(fmt.Sprintf("a queue of %d", f.entries))
	}
	avail := f.at(f.queue[1], 4+2*uint64(entries))
	for ; f.used != le.Uint16(avail[2:]); f.used++ {
		head := le.Uint16(avail[4+2*(f.used%entries):])
		d := func(i uint16) (addr uint64, n uint32, flags, next uint16) {
			if i >= entries {
				panic(fmt.Sprintf("descriptor %d of %d", i, entries))
			}
			b := f.at(f.queue[0]+16*uint64(i), 16)
			return le.Uint64(b), le.Uint32(b[8:]), le.Uint16(b[12:]), le.Uint16(b[14:])
		}
		addr, n, flags, next := d(head)
		h := f.at(addr, uint64(n))
		if n != 16 || flags != descNext || le.Uint32(h) != typeRead {
			panic("header")
		}
		from := le.Uint64(h[8:]) * sector
		written, segments := uint32(0), 0
		for {
			addr, n, flags, next = d(next)
			if flags&descNext == 0 {
				break
			}
			if segments++; f.driver[0]&featureSizeMax != 0 && n > f.sizeMax {
				panic(fmt.Sprintf("a piece of %d bytes", n))
			}
			copy(f.at(addr, uint64(n)), f.disk[from:])
			from += uint64(n)
			written += n
		}
		if flags != descWrite || n != 1 {
			panic("status")
		}
		f.segments = segments
		id, more, status := answer()
		f.at(addr, 1)[0] = status
		u := f.at(f.queue[2]+4+8*uint64(f.used%entries), 8)
		le.PutUint32(u, uint32(head)+id)
		le.PutUint32(u[4:], written+1+more)
	}
	le.PutUint16(f.at(f.queue[2]+2, 2), f.used)
	f.irqStatus |= 1
}

func (f *fake) open(t *testing.T) Disk {
	t.Helper()
	d, err := probe(boot.MMIO{Addr: 0xfeb00e00, IRQ: 12}, f)
	if err != nil || d == nil {
		t.Fatalf("probe: %v, %v", d, err)
	}
	return d
}

// check reads all kinds of ranges and compares them with the disk.
func (f *fake) check(t *testing.T, d Disk) {
	t.Helper()
	buf := f.memory[4096:]
	for _, c := range [][3]int{ // offset on the disk, length, offset in memory
		{0, 512, 0}, {1, 1, 0}, {511, 2, 0}, {0, 40 * 4096, 0}, {100, 70000, 33}, {4096, 4096, 4000}, {40*4096 - 1, 1, 7}, {0, 0, 0}, {512, 65536, 3584},
	} {
		p := buf[c[2]:][:c[1]]
		clear(p)
		if n, err := d.ReadAt(p, int64(c[0])); n != len(p) || err != nil || !bytes.Equal(p, f.disk[c[0]:][:c[1]]) {
			t.Errorf("%d bytes at %d: %d, %v", c[1], c[0], n, err)
		}
	}
	for _, off := range []int64{-1, d.Size(), 1 << 62} {
		if n, err := d.ReadAt(buf[:1], off); n != 0 || err != errRange {
			t.Errorf("a byte at %d: %d, %v", off, n, err)
		}
	}
}

func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(f *fake)
		segments int
	}{
		"QEMU":                 {func(f *fake) {}, 16},
		"one piece, as it may": {func(f *fake) { f.features[0] = 0 }, 1}, // Firecracker
		"two pieces":           {func(f *fake) { f.segMax = 2 }, 2},
		"none, it says":        {func(f *fake) { f.segMax = 0 }, 1},
		"short queue":          {func(f *fake) { f.queueMax = queueSize }, 16},
		"shorter":              {func(f *fake) { f.queueMax = 17 }, 14},
		"the shortest":         {func(f *fake) { f.queueMax = leastQueue }, 2},
		"small pieces":         {func(f *fake) { f.features[0], f.sizeMax = featureSegMax|featureSizeMax, 1300 }, 62},
		"small pieces, few":    {func(f *fake) { f.features[0], f.sizeMax, f.queueMax = featureSegMax|featureSizeMax, sector, 4 }, 2},
		"one small piece":      {func(f *fake) { f.features[0], f.sizeMax = featureSizeMax, 4095 }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			c.change(f)
			d := f.open(t)
			if f.irq != 12 {
				t.Errorf("interrupt %d", f.irq)
			}
			if _, err := d.ReadAt(f.memory[4096:][:65536], 0); err != nil || f.segments > c.segments {
				t.Errorf("%v; the last request has %d pieces", err, f.segments)
			}
			f.check(t, d)
		})
	}
}

func TestNotStarted(t *testing.T) {
	for _, c := range []struct {
		says   string
		change func(f *fake)
	}{
		{" is a legacy device: start QEMU with -global virtio-mmio.force-legacy=false", func(f *fake) { f.version = 1 }},
		{": it offers no version 1 of virtio", func(f *fake) { f.features[1] = 0 }},
		{": its queue is too short", func(f *fake) { f.queueMax = leastQueue - 1 }},
		{": its size makes no sense", func(f *fake) { f.sectors = 1 << 55 }},
		{": its size makes no sense", func(f *fake) { f.moves = true }},
		{": it takes no whole sector in one piece of memory", func(f *fake) { f.features[0], f.sizeMax = featureSizeMax, sector-1 }},
	} {
		f := newFake()
		c.change(f)
		d, err := probe(boot.MMIO{Addr: 0xfeb00e00, IRQ: 12}, f)
		if want := "virtio-mmio at 0xfeb00e00" + c.says; d != nil || err == nil || err.Error() != want {
			t.Errorf("%v, %v; want %q", d, err, want)
		}
	}
	for name, change := range map[string]func(f *fake){
		"nothing": func(f *fake) { f.magic = ^uint32(0) }, "no device": func(f *fake) { f.id, f.version = 0, 1 }, "network": func(f *fake) { f.id = 1 },
	} {
		f := newFake()
		change(f)
		if d, err := probe(boot.MMIO{}, f); d != nil || err != nil {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
}

// TestLostInterrupts has a disk that answers, but whose interrupts do not arrive: the wait for them ends, and the answer is there.
func TestLostInterrupts(t *testing.T) {
	f := newFake()
	d := f.open(t)
	lost := 0
	f.misbehave = func(f *fake, _ bool) bool {
		f.serve(func() (uint32, uint32, byte) { return 0, 0, statusOK })
		lost++
		return false
	}
	got := f.memory[8192:][:3*sector]
	for n := range 3 {
		off := int64(n) * 2 * sector
		if _, err := d.ReadAt(got, off); err != nil || !bytes.Equal(got, f.disk[off:off+int64(len(got))]) {
			t.Errorf("at %d: %v, or wrong bytes", off, err)
		}
	}
	if lost != 3 {
		t.Errorf("%d interrupts were lost, want 3", lost)
	}
}

// Whatever the device does, a read fails with an error that says so. After what only a reset would mend, the disk is given up: the device
// is reset, lest it write to memory later, and no request made of it again.
func TestFailures(t *testing.T) {
	const end = "it says that it is done with what it was not told to do"
	serve := func(id, more uint32, status byte) func(f *fake, notify bool) bool {
		return func(f *fake, _ bool) bool {
			f.serve(func() (uint32, uint32, byte) { return id, more, status })
			return true
		}
	}
	for name, c := range map[string]struct {
		misbehave func(f *fake, notify bool) bool
		says      string
		survives  bool
	}{
		"I/O error":            {serve(0, 0, 1), "read error at sector 0x8", true},
		"not supported":        {serve(0, 0, 2), "read error at sector 0x8", true},
		"no status":            {serve(0, 0, statusNone), "read error at sector 0x8", true},
		"length of the status": {serve(0, ^uint32(4095), statusOK), "read error at sector 0x8", true},
		"too long":             {serve(0, 1, statusOK), end, false},
		"very long":            {serve(0, 1<<31, statusOK), end, false},
		"another entry":        {serve(1, 0, statusOK), end, false},
		"wild entry":           {serve(1<<31, 0, statusOK), end, false},
		"silence":              {func(*fake, bool) bool { return false }, "the disk does not answer", false},
		"index too far": {func(f *fake, _ bool) bool {
			le.PutUint16(f.at(f.queue[2]+2, 2), f.used+2)
			return true
		}, end, false},
		"index back": {func(f *fake, _ bool) bool {
			le.PutUint16(f.at(f.queue[2]+2, 2), f.used-1)
			return true
		}, end, false},
		"wants a reset": {func(f *fake, _ bool) bool {
			f.irqStatus, f.status = interruptConfig, f.status|statusNeedsReset
			return true
		}, "the disk has failed and wants a reset", false},
		"storm": {func(f *fake, _ bool) bool { f.irqStatus = 3; return true }, "it interrupts without an end", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			d := f.open(t)
			f.misbehave = c.misbehave
			resets := f.resets
			p := f.memory[8192:][:4096]
			n, err := d.ReadAt(p, 4096)
			if n != 0 || err == nil || err.Error() != "virtio-mmio at 0xfeb00e00: "+c.says {
				t.Fatalf("%d, %v; want %q", n, err, c.says)
			}
			f.misbehave = nil
			if c.survives {
				f.check(t, d)
				return
			}
			requests := f.requests
			if _, again := d.ReadAt(p, 0); again != err || f.requests != requests || f.resets != resets+1 || f.status != 0 {
				t.Errorf("then %v, %d requests, %d resets, status %#x", again, f.requests-requests, f.resets-resets, f.status)
			}
		})
	}
}

// Interrupts that mean nothing, before and between, and devices that forget to count the status are borne.
func TestBorne(t *testing.T) {
	for name, misbehave := range map[string]func() func(f *fake, notify bool) bool{
		"spurious": func() func(f *fake, notify bool) bool {
			n := 0
			return func(f *fake, notify bool) bool {
				if notify {
					n = 0
				}
				if n++; n < 100 {
					f.irqStatus = uint32(n & 3)
					return true
				}
				f.serve(func() (uint32, uint32, byte) { return 0, 0, statusOK })
				return true
			}
		},
		"status not counted": func() func(f *fake, notify bool) bool {
			return func(f *fake, _ bool) bool {
				f.serve(func() (uint32, uint32, byte) { return 0, ^uint32(0), statusOK })
				return true
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			d := f.open(t)
			f.misbehave = misbehave()
			f.check(t, d)
		})
	}
}

// The index of the ring is one of 16 bits.
func TestWrap(t *testing.T) {
	f := newFake()
	d := f.open(t)
	p := f.memory[8192:][:1]
	for i := range 70000 {
		if _, err := d.ReadAt(p, int64(i)); err != nil || p[0] != f.disk[i] {
			t.Fatalf("request %d: %v", i, err)
		}
	}
}

func TestOpenDisk(t *testing.T) {
	for name, c := range map[string]struct {
		windows []boot.MMIO
		at      map[uint64]func(f *fake) // where there is something
		want    string                   // the address of the disk and its interrupt, or the error
	}{
		"microvm":            {nil, map[uint64]func(f *fake){0xfeb00e00: nil}, "0xfeb00e00 12"},
		"microvm, two disks": {nil, map[uint64]func(f *fake){0xfeb00c00: nil, 0xfeb00e00: nil}, "0xfeb00e00 12"},
		"microvm, behind another": {nil, map[uint64]func(f *fake){
			0xfeb00e00: func(f *fake) { f.id = 5 }, 0xfeb00c00: nil,
		}, "0xfeb00c00 11"},
		"Firecracker":    {nil, map[uint64]func(f *fake){0xd0001000: nil}, "0xd0001000 6"},
		"command line":   {[]boot.MMIO{{Addr: 0xd0000000, IRQ: 5}}, map[uint64]func(f *fake){0xd0000000: nil}, "0xd0000000 5"},
		"only its own":   {[]boot.MMIO{{Addr: 0xd0000000, IRQ: 5}}, map[uint64]func(f *fake){0xfeb00e00: nil}, string(errNone)},
		"one that is no": {[]boot.MMIO{{Addr: 1, IRQ: 1}, {Addr: 0xd0002000, IRQ: 7}}, map[uint64]func(f *fake){0xd0002000: nil}, "0xd0002000 7"},
		"none that is":   {[]boot.MMIO{{Addr: 1, IRQ: 1}}, nil, "unusable"},
		"legacy": {nil, map[uint64]func(f *fake){
			0xfeb00e00: func(f *fake) { f.version = 1 }, 0xfeb00c00: nil,
		}, "virtio-mmio at 0xfeb00e00 is a legacy device: start QEMU with -global virtio-mmio.force-legacy=false"},
		"nothing": {nil, nil, string(errNone)},
	} {
		d, err := openDisk(c.windows, func(w boot.MMIO) (port, error) {
			if w.Addr == 1 {
				return nil, Error("unusable")
			}
			f := newFake()
			if change, ok := c.at[w.Addr]; !ok {
				f.magic = 0
			} else if change != nil {
				change(f)
			}
			return f, nil
		})
		got := ""
		if b, ok := d.(*block); ok {
			got = fmt.Sprintf("%#x %d", b.addr, b.port.(*fake).irq)
		} else if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// FuzzDevice lets a device answer as the input says: no answer makes the driver panic, or read what is not on the disk without an error.
func FuzzDevice(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0, 2, 7, 0, 1, 0xff, 0, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		dev := newFake()
		d := dev.open(t)
		dev.misbehave = func(f *fake, _ bool) bool {
			if len(script) < 4 {
				return false
			}
			s := script[:4]
			script = script[4:]
			if s[0]&1 == 0 {
				f.serve(func() (uint32, uint32, byte) { return uint32(s[1] >> 6), uint32(int8(s[2])), s[3] })
			} else {
				le.PutUint16(f.at(f.queue[2]+2, 2), f.used+uint16(int8(s[1]>>6)))
				f.irqStatus, f.status = uint32(s[2]&3), f.status|uint32(s[3]&statusNeedsReset)
			}
			return true
		}
		for off := range 4 {
			p := dev.memory[8192:][:1024]
			clear(p)
			if n, err := d.ReadAt(p, int64(off)*512); err == nil && !bytes.Equal(p[:n], dev.disk[off*512:][:1024]) {
				t.Errorf("wrong bytes at %d", off*512)
			}
		}
	})
}
