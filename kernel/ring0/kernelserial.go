package ring0

import (
	"unsafe"

	"github.com/firstlight-boot/firstlight/kernel/abi"
	"github.com/firstlight-boot/firstlight/kernel/cpu"
)

// The serial port is a 16550: National Semiconductor PC16550D datasheet, section 8.
const (
	serialData        = abi.PortSerial     // with DLAB: low byte of the divisor
	serialInterrupts  = abi.PortSerial + 1 // with DLAB: high byte of the divisor
	serialFIFO        = abi.PortSerial + 2 // read: what interrupts, and whether there are FIFOs
	serialLine        = abi.PortSerial + 3
	serialModem       = abi.PortSerial + 4
	serialLineStatus  = abi.PortSerial + 5
	serialScratch     = abi.PortSerial + 7
	serialDLAB        = 1 << 7
	serial8N1         = 3
	serialClearFIFOs  = 7    // and use them
	serialHasFIFOs    = 0xc0 // in what is read
	serialReadyToSend = 3
	serialEmpty       = 1 << 5
)

// serialBurst is how many bytes the port takes at once when it is empty. 0: there is no port.
var serialBurst int

// kernelSerialInit finds the serial port and makes it send 115,200 baud, 8N1, without interrupts.
func kernelSerialInit() {
	const pattern = 0x5a
	cpu.Out8(serialScratch, pattern)
	if cpu.In8(serialScratch) != pattern {
		return
	}
	cpu.Out8(serialInterrupts, 0)
	cpu.Out8(serialLine, serialDLAB)
	cpu.Out8(serialData, 1)
	cpu.Out8(serialInterrupts, 0)
	cpu.Out8(serialLine, serial8N1)
	cpu.Out8(serialFIFO, serialClearFIFOs)
	cpu.Out8(serialModem, serialReadyToSend)
	serialBurst = 1
	if cpu.In8(serialFIFO)&serialHasFIFOs == serialHasFIFOs {
		serialBurst = 16
	}
}

// kernelConsole writes n bytes at p to the serial port, a burst each time that it is empty. One that never gets empty loses bytes, lest the
// kernel hang.
func kernelConsole(p unsafe.Pointer, n int) {
	if serialBurst == 0 {
		return
	}
	for n > 0 {
		for i := 0; cpu.In8(serialLineStatus)&serialEmpty == 0 && i < 1<<20; i++ {
		}
		piece := min(n, serialBurst)
		cpu.OutString(serialData, (*byte)(p), piece)
		p = unsafe.Add(p, piece)
		n -= piece
	}
}
