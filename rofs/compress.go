package rofs

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/firstlight-boot/firstlight/rofs/format"
	"github.com/firstlight-boot/firstlight/rofs/lz4pack"
	"github.com/firstlight-boot/firstlight/rofs/zstdpack"
)

// A Codec is a way to compress.
type Codec string

// The codecs of Options.
const (
	None  Codec = "none"
	LZ4   Codec = "lz4"   // fast
	LZ4HC Codec = "lz4hc" // smaller, decodes alike
	Zstd  Codec = "zstd"  // smallest; decoding costs several times as much
)

// levels are the lowest, the highest and the default level of the codecs that have any.
var levels = map[Codec][3]int{LZ4HC: {1, 12, 9}, Zstd: {1, 22, 3}}

// depths are the places that LZ4HC looks at where a longer match may be, by level - 1.
var depths = [...]int{0, 0, 0, 2, 2, 2, 2, 2, 2, 8, 64, 256}

// Codecs lists all codecs. The first is the default.
func Codecs() []Codec { return []Codec{LZ4, LZ4HC, Zstd, None} }

// ParseCodec takes what a user wrote apart, CODEC or CODEC:LEVEL. Level 0 is the codec's default.
func ParseCodec(s string) (Codec, int, error) {
	name, text, given := strings.Cut(s, ":")
	o := Options{Codec: Codec(name)}
	if given {
		n, err := strconv.Atoi(text)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("rofs: level %q of %s: not a number from 1 up", text, name)
		}
		o.Level = n
	}
	level := o.Level
	if err := o.setCodec(); err != nil {
		return "", 0, err
	}
	return o.Codec, level, nil
}

func (o *Options) setCodec() error {
	if o.Codec == "" {
		o.Codec = LZ4
	}
	switch o.Codec {
	case None, LZ4:
		if o.Level != 0 {
			return fmt.Errorf("rofs: codec %q has no levels", o.Codec)
		}
		return nil
	case LZ4HC, Zstd:
		l := levels[o.Codec]
		if o.Level == 0 {
			o.Level = l[2]
		}
		if o.Level < l[0] || o.Level > l[1] {
			return fmt.Errorf("rofs: level %d of %s: possible are %d to %d", o.Level, o.Codec, l[0], l[1])
		}
		return nil
	}
	return fmt.Errorf("rofs: unknown codec %q: possible are none, lz4, lz4hc[:LEVEL] and zstd[:LEVEL]", o.Codec)
}

// compressor compresses one cluster after the other with the same state.
type compressor struct {
	codec Codec
	fast  lz4pack.Fast
	hc    *lz4pack.Optimal
	zstd  *zstd.Encoder     // the fast levels
	small *zstdpack.Encoder // the others
}

func newCompressor(o *Options) (*compressor, error) {
	c := &compressor{codec: o.Codec}
	switch o.Codec {
	case LZ4HC:
		c.hc = &lz4pack.Optimal{Depth: depths[o.Level-1]}
	case Zstd:
		if o.Level >= zstdpack.MinLevel {
			c.small = zstdpack.New(o.Level)
			break
		}
		largest := max(o.ClusterSize, o.ExecClusterSize)
		var err error
		c.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(o.Level)), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(1<<bits.Len(uint(largest-1))), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true), zstd.WithAllLitEntropyCompression(true))
		if err != nil {
			return nil, fmt.Errorf("rofs: zstd: %w", err)
		}
	}
	return c, nil
}

// compress returns in compressed, in buf or a larger one, and how it was; in itself where that is not worth while.
func (c *compressor) compress(in, buf []byte) (out, newBuf []byte, codec uint8) {
	// Decoding costs what it costs whatever it saves: what saves less than 3 % is not compressed.
	room := len(in) - 1 - len(in)>>5
	if c.codec == None || room < 1 {
		return in, buf, format.CodecRaw
	}
	if cap(buf) < len(in) {
		buf = make([]byte, 0, 1<<bits.Len(uint(len(in)-1)))
	}
	if c.zstd != nil {
		buf = c.zstd.EncodeAll(in, buf[:0])
		if len(buf) > room {
			return in, buf, format.CodecRaw
		}
		return buf, buf, format.CodecZstd
	}
	buf = buf[:room]
	n := 0
	codec = format.CodecLZ4
	switch {
	case c.small != nil:
		n, codec = c.small.Compress(buf, in), format.CodecZstd
	case c.hc != nil:
		n = c.hc.Compress(buf, in)
	default:
		n = c.fast.Compress(buf, in)
	}
	if n == 0 {
		return in, buf, format.CodecRaw
	}
	return buf[:n], buf, codec
}
