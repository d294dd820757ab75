package symbols

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// The header of a bzImage, Documentation/arch/x86/boot.rst of Linux. All of it lies in the first 4096 bytes.
const (
	bzSetupSects    = 0x1f1
	bzMagic         = 0x202 // HdrS
	bzVersion       = 0x206
	bzPayloadOffset = 0x248 // from the end of the setup code; protocol 2.08 and later
	bzPayloadLength = 0x24c
	bzHeaderSize    = 0x250

	maxKernel = 512 << 20 // bytes of an unpacked kernel
)

func isBzImage(head []byte) bool {
	return len(head) >= bzHeaderSize && string(head[bzMagic:bzMagic+4]) == "HdrS"
}

// unpackBzImage returns the ELF file that a bzImage unpacks at boot.
func unpackBzImage(r io.ReaderAt, size int64, head []byte) ([]byte, error) {
	bad := func(off int64, field, format string, args ...any) ([]byte, error) {
		return nil, &FormatError{"bzImage", off, field, fmt.Errorf(format, args...)}
	}
	le := binary.LittleEndian
	if v := le.Uint16(head[bzVersion:]); v < 0x208 {
		return bad(bzVersion, "boot protocol", "%w: %d.%02d, want 2.08 or later (Linux 2.6.26)", ErrUnsupported, v>>8, v&0xff)
	}
	sects := uint64(head[bzSetupSects])
	if sects == 0 {
		sects = 4
	}
	off := (sects+1)*512 + uint64(le.Uint32(head[bzPayloadOffset:]))
	n := uint64(le.Uint32(head[bzPayloadLength:]))
	if n < 8 {
		return bad(bzPayloadLength, "payload", "%w: no compressed kernel", ErrUnsupported)
	}
	b, err := readRange(r, size, off, n, "bzImage", "payload")
	if err != nil {
		return nil, err
	}
	out, err := unpack(b)
	if err != nil {
		return nil, &FormatError{"bzImage", int64(off), "payload", err}
	}
	return out, nil
}

// unpack decompresses what scripts/Makefile.lib of Linux compresses: all but gzip have the unpacked size appended, 32 bits.
func unpack(b []byte) ([]byte, error) {
	magic := func(s string) bool { return bytes.HasPrefix(b, []byte(s)) }
	le := binary.LittleEndian
	want := uint64(le.Uint32(b[len(b)-4:]))
	var r io.Reader
	switch {
	case magic("\x7fELF"):
		return b, nil
	case magic("\x1f\x8b"):
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("%w: gzip: %w", ErrFormat, err)
		}
		z.Multistream(false)
		r = z
	case magic("\x28\xb5\x2f\xfd"):
		z, err := zstd.NewReader(bytes.NewReader(b[:len(b)-4]), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1<<27), zstd.WithDecoderMaxMemory(maxKernel))
		if err != nil {
			return nil, fmt.Errorf("%w: zstd: %w", ErrFormat, err)
		}
		defer z.Close()
		r = z
	case magic("\x02\x21\x4c\x18"):
		return unpackLZ4(b[4:len(b)-4], want)
	case magic("BZh"):
		r = bzip2.NewReader(bytes.NewReader(b[:len(b)-4]))
	case magic("\xfd7zXZ"):
		return nil, fmt.Errorf("%w: compressed with xz; unpack it with extract-vmlinux of the kernel's sources", ErrUnsupported)
	case magic("\x5d\x00\x00"):
		return nil, fmt.Errorf("%w: compressed with LZMA; unpack it with extract-vmlinux of the kernel's sources", ErrUnsupported)
	case magic("\x89LZO"):
		return nil, fmt.Errorf("%w: compressed with LZO; unpack it with extract-vmlinux of the kernel's sources", ErrUnsupported)
	default:
		return nil, fmt.Errorf("%w: compressed in an unknown way (%x)", ErrUnsupported, b[:8])
	}
	// Grown as it comes: the size in the file is not to be believed.
	var out bytes.Buffer
	if _, err := io.Copy(&out, io.LimitReader(r, maxKernel+1)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if out.Len() > maxKernel {
		return nil, fmt.Errorf("%w: more than %d MiB unpacked", ErrTooLarge, maxKernel>>20)
	}
	if uint64(out.Len()) != want {
		return nil, fmt.Errorf("%w: %d bytes unpacked, want %d", ErrFormat, out.Len(), want)
	}
	return out.Bytes(), nil
}

// unpackLZ4 decompresses LZ4's legacy format without its magic: blocks of 8 MiB, each after its compressed size.
func unpackLZ4(b []byte, want uint64) ([]byte, error) {
	const block = 8 << 20
	if want > maxKernel || want > 256*uint64(len(b)) { // LZ4 compresses no better
		return nil, fmt.Errorf("%w: LZ4: %d bytes of %d", ErrTooLarge, want, len(b))
	}
	out := make([]byte, want)
	n := 0
	for len(b) >= 4 {
		size := binary.LittleEndian.Uint32(b)
		b = b[4:]
		if uint64(size) > uint64(len(b)) {
			return nil, fmt.Errorf("%w: LZ4: a block of %d bytes of %d", ErrFormat, size, len(b))
		}
		m, err := lz4.UncompressBlock(b[:size], out[n:min(len(out), n+block)])
		if err != nil {
			return nil, fmt.Errorf("%w: LZ4: %w", ErrFormat, err)
		}
		n += m
		b = b[size:]
	}
	if n != len(out) {
		return nil, fmt.Errorf("%w: LZ4: %d bytes unpacked, want %d", ErrFormat, n, len(out))
	}
	return out, nil
}
