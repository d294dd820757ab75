package ramfsmod

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/firstlight-boot/firstlight/fsmod"
)

// Names of the codecs: what every Linux for PCs is built with.
const (
	gzipCodec = "gzip"
	zstdCodec = "zstd"
	lz4Codec  = "lz4"
)

// What compressed archives begin with.
const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
	lz4Magic  = "\x02\x21\x4c\x18" // of a legacy frame, the only kind that Linux takes
)

// zstdWindow bounds how far back a frame may refer, in bytes: what decompress_unzstd.c of Linux takes.
const zstdWindow = 128 << 20

// maxUnpacked bounds a compressed archive in bytes once it is unpacked, which whoever boots it does in memory.
const maxUnpacked = 2 << 30

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// compressor compresses at a level of the codec's own program: gzip and lz4 have 1 to 9, zstd 1 to 22; 0 is a good one.
func compressor(w io.Writer, codec string, level int) (io.WriteCloser, error) {
	if most := map[string]int{gzipCodec: 9, lz4Codec: 9, zstdCodec: 22}[codec]; level < 0 || level > most {
		return nil, fmt.Errorf("level %d of %q: %w by ramfs; the most is %d", level, codec, fsmod.ErrUnsupported, most)
	}
	switch codec {
	case "":
		return nopCloser{w}, nil
	case gzipCodec:
		if level == 0 {
			level = gzip.BestCompression
		}
		return gzip.NewWriterLevel(w, level)
	case zstdCodec:
		// One encoder, so that the bytes do not depend on the number of processors.
		speed := zstd.SpeedBetterCompression
		if level != 0 {
			speed = zstd.EncoderLevelFromZstd(level)
		}
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(speed), zstd.WithWindowSize(8<<20))
	case lz4Codec:
		if level == 0 {
			level = 9
		}
		return &lz4Writer{w: w, level: lz4Levels[level-1]}, nil
	}
	return nil, fmt.Errorf("compression %q: %w by ramfs", codec, fsmod.ErrUnsupported)
}

var lz4Levels = [...]lz4.CompressionLevel{lz4.Level1, lz4.Level2, lz4.Level3, lz4.Level4, lz4.Level5, lz4.Level6, lz4.Level7, lz4.Level8, lz4.Level9}

// lz4Block is how many bytes a block of a legacy frame holds, the last excepted (lz4_Frame_format.md, section "Legacy frame").
const lz4Block = 8 << 20

// lz4Writer writes a legacy frame. The writer of the lz4 package ends each with a mark that is not in the format.
type lz4Writer struct {
	w       io.Writer
	buf     []byte
	packed  []byte
	started bool
	level   lz4.CompressionLevel
	c       lz4.CompressorHC
}

func (l *lz4Writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		m := min(len(p), lz4Block-len(l.buf))
		l.buf = append(l.buf, p[:m]...)
		if p = p[m:]; len(l.buf) == lz4Block {
			if err := l.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (l *lz4Writer) flush() error {
	if !l.started {
		l.started = true
		if _, err := io.WriteString(l.w, lz4Magic); err != nil {
			return err
		}
		l.packed = make([]byte, 4+lz4.CompressBlockBound(lz4Block))
		l.c.Level = l.level
	}
	n, err := l.c.CompressBlock(l.buf, l.packed[4:])
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("lz4: a block of %d bytes was not compressed", len(l.buf))
	}
	binary.LittleEndian.PutUint32(l.packed, uint32(n))
	l.buf = l.buf[:0]
	_, err = l.w.Write(l.packed[:4+n])
	return err
}

func (l *lz4Writer) Close() error {
	if len(l.buf) == 0 {
		return nil
	}
	return l.flush()
}

// decompressor returns what reads a compressed archive that begins with head; nil if it is not compressed.
func decompressor(head []byte, r io.Reader) (io.ReadCloser, error) {
	switch {
	case bytes.HasPrefix(head, []byte(gzipMagic)):
		return gzip.NewReader(r)
	case bytes.HasPrefix(head, []byte(zstdMagic)):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(head, []byte(lz4Magic)):
		return &lz4Reader{r: r}, nil
	}
	return nil, nil
}

// lz4Reader reads legacy frames. Memory is bounded: blocks are.
type lz4Reader struct {
	r      io.Reader
	packed []byte
	block  []byte
	rest   []byte // of block
}

func (l *lz4Reader) Close() error { return nil }

func (l *lz4Reader) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		var size [4]byte
		if _, err := io.ReadFull(l.r, size[:]); err != nil {
			return 0, err // EOF between blocks is the end
		}
		if string(size[:]) == lz4Magic {
			continue // a frame begins
		}
		n := binary.LittleEndian.Uint32(size[:])
		if n == 0 || n > uint32(lz4.CompressBlockBound(lz4Block)) {
			return 0, fmt.Errorf("%w: lz4: a block of %d bytes", fsmod.ErrDamaged, n)
		}
		if l.block == nil {
			l.block = make([]byte, lz4Block)
			l.packed = make([]byte, lz4.CompressBlockBound(lz4Block))
		}
		if _, err := io.ReadFull(l.r, l.packed[:n]); err != nil {
			return 0, io.ErrUnexpectedEOF
		}
		m, err := lz4.UncompressBlock(l.packed[:n], l.block)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", fsmod.ErrDamaged, err)
		}
		l.rest = l.block[:m]
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}
