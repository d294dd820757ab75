package qemu

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/firstlight-boot/firstlight/kernel/abi"
)

// Guests for the tests, each a few instructions of 32-bit code at guestEntry. A part is position-independent.

// say writes text to a port, byte by byte.
func say(port uint16, text string) []byte {
	b := []byte{
		0x66, 0xba, byte(port), byte(port >> 8), // mov dx, port
		0xb9, byte(len(text)), byte(len(text) >> 8), 0, 0, // mov ecx, len
		0xe8, 0, 0, 0, 0, // call next
		0x5e,          // next: pop esi
		0x83, 0xc6, 8, // add esi, text-next
		0xf3, 0x6e, // rep outsb
		0xeb, 0, // jmp over
	}
	// The jump reaches at most 127 bytes, so longer texts jump by 32 bits.
	b = append(b[:len(b)-2], 0xe9)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	b[len(b)-8] = 11 // text-next with the longer jump
	return append(b, text...)
}

// stack points ESP at the end of the first MiB and a half, which say needs.
var stack = []byte{0xbc, 0, 0, 0x18, 0} // mov esp, 0x180000

func exitWith(v byte) []byte {
	return []byte{0x66, 0xba, abi.PortExit & 0xff, abi.PortExit >> 8, 0xb8, v, 0, 0, 0, 0xef, 0xf4}
}

var hang = []byte{0xfa, 0xf4, 0xeb, 0xfd} // cli; hlt; jmp hlt

var spin = []byte{0xeb, 0xfe} // jmp self

// tripleFault loads an empty IDT and raises an interrupt.
var tripleFault = []byte{
	0x6a, 0, 0x6a, 0, // push 0; push 0
	0x0f, 0x01, 0x1c, 0x24, // lidt [esp]
	0xcc, // int3
}

// touch writes a byte to each of the n pages from addr on.
func touch(addr uint32, n uint32) []byte {
	b := binary.LittleEndian.AppendUint32([]byte{0xbf}, addr)                 // mov edi, addr
	b = binary.LittleEndian.AppendUint32(append(b, 0xb9), n)                  // mov ecx, n
	return append(b, 0xc6, 0x07, 0x5a, 0x81, 0xc7, 0, 0x10, 0, 0, 0xe2, 0xf5) // l: mov [edi], 0x5a; add edi, 4096; loop l
}

func guest(parts ...[]byte) []byte {
	return pvhELF(slices.Concat(append([][]byte{stack}, parts...)...))
}

func TestGuestsAreELF(t *testing.T) {
	for name, image := range map[string][]byte{"floor": FloorKernel(), "probe": probeKernel()} {
		f, err := elf.NewFile(bytes.NewReader(image))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if f.Machine != elf.EM_X86_64 || f.Type != elf.ET_EXEC || len(f.Progs) != 2 || f.Entry != guestEntry {
			t.Errorf("%s: header %+v", name, f.FileHeader)
		}
		if !bytes.Equal(image, map[string][]byte{"floor": FloorKernel(), "probe": probeKernel()}[name]) {
			t.Errorf("%s differs between calls", name)
		}
	}
}
