package hyperkit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Offsets in a bzImage's setup header: Linux, Documentation/arch/x86/boot.rst, section "The Real-Mode Kernel Header".
const (
	hdrSetupSects = 0x1f1
	hdrSysSize    = 0x1f4 // in units of 16 bytes
	hdrBootFlag   = 0x1fe
	hdrMagic      = 0x202
	hdrVersion    = 0x206
	hdrLoadFlags  = 0x211
	hdrInitrdMax  = 0x22c
	hdrAlignment  = 0x230
	hdrReloc      = 0x234
	hdrCmdlineMax = 0x238
	hdrPreferred  = 0x258
	hdrInitSize   = 0x260
	hdrEnd        = 0x268
)

const (
	lowest     = 0x100000 // where kernels may lie from
	lineAt     = 0x4000   // where the command line is put, which must end before the kernel
	maxLowMem  = 3 << 30  // RAM above lies beyond 4 GiB, where no kernel is loaded
	pageSize   = 4096
	minVersion = 0x20a
)

// CheckKernel makes the checks on the bzImage in the size bytes of r, and on an initial RAM disk of initrdBytes bytes (-1:
// there is none), that hyperkit makes before it starts (src/lib/firmware/kexec.c); hyperkit answers with a word and abort().
// It also refuses a RAM disk that would overwrite the kernel, which hyperkit does not notice. The error wraps ErrKernel or is
// r's.
func (c Config) CheckKernel(r io.ReaderAt, size, initrdBytes int64) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrKernel}, args...)...)
	}
	h := make([]byte, hdrEnd)
	if _, err := r.ReadAt(h, 0); errors.Is(err, io.EOF) {
		return bad("%d bytes are too few for a bzImage", size)
	} else if err != nil {
		return err
	}
	le := binary.LittleEndian
	if string(h[:4]) == "\x7fELF" {
		return bad("it is an ELF file, and hyperkit takes bzImages only; of an image's kernel, bootprof kernel makes one")
	}
	switch version := le.Uint16(h[hdrVersion:]); {
	case le.Uint16(h[hdrBootFlag:]) != 0xaa55 || string(h[hdrMagic:][:4]) != "HdrS" || h[hdrSetupSects] == 0:
		return bad("it is no bzImage")
	case version < minVersion:
		return bad("its boot protocol is %d.%02d, %d.%02d is needed", version>>8, version&0xff, minVersion>>8, minVersion&0xff)
	case h[hdrLoadFlags]&1 == 0:
		return bad("it is a zImage, which is loaded below 1 MiB")
	}
	memory := uint64(c.MemoryBytes)
	if memory == 0 {
		memory = DefaultMemory
	}
	memory = min(memory, maxLowMem)
	offset := (uint64(h[hdrSetupSects]) + 1) * 512
	if uint64(size) < offset+uint64(le.Uint32(h[hdrSysSize:]))*16 {
		return bad("it is truncated")
	}
	span := alignUp(uint64(le.Uint32(h[hdrInitSize:])), pageSize)
	start := le.Uint64(h[hdrPreferred:])
	if h[hdrReloc] != 0 {
		align := uint64(le.Uint32(h[hdrAlignment:]))
		if align == 0 || align&(align-1) != 0 {
			return bad("its alignment is %#x", align)
		}
		start = alignUp(lowest, align)
	}
	switch {
	case start < lowest:
		return bad("it wants to lie at %#x, below 1 MiB", start)
	case uint64(size)-offset > span:
		return bad("its %d bytes are more than the %d that it says it needs", uint64(size)-offset, span)
	case start > memory || span > memory-start:
		return bad("it needs %d MiB of memory, the machine has %d", (min(start, maxLowMem)+span+1<<20-1)>>20, memory>>20)
	}
	line := uint64(max(1, len(c.CommandLine)))
	if most := min(uint64(le.Uint32(h[hdrCmdlineMax:])), start-lineAt); line+1 > most {
		return bad("a command line of %d bytes, it takes %d", line, max(most, 1)-1)
	}
	if initrdBytes < 0 {
		return nil
	}
	top := min(uint64(le.Uint32(h[hdrInitrdMax:])), memory-1)
	switch need := uint64(initrdBytes); {
	case need == 0:
		return bad("the initial RAM disk is empty")
	case need > top || (top-need)&^(pageSize-1) < start+span:
		return bad("an initial RAM disk of %d bytes does not fit in %d MiB of memory beside the kernel", need, memory>>20)
	}
	return nil
}

func alignUp(n, align uint64) uint64 { return (n + align - 1) &^ (align - 1) }
