package rofs

import (
	"context"
	"crypto/sha256"
	"io"

	"github.com/firstlight-boot/firstlight/rofs/format"
)

// blank makes of the superblock at the start of p what the root digest covers.
func blank(p []byte) {
	clear(p[88:120])
	clear(p[144:256])
}

// rootDigest computes the root digest of the image in r.
func rootDigest(ctx context.Context, r io.ReaderAt, s *format.Superblock) (d [32]byte, err error) {
	root := sha256.New()
	buf := make([]byte, min(format.DigestPiece, s.ImageLen()))
	for _, area := range [][2]uint64{{0, s.DataOff()}, {s.DataOff(), s.ImageLen()}} {
		for at := area[0]; at < area[1]; at += format.DigestPiece {
			if ctx.Err() != nil {
				return d, context.Cause(ctx)
			}
			p := buf[:min(format.DigestPiece, area[1]-at)]
			if n, err := r.ReadAt(p, int64(at)); n < len(p) {
				return d, err
			}
			if at == 0 {
				blank(p)
			}
			sum := sha256.Sum256(p)
			root.Write(sum[:])
		}
	}
	return [32]byte(root.Sum(nil)), nil
}
